"""Pixel features of the frozen segmentor on disk, and what training draws from them."""
