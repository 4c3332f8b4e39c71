"""Open-set recognition of whole images: splits, networks, numbers, and the command on the digits."""

import json
import re
import runpy
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from sklearn.metrics import f1_score, roc_auc_score
from torch import nn

TOOL = Path(__file__).resolve().parents[1] / 'benchmarks' / 'recognition.py'
sys.path.append(str(TOOL.parent))

import recognition  # noqa: E402
import small_images  # noqa: E402


def test_shapes_are_counted_as_the_digits_are_and_seeded():
    shapes = small_images.draw_shapes(50, seed=3)
    assert (shapes.shape, shapes.min(), shapes.max()) == ((50, 8, 8), 0, 16)
    assert len(np.unique(shapes.reshape(50, -1), axis=0)) == 50
    assert (shapes == small_images.draw_shapes(50, seed=3)).all()
    assert (shapes != small_images.draw_shapes(50, seed=4)).any()


def write_cifar10(folder: Path, per_file: int = 4) -> np.ndarray:
    """Files of CIFAR-10's binary version; returns their records."""
    rng = np.random.default_rng(0)
    names = [*(f'data_batch_{i}.bin' for i in range(1, 6)), 'test_batch.bin']
    records = rng.integers(0, 256, (len(names) * per_file, 3073), dtype=np.uint8)
    records[:, 0] %= 10
    for name, part in zip(names, np.split(records, len(names))):
        part.tofile(folder / name)
    return records


def test_cifar10_is_read_from_its_binary_version(tmp_path):
    records = write_cifar10(tmp_path)
    images = small_images.cifar10(tmp_path)
    assert images.labels.tolist() == records[:, 0].tolist()
    assert images.is_test.tolist() == [False] * 20 + [True] * 4
    # red first, each colour row by row
    assert images.images[7, 2, 5, 9] == records[7, 1 + 2 * 1024 + 5 * 32 + 9]


def test_cifar10_says_what_is_missing_or_cut(tmp_path):
    write_cifar10(tmp_path)
    with open(tmp_path / 'data_batch_3.bin', 'ab') as file:
        file.write(b'more')
    with pytest.raises(ValueError, match=r"data_batch_3.bin': wanted records of 3073 bytes"):
        small_images.cifar10(tmp_path)
    (tmp_path / 'data_batch_3.bin').unlink()
    with pytest.raises(FileNotFoundError, match=r"found no file '.*data_batch_3.bin'"):
        small_images.cifar10(tmp_path)


def test_a_split_keeps_the_known_classes_and_the_parts_apart():
    images = small_images.digits()
    seen = set()
    for seed in range(5):
        known = recognition.known_classes(images, seed)
        truth, parts = recognition.truth_and_parts(images, seed)
        seen.add(tuple(known))
        assert len(set(known)) == 6
        assert [images.labels[truth == number].unique().item() for number in range(6)] == known
        assert set(images.labels[truth == 6].unique().tolist()) == {*range(11)} - {*known}
        assert (parts[images.is_test] == recognition.TEST).all()
        share = (parts == recognition.VALIDATION).sum() / (~images.is_test).sum()
        assert 0.07 < share < 0.13
    assert len(seen) == 5


def test_no_source_is_without_an_open_class():
    images = small_images.digits()._replace(sources=dict(one=[0, 1], other=[2, 3]))
    for seed in range(20):
        known = set(recognition.known_classes(images, seed))
        assert not {0, 1} <= known
        assert not {2, 3} <= known


def scored_split(number: int = 400) -> tuple[recognition.Split, torch.Tensor]:
    """Random classes and scores that are larger where an image is open."""
    rng = torch.Generator().manual_seed(0)
    labels = torch.randint(10, (number,), generator=rng)
    truth = labels.clamp(max=6)
    logits = torch.randn(number, 6, generator=rng) + 2 * torch.eye(7)[truth][:, :6]
    scores = torch.randn(number, generator=rng) + (truth == 6)
    parts = torch.randint(3, (number,), generator=rng)
    features, classifier = torch.rand(number, 8, generator=rng), nn.Linear(8, 6)
    return recognition.Split(0, labels, truth, parts, features, classifier, logits), scores


