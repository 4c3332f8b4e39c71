"""The tap, the two networks and the two-optimizer step: registered shells over ``functional``.

A name loads its module on first use: D and G alone need neither mmengine nor mmseg.
"""

from importlib import import_module

_HOMES = {
    'SCORERS': '.scorers.base',
    'FeatureDiscriminator': '.networks',
    'FeatureGenerator': '.networks',
    'FitData': '.scorers.base',
    'FittedScorer': '.scorers.base',
    'OpenGANHead': '.opengan_head',
    'OpenGANSegmentor': '.opengan',
    'OpenSetSegmentor': '.open_set_segmentor',
    'Scorer': '.scorers.base',
    'Tap': '.tap_adapters',
}
__all__ = list(_HOMES)


def __getattr__(name):
    if name not in _HOMES:
        raise AttributeError(f'module {__name__!r} has no attribute {name!r}')
    return getattr(import_module(_HOMES[name], __name__), name)
