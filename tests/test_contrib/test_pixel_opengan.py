"""OpenGAN on pixels: the written-out step, what it trains, its score maps, and a training from
config to test.
"""

import copy

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from mmengine.config import Config
from mmengine.runner import Runner
from mmseg.registry import MODELS
from small_models import adam, batch_of, build_plain, plain_config, raw_image
from tiny_camvid import MODEL, write_checkpoints, write_config, write_images

from mmseg_opengan.contracts import CLOSED, OPEN_SCORES, OPENGAN, VOID
from mmseg_opengan.contrib.patch_sampler import PatchSampler

D = dict(type='PatchDiscriminator', width=4)
G = dict(type='PatchGenerator', width=4, noise_channels=5)
SAMPLER = PatchSampler(
    num_closed=40,
    num_open=20,
    num_fake=30,
    fake_images=2,
    fake_grid=(1, 1),
)


def build(weights=None, resolution='image', **options):
    torch.manual_seed(1)
    options = {**dict(discriminator=D, generator=G), **options}
    held = dict(config=dict(model=plain_config(size_divisor=16)))
    model = MODELS.build(
        dict(
            type='PixelOpenGANSegmentor',
            segmentor=held,
            resolution=resolution,
            **options,
        )
    )
    if weights is not None:
        model.load_segmentor(weights)
    return model


def step_batch(step: int, sampler=SAMPLER) -> dict:
    """Two images of different sizes: the first closed above and void below, the second closed, open
    and void.
    """
    inputs = []
    open_maps = []
    for i, size in enumerate([(40, 64), (48, 56)]):
        open_map = torch.full(size, VOID, dtype=torch.uint8)
        open_map[:20] = CLOSED
        open_map[24:30] = 3 * i or VOID
        inputs.append(raw_image(*size, seed=10 * step + i)[0])
        open_maps.append(open_map)
    return dict(draw=sampler.at(0, step), inputs=inputs, open_maps=open_maps)


def test_training_changes_d_and_g_and_no_bit_of_the_segmentor():
    plain = build_plain()
    model = build(plain.state_dict()).train()
    before = {key: value.clone() for key, value in model.state_dict().items()}
    closed = {key: value.clone() for key, value in model.segmentor.state_dict().items()}
    model.tap_of = None  # the segmentor does not run
    for step in range(2):
        log = model.train_step(step_batch(step), adam(model, lr=0.01))
        assert all(np.isfinite(float(value)) for value in log.values())
    moved = {
        key.split('.')[0]
        for key, value in model.state_dict().items()
        if not torch.equal(value, before[key])
    }
    assert moved == {'discriminator', 'generator'}
    assert all(
        torch.equal(value, closed[key]) for key, value in model.segmentor.state_dict().items()
    )


def test_generated_pixels_for_figure_10():
    """As the hook of the sweep asks for them: so many open scores, the same at each call."""
    model = build()
    scores = model.score_generated(5000, seed=3)
    assert scores.shape == (5000,)
    assert torch.equal(scores, model.score_generated(5000, seed=3))
    assert not torch.equal(scores, model.score_generated(5000, seed=4))
    noise = torch.randn(2, 5, 1, 1, generator=torch.Generator().manual_seed(3))
    with torch.no_grad():
        made = model.generator.train()(noise)
        assert torch.equal(scores, -model.discriminator(made).flatten()[:5000])


