"""Panels of images with their score maps, and figures of curves."""

from .panel import draw_panel
from .visualizer import OpenSetVisualizer

__all__ = ['OpenSetVisualizer', 'draw_panel']
