"""Score maps as files of the SegmentMeIfYouCan benchmark (Chan et al., NeurIPS 2021), which its own
evaluation reads.
"""

from pathlib import Path
from typing import Any

import numpy as np

from ..files import replacing
from .inferencer import OpenSetInferencer
from .inputs import list_inputs
from .packages import require_packages

#: The tracks that are submitted, by the names of the benchmark.
TRACKS = ('AnomalyTrack-all', 'ObstacleTrack-all')


def write_submission(
    inferencer: OpenSetInferencer,
    images: Any,
    out_dir: str | Path,
    *,
    method: str,
    track: str,
    score: str | None = None,
) -> int:
    """Write ``{out_dir}/anomaly_p/{method}/{track}/{image}.hdf5`` for every image.

    A file's data set ``value`` holds the raw scores (H, W) as float16, larger = more open.

    Args:
        inferencer: ``model.resolution='image'``.
        images: the track's folder of images.
        out_dir: what ``DIR_OUTPUTS`` of the benchmark names.
        method: name of the submission.
        track: one of ``TRACKS``.
        score: which score map; None: :attr:`OpenSetInferencer.main`.

    Returns:
        int: the number of files.

    Raises:
        ModuleNotFoundError: h5py, of the extra ``smiyc``, is missing.
        ValueError: a wrong option, or a score that float16 cannot hold.
    """
    if track not in TRACKS:
        raise ValueError(f'track: wanted one of {TRACKS}, found {track!r}')
    if Path(method).name != method:
        raise ValueError(f'method: wanted the name of a folder, found {method!r}')
    require_packages('smiyc', 'h5py')
    folder = Path(out_dir, 'anomaly_p', method, track)
    entries = list_inputs(images)
    score = score or inferencer.main
    for result in inferencer.stream(entries, scorers=[score], thresholds=()):
        write_score(folder / f'{result.name}.hdf5', result.scores[score])
    return entries.total


def write_score(path: Path, scores: np.ndarray) -> None:
    """One file of the benchmark; see :func:`write_submission`."""
    import h5py

    with np.errstate(over='ignore'):
        half = scores.astype(np.float16)
    if not np.isfinite(half).all():
        raise ValueError(
            f"'{path}': wanted scores that float16 can hold, found {scores.min():g} to "
            f'{scores.max():g}'
        )
    path.parent.mkdir(parents=True, exist_ok=True)
    with replacing(path) as file, h5py.File(file, 'w') as content:
        content.create_dataset('value', data=half, compression=9)
