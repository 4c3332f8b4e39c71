"""OpenGAN on MMSegmentation: open-set recognition for every decode head."""

__version__ = '0.1.0'
