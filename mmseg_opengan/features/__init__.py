"""Pixel features of the frozen segmentor on disk, and what training draws from them."""

from .bank import FeatureBank
from .pixel_sampler import PixelSampler
from .sources import OnlineSource, StoreSource
from .stored_taps import StoredTaps

__all__ = ['FeatureBank', 'OnlineSource', 'PixelSampler', 'StoreSource', 'StoredTaps']
