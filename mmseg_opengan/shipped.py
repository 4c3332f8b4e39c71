"""Where the configs and tools lie that a package brings along."""

import importlib.util
from pathlib import Path

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
