"""The policies of the design, id by id, and the colour conversion against a pixel loop."""

import csv
import pickle

import numpy as np
import pytest
from cityscapesscripts.helpers.labels import id2label

from mmseg_opengan.contracts import CLOSED, FIRST_OPEN, IGNORE, VOID
from mmseg_opengan.datasets import label_map as ol

CAMERA = {1, 2, 3}  # ego vehicle, rectification border, out of roi
UNLABELED = 0


@pytest.mark.parametrize(
    ('policy', 'void', 'num_open'),
    [('paper', CAMERA, 12), ('strict', CAMERA | {UNLABELED}, 11), ('all', set(), 15)],
)
def test_cityscapes_policy_id_by_id(policy, void, num_open):
    labels = ol.cityscapes_labels(policy)
    assert labels.policy == f'cityscapes/{policy}'
    assert len(labels.closed_classes) == 19
    assert labels.closed_classes[:3] == ('road', 'sidewalk', 'building')
    assert len(labels.open_classes) == len(set(labels.open_classes)) == num_open
    assert np.flatnonzero(labels.known).tolist() == list(range(34))
    for raw in range(34):
        closed, open_map = (m.item() for m in labels.split(np.array([[raw]], np.uint8), 'x.png'))
        truth = id2label[raw]
        if truth.trainId != 255:
            assert (closed, open_map) == (truth.trainId, CLOSED)
        elif raw in void:
            assert (closed, open_map) == (IGNORE, VOID)
        else:
            assert closed == IGNORE
            assert labels.open_classes[open_map - FIRST_OPEN] == truth.name


def test_license_plate_does_not_leak_into_id_255():
    labels = ol.cityscapes_labels('all')
    assert 'license plate' not in labels.open_classes
    with pytest.raises(
        ValueError,
        match=r"'a\.png' holds unknown ids: 255 \(1 pixels\).*'cityscapes/all' knows \[0",
    ):
        labels.split(np.array([[0, 255]], np.uint8), 'a.png')


def test_unknown_policy():
    with pytest.raises(
        ValueError, match=r"policy must be one of .*'paper', 'strict', 'all'.*got 'loose'"
    ):
        ol.cityscapes_labels('loose')


def test_wrong_shape_and_type():
    labels = ol.cityscapes_labels()
    with pytest.raises(
        ValueError, match=r"'a_color\.png' must hold one 8-bit channel.*\(2, 2, 3\)"
    ):
        labels.split(np.zeros((2, 2, 3), np.uint8), 'a_color.png')
    with pytest.raises(ValueError, match='int32'):
        labels.split(np.zeros((2, 2), np.int32), 'a.png')


def test_camvid_table_matches_the_published_one(shared):
    with open(shared / 'data/camvid/classes.csv') as file:
        rows = [(r['name'], [int(r[c]) for c in 'rgb']) for r in csv.DictReader(file)]
    assert rows == list(zip(ol.CAMVID_NAMES, ol.CAMVID_COLOURS.tolist()))


def test_camvid_groups():
    labels = ol.camvid_labels()
    assert labels.closed_classes == (
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
    assert labels.open_classes == (
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
    moved = {
        'SUVPickupTruck': 'Car',
        'Truck_Bus': 'Car',
        'Wall': 'Building',
        'LaneMkgsDriv': 'Road',
        'LaneMkgsNonDriv': 'Road',
        'RoadShoulder': 'Road',
        'ParkingBlock': 'Sidewalk',
        'TrafficLight': 'SignSymbol',
        'Misc_Text': 'SignSymbol',
        'VegetationMisc': 'Tree',
        'MotorcycleScooter': 'Bicyclist',
        'Column_Pole': 'Pole',
    }
    for raw, name in enumerate(ol.CAMVID_NAMES):
        group = moved.get(name, name)
        closed, open_map = labels.closed_lut[raw], labels.open_lut[raw]
        if group in labels.closed_classes:
            assert (labels.closed_classes[closed], open_map) == (group, CLOSED)
        elif name == 'Void':
            assert (closed, open_map) == (IGNORE, VOID)
        else:
            assert closed == IGNORE
            assert labels.open_classes[open_map - FIRST_OPEN] == name


def test_camvid11_has_closed_pixels_only():
    closed, open_map = ol.camvid11_labels().split(np.arange(12, dtype=np.uint8)[None], 'x.png')
    assert closed.tolist() == [[*range(11), IGNORE]]
    assert open_map.tolist() == [[CLOSED] * 11 + [VOID]]


def test_anomaly_masks_have_no_closed_ids():
    closed, open_map = ol.anomaly_labels().split(np.array([[0, 1, 255]], np.uint8), 'x.png')
    assert closed.tolist() == [[IGNORE] * 3]
    assert open_map.tolist() == [[CLOSED, FIRST_OPEN, VOID]]


def test_ignoring_makes_void_and_keeps_numbers():
    labels = ol.camvid_labels()
    fewer = labels.ignoring(('Child', 'OtherMoving'))
    assert fewer.open_classes == labels.open_classes
    assert (
        fewer.policy
        == 'camvid/ignore:OtherMoving,Child'
        == labels.ignoring(['OtherMoving', 'Child']).policy
    )
    for raw, name in enumerate(ol.CAMVID_NAMES):
        expected = VOID if name in ('Child', 'OtherMoving') else labels.open_lut[raw]
        assert fewer.open_lut[raw] == expected
    assert (fewer.closed_lut == labels.closed_lut).all()
    assert labels.ignoring(()) is labels
    assert labels.ignoring('Train').policy == 'camvid/ignore:Train'
    with pytest.raises(ValueError, match=r"ignore_open must name open classes.*\['Car'\]"):
        labels.ignoring(['Car'])


def test_rgb_to_ids_equals_pixel_loop():
    rng = np.random.default_rng(0)
    ids = rng.integers(0, 32, (17, 23))
    rgb = ol.CAMVID_COLOURS[ids]
    table = {tuple(colour): i for i, colour in enumerate(ol.CAMVID_COLOURS.tolist())}
    slow = [[table[tuple(pixel)] for pixel in row] for row in rgb.tolist()]
    fast = ol.rgb_to_ids(rgb, ol.CAMVID_COLOURS, 'x.png')
    assert fast.dtype == np.uint8
    assert fast.tolist() == slow == ids.tolist()


@pytest.mark.parametrize('colour', [(64, 128, 65), (0, 0, 1)])
def test_unknown_colour_is_named(colour):
    rgb = np.zeros((2, 2, 3), np.uint8)
    rgb[1, 0] = colour
    r, g, b = colour
    with pytest.raises(
        ValueError, match=rf"'a_L\.png' holds 1 unknown RGB colours, e\.g\. \({r}, {g}, {b}\): 1 p"
    ):
        ol.camvid_labels().split(rgb, 'a_L.png')


def test_rgba_is_refused():
    with pytest.raises(
        ValueError, match=r'must hold one 8-bit channel of ids .* shape \(2, 2, 4\)'
    ):
        ol.camvid_labels().split(np.zeros((2, 2, 4), np.uint8), 'a_L.png')


def test_label_map_travels_to_workers():
    labels = ol.camvid_labels()
    copy = pickle.loads(pickle.dumps(labels))
    assert copy.policy == labels.policy
    assert (copy.open_lut == labels.open_lut).all()
