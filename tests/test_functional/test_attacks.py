"""Attacks on a small convolutional network."""

import pytest
import torch

from mmseg_opengan.functional.attacks import attacked


@pytest.fixture(scope='module')
def network():
    torch.manual_seed(0)
    return torch.nn.Sequential(
        torch.nn.Conv2d(3, 6, 3), torch.nn.BatchNorm2d(6), torch.nn.Tanh(), torch.nn.Conv2d(6, 1, 1)
    ).eval()


@pytest.fixture
def image():
    generator = torch.Generator().manual_seed(1)
    image = torch.randint(0, 256, (3, 12, 14), generator=generator).float()
    image[:, :3], image[:, -3:] = 0, 255
    return image


def objective_of(network):
    return lambda image: network(image[None] / 60 - 2).sum()


@pytest.mark.parametrize(('epsilon', 'steps', 'step_size'), [(4, 1, 4), (4, 5, 2), (1, 5, 0.5)])
def test_an_attack_raises_its_objective_inside_ball_and_grey_levels(
    epsilon, steps, step_size, network, image
):
    options = dict(epsilon=epsilon, steps=steps, step_size=step_size)
    before = {name: value.clone() for name, value in network.state_dict().items()}
    given, objective = image.clone(), objective_of(network)
    found = attacked(image, objective, **options)
    assert objective(found) > objective(image)
    assert (found - image).abs().max() == epsilon
    assert found.min() >= 0
    assert found.max() <= 255
    assert torch.equal(found, attacked(image, objective, **options))
    assert torch.equal(image, given)
    assert not found.requires_grad
    for name, value in network.state_dict().items():
        assert torch.equal(value, before[name])
    assert all(weight.grad is None for weight in network.parameters())


def test_one_step_is_fgsm_written_out(network, image):
    objective = objective_of(network)
    followed = image.clone().requires_grad_()
    objective(followed).backward()
    expected = (image + 3 * followed.grad.sign()).clamp(0, 255)
    with torch.no_grad():  # as in a test
        assert torch.equal(
            attacked(
                image,
                objective,
                epsilon=3,
                steps=1,
                step_size=3,
            ),
            expected,
        )
    network.zero_grad()


def test_five_steps_are_stronger_than_one(network, image):
    objective = objective_of(network)
    one, five = (
        attacked(image, objective, epsilon=8, steps=steps, step_size=size)
        for steps, size in ((1, 8), (5, 4))
    )
    assert objective(five) > objective(one)


def test_an_objective_without_pixels_moves_nothing(network, image):
    def objective(moved):
        return network(moved[None])[torch.zeros(1, 1, 10, 12, dtype=torch.bool)].sum()

    assert torch.equal(
        attacked(
            image,
            objective,
            epsilon=4,
            steps=2,
            step_size=4,
        ),
        image,
    )


def test_a_gradient_that_is_no_number_is_told(image):
    with pytest.raises(ValueError, match='wanted a finite gradient at every pixel, found NaN'):
        attacked(
            image,
            lambda moved: moved.log().sum(),
            epsilon=1,
            steps=1,
            step_size=1,
        )
