"""The generator that weakens closed features: against a loop, at its start, in the real step, and
in checkpoints.
"""

import numpy as np
import pytest
import torch
from small_models import adam, build_open, store_batch
from torch.nn.functional import cosine_similarity

from mmseg_opengan.contrib.attenuating_generator import AttenuatingGenerator
from mmseg_opengan.features.pixel_sampler import PixelSampler

OPTIONS = dict(hidden=(12, 8), noise_channels=5, num_reference=4)
SAMPLER = PixelSampler(num_closed=40, num_open=20, num_fake=20)
CHANNELS = 60  # of the small HRNet


def made(**options):
    torch.manual_seed(0)
    return AttenuatingGenerator(7, **{**OPTIONS, **options})


def test_each_row_is_a_closed_feature_weakened_channel_by_channel():
    generator = made().eval()
    closed = torch.rand(9, 7)
    noise = torch.randn(6, 5)
    generator.observe(closed)
    factors = generator.layers(noise)
    found = generator(noise)
    for i in range(6):
        for channel in range(7):
            x = closed[8 - i % 4, channel].item()
            z = (noise[i, 0] + factors[i, channel]).item()
            assert found[i, channel].item() == pytest.approx(x / (1 + np.exp(-z)), rel=1e-5)


def test_few_closed_features_are_repeated_and_none_change_nothing():
    generator = made()
    closed = torch.rand(3, 7)
    generator.observe(closed)
    assert torch.equal(generator.reference, closed[[2, 1, 0, 2]])
    generator.observe(closed[:0])
    assert torch.equal(generator.reference, closed[[2, 1, 0, 2]])


def test_it_begins_at_weak_features_of_the_right_direction():
    generator = AttenuatingGenerator(60, num_reference=500)
    closed = torch.rand(500, 60) * 10
    generator.observe(closed)
    fake = generator(torch.randn(500, 64)).detach()
    assert (fake >= 0).all()
    assert (fake <= closed.flip(0)).all()
    assert cosine_similarity(fake, closed.flip(0)).min() > 0.9
    left = fake.norm(dim=1) / closed.flip(0).norm(dim=1)
    assert left.mean() == pytest.approx(0.5, abs=0.05)
    assert left.std() == pytest.approx(0.21, abs=0.05)  # of the sigmoid of a standard normal


def test_the_step_shows_it_closed_features_and_trains_it():
    model = build_open(generator=dict(type='AttenuatingGenerator', **OPTIONS)).train()
    before = {name: value.clone() for name, value in model.generator.named_parameters()}
    batch = store_batch(0, CHANNELS, sampler=SAMPLER)
    log = model.train_step(batch, adam(model))
    assert torch.equal(model.generator.reference, batch['closed'].flip(0)[:4])
    assert {'D_fake', 'loss_fake', 'loss_generator'} <= log.keys()
    parameters = dict(model.generator.named_parameters())
    assert all(
        not torch.equal(parameters[name], before[name])
        for name in before
        if name.endswith('weight')
    )


def test_a_checkpoint_holds_what_it_generates():
    generator = made().eval()
    other = made().eval()
    noise = torch.randn(6, 5)
    generator.observe(torch.rand(9, 7))
    other.load_state_dict(generator.state_dict())
    assert torch.equal(other(noise), generator(noise))


@pytest.mark.parametrize(
    ('options', 'message'),
    [
        (dict(num_reference=0), 'num_reference: wanted at least 1, found 0'),
        (dict(out_act='relu'), "wanted no out_act, since it ends in its sigmoid, found 'relu'"),
    ],
)
def test_wrong_options_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        made(**options)