def test_one_step_is_the_written_out_one():
    """Loops over pixels and plain SGD by hand: D on closed, open and fake pixels, then G through
    the new D.
    """
    model = build(lambda_fake=0.3).train()
    twin = copy.deepcopy(model)
    optimizers = adam(model)
    for name in ('discriminator', 'generator'):
        optimizers[name].optimizer = torch.optim.SGD(getattr(model, name).parameters(), lr=0.1)
    batch = step_batch(0)
    log = model.train_step(batch, optimizers)

    draw = batch['draw']
    groups = dict(closed=[], open=[])
    for image, open_map in zip(batch['inputs'], batch['open_maps']):
        height, width = open_map.shape
        normal = (
            image.float().flip(0) - torch.tensor([120.0, 110.0, 100.0])[:, None, None]
        ) / torch.tensor([60.0, 50.0, 55.0])[:, None, None]
        normal = F.pad(
            normal, (0, -width % 16, 0, -height % 16)
        )  # padded as the configured preprocessor does
        logits = twin.discriminator(normal[None])[0]
        for row in range(height):
            for col in range(width):
                label = int(open_map[row, col])
                if label != VOID:
                    groups['closed' if label == CLOSED else 'open'].append(logits[row, col])
    closed = torch.stack([groups['closed'][i] for i in draw.closed(len(groups['closed']))])
    opened = torch.stack([groups['open'][i] for i in draw.open(len(groups['open']))])
    noise_d, noise_g = draw.noise(5)
    chosen_d, chosen_g = draw.fake(2 * 64 * 64)
    with torch.no_grad():
        made = twin.generator(noise_d)
    fake = twin.discriminator(made).flatten()[chosen_d]
    loss = -(
        torch.sigmoid(closed).log().mean()
        + torch.sigmoid(-opened).log().mean()
        + 0.3 * torch.sigmoid(-fake).log().mean()
    )
    twin.discriminator.zero_grad()
    loss.backward()
    assert float(log['loss_discriminator']) == pytest.approx(loss.item(), rel=1e-5)
    with torch.no_grad():
        for parameter in twin.discriminator.parameters():
            parameter -= 0.1 * parameter.grad
    loss = (
        -torch.sigmoid(twin.discriminator(twin.generator(noise_g)).flatten()[chosen_g]).log().mean()
    )
    twin.generator.zero_grad()
    loss.backward()
    assert float(log['loss_generator']) == pytest.approx(loss.item(), rel=1e-4)
    with torch.no_grad():
        for parameter in twin.generator.parameters():
            parameter -= 0.1 * parameter.grad
    wanted = twin.state_dict()
    for key, value in model.state_dict().items():
        torch.testing.assert_close(value, wanted[key], rtol=1e-4, atol=1e-6)


def test_a_step_is_a_pure_function_of_seed_and_step():
    states = []
    for _ in range(2):
        model = build().train()
        torch.rand(3)  # whatever else was drawn
        model.train_step(step_batch(3), adam(model, lr=0.01))
        states.append(model.state_dict())
    assert all(torch.equal(value, states[1][key]) for key, value in states[0].items())


def test_a_missing_group_drops_its_term_and_is_counted():
    model = build(generator=None).train()
    batch = step_batch(0)
    batch['open_maps'] = [
        torch.where(labels == CLOSED, labels, VOID) for labels in batch['open_maps']
    ]
    log = model.train_step(batch, adam(model))
    assert float(log['empty_groups']) == 1
    assert not {'loss_open', 'loss_fake', 'loss_generator', 'D_open'} & set(log)


@pytest.mark.parametrize('resolution', ['feature', 'image'])
@torch.no_grad()
def test_scores_are_ds_and_the_closed_prediction_is_the_plain_models(resolution, tmp_path):
    plain = build_plain()
    model = build(
        plain.state_dict(), resolution=resolution, scorers=dict(msp=dict(type='MSP'))
    ).eval()
    torch.save(
        dict(
            state_dict={
                k: v for k, v in model.state_dict().items() if k.startswith('discriminator.')
            }
        ),
        tmp_path / 'd.pth',
    )
    other = build(
        plain.state_dict(),
        resolution=resolution,
        discriminator=None,
        generator=None,
        scorers=dict(
            pix=dict(
                type='PixelDiscriminatorScorer', discriminator=D, checkpoint=str(tmp_path / 'd.pth')
            )
        ),
    ).eval()
    item = raw_image(64, 96)
    ours, theirs, closed = (
        one.test_step(batch_of(copy.deepcopy(item)))[0] for one in (model, other, plain)
    )
    assert torch.equal(ours.pred_sem_seg.data, closed.pred_sem_seg.data)
    assert set(ours.get(OPEN_SCORES).keys()) == {OPENGAN, 'msp'}
    found = ours.get(OPEN_SCORES).get(OPENGAN)
    assert torch.equal(found, theirs.get(OPEN_SCORES).pix)
    size = (16, 24) if resolution == 'feature' else (64, 96)
    assert found.shape == (1, *size)
    wanted = -model.discriminator(model.normalise(item[0]))
    wanted = F.interpolate(
        wanted[:, None],
        size=(16, 24),
        mode='bilinear',
        align_corners=False,
    )
    torch.testing.assert_close(
        found,
        F.interpolate(
            wanted,
            size=size,
            mode='bilinear',
            align_corners=False,
        )[:, 0],
    )


