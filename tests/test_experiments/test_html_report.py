"""The page of a tiny test: its tables and slider against the files of the test, without and with a
browser.
"""

import base64
import io
import json
import re
import shutil
import subprocess
from html.parser import HTMLParser
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from mmengine.config import Config
from mmengine.runner import Runner
from PIL import Image
from tiny_camvid import SIZES, write_checkpoints, write_config, write_images
from tool_calls import call

from mmseg_opengan.contracts import CLOSED, VOID
from mmseg_opengan.datasets.camvid import CamVidOpenSet
from mmseg_opengan.experiments import html_report
from mmseg_opengan.experiments.html_report import write_report

SCRIPT = Path(html_report.__file__).parents[1] / 'pictures' / 'report.js'
CHROMIUM = (
    shutil.which('chromium') or shutil.which('chromium-browser') or shutil.which('google-chrome')
)


class Page(HTMLParser):
    """Elements in order, each (name, attributes, text inside)."""

    def __init__(self, text):
        super().__init__(convert_charrefs=True)
        self.elements = []
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.elements.append([tag, dict(attrs), ''])

    def handle_data(self, data):
        if self.elements:
            self.elements[-1][2] += data

    def all(self, tag, **wanted):
        found = [one for one in self.elements if one[0] == tag]
        return [one for one in found if wanted.items() <= one[1].items()]


@pytest.fixture(scope='module')
def run(tmp_path_factory):
    """The work directory of a test with score maps; data and config beside it."""
    root = tmp_path_factory.mktemp('tiny')
    config = write_config(root, write_images(root / 'data'))
    trained, segmentor = write_checkpoints(root, config)
    cfg = Config.fromfile(config)
    cfg.merge_from_dict(
        {
            'model.segmentor.checkpoint': str(segmentor),
            'model.resolution': 'image',
            'work_dir': str(root / 'run'),
            'load_from': str(trained),
            'test_evaluator': dict(
                type='OpenSetMetric', threshold='tpr=0.9', output_dir=str(root / 'out')
            ),
            'test_cfg': dict(type='TestLoop'),
            'val_evaluator': dict(type='OpenSetMetric'),
            'val_cfg': dict(type='ValLoop'),
            'custom_hooks': [dict(type='OpenSetEvaluationHook', plot_test=False)],
            'visualizer.name': 'html report',
        }
    )
    Runner.from_cfg(cfg).test()
    return root / 'run'


@pytest.fixture(scope='module')
def page(run):
    path = run.parent / 'page.html'
    assert 'methods' in write_report([run], path, images=2)
    return path


@pytest.fixture(scope='module')
def parsed(page):
    return Page(page.read_text())


@pytest.fixture(scope='module')
def maps(run):
    """name -> (scores, labels: 0 closed, 1 open, 255 void)."""
    dataset = CamVidOpenSet(
        data_root=str(run.parent / 'data'),
        split='test',
        pipeline=[],
    )
    found = {}
    for index, name in enumerate(SIZES):
        scores = np.load(run.parent / f'out/{name}.opengan.npy').astype(np.float32)
        _, open_map = dataset.read_labels(index)
        found[name] = scores, np.where(open_map == VOID, VOID, open_map != CLOSED)
    return found


def counts(maps, threshold):
    """(open, closed) pixels at or above a threshold."""
    found = np.zeros(2, int)
    for scores, labels in maps:
        called = scores >= np.float32(threshold)
        found += [(called & (labels == group)).sum() for group in (1, 0)]
    return found.tolist()


def slider_data(parsed):
    (element,) = parsed.all('script', type='application/json')
    return json.loads(element[2])


def figures(parsed):
    """name -> (levels, truth), as a browser reads them."""
    found = {}
    for _, attributes, _ in parsed.all('figure'):
        content = base64.b64decode(attributes['data-map'].split(',')[1])
        pixels = np.asarray(Image.open(io.BytesIO(content)))
        found[attributes['data-name']] = pixels[..., 0], pixels[..., 1]
    return found


