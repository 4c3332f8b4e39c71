"""Own images and labels, whose meaning stands in the config: no Python module is needed."""

import colorsys
import re
from collections.abc import Mapping, Sequence

import mmengine.fileio as fileio
import numpy as np
import yaml
from mmseg.registry import DATASETS

from ..contracts import IGNORE, MAX_OPEN_CLASSES
from ..files import text_of
from .label_map import LabelMap, meaning_of_ids
from .open_set_dataset import OpenSetDataset

VOID_NAME = 'void'
#: What a file may hold that is more than the mapping of ids.
_PARTS = ('ids', 'classes', 'open_classes', 'palette')
_COLOUR = re.compile('#[0-9a-fA-F]{6}')
_MERGED_KEY = 'tag:yaml.org,2002:merge'


@DATASETS.register_module()
class OpenSetFolder(OpenSetDataset):
    """Images and labels of the same name in two folders; the config says what each id is.

    A sample's two maps are (1, H, W) uint8 with the values of ``contracts.py``; H, W are the size
    of the image. ::

        dict(type='OpenSetFolder', data_root='data/mine', pipeline=pipeline,
             data_prefix=dict(img_path='images/train', seg_map_path='labels/train'),
             classes=('road', 'car'), open_classes=('animal',),
             ids={0: 'road', 1: 'car', 7: 'animal', 255: 'void'})

    Args:
        data_root: folder of the data set.
        ids: every id that occurs in a label file -> a closed class, an open class, or ``'void'``.
            Several ids may be one class. Ids are 0 to 255, or '#rrggbb' where label files are RGB.
            Or the path of a YAML or JSON file that holds this mapping, or a mapping with ``ids``
            and any of ``classes``, ``open_classes``, ``palette``. A relative path starts at the
            working directory.
        classes: names of the closed classes, in the order of the segmentor's outputs. None takes
            those of the file.
        open_classes: names of the open classes; () where there are none. None takes those of the
            file.
        palette: a colour (r, g, b) for each closed class. None takes those of the file, or makes
            them up.
        data_prefix: folders of images and labels below ``data_root``: ``img_path``,
            ``seg_map_path``. None is ``images`` and ``labels``.
        img_suffix, seg_map_suffix: ends of the names of images and labels.
        ann_file: the images to keep: a list of stems, or a file with one per line. '' keeps all.
        policy: what results call this reading of the labels; a digest of the ids is added.
        ignore_open: open classes to make void, e.g. to leave a kind out of training.
        **kwargs: as for :class:`OpenSetDataset`, such as ``num_open_images``.

    Raises:
        FileNotFoundError: a folder, a label, the split file or the file of ids is missing.
        TypeError: names or stems that are no list of strings, or ``ids`` that is no mapping.
        ValueError: an id out of range, given twice or of an unknown name, ids of two kinds, a class
            without an id or given twice, a colour that is none, or a file that cannot be read.
    """

    def __init__(
        self,
        *,
        data_root: str,
        ids: Mapping[int | str, str] | str,
        classes: Sequence[str] | None = None,
        open_classes: Sequence[str] | None = None,
        palette: Sequence | None = None,
        data_prefix: dict | None = None,
        img_suffix: str = '.jpg',
        seg_map_suffix: str = '.png',
        ann_file: str | Sequence[str] = '',
        policy: str = 'own',
        ignore_open=(),
        **kwargs,
    ):
        where = 'ids'
        if isinstance(ids, str):
            where = f"ids '{ids}'"
            given = dict(
                classes=classes,
                open_classes=open_classes,
                palette=palette,
            )
            meaning = _meaning_in(ids, given)
            ids, classes, open_classes, palette = (meaning[part] for part in _PARTS)
        labels = label_map_of(classes, open_classes, ids, policy, where).ignoring(ignore_open)
        number = len(labels.closed_classes)
        if palette is None:
            palette = made_up_palette(number)
        _check_palette(palette, number)
        self._stems = None if isinstance(ann_file, str) else _strings('ann_file', ann_file)
        super().__init__(
            data_root=data_root,
            labels=labels,
            img_suffix=img_suffix,
            seg_map_suffix=seg_map_suffix,
            data_prefix=data_prefix or dict(img_path='images', seg_map_path='labels'),
            ann_file=ann_file,
            **kwargs,
        )
        self._metainfo.update(
            classes=labels.closed_classes, palette=[list(colour) for colour in palette]
        )

    def load_data_list(self) -> list[dict]:
        return self._pairs(self._draw(self._images()))

    def _join_prefix(self):
        """As in mmengine; a list of stems is no path."""
        if self._stems is not None:
            self.ann_file = ''
        super()._join_prefix()
        if self._stems is not None:
            self.ann_file = f'(list of {len(self._stems)} stems)'  # for errors

    def _listed(self) -> list[str]:
        return super()._listed() if self._stems is None else list(self._stems)


