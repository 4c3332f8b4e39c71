"""Other ways to run the model: torch.compile, autocast, half precision."""

import threading

import pytest
import torch
import torch._dynamo
from small_models import SEGMENTORS, SLIDE, batch_of, build_open, pair, raw_image

from mmseg_opengan.contracts import OPEN_SCORES
from mmseg_opengan.models.score_maps import smoothed_for
from mmseg_opengan.models.scorers import base

SCORERS = dict(msp=dict(type='MSP'), gen=dict(type='GEN'))


def compiled_breaks(model, size) -> int:
    """How often a compiled prediction falls back to Python."""
    torch._dynamo.reset()
    inputs = torch.randn(1, 3, *size)
    with torch.no_grad():
        found = torch._dynamo.explain(lambda x: model(x, [raw_image(*size)[1]], mode='predict'))(
            inputs
        )
    return found.graph_break_count


@pytest.mark.parametrize(
    ('name', 'test_cfg'),
    [('FCNHead', None), ('FCNHead', SLIDE), ('SegformerHead', None), ('OCRHead', None)],
    ids=['whole', 'slide', 'Segformer', 'OCR'],
)
def test_a_compiled_model_breaks_no_more_often_than_mmsegs_own(name, test_cfg):
    plain, ours = pair(name, test_cfg=test_cfg, scorers=SCORERS)
    size = (64, 64) if test_cfg is None else (48, 100)
    assert compiled_breaks(ours, size) <= compiled_breaks(plain, size)


@pytest.mark.parametrize('name', SEGMENTORS)
@torch.no_grad()
def test_a_compiled_model_gives_the_same_bits(name):
    torch._dynamo.reset()
    _, ours = pair(name, scorers=SCORERS)
    inputs = torch.randn(2, 3, 64, 64)
    compiled = torch.compile(ours, backend='eager')
    for found, wanted in zip(
        compiled(inputs, mode='predict'), ours(inputs, mode='predict'), strict=True
    ):
        assert torch.equal(found.seg_logits.data, wanted.seg_logits.data)
        for key, scores in wanted.get(OPEN_SCORES).items():
            assert torch.equal(found.get(OPEN_SCORES).get(key), scores)


def test_a_compiled_model_serves_several_threads():
    _, ours = pair('FCNHead', scorers=SCORERS)
    torch._dynamo.reset()
    compiled = torch.compile(ours, backend='eager')
    inputs = torch.randn(1, 3, 64, 64)
    found = []

    def predict(model):
        with torch.no_grad():
            found.append(model(inputs, mode='predict')[0].get(OPEN_SCORES).get('msp'))

    predict(ours)
    predict(compiled)
    for _ in range(2):
        thread = threading.Thread(target=predict, args=(compiled,))
        thread.start()
        thread.join()
    assert len(found) == 4
    assert all(torch.equal(scores, found[0]) for scores in found)


@pytest.mark.parametrize(
    ('name', 'dtype'),
    [('FCNHead', torch.float16), *((name, torch.bfloat16) for name in SEGMENTORS)],
)
@torch.no_grad()
def test_autocast_leaves_the_closed_output_mmsegs_and_scores_float32(name, dtype):
    plain, ours = pair(name, scorers=SCORERS)
    images = batch_of(raw_image(), raw_image(seed=1))
    full = ours.test_step(images)
    with torch.autocast('cpu', dtype=dtype):
        found = ours.test_step(images)
        theirs = plain.test_step(images)
    for one, other, exact in zip(found, theirs, full, strict=True):
        assert torch.equal(one.seg_logits.data, other.seg_logits.data)
        assert torch.equal(one.pred_sem_seg.data, other.pred_sem_seg.data)
        for key, scores in one.get(OPEN_SCORES).items():
            wanted = exact.get(OPEN_SCORES).get(key)
            assert scores.dtype == torch.float32
            assert not torch.equal(scores, wanted)  # half precision was at work
            assert (scores - wanted).abs().max() < 0.25 * wanted.std() + 0.05 * wanted.abs().max()


@torch.no_grad()
def test_autocast_ends_where_scores_are_made():
    """Half precision left a distance of features 47 values in place of 1,991."""
    _, ours = pair('FCNHead')
    weight, bias = ours.head.adapter.classifier
    learned = torch.randn(20, weight.shape[1], generator=torch.Generator().manual_seed(0))
    logits = torch.addmm(bias, learned, weight.T)
    data = base.FitData(learned, logits, logits.argmax(1), weight, bias)
    ours.scorers['nn'] = base.SCORERS.build(dict(type='NearestNeighbour')).fit(data)
    inputs = torch.randn(1, 3, 64, 64)
    with torch.autocast('cpu', dtype=torch.bfloat16):
        tap = ours.tap_of(inputs)
        assert tap.features.dtype == torch.bfloat16
        found = ours.score_tap(tap)
    wanted = ours.score_tap(tap)
    assert list(found) == ['nn', 'opengan']
    for name, scores in found.items():
        assert torch.equal(scores, wanted[name])
        smooth = smoothed_for(scores, (64, 64), 8.0)
        with torch.autocast('cpu', dtype=torch.bfloat16):
            assert torch.equal(smoothed_for(scores, (64, 64), 8.0), smooth)


@pytest.mark.parametrize(
    'change',
    [
        lambda model: model.half(),
        lambda model: model.bfloat16(),
        lambda model: model.to(torch.float16),
        lambda model: model.double(),
    ],
    ids=['half', 'bfloat16', 'to', 'double'],
)
def test_weights_of_another_precision_are_refused_and_nothing_is_changed(change):
    model = build_open()
    with pytest.raises(
        TypeError, match=r'wanted weights of torch.float32, found torch\.b?float(16|64).*autocast'
    ):
        change(model)
    kept = [*model.parameters(), *model.segmentor.parameters()]
    assert {value.dtype for value in kept} == {torch.float32}
