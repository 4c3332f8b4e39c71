"""From taps to score maps of images: functions of tensors.

Shapes: (N, h, w) maps of a pass, on the feature grid or at the size of its input.
"""

from collections.abc import Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext

import torch
from mmseg.models.utils import resize
from torch import Tensor

from ..functional.scores import smoothed


def at_size(scores: Tensor, size: Sequence[int], align_corners: bool) -> Tensor:
    """(N, h, w) maps resized to ``size`` (rows, columns) as mmseg resizes logits."""
    if tuple(scores.shape[1:]) == tuple(size):
        return scores
    return resize(
        scores[:, None].float(),
        size=tuple(size),
        mode='bilinear',
        align_corners=align_corners,
        warning=False,
    )[:, 0]


def smoothed_for(scores: Tensor, input_size: Sequence[int], deviation: float) -> Tensor:
    """Maps (N, h, w) of inputs of ``input_size``, smoothed by ``deviation`` pixels of the input."""
    if not deviation:
        return scores
    rows = deviation * scores.shape[1] / input_size[0]
    cols = deviation * scores.shape[2] / input_size[1]
    with in_float32(scores.device):
        return smoothed(scores, (rows, cols))


def window_boxes(
    size: Sequence[int], crop: Sequence[int], stride: Sequence[int]
) -> Iterator[tuple[int, int, int, int]]:
    """(top, bottom, left, right) of mmseg's sliding windows, in its order."""
    starts = []
    for length, window, step in zip(size, crop, stride):
        number = max(length - window + step - 1, 0) // step + 1
        starts.append([max(min(i * step + window, length) - window, 0) for i in range(number)])
    for top in starts[0]:
        for left in starts[1]:
            yield top, min(top + crop[0], size[0]), left, min(left + crop[1], size[1])


def merge_windows(
    windows: list[dict[str, Tensor]],
    boxes: Iterable[tuple[int, int, int, int]],
    size: Sequence[int],
) -> dict[str, Tensor]:
    """Maps of windows by name -> those of the whole input, averaged where windows overlap."""
    boxes = list(boxes)
    merged = {}
    for name, first in windows[0].items():
        total = first.new_zeros((len(first), *size))
        count = first.new_zeros(size)
        for (top, bottom, left, right), maps in zip(boxes, windows, strict=True):
            total[:, top:bottom, left:right] += maps[name]
            count[top:bottom, left:right] += 1
        merged[name] = total / count
    return merged


def in_float32(device: torch.device) -> AbstractContextManager:
    """Ends an autocast around it: distances and small differences are lost in half precision. Where
    there is none it does nothing, as what records a graph would record it.
    """
    if torch.is_autocast_enabled(device.type):
        return torch.autocast(device.type, enabled=False)
    return nullcontext()


def _padding(meta: dict) -> Sequence[int]:
    return meta.get('img_padding_size', meta.get('padding_size', [0] * 4))


def without_padding(size: Sequence[int], meta: dict) -> tuple[int, int]:
    """(rows, columns) of a network's input of ``size`` that are its image's."""
    left, right, top, bottom = _padding(meta)
    return size[0] - top - bottom, size[1] - left - right


def require_whole_image(meta: dict, size: Sequence[int]) -> None:
    """Raise unless a network input of ``size`` is the whole image, resized or as it was.

    ``scale_factor`` is what ``Resize`` has noted; ``ResizeToMultiple`` alone notes ``pad_shape``.
    """
    found = without_padding(size, meta)
    across, down = meta.get('scale_factor') or (1.0, 1.0)
    rows, cols = meta['ori_shape'][:2]
    wanted = (round(rows * down), round(cols * across))
    is_multiple = found == meta.get('pad_shape') == meta.get('img_shape')
    if found == wanted or (is_multiple and found[0] >= wanted[0] and found[1] >= wanted[1]):
        return
    raise ValueError(
        f"'{meta.get('img_path')}': wanted the whole image of {rows}x{cols} as "
        f'{wanted[0]}x{wanted[1]}, by its scale_factor, found {found[0]}x{found[1]} (height x '
        'width). A step of the pipeline crops, pads or moves it (Pad, CenterCrop, RandomCrop, a '
        'step of your own): leave it out, or let Resize alone change the size.'
    )


def to_original_size(
    scores: Tensor, meta: dict, size: Sequence[int], align_corners: bool
) -> Tensor:
    """(1, H, W) padded map -> (1, *ori_shape), in the steps in which mmseg treats logits."""
    left, right, top, bottom = _padding(meta)
    scores = scores[:, top : size[0] - bottom, left : size[1] - right]
    if meta.get('flip'):
        scores = scores.flip(dims=(2 if meta['flip_direction'] == 'horizontal' else 1,))
    return at_size(scores, meta['ori_shape'][:2], align_corners)


def require_plain(meta: dict, size: Sequence[int]) -> None:
    """Raise unless an image was not resized, padded or flipped: its feature grid is the map's."""
    padded = any(_padding(meta))
    flipped = bool(meta.get('flip'))
    if padded or flipped or tuple(meta['ori_shape'][:2]) != tuple(size):
        raise ValueError(
            f"resolution='feature' needs images that are not resized, padded or flipped; "
            f'{meta.get("img_path", "one")} has ori_shape {tuple(meta["ori_shape"][:2])}, network '
            f"input {tuple(size)}, flip {flipped}, padded {padded}. Use resolution='image'."
        )