class ColourLabels(LabelMap):
    """A label map of RGB files alone: here a number in a file of one channel means nothing."""

    def split(self, raw: np.ndarray, source: str) -> tuple[np.ndarray, np.ndarray]:
        """As :meth:`LabelMap.split`; a file of one channel is a ValueError."""
        if raw.ndim == 2:
            raise ValueError(
                f"Label file '{source}': wanted an RGB image, as the ids are colours, found one "
                'channel of ids. Store it as RGB, or give ids as numbers.'
            )
        return super().split(raw, source)


def label_map_of(
    classes: Sequence[str],
    open_classes: Sequence[str],
    ids: Mapping,
    policy: str,
    where: str = 'ids',
) -> LabelMap:
    """The label map of class names and ids; see :class:`OpenSetFolder` for arguments and errors.

    ``where`` is what errors call ``ids``.
    """
    classes = _strings('classes', classes)
    open_classes = _strings('open_classes', open_classes)
    known = [*classes, *open_classes, VOID_NAME]
    twice = sorted({name for name in known if known.count(name) > 1})
    if twice:
        raise ValueError(
            f"classes, open_classes: wanted each name once, and no class called '{VOID_NAME}', "
            f'found {twice} twice'
        )
    if not 1 <= len(classes) <= IGNORE or len(open_classes) > MAX_OPEN_CLASSES:
        raise ValueError(
            f'classes, open_classes: wanted at least one closed and at most {IGNORE} closed and '
            f'{MAX_OPEN_CLASSES} open classes, found {len(classes)} and {len(open_classes)}'
        )
    if not isinstance(ids, Mapping):
        raise TypeError(
            f"{where}: wanted a mapping such as {{0: 'road', 255: 'void'}}, found "
            f'{type(ids).__name__}'
        )
    names = {}
    for key, name in ids.items():
        number = _id_of(key, where)
        if number in names:
            raise ValueError(f'{where}: wanted each id once, found {key} twice')
        names[number] = name
    unknown = sorted({str(name) for name in names.values() if name not in known})
    if unknown:
        raise ValueError(f'{where}: wanted names out of {known}, found {unknown}')
    unused = [name for name in (*classes, *open_classes) if name not in names.values()]
    if unused:
        raise ValueError(f'{where}: wanted an id for every class, found none for {unused}')
    colours = sorted(key for key in names if isinstance(key, tuple))
    if not colours:
        return meaning_of_ids(policy, classes, open_classes, names)
    if len(colours) < len(names) or len(colours) > 256:
        raise ValueError(
            f'{where}: wanted ids of one kind, numbers or at most 256 colours, found '
            f'{len(colours)} colours and {len(names) - len(colours)} numbers'
        )
    # In the order of the colours, so that the digest does not depend on the order in the config.
    rows = {row: names[colour] for row, colour in enumerate(colours)}
    tables = vars(meaning_of_ids(policy, classes, open_classes, rows))
    return ColourLabels(**{**tables, 'colours': np.array(colours, np.uint8)})


