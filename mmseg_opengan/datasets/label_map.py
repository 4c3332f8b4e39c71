"""What each id of a label file means for open-set work: closed, open or void.

A :class:`LabelMap` turns raw ids into the two ground-truth maps of ``contracts.py`` by table
lookup. One maker
per family of label files: Cityscapes (three policies), CamVid (32 classes, or SegNet's 11), anomaly
masks.
Shapes: H, W are the size of the label file.
"""

import hashlib
from dataclasses import dataclass, replace

import cv2
import numpy as np
from cityscapesscripts.helpers.labels import labels as _CITYSCAPES

from ..contracts import CLOSED, FIRST_OPEN, IGNORE, VOID

# Artifacts of camera and rectification (paper, section 7): void in every policy but 'all'.
_CAMERA = ('ego vehicle', 'rectification border', 'out of roi')
#: Cityscapes policy -> the label names that are void in it.
CITYSCAPES_POLICIES = {'paper': _CAMERA, 'strict': (*_CAMERA, 'unlabeled'), 'all': ()}

_CLOSED = sorted(
    (label for label in _CITYSCAPES if 0 <= label.trainId < IGNORE), key=lambda label: label.trainId
)
CITYSCAPES_CLASSES = tuple(label.name for label in _CLOSED)
CITYSCAPES_PALETTE = [list(label.color) for label in _CLOSED]

_OPEN, _VOID = 'open', 'void'
# Row = id: name, colour in the authors' '*_L.png' files, closed group (SegNet's 11), open or void.
_CAMVID_TABLE = """
Animal 64 128 64 open
Archway 192 0 128 open
Bicyclist 0 128 192 Bicyclist
Bridge 0 128 64 open
Building 128 0 0 Building
Car 64 0 128 Car
CartLuggagePram 64 0 192 open
Child 192 128 64 open
Column_Pole 192 192 128 Pole
Fence 64 64 128 Fence
LaneMkgsDriv 128 0 192 Road
LaneMkgsNonDriv 192 0 64 Road
Misc_Text 128 128 64 SignSymbol
MotorcycleScooter 192 0 192 Bicyclist
OtherMoving 128 64 64 open
ParkingBlock 64 192 128 Sidewalk
Pedestrian 64 64 0 Pedestrian
Road 128 64 128 Road
RoadShoulder 128 128 192 Road
Sidewalk 0 0 192 Sidewalk
SignSymbol 192 128 128 SignSymbol
Sky 128 128 128 Sky
SUVPickupTruck 64 128 192 Car
TrafficCone 0 0 64 open
TrafficLight 0 64 64 SignSymbol
Train 192 64 128 open
Tree 128 128 0 Tree
Truck_Bus 192 128 192 Car
Tunnel 64 0 64 open
VegetationMisc 192 192 0 Tree
Void 0 0 0 void
Wall 64 192 0 Building
"""
_CAMVID = [row.split() for row in _CAMVID_TABLE.strip().splitlines()]
CAMVID_NAMES = tuple(row[0] for row in _CAMVID)
CAMVID_COLOURS = np.array([row[1:4] for row in _CAMVID]).astype(np.uint8)
CAMVID_CLASSES = (
    'Sky',
    'Building',
    'Pole',
    'Road',
    'Sidewalk',
    'Tree',
    'SignSymbol',
    'Fence',
    'Car',
    'Pedestrian',
    'Bicyclist',
)
CAMVID_OPEN = (
    'OtherMoving',
    'Archway',
    'Bridge',
    'CartLuggagePram',
    'Child',
    'TrafficCone',
    'Animal',
    'Tunnel',
    'Train',
)
_COLOUR_OF = dict(zip(CAMVID_NAMES, CAMVID_COLOURS.tolist())) | dict(Pole=[192, 192, 128])
CAMVID_PALETTE = [_COLOUR_OF[name] for name in CAMVID_CLASSES]


