"""Small labelled images for open-set recognition, and a network that learns to classify them.

Shapes: n images (n, C, H, W) uint8, labels (n,) int64; features (n, F), logits (n, K).
"""

from collections.abc import Collection, Sequence
from itertools import pairwise
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np
import torch
from sklearn.datasets import load_digits
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, pad

CLASSES = 10  # that known and unknown ones are drawn from
SHAPE = CLASSES  # the label of a drawn shape
_RECORD = 1 + 3 * 32 * 32  # bytes of CIFAR-10: the label, and the image


class SmallImages(NamedTuple):
    """Attributes:
    images, labels: of ten classes, and of what else is there to be open.
    is_test: (n,) bool, images of the test set.
    sources: two places that open images come from, as labels.
    training: options of :func:`train`.
    """

    images: Tensor
    labels: Tensor
    is_test: Tensor
    sources: dict[str, Collection[int]]
    training: dict


def digits(num_shapes: int = 600) -> SmallImages:
    """scikit-learn's 1,797 digits of 8x8, and drawn shapes. Every third one is a test image."""
    found = load_digits()
    images = np.concatenate([found.images.astype(np.uint8), draw_shapes(num_shapes, seed=0)])
    labels = np.concatenate([found.target, np.full(num_shapes, SHAPE)])
    return SmallImages(
        torch.from_numpy(15 * images)[:, None],
        torch.from_numpy(labels),
        torch.arange(len(labels)) % 3 == 0,
        dict(digits=range(CLASSES), shapes=[SHAPE]),
        dict(widths=(16, 32, 64), epochs=30, shift=1, learning_rate=0.1),
    )


def draw_shapes(number: int, seed: int) -> np.ndarray:
    """(number, 8, 8) uint8 in [0, 16]: polygons of three to five corners, outlined or filled.

    They are made as the digits were: black and white at 32x32, then counted in blocks of 4x4.
    """
    rng = np.random.default_rng(seed)
    canvases = np.zeros((number, 32, 32), np.uint8)
    for canvas in canvases:
        corners = int(rng.integers(3, 6))
        angles = rng.uniform(0, 2 * np.pi) + 2 * np.pi * np.arange(corners) / corners
        radius = rng.uniform(8, 14, (corners, 1))
        polygon = 16 + radius * np.stack([np.cos(angles), np.sin(angles)], axis=1)
        thickness = int(rng.choice([3, cv2.FILLED]))
        cv2.drawContours(canvas, [polygon.round().astype(np.int32)], 0, 1, thickness)
    return canvases.reshape(number, 8, 4, 8, 4).sum(axis=(2, 4), dtype=np.uint8)


def cifar10(root: str | Path) -> SmallImages:
    """CIFAR-10's 60,000 photographs of 32x32, from the files of its binary version.

    Raises:
        FileNotFoundError: one is missing.
        ValueError: a file of another kind.
    """
    paths = [Path(root, f'data_batch_{number}.bin') for number in range(1, 6)]
    records = []
    for path in (*paths, Path(root, 'test_batch.bin')):
        if not path.is_file():
            raise FileNotFoundError(
                f"--data: wanted the binary version of CIFAR-10, found no file '{path}'. "
                'It is at https://www.cs.toronto.edu/~kriz/cifar.html'
            )
        content = np.fromfile(path, np.uint8)
        if len(content) % _RECORD:
            raise ValueError(f"'{path}': wanted records of {_RECORD} bytes, found {len(content)}")
        records.append(content.reshape(-1, _RECORD))
    rows = torch.from_numpy(np.concatenate(records))
    return SmallImages(
        rows[:, 1:].reshape(-1, 3, 32, 32),
        rows[:, 0].long(),
        torch.arange(len(rows)) >= len(rows) - len(records[-1]),
        dict(animals=range(2, 8), vehicles=[0, 1, 8, 9]),
        dict(
            widths=(16, 32, 64, 128),
            epochs=12,
            shift=4,
            flip=True,
            half=True,
        ),
    )


class _Residual(nn.Sequential):
    def forward(self, maps: Tensor) -> Tensor:
        return maps + super().forward(maps)


def _convolution(inside: int, outside: int, stride: int = 1) -> nn.Module:
    convolution = nn.Conv2d(inside, outside, 3, stride, padding=1, bias=False)
    return nn.Sequential(convolution, nn.BatchNorm2d(outside), nn.ReLU(inplace=True))


def train(
    images: Tensor,
    labels: Tensor,
    seed: int,
    *,
    widths: Sequence[int],
    epochs: int,
    shift: int,
    flip: bool = False,
    half: bool = False,
    learning_rate: float = 0.2,
    batch: int = 128,
) -> nn.Sequential:
    """A small residual network, trained from nothing; a seed gives one network.

    Args:
        labels: from 0 to K - 1.
        widths: channels of the stages; the last one is F.
        epochs: passes over the images.
        shift: pixels that an image is moved by, at most.
        flip: mirror every other image.
        half: multiply in bfloat16, which is faster where the processor has it.

    Returns:
        nn.Sequential in eval mode: from images to features, from features to logits.
    """
    steps = len(images) // batch
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        layers = [_convolution(images.shape[1], widths[0])]
        for inside, outside in pairwise(widths):
            layers.append(_convolution(inside, outside, stride=2))
            layers.append(_Residual(_convolution(outside, outside), _convolution(outside, outside)))
        body = nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten())
        network = nn.Sequential(body, nn.Linear(widths[-1], int(labels.max()) + 1))
        network.to(memory_format=torch.channels_last)
        optimizer = torch.optim.SGD(
            network.parameters(), learning_rate, momentum=0.9, nesterov=True, weight_decay=5e-4
        )
        schedule = torch.optim.lr_scheduler.OneCycleLR(
            optimizer, learning_rate, total_steps=steps * epochs
        )
        for _ in range(epochs):
            for rows in torch.randperm(len(images)).split(batch)[:steps]:
                seen = _scaled(_moved(images[rows], shift, flip))
                with torch.autocast('cpu', torch.bfloat16, enabled=half):
                    logits = network(seen)
                loss = cross_entropy(logits.float(), labels[rows])
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
                schedule.step()
    return network.eval()


def _moved(images: Tensor, far: int, flip: bool) -> Tensor:
    """Each image moved by some pixels, black where nothing is left, and perhaps mirrored."""
    number, _, height, width = images.shape
    padded = pad(images, (far, far, far, far))
    top, left = torch.randint(2 * far + 1, (2, number, 1))
    rows, columns = top + torch.arange(height), left + torch.arange(width)
    each = torch.arange(number)[:, None, None]
    moved = padded[each, :, rows[:, :, None], columns[:, None]].permute(0, 3, 1, 2)
    if flip:
        mirrored = torch.rand(number) < 0.5
        moved[mirrored] = moved[mirrored].flip(3)
    return moved


def _scaled(images: Tensor) -> Tensor:
    return images.float() / 127.5 - 1


@torch.no_grad()
def features_of(network: nn.Sequential, images: Tensor) -> Tensor:
    """(n, F) features of images."""
    return torch.cat([network[0](_scaled(part)) for part in images.split(512)])
