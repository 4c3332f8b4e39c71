"""One optimizer per named network, built from one config."""

import pytest
import torch
from mmengine.optim import OptimWrapperDict
from torch import nn

import mmseg_opengan.register  # noqa: F401
from mmseg_opengan.engine.optim import BFloat16OptimWrapper, OpenGANOptimWrapperConstructor


class Toy(nn.Module):
    """A frozen backbone with two networks on it."""

    def __init__(self, generator=True):
        super().__init__()
        self.backbone = nn.Linear(4, 4).requires_grad_(False)
        self.discriminator = nn.Linear(4, 1)
        self.generator = nn.Linear(2, 4) if generator else None


def network(lr=1e-3, **options):
    return dict(
        optimizer=dict(
            type='Adam',
            lr=lr,
            betas=(0.5, 0.999),
        ),
        **options,
    )


def build(model=None, **cfg):
    return OpenGANOptimWrapperConstructor(cfg)(model or Toy())


def test_one_wrapper_per_network():
    model = Toy()
    wrappers = build(
        model, type='OptimWrapper', discriminator=network(1e-3), generator=network(2e-3)
    )
    assert isinstance(wrappers, OptimWrapperDict)
    assert sorted(wrappers.keys()) == ['discriminator', 'generator']
    for name, lr in (('discriminator', 1e-3), ('generator', 2e-3)):
        optimizer = wrappers[name].optimizer
        assert isinstance(optimizer, torch.optim.Adam)
        assert [group['lr'] for group in optimizer.param_groups] == [lr]
        assert optimizer.param_groups[0]['betas'] == (0.5, 0.999)
        assert list(map(id, optimizer.param_groups[0]['params'])) == list(
            map(id, getattr(model, name).parameters())
        )


def test_options_beside_the_networks_hold_for_all_of_them():
    wrappers = build(
        accumulative_counts=4,
        discriminator=network(),
        generator=network(accumulative_counts=2),
        clip_grad=dict(max_norm=1.0),
    )
    assert wrappers['discriminator']._accumulative_counts == 4
    assert wrappers['generator']._accumulative_counts == 2
    assert wrappers['generator'].clip_grad_kwargs == dict(max_norm=1.0)


def test_wrapped_model():
    wrappers = build(nn.DataParallel(Toy()), discriminator=network(), generator=network())
    assert sorted(wrappers.keys()) == ['discriminator', 'generator']


def test_unknown_network():
    with pytest.raises(ValueError, match="wanted discriminator and generator, found 'critic'"):
        build(Toy(generator=False), discriminator=network(), critic=network())


@pytest.mark.parametrize('cfg', [network(), None])
def test_a_network_that_the_model_is_without_needs_no_optimizer(cfg):
    """CLS is the usual config with ``generator=None``."""
    found = build(Toy(generator=False), discriminator=network(), generator=cfg)
    assert list(found.keys()) == ['discriminator']


def test_trainable_parameter_without_an_optimizer():
    with pytest.raises(
        ValueError,
        match=r'no optimizer for 2 trainable parameters, such as generator\.weight; '
        r"optimizers given: \['discriminator'\]",
    ):
        build(discriminator=network(), generator=None)


def test_paramwise_options_are_refused():
    with pytest.raises(ValueError, match='wanted no paramwise_cfg'):
        OpenGANOptimWrapperConstructor(dict(discriminator=network()), dict(norm_decay_mult=0.0))


def test_state_goes_through_a_checkpoint():
    def trained():
        torch.manual_seed(0)
        model = Toy()
        return model, build(model, discriminator=network(), generator=network())

    model, wrappers = trained()
    wrappers['generator'].update_params(model.generator(torch.ones(3, 2)).sum())
    _, others = trained()
    others.load_state_dict(wrappers.state_dict())
    states = [w['generator'].optimizer.state_dict()['state'] for w in (wrappers, others)]
    assert states[0].keys() == states[1].keys() != set()
    assert all(torch.equal(states[0][i]['exp_avg'], states[1][i]['exp_avg']) for i in states[0])


@pytest.mark.skipif(torch.cuda.is_available(), reason='an accelerator takes the AmpOptimWrapper')
def test_amp_on_a_cpu_is_bfloat16():
    model = Toy()
    wrappers = build(
        model,
        type='AmpOptimWrapper',
        loss_scale='dynamic',
        dtype='float16',
        discriminator=network(),
        generator=network(),
    )
    for name, wrapper in wrappers.items():
        assert type(wrapper) is BFloat16OptimWrapper
        child = getattr(model, name)
        inputs = torch.ones(3, child.in_features)
        with wrapper.optim_context(model):
            output = child(inputs)
        assert output.dtype == torch.bfloat16
        assert child(inputs).dtype == torch.float32
        wrapper.update_params(output.sum())
        assert all(p.grad is None or p.grad.dtype == torch.float32 for p in child.parameters())


def test_bfloat16_wrapper_accumulates_as_its_parent():
    model = Toy()
    wrapper = build(
        model,
        type='AmpOptimWrapper',
        accumulative_counts=2,
        discriminator=network(),
        generator=network(),
    )['discriminator']
    wrapper.initialize_count_status(model, 0, 4)
    before = model.discriminator.weight.clone()
    for same in (True, False):
        with wrapper.optim_context(model):
            loss = model.discriminator(torch.ones(3, 4)).float().sum()
        wrapper.update_params(loss)
        assert torch.equal(before, model.discriminator.weight) == same
