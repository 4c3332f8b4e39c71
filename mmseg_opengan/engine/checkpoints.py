"""Checkpoints that survive a kill at any moment."""

import os
import re
from pathlib import Path

from mmengine.dist import barrier, is_main_process
from mmengine.fileio import LocalBackend, register_backend
from mmengine.hooks import CheckpointHook
from mmseg.registry import HOOKS

from ..files import replacing


class _WholeFiles(LocalBackend):
    """The local disk, where a file appears whole or not at all."""

    def put(self, obj: bytes, filepath) -> None:
        os.makedirs(os.path.dirname(filepath) or '.', exist_ok=True)
        with replacing(filepath) as file:
            file.write(obj)


register_backend('whole_files', _WholeFiles, force=True)


@HOOKS.register_module()
class WholeCheckpointHook(CheckpointHook):
    """mmengine's ``CheckpointHook``, except that there is always a complete checkpoint to resume
    from.

    mmengine deletes the old checkpoint before it writes the new one, and writes it in place: a kill
    in between leaves nothing, or half a file. Here a new file replaces the old ones once it is
    complete, in this order: the checkpoint, ``last_checkpoint``, and only then the old files go.
    Whatever the moment of a kill, ``last_checkpoint`` names a whole checkpoint and the best one
    that it knows of is there; what else a kill left goes when training resumes.

    Args: as for ``CheckpointHook``, with one metric in ``save_best`` and no ``backend_args``: files
        lie on the local disk.

    Raises:
        FileExistsError: at the start of a run, where the folder has the best checkpoint of another
            one, by whatever metric: two of them would lie there.
        ValueError: at the start of a run that goes on with another ``save_best``, whose numbers do
            not compare; at a validation that lacks the metric.
    """

    def __init__(self, *args, **kwargs):
        super().__init__(*args, backend_args=dict(backend='whole_files'), **kwargs)
        if self.save_best is not None and len(self.save_best) > 1:
            raise ValueError(f'save_best: wanted one metric, found {self.save_best}')

    def before_run(self, runner) -> None:
        """Before a run is resumed: what a kill left half written goes, and the last checkpoint is
        that of this folder.

        ``last_checkpoint`` has a whole path, which is another one where the folder was moved or
        copied.

        Raises:
            ValueError: ``last_checkpoint`` names no checkpoint.
        """
        if not runner._resume or runner._load_from is not None:
            return
        note = Path(runner.work_dir, 'last_checkpoint')
        if note.exists():
            noted = note.read_bytes().decode(errors='replace').strip()
            own = os.path.join(runner.work_dir, os.path.basename(noted))
            if not os.path.isfile(own) and not os.path.isfile(noted):
                raise ValueError(
                    f"'{note}': wanted the path of a checkpoint, found {noted!r}. Write that of an "
                    'iter_*.pth of the folder there, or remove the file to begin again.'
                )
            if is_main_process() and own != noted and os.path.isfile(own):
                with replacing(note) as file:
                    file.write(own.encode())
            barrier()

    def before_train(self, runner) -> None:
        super().before_train(runner)
        if runner._resume and runner._load_from is None and is_main_process():
            for folder in {runner.work_dir, self.out_dir}:
                for half in Path(folder).glob('*.tmp'):  # which a kill has left
                    half.unlink()
        if runner.iter > 0 and runner._load_from is None:  # from this folder's last checkpoint
            # Where a better best is to be noted, and which one it replaces.
            self.last_ckpt = self._here(runner, 'last_ckpt')
            self.best_ckpt_path = self._here(runner, 'best_ckpt')
        if self.save_best is None:
            return
        self._require_own_bests(runner)
        if runner._load_from is None and is_main_process():
            for path in self._other_bests():  # written in the moment of a kill, or replaced in it
                path.unlink()

    def _require_own_bests(self, runner) -> None:
        """Refuse a folder, or a run to go on with, whose best checkpoint another run has chosen."""
        noted = os.path.basename(self.best_ckpt_path or '')
        if noted and not self._is_by_own_metric(noted):
            raise ValueError(
                'save_best: wanted that of the run to go on with, whose best checkpoint is '
                f"'{noted}', found '{self.key_indicators[0]}'"
            )
        others = self._other_bests()
        way_out = 'Add --resume to go on with that run, choose'
        if runner._resume:
            others = [path for path in others if not self._is_by_own_metric(path.name)]
            way_out = 'Choose'
        if others:
            raise FileExistsError(
                f"'{self.out_dir}': wanted a work directory without the best checkpoint of another "
                f'run, found {others[0].name}. {way_out} another --work-dir, or remove the file.'
            )

    def _here(self, runner, name):
        """A checkpoint that the message hub names, in this folder if it lies there: the folder may
        have been moved.
        """
        path = runner.message_hub.get_info(name)
        own = os.path.join(self.out_dir, os.path.basename(path or ''))
        if not os.path.isfile(own):
            return path
        runner.message_hub.update_info(name, own)
        return own

    def _other_bests(self) -> list[Path]:
        """Best checkpoints in this folder, by any metric, that this run does not know of."""
        noted = os.path.basename(self.best_ckpt_path or '')
        return [
            path
            for path in sorted(Path(self.out_dir).glob('best_*'))
            if path.name != noted and re.fullmatch(self._best_pattern(), path.name)
        ]

    def _is_by_own_metric(self, name: str) -> bool:
        metric = self.key_indicators[0]
        if metric == 'auto':
            noted = os.path.basename(self.best_ckpt_path or name)
            metric = noted.removeprefix('best_').rpartition(self._ends()[0])[0]
        return re.fullmatch(self._best_pattern(metric), name) is not None

    def _best_pattern(self, metric: str | None = None) -> str:
        """Matches names of best checkpoints, those by a metric or by any."""
        before, after = self._ends()
        which = '.+' if metric is None else re.escape(metric.replace('/', '_'))
        return f'best_{which}{re.escape(before)}[0-9]+{re.escape(after)}'

    def _ends(self) -> list[str]:
        """What stands before and after the step in the name of a checkpoint."""
        return re.split(r'\{.*?\}', f'_{self.filename_tmpl}', maxsplit=1)

    def _save_best_checkpoint(self, runner, metrics) -> None:
        if self.save_best is None or not hasattr(self, 'file_backend'):
            return  # a validation without a training keeps nothing
        key = self.key_indicators[0]
        if key != 'auto' and key not in metrics:
            raise ValueError(
                f'save_best: wanted one of the numbers of this validation, {sorted(metrics)}, '
                f"found '{key}'"
            )
        old = self.best_ckpt_path
        self.best_ckpt_path = None  # which would be deleted first
        super()._save_best_checkpoint(runner, metrics)
        self.best_ckpt_path = self.best_ckpt_path or old
        replaced = old not in (None, self.best_ckpt_path)
        if replaced and os.path.dirname(old) == self.out_dir and is_main_process():
            Path(old).unlink(missing_ok=True)  # one of another folder is that of another run

    def _save_checkpoint_with_step(self, runner, step, meta) -> None:
        name = self.filename_tmpl.format(step)
        self.last_ckpt = os.path.join(self.out_dir, name)
        runner.message_hub.update_info('last_ckpt', self.last_ckpt)
        outdated = []
        if self.max_keep_ckpts > 0:
            steps = [kept for kept in self.keep_ckpt_ids if kept != step] + [step]
            outdated = steps[: -self.max_keep_ckpts]
            # All of them: after a kill before the old ones are gone, the resumed training deletes
            # them.
            runner.message_hub.update_info('keep_ckpt_ids', steps)
            self.keep_ckpt_ids.clear()
            self.keep_ckpt_ids.extend(steps[-self.max_keep_ckpts :])
        runner.save_checkpoint(
            self.out_dir,
            name,
            save_optimizer=self.save_optimizer,
            save_param_scheduler=self.save_param_scheduler,
            meta=meta,
            by_epoch=self.by_epoch,
            backend_args=self.backend_args,
            **self.args,
        )
        if not is_main_process():
            return
        with replacing(os.path.join(runner.work_dir, 'last_checkpoint')) as file:
            file.write(self.last_ckpt.encode())
        for old in outdated:
            Path(self.out_dir, self.filename_tmpl.format(old)).unlink(missing_ok=True)
