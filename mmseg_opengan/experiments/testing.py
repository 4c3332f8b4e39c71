"""Tests of an experiment: all discriminators and scorers in one pass over the test images.

A report that has what is asked for, made from the same files, data and options, is not made again.
"""

import json
import time
from dataclasses import replace
from functools import partial
from pathlib import Path

from mmengine.config import Config
from mmengine.registry import init_default_scope
from mmengine.runner import CheckpointLoader, Runner

from ..engine.launch import use_gpu
from ..evaluation.decided import digest_of_data
from ..models.frozen_segmentor import part_of
from ..models.scorers.base import SCORERS
from ..provenance import digest_of_file, is_done, made_from, note
from ..shipped import read_config_file
from .jobs import Job, claim, in_parallel, own_modules, quiet, train

#: Where the work directory of a test has its report.
REPORT = Path('open_set_eval', 'test', 'metrics.json')
#: Options of the model without a part in a test.
_TRAINING = ('lambda_open', 'lambda_fake', 'reduction', 'generator_loss', 'scorers')


def evaluate(
    *,
    config: str,
    jobs: list[Job],
    resolution: str,
    out,
    options: dict | None = None,
    bootstrap_block: int = 0,
    scorers: dict[str, dict] | None = None,
    hooks=(),
) -> dict:
    """One pass over the test images.

    Args:
        config: the config whose segmentor and test set are used.
        jobs: finished trainings.
        resolution: ``'feature'`` or ``'image'``.
        out: work directory; its ``open_set_eval/test/metrics.json`` is the report.
        options: config overrides.
        bootstrap_block: consecutive images in a block of the bootstrap; 0 has no blocks.
        scorers: configs of further scorers by name; None takes those of the config.
        hooks: configs of further hooks of the test.

    Returns:
        dict: the report.
    """
    out = Path(out)
    cfg = read_config_file(config)
    cfg.merge_from_dict({**(options or {}), 'model.resolution': resolution, 'work_dir': str(out)})
    tested = dict((cfg.model.get('scorers') or {}) if scorers is None else scorers)
    for job in jobs:
        tested.update(scorers_of(job))
    cfg.model.update(discriminator=None, generator=None, fuse=None)
    cfg.model.scorers = tested  # update would keep those of the config
    cfg.load_from = None
    cfg.experiment_name = f'{out.name}_{time.time_ns()}'  # else mmengine gives it another's logger
    cfg.test_evaluator.bootstrap_block = bootstrap_block
    cfg.custom_hooks = [*cfg.get('custom_hooks', []), *hooks]
    init_default_scope(cfg.get('default_scope', 'mmseg'))
    request = _request(cfg)
    if not is_done(out, REPORT, request):
        runner = Runner.from_cfg(cfg)
        (out / REPORT).unlink(missing_ok=True)  # never beside the record of another
        note(out, request)
        runner.test()
    return json.loads((out / REPORT).read_text())


def scorers_of(job: Job) -> dict[str, dict]:
    """What a finished training is tested by, under :func:`names_of`: its D, or where it trained
    with ``model.fuse`` the fused score, and D.
    """
    trained, fuse = scorer_of(job), fuse_of(job)
    if fuse is None:
        return dict(zip(names_of(job), [trained]))
    stored = CheckpointLoader.load_checkpoint(
        trained['checkpoint'],
        map_location='cpu',
        logger='silent',
    )
    hybrid = SCORERS.build(dict(type='Hybrid', trained=trained, **fuse))
    hybrid.take_statistics(part_of(stored['state_dict'], 'fusion.'))
    file = job.work_dir / 'fused.pth'
    hybrid.save_file(file, segmentor_sha256=hybrid.segmentor_sha256)
    return dict(zip(names_of(job), [dict(type='Hybrid', checkpoint=str(file)), trained]))