def test_the_page_stands_alone_and_speaks(page, parsed):
    text = page.read_text()
    assert page.stat().st_size < 10e6
    assert '<title>Open-set evaluation</title>' in text
    for _, attributes, _ in parsed.elements:
        for key in ('src', 'href', 'data-map'):
            assert attributes.get(key, 'data:').startswith('data:')
    (policy,) = parsed.all('meta', **{'http-equiv': 'Content-Security-Policy'})
    assert policy[1]['content'].startswith("default-src 'none'")
    assert not re.search(r'https?://(?!www\.w3\.org)', re.sub(r'base64,[^"]+', '', text))
    assert parsed.all('html', lang='en')
    charts = [
        one[1]['alt'] for one in parsed.all('img') if one[1]['src'].startswith('data:image/svg')
    ]
    assert charts[0] == 'ROC curves of Entropy, MSP, OpenGAN'
    assert len(charts) == 4
    assert len(parsed.all('caption')) == len(parsed.all('table'))
    ids = [one[1]['id'] for one in parsed.elements if 'id' in one[1]]
    assert len(ids) == len(set(ids))
    (knob,) = parsed.all('input', type='range')
    assert parsed.all('label', **{'for': knob[1]['id']})[0][2].strip() == 'Threshold of the score'
    assert knob[1]['aria-describedby'] in ids
    (section,) = parsed.all('section')
    assert section[1]['aria-labelledby'] in ids
    levels = [int(one[0][1]) for one in parsed.elements if re.fullmatch(r'h\d', one[0])]
    assert levels[0] == 1
    assert all(after <= before + 1 for before, after in pairwise(levels))
    assert all(one[1]['aria-label'] and one[1]['role'] == 'img' for one in parsed.all('canvas'))


def test_the_tables_hold_the_numbers_of_the_test(run, parsed):
    report = json.loads((run / 'open_set_eval/test/metrics.json').read_text())
    cells = [one[2].strip() for one in parsed.elements if one[0] in ('td', 'th')]
    for found in report['scorers'].values():
        share = found['num_open'] / (found['num_open'] + found['num_closed'])
        for value in (found['AUROC'], found['AP'], share, found['operating_points']['f1']['TPR']):
            assert f'{value:.4f}' in cells
        for name, numbers in found['per_class'].items():
            if numbers['num_open']:
                row = cells.index(name)
                assert cells[row + 1] == f'{numbers["num_open"]:,}'
    assert str(report['checkpoint']) in cells
    assert 'camvid, image resolution, whole' in ''.join(one[2] for one in parsed.all('p'))


def test_the_slider_counts_what_the_score_maps_hold(run, parsed, maps):
    table = slider_data(parsed)
    everything = list(maps.values())
    assert 50 < len(table['threshold']) <= 255
    assert table['threshold'] == sorted(table['threshold'])
    assert table['all'] == dict(
        open=sum(int((labels == 1).sum()) for _, labels in everything),
        closed=sum(int((labels == 0).sum()) for _, labels in everything),
    )
    for step in range(0, len(table['threshold']), 7):
        wanted = counts(everything, table['threshold'][step])
        assert [table['hit'][step], table['alarm'][step]] == wanted
    (knob,) = parsed.all('input', type='range')
    report = json.loads((run / 'open_set_eval/test/metrics.json').read_text())
    (rule, point), *_ = report['scorers']['opengan']['operating_points'].items()
    assert rule == 'tpr=0.9'
    start = int(knob[1]['value'])
    assert table['threshold'][start] == pytest.approx(point['threshold'], abs=2e-3)
    assert table['hit'][start] / table['all']['open'] == pytest.approx(point['TPR'], abs=2e-3)


def test_pictures_are_the_worst_and_hold_the_scores(parsed, maps):
    table = slider_data(parsed)
    start = table['threshold'][int(parsed.all('input', type='range')[0][1]['value'])]
    alarms = {name: counts([one], start)[1] for name, one in maps.items()}
    misses = {
        name: int((one[1] == 1).sum()) - counts([one], start)[0] for name, one in maps.items()
    }
    names = [one[1]['data-name'] for one in parsed.all('figure')]
    assert names[:2] == sorted(alarms, key=alarms.get, reverse=True)[:2]
    worst = sorted((name for name in misses if misses[name]), key=misses.get, reverse=True)[:2]
    assert sorted(names[2:]) == sorted(worst)
    for name, (levels, truth) in figures(parsed).items():
        scores, labels = maps[name]
        assert (truth == np.where(labels == VOID, 2, labels)).all()
        for step in range(0, len(table['threshold']), 19):
            called = scores >= np.float32(table['threshold'][step])
            assert ((levels > step) == called).all()


