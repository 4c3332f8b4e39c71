"""One optimizer for D and one for G, from one ``optim_wrapper`` config."""

from contextlib import contextmanager

import torch
from mmengine.device import get_device
from mmengine.logging import print_log
from mmengine.model import is_model_wrapper
from mmengine.optim import OptimWrapper, OptimWrapperDict
from mmseg.registry import OPTIM_WRAPPER_CONSTRUCTORS, OPTIM_WRAPPERS, OPTIMIZERS

_NETWORKS = ('discriminator', 'generator')  # a model may be without


@OPTIM_WRAPPER_CONSTRUCTORS.register_module()
class OpenGANOptimWrapperConstructor:
    """Builds an ``OptimWrapperDict`` with one wrapper for D and one for G.

    ::

        optim_wrapper = dict(
            type='OptimWrapper', constructor='OpenGANOptimWrapperConstructor',
            discriminator=dict(optimizer=dict(type='Adam', lr=1e-4 / 1.5, betas=(.5, .999))),
            generator=dict(optimizer=dict(type='Adam', lr=1e-4, betas=(.5, .999))))

    ``type`` and every other option outside the networks hold for both, which is what ``--amp`` of
    mmseg's tools relies on. One set to None is left out, and so is a network that the model does
    not have (CLS has no G).

    Raises:
        ValueError: an optimizer of another network, or a trainable parameter that no optimizer
            owns.
    """

    def __init__(self, optim_wrapper_cfg: dict, paramwise_cfg: dict | None = None):
        if paramwise_cfg is not None:
            raise ValueError('OpenGANOptimWrapperConstructor: wanted no paramwise_cfg, found one')
        self.common = dict(optim_wrapper_cfg)
        self.networks = {name: self.common.pop(name, None) for name in _NETWORKS}
        for name, value in self.common.items():
            if isinstance(value, dict) and 'optimizer' in value:
                raise ValueError(f"optim_wrapper: wanted {' and '.join(_NETWORKS)}, found '{name}'")

    def __call__(self, model) -> OptimWrapperDict:
        model = model.module if is_model_wrapper(model) else model
        wrappers = {}
        for name, cfg in self.networks.items():
            network = getattr(model, name, None)
            if cfg is None or network is None:
                continue
            options = {**self.common, **cfg}
            parameters = [p for p in network.parameters() if p.requires_grad]
            optimizer = OPTIMIZERS.build(dict(options.pop('optimizer'), params=parameters))
            wrappers[name] = _build_wrapper(options, optimizer)
        orphans = []
        for name, parameter in model.named_parameters():
            if parameter.requires_grad and name.split('.')[0] not in wrappers:
                orphans.append(name)
        if orphans:
            raise ValueError(
                f'optim_wrapper: no optimizer for {len(orphans)} trainable parameters, such as '
                f'{orphans[0]}; optimizers given: {sorted(wrappers)}'
            )
        return OptimWrapperDict(**wrappers)


def _build_wrapper(options: dict, optimizer):
    options = {'type': 'OptimWrapper', **options, 'optimizer': optimizer}
    if options['type'] == 'AmpOptimWrapper' and get_device() in ('cpu', 'mps'):
        print_log('--amp on a CPU: bfloat16 autocast, which needs no loss scale', logger='current')
        options['type'] = 'BFloat16OptimWrapper'
        for name in ('loss_scale', 'dtype'):
            options.pop(name, None)
    return OPTIM_WRAPPERS.build(options)


@OPTIM_WRAPPERS.register_module()
class BFloat16OptimWrapper(OptimWrapper):
    """Mixed precision on a CPU, where mmengine's ``AmpOptimWrapper`` refuses to run."""

    @contextmanager
    def optim_context(self, model):
        with super().optim_context(model), torch.autocast('cpu', torch.bfloat16):
            yield
