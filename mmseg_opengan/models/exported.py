"""The open-set model as one plain function of an image: what is exported to other runtimes.

Shapes: N images of H x W pixels, K closed classes.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from mmseg.models.utils import Upsample, resize
from torch import Tensor, nn

from .open_set_segmentor import OpenSetSegmentor, meta_of


class ExportedModel(nn.Module):
    """Raw images (N, 3, H, W), RGB from 0 to 255, to labels and one score, both of their size.

    ``forward`` has no step that depends on N, H or W: a graph recorded from it fits all of them.

    Args:
        model: in eval mode, ``resolution='image'``.
        score: the name of one of its score maps.

    Raises:
        ValueError: no such score, or an option of the model that a graph cannot have.
    """

    def __init__(self, model: OpenSetSegmentor, score: str):
        super().__init__()
        _require_one_graph(model, score)
        self.model = model
        self.segmentor = model.segmentor  # the model keeps it out of its own modules
        self.score = score
        self.is_logit = model.score_names[score]
        only = {name: scorer for name, scorer in model.scorers.items() if name == score}
        model.scorers = nn.ModuleDict(only).eval()

    @property
    def outputs(self) -> tuple[str, ...]:
        """The names of what ``forward`` returns."""
        names = ('labels', 'score')
        return (*names, 'probability') if self.is_logit else names

    def forward(self, image: Tensor) -> tuple[Tensor, ...]:
        """Labels (N, H, W) int32; scores (N, H, W), larger = more open; of an open logit its
        sigmoid too, the probability of open.
        """
        inputs = self._preprocessed(image)
        size = inputs.shape[2:]
        model = self.model
        with model.head.listening(resize=False) as taps:
            self.segmentor.encode_decode(inputs, [meta_of(inputs)])
        logits = resize(taps[0].logits, size, mode='bilinear', align_corners=model.align_corners)
        maps = {**model.maps_of_pass(taps[0]), **model.score_logits(logits, size)}
        closed = logits[:, :-1] if model.has_open_class else logits
        labels = closed.argmax(dim=1).to(torch.int32)
        score = maps[self.score]
        return (labels, score, score.sigmoid()) if self.is_logit else (labels, score)

    def _preprocessed(self, image: Tensor) -> Tensor:
        """What mmseg's data preprocessor makes of the image, which the test pipeline reads as
        BGR.
        """
        before: Any = self.model.data_preprocessor
        inputs = image.float()
        if not before.channel_conversion:
            inputs = inputs.flip(1)
        if before._enable_normalize:
            inputs = (inputs - before.mean) / before.std
        return inputs


def _require_one_graph(model: OpenSetSegmentor, score: str) -> None:
    known = sorted(model.score_names)
    if score not in known:
        raise ValueError(f'score: wanted one of {known}, found {score!r}')
    reads_image = score in model.scorers and model.scorers[score].reads == 'image'
    padding = model.data_preprocessor.test_cfg
    for wanted, fault in (
        ("test_cfg.mode 'whole'", model.slides and "'slide'"),
        ('model.smoothing 0', model.smoothing),
        ('no padding by the data preprocessor', padding and f'test_cfg={dict(padding)}'),
        ('a head with a logit for each class', model.head.adapter.gives_class_scores and 'masks'),
        ('a score of features or logits', reads_image and f'{score!r}'),
    ):
        if fault:
            raise ValueError(f'export: wanted {wanted}, found {fault}')


@contextmanager
def sizes_as_symbols() -> Iterator[None]:
    """mmseg's ``Upsample`` without Python numbers: its own makes the size of the traced image a
    constant of the graph.
    """
    own = Upsample.forward
    Upsample.forward = _upsampled
    try:
        yield
    finally:
        Upsample.forward = own


def _upsampled(module: Upsample, maps: Tensor) -> Tensor:
    size = module.size
    if not size:
        factor = module.scale_factor
        size = [torch.sym_int(length * int(factor)) for length in maps.shape[-2:]]
    return resize(maps, size, None, module.mode, module.align_corners)
