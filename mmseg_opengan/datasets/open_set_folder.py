"""Own images and labels, whose meaning stands in the config: no Python module is needed."""

import colorsys
from collections.abc import Mapping, Sequence

import mmengine
from mmseg.registry import DATASETS

from ..contracts import MAX_OPEN_CLASSES
from .open_labels import LabelMap, meaning_of_ids
from .open_set_dataset import OpenSetDataset

VOID_NAME = 'void'


@DATASETS.register_module()
class OpenSetFolder(OpenSetDataset):
    """Images and labels of the same name in two folders; the config says what each id is.

    ::

        dict(type='OpenSetFolder', data_root='data/mine', classes=('road', 'car'), open_classes=('animal',),
             ids={0: 'road', 1: 'car', 7: 'animal', 255: 'void'}, pipeline=pipeline,
             data_prefix=dict(img_path='images/train', seg_map_path='labels/train'))

    Args:
        data_root: folder of the data set.
        classes: names of the closed classes, in the order of the segmentor's outputs.
        open_classes: names of the open classes.
        ids: every id that occurs in a label file -> a closed class, an open class, or ``'void'``; several ids may be
            one class. Or the path of a YAML or JSON file that holds this mapping.
        data_prefix: folders of images and labels below ``data_root``: ``img_path``, ``seg_map_path``.
        img_suffix, seg_map_suffix: ends of the names of images and labels.
        palette: a colour (r, g, b) for each closed class; made up where it is not given.
        policy: what results call this reading of the labels; a digest of the ids is added.
        ignore_open: open classes to make void, e.g. to leave a kind out of training.
        **kwargs: as for :class:`OpenSetDataset`: ``ann_file``, ``num_open_images``, ``seed``, ``pipeline``, ...

    Raises:
        FileNotFoundError: a folder, a label or the file of ids is missing.
        TypeError: ``classes`` or ``open_classes`` is one string, or ``ids`` is no mapping.
        ValueError: an id outside 0 to 255 or of an unknown name, a class without an id or given twice.
    """

    def __init__(self, *, data_root: str, classes: Sequence[str], open_classes: Sequence[str],
                 ids: Mapping[int | str, str] | str, data_prefix: dict | None = None, img_suffix: str = '.jpg',
                 seg_map_suffix: str = '.png', palette=None, policy: str = 'own', ignore_open=(), **kwargs):
        labels = label_map_of(classes, open_classes, ids, policy).ignoring(ignore_open)
        if palette is not None and len(palette) != len(labels.closed_classes):
            raise ValueError(f'palette: wanted a colour for each of {len(labels.closed_classes)} classes, found '
                             f'{len(palette)}')
        super().__init__(
            data_root=data_root, labels=labels, img_suffix=img_suffix, seg_map_suffix=seg_map_suffix,
            data_prefix=data_prefix or dict(img_path='images', seg_map_path='labels'), **kwargs)
        colours = palette or made_up_palette(len(labels.closed_classes))
        self._metainfo.update(classes=labels.closed_classes, palette=[list(colour) for colour in colours])

    def load_data_list(self) -> list[dict]:
        return self._pairs(self._draw(self._images()))


def label_map_of(classes: Sequence[str], open_classes: Sequence[str], ids, policy: str) -> LabelMap:
    """The label map of class names and ids; see :class:`OpenSetFolder` for arguments and errors."""
    for name, value in (('classes', classes), ('open_classes', open_classes)):
        if isinstance(value, str):
            raise TypeError(f"{name}: wanted several names, such as ('{value}',), found the string {value!r}")
    classes, open_classes = tuple(classes), tuple(open_classes)
    known = [*classes, *open_classes, VOID_NAME]
    twice = sorted({name for name in known if known.count(name) > 1})
    if twice:
        raise ValueError(f"classes, open_classes: wanted each name once, and no class called '{VOID_NAME}', found "
                         f'{twice} twice')
    if not classes or len(open_classes) > MAX_OPEN_CLASSES:
        raise ValueError(f'classes, open_classes: wanted at least one closed and at most {MAX_OPEN_CLASSES} open '
                         f'classes, found {len(classes)} and {len(open_classes)}')
    where = 'ids'
    if isinstance(ids, str):
        where, ids = f"ids '{ids}'", _read(ids)
    if not isinstance(ids, Mapping):
        raise TypeError(f"{where}: wanted a mapping such as {{0: 'road', 255: 'void'}}, found {type(ids).__name__}")
    names = {_id_of(key, where): name for key, name in ids.items()}
    if len(names) < len(ids):
        raise ValueError(f'{where}: wanted each id once, found one twice')
    unknown = sorted({str(name) for name in names.values() if name not in known})
    if unknown:
        raise ValueError(f'{where}: wanted names out of {known}, found {unknown}')
    unused = [name for name in known[:-1] if name not in names.values()]
    if unused:
        raise ValueError(f'{where}: wanted an id for every class, found none for {unused}')
    return meaning_of_ids(policy, classes, open_classes, names)


def _read(path: str):
    """What a YAML or JSON file holds."""
    try:
        return mmengine.load(path)
    except FileNotFoundError:
        raise FileNotFoundError(f"ids: wanted a YAML or JSON file, found nothing at '{path}'") from None
    except Exception as error:
        raise ValueError(f"ids: '{path}' cannot be read as YAML or JSON: {error}") from error


def _id_of(key, where: str) -> int:
    """A key of the mapping as an id; JSON has them as strings."""
    number = int(key) if isinstance(key, str) and key.strip().isdecimal() else key
    if isinstance(number, bool) or not isinstance(number, int) or not 0 <= number <= 255:
        raise ValueError(f'{where}: wanted ids from 0 to 255, found {key!r}')
    return number


def made_up_palette(number: int) -> list[tuple[int, ...]]:
    """Distinct colours (r, g, b), the same at each call."""
    colours = []
    for i in range(number):
        shade = colorsys.hsv_to_rgb(i * .61803 % 1, .5 + .25 * (i % 3), 1 - .2 * (i % 2))
        colours.append(tuple(round(255 * part) for part in shade))
    return colours
