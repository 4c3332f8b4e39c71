"""Datasets that say which pixels are closed, which are open and which are void, and their
transforms.
"""