class _EachKeyOnce(yaml.SafeLoader):
    """Plain YAML, and JSON with it, whose keys are the texts that stand there: ``010`` is no octal
    number.

    Attributes:
        twice: keys that one mapping has twice.
    """

    def __init__(self, text: str):
        super().__init__(text)
        self.twice: list[str] = []

    def compose_mapping_node(self, anchor):
        node = super().compose_mapping_node(anchor)
        seen = set()
        for key, _ in node.value:
            if not isinstance(key, yaml.ScalarNode) or key.tag == _MERGED_KEY:
                continue
            if key.value in seen:
                self.twice.append(key.value)
            seen.add(key.value)
            key.tag = self.DEFAULT_SCALAR_TAG
        return node


def _meaning_in(path: str, given: dict) -> dict:
    """All of ``_PARTS``, from a file and the config; ``given``: those of the config but ``ids``."""
    try:
        loader = _EachKeyOnce(text_of(fileio.get(path), f"'{path}'"))
        content = loader.get_single_data()
    except FileNotFoundError:
        raise FileNotFoundError(
            f"ids: wanted a YAML or JSON file, found nothing at '{path}'"
        ) from None
    except (OSError, ValueError, TypeError, yaml.YAMLError) as error:
        raise ValueError(f"ids: '{path}' cannot be read as YAML or JSON: {error}") from error
    if loader.twice:
        key = loader.twice[0]
        kind = 'key' if key in _PARTS else 'id'
        raise ValueError(f"ids '{path}': wanted each {kind} once, found {key} twice")
    if not isinstance(content, Mapping):
        raise TypeError(
            f"ids '{path}': wanted a mapping such as {{0: 'road', 255: 'void'}}, found "
            f'{type(content).__name__}'
        )
    if not any(part in content for part in _PARTS):
        content = dict(ids=content)
    strange = [key for key in content if key not in _PARTS]
    if strange or 'ids' not in content:
        raise ValueError(
            f"ids '{path}': wanted ids alone, or the key 'ids' and others out of {_PARTS}, found "
            f'the keys {list(content)}'
        )
    for part, value in given.items():
        if value is not None and part in content:
            raise ValueError(f"{part}: wanted none beside that of ids '{path}', found {value}")
    return {**given, **content}


def _strings(option: str, value) -> tuple[str, ...]:
    """Names or stems of an option, checked."""
    is_list = isinstance(value, (list, tuple))
    if not is_list or not all(isinstance(name, str) for name in value):
        raise TypeError(f"{option}: wanted a list of strings, such as ['road'], found {value!r}")
    return tuple(value)


def _id_of(key, where: str) -> int | tuple[int, ...]:
    """A key of the mapping as an id, or as a colour (r, g, b); a file has ids as strings."""
    if isinstance(key, str) and _COLOUR.fullmatch(key):
        return tuple(bytes.fromhex(key[1:]))
    number = int(key) if isinstance(key, str) and key.strip().isdecimal() else key
    is_number = isinstance(number, int) and not isinstance(number, bool)
    if not is_number or not 0 <= number <= 255:
        raise ValueError(f"{where}: wanted ids from 0 to 255, or colours '#rrggbb', found {key!r}")
    return number


def _check_palette(palette, number: int) -> None:
    """Refuse a palette that has not a colour for each of ``number`` classes."""
    try:
        colours = np.array(palette)
    except ValueError:  # rows of several lengths
        colours = np.array(None)
    is_whole = colours.shape == (number, 3) and colours.dtype.kind in 'iu'
    if not is_whole or colours.min() < 0 or colours.max() > 255:
        raise ValueError(
            f'palette: wanted a colour (r, g, b) of whole numbers from 0 to 255 for each of '
            f'{number} classes, found {palette!r}'
        )


def made_up_palette(number: int) -> list[tuple[int, ...]]:
    """Distinct colours (r, g, b), the same at each call."""
    colours = []
    for i in range(number):
        hue = i * 0.61803 % 1
        shade = colorsys.hsv_to_rgb(hue, 0.5 + 0.25 * (i % 3), 1 - 0.2 * (i % 2))
        colours.append(tuple(round(255 * part) for part in shade))
    return colours
