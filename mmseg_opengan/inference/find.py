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
from typing import Any, NamedTuple

import numpy as np
from PIL import Image
from tqdm import tqdm

from ..evaluation.decided import state_of
from ..files import as_json, replacing
from .drawing import contact_sheet
from .inferencer import OpenSetInferencer
from .inputs import Entries, Inputs, check_out_dir, list_inputs
from .packages import require_packages
from .records import Frame, Ranked, Records, frame_of
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
    scorer: str | None = None,
    threshold: float | None = None,
    min_area: int = 100,
    top: int = 24,
    batch_size: int = 1,
    bad: list[tuple[str, str]] | None = None,
    fiftyone: str | None = None,
) -> Found:
    """Rank frames; an earlier call that ended early is gone on from.

    ``out_dir`` gets ``ranking.csv``, ``contact_sheet.png`` and, with a threshold,
    ``objects.coco.json``: of the frames that the inputs are now. ``frames.jsonl`` has a line for
    each frame that was run; one that has changed since is run again.

    Args:
        inferencer: the model.
        inputs: as of the inferencer.
        scorer: name of the score that counts; None: the inferencer's main one.
        threshold: of that score, at and above which pixels are objects; None: no objects.
        min_area: smallest object, in pixels.
        top: frames on the contact sheet.
        batch_size, bad: as of the inferencer.
        fiftyone: name of a new FiftyOne data set of the frames; None: none is made.

    Raises:
        ModuleNotFoundError: FiftyOne is asked for and not installed.
        ValueError: the folder holds inputs, or frames of other inputs, or of another model, score,
            threshold or ``min_area``; or a data set of that name exists, or would hold frames that
            are no files.
    """
    if fiftyone is not None:
        _require_new_dataset(fiftyone)
    out_dir, scorer = Path(out_dir), scorer or inferencer.main
    entries = list_inputs(inputs)
    check_out_dir(out_dir, inputs, entries)
    present: dict[str, Frame] = {}

    def left() -> Iterator[tuple[str, Any]]:
        for name, source in entries.pairs:
            present[name] = frame_of(name, source, entries.video)
            if present[name] in records:
                bar.update()
            else:
                yield name, source

    results = inferencer.stream(
        entries._replace(pairs=left()),
        batch_size=batch_size,
        scorers=[scorer],
        thresholds=(),  # no panels
        bad=bad,
    )
    out_dir.mkdir(parents=True, exist_ok=True)
    settings = dict(
        inputs=os.path.abspath(inputs) if isinstance(inputs, (str, Path)) else None,
        model=state_of(inferencer.model),
        pipeline=inferencer.reader.steps,
        scorer=scorer,
        threshold=None if threshold is None else repr(float(threshold)),  # JSON has no infinity
        min_area=min_area,
    )
    records = Records(out_dir / RECORDS, as_json(settings))
    new = 0
    with tqdm(desc='Frames', total=entries.total or None, unit='frame') as bar:
        for result in results:
            records.add(present[result.name], _record(result, threshold, min_area))
            bar.update()
            new += 1
    ranking = records.ranked(present.values())
    _write_csv(out_dir, records, ranking)
    if threshold is not None:
        _write_coco(out_dir, records, ranking)
    best = ranking[:top]
    tiles = _tiles(inferencer, inputs, best, scorer, threshold) if best else []
    _write_sheet(out_dir / SHEET, tiles, inferencer.font)
    if fiftyone is not None:
        _write_fiftyone(fiftyone, records, ranking)
    return Found(len(ranking), new, [(one.frame.name, one.score) for one in best])


def _record(result: OpenSetResult, threshold: float | None, min_area: int) -> dict:
    """What is kept of a frame; its objects as COCO's annotations."""
    score = result.score()
    height, width = score.shape
    record: dict = dict(score=frame_score(score), height=height, width=width)
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


