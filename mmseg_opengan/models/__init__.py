"""The tap, the two networks and the two-optimizer step: registered shells over ``functional``."""

from .networks import FeatureDiscriminator, FeatureGenerator
from .open_set_segmentor import OpenSetSegmentor
from .opengan import OpenGANSegmentor
from .opengan_head import OpenGANHead
from .scorers.base import SCORERS, FitData, FittedScorer, Scorer
from .tap_adapters import Tap

__all__ = [
    'SCORERS',
    'FeatureDiscriminator',
    'FeatureGenerator',
    'FitData',
    'FittedScorer',
    'OpenGANHead',
    'OpenGANSegmentor',
    'OpenSetSegmentor',
    'Scorer',
    'Tap',
]
