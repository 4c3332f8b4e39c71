"""One inferencer, asked by several threads at once, as a web service asks it."""

import copy
import os
import pickle
import threading

import numpy as np
import torch

from mmseg_opengan.inference import reading

PATIENCE = 10  # seconds, of one thread for the other


def in_a_thread(function, *arguments):
    """A started thread, and the list that gets what the function returns."""
    found: list = []
    thread = threading.Thread(target=lambda: found.append(function(*arguments)))
    thread.start()
    return thread, found


def run(inferencer, path):
    return inferencer(path, show_progress=False)[0]


def test_each_thread_gets_the_scores_of_its_image(tiny, inferencer):
    """The first pass waits before the last layer until the second is there too, and the second
    waits there for the first thread's end.
    """
    paths = [str(tiny[1] / f'val/{name}.jpg') for name in 'ac']  # of one size
    wanted = [run(inferencer, path) for path in paths]
    first_came, second_came, first_ended = (threading.Event() for _ in range(3))

    def meet(module, arguments):
        if first_came.is_set():
            second_came.set()
            assert first_ended.wait(PATIENCE)
        else:
            first_came.set()
            assert second_came.wait(PATIENCE)

    handle = inferencer.model.segmentor.decode_head.conv_seg.register_forward_pre_hook(meet)
    one, first = in_a_thread(run, inferencer, paths[0])
    assert first_came.wait(PATIENCE)
    other, second = in_a_thread(run, inferencer, paths[1])
    one.join(PATIENCE)
    first_ended.set()
    other.join(PATIENCE)
    handle.remove()
    for found, right in zip((*first, *second), wanted, strict=True):
        assert (found.labels == right.labels).all()
        for name, score in right.scores.items():
            assert np.array_equal(found.scores[name], score), name
    assert not np.array_equal(wanted[0].scores['opengan'], wanted[1].scores['opengan'])


@torch.no_grad()
def test_copies_and_pickles_listen_to_their_own(inferencer):
    model = inferencer.model
    inputs = torch.randn(1, 3, 32, 32)
    wanted = model.tap_of(inputs).features
    with model.head.listening() as taps:
        copies = [copy.deepcopy(model), pickle.loads(pickle.dumps(model))]
        for copied in copies:
            assert torch.equal(copied.tap_of(inputs).features, wanted)
    assert taps == []


def test_stderr_is_taken_by_one_thread_at_a_time(inferencer, frames, monkeypatch):
    """And is the process's own again when all are done."""
    before = os.fstat(2)
    inside, waited = [], threading.Event()
    load = inferencer.reader._load

    def slow(path):
        inside.append(path)
        waited.wait(0.2 if len(inside) == 1 else 0)
        assert inside[-1] == path  # nobody came in between
        return load(path)

    monkeypatch.setattr(inferencer.reader, '_load', slow)
    threads = [in_a_thread(inferencer.reader.picture_of, path) for path in frames[:3]]
    for thread, _ in threads:
        thread.join(PATIENCE)
    assert len(inside) == sum(len(found) for _, found in threads) == 3
    assert os.path.samestat(os.fstat(2), before)
    assert not reading._STDERR.locked()
