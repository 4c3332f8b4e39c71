"""Ranks and resumed trainings share the steps of a source; one of them builds its bank."""

import multiprocessing

import pytest
import torch
from tiny_cityscapes import (
    SEGMENTOR,
    built,
    extract,
    same,
    source,
    store,
)
from torch.utils.data import DataLoader

from mmseg_opengan.datasets import anomaly  # noqa: F401
from mmseg_opengan.features import sources as feature_source
from mmseg_opengan.features.bank import FeatureBankError
from mmseg_opengan.features.sources import StepSampler, one_step


def steps(monkeypatch, rank, world_size, count, skip=0, seed=None):
    monkeypatch.setattr(feature_source, 'get_rank', lambda: rank)
    monkeypatch.setattr(feature_source, 'get_world_size', lambda: world_size)
    sampler = StepSampler(range(5), seed)
    sampler.num_skipped = skip
    stream = iter(sampler)
    return [next(stream) for _ in range(count)]


def test_ranks_share_the_steps(monkeypatch):
    ranks = [steps(monkeypatch, rank, 3, 4, seed=7) for rank in range(3)]
    assert all(seed == 7 for rank in ranks for seed, _ in rank)
    assert sorted(step for rank in ranks for _, step in rank) == list(range(12))
    assert len(StepSampler(range(5))) == 5


@pytest.mark.parametrize('world_size', [1, 2])
def test_skipped_steps_cost_nothing_and_the_rest_is_unchanged(monkeypatch, world_size):
    rank = world_size - 1
    whole = steps(monkeypatch, rank, world_size, 6)
    assert steps(monkeypatch, rank, world_size, 6, skip=4) == [None] * 4 + whole[4:]


def test_a_skipped_step_reads_nothing(world, tmp_path):
    for kind in ('StoreSource', 'OnlineSource'):
        assert source(world, tmp_path / 'nowhere', kind=kind)[None] == {}


def test_loader_after_skipping_gives_the_batch_of_an_uninterrupted_one(world, bank):
    def batch_5(skip):
        made = store(world, bank)
        sampler = StepSampler(made)
        sampler.num_skipped = skip
        stream = iter(DataLoader(made, sampler=sampler, collate_fn=one_step))
        return [next(stream) for _ in range(6)]

    skipped = batch_5(5)
    assert skipped[:5] == [{}] * 5
    assert same(skipped[5], batch_5(0)[5])


def _prepare_as_rank(rank, rendezvous, world, bank, fails, outcomes):
    torch.distributed.init_process_group(
        'gloo', init_method=f'file://{rendezvous}', rank=rank, world_size=2
    )
    segmentor = dict(SEGMENTOR, sha256='b' * 64) if fails else SEGMENTOR
    try:
        made = source(world, bank)
        made.prepare(extract if rank == 0 else _never, segmentor)
        outcomes.put((rank, made[0, 0]['closed'].tolist()))
    except (FeatureBankError, RuntimeError) as error:
        outcomes.put((rank, f'{type(error).__name__}: {error}'))


def _never(image, sample):
    raise AssertionError('only the main process extracts')


def prepare_on_two_ranks(tmp_path, world, bank, fails):
    fork = multiprocessing.get_context('fork')
    outcomes = fork.Queue()
    arguments = (tmp_path / 'rendezvous', world, bank, fails, outcomes)
    processes = [
        fork.Process(
            target=_prepare_as_rank,
            args=(rank, *arguments),
            daemon=True,
        )
        for rank in range(2)
    ]
    for process in processes:
        process.start()
    found = dict(outcomes.get(timeout=60) for _ in processes)
    for process in processes:
        process.join(60)
    return found


def test_the_main_process_builds_and_the_others_read(world, tmp_path):
    found = prepare_on_two_ranks(tmp_path, world, tmp_path / 'bank', fails=False)
    assert len(found[0]) == len(found[1]) == 12


def test_no_rank_waits_for_a_main_process_that_failed(world, tmp_path):
    built(world, tmp_path / 'bank')
    found = prepare_on_two_ranks(tmp_path, world, tmp_path / 'bank', fails=True)
    assert found[0].startswith('FeatureBankError: The feature bank in')
    assert found[1].startswith(
        'RuntimeError: The main process could not build the feature bank. FeatureBankError: The'
    )
