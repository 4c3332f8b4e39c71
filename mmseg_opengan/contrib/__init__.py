"""Beside the paper's core: D and G on images, a G that weakens features."""
