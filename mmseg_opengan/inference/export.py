"""A trained model as one file for other runtimes: ONNX, or a program of ``torch.export``.

A file is written only after its own runtime has given what torch gives, on real images.
"""

import io
import json
from collections.abc import Callable, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import torch
from mmseg.structures import SegDataSample
from torch import Tensor
from torch.nn.functional import interpolate

from ..files import replacing
from ..models.exported import ExportedModel, sizes_as_symbols
from ..models.open_set_segmentor import meta_of
from .inferencer import OpenSetInferencer
from .inputs import list_inputs
from .packages import require_packages

OPSET = 18
#: The file's labels are those of torch at so many pixels at least ...
LABELS_EQUAL = 0.9999
#: ... and its scores differ by so much of their range at most, probabilities by so much at all.
SCORE_ERROR = 1e-4
#: Scores of a smaller range, as of a network that has hardly learned, are held to this one.
SMALLEST_RANGE = 0.1

Outputs = tuple[np.ndarray, ...]
Run = Callable[[Tensor], Outputs]


def export(
    inferencer: OpenSetInferencer,
    path: str | Path,
    *,
    images: Any = None,
    score: str | None = None,
    dtype: str = 'uint8',
    size: Sequence[int] | None = None,
    limit: int = 4,
) -> str:
    """Write a model as ``.onnx`` or ``.pt2``, by the ending of ``path``.

    The file takes ``image`` (N, 3, H, W), RGB from 0 to 255, and gives ``labels`` (N, H, W) int32,
    ``score`` (N, H, W) float32 and, of a score that is an open logit, ``probability``, its
    sigmoid. N is free. H and W are free too without ``size``.

    Args:
        inferencer: on the CPU, ``model.resolution='image'``. Its other scores are dropped.
        path: file to write.
        images: on which the file is checked: what an inferencer takes; None takes the config's
            test images.
        score: which score map the file gives; None: :attr:`OpenSetInferencer.main`.
        dtype: of ``image``: ``'uint8'`` or ``'float32'``.
        size: (H, W), the only one that the file takes: ONNX needs it where a head pools to a grid.
            The images of the check are resized to it.
        limit: images to check.

    Returns:
        str: what was written, and what the check found.

    Raises:
        ModuleNotFoundError: a package of the extra ``export`` is missing.
        RuntimeError: the file cannot be run, or gives other labels or scores than torch. No file
            is written.
        ValueError: a wrong option, or a model that has no such graph.
    """
    path = Path(path)
    if path.suffix not in ('.onnx', '.pt2'):
        raise ValueError(f"path: wanted a file that ends in .onnx or .pt2, found '{path}'")
    if dtype not in ('uint8', 'float32'):
        raise ValueError(f"dtype: wanted 'uint8' or 'float32', found {dtype!r}")
    if path.suffix == '.onnx':
        require_packages('export', 'onnx', 'onnxscript', 'onnxruntime')
    images = inferencer.dataset('test') if images is None else images
    if size is not None and min(size) < 1:
        raise ValueError(f'size: wanted a height and a width, found {size}')
    score = score or inferencer.main
    cases = check_cases(inferencer, images, limit, size)
    model = ExportedModel(inferencer.model, score).eval()
    wanted = [reference(model, case) for case in cases]
    cases = [case.flip(1).to(getattr(torch, dtype)) for case in cases]
    meta = dict(
        score=score,
        classes=list(inferencer.classes),
        image='RGB, 0 to 255',
    )
    note = ''
    axes = (0, 2, 3) if size is None else (0,)
    program = exported_program(model, cases[-1], axes)
    if path.suffix == '.onnx':
        content, run = onnx_file(program, model.outputs, meta)
    else:
        content, run = torch_file(program, meta)
        try:
            run(cases[0])
        except (AssertionError, RuntimeError):
            # Torch takes the batch of an attention layer for larger than 1.
            cases, wanted, note = cases[:-1], wanted[:-1], ', one image at a time'
            content, run = torch_file(exported_program(model, cases[0], axes[1:]), meta)
    try:
        checked = compared([run(case) for case in cases], wanted)
    except Exception as error:  # onnxruntime's have no other class in common
        way = '' if size else ' A head that pools to a grid needs one size: --size HEIGHT WIDTH.'
        raise RuntimeError(
            f"'{path}': the check refuses it: {error} No file was written.{way}"
        ) from error
    path.parent.mkdir(parents=True, exist_ok=True)
    with replacing(path) as file:
        file.write(content)
    return f"'{path}': score '{score}', {len(content) / 1e6:.1f} MB{note}. {checked}"


# ---------------------------------------------------------------------- the check


