"""Evaluation protocols by name. A name in a report guarantees what it stands for."""

from typing import NamedTuple

from mmengine.config import Config


class Protocol(NamedTuple):
    """What has to be the same before two numbers may be compared; see docs/evaluation.md.

    Attributes:
        label_policy: which pixels are closed, open and void.
        resolution: ``'feature'`` or ``'image'``.
        mode: ``'whole'`` or ``'slide'``.
    """

    label_policy: str | None
    resolution: str
    mode: str | None


#: The paper's numbers pool the pixels of the 256 x 512 feature grids of the 500 Cityscapes
#: validation images.
PROTOCOLS = dict(
    paper=Protocol(label_policy='cityscapes/paper', resolution='feature', mode='whole')
)


def check_protocol(name: str, found: Protocol) -> None:
    """Raise a ValueError that names every difference unless ``found`` is the protocol of this
    name.
    """
    wrong = [
        f'{field} {wanted!r}, found {value!r}'
        for field, wanted, value in zip(Protocol._fields, PROTOCOLS[name], found, strict=True)
        if wanted != value
    ]
    if wrong:
        raise ValueError(f"protocol '{name}': wanted " + '; '.join(wrong))


def use_protocol(cfg: Config, name: str) -> None:
    """Set a test config to a protocol, whatever it said before; the metric then checks that it is
    followed.

    Raises:
        ValueError: no such protocol.
    """
    if name not in PROTOCOLS:
        raise ValueError(f'protocol: wanted one of {tuple(PROTOCOLS)}, found {name!r}')
    protocol = PROTOCOLS[name]
    cfg.model.resolution = protocol.resolution
    cfg.model.test_cfg = dict(mode=protocol.mode)
    assert protocol.label_policy is not None  # only of what a run follows
    dataset, policy = protocol.label_policy.split('/')
    for loader in ('val_dataloader', 'test_dataloader'):
        if (
            loader in cfg
            and 'policy' in cfg[loader].dataset
            and dataset in cfg[loader].dataset.type.lower()
        ):
            cfg[loader].dataset.policy = policy
    cfg.test_evaluator.protocol = name
