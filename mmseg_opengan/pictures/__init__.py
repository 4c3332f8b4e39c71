"""Panels of images with their score maps, and figures of curves."""

from .visualizer import OpenSetVisualizer, draw_panel

__all__ = ['OpenSetVisualizer', 'draw_panel']
