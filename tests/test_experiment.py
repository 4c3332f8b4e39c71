"""Jobs of an experiment."""

from mmseg_opengan import experiment


def test_a_run_counts_as_finished_only_with_its_record(tmp_path):
    job, = experiment.plan({'cls': 'config.py'}, [3], tmp_path)
    assert (job.name, job.work_dir, job.best()) == ('cls_s3', tmp_path / 'cls_s3', None)
    job.work_dir.mkdir()
    (job.work_dir / 'best.json').write_text('{"checkpoint": "best.pth", "step": 5}')
    assert job.best()['step'] == 5