def _write_csv(out_dir: Path, records: Records, ranking: list[Ranked]) -> None:
    text = StringIO(newline='')
    writer = csv.writer(text)
    writer.writerow(_COLUMNS)
    for rank, record in enumerate(records.of(ranking), 1):
        row = [rank, record['source'] or record['name'], f'{record["score"]:.6g}']
        if 'objects' in record:
            largest = max(record['objects'], key=lambda one: one['area'], default={})
            share = f'{record["unknown_share"]:.6f}'
            row += [share, len(record['objects']), largest.get('area'), largest.get('class_below')]
        writer.writerow(row)
    with replacing(out_dir / RANKING) as file:
        file.write(text.getvalue().encode())


def _write_coco(out_dir: Path, records: Records, ranking: list[Ranked]) -> None:
    """Images and annotations of COCO, written one by one; an image's id is its rank."""
    with replacing(out_dir / OBJECTS) as file:
        file.write(b'{"categories": [{"id": 1, "name": "unknown"}],\n"images": [')
        _write_items(file, _coco_images(records.of(ranking)))
        file.write(b'],\n"annotations": [')
        _write_items(file, _coco_annotations(records.of(ranking)))
        file.write(b']}\n')


def _write_items(file, items: Iterator[dict]) -> None:
    for i, item in enumerate(items):
        file.write(b',\n' if i else b'\n')
        file.write(json.dumps(item).encode())


def _coco_images(records: Iterator[dict]) -> Iterator[dict]:
    for rank, record in enumerate(records, 1):
        suffix = Path(record['source'] or 'frame.png').suffix
        kept = {key: record[key] for key in ('score', 'height', 'width')}
        yield dict(id=rank, file_name=record['name'] + suffix, **kept)


def _coco_annotations(records: Iterator[dict]) -> Iterator[dict]:
    number = 0
    for rank, record in enumerate(records, 1):
        for one in record['objects']:
            number += 1
            yield dict(id=number, image_id=rank, **one)


def _tiles(
    inferencer: OpenSetInferencer,
    inputs: Inputs,
    best: list[Ranked],
    scorer: str,
    threshold: float | None,
) -> list[tuple[str, np.ndarray]]:
    """Captions and overlays of the best frames, which are run once more."""
    wanted = {one.frame.name for one in best}
    pairs = ((name, source) for name, source in list_inputs(inputs).pairs if name in wanted)
    results = inferencer.stream(
        Entries(len(best), pairs), scorers=[scorer], thresholds=(), scaled=True, bad=[]
    )
    drawn = {result.name: result.overlay(threshold) for result in results}
    tiles = []
    for rank, one in enumerate(best, 1):
        name = one.frame.name
        if name in drawn:  # it can have gone in between
            tiles.append((f'{rank}  {os.path.basename(name)}  {one.score:.3g}', drawn[name]))
    return tiles


def _write_sheet(path: Path, tiles: list[tuple[str, np.ndarray]], font) -> None:
    """Without tiles there is no sheet, nor that of an earlier run."""
    if not tiles:
        path.unlink(missing_ok=True)
        return
    with replacing(path) as file:
        Image.fromarray(contact_sheet(tiles, font=font)).save(file, 'PNG')


def _require_new_dataset(name: str) -> None:
    require_packages('fiftyone', 'fiftyone')
    import fiftyone as fo

    if fo.dataset_exists(name):
        raise ValueError(
            f"fiftyone: wanted the name of a new data set, found '{name}', which exists. Choose "
            f"another, or remove it: fiftyone.delete_dataset('{name}')"
        )


def _write_fiftyone(name: str, records: Records, ranking: list[Ranked]) -> None:
    """A data set of the frames, the most unknown first; its samples are added one by one."""
    import fiftyone as fo

    for record in records.of(ranking):
        if record['source'] is None:
            raise ValueError(
                f"fiftyone: wanted images in files, found the frame '{record['name']}'. Write the "
                'frames of the video to a folder first.'
            )
    numbered = enumerate(records.of(ranking), 1)
    samples = (_fiftyone_sample(fo, rank, record) for rank, record in numbered)
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