@dataclass(frozen=True, eq=False)
class LabelMap:
    """Lookup tables from the raw ids of a label file to the two ground-truth maps.

    Attributes:
        policy: How labels are read, as quoted beside every number, e.g. 'cityscapes/paper'.
        closed_classes: Names of the closed ids 0 .. K-1.
        open_classes: Names of the open values 1 .. of the open map, in order.
        closed_lut: (256,) uint8, raw id -> closed id or IGNORE.
        open_lut: (256,) uint8, raw id -> CLOSED, 1 + index into ``open_classes``, or VOID.
        known: (256,) bool, the raw ids that may occur.
        colours: (n, 3) uint8 RGB colour of raw id 0 .. n-1 where label files come in colour, else
            None.
        is_own: This package made the map; see :attr:`name`.
    """

    policy: str
    closed_classes: tuple
    open_classes: tuple
    closed_lut: np.ndarray
    open_lut: np.ndarray
    known: np.ndarray
    colours: np.ndarray | None = None
    is_own: bool = False

    @property
    def name(self) -> str:
        """What results and feature banks call this map: the policy, and a digest of tables that are
        not this package's.

        So an edited table is another policy, whose banks and results are not taken for those of the
        old one.
        """
        if self.is_own:
            return self.policy
        digest = hashlib.sha256()
        for table in (self.closed_lut, self.open_lut, self.known, self.colours):
            if table is not None:
                digest.update(np.ascontiguousarray(table).tobytes())
        return f'{self.policy}@{digest.hexdigest()[:8]}'

    def split(self, raw: np.ndarray, source: str) -> tuple[np.ndarray, np.ndarray]:
        """The two ground-truth maps of one label image.

        Args:
            raw: (H, W) uint8 ids, or (H, W, 3) uint8 RGB where this map has ``colours``.
            source: File the labels came from, for errors.

        Returns:
            ``gt_sem_seg`` (H, W) uint8, closed ids and IGNORE; open map (H, W) uint8, CLOSED, 1 +
            open index, VOID.

        Raises:
            ValueError: wrong shape or type, or an id or colour that the policy does not know.
        """
        if self.colours is not None and raw.shape[2:] == (3,):
            raw = rgb_to_ids(raw, self.colours, source)
        if raw.ndim != 2 or raw.dtype != np.uint8:
            raise ValueError(
                f"Label file '{source}' must hold one 8-bit channel of ids (policy "
                f"'{self.policy}'), but it has shape {raw.shape} and type {raw.dtype}."
            )
        # a seventh of the time of self.known[raw]
        if not cv2.LUT(raw, self.known.view(np.uint8)).all():
            found, counts = np.unique(raw[~self.known[raw]], return_counts=True)
            strange = [f'{i} ({n} pixels)' for i, n in zip(found, counts)]
            raise ValueError(
                f"Label file '{source}' holds unknown ids: {', '.join(strange)}. Policy "
                f"'{self.policy}' knows {np.flatnonzero(self.known).tolist()}."
            )
        return cv2.LUT(raw, self.closed_lut), cv2.LUT(raw, self.open_lut)

    def ignoring(self, names) -> 'LabelMap':
        """This map with some open classes made void, e.g. to keep a kind out of training.

        ``open_classes`` stays as it is, so that the numbers of the other classes do not move.

        Raises:
            ValueError: a name that is not an open class.
        """
        names = {names} if isinstance(names, str) else set(names)
        strange = sorted(names - set(self.open_classes))
        if strange:
            raise ValueError(
                f'ignore_open must name open classes out of {self.open_classes}, but got {strange}.'
            )
        if not names:
            return self
        ignored = [i for i, name in enumerate(self.open_classes) if name in names]
        open_lut = self.open_lut.copy()
        open_lut[np.isin(open_lut, np.array(ignored) + FIRST_OPEN)] = VOID
        kept_order = ','.join(self.open_classes[i] for i in ignored)
        return replace(self, policy=f'{self.policy}/ignore:{kept_order}', open_lut=open_lut)


