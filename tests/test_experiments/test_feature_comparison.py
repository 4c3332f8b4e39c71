"""What the report says of a small bank: closed features around (0, 0), open ones around (10, 0)."""

import numpy as np
import pytest
import torch
from torch import nn

from mmseg_opengan.experiments import feature_comparison
from mmseg_opengan.experiments.feature_comparison import (
    FAKE,
    class_of,
    draw_groups,
    find_nearest,
    nearest_of_fakes,
    report,
)
from mmseg_opengan.features.bank import FeatureBank
from mmseg_opengan.features.bank_writer import BankWriter

IDENTITY = dict(
    channels=2,
    closed_classes=['road', 'sky'],
    open_classes=['dog', 'cart'],
)


def write_bank(root, *, images=3, closed=20, open_=6) -> FeatureBank:
    """Images with pixels in rising columns; classes alternate."""
    random = np.random.default_rng(0)
    writer = BankWriter(root, IDENTITY, images_per_shard=2)
    for i in range(images):
        parts = {}
        for group, number, centre in (('closed', closed, 0), ('open', open_, 10)):
            where = np.stack([np.full(number, i), np.arange(number), np.arange(number) % 2], axis=1)
            parts[group] = (
                (random.normal(size=(number, 2)) + np.array([centre, 0])).astype(np.float16),
                where,
            )
        writer.add(f'{i}.png', parts)
    writer.flush()
    return FeatureBank(root)


class Fixed(nn.Module):
    """A generator whose features come from a function of the noise, and a discriminator that finds
    small x closed.
    """

    noise_channels = 2

    def __init__(self, function):
        super().__init__()
        self.function = function
        self.weight = nn.Parameter(torch.zeros(1))

    def forward(self, inputs):
        return self.function(inputs)


D = Fixed(lambda features: 5 - features[:, 0])


def compare(bank, generate, number=12):
    """Groups, and the nearest of the first few."""
    groups = draw_groups(bank, D, Fixed(generate), batch=8)
    return groups, find_nearest(bank, groups, number)


@pytest.fixture(scope='module')
def bank(tmp_path_factory):
    return write_bank(tmp_path_factory.mktemp('bank'))


def test_groups_hold_the_features_of_their_pixels_in_random_order(bank):
    groups = draw_groups(
        bank,
        D,
        Fixed(lambda z: z),
        number=15,
        batch=8,
    )
    everything, pixels = bank.gather('closed', np.arange(60)).float(), bank.pixels('closed')
    for feature, pixel in zip(groups['closed'].features, groups['closed'].pixels):
        assert torch.equal(everything[np.flatnonzero(pixels == pixel)[0]], feature)
    assert len(np.unique(groups['closed'].pixels)) == 15
    assert not np.array_equal(
        np.sort(groups['closed'].pixels['col']), groups['closed'].pixels['col']
    )
    assert torch.equal(groups['closed'].logits, 5 - groups['closed'].features[:, 0])
    assert groups[FAKE].features.shape == (15, 2)
    assert len(groups['open'].logits) == 15


def test_groups_are_a_function_of_the_seed(bank):
    first, again, other = (
        draw_groups(
            bank,
            D,
            Fixed(lambda z: z),
            batch=8,
            seed=seed,
        )
        for seed in (1, 1, 2)
    )
    for name in first:
        assert torch.equal(first[name].features, again[name].features)
        assert not torch.equal(first[name].features, other[name].features)


def test_a_batch_of_noise_goes_through_the_generator_at_once(bank):
    sizes = []
    draw_groups(
        bank,
        D,
        Fixed(lambda z: sizes.append(len(z)) or z),
        number=20,
        batch=8,
    )
    assert sizes == [8, 8, 8]


def test_distances_agree_with_a_search_over_the_whole_bank(bank):
    groups, found = compare(bank, lambda z: z + 5)
    medians = report(groups, found)['distance']
    for name, group in groups.items():
        for stored in ('closed', 'open'):
            rows = bank.gather(stored, np.arange(bank.num_pixels(stored))).double()
            pixels = bank.pixels(stored)
            slow = []
            for i, query in enumerate(group.features[:12].double()):
                own = -1 if group.pixels is None else group.pixels[i]['image']
                slow.append((rows[pixels['image'] != own] - query).abs().sum(1).min())
            expected = np.median(torch.stack(slow))
            found_here = medians[f'{name} to nearest {stored}']['l1']
            assert found_here == pytest.approx(expected, abs=1e-4)


def test_means_are_those_of_the_groups(bank):
    groups, found = compare(bank, lambda z: z)
    numbers = report(groups, found)
    assert numbers['mean_p_closed']['fake'] > 0.9 > 0.1 > numbers['mean_p_closed']['open']
    assert numbers['mean_l2_norm']['open'] == pytest.approx(10, abs=1)


def test_a_collapsed_generator_on_an_open_pixel(bank):
    target = bank.gather('open', np.array([0])).float()  # image 0, first column: a dog
    groups, found = compare(bank, lambda z: target.expand(len(z), 2))
    assert report(groups, found)['distance']['fake to nearest open']['l1'] == 0
    for stored, pixel, distance in nearest_of_fakes(bank, found):
        assert (stored, class_of(bank, stored, pixel), distance) == ('open', 'dog', 0)


def test_blocks_smaller_than_the_bank_change_nothing(bank, monkeypatch):
    """The same neighbours; distances up to rounding: a matrix product's order of summing depends on
    its size.
    """
    _, whole = compare(bank, lambda z: z + 5)
    monkeypatch.setattr(feature_comparison, '_BLOCK', 7)
    _, blocks = compare(bank, lambda z: z + 5)
    assert whole.keys() == blocks.keys()
    for key, nearest in whole.items():
        assert torch.equal(blocks[key].row, nearest.row), key
        torch.testing.assert_close(
            blocks[key].distance,
            nearest.distance,
            rtol=1e-5,
            atol=1e-6,
        )


def test_a_bank_of_one_image_without_open_pixels(tmp_path):
    """Its own pixels have no neighbours."""
    bank = write_bank(tmp_path, images=1, open_=0)
    groups, found = compare(bank, lambda z: z)
    distance = report(groups, found)['distance']
    assert list(distance) == ['closed to nearest closed', 'fake to nearest closed']
    assert np.isnan(list(distance['closed to nearest closed'].values())).all()
    assert distance['fake to nearest closed']['l1'] > 0
    assert {stored for stored, *_ in nearest_of_fakes(bank, found)} == {'closed'}
