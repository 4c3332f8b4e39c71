import re
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from mmengine.structures import PixelData
from mmseg.registry import VISBACKENDS, VISUALIZERS
from mmseg.structures import SegDataSample

from mmseg_opengan.contracts import FIRST_OPEN, GT_OPEN_MAP, IGNORE, OPEN_SCORES, VOID
from mmseg_opengan.pictures import panel
from mmseg_opengan.pictures.overlay import SCORE_COLOURS
from mmseg_opengan.pictures.panel import WIDTH, Panel, draw_panel
from mmseg_opengan.pictures.visualizer import OpenSetVisualizer, panel_fields

CLASSES = ('road', 'sky', 'car')
PALETTE = [(128, 64, 128), (70, 130, 180), (0, 0, 142)]
META = {'classes': CLASSES, 'palette': PALETTE}
H, W = 96, 192
MARGIN, TITLE, BAR, LEGEND, GAP = 12, 26, 24, 26, 12
# (height, width) of a cell for a 1:2 image: two, three and four in a row
HALF, THIRD, QUARTER = (291, 582), (192, 384), (142, 285)


@pytest.fixture
def image():
    return np.random.default_rng(0).integers(0, 256, (H, W, 3)).astype(np.uint8)


@pytest.fixture
def labels():
    """gt, open map and prediction: left third open, bottom void, the rest sky over road."""
    gt = np.zeros((H, W), np.uint8)
    gt[: H // 2] = 1
    open_map = np.zeros((H, W), np.uint8)
    open_map[:, : W // 3] = 4
    open_map[-10:] = VOID
    pred = gt.copy()
    gt[open_map != 0] = IGNORE
    return {'gt': gt, 'open_map': open_map, 'pred': pred}


def _grid(value=0.0):
    return np.full((H // 4, W // 4), value, np.float32)


def _cell(sheet, row_top, column, size):
    """The picture of one cell: below its title."""
    left, top = MARGIN + column * (size[1] + GAP), row_top + TITLE
    return sheet[top : top + size[0], left : left + size[1]]


@pytest.mark.parametrize(
    ('number', 'thresholds', 'columns'),
    [
        (0, 4, [3]),
        (1, 1, [4, 1]),
        (2, 4, [3, 2, 4]),
        (5, 0, [3, 5]),
        (7, 4, [3, 4, 3, 4]),
    ],
)
def test_rows_leave_no_space_empty(image, labels, number, thresholds, columns):
    names = ['opengan', *'abcdefg'][:number]
    fields = dict(scores={name: _grid() for name in names}, thresholds=[0.5] * thresholds)
    rows = Panel(
        image,
        **labels,
        **fields,
        **META,
    ).rows()
    assert [len(row) for row in rows[:-1]] == columns
    for row in rows:
        wide = sum(picture.shape[1] for picture in row) + GAP * (len(row) - 1)
        assert WIDTH - 2 * MARGIN - len(row) < wide <= WIDTH - 2 * MARGIN
    sheet = draw_panel(
        image,
        **labels,
        **fields,
        **META,
    )
    high = sum(max(picture.shape[0] for picture in row) for row in rows) + GAP * len(columns)
    assert sheet.shape == (high + 2 * MARGIN, WIDTH, 3)
    assert sheet.dtype == np.uint8


def test_score_maps_have_the_names_of_the_figures(image):
    named, raw = (draw_panel(image, scores={name: _grid()}) for name in ('MSP', 'msp'))
    assert (named == raw).all()


def test_first_row_shows_image_truth_and_segmentation(image, labels):
    sheet = draw_panel(image, **labels, **META)
    at = {
        'open': (20, 40),
        'void': (188, 200),
        'sky': (20, 300),
        'road': (150, 300),
    }  # in a cell of twice the size
    truth, pred = (_cell(sheet, MARGIN, i, THIRD) for i in (1, 2))
    assert {name: tuple(truth[spot]) for name, spot in at.items()} == {
        'open': (255, 255, 255),
        'void': (0, 0, 0),
        'sky': PALETTE[1],
        'road': PALETTE[0],
    }
    assert {name: tuple(pred[spot]) for name, spot in at.items()} == {
        'open': PALETTE[1],
        'void': PALETTE[0],
        'sky': PALETTE[1],
        'road': PALETTE[0],
    }
    assert (_cell(sheet, MARGIN, 0, THIRD)[::2, ::2] == image).all()


def test_thresholds_at_exact_pixels(image):
    """Four columns of the feature grid lie between the thresholds; each map whitens those above its
    own.
    """
    logit = _grid(-3.0)  # beside the image, in the first row
    for i, p in enumerate((0.65, 0.75, 0.85, 0.95)):
        logit[:, 12 * i : 12 * i + 4] = np.log(p / (1 - p))
    sheet = draw_panel(image // 2, scores={'opengan': logit})
    top = MARGIN + TITLE + HALF[0] + BAR + GAP
    for column, above in enumerate(((1, 1, 1, 1), (0, 1, 1, 1), (0, 0, 1, 1), (0, 0, 0, 1))):
        picture = _cell(sheet, top, column, QUARTER)
        for i, white in enumerate(above):
            stripe = picture[5:-5, round((12 * i + 2) * QUARTER[1] / 48)]
            assert (stripe == 255).all() == bool(white)
        assert (
            picture[:, round(8 * QUARTER[1] / 48)].max() < 100
        )  # below all thresholds: the dimmed image


def test_thresholds_are_left_out_without_their_score(image):
    with_maps = draw_panel(image, scores={'msp': _grid()}, threshold_of='msp')
    without = draw_panel(image, scores={'msp': _grid()}, threshold_of='opengan')
    assert with_maps.shape[0] - without.shape[0] == GAP + TITLE + QUARTER[0] + GAP + LEGEND
    assert (
        draw_panel(image, scores={'opengan': _grid()}, thresholds=()).shape[0] == without.shape[0]
    )


def test_each_score_map_has_its_own_range(image):
    ramp = np.broadcast_to(np.linspace(0, 1, W // 4, dtype=np.float32), (H // 4, W // 4))
    sheet = draw_panel(image, scores={'small': ramp * 1e-3, 'large': 500 + 100 * ramp})
    small, large = (_cell(sheet, MARGIN, i, THIRD) for i in (1, 2))
    assert np.abs(small.astype(int) - large).max() <= 6
    assert (small[50, 2] == SCORE_COLOURS[0]).all()
    assert (small[50, -3] == SCORE_COLOURS[-1]).all()


def test_score_maps_begin_a_row_where_four_do_not_hold_all(image, labels):
    ramp = np.broadcast_to(np.linspace(0, 1, W // 4, dtype=np.float32), (H // 4, W // 4))
    one = draw_panel(
        image,
        **labels,
        **META,
        scores={'a': ramp},
    )
    two = draw_panel(
        image,
        **labels,
        **META,
        scores={'a': ramp, 'b': ramp},
    )
    assert (_cell(one, MARGIN, 3, QUARTER)[50, 2] == SCORE_COLOURS[0]).all()
    assert (_cell(two, MARGIN + TITLE + THIRD[0] + GAP, 0, THIRD)[50, 2] == SCORE_COLOURS[0]).all()


def test_scores_of_a_sample_come_in_one_order_at_every_run(labels):
    sample = _sample(labels)
    assert list(panel_fields(sample)['scores']) == [
        'msp',
        'opengan',
    ]  # mmengine holds the names in a set


def test_nan_and_constant_scores_are_drawn(image):
    broken = _grid()
    broken[0] = np.nan
    broken[1] = np.inf
    assert (
        draw_panel(
            image, scores={'opengan': broken, 'flat': _grid(7), 'none': _grid(np.nan)}
        ).shape[1]
        == WIDTH
    )


def test_legend_names_what_is_there(image, labels):
    def entries(**fields):
        return Panel(image, **fields, **META).legend_entries()

    assert entries(**labels) == [
        ('road', PALETTE[0]),
        ('sky', PALETTE[1]),
        ('open', (255, 255, 255)),
        ('void', (0, 0, 0)),
    ]
    assert entries(gt=labels['gt'])[-1][0] == 'void'
    assert entries(pred=np.array([[2]])) == [('car', PALETTE[2])]
    assert entries(open_map=np.zeros((2, 2))) == []
    assert entries(scores={'opengan': _grid()}) == [('open', (255, 255, 255))]


def test_legend_swatches_are_drawn_and_wrap(image):
    classes = [f'a class with a long name {i}' for i in range(12)]
    palette = [(20 * i, 255 - 20 * i, 7) for i in range(12)]
    pred = np.arange(12).repeat(8 * W).reshape(H, W)
    sheet = draw_panel(
        image,
        pred=pred,
        classes=classes,
        palette=palette,
    )
    strip = sheet[MARGIN + TITLE + THIRD[0] + GAP :]
    assert strip.shape[0] > 2 * LEGEND
    found = {tuple(colour) for colour in np.unique(strip.reshape(-1, 3), axis=0).tolist()}
    assert set(palette) <= found


def test_ground_truth_without_classes_shows_open_and_void(image, labels):
    truth = _cell(draw_panel(image, open_map=labels['open_map']), MARGIN, 1, HALF)
    assert tuple(truth[20, 40]) == (255, 255, 255)
    assert tuple(truth[288, 300]) == (0, 0, 0)
    assert tuple(truth[20, 450]) not in ((255, 255, 255), (0, 0, 0))


def test_closed_pixels_of_an_unknown_class_are_not_void(image):
    """As anomaly masks have them; also where the open map is of another size."""
    gt, open_map = np.full(image.shape[:2], IGNORE, np.uint8), np.zeros(image.shape[:2], np.uint8)
    open_map[:8], open_map[8:16] = FIRST_OPEN, VOID
    for stride in (1, 4):
        shown = panel._ground_truth(gt, open_map[::stride, ::stride], [(1, 2, 3)])
        assert (shown[-1] == panel._CLOSED_GREY).all()
        assert (shown[0] == panel.OPEN_COLOUR).all()
        assert (shown[12 // stride] == panel.VOID_COLOUR).all()


def test_wrong_input_is_named(image):
    with pytest.raises(ValueError, match='image_rgb'):
        draw_panel(image[..., 0])
    with pytest.raises(ValueError, match='palette'):
        draw_panel(image, classes=CLASSES, palette=PALETTE[:2])
    with pytest.raises(ValueError, match=r'\[3\]'):
        draw_panel(image, pred=np.full((H, W), 3), **META)


def _sample(labels, without=()):
    sample = SegDataSample()
    fields = {
        'gt_sem_seg': labels['gt'],
        GT_OPEN_MAP: labels['open_map'],
        'pred_sem_seg': labels['pred'],
    }
    for name, value in fields.items():
        if name not in without:
            sample.set_data({name: PixelData(data=torch.from_numpy(value.astype(np.int64))[None])})
    if OPEN_SCORES not in without:
        sample.set_data(
            {
                OPEN_SCORES: PixelData(
                    opengan=torch.zeros(1, H // 4, W // 4), msp=torch.rand(1, H // 4, W // 4).half()
                )
            }
        )
    return sample


def _visualizer(name, **kwargs):
    visualizer = VISUALIZERS.build({'type': 'OpenSetVisualizer', 'name': name, **kwargs})
    visualizer.dataset_meta = META
    return visualizer


@pytest.mark.parametrize(
    'without',
    [
        ('gt_sem_seg', OPEN_SCORES),
        ('gt_sem_seg', GT_OPEN_MAP, 'pred_sem_seg', OPEN_SCORES),
    ],
)
def test_any_field_may_be_missing(image, labels, without, tmp_path):
    visualizer = _visualizer(f'missing {without}')
    assert isinstance(visualizer, OpenSetVisualizer)
    visualizer.add_datasample(
        'x', image, _sample(labels, without), out_file=str(tmp_path / 'x.png')
    )
    given = {
        argument: labels[argument]
        for argument, field in (
            ('gt', 'gt_sem_seg'),
            ('open_map', GT_OPEN_MAP),
            ('pred', 'pred_sem_seg'),
        )
        if field not in without
    }
    scores = {} if OPEN_SCORES in without else {'opengan': _grid(), 'msp': _grid()}
    height = draw_panel(
        image,
        **given,
        scores=scores,
        **META,
    ).shape[0]
    assert cv2.imread(str(tmp_path / 'x.png')).shape == (height, WIDTH, 3)


def test_no_sample_and_no_ground_truth(image, labels, tmp_path):
    visualizer, file = _visualizer('flags'), str(tmp_path / 'x.png')
    visualizer.add_datasample('x', image, None, out_file=file)
    assert (cv2.imread(file)[..., ::-1] == draw_panel(image)).all()
    visualizer.add_datasample(
        'x', image, _sample(labels), draw_gt=False, draw_pred=False, out_file=file
    )
    assert (cv2.imread(file)[..., ::-1] == draw_panel(image)).all()


def test_backends_get_the_picture_under_its_name_and_step(image, labels, tmp_path):
    visualizer = _visualizer(
        'backend',
        vis_backends=[{'type': 'LocalVisBackend'}],
        save_dir=str(tmp_path),
        thresholds=(0.5,),
    )
    visualizer.add_datasample('val_a.png', image, _sample(labels), step=7)
    (file,) = tmp_path.rglob('val_a.png_7.png')
    assert cv2.imread(str(file)).shape[1] == WIDTH


def test_tensorboard_backend_gets_the_panel(image, labels, tmp_path):
    event_accumulator = pytest.importorskip(
        'tensorboard.backend.event_processing.event_accumulator'
    )
    visualizer = _visualizer(
        'tensorboard', vis_backends=[{'type': 'TensorboardVisBackend'}], save_dir=str(tmp_path)
    )
    sample = _sample(labels)
    visualizer.add_datasample('val_a.png', image, sample, step=7)
    visualizer.close()
    (folder,) = {file.parent for file in tmp_path.rglob('events.out.tfevents*')}
    events = event_accumulator.EventAccumulator(str(folder)).Reload()
    (event,) = events.Images('val_a.png')
    assert event.step == 7
    picture = cv2.imdecode(np.frombuffer(event.encoded_image_string, np.uint8), cv2.IMREAD_COLOR)[
        ..., ::-1
    ]
    assert (
        picture
        == draw_panel(
            image,
            **labels,
            scores=panel_fields(sample)['scores'],
            **META,
        )
    ).all()


def test_the_backends_that_the_docs_name_are_there():
    text = (Path(__file__).parents[2] / 'docs' / 'getting_started.md').read_text()
    named = re.findall(r'vis_backends\.0\.type=(\w+)', text)
    assert named == ['TensorboardVisBackend', 'WandbVisBackend']
    assert all(VISBACKENDS.get(name) is not None for name in named)
