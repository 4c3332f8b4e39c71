"""The two-optimizer step: what it trains, what it leaves alone, what it logs, and that it finds
unseen open kinds.
"""

import copy
import math
import statistics
from types import SimpleNamespace

import feature_world
import pytest
import torch
from feature_world import NEW, FeatureWorld, auroc, open_score, train
from mmengine.optim import OptimWrapper, OptimWrapperDict
from small_models import adam, build_open, build_plain, raw_image, store_batch
from torch.nn.functional import softplus

from mmseg_opengan.contracts import CLOSED, VOID
from mmseg_opengan.engine.optim import BFloat16OptimWrapper
from mmseg_opengan.features.pixel_sampler import PixelSampler

GENERATOR = dict(type='FeatureGenerator', hidden=(16, 8), noise_channels=6)
SAMPLER = PixelSampler(num_closed=40, num_open=20, num_fake=20)
CHANNELS = 60  # of the small HRNet


def build(name='FCNHead', **options):
    return build_open(name, **{'generator': GENERATOR, **options}).train()


def state_of(module):
    return {key: value.clone() for key, value in module.state_dict().items()}


def changed(module, before):
    return [
        key for key, value in module.state_dict().items() if not torch.equal(value, before[key])
    ]


def online_batch(step: int, num_images: int = 2) -> dict:
    """Whole raw images whose open map is closed on the left, open and void on the right."""
    open_map = torch.full((64, 64), VOID, dtype=torch.uint8)
    open_map[:, :32] = CLOSED
    open_map[:32, 32:] = 3
    images, samples = zip(
        *(raw_image(seed=10 * step + i, open_map=open_map) for i in range(num_images))
    )
    return dict(
        draw=SAMPLER.at(0, step),
        inputs=list(images),
        data_samples=list(samples),
        open=torch.randn(20, CHANNELS),
    )


# ------------------------------------------------------------------ what is trained


@pytest.mark.parametrize('name', ['FCNHead', 'OCRHead'])
@pytest.mark.parametrize('source', ['store', 'online'])
def test_training_changes_d_and_g_and_no_bit_of_the_segmentor(name, source):
    plain = build_plain(name)
    model = build(name, weights=plain.state_dict())
    channels = model.head.channels
    optimizers = adam(model, lr=0.1)
    before = state_of(model)
    for step in range(4):
        batch = (
            store_batch(step, channels, sampler=SAMPLER)
            if source == 'store'
            else dict(online_batch(step), open=torch.randn(20, channels))
        )
        model.train_step(batch, optimizers)
    moved = changed(model, before)
    assert {key.split('.')[0] for key in moved} == {'discriminator', 'generator'}
    assert any('running_mean' in key for key in moved)
    published = plain.state_dict()
    assert all(
        torch.equal(value, published[key]) for key, value in model.segmentor.state_dict().items()
    )
    assert all(
        p.grad is None
        for name, p in model.named_parameters()
        if name.split('.')[0] not in ('discriminator', 'generator')
    )


def test_channels_of_d_and_g_are_filled_in_from_the_tapped_head():
    model = build('UPerHead')
    assert model.discriminator.in_channels == 12
    assert model.generator(torch.randn(4, 6)).shape == (4, 12)


def test_one_step_of_d_is_the_written_out_one():
    """Plain SGD on D by hand: one forward of closed, open and fake together, Eq. 2, one update."""
    model = build(lambda_fake=0.3)
    optimizers = adam(model)
    for wrapper, name in (
        (optimizers['discriminator'], 'discriminator'),
        (optimizers['generator'], 'generator'),
    ):
        wrapper.optimizer = torch.optim.SGD(getattr(model, name).parameters(), lr=0.1)
    twin = build(lambda_fake=0.3)
    twin.load_state_dict(model.state_dict())
    batch = store_batch(0, CHANNELS, sampler=SAMPLER)
    log = model.train_step(batch, optimizers)

    noise_d, noise_g = batch['draw'].noise(6)
    discriminator = twin.discriminator
    generator = twin.generator
    fake = generator(noise_d).detach()
    logits = discriminator(torch.cat([batch['closed'], batch['open'], fake]))
    closed = logits[:40]
    open_ = logits[40:60]
    fake = logits[60:]
    loss = softplus(-closed).mean() + softplus(open_).mean() + 0.3 * softplus(fake).mean()
    loss.backward()
    with torch.no_grad():
        for p in discriminator.parameters():
            p -= 0.1 * p.grad
    stats = state_of(discriminator)
    loss_g = softplus(-discriminator(generator(noise_g))).mean()
    generator.zero_grad()
    loss_g.backward()
    with torch.no_grad():
        for p in generator.parameters():
            p -= 0.1 * p.grad

    for (
        key,
        value,
    ) in model.discriminator.state_dict().items():  # running statistics as before the step of G
        torch.testing.assert_close(value, stats[key])
    for key, value in model.generator.state_dict().items():
        torch.testing.assert_close(value, generator.state_dict()[key])
    assert log['loss_discriminator'].item() == pytest.approx(loss.item(), rel=1e-5)
    assert log['loss_generator'].item() == pytest.approx(loss_g.item(), rel=1e-5)
    assert log['D_closed'].item() == pytest.approx(torch.sigmoid(closed).mean().item(), rel=1e-5)
    assert log['D_fake'].item() == pytest.approx(torch.sigmoid(fake).mean().item(), rel=1e-5)


