"""Checkpoints: published ones load as they are, those of D find their segmentor, and what does not fit is refused."""

import hashlib

import pytest
import torch
from mmengine.runner import load_checkpoint
from mmengine.runner.checkpoint import get_state_dict
from small_models import build_open, build_plain

SCORERS = dict(msp=dict(type='MSP'))


@pytest.fixture
def published(tmp_path):
    """(plain model, path of its checkpoint) as mmseg's tools write it."""
    plain = build_plain()
    path = tmp_path / 'plain.pth'
    torch.save(dict(meta=dict(CLASSES=('a', 'b'), PALETTE=[[1, 2, 3]]), state_dict=plain.state_dict()), path)
    return plain, path


def save(path, state):
    torch.save(dict(state_dict=state), path)
    return str(path)


@pytest.mark.parametrize('prefix', ['', 'module.'])
@pytest.mark.parametrize('strict', [True, False])
def test_a_published_checkpoint_loads_without_renaming(published, tmp_path, strict, prefix):
    plain, _ = published
    path = save(tmp_path / 'prefixed.pth', {prefix + key: value for key, value in plain.state_dict().items()})
    model = build_open()
    load_checkpoint(model, path, map_location='cpu', strict=strict)
    state = plain.state_dict()
    assert model.segmentor_state().keys() == state.keys()
    assert all(torch.equal(value, state[key]) for key, value in model.segmentor_state().items())
    model.check_segmentor()


def drop(state):
    del state['backbone.conv1.weight']


def drop_head(state):
    del state['decode_head.conv_seg.bias']


def other_classes(state):
    state['decode_head.conv_seg.weight'] = torch.zeros(11, 60, 1, 1)


def add(state):
    state['decode_head.extra.weight'] = torch.zeros(3)


def nested(state):
    for key in [key for key in state if key.startswith('decode_head.')]:
        state[key.replace('decode_head.', 'decode_head.inner.')] = state.pop(key)


@pytest.mark.parametrize(('damage', 'message'), [
    (drop, r'missing in the checkpoint: backbone\.conv1\.weight$'),
    (drop_head, r'missing in the checkpoint: decode_head\.conv_seg\.bias$'),
    (other_classes, r'shapes differ: decode_head\.conv_seg\.weight \(model \(5, 60, 1, 1\), checkpoint \(11, 60, 1, '),
    (add, r'unknown to the model: decode_head\.extra\.weight$'),
    (nested, r'missing in the checkpoint: decode_head\.conv_seg\.weight.*unknown to the model: decode_head\.inner'),
])
@pytest.mark.parametrize('load', [load_checkpoint, lambda model, path: model.load_state_dict(
    torch.load(path)['state_dict'], strict=False)], ids=['mmengine', 'torch'])
def test_a_checkpoint_that_does_not_fit_the_segmentor_is_refused(published, tmp_path, load, damage, message):
    state = dict(published[0].state_dict())
    damage(state)
    with pytest.raises(RuntimeError, match=message):
        load(build_open(), save(tmp_path / 'damaged.pth', state))


def test_the_many_missing_keys_of_another_architecture_are_counted(tmp_path):
    with pytest.raises(RuntimeError, match=r'missing in the checkpoint: .* and \d+ more; unknown to the model: '):
        load_checkpoint(build_open(), save(tmp_path / 'other.pth', build_plain('SegformerHead').state_dict()))


def test_auxiliary_head_keys_are_dropped(published, tmp_path):
    state = dict(published[0].state_dict(), **{'auxiliary_head.conv_seg.weight': torch.zeros(1)})
    model = build_open()
    load_checkpoint(model, save(tmp_path / 'aux.pth', state), strict=True)
    assert not any(key.startswith('auxiliary_head') for key in model.state_dict())


def test_old_checkpoints_may_lack_num_batches_tracked(published, tmp_path):
    state = {key: value for key, value in published[0].state_dict().items() if 'num_batches_tracked' not in key}
    model = build_open()
    load_checkpoint(model, save(tmp_path / 'old.pth', state))
    model.check_segmentor()


def test_random_segmentor_is_refused():
    with pytest.raises(RuntimeError, match=r'random weights\. Set load_from'):
        build_open().check_segmentor()


def test_segmentor_checkpoint_is_loaded_where_nothing_else_was(published):
    plain, path = published
    model = build_open(segmentor_checkpoint=str(path))
    model.check_segmentor()
    assert all(torch.equal(value, plain.state_dict()[key]) for key, value in model.segmentor_state().items())


# ------------------------------------------------------------------ checkpoints of D and G


