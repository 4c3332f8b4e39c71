"""How a method is called and coloured: the same in every figure, panel and table for people."""

import re
from collections.abc import Iterable

#: Okabe and Ito's colours, told apart with any kind of colour vision; the light yellow is left out.
COLOURS = ('#0072B2', '#D55E00', '#009E73', '#CC79A7', '#56B4E9', '#E69F00', '#000000')
_DASHES = ('-', '--', ':', '-.')

#: Names of methods for people, by their names in configs. The order gives their colours: seven
#: without a dash, then seven with each kind of dash.
LABELS = {
    'opengan': 'OpenGAN',
    'cls': 'CLS',
    'opengan0': 'OpenGAN-0',
    'gen': 'GEN',
    'msp': 'MSP',
    'energy': 'energy',
    'entropy': 'Entropy',
    'hybrid': 'OpenGAN + free score',
    'cls-pix': 'CLS-pix',
    'opengan0-pix': 'OpenGAN-0-pix',
    'maxlogit': 'max-logit',
    'mspc': 'MSPc',
    'sml': 'standardized max-logit',
    'mcdrop': 'MC-dropout',
    'opengan-att': 'OpenGAN, attenuating G',
    'kplus1': '(K+1), classifier',
    'gmm': 'GMM',
    'nn': 'nearest neighbour',
    'centroid': 'class centroid',
    'openmax': 'OpenMax',
    'gdm': 'GDM',
    'opengan-pix': 'OpenGAN-pix',
    'c2ae': 'C2AE',
    'bigan_r': 'BiGAN_r',
    'bigan_d': 'BiGAN_d',
    'react': 'ReAct',
    'cls-fused': 'CLS, fused',
    'opengan-fused': 'OpenGAN, fused',
}
_PLACES = {label: place for place, label in enumerate(LABELS.values())}
_ENDING = re.compile(r', smoothed| \(|, seed ')


def label_of(name: str) -> str:
    """A method's name for people, also where ``name`` has a seed; other names stay.

    >>> [label_of(name) for name in ('msp', 'gmm_s2', 'MSP', 'mine')]
    ['MSP', 'GMM, seed 2', 'MSP', 'mine']
    """
    if '-alone' in name:  # the D of a fused method
        return f'{label_of(name.replace("-alone", ""))}, D alone'
    method, _, seed = name.rpartition('_s')
    if method in LABELS and seed.isdigit():
        return f'{LABELS[method]}, seed {seed}'
    return LABELS.get(name, name)


def line_styles(names: Iterable[str]) -> dict[str, dict[str, str]]:
    """Colour and dash of each method's line, as options of matplotlib.

    A method of ``LABELS`` has its own in every figure. A second line of it (another seed, another
    run) and other names have the first ones that are left.
    """
    names = list(names)
    places: dict[str, int] = {}
    for name in names:
        place = _place_of(label_of(name))
        if place is not None and place not in places.values():
            places[name] = place
    free = [place for place in range(len(COLOURS) * len(_DASHES)) if place not in places.values()]
    others = [name for name in names if name not in places]
    for count, name in enumerate(others):
        places[name] = free[count % len(free)]
    styles = {}
    for name in names:
        dash, colour = divmod(places[name], len(COLOURS))
        styles[name] = dict(color=COLOURS[colour], linestyle=_DASHES[dash])
    return styles


def _place_of(label):
    if label.startswith('OpenGAN + '):
        label = LABELS['hybrid']  # also where the free score is named
    return _PLACES.get(label, _PLACES.get(_ENDING.split(label)[0]))
