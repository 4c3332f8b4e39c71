"""``python -m mmseg_opengan`` is the console script ``mmseg-opengan``."""

from .cli import main

main()