@pytest.mark.skipif(shutil.which('node') is None, reason='needs node')
def test_what_the_script_counts():
    code = f"""
const {{ countCalled, rates, colourOf, sentence }} = require({str(SCRIPT)!r});
const found = countCalled([0, 5, 6, 9, 9, 200], [0, 0, 0, 1, 2, 1], 5);
const none = rates({{ hit: 0, alarm: 0, open: 0, closed: 4 }});
console.log(JSON.stringify([found, rates(found), none, colourOf(9, 1, 5, 'decisions'), sentence(found)]));
"""
    done = subprocess.run(
        ['node', '-e', code],
        capture_output=True,
        text=True,
        check=True,
    )
    found, rates, none, colour, sentence = json.loads(done.stdout)
    assert found == dict(
        hit=2,
        alarm=1,
        open=2,
        closed=3,
    )
    assert rates == dict(
        tpr=1,
        fpr=pytest.approx(1 / 3),
        precision=pytest.approx(2 / 3),
    )
    assert none == dict(tpr=None, fpr=0, precision=None)
    assert colour[:3] == [0, 158, 115]
    assert sentence == 'TPR 100.0 %, FPR 33.3 %, precision 66.7 %'


@pytest.mark.skipif(CHROMIUM is None, reason='needs Chromium: apt-get install chromium')
def test_the_slider_moves_the_rates_in_a_browser(page, parsed, maps, tmp_path):
    table = slider_data(parsed)
    step = len(table['threshold']) // 2
    moved = tmp_path / 'moved.html'
    move = f"""<script>
const wait = setInterval(() => {{
  const section = document.querySelector('section.run');
  if (section.dataset.ready !== 'yes') return;
  clearInterval(wait);
  const slider = section.querySelector('input[type=range]');
  slider.value = {step};
  slider.dispatchEvent(new Event('input'));
  section.dataset.ready = 'moved';
}}, 20);
</script></body>"""
    moved.write_text(page.read_text().replace('</body>', move))
    options = ['--headless', '--no-sandbox', '--disable-gpu', '--virtual-time-budget=20000']
    home = [f'--user-data-dir={tmp_path / "profile"}', '--dump-dom', f'file://{moved}']
    done = subprocess.run(
        [CHROMIUM, *options, *home],
        capture_output=True,
        text=True,
        timeout=300,
    )
    shown = Page(done.stdout)
    assert shown.all('section')[0][1]['data-ready'] == 'moved', done.stderr[-2000:]
    (summary,) = shown.all('output', **{'class': 'summary'})
    assert summary[2].strip() == _sentence(table['hit'][step], table['alarm'][step], table, step)
    assert shown.all('input', type='range')[0][1]['aria-valuetext'] == summary[2].strip()
    for (name, (levels, truth)), canvas in zip(
        figures(parsed).items(), shown.all('canvas'), strict=False
    ):
        hit = int(((levels > step) & (truth == 1)).sum())
        assert f'{name}: TPR {100 * hit / (truth == 1).sum():.1f} %' in canvas[1]['aria-label']


def _sentence(hit, alarm, table, step):
    tpr, fpr = hit / table['all']['open'], alarm / table['all']['closed']
    rates = [f'{100 * value:.1f} %' for value in (tpr, fpr, hit / (hit + alarm))]
    threshold = float(f'{table["threshold"][step]:.4g}')
    text = f'TPR {rates[0]}, FPR {rates[1]}, precision {rates[2]}'
    return f'score ≥ {threshold:.4}: {text}'


def test_runs_without_score_maps_and_of_other_protocols(run, tmp_path):
    other = tmp_path / 'other'
    shutil.copytree(run / 'open_set_eval', other / 'open_set_eval')
    path = other / 'open_set_eval/test/metrics.json'
    report = json.loads(path.read_text())
    path.write_text(json.dumps(dict(report, resolution='feature')))
    write_report([run, other], tmp_path / 'page.html', images=1)
    text = (tmp_path / 'page.html').read_text()
    assert 'These protocols differ' in text
    assert 'tested without --out' in text
    assert text.count('<section class="run"') == 1
    assert re.search(r'MSP \([^)]*/other\)', text)


def test_a_page_that_would_be_too_large_is_refused(run, tmp_path, monkeypatch):
    monkeypatch.setattr(html_report, 'LARGEST', 1e4)
    with pytest.raises(ValueError, match=r'wanted at most 0\.01 MB, found'):
        write_report([run], tmp_path / 'page.html')
    assert not list(tmp_path.iterdir())


def test_the_tool(run, tmp_path):
    call('report.py', run, '--out', tmp_path / 'new/page.html', '--images', 1)
    assert len(Page((tmp_path / 'new/page.html').read_text()).all('figure')) == 2
