"""OpenGAN on MMSegmentation: open-set recognition for every decode head."""

from . import mmcv_ops

__version__ = '0.1.0'
__all__ = ['OpenSetInferencer', '__version__']

mmcv_ops.install()


def __getattr__(name):
    """``OpenSetInferencer`` on first use: what it needs takes seconds to import."""
    if name == 'OpenSetInferencer':
        from .inference.inferencer import OpenSetInferencer

        return OpenSetInferencer
    raise AttributeError(f'module {__name__!r} has no attribute {name!r}')
