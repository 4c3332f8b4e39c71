"""Panels of images with their score maps, and figures of curves."""
