"""Tensors in, tensors out: torch and numpy only, importable without mmcv, mmengine or mmseg."""
