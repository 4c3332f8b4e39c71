"""What runs inside mmengine's loops: optimizers, hooks, the metric, the visualizer."""

from .checkpoints import WholeCheckpointHook
from .opengan_hook import OpenGANHook

__all__ = ['OpenGANHook', 'WholeCheckpointHook']