def test_ds_running_statistics_follow_one_batch_a_step():
    """The fakes-only batch of G's phase must not reach them."""
    model = build()
    optimizers = adam(model)
    for step in range(3):
        model.train_step(store_batch(step, CHANNELS, sampler=SAMPLER), optimizers)
    counts = {
        key: int(value)
        for key, value in model.discriminator.state_dict().items()
        if 'num_batches' in key
    }
    assert counts
    assert set(counts.values()) == {3}


def test_gradients_of_several_steps_may_be_accumulated():
    """mmengine's ``accumulative_counts``: twice the same batch, and one update as of the batch
    alone.
    """
    models = build(), build()
    models[1].load_state_dict(models[0].state_dict())
    for model, steps in zip(models, (1, 2)):
        wrappers = OptimWrapperDict(
            **{
                name: OptimWrapper(
                    torch.optim.SGD(getattr(model, name).parameters(), lr=0.1),
                    accumulative_counts=steps,
                )
                for name in ('discriminator', 'generator')
            }
        )
        before = state_of(model)
        for _ in range(steps):
            assert not [name for name in changed(model, before) if 'weight' in name]
            model.train_step(store_batch(0, CHANNELS, sampler=SAMPLER), wrappers)
        assert changed(model, before)
    for name, parameter in models[0].discriminator.named_parameters():
        torch.testing.assert_close(models[1].discriminator.get_parameter(name), parameter)


def test_a_step_is_a_pure_function_of_seed_and_step():
    """Two models in the same state take the same step, whatever the global random state."""
    logs = []
    for global_seed in (1, 2):
        model = build()
        torch.manual_seed(global_seed)
        logs.append(model.train_step(store_batch(5, CHANNELS, sampler=SAMPLER), adam(model)))
    assert logs[0].keys() == logs[1].keys()
    assert all(torch.equal(logs[0][key], logs[1][key]) for key in logs[0])


# ------------------------------------------------------------------ methods and log


@pytest.mark.parametrize(
    ('method', 'options', 'sampler', 'groups'),
    [
        ('opengan', dict(), SAMPLER, ['closed', 'open', 'fake']),
        (
            'opengan0',
            dict(),
            PixelSampler(num_closed=40, num_open=0, num_fake=20),
            ['closed', 'fake'],
        ),
        (
            'cls',
            dict(generator=None),
            PixelSampler(num_closed=40, num_open=20, num_fake=0),
            ['closed', 'open'],
        ),
    ],
)
def test_three_methods_of_one_model(method, options, sampler, groups):
    model = build(**options)
    batch = store_batch(0, CHANNELS, sampler=sampler)
    if method == 'opengan0':
        batch['open'] = None
    log = model.train_step(batch, adam(model))
    terms = {f'{kind}_{group}' for group in groups for kind in ('loss', 'D')}
    extra = {'loss_generator'} if 'fake' in groups else set()
    assert set(log) == terms | extra | {'loss_discriminator', 'empty_groups'}
    assert all(math.isfinite(value) and not value.requires_grad for value in log.values())
    assert log['loss_discriminator'].item() == pytest.approx(
        sum(log[f'loss_{group}'].item() for group in groups), rel=1e-5
    )
    assert log['empty_groups'] == 0


@pytest.mark.parametrize('missing', ['closed', 'open'])
def test_an_empty_group_is_counted_and_dropped(missing):
    model = build()
    batch = store_batch(0, CHANNELS, sampler=SAMPLER)
    batch[missing] = batch[missing][:0]
    log = model.train_step(batch, adam(model))
    assert f'loss_{missing}' not in log
    assert f'D_{missing}' not in log
    assert log['empty_groups'] == 1


@pytest.mark.parametrize('reduction', ['batch', 'term'])
@pytest.mark.parametrize('kind', ['non_saturating', 'minimax'])
def test_loss_options_reach_the_step(reduction, kind):
    model = build()
    model.loss_options['reduction'] = reduction
    model.generator_loss = kind
    log = model.train_step(store_batch(0, CHANNELS, sampler=SAMPLER), adam(model))
    assert (log['loss_generator'] < 0) == (kind == 'minimax')
    share = {'term': 1, 'batch': 0.5}[reduction]  # an untrained D gives log 2 everywhere
    assert log['loss_closed'].item() == pytest.approx(share * math.log(2), rel=0.05)


