"""The tap: a decode-head wrapper that listens for the per-pixel feature while mmseg's own code runs."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

from mmseg.registry import MODELS
from torch import Tensor, nn

from .tap_adapters import Tap, adapter_of


@MODELS.register_module()
class OpenGANHead:
    """Listens to a built decode head; nothing of the head is overridden, renamed or changed.

    ::

        with head.listening() as taps:
            results = segmentor.predict(inputs, samples)

    Args:
        head: the decode head, or the ``ModuleList`` of a cascade, whose last head predicts.
        encoder: the module that the network's input enters first.

    Raises:
        TypeError: no adapter knows this head; see ``tap_adapters.py``.
    """

    def __init__(self, head: nn.Module, encoder: nn.Module):
        heads = list(head) if isinstance(head, nn.ModuleList) else [head]
        self.head = heads[-1]
        self.encoder = encoder
        self.adapter = adapter_of(heads)

    @property
    def channels(self) -> int:
        """Channels of the tapped feature."""
        return self.adapter.channels

    @property
    def num_classes(self) -> int:
        """K, the closed classes (with a class for open pixels, if the segmentor has one)."""
        return self.head.num_classes

    @contextmanager
    def listening(self, on_tap: Callable[[Tap], Any] | None = None, *,
                  resize: bool = True) -> Iterator[list]:
        """A list that gets the tap of each pass that the segmentor makes inside.

        Args:
            on_tap: called with each tap as soon as it is there; its result is kept in place of the
                tap, which takes up to a gigabyte. It may run the segmentor again, unheard.
            resize: False: the head returns its scores on the feature grid, where it can.
        """
        found: list = []
        ear = _Ear(self.adapter, found, on_tap)
        with ExitStack() as stack:
            for handle in (self.encoder.register_forward_pre_hook(ear.hear_inputs),
                           self.adapter.listens_to.register_forward_hook(ear.hear_feature)):
                stack.callback(handle.remove)
            if self.adapter.ends_in_predict_by_feat:
                stack.enter_context(_overheard(self.head, ear, resize))
            else:
                stack.callback(self.head.register_forward_hook(ear.hear_forward).remove)
            yield found


class _Ear:
    """Collects what one pass shows, and makes a tap of it at its end."""

    def __init__(self, adapter, found, on_tap):
        self.adapter = adapter
        self.found = found
        self.on_tap = on_tap
        self.deaf = False
        self.passes: list[tuple] = []
        self.inputs: Tensor | None = None

    def hear_inputs(self, module, args):
        if not self.deaf:
            self.inputs = args[0]
            self.passes.clear()

    def hear_feature(self, module, args, output):
        if not self.deaf:
            self.passes.append((args, output))

    def hear_forward(self, module, args, output):
        self.end(output)

    def end(self, predicted) -> None:
        if self.deaf:
            return
        tap = self.adapter.tap(self.passes, predicted)._replace(inputs=self.inputs)
        self.passes.clear()
        self.inputs = None
        if self.on_tap is None:
            self.found.append(tap)
            return
        self.deaf = True
        try:
            self.found.append(self.on_tap(tap))
        finally:
            self.deaf = False


@contextmanager
def _overheard(head: nn.Module, ear: _Ear, resize: bool):
    """Within it, ``ear`` gets what ``head.predict`` hands to ``predict_by_feat``."""
    own = head.predict_by_feat
    before = head.__dict__.get('predict_by_feat')

    def predict_by_feat(scores, *args, **kwargs):
        ear.end(scores)
        return own(scores, *args, **kwargs) if resize else scores

    head.__dict__['predict_by_feat'] = predict_by_feat
    try:
        yield
    finally:
        if before is None:
            del head.__dict__['predict_by_feat']
        else:
            head.__dict__['predict_by_feat'] = before
