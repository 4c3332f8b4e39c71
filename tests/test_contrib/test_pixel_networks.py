"""D and G on images: sizes as in the paper, where each cell looks, ranges, and gradients."""

import numpy as np
import pytest
import torch

from mmseg_opengan.contrib.pixel_networks import (
    LARGEST,
    PatchDiscriminator,
    PatchGenerator,
    open_map,
)


def small(**options):
    torch.manual_seed(0)
    return PatchDiscriminator(width=4, **options)


def megabytes(network):
    return sum(p.numel() for p in network.parameters()) * 4 / 1e6


def test_sizes_are_the_papers():
    """Section 6.2: about 14 MB and 11 MB."""
    discriminator = PatchDiscriminator()
    generator = PatchGenerator()
    counts = [
        sum(p.numel() for p in network.parameters()) for network in (discriminator, generator)
    ]
    assert counts == [2_764_737, 3_576_707]
    assert round(megabytes(discriminator)) == 11
    assert round(megabytes(generator)) == 14


@pytest.mark.parametrize(
    ('size', 'cells'), [((64, 96), (8, 12)), ((50, 70), (7, 9)), ((16, 17), (2, 3))]
)
def test_any_size_gives_a_logit_for_each_pixel(size, cells):
    images = torch.randn(2, 3, *size)
    assert small(norm='none').cells(images).shape == (2, *cells)
    assert small(norm='none')(images).shape == (2, *size)


def test_a_cell_sees_70_pixels_around_its_own_eight():
    """Cell (i, j) is centred on pixels 8i ... 8i + 7: 31 more on either side."""
    image = torch.randn(1, 3, 160, 160, requires_grad=True)
    small(norm='none').cells(image)[0, 10, 11].backward()
    for axis, cell in ((1, 10), (2, 11)):
        seen = image.grad[0].abs().sum((0, 3 - axis)).nonzero()[:, 0]
        assert (int(seen[0]), int(seen[-1])) == (8 * cell - 31, 8 * cell + 7 + 31)
        assert len(seen) == 70


def test_pixels_are_interpolated_between_the_centres_of_cells():
    """Slow bilinear look-up at pixel (r, c), whose place among cells is ((r + .5) / 8 - .5, (c +
    .5) / 8 - .5).
    """
    network = small()
    images = torch.randn(1, 3, 32, 48)
    with torch.no_grad():
        cells = network.cells(images)[0].numpy()
        found = network(images)[0].numpy()
    for row, col in ((0, 0), (4, 11), (19, 30), (31, 47)):
        places = [np.clip((p + 0.5) / 8 - 0.5, 0, n - 1) for p, n in ((row, 4), (col, 6))]
        low = [int(place) for place in places]
        high = [min(one + 1, n - 1) for one, n in zip(low, (4, 6))]
        a, b = (place - one for place, one in zip(places, low))
        wanted = 0
        for r, weight_r in ((low[0], 1 - a), (high[0], a)):
            for c, weight_c in ((low[1], 1 - b), (high[1], b)):
                wanted += weight_r * weight_c * cells[r, c]
        assert found[row, col] == pytest.approx(wanted, abs=1e-5)


def test_each_image_is_judged_by_itself():
    network = small()
    images = torch.randn(3, 3, 32, 40)
    alone = torch.cat([network(image[None]) for image in images])
    torch.testing.assert_close(network(images), alone)
    torch.testing.assert_close(open_map(network, images), -alone)


@pytest.mark.parametrize('grid', [(1, 1), (2, 4)])
def test_noise_becomes_an_image_within_the_range_of_normalised_ones(grid):
    torch.manual_seed(0)
    generator = PatchGenerator(width=4, noise_channels=5)
    made = generator(10 * torch.randn(2, 5, *grid))
    assert made.shape == (2, 3, 16 * (grid[0] + 3), 16 * (grid[1] + 3))
    assert made.abs().max() <= LARGEST
    usual = (
        torch.tensor([[0.0], [255.0]])
        .sub(torch.tensor([123.675, 116.28, 103.53]))
        .div(torch.tensor([58.395, 57.12, 57.375]))
    )
    assert usual.abs().max() == pytest.approx(LARGEST, abs=0.01)


def test_gradients_reach_every_weight():
    torch.manual_seed(0)
    discriminator = small()
    generator = PatchGenerator(width=4, noise_channels=5)
    discriminator(generator(torch.randn(4, 5, 1, 1))).sigmoid().log().mean().backward()
    for name, parameter in [*discriminator.named_parameters(), *generator.named_parameters()]:
        assert parameter.grad is not None, name
    # instance norm takes away what a bias before it adds
    assert all(
        p.grad.abs().sum() > 0
        for net in (discriminator, generator)
        for p in net.parameters()
        if p.dim() > 1
    )


def test_weights_start_as_in_cyclegan():
    torch.manual_seed(0)
    for network in (PatchDiscriminator(), PatchGenerator()):
        weights = torch.cat([p.detach().flatten() for p in network.parameters() if p.dim() == 4])
        assert weights.std() == pytest.approx(0.02, rel=0.01)
        assert weights.mean().abs() < 1e-4


def test_what_is_no_image_is_refused():
    with pytest.raises(
        ValueError, match=r'wanted images of shape \(N, 3, H, W\), found \(2, 4, 16, 16\)'
    ):
        small()(torch.zeros(2, 4, 16, 16))
    with pytest.raises(ValueError, match=r"norm: wanted one of .*found 'batch'"):
        small(norm='batch')
