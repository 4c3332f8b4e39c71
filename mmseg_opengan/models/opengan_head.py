"""The tap: a decode-head wrapper that listens for the per-pixel feature while mmseg's own code
runs.
"""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from mmseg.registry import MODELS
from torch import Tensor, nn

from .tap_adapters import Tap, adapter_of


@MODELS.register_module()
class OpenGANHead:
    """Listens to a built decode head, whose own code runs as it is.

    ::

        with head.listening() as taps:
            results = segmentor.predict(inputs, samples)

    Each thread hears its own passes alone. A copy of the head, or one from a pickle, listens to
    nothing yet.

    Args:
        head: the decode head, or the ``ModuleList`` of a cascade, whose last head predicts.
        encoder: the module that the network's input enters first.

    Raises:
        TypeError: no adapter knows this head; see ``tap_adapters.py``.
    """

    def __init__(self, head: nn.Module, encoder: nn.Module):
        heads: list[Any] = list(head) if isinstance(head, nn.ModuleList) else [head]
        self.head = heads[-1]
        self.encoder = encoder
        self.adapter = adapter_of(heads)
        self._here = _OfThread()
        # Once and for all: torch.compile cannot trace the coming and going of hooks.
        encoder.register_forward_pre_hook(self._hear_inputs)
        self.adapter.listens_to.register_forward_hook(self._hear_feature)
        if self.adapter.ends_in_predict_by_feat:
            self._own_predict_by_feat = self.head.predict_by_feat
            self.head.predict_by_feat = self._predict_by_feat
        else:
            self.head.register_forward_hook(self._hear_forward)

    @property
    def channels(self) -> int:
        """Channels of the tapped feature."""
        return self.adapter.channels

    @property
    def num_classes(self) -> int:
        """K, the closed classes (with a class for open pixels, if the segmentor has one)."""
        return self.head.num_classes

    @contextmanager
    def listening(
        self, on_tap: Callable[[Tap], Any] | None = None, *, resize: bool = True
    ) -> Iterator[list]:
        """A list that gets the tap of each pass that the segmentor makes inside.

        Args:
            on_tap: called with each tap as soon as it is there; its result is kept in place of the
                tap, which takes up to a gigabyte. It may run the segmentor again, unheard.
            resize: False: the head returns its scores on the feature grid, where it can.
        """
        before = self._here.ear
        self._here.ear = ear = _Ear(on_tap, resize)
        try:
            yield ear.found
        finally:
            self._here.ear = before

    # ------------------------------------------------------------------ what one pass shows

    def _hear_inputs(self, module: nn.Module, args: tuple) -> None:
        ear = self._here.ear
        if ear is not None:
            ear.inputs = args[0]
            ear.passes = []

    def _hear_feature(self, module: nn.Module, args: tuple, output: Any) -> None:
        ear = self._here.ear
        if ear is not None:
            ear.passes.append((args, output))

    def _hear_forward(self, module: nn.Module, args: tuple, output: Any) -> None:
        self._end(output)

    def _predict_by_feat(self, scores: Any, *args: Any, **kwargs: Any) -> Any:
        ear = self._here.ear
        self._end(scores)
        if ear is not None and not ear.resize:
            return scores
        return self._own_predict_by_feat(scores, *args, **kwargs)

    def _end(self, predicted: Any) -> None:
        """A pass is over: make a tap of what it has shown."""
        ear = self._here.ear
        if ear is None:
            return
        tap = self.adapter.tap(ear.passes, predicted)._replace(inputs=ear.inputs)
        ear.passes = []
        ear.inputs = None
        if ear.on_tap is None:
            ear.found.append(tap)
            return
        self._here.ear = None  # what runs in between is another pass
        try:
            ear.found.append(ear.on_tap(tap))
        finally:
            self._here.ear = ear


class _Ear:
    """What is wanted of the passes inside one ``listening``, and what they have shown so far."""

    def __init__(self, on_tap: Callable[[Tap], Any] | None, resize: bool):
        self.on_tap = on_tap
        self.resize = resize
        self.found: list = []
        self.passes: list[tuple[tuple, Any]] = []
        self.inputs: Tensor | None = None


class _OfThread(threading.local):
    """The ear of the thread that asks; None where it does not listen."""

    def __init__(self) -> None:  # by each thread; torch.compile guards that it is there
        self.ear: _Ear | None = None

    def __reduce__(self) -> tuple:
        return _OfThread, ()