def test_rows_are_the_closed_ones_of_a_part_and_the_open_ones_asked_for():
    split, _ = scored_split()
    rows = split.rows(recognition.TEST, [7, 9])
    assert set(split.labels[rows].tolist()) == {*range(6), 7, 9}
    assert (split.parts[rows] == recognition.TEST).all()
    assert set(split.labels[split.rows(recognition.TRAIN)].tolist()) == {*range(6)}


def test_numbers_are_scikit_learns():
    split, scores = scored_split()
    found = recognition.measure(split, scores, validated=[6, 7], tested=[8, 9])

    def f1(part, labels, threshold):
        rows = split.rows(part, labels)
        called = torch.where(scores[rows] >= threshold, 6, split.logits[rows].argmax(1))
        return f1_score(split.truth[rows], called, average='macro', labels=range(7))

    rows = split.rows(recognition.TEST, [8, 9])
    assert found['AUROC'] == pytest.approx(roc_auc_score(split.truth[rows] == 6, scores[rows]))
    values = scores.sort().values
    between = (values[1:] + values[:-1]) / 2  # every way to cut the scores in two
    on_validation = [f1(recognition.VALIDATION, [6, 7], threshold) for threshold in between]
    best = between[torch.tensor(on_validation) >= max(on_validation) - 1e-9]
    on_test = [f1(recognition.TEST, [8, 9], threshold) for threshold in best]
    assert min(on_test) - 1e-9 <= found['macro_F1'] <= max(on_test) + 1e-9


def test_a_seed_gives_one_network_that_learns():
    images = small_images.digits()
    rows = (images.labels < 6).nonzero()[:600, 0]
    given = images.images[rows], images.labels[rows]
    options = images.training | dict(widths=(8, 16), epochs=6)
    first, again = (small_images.train(*given, 0, **options) for _ in range(2))
    features = small_images.features_of(first, given[0])
    assert features.shape == (600, 16)
    assert torch.equal(features, small_images.features_of(again, given[0]))
    assert (first[1](features).argmax(1) == given[1]).float().mean() > 0.5  # .72; chance: .17


def test_the_command_on_the_digits(tmp_path, monkeypatch, capsys):
    arguments = ['digits', '--seeds', '0', '--steps', '60', '--out', str(tmp_path)]
    monkeypatch.setattr(sys, 'argv', ['recognition.py', *arguments])
    runpy.run_path(str(TOOL), run_name='__main__')
    found = json.loads((tmp_path / 'results.json').read_text())
    assert capsys.readouterr().out.rstrip() == (tmp_path / 'table.md').read_text()
    [split] = found['splits']
    assert (split['seed'], split['known']) == (0, [2, 3, 4, 5, 6, 7])
    assert split['accuracy'] > 0.95
    rows = {(one['method'], one['source'], one['test']): one for one in found['results']}
    unknown = recognition.UNKNOWN
    for method, least in (('max logit', 0.9), ('nearest neighbour', 0.93), ('OpenGAN', 0.95)):
        assert rows[method, unknown, unknown]['AUROC'] > least, method
    # Trained on shapes, it finds shapes; the digits' closed test images are the same.
    assert rows['CLS', 'shapes', 'shapes']['AUROC'] > rows['CLS', 'digits', 'shapes']['AUROC']
    assert len(rows) == 12 * 5


def test_the_command_wants_the_photographs(monkeypatch, capsys):
    monkeypatch.setattr(sys, 'argv', ['recognition.py', 'cifar10'])
    with pytest.raises(SystemExit):
        runpy.run_path(str(TOOL), run_name='__main__')
    assert '--data: wanted the folder of CIFAR-10, found nothing' in capsys.readouterr().err


def test_the_examples_of_the_page():
    text = (TOOL.parents[1] / 'docs' / 'recognition.md').read_text()
    detector, free = re.findall(r'^```python\n(.*?)^```', text, re.M | re.S)
    found = {}
    exec(detector, found)
    assert f'{found["auroc"]:.2f}'.removeprefix('0') in text
    exec(free, found)
    assert found['scores'][0] < found['scores'][1]
