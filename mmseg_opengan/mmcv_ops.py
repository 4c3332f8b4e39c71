"""Let MMSegmentation be imported where mmcv has no compiled operators.

``mmseg`` imports ``mmcv.ops`` on import, which needs ``mmcv._ext``. ``mmcv-lite`` has none. No
model here calls such an operator, so a placeholder whose functions raise when *called* is enough.
It stands in for ``mmcv._ext`` while ``mmcv.ops`` is imported and is taken away again, so that
mmengine still sees that this mmcv has none. A full mmcv is left alone.

Importing the package installs this, so that a worker process that begins with any of its modules
can import mmseg.
"""

import sys
import types
from importlib.machinery import PathFinder, SourceFileLoader

_OPS, _COMPILED = 'mmcv.ops', 'mmcv._ext'


class MissingCompiledOp(NotImplementedError):
    """A compiled mmcv operator was called, but this mmcv has none."""


class _OpsLoader(SourceFileLoader):
    """Loads ``mmcv.ops`` with the placeholder in place."""

    def exec_module(self, module):
        placeholder = types.ModuleType(_COMPILED)
        placeholder.__getattr__ = _missing_op
        sys.modules[_COMPILED] = placeholder
        try:
            super().exec_module(module)
        finally:
            del sys.modules[_COMPILED]


class OpsFinder:
    """Finds ``mmcv.ops`` where Python would, for :class:`_OpsLoader`."""

    @staticmethod
    def find_spec(name, path=None, target=None):
        if name != _OPS or PathFinder.find_spec(_COMPILED, path) is not None:
            return None
        spec = PathFinder.find_spec(name, path, target)
        if spec is not None:
            spec.loader = _OpsLoader(name, spec.origin)
        return spec


def _missing_op(name: str):
    if name.startswith('__'):
        raise AttributeError(name)

    def call(*args, **kwargs):
        raise MissingCompiledOp(
            f"'{name}' is a compiled operator of mmcv, and the installed mmcv has none "
            f'(mmcv-lite). '
            "Install the full 'mmcv' (>= 2.0.0, < 2.2.0) built for this torch to use models that "
            'need it.'
        )

    return call


def install() -> None:
    """Safe to call more than once."""
    if OpsFinder not in sys.meta_path:
        sys.meta_path.insert(0, OpsFinder)
