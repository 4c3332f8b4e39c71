"""A file that would run code is refused, whichever way it comes in, and its code does not run."""

import os
import pickle

import numpy as np
import pytest
import tiny_camvid
import torch
from mmengine.registry import init_default_scope
from mmseg.apis import init_model
from mmseg.registry import DATASETS
from tiny_cityscapes import SEGMENTOR, STRIDE, built, images, write_images, write_segmentor
from tiny_training import config, runner

from mmseg_opengan.experiments.look_inside import look_inside
from mmseg_opengan.experiments.scored_images import TestedImages
from mmseg_opengan.features.bank import FeatureBank, FeatureBankError
from mmseg_opengan.features.stored_taps import StoredTaps
from mmseg_opengan.inference.inferencer import OpenSetInferencer
from mmseg_opengan.models.scorers.base import SCORERS


class Payload:
    """Unpickling it runs a shell command."""

    def __init__(self, target):
        self.target = str(target)

    def __reduce__(self):
        return os.system, (f'touch {self.target}',)


class Place:
    """A data set, a segmentor, a trained D, and ``evil.pth``, which would write the file ``ran``."""

    def __init__(self, folder):
        self.folder = folder
        self.ran = folder / 'ran'
        self.evil = str(folder / 'evil.pth')
        init_default_scope('mmseg')
        write_images(folder / 'world', 5)
        write_images(folder / 'world', 2, folder='val')
        write_segmentor(folder / 'segmentor.pth')
        torch.save(dict(state_dict=Payload(self.ran), meta={}), self.evil)
        config(folder, folder / 'work').dump(folder / 'config.py')
        (folder / 'tiny').mkdir()
        data = tiny_camvid.write_images(folder / 'camvid')
        self.tiny = str(tiny_camvid.write_config(folder / 'tiny', data))
        trained, _ = tiny_camvid.write_checkpoints(folder / 'tiny', self.tiny)
        self.trained = str(trained)

    def runner(self, **options):
        return runner(self.folder, self.folder / 'work', **options)

    def pickled(self) -> bytes:
        return pickle.dumps(Payload(self.ran))

    def write_array(self, path):
        np.save(path, np.array([Payload(self.ran)], object), allow_pickle=True)


@pytest.fixture(scope='module')
def place(tmp_path_factory):
    return Place(tmp_path_factory.mktemp('code'))


def named_by_last_checkpoint(place):
    (place.folder / 'work').mkdir(exist_ok=True)
    (place.folder / 'work' / 'last_checkpoint').write_text(place.evil)
    place.runner(resume=True).train()


def segmentor(place):
    place.runner(**{'model.segmentor.checkpoint': place.evil})


def segmentor_of_an_inferencer(place):
    OpenSetInferencer(place.tiny, place.trained, segmentor_checkpoint=place.evil)


def scorer(place):
    SCORERS.build(dict(type='NearestNeighbour', checkpoint=place.evil))


def scorer_of_d(place):
    network = dict(type='FeatureDiscriminator')
    SCORERS.build(
        dict(
            type='DiscriminatorScorer',
            discriminator=network,
            checkpoint=place.evil,
        )
    )


def config_in_a_checkpoint(place):
    content = torch.load(place.trained)
    content['meta']['cfg'] = f'import os\nos.system("touch {place.ran}")\n'
    torch.save(content, place.folder / 'config.pth')
    OpenSetInferencer(place.folder / 'config.pth')


def record_of_a_bank(place):
    built(place.folder / 'world', place.folder / 'records')
    (place.folder / 'records' / 'manifest.json').write_bytes(place.pickled())
    FeatureBank(place.folder / 'records')


def shard_of_a_bank(place):
    built(place.folder / 'world', place.folder / 'shards')
    place.write_array(place.folder / 'shards' / 'shard-00000.open.npy')
    FeatureBank(place.folder / 'shards').verify()


def stored_taps(place):
    def tap_of(image, sample):
        features = image[None, :, ::STRIDE, ::STRIDE].float()
        return features, features[:, :2]

    found = images(place.folder / 'world', split='test')
    made = StoredTaps(root=str(place.folder / 'taps'), images=found)
    made.prepare(tap_of, SEGMENTOR)
    (place.folder / 'taps' / '00000.pt').write_bytes(place.pickled())
    made[0]


def thresholds(place):
    with open(f'{place.trained}.decided.json', 'wb') as file:
        file.write(place.pickled())
    OpenSetInferencer(place.tiny, place.trained).threshold('f1')


def meaning_of_ids(place):
    path = place.folder / 'ids.yaml'
    path.write_text(f'!!python/object/apply:os.system ["touch {place.ran}"]')
    root = str(place.folder)
    DATASETS.build(
        dict(
            type='OpenSetFolder',
            data_root=root,
            ids=str(path),
            classes=('road',),
            open_classes=(),
            pipeline=[],
        )
    )


def score_map(place):
    dataset = DATASETS.build(images(place.folder / 'world', split='test'))
    tested = TestedImages(dataset, place.folder, 'opengan')
    place.write_array(place.folder / f'{os.path.basename(tested.path(0))[:-4]}.opengan.npy')
    tested.read(0)


WAYS = dict(
    start_of_a_training=lambda place: place.runner(load_from=place.evil).train(),
    resumed=lambda place: place.runner(load_from=place.evil, resume=True).train(),
    last_checkpoint=named_by_last_checkpoint,
    test=lambda place: place.runner(load_from=place.evil).test(),
    segmentor=segmentor,
    segmentor_of_an_inferencer=segmentor_of_an_inferencer,
    init_model=lambda place: init_model(str(place.folder / 'config.py'), place.evil, device='cpu'),
    inferencer=lambda place: OpenSetInferencer(place.tiny, place.evil),
    bundle=lambda place: OpenSetInferencer(place.evil),
    config_in_a_checkpoint=config_in_a_checkpoint,
    look_inside=lambda place: look_inside(
        str(place.folder / 'config.py'), place.evil, place.folder / 'out'
    ),
    scorer=scorer,
    scorer_of_d=scorer_of_d,
    record_of_a_bank=record_of_a_bank,
    shard_of_a_bank=shard_of_a_bank,
    stored_taps=stored_taps,
    thresholds=thresholds,
    meaning_of_ids=meaning_of_ids,
    score_map=score_map,
)


@pytest.mark.parametrize('way', WAYS)
def test_code_in_a_file_is_refused_and_does_not_run(place, way):
    file = (
        r'evil\.pth|config\.pth|manifest\.json|open\.npy|\.decided\.json|ids\.yaml|'
        r'00000\.pt|opengan\.npy'
    )
    with pytest.raises((RuntimeError, ValueError, FeatureBankError), match=file):
        WAYS[way](place)
    assert not place.ran.exists()


def test_the_code_would_run(place, tmp_path):
    """The other test proves something."""
    torch.save(Payload(tmp_path / 'ran'), tmp_path / 'evil.pth')
    torch.load(tmp_path / 'evil.pth', weights_only=False)
    assert (tmp_path / 'ran').exists()
