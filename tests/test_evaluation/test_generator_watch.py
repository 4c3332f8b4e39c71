"""Generated against closed pixels at every validation: the number is scikit-learn's."""

from copy import deepcopy

import pytest
import torch
from mmengine.hooks import Hook
from sklearn.metrics import roc_auc_score
from tiny_cityscapes import write_images, write_segmentor
from tiny_training import runner

from mmseg_opengan.contracts import CLOSED, GT_OPEN_MAP, OPEN_SCORES, OPENGAN
from mmseg_opengan.functional.detection import auroc_error_bound
from mmseg_opengan.functional.score_counts import ScoreCounts

NUM_FAKE, SEED = 300, 5
HOOKS = [
    dict(type='OpenGANHook'),
    dict(
        type='FakeVersusRealHook',
        num_fake=NUM_FAKE,
        seed=SEED,
    ),
]


class Reference(Hook):
    """Keeps what was logged, the scores and which are open, of every validation."""

    priority = 'LOWEST'

    def __init__(self):
        self.closed, self.found = [], []

    def after_val_iter(self, runner, batch_idx, data_batch=None, outputs=None):
        for sample in outputs:
            scores, labels = (
                sample.get(OPEN_SCORES).get(OPENGAN)[0].cpu(),
                sample.get(GT_OPEN_MAP).data[0].cpu(),
            )
            stride = len(labels) // len(scores)
            self.closed.append(scores[labels[::stride, ::stride] == CLOSED])

    def after_val_epoch(self, runner, metrics=None):
        generator = deepcopy(runner.model.generator).train()
        noise = torch.randn(
            NUM_FAKE, generator.noise_channels, generator=torch.Generator().manual_seed(SEED)
        )
        with torch.no_grad():
            fake = -runner.model.discriminator(
                generator(noise.to(next(generator.parameters()).device))
            )
        scores = torch.cat([*self.closed, fake.cpu()])
        self.found.append(
            (metrics['fake/AUROC'], scores, torch.arange(len(scores)) >= len(scores) - NUM_FAKE)
        )
        self.closed = []


def test_fake_auroc_is_that_of_pixels_as_training_generates_them(tmp_path):
    write_images(tmp_path / 'world', 7)
    write_segmentor(tmp_path / 'segmentor.pth')
    made = runner(
        tmp_path,
        tmp_path / 'run',
        custom_hooks=HOOKS,
        **{
            'model.resolution': 'image',
            'val_dataloader.dataset.num_open_val': 3,
            'train_cfg.max_iters': 2,
            'train_cfg.val_interval': 1,
        },
    )
    last = made.model.generator.layers[-2]
    torch.nn.init.normal_(last.weight, std=4)  # fakes that D does not tell at once
    last.bias.data = torch.tensor([3.0, 12.0, 16.0]).to(last.bias)
    reference = Reference()
    made.register_hook(reference)
    made.train()
    assert len(reference.found) == 2
    for value, scores, is_open in reference.found:
        counts = ScoreCounts(num_open_classes=1)
        counts.update(scores, is_open)
        assert value == pytest.approx(
            roc_auc_score(is_open, scores), abs=auroc_error_bound(counts.bins()) + 1e-12
        )
