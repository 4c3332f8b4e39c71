"""Where the configs and tools lie that a package brings along."""

from __future__ import annotations

import importlib.util
import os
from pathlib import Path
from typing import TYPE_CHECKING
from unittest.mock import patch

if TYPE_CHECKING:
    from mmengine.config import Config

OURS = 'mmseg_opengan'


def shipped_folder(package: str = OURS) -> Path:
    """The folder with ``configs`` and ``tools``: ``.mim`` in an installed package, else the
    checkout.

    Raises:
        FileNotFoundError: no such package.
    """
    spec = importlib.util.find_spec(package)
    if spec is None or spec.origin is None:
        raise FileNotFoundError(
            f"wanted an installed package with configs, found no package '{package}'"
        )
    folder = Path(spec.origin).parent
    mim = folder / '.mim'
    return mim if mim.is_dir() else folder.parent


def shipped_config(name: str) -> str:
    """The path of the config ``'package::path'``.

    Raises:
        FileNotFoundError: no such package or file.
    """
    package, path = name.split('::', 1)
    file = shipped_folder(package) / 'configs' / path
    if not file.is_file():
        raise FileNotFoundError(f"'{name}': wanted a config file, found nothing at '{file}'")
    return str(file)


def read_config_file(path: str | Path) -> Config:
    """The config of a file; it and its ``_base_`` may be those of a package, ``'package::path'``.

    mmengine knows a fixed list of packages, and finds them by a module that setuptools 81 dropped.

    Raises:
        FileNotFoundError: no such file or package.
    """
    from mmengine.config import Config

    path = str(path)
    if '::' in path:
        path = shipped_config(path)
    if not os.path.isfile(path):
        raise FileNotFoundError(f"config: wanted a file, found nothing at '{path}'")
    with patch.object(Config, '_get_cfg_path', staticmethod(_path_and_scope)):
        return Config.fromfile(path)


def _path_and_scope(base: str, filename: str) -> tuple[str, str | None]:
    """What mmengine's ``Config._get_cfg_path`` returns: the path of a base, and its registry scope.

    Our parts are registered in mmseg's registries, so a base of ours has no scope of its own.
    """
    if '::' not in base:
        return os.path.join(os.path.dirname(filename), base), None
    package = base.split('::', 1)[0]
    return shipped_config(base), None if package == OURS else package