def names_of(job: Job) -> list[str]:
    """The run's name, and where its score is fused that of its D."""
    return [replace(job, method=method).name for method in methods_of(job)]


def methods_of(job: Job) -> list[str]:
    """A method's names in tables: its own, and where its score is fused that of its D."""
    return [job.method] if fuse_of(job) is None else [job.method, f'{job.method}-alone']


def fuse_of(job: Job) -> dict | None:
    """``model.fuse``, by which open validation chose D's score fused with a free one."""
    return job.load_config().model.get('fuse')


def scorer_of(job: Job) -> dict:
    """The discriminator that a run's open validation chose, as a scorer."""
    trained = job.load_config()
    network = trained.model.discriminator
    on_images = network.type == 'PatchDiscriminator'
    return dict(
        type='PixelDiscriminatorScorer' if on_images else 'DiscriminatorScorer',
        discriminator=network,
        checkpoint=str(job.work_dir / job.best()['checkpoint']),
    )


def _request(cfg: Config) -> dict:
    """What the numbers of a test depend on: data, segmentor, metric and every scorer's file."""
    values = cfg.to_dict()
    model = values['model']
    segmentor = model['segmentor']
    files = {key: segmentor.get(key) for key in ('config', 'checkpoint')}
    scorers = {
        f'scorer {name}': [scorer, digest_of_file(scorer.get('checkpoint'))]
        for name, scorer in model['scorers'].items()
    }
    return made_from(
        model={key: value for key, value in model.items() if key not in _TRAINING},
        segmentor={
            key: digest_of_file(file) for key, file in files.items() if isinstance(file, str)
        },
        dataset=values['test_dataloader']['dataset'],
        files=digest_of_data(cfg.test_dataloader.dataset),
        evaluator=values['test_evaluator'],
        own_modules=own_modules(values),
        **scorers,
    )


def evaluate_all(passes: list[dict], processes: int) -> list[dict]:
    """The reports of some calls of :func:`evaluate`, by their arguments.

    Args:
        processes: those to share among the passes, each of which has one of its own; 0 does
            everything in this one.
    """
    threads = max(1, processes // len(passes))
    test = partial(_quietly, threads=threads)
    return in_parallel(test, passes, processes, desc='Testing', unit='pass')


def _quietly(options: dict, place: int, threads: int) -> dict:
    """A call of :func:`evaluate`; what is printed goes to its ``console.log``."""
    use_gpu(place)
    with quiet(options['out'], threads=threads, bars=True):
        return evaluate(**options)


def train_and_test(
    jobs: list[Job], *, config: str, out: Path, processes: int, options: dict | None
) -> dict:
    """Train what has not finished, and one report of all discriminators, without figures and other
    scorers.

    They are dealt out to processes, one thread each, which pass over the test images once: number i
    is tested in ``{out}/test_{i % processes}``.

    Args:
        config: what ``out`` belongs to, with ``options``.
        processes: 0 does everything in this one.
        options: config overrides.

    Raises:
        ValueError: ``out`` holds trainings of another config or other options.
        RuntimeError: a job failed; names its log file.
    """
    claim(out, made_from(config=config, options=options or {}))
    train(jobs, processes=processes)
    quick = {
        'test_dataloader.num_workers': 0,
        'test_dataloader.persistent_workers': False,
        'custom_hooks': [
            dict(type='OpenGANHook'),
            dict(type='OpenSetEvaluationHook', plot_test=False),
        ],
    }
    shares = max(1, min(processes, len(jobs)))
    common = dict(
        config=jobs[0].config,
        resolution=jobs[0].load_config().model.resolution,
        options={**(options or {}), **quick},
        scorers={},
    )
    passes = [dict(common, jobs=jobs[i::shares], out=out / f'test_{i}') for i in range(shares)]
    reports = evaluate_all(passes, processes)
    scorers = {}
    for report in reports:
        scorers.update(report['scorers'])
    return dict(reports[0], scorers=scorers)