# ------------------------------------------------------------------ online pixels


def test_online_closed_pixels_are_those_of_the_tap_with_a_closed_label():
    model = build()
    batch = online_batch(3)
    found = model._closed_pixels(batch)
    rows = []
    for image, sample in zip(batch['inputs'], batch['data_samples']):
        features = model.extract_image(image, sample)
        for i in range(features.shape[1]):
            for j in range(features.shape[2]):
                if sample.gt_open_map.data[0, 4 * i, 4 * j] == CLOSED:
                    rows.append(features[:, i, j])
    assert len(rows) == 2 * 16 * 8
    assert torch.equal(found, torch.stack(rows)[batch['draw'].closed(len(rows))])


def test_online_images_without_closed_pixels():
    model = build()
    batch = online_batch(0, num_images=1)
    batch['data_samples'][0].gt_open_map.data[:] = VOID
    log = model.train_step(batch, adam(model))
    assert 'loss_closed' not in log
    assert log['empty_groups'] == 1


def test_features_for_training_are_those_of_prediction():
    """One path: the store's features, the online ones and the scored ones are the same bits."""
    model = build(resolution='feature')
    image, sample = raw_image()
    stored = model.extract_image(image, sample)
    seen = {}
    model.score_tap = lambda tap: seen.update(features=tap.features) or {}
    model.eval()
    with torch.no_grad():
        model.test_step(dict(inputs=[image], data_samples=[sample]))
    assert torch.equal(stored, seen['features'][0])


# ------------------------------------------------------------------ a world with a known answer


@pytest.fixture(scope='module')
def trained():
    """(OpenGAN, CLS) for each of three seeds."""
    return [(train(seed), train(seed, use_fake=False)) for seed in range(3)]


def test_the_world_has_an_answer():
    for seed in range(3):
        world = FeatureWorld(seed)
        assert auroc(world.oracle, world.closed(2000), world.open(1000, range(4, 11))) > 0.88


def test_opengan_finds_unseen_open_kinds_better_than_cls(trained):
    """Measured on eight seeds: OpenGAN .81 to .85, CLS .66 to .79, +.05 to +.15 on each; the oracle
    has .90.
    """
    gains = [opengan.chosen - cls.chosen for opengan, cls in trained]
    assert min(gains) > 0
    assert statistics.mean(gains) > 0.04
    assert all(opengan.chosen > 0.75 for opengan, _ in trained)


def test_both_find_the_kind_they_were_trained_on(trained):
    for runs in trained:
        for run in runs:
            assert (
                auroc(open_score(run.model), run.world.closed(500), run.world.open(500, [NEW]))
                > 0.99
            )


def test_the_last_checkpoint_is_not_the_best(trained):
    """Why D is chosen on open validation."""
    assert statistics.mean(run.chosen - run.last for runs in trained for run in runs) > 0.02


def test_running_statistics_are_those_of_the_training_batches(trained):
    """Eval mode gives what statistics estimated anew give; with G's fakes-only batches in them it
    lost .10 to .13.
    """
    random = torch.Generator().manual_seed(0)
    for opengan, _ in trained:
        world = opengan.world
        model = opengan.model
        anew = copy.deepcopy(model.discriminator).train()
        for norm in anew.modules():
            if isinstance(norm, torch.nn.BatchNorm1d):
                norm.reset_running_stats()
                norm.momentum = None  # the plain mean over batches
        with torch.no_grad():
            for _ in range(20):
                fake = model.generator(
                    torch.randn(100, model.generator.noise_channels, generator=random)
                )
                anew(torch.cat([world.closed(200), world.open(100, [NEW]), fake]))
        pixels = world.closed(1000), world.open(500, range(4, 11))
        found = [
            auroc(open_score(holder), *pixels)
            for holder in (model, SimpleNamespace(discriminator=anew))
        ]
        assert abs(found[0] - found[1]) < 0.05


# ------------------------------------------------------------------ mixed precision


def test_mixed_precision_finds_as_much(monkeypatch, trained):
    """``--amp`` on a CPU: bfloat16 autocast in the steps, scores in float32."""
    full = trained[0][0]
    wrappers = []

    def half(model):
        exact = adam(model)
        wrappers.append(
            OptimWrapperDict(
                **{name: BFloat16OptimWrapper(wrapper.optimizer) for name, wrapper in exact.items()}
            )
        )
        return wrappers[0]

    monkeypatch.setattr(feature_world, 'adam', half)
    mixed = train(0)
    assert len(wrappers) == 1
    weights = [run.model.discriminator.state_dict() for run in (full, mixed)]
    assert any(not torch.equal(weights[0][key], weights[1][key]) for key in weights[0])
    assert all(value.dtype == weights[0][key].dtype for key, value in weights[1].items())
    assert mixed.chosen == pytest.approx(full.chosen, abs=0.02)
