"""Whatever stands in a checkpoint or behind an option: what was meant, or an error that names it."""

import pytest
import torch
from fuzzing import EDITS, edited, fuzz, given, outcome, st
from mmengine.registry import init_default_scope
from mmengine.runner import CheckpointLoader
from mmseg.registry import METRICS, MODELS, TASK_UTILS
from small_models import plain_config

import mmseg_opengan.register  # noqa: F401
from mmseg_opengan.models.scorers.base import SCORERS


@pytest.fixture(scope='module')
def saved(tmp_path_factory):
    """Bytes of a checkpoint in torch's format of today, and in that before 1.6."""
    init_default_scope('mmseg')
    path = tmp_path_factory.mktemp('saved') / 'whole.pth'
    content = dict(state_dict=dict(weight=torch.arange(40.0)), meta=dict(iter=3, names=('a',)))
    found = []
    for is_zip in (True, False):
        torch.save(content, path, _use_new_zipfile_serialization=is_zip)
        found.append(path.read_bytes())
    return found


@fuzz
@given(st.booleans(), EDITS)
def test_checkpoints(saved, tmp_path, is_old, edits):
    path = tmp_path / 'fuzzed.pth'
    path.write_bytes(edited(saved[is_old], edits))
    found, message = outcome(
        lambda: CheckpointLoader.load_checkpoint(str(path), map_location='cpu'), RuntimeError
    )
    if message is not None:
        assert f"'{path}'" in message
    elif not is_old:  # the old format has no checksums
        assert found['state_dict']['weight'].equal(torch.arange(40.0))
        assert found['meta'] == dict(iter=3, names=('a',))


@fuzz
@given(st.binary(max_size=80))
def test_bytes_as_checkpoints(tmp_path, content):
    path = tmp_path / 'fuzzed.pth'
    path.write_bytes(content)
    with pytest.raises(RuntimeError, match=r'fuzzed\.pth'):
        CheckpointLoader.load_checkpoint(str(path), map_location='cpu')


SCALARS = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-2, 3),
    st.floats(),
    st.sampled_from(['', 'all', 'batch', 'mean', 'slide', 'none', 'fpr=2', 'f1', '0.5']),
)
VALUES = st.one_of(
    SCALARS,
    st.lists(SCALARS, max_size=2),
    st.dictionaries(st.text(max_size=2), SCALARS, max_size=1),
)
#: What is built -> its options; each gets any value.
OPTIONS = dict(
    OpenGANSegmentor=(
        MODELS,
        ('lambda_open', 'lambda_fake', 'reduction', 'generator_loss', 'resolution', 'smoothing'),
    ),
    FeatureDiscriminator=(MODELS, ('hidden',)),
    FeatureGenerator=(MODELS, ('hidden', 'noise_channels', 'act', 'out_act')),
    PixelSampler=(
        TASK_UTILS,
        ('num_closed', 'num_open', 'num_fake', 'closed_images_per_batch'),
    ),
    PatchSampler=(
        TASK_UTILS,
        ('crop_size', 'fake_grid', 'fake_images', 'open_images_per_batch'),
    ),
    BiGAN=(SCORERS, ('kind', 'steps')),
    C2AE=(SCORERS, ('condition', 'steps')),
    GMM=(SCORERS, ('num_components', 'covariance')),
    KPlusOne=(SCORERS, ('open_fraction', 'steps')),
    MCDropout=(SCORERS, ('rate', 'uncertainty', 'num_samples')),
    MSPc=(SCORERS, ('temperature', 'epsilon')),
    NearestNeighbour=(SCORERS, ('k', 'num_references')),
    OpenMax=(SCORERS, ('alpha', 'tail_size')),
    ReAct=(SCORERS, ('quantile', 'per', 'uncertainty')),
    OpenSetMetric=(METRICS, ('threshold', 'components', 'protocol', 'bootstrap_block')),
)
GIVEN = dict(
    OpenGANSegmentor=dict(segmentor=dict(config=dict(model=plain_config()))),
    FeatureDiscriminator=dict(in_channels=4),
    FeatureGenerator=dict(out_channels=4),
)


@fuzz
@given(st.data())
def test_options(saved, data):
    name = data.draw(st.sampled_from(sorted(OPTIONS)))
    registry, options = OPTIONS[name]
    option = data.draw(st.sampled_from(options))
    value = data.draw(VALUES)
    config = {'type': name, **GIVEN.get(name, {}), option: value}
    _, message = outcome(lambda: registry.build(config), ValueError, TypeError)
    if message is not None:
        assert 'wanted' in message, (option, value, message)
        assert option in message, (option, value, message)
