"""A trained or plain model on images, folders and videos."""

from .inferencer import OpenSetInferencer
from .results import OpenSetResult

__all__ = ['OpenSetInferencer', 'OpenSetResult']
