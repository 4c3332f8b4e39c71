"""Tensors in, tensors out: torch and numpy only, importable without mmcv, mmengine or mmseg."""

from .detection import ScoreBins, auroc, average_precision, fpr_at_tpr
from .score_counts import ScoreCounts, summarize
from .scores import energy, entropy, gen, max_logit, msp

__all__ = [
    'ScoreBins',
    'ScoreCounts',
    'auroc',
    'average_precision',
    'energy',
    'entropy',
    'fpr_at_tpr',
    'gen',
    'max_logit',
    'msp',
    'summarize',
]