@pytest.fixture(scope='module')
def run(tmp_path_factory):
    """A run on tiny CamVid from the published base configs, trained for 4 steps with a crop."""
    root = tmp_path_factory.mktemp('pixels')
    data = write_images(root / 'data')
    (data / 'splits/train.txt').write_text('b\nc\nd')
    config = Config.fromfile(write_config(root, data))
    _, segmentor = write_checkpoints(root, root / 'tiny.py')
    images = dict(config.test_dataloader.dataset, split='train')
    config.merge_from_dict(
        dict(
            model=dict(
                {**MODEL, 'type': 'PixelOpenGANSegmentor', 'discriminator': D, 'generator': G}
            ),
            train_dataloader=dict(
                batch_size=1,
                num_workers=0,
                sampler=dict(type='StepSampler'),
                collate_fn=dict(type='one_step'),
                dataset=dict(
                    type='ImageSource',
                    closed=images,
                    open=images,
                    sampler=dict(
                        type='PatchSampler',
                        num_closed=100,
                        num_open=50,
                        num_fake=50,
                        crop_size=(32, 40),
                        fake_grid=(1, 1),
                    ),
                ),
            ),
            train_cfg=dict(
                type='IterBasedTrainLoop',
                max_iters=4,
                val_interval=2,
            ),
            optim_wrapper=dict(
                type='OptimWrapper',
                constructor='OpenGANOptimWrapperConstructor',
                **{
                    name: dict(optimizer=dict(type='Adam', lr=1e-3))
                    for name in ('discriminator', 'generator')
                },
            ),
            work_dir=str(root / 'work'),
            experiment_name='pixels',
        )
    )
    config.model.discriminator = D
    config.model.generator = G
    config.model.segmentor.checkpoint = str(segmentor)
    config.default_hooks.checkpoint.interval = 4
    runner = Runner.from_cfg(config)
    runner.train()
    return root, config, runner


def test_training_keeps_the_best_d_and_g_alone(run):
    root, _, runner = run
    best = list((root / 'work').glob('best_opengan_AUROC_iter_*.pth'))
    assert len(best) == 1
    state = torch.load(best[0], weights_only=True)['state_dict']
    assert {key.split('.')[0] for key in state} == {
        'discriminator',
        'generator',
        'segmentor_digest',
    }
    assert 0 <= runner.message_hub.get_info('best_score') <= 1


def test_what_was_trained_is_tested_from_its_checkpoint(run):
    """As the model's own D, and as one scorer among others in the same pass."""
    root, config, _ = run
    best = str(next((root / 'work').glob('best_opengan_AUROC_iter_*.pth')))
    config.merge_from_dict(
        {
            'load_from': best,
            'work_dir': str(root / 'tested'),
            'experiment_name': 'tested',
            'model.scorers.pix': dict(
                type='PixelDiscriminatorScorer', discriminator=D, checkpoint=best
            ),
        }
    )
    found = Runner.from_cfg(config).test()
    assert 0 < found['opengan/AUROC'] == found['pix/AUROC'] < 1
    assert {'msp/AUROC', 'mIoU'} <= set(found)
