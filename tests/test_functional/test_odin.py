"""ODIN's step against finite differences."""

import pytest
import torch

from mmseg_opengan.functional.odin import perturbed


@pytest.mark.parametrize('temperature', [1.0, 10.0])
def test_the_step_raises_the_confidence_of_what_is_predicted(temperature):
    generator = torch.Generator().manual_seed(0)
    first, second = (
        torch.randn(shape, generator=generator, dtype=torch.float64)
        for shape in ((6, 3, 3, 3), (4, 6, 1, 1))
    )
    inputs = torch.randn(1, 3, 5, 6, generator=generator, dtype=torch.float64)

    def classify(images):
        return torch.conv2d(torch.conv2d(images, first, padding=1, stride=2).tanh(), second)

    def confidence(images):
        return torch.log_softmax(classify(images) / temperature, dim=1).amax(1).sum().item()

    step = (perturbed(inputs, classify, temperature, 0.01) - inputs) / 0.01
    for at in torch.randperm(inputs.numel(), generator=generator)[:30].tolist():
        move = torch.zeros_like(inputs)
        move.view(-1)[at] = 1e-4
        slope = (confidence(inputs + move) - confidence(inputs - move)) / 2e-4
        assert abs(slope) > 1e-7
        # minus the sign of the gradient of -log: up the slope of the confidence
        assert step.flatten()[at].item() == pytest.approx(1 if slope > 0 else -1)


def test_no_gradient_and_no_trace_is_left():
    inputs, weight = torch.randn(1, 3, 4, 4), torch.randn(5, 3, 1, 1)
    before = inputs.clone()
    with torch.no_grad():
        found = perturbed(inputs, lambda images: torch.conv2d(images, weight), 1.0, 0.1)
    assert torch.equal(inputs, before)
    assert not found.requires_grad
    assert inputs.grad is None
