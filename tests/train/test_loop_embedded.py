"""A run inside a program of somebody's own, such as a notebook: from any thread, twice, and nothing of it stays."""

import signal
import threading
from pathlib import Path

import pytest
import torch
from curricle import train
from curricle.train.distributed import Processes, Stop
from curricle.train.settings import BatchSettings, BudgetSettings, CheckpointSettings, RunSettings
from curricle.train.training.loop import run
from kills import outcome

SHORT = {
    "curriculum": "random",
    "max_length": 128,
    "budget": BudgetSettings(samples=24),
    "batch": BatchSettings(size=8, tokens=256),
    "checkpoint": CheckpointSettings(every=2),
}


def surroundings() -> tuple[object, ...]:
    """What a program would notice of a run that changed it."""
    handlers = tuple(signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT))
    encoding = [thread.name for thread in threading.enumerate() if thread.name.startswith("encode")]
    return (*handlers, torch.are_deterministic_algorithms_enabled(), torch.get_rng_state().tolist(), encoding)


def test_twice_in_one_process_and_in_a_thread(tiny_model, table_file, tmp_path):
    before = surroundings()
    ends: list[Path] = []
    train.run(table_file, str(tiny_model), tmp_path / "one", **SHORT)
    thread = threading.Thread(
        target=lambda: ends.append(train.run(table_file, str(tiny_model), tmp_path / "two", **SHORT))
    )
    thread.start()
    thread.join()
    assert ends == [tmp_path / "two" / "checkpoints" / "step-00000003"]
    assert outcome(tmp_path / "one") == outcome(tmp_path / "two")
    assert surroundings() == before


def test_another_thread_may_ask_it_to_stop(tiny_model, table_file, tmp_path):
    alone = Processes(0, 1, torch.device("cpu"))
    cut, whole = (
        RunSettings(data=table_file, model=str(tiny_model), output=tmp_path / name, **SHORT)
        for name in ("cut", "whole")
    )
    stop = Stop(alone)
    stop.request()
    with pytest.raises(KeyboardInterrupt):
        run(cut, alone, stop)
    assert [path.name for path in (tmp_path / "cut" / "checkpoints").glob("step-*")] == ["step-00000001"]
    run(cut, alone)
    run(whole, alone)
    assert outcome(tmp_path / "cut") == outcome(tmp_path / "whole")
