"""Types in what a checkpoint says of itself: a file from elsewhere names parts, not programs."""

from collections.abc import Iterator
from typing import Any

import mmengine.registry
import mmseg.registry
from mmengine.registry import Registry


def require_registered_types(value: Any, source: str) -> None:
    """Raise where a config out of a file names a type that is no registered part.

    mmengine calls what any dotted ``type`` names, ``subprocess.Popen`` for one.

    Args:
        value: config of dicts, lists and plain values.
        source: the file, for the error.

    Raises:
        RuntimeError: names the types.
    """
    known = _registered()
    wrong = sorted({name for name in _types(value) if name.rsplit('.', 1)[-1] not in known})
    if wrong:
        raise RuntimeError(
            f"'{source}': wanted types that are registered, found {', '.join(wrong)}. Import your "
            'own modules that register them first; a file of an unknown maker was refused.'
        )


def _types(value: Any) -> Iterator[str]:
    """Every ``type`` in a config, at any depth."""
    if isinstance(value, dict):
        if isinstance(value.get('type'), str):
            yield value['type']
        for item in value.values():
            yield from _types(item)
    elif isinstance(value, (list, tuple)):
        for item in value:
            yield from _types(item)


def _registered() -> set[str]:
    """Names, and names of classes, in all registries; what mmseg and mmengine register when it is
    first asked for is imported.
    """
    from .scorers.base import SCORERS  # which imports this module

    names: set[str] = set()
    roots = [*vars(mmengine.registry).values(), *vars(mmseg.registry).values(), SCORERS]
    registries = [one for one in roots if isinstance(one, Registry)]
    for registry in registries:
        registry.import_from_location()
    for registry in registries:
        for one in _with_children(registry):
            names.update(one.module_dict)
            names.update(part.__name__ for part in one.module_dict.values())
    return names


def _with_children(registry: Registry) -> Iterator[Registry]:
    yield registry
    for child in registry.children.values():
        yield from _with_children(child)
