"""Which of many frames hold something unknown: a ranking, objects for a labelling tool, a sheet.

The score of a frame is the mean of its highest 1 % of pixel scores. It needs no labels and no
threshold, and one wrong pixel does not move it. docs/using_scores.md says how well it ranks.
"""

import csv
import json
import os
from collections.abc import Iterator
from io import StringIO
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image
from tqdm import tqdm

from ..evaluation.decided import state_of
from ..files import as_json, replacing
from .drawing import contact_sheet
from .inferencer import OpenSetInferencer
from .inputs import Entries, Inputs, check_out_dir, list_inputs
from .packages import require_packages
from .results import OpenSetResult

#: The share of a frame's pixels whose scores are averaged.
SHARE = 0.01
RECORDS, RANKING = 'frames.jsonl', 'ranking.csv'
OBJECTS, SHEET = 'objects.coco.json', 'contact_sheet.png'
_COLUMNS = ('rank', 'file', 'score', 'unknown_share', 'objects', 'largest_area', 'class_below')


class Found(NamedTuple):
    """What :func:`find` did.

    Attributes:
        frames: how many are ranked.
        new: how many of them this call has run.
        best: the highest (name, score), at most a sheet full.
    """

    frames: int
    new: int
    best: list[tuple[str, float]]


def frame_score(score: np.ndarray) -> float:
    """The mean of the highest 1 % of a frame's scores, of one pixel at least."""
    number = max(1, round(SHARE * score.size))
    highest = np.partition(score, score.size - number, axis=None)[-number:]
    return float(highest.mean(dtype=np.float64))


def find(
    inferencer: OpenSetInferencer,
    inputs: Inputs,
    out_dir: str | Path,
    *,
    threshold: float | None = None,
    min_area: int = 100,
    top: int = 24,
    batch_size: int = 1,
    bad: list[tuple[str, str]] | None = None,
    fiftyone: str | None = None,
) -> Found:
    """Rank frames; an earlier call that ended early is gone on from.

    ``out_dir`` gets ``ranking.csv``, ``contact_sheet.png`` and, with a threshold,
    ``objects.coco.json``. ``frames.jsonl`` has a line for each frame that is done.

    Args:
        inferencer: its main score counts.
        inputs: as of the inferencer.
        threshold: of the main score, at and above which pixels are objects; None: no objects.
        min_area: smallest object, in pixels.
        top: frames on the contact sheet.
        batch_size, bad: as of the inferencer.
        fiftyone: name of a new FiftyOne data set of the frames; None: none is made.

    Raises:
        ModuleNotFoundError: FiftyOne is asked for and not installed.
        ValueError: the folder holds frames of other inputs, or of another model, threshold or
            ``min_area``; or a data set of that name exists, or would hold frames that are no files.
    """
    if fiftyone is not None:
        _require_new_dataset(fiftyone)
    out_dir = Path(out_dir)
    check_out_dir(out_dir, inputs)
    out_dir.mkdir(parents=True, exist_ok=True)
    settings = dict(
        inputs=os.path.abspath(inputs) if isinstance(inputs, (str, Path)) else None,
        model=state_of(inferencer.model),
        scorer=inferencer.main,
        threshold=threshold,
        min_area=min_area,
    )
    done = _begin(out_dir / RECORDS, as_json(settings))
    entries = list_inputs(inputs)
    left = ((name, source) for name, source in entries.pairs if name not in done)
    results = inferencer.stream(
        entries._replace(pairs=left),
        batch_size=batch_size,
        scorers=[inferencer.main],
        thresholds=(),  # no panels
        bad=bad,
    )
    with open(out_dir / RECORDS, 'a', encoding='utf-8') as file:
        bar = tqdm(
            results,
            'Frames',
            total=entries.total or None,
            initial=len(done),
            unit='frame',
        )
        for result in bar:
            record = _record(result, threshold, min_area)
            file.write(json.dumps(record) + '\n')
            file.flush()
    ranking = _ranking(out_dir / RECORDS)
    _write_csv(out_dir, ranking)
    if threshold is not None:
        _write_coco(out_dir, ranking)
    best = [(name, score) for score, name, _ in ranking[:top]]
    if best:
        _write_sheet(inferencer, inputs, out_dir, best, threshold)
    if fiftyone is not None:
        _write_fiftyone(fiftyone, out_dir, ranking)
    return Found(len(ranking), len(ranking) - len(done), best)


def _begin(path: Path, settings: dict) -> set[str]:
    """Names of the frames that are done; a line that a kill left half written goes."""
    if not path.is_file():
        with replacing(path) as file:
            file.write(json.dumps(settings).encode() + b'\n')
        return set()
    with open(path, 'r+b') as file:
        first = file.readline()
        found = json.loads(first) if first.endswith(b'\n') else None
        if found != settings:
            others = [key for key in settings if (found or {}).get(key) != settings[key]]
            raise ValueError(
                f"'{path}': wanted frames of these inputs, model, threshold and smallest object, "
                f'found those of another {", ".join(others)}. Choose another folder, or remove '
                'this one.'
            )
        names, end = set(), file.tell()
        for line in file:
            if not line.endswith(b'\n'):
                break
            names.add(json.loads(line)['name'])
            end += len(line)
        file.truncate(end)
    return names


def _record(result: OpenSetResult, threshold: float | None, min_area: int) -> dict:
    """What is kept of a frame; its objects as COCO's annotations."""
    score = result.score()
    height, width = score.shape
    record = dict(
        name=result.name,
        source=result.source,
        file_name=result.name + (Path(result.source).suffix if result.source else '.png'),
        score=frame_score(score),
        height=height,
        width=width,
    )
    if threshold is not None:
        record['unknown_share'] = float((score >= np.float32(threshold)).mean())
        record['objects'] = [
            dict(
                category_id=1,
                bbox=one.box,
                segmentation=[one.polygon.flatten().tolist()],
                area=one.area,
                iscrowd=0,
                score=one.max_score,
                mean_score=one.mean_score,
                class_below=one.class_name,
            )
            for one in result.objects(threshold, min_area=min_area)
        ]
    return record


