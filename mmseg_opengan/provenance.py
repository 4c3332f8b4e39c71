"""What the runs of a folder were made from: noted when they begin, compared before they go on or
count as finished.
"""

import importlib.util
import json
from pathlib import Path

from .files import as_json, sha256_of, write_json

DONE = 'best.json'
#: Where the work directory of a test has its report.
REPORT = Path('open_set_eval', 'test', 'metrics.json')
_SETTINGS = 'settings.json'
_RECIPE = 'recipe.json'
_BEGUN = (
    DONE,
    'last_checkpoint',
    'metrics.json',
)  # one of them is in a folder whose settings matter
_RECIPE_KEYS = (
    'model',
    'train_dataloader',
    'val_dataloader',
    'val_evaluator',
    'optim_wrapper',
    'param_scheduler',
    'train_cfg',
    'custom_hooks',
    'randomness',
)
_ELSEWHERE = (
    'data_root',
    'root',
    'scorers',
    'num_workers',
    'persistent_workers',
)  # without a part in what is trained


def claim(out, config: str | dict[str, str], options: dict | None = None) -> None:
    """Note in ``{out}/settings.json`` what is trained there, and refuse a folder that has results
    of something else.

    A folder without that file is accepted, and so is one in which no run has a checkpoint or a
    report yet.

    Args:
        out: folder of all runs.
        config: path of the config, or that of each method; methods that the folder does not know
            yet may join.
        options: config overrides of all runs, as of ``--cfg-options``.

    Raises:
        ValueError: the folder's runs have another config or other options.
    """
    out = Path(out)
    path = out / _SETTINGS
    settings = as_json(dict(config=config, options=options or {}))
    if path.exists() and any(next(out.rglob(name), None) for name in _BEGUN):
        found = json.loads(path.read_text())
        if isinstance(config, dict) and isinstance(found['config'], dict):
            settings['config'] = {**found['config'], **settings['config']}
            found['config'] = {**settings['config'], **found['config']}
        differing = [
            f'{key}: wanted {value}, found {found.get(key)}'
            for key, value in settings.items()
            if found.get(key) != value
        ]
        if differing:
            raise ValueError(
                f"'{out}' holds runs of something else ({'; '.join(differing)}). Choose "
                f'another folder.'
            )
    out.mkdir(parents=True, exist_ok=True)
    write_json(path, settings)


def note_recipe(job) -> None:
    """Note what a run is trained by. Of one that has begun it stays as it was noted, or unknown."""
    if not _begun(job.work_dir):
        job.work_dir.mkdir(parents=True, exist_ok=True)
        write_json(job.work_dir / _RECIPE, _recipe_of(job))


def check_recipe(job) -> None:
    """Refuse to go on from, or to take as finished, a run whose config has changed since.

    Raises:
        ValueError: names the run's folder and every option that differs.
    """
    path = job.work_dir / _RECIPE
    if path.exists() and _begun(job.work_dir):
        differing = list(_differences(_recipe_of(job), json.loads(path.read_text())))
        if differing:
            raise ValueError(
                f"'{job.work_dir}' was trained by another recipe ({'; '.join(differing)}). Choose "
                'another folder, or remove this one.'
            )


def _begun(folder):
    """Whether a run has a checkpoint to go on from, or has finished."""
    return any((folder / name).exists() for name in _BEGUN)


def _recipe_of(job):
    """What the run's weights and their choice depend on, as JSON gives it back, but not where data
    lies.
    """
    config = job.load_config().to_dict()
    parts = {key: _without(config[key], _ELSEWHERE) for key in _RECIPE_KEYS if key in config}
    choice = config['default_hooks']['checkpoint']
    return as_json(
        dict(
            parts,
            **own_modules(config),
            choice={key: choice.get(key) for key in ('save_best', 'rule')},
        )
    )


def own_modules(config: dict) -> dict[str, dict[str, str]]:
    """``{'own modules': {name: digest of its file}}`` of the user's modules in ``custom_imports``;
    {} without any.
    """
    names = (config.get('custom_imports') or {}).get('imports', [])
    found = {}
    for name in [names] if isinstance(names, str) else names:
        if name.split('.')[0] not in ('mmseg_opengan', 'mmseg', 'mmpretrain'):
            spec = importlib.util.find_spec(name)
            if spec is not None and spec.origin is not None and Path(spec.origin).is_file():
                found[name] = sha256_of(spec.origin)
    return {'own modules': found} if found else {}


def _without(value, keys):
    if isinstance(value, dict):
        return {key: _without(item, keys) for key, item in value.items() if key not in keys}
    return [_without(item, keys) for item in value] if isinstance(value, (list, tuple)) else value


def _differences(wanted, found, path=''):
    if isinstance(wanted, dict) and isinstance(found, dict):
        for key in sorted({*wanted, *found}):
            yield from _differences(
                wanted.get(key), found.get(key), f'{path}.{key}' if path else key
            )
    elif wanted != found:
        yield f'{path}: wanted {wanted}, found {found}'
