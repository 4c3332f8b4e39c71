"""A page of tables, figures and score maps with a slider, as one HTML text that loads nothing."""

import base64
import io
import json
from collections.abc import Sequence
from html import escape
from pathlib import Path
from typing import NamedTuple

import numpy as np
from matplotlib import rc_context
from matplotlib.figure import Figure
from PIL import Image

_FILES = Path(__file__).parent
#: Only what the page itself holds is shown and run.
_POLICY = "default-src 'none'; img-src data:; style-src 'unsafe-inline'; script-src 'unsafe-inline'"


class ScoredImage(NamedTuple):
    """One picture below a slider.

    Attributes:
        name: of the image.
        photo: (H, W, 3) uint8 RGB.
        levels: (h, w) uint8, how many of the slider's thresholds the pixel's score reaches.
        truth: (h, w) uint8, 0 closed, 1 open, 2 void.
    """

    name: str
    photo: np.ndarray
    levels: np.ndarray
    truth: np.ndarray


def page(title: str, parts: Sequence[str]) -> str:
    """The whole document around its parts, which are HTML."""
    style = (_FILES / 'report.css').read_text()
    script = (_FILES / 'report.js').read_text()
    body = '\n'.join(parts)
    return (
        '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f'<meta http-equiv="Content-Security-Policy" content="{_POLICY}">\n'
        f'<title>{escape(title)}</title>\n<style>\n{style}</style>\n</head>\n<body>\n<main>\n'
        f'<h1>{escape(title)}</h1>\n{body}\n</main>\n<script>\n{script}</script>\n</body>\n</html>\n'
    )


def heading(text: str) -> str:
    return f'<h2>{escape(text)}</h2>'


def paragraph(text: str) -> str:
    return f'<p>{escape(text)}</p>'


def table(caption: str, head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A table of texts, whose head and first column are headers to a screen reader."""
    top = ''.join(f'<th scope="col">{escape(text)}</th>' for text in head)
    lines = []
    for first, *others in rows:
        cells = ''.join(f'<td>{escape(text)}</td>' for text in others)
        lines.append(f'<tr><th scope="row">{escape(first)}</th>{cells}</tr>')
    body = '\n'.join(lines)
    return (
        f'<div class="wide" tabindex="0" role="region" aria-label="{escape(caption)}">'
        f'<table><caption>{escape(caption)}</caption>\n<thead><tr>{top}</tr></thead>\n'
        f'<tbody>\n{body}\n</tbody></table></div>'
    )


def beside(parts: Sequence[str]) -> str:
    """Parts in as many columns as there is room for."""
    return f'<div class="columns">\n{"".join(parts)}</div>'


def charts(figures: dict[str, Figure]) -> str:
    """Figures by what they show, which is read out in their place."""
    images = [_chart(text, figure) for text, figure in figures.items()]
    return f'<div class="charts">\n{"".join(images)}</div>'


def _chart(text: str, figure: Figure) -> str:
    file = io.BytesIO()
    with rc_context({'svg.hashsalt': 'report'}):  # the same figure gives the same file
        figure.savefig(file, format='svg', metadata=dict(Date=None))
    return f'<img alt="{escape(text)}" src="{_data("image/svg+xml", file.getvalue())}">\n'


def slider(
    title: str,
    counted: dict,
    marks: dict[str, int],
    groups: dict[str, Sequence[ScoredImage]],
    place: int,
) -> str:
    """A slider over score maps.

    Args:
        title: above it.
        counted: ``threshold`` (ascending, 255 at most), ``hit`` and ``alarm`` (open and closed
            pixels at or above each), ``all`` (``open`` and ``closed``: all of them).
        marks: name -> position in ``threshold``, a button each; the first is where it starts.
        groups: title -> pictures.
        place: tells its labels from those of others on the page.
    """
    start = next(iter(marks.values()))
    buttons = ''.join(
        f'<button type="button" value="{at}">{escape(name)}</button> ' for name, at in marks.items()
    )
    pictures = ''.join(_group(*group) for group in groups.items())
    return (
        f'<section class="run" aria-labelledby="run-{place}">\n'
        f'<h3 id="run-{place}">{escape(title)}</h3>\n'
        f'<script type="application/json">{json.dumps(counted)}</script>\n'
        '<div class="controls">\n'
        f'<label for="slider-{place}">Threshold of the score</label>\n'
        f'<input type="range" id="slider-{place}" min="0" max="{len(counted["hit"]) - 1}" '
        f'value="{start}" aria-describedby="summary-{place}">\n'
        f'<output class="summary" id="summary-{place}" for="slider-{place}" aria-live="polite">'
        f'</output>\n<div>{buttons}<label>Colours show <select><option value="decisions">decisions'
        '</option><option value="score">the score</option></select></label></div>\n'
        '<div class="key"><span class="hit">open, found</span><span class="miss">open, missed'
        '</span><span class="alarm">closed, called open</span><span class="void">void</span></div>'
        f'\n</div>\n{pictures}</section>'
    )


def _group(title: str, images: Sequence[ScoredImage]) -> str:
    figures = ''.join(_figure(image) for image in images)
    return f'<h4>{escape(title)}</h4>\n<div class="pictures">\n{figures}</div>\n'


def _figure(image: ScoredImage) -> str:
    third = np.zeros_like(image.levels)
    map_ = _encoded(np.stack([image.levels, image.truth, third], axis=2), 'PNG', optimize=True)
    photo = _encoded(image.photo, 'JPEG', quality=80)
    name = escape(image.name)
    return (
        f'<figure data-name="{name}" data-map="{_data("image/png", map_)}">\n'
        f'<div class="layers"><img alt="" src="{_data("image/jpeg", photo)}">'
        f'<canvas role="img" aria-label="{name}"></canvas></div>\n'
        f'<figcaption>{name}<output></output></figcaption>\n</figure>\n'
    )


def _encoded(picture: np.ndarray, kind: str, **options) -> bytes:
    file = io.BytesIO()
    Image.fromarray(picture).save(file, kind, **options)
    return file.getvalue()


def _data(kind: str, content: bytes) -> str:
    return f'data:{kind};base64,{base64.b64encode(content).decode()}'