def _ranking(path: Path) -> list[tuple[float, str, int]]:
    """(score, name, place of its line) of every frame, the highest score first."""
    found = []
    with open(path, 'rb') as file:
        file.readline()
        place = file.tell()
        for line in file:
            record = json.loads(line)
            found.append((record['score'], record['name'], place))
            place += len(line)
    return sorted(found, key=lambda one: (-one[0], one[1]))


def _records(out_dir: Path, ranking) -> Iterator[dict]:
    """The records in the order of a ranking, one at a time."""
    with open(out_dir / RECORDS, 'rb') as file:
        for _, _, place in ranking:
            file.seek(place)
            yield json.loads(file.readline())


def _write_csv(out_dir: Path, ranking) -> None:
    text = StringIO(newline='')
    writer = csv.writer(text)
    writer.writerow(_COLUMNS)
    for rank, record in enumerate(_records(out_dir, ranking), 1):
        row = [rank, record['source'] or record['name'], f'{record["score"]:.6g}']
        if 'objects' in record:
            largest = max(record['objects'], key=lambda one: one['area'], default={})
            share = f'{record["unknown_share"]:.6f}'
            row += [share, len(record['objects']), largest.get('area'), largest.get('class_below')]
        writer.writerow(row)
    with replacing(out_dir / RANKING) as file:
        file.write(text.getvalue().encode())


def _write_coco(out_dir: Path, ranking) -> None:
    """Images and annotations of COCO, written one by one; an image's id is its rank."""
    with replacing(out_dir / OBJECTS) as file:
        file.write(b'{"categories": [{"id": 1, "name": "unknown"}],\n"images": [')
        _write_items(file, _coco_images(_records(out_dir, ranking)))
        file.write(b'],\n"annotations": [')
        _write_items(file, _coco_annotations(_records(out_dir, ranking)))
        file.write(b']}\n')


def _write_items(file, items: Iterator[dict]) -> None:
    for i, item in enumerate(items):
        file.write(b',\n' if i else b'\n')
        file.write(json.dumps(item).encode())


def _coco_images(records: Iterator[dict]) -> Iterator[dict]:
    for rank, record in enumerate(records, 1):
        kept = {key: record[key] for key in ('file_name', 'score', 'height', 'width')}
        yield dict(id=rank, **kept)


def _coco_annotations(records: Iterator[dict]) -> Iterator[dict]:
    number = 0
    for rank, record in enumerate(records, 1):
        for one in record['objects']:
            number += 1
            yield dict(id=number, image_id=rank, **one)


def _write_sheet(inferencer, inputs, out_dir: Path, best, threshold) -> None:
    """The best frames as overlays, run once more."""
    wanted = dict(best)
    pairs = ((name, source) for name, source in list_inputs(inputs).pairs if name in wanted)
    results = inferencer.stream(
        Entries(len(best), pairs), scorers=[inferencer.main], thresholds=(), scaled=True
    )
    drawn = {result.name: result.overlay(threshold) for result in results}
    tiles = [
        (f'{rank}  {os.path.basename(name)}  {score:.3g}', drawn[name])
        for rank, (name, score) in enumerate(best, 1)
        if name in drawn
    ]
    with replacing(out_dir / SHEET) as file:
        Image.fromarray(contact_sheet(tiles, font=inferencer.font)).save(file, 'PNG')


def _require_new_dataset(name: str) -> None:
    require_packages('fiftyone', 'fiftyone')
    import fiftyone as fo

    if fo.dataset_exists(name):
        raise ValueError(
            f"fiftyone: wanted the name of a new data set, found '{name}', which exists. Choose "
            f"another, or remove it: fiftyone.delete_dataset('{name}')"
        )


def _write_fiftyone(name: str, out_dir: Path, ranking) -> None:
    """A data set of the frames, the most unknown first; its samples are added one by one."""
    import fiftyone as fo

    for record in _records(out_dir, ranking):
        if record['source'] is None:
            raise ValueError(
                f"fiftyone: wanted images in files, found the frame '{record['name']}'. Write the "
                'frames of the video to a folder first.'
            )
    records = enumerate(_records(out_dir, ranking), 1)
    samples = (_fiftyone_sample(fo, rank, record) for rank, record in records)
    fo.Dataset(name, persistent=True).add_samples(samples, dynamic=True)


def _fiftyone_sample(fo, rank: int, record: dict):
    """FiftyOne counts places in shares of the image."""
    width, height = record['width'], record['height']
    boxes, outlines = [], []
    for one in record.get('objects', ()):
        left, top, columns, rows = one['bbox']
        (flat,) = one['segmentation']
        box = [left / width, top / height, columns / width, rows / height]
        outline = [(x / width, y / height) for x, y in zip(flat[::2], flat[1::2])]
        values = {key: one[key] for key in ('area', 'score', 'mean_score', 'class_below')}
        boxes.append(fo.Detection(label='unknown', bounding_box=box, **values))
        shape = dict(points=[outline], closed=True, filled=True)
        outlines.append(fo.Polyline(label='unknown', **shape, **values))
    return fo.Sample(
        filepath=os.path.abspath(record['source']),
        rank=rank,
        open_score=record['score'],
        unknown=fo.Detections(detections=boxes),
        outlines=fo.Polylines(polylines=outlines),
    )