def cityscapes_labels(policy: str = 'paper') -> LabelMap:
    """Meaning of Cityscapes ``*_gtFine_labelIds.png``: the 19 trainIds are closed, the policy
    decides the rest.

    'paper': open = every other id, void = ego vehicle, rectification border, out of roi. 'strict':
    'unlabeled' is void too. 'all': nothing is void. Source: the paper, section 7; ids from
    ``cityscapesscripts``.
    """
    if policy not in CITYSCAPES_POLICIES:
        raise ValueError(f'policy must be one of {tuple(CITYSCAPES_POLICIES)}, but got {policy!r}.')
    # 'license plate' has id -1 and never occurs in a file; as an index it would mean 255.
    names = {label.id: label.name for label in _CITYSCAPES if label.id >= 0}
    not_open = (*CITYSCAPES_CLASSES, *CITYSCAPES_POLICIES[policy])
    open_classes = tuple(name for name in names.values() if name not in not_open)
    return meaning_of_ids(
        f'cityscapes/{policy}', CITYSCAPES_CLASSES, open_classes, names, is_own=True
    )


def camvid_labels() -> LabelMap:
    """Meaning of CamVid's 32 classes, as ids (row of the alphabetical class list) or as the
    authors' RGB colours.
    """
    names = {i: row[0] if row[4] == _OPEN else row[4] for i, row in enumerate(_CAMVID)}
    labels = meaning_of_ids('camvid', CAMVID_CLASSES, CAMVID_OPEN, names, is_own=True)
    return replace(labels, colours=CAMVID_COLOURS)


def camvid11_labels() -> LabelMap:
    """Meaning of SegNet's 11 CamVid groups, 11 = void, which mixes Void and the open classes:
    closed pixels only.
    """
    names = dict(enumerate((*CAMVID_CLASSES, _VOID)))
    return meaning_of_ids('camvid/closed-only', CAMVID_CLASSES, CAMVID_OPEN, names, is_own=True)


def anomaly_labels() -> LabelMap:
    """Meaning of anomaly masks: 0 closed (of an unknown class, so ``gt_sem_seg`` is IGNORE
    everywhere), 1 open, 255 void."""
    names = {0: _VOID, 1: 'anomaly', 255: _VOID}
    labels = meaning_of_ids('anomaly', CITYSCAPES_CLASSES, ('anomaly',), names, is_own=True)
    open_lut = labels.open_lut.copy()
    open_lut[0] = CLOSED
    return replace(labels, open_lut=open_lut)


def rgb_to_ids(rgb: np.ndarray, colours: np.ndarray, source: str) -> np.ndarray:
    """Exact conversion of a colour label image to ids.

    Args:
        rgb: (H, W, 3) uint8, RGB order.
        colours: (n, 3) uint8, n <= 256 different colours; row = id.
        source: File the labels came from, for errors.

    Returns:
        (H, W) uint8 ids.

    Raises:
        ValueError: a colour that is not in the table.
    """
    codes, pixels = _codes(colours), _codes(rgb)
    order = np.argsort(codes)
    place = np.searchsorted(codes[order], pixels).clip(max=len(codes) - 1)
    unknown = codes[order][place] != pixels
    if unknown.any():
        found, counts = np.unique(pixels[unknown], return_counts=True)
        strange = [
            f'({c >> 16}, {c >> 8 & 255}, {c & 255}): {n} pixels' for c, n in zip(found[:5], counts)
        ]
        raise ValueError(
            f"Label file '{source}' holds {len(found)} unknown RGB colours, e.g. "
            f'{", ".join(strange)}. Wanted one of the {len(colours)} class colours; was the file '
            'resized with interpolation or stored as JPEG?'
        )
    return order.astype(np.uint8)[place]


def _codes(colours: np.ndarray) -> np.ndarray:
    """One number for each colour (..., 3)."""
    red, green, blue = np.moveaxis(colours.astype(np.uint32), -1, 0)
    return red << 16 | green << 8 | blue


def meaning_of_ids(policy, closed_classes, open_classes, names, *, is_own=False) -> LabelMap:
    """Tables from ``names``: raw id -> closed class, open class, or anything else for void."""
    closed_lut = np.full(256, IGNORE, np.uint8)
    open_lut = np.full(256, VOID, np.uint8)
    known = np.zeros(256, bool)
    for raw, name in names.items():
        known[raw] = True
        if name in closed_classes:
            closed_lut[raw], open_lut[raw] = closed_classes.index(name), CLOSED
        elif name in open_classes:
            open_lut[raw] = FIRST_OPEN + open_classes.index(name)
    return LabelMap(
        policy, closed_classes, open_classes, closed_lut, open_lut, known, is_own=is_own
    )