@pytest.fixture
def trained(published):
    """(model, its stripped checkpoint, path of the segmentor), as after training with ``load_from``."""
    _, path = published
    model = build_open()
    state = torch.load(path)
    model.complete_checkpoint(state, str(path))
    model.load_state_dict(state['state_dict'], strict=False)
    checkpoint = dict(state_dict=get_state_dict(model), meta=dict())
    model.strip_checkpoint(checkpoint)
    return model, checkpoint, path


def test_a_stripped_checkpoint_holds_d_and_g_only(trained):
    model, checkpoint, path = trained
    assert all(key.startswith('discriminator.') for key in checkpoint['state_dict'])
    assert checkpoint['meta']['opengan'] == dict(segmentor_checkpoint=str(path),
                                                 segmentor_sha256=model.segmentor_sha256())


def test_strip_and_complete_give_the_same_model(trained):
    model, checkpoint, path = trained
    other = build_open(seed=7)
    other.complete_checkpoint(checkpoint, 'elsewhere.pth')
    other.load_state_dict(checkpoint['state_dict'], strict=True)
    other.check_segmentor()
    assert other.discriminator_loaded
    assert other.segmentor_source == str(path)
    assert all(torch.equal(value, other.state_dict()[key]) for key, value in model.state_dict().items())


def test_a_moved_segmentor_is_an_error_that_says_what_to_set(trained):
    _, checkpoint, path = trained
    path.rename(path.with_name('moved.pth'))
    with pytest.raises(FileNotFoundError, match=rf"segmentor '{path}', which is not there. Set model.segmentor_check"):
        build_open().complete_checkpoint(checkpoint)
    model = build_open(segmentor_checkpoint=str(path.with_name('moved.pth')))
    model.complete_checkpoint(checkpoint)
    model.load_state_dict(checkpoint['state_dict'], strict=True)
    model.check_segmentor()


def test_d_trained_on_other_weights_is_refused(trained):
    _, checkpoint, path = trained
    save(path, build_plain(seed=9).state_dict())
    model = build_open()
    model.complete_checkpoint(checkpoint)
    model.load_state_dict(checkpoint['state_dict'])
    with pytest.raises(RuntimeError, match=r"other segmentor weights than those in '.*plain.pth' \(sha256 wanted"):
        model.check_segmentor()


def test_d_without_a_known_segmentor_is_refused(trained, tmp_path):
    _, checkpoint, path = trained
    checkpoint['meta'].clear()
    with pytest.raises(RuntimeError, match=r'names no segmentor\. Set model\.segmentor_checkpoint'):
        build_open().complete_checkpoint(checkpoint)
    alone = save(tmp_path / 'alone.pth', checkpoint['state_dict'])
    with pytest.raises(RuntimeError, match=r'no segmentor is loaded: set model\.segmentor_checkpoint'):
        load_checkpoint(build_open(), alone)
    model = build_open(segmentor_checkpoint=str(path))
    load_checkpoint(model, alone)
    model.check_segmentor()


@pytest.mark.parametrize('discriminator', [
    dict(hidden=(16, 4)), dict(hidden=(16, 8), first_bn=False), dict(hidden=(16, 8), normalize='batch')])
def test_d_of_another_shape_is_refused(trained, discriminator):
    """mmengine would log a warning and test a D that is partly random."""
    _, checkpoint, path = trained
    model = build_open(discriminator=dict(type='FeatureDiscriminator', **discriminator), segmentor_checkpoint=str(path))
    model.complete_checkpoint(checkpoint)
    with pytest.raises(RuntimeError, match='does not fit the discriminator, which would stay partly random'):
        model.load_state_dict(checkpoint['state_dict'], strict=False)


def test_a_model_without_d_takes_a_checkpoint_that_has_one(trained):
    _, checkpoint, _ = trained
    model = build_open(discriminator=None, scorers=SCORERS)
    model.complete_checkpoint(checkpoint)
    model.load_state_dict(checkpoint['state_dict'], strict=False)
    model.check_segmentor()


def test_sha256_is_over_names_and_values(trained):
    model = trained[0]
    digest = hashlib.sha256()
    for key in sorted(model.segmentor_state()):
        digest.update(key.encode() + model.segmentor_state()[key].numpy().tobytes())
    assert model.segmentor_sha256() == digest.hexdigest()
    other = build_open(weights=build_plain(seed=9).state_dict())
    assert other.segmentor_sha256() != model.segmentor_sha256()


def test_sha256_follows_a_second_load(trained):
    model = trained[0]
    before = model.segmentor_sha256()
    model.load_state_dict(build_plain(seed=9).state_dict(), strict=False)
    assert model.segmentor_sha256() != before
