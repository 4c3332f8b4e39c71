"""The one entry for ``custom_imports``: checks the installed dependencies and registers every part.

A config that uses this package states::

    custom_imports = dict(imports=['mmseg_opengan.register'])
"""

from importlib.metadata import PackageNotFoundError, version

import mmengine
import torch
from mmengine.utils import digit_version

from . import compat

compat.load_safely()

import mmcv  # noqa: E402
import mmseg  # noqa: E402

#: Name, found, lowest that works, first that does not.
_BOUNDS = (
    ('torch', torch.__version__, '2.6.0', None),
    ('mmengine', mmengine.__version__, '0.10.5', '1.0.0'),
    ('mmcv', mmcv.__version__, '2.0.0', '2.2.0'),
    ('mmsegmentation', mmseg.__version__, '1.2.2', '1.3.0'),
)
_FORK_BOUNDS = (
    ('torch', torch.__version__, '2.6.0', None),
    ('onedl-mmengine', mmengine.__version__, '0.10.8', '1.0.0'),
    ('onedl-mmcv', mmcv.__version__, '2.3.0', '3.0.0'),
    ('onedl-mmsegmentation', mmseg.__version__, '1.3.0', '2.0.0'),
)


def _bounds():
    """Those of the maintained fork where mmseg is the fork."""
    try:
        is_fork = version('onedl-mmsegmentation') == mmseg.__version__
    except PackageNotFoundError:
        is_fork = False
    return _FORK_BOUNDS if is_fork else _BOUNDS


def _check(bounds) -> None:
    for name, found, lowest, beyond in bounds:
        wanted = f'>= {lowest}' + (f', < {beyond}' if beyond else '')
        number = digit_version(found.split('+')[0])
        if number < digit_version(lowest) or (beyond and number >= digit_version(beyond)):
            raise ImportError(f'mmseg_opengan: wanted {name} {wanted}, found {found}')


_check(_bounds())

from .contrib import (  # noqa: E402, F401
    attenuating_generator,
    image_source,
    patch_sampler,
    pixel_discriminator_scorer,
    pixel_networks,
    pixel_opengan,
)
from .datasets import (  # noqa: E402, F401
    anomaly,
    camvid,
    cityscapes,
    open_as_class,
    open_set_folder,
    transforms,
)
from .engine import checkpoints, opengan_hook, optim  # noqa: E402, F401
from .evaluation import (  # noqa: E402, F401
    evaluation_hook,
    generator_watch,
    metric,
    panel_hook,
)
from .features import pixel_sampler, sources, stored_taps  # noqa: E402, F401
from .models import networks, opengan, opengan_head, tta  # noqa: E402, F401
from .models.scorers import (  # noqa: E402, F401
    bigan,
    c2ae,
    calibrated_scorers,
    discriminator_scorer,
    distance_scorers,
    fused_scorers,
    kplus1,
    logit_scorers,
    mask_scorers,
    mixture_scorer,
    openmax_scorer,
)
from .pictures import visualizer  # noqa: E402, F401
