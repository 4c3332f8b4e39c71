"""One optimizer for D and one for G, from one ``optim_wrapper`` config."""

from contextlib import contextmanager

import torch
from mmengine.device import is_cuda_available, is_mlu_available, is_musa_available, is_npu_available
from mmengine.logging import print_log
from mmengine.model import is_model_wrapper
from mmengine.optim import OptimWrapper, OptimWrapperDict
from mmseg.registry import OPTIM_WRAPPER_CONSTRUCTORS, OPTIM_WRAPPERS, OPTIMIZERS

_NETWORKS = ('discriminator', 'generator')  # a model may be without


@OPTIM_WRAPPER_CONSTRUCTORS.register_module()
class OpenGANOptimWrapperConstructor:
    """Builds an ``OptimWrapperDict`` with one wrapper per named child of the model.

    ::

        optim_wrapper = dict(
            type='OptimWrapper', constructor='OpenGANOptimWrapperConstructor',
            discriminator=dict(optimizer=dict(type='Adam', lr=1e-4 / 1.5, betas=(.5, .999))),
            generator=dict(optimizer=dict(type='Adam', lr=1e-4, betas=(.5, .999))))

    ``type`` and every other option outside the named children hold for all of them, which is what
    ``--amp`` of mmseg's tools relies on. A child set to None is left out, and so is a network that
    the model does not have (CLS has no G).

    Raises:
        ValueError: a name that is no child of the model, or a trainable parameter that no optimizer
            owns.
    """

    def __init__(self, optim_wrapper_cfg: dict, paramwise_cfg: dict | None = None):
        if paramwise_cfg is not None:
            raise ValueError('OpenGANOptimWrapperConstructor: wanted no paramwise_cfg, found one')
        is_child = {
            name: value is None or (isinstance(value, dict) and 'optimizer' in value)
            for name, value in optim_wrapper_cfg.items()
        }
        self.children = {
            name: value for name, value in optim_wrapper_cfg.items() if is_child[name] and value
        }
        self.common = {
            name: value for name, value in optim_wrapper_cfg.items() if not is_child[name]
        }

    def __call__(self, model) -> OptimWrapperDict:
        model = model.module if is_model_wrapper(model) else model
        networks = dict(model.named_children())
        wrappers, owned = {}, set()
        for name, cfg in self.children.items():
            if name not in networks and name in _NETWORKS and getattr(model, name, self) is None:
                continue  # CLS has no generator
            if name not in networks:
                raise ValueError(
                    f"optim_wrapper: '{name}' is no network of {type(model).__name__}; "
                    f'trainable ones: '
                    f'{_trainable(networks)}. Set optim_wrapper.{name}=None where it is not wanted.'
                )
            parameters = [p for p in networks[name].parameters() if p.requires_grad]
            owned.update(map(id, parameters))
            optimizer = OPTIMIZERS.build(dict(cfg['optimizer'], params=parameters))
            options = {
                **self.common,
                **{key: value for key, value in cfg.items() if key != 'optimizer'},
            }
            wrappers[name] = _build_wrapper(options, optimizer)
        orphans = [
            name for name, p in model.named_parameters() if p.requires_grad and id(p) not in owned
        ]
        if orphans:
            raise ValueError(
                f'optim_wrapper: no optimizer for {len(orphans)} trainable parameters, such as '
                f'{orphans[0]}; optimizers given: {sorted(wrappers)}'
            )
        return OptimWrapperDict(**wrappers)


def _trainable(networks) -> list[str]:
    return [
        name for name, net in networks.items() if any(p.requires_grad for p in net.parameters())
    ]


def _build_wrapper(options: dict, optimizer):
    options = {'type': 'OptimWrapper', **options}
    accelerated = (
        is_cuda_available() or is_npu_available() or is_mlu_available() or is_musa_available()
    )
    if options['type'] == 'AmpOptimWrapper' and not accelerated:
        print_log('--amp on a CPU: bfloat16 autocast, which needs no loss scale', logger='current')
        options = {
            key: value for key, value in options.items() if key not in ('loss_scale', 'dtype')
        }
        options['type'] = 'BFloat16OptimWrapper'
    return OPTIM_WRAPPERS.build(dict(options, optimizer=optimizer))


@OPTIM_WRAPPERS.register_module()
class BFloat16OptimWrapper(OptimWrapper):
    """Mixed precision on a CPU, where mmengine's ``AmpOptimWrapper`` refuses to run."""

    @contextmanager
    def optim_context(self, model):
        with super().optim_context(model), torch.autocast('cpu', torch.bfloat16):
            yield
