"""Predicting from a tap that was stored: all runs as ever but the backbone and the head's convolutions."""

import torch
from torch import Tensor

from ..contracts import TAP_FEATURES, TAP_LOGITS
from .opengan_head import Tap


class StoredTapMixin:
    """Takes the tap from the batch where there is one; mix in between ``OpenSetMixin`` and mmseg's segmentor.

    Results are those of the ordinary prediction, bit for bit: preprocessing, resizing, scorers and D still run, and
    read the stored tensors where the segmentor would have made them.
    """

    _stored = None

    @torch.no_grad()
    def extract_tap(self, image: Tensor, sample) -> Tap:
        """Tap, features (1, C, h, w) and logits (1, K, h, w), of one raw image (3, H, W) and its data sample."""
        batch = self.data_preprocessor(dict(inputs=[image], data_samples=[sample]), training=False)
        return self.extract_taps(batch['inputs'])

    def val_step(self, data):
        return self._predict(super().val_step, data)

    def test_step(self, data):
        return self._predict(super().test_step, data)

    def _predict(self, step, data):
        """``step`` of a batch, with the tap that lies in it, if any: one tensor (C, h, w) per image under each key."""
        keys = (TAP_FEATURES, TAP_LOGITS)
        if TAP_FEATURES in data:
            if self.test_cfg.get('mode', 'whole') != 'whole':
                raise ValueError("Stored features belong to whole images: wanted test_cfg.mode='whole', found "
                                 f"{self.test_cfg.mode!r}")
            device = next(self.parameters()).device
            self._stored = Tap(*(torch.stack(list(data[key])).to(device) for key in keys))
        try:
            return step({key: value for key, value in data.items() if key not in keys})
        finally:
            self._stored = None

    def encode_decode(self, inputs, batch_img_metas):
        if self._stored is None:
            return super().encode_decode(inputs, batch_img_metas)
        self.tap_head.give_tap(self._stored)
        return self.tap_head.predict_by_feat(self._stored.logits, batch_img_metas)
