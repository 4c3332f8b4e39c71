"""The FiftyOne data set of a ranking."""

import sys
from types import ModuleType

import pytest

from mmseg_opengan.inference.find import find, frame_score


class Record(dict):
    """A sample or a label: FiftyOne takes any further field."""

    def __init__(self, label=None, bounding_box=None, points=None, **fields):
        super().__init__(
            fields,
            label=label,
            bounding_box=bounding_box,
            points=points,
        )


class Dataset:
    made: list = []

    def __init__(self, name=None, persistent=False, overwrite=False):
        self.name, self.persistent = name, persistent
        self.samples: list = []
        self.made.append(self)

    def add_samples(self, samples, expand_schema=True, dynamic=False):
        self.samples += samples


@pytest.fixture
def made(monkeypatch):
    """The data sets that are made from now on, by a stand-in for FiftyOne, whose own ones need a
    MongoDB server. Names and arguments are those of FiftyOne 1.22, whose samples and labels take
    the same values.
    """
    module = ModuleType('fiftyone')
    module.__spec__ = sys.__spec__
    for name in ('Sample', 'Detection', 'Detections', 'Polyline', 'Polylines'):
        setattr(module, name, Record)
    module.Dataset, Dataset.made = Dataset, []
    module.dataset_exists = lambda name: any(one.name == name for one in Dataset.made)
    monkeypatch.setitem(sys.modules, 'fiftyone', module)
    return Dataset.made


def test_frames_scores_boxes_and_outlines(inferencer, frames, tmp_path, made):
    threshold = inferencer.threshold('fpr=0.05')
    options = dict(threshold=threshold, min_area=20, top=1, fiftyone='street')
    find(inferencer, frames, tmp_path / 'out', **options)
    (dataset,) = made
    assert (dataset.name, dataset.persistent) == ('street', True)
    results = {one.source: one for one in inferencer(frames, show_progress=False)}
    assert {sample['filepath'] for sample in dataset.samples} == set(frames)
    scores = [sample['open_score'] for sample in dataset.samples]
    assert scores == sorted(scores, reverse=True)
    for sample in dataset.samples:
        result = results[sample['filepath']]
        assert sample['open_score'] == frame_score(result.score())
        rows, columns = result.labels.shape
        wanted = result.objects(threshold, min_area=20)
        boxes, outlines = sample['unknown']['detections'], sample['outlines']['polylines']
        assert len(boxes) == len(outlines) == len(wanted) > 0
        for box, outline, one in zip(boxes, outlines, wanted):
            left, top, width, height = one.box
            places = [left / columns, top / rows, width / columns, height / rows]
            assert box['bounding_box'] == places
            assert outline['points'] == [[(x / columns, y / rows) for x, y in one.polygon]]
            assert outline['closed']
            assert box['score'] == outline['score'] == one.max_score
    with pytest.raises(ValueError, match=r"found 'street', which exists\. Choose another"):
        find(inferencer, frames, tmp_path / 'again', **options)
    assert not (tmp_path / 'again').exists()


def test_frames_that_are_no_files_are_refused(inferencer, tmp_path, made):
    image = inferencer.dataset('test')[0]['inputs'].numpy().transpose(1, 2, 0)
    with pytest.raises(ValueError, match=r'wanted images in files, .* frame .00000000'):
        find(inferencer, image, tmp_path / 'out', top=1, fiftyone='street')
    assert made == []


def test_without_the_package_nothing_is_run(inferencer, frames, tmp_path, monkeypatch):
    monkeypatch.setattr('mmseg_opengan.inference.packages.find_spec', lambda name: None)
    with pytest.raises(ModuleNotFoundError, match=r'mmseg-opengan\[fiftyone\]'):
        find(inferencer, frames, tmp_path / 'out', fiftyone='street')
    assert not (tmp_path / 'out').exists()
