"""Packages that one way of writing results needs, and nothing else does."""

from importlib.util import find_spec


def require_packages(extra: str, *names: str) -> None:
    """Raise a ModuleNotFoundError where packages of an extra of ``setup.py`` are missing."""
    missing = [name for name in names if find_spec(name) is None]
    if missing:
        raise ModuleNotFoundError(
            f'{extra}: wanted the packages {", ".join(names)}, found no {", ".join(missing)}. '
            f"Install them: pip install 'mmseg-opengan[{extra}]'"
        )