def check_cases(
    inferencer: OpenSetInferencer, images: Any, limit: int, size: Sequence[int] | None = None
) -> list[Tensor]:
    """Batches (N, 3, H, W) of images as the test pipeline gives them: each image, a part of the
    first of an odd size, and last a batch of two. With a ``size`` all have it.
    """
    single = []
    for name, source in islice(list_inputs(images).pairs, limit):
        _, packed = inferencer.read(name, source)
        image = packed['inputs'][None]
        if size is not None:
            resized = interpolate(image.float(), tuple(size), mode='bilinear')
            image = resized.round().to(image.dtype)
        single.append(image)
    if not single:
        raise ValueError('images: wanted at least one to check the file on, found none')
    first = single[0]
    pair = torch.cat([first, first.flip(3)])
    if size is not None:
        return [*single, pair]
    rows, columns = (length * 3 // 4 | 1 for length in first.shape[2:])
    return [*single, first[..., :rows, :columns], pair]


@torch.no_grad()
def reference(model: ExportedModel, images: Tensor) -> Outputs:
    """Labels and scores (N, H, W) by the model's own prediction of BGR images."""
    samples = [SegDataSample(metainfo=meta_of(images)) for _ in images]
    samples = model.model.test_step(dict(inputs=list(images), data_samples=samples))
    labels = torch.cat([sample.pred_sem_seg.data for sample in samples])
    scores = torch.cat([sample.open_scores.get(model.score) for sample in samples])
    found = [labels, scores, scores.sigmoid()][: len(model.outputs)]
    return tuple(one.numpy() for one in found)


def compared(found: Sequence[Outputs], wanted: Sequence[Outputs]) -> str:
    """What a check found, in words.

    Raises:
        ValueError: a label, a score or a probability differs by more than is allowed.
    """
    equal = min(float((a[0] == b[0]).mean()) for a, b in zip(found, wanted, strict=True))
    score_range = max(SMALLEST_RANGE, *(float(np.ptp(scores)) for _, scores, *_ in wanted))
    worst = [0.0, 0.0]  # of scores, in parts of their range; of probabilities
    for values, own in zip(found, wanted, strict=True):
        for i, unit in enumerate((score_range, 1.0)[: len(own) - 1]):
            difference = float(np.abs(values[i + 1] - own[i + 1]).max()) / unit
            worst[i] = float(np.maximum(worst[i], difference))  # NaN stays
    shapes = dict.fromkeys('x'.join(map(str, labels.shape)) for labels, *_ in wanted)
    text = (
        f'{len(wanted)} batches of {", ".join(shapes)}: labels equal at {100 * equal:.4f} % of the '
        f'pixels, scores within {worst[0]:.1e} of their range'
    )
    if len(wanted[0]) > 2:
        text += f', probabilities within {worst[1]:.1e}'
    if equal < LABELS_EQUAL or not max(worst) <= SCORE_ERROR:
        raise ValueError(
            f'wanted labels equal at {100 * LABELS_EQUAL} %, scores within {SCORE_ERROR:g} of '
            f'their range and probabilities within {SCORE_ERROR:g}, found {text}.'
        )
    return text


# ---------------------------------------------------------------------- the files


@torch.no_grad()
def exported_program(model: ExportedModel, image: Tensor, axes: Sequence[int]) -> Any:
    """The graph of ``torch.export``, which takes any length of the image's ``axes``."""
    free = {axis: torch.export.Dim.DYNAMIC for axis in axes}
    with sizes_as_symbols():
        return torch.export.export(model, (image,), dynamic_shapes=(free,), strict=False)


def torch_file(program: Any, meta: dict) -> tuple[bytes, Run]:
    """The bytes of a ``.pt2`` file, and what runs them; ``meta`` lies in it as ``opengan.json``."""
    file = io.BytesIO()
    torch.export.save(program, file, extra_files={'opengan.json': json.dumps(meta)})
    file.seek(0)
    loaded = torch.export.load(file).module()

    @torch.no_grad()
    def run(image: Tensor) -> Outputs:
        return tuple(output.numpy() for output in loaded(image))

    return file.getvalue(), run


def onnx_file(program: Any, outputs: Sequence[str], meta: dict) -> tuple[bytes, Run]:
    """The bytes of an ONNX file, and what runs them; ``meta`` is its metadata."""
    import onnxruntime

    exported: Any = torch.onnx.export(
        program,
        dynamo=True,
        opset_version=OPSET,
        input_names=['image'],
        output_names=list(outputs),
        verbose=False,
    )
    proto = exported.model_proto
    for key, value in dict(meta, opset=OPSET).items():
        proto.metadata_props.add(key=key, value=value if key == 'image' else json.dumps(value))
    content = proto.SerializeToString()
    session = onnxruntime.InferenceSession(content, providers=['CPUExecutionProvider'])

    def run(image: Tensor) -> Outputs:
        return tuple(session.run(list(outputs), dict(image=image.numpy())))

    return content, run
