"""Evaluation protocols by name. A name in a report guarantees what it stands for."""

from typing import Any

from mmengine.config import Config

from ..provenance import differences

#: What has to be the same before two numbers may be compared; see docs/evaluation.md. The paper's
#: numbers pool the pixels of the 256 x 512 feature grids of the 500 Cityscapes validation images.
PROTOCOLS = dict(
    paper=dict(
        label_policy='cityscapes/paper',
        resolution='feature',
        mode='whole',
    )
)


def check_protocol(name: str, **found: Any) -> None:
    """Raise a ValueError that names every difference unless ``found`` is the protocol of this
    name.
    """
    wrong = differences(PROTOCOLS[name], found)
    if wrong:
        raise ValueError(f"protocol '{name}': {'; '.join(wrong)}")


def use_protocol(cfg: Config, name: str) -> None:
    """Set a test config to a protocol, whatever it said before; the metric then checks that it is
    followed.
    """
    protocol = PROTOCOLS[name]
    cfg.model.resolution = protocol['resolution']
    cfg.model.test_cfg = dict(mode=protocol['mode'])
    data, policy = protocol['label_policy'].split('/')
    for loader in ('val_dataloader', 'test_dataloader'):
        dataset = (cfg.get(loader) or {}).get('dataset', {})
        if 'policy' in dataset and data in dataset.type.lower():
            dataset.policy = policy
    cfg.test_evaluator.protocol = name
