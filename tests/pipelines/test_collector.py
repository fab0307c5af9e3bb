"""How often a process looks for garbage: seldom where it is at work for us, and then as its owner has it."""

import gc
import weakref
from pathlib import Path

import pytest
from curricle import pipelines
from curricle.pipelines.processes.collector import as_before, leave_libraries_alone

USUAL = gc.get_threshold()


class Cycle:
    def __init__(self) -> None:
        self.itself = self


def test_rounds_are_seldom_without_models_and_as_usual_with_them() -> None:
    with as_before():
        leave_libraries_alone(asks_models=False)
        assert gc.get_threshold() > USUAL
        leave_libraries_alone(asks_models=True)
        assert gc.get_threshold() == USUAL
        leave_libraries_alone(asks_models=False)
    assert gc.get_threshold() == USUAL


def test_what_is_loaded_is_frozen_once_in_each_job(monkeypatch: pytest.MonkeyPatch) -> None:
    for _ in range(2):
        with as_before():
            leave_libraries_alone(asks_models=False)
            assert gc.get_freeze_count()
            with monkeypatch.context() as patch:
                patch.setattr(gc, "get_freeze_count", lambda: pytest.fail("to ask takes as long as there is much"))
                leave_libraries_alone(asks_models=False)
        assert not gc.get_freeze_count()


def test_a_job_in_a_process_of_a_user_leaves_its_rounds_as_they_were(tmp_path: Path) -> None:
    """What the user drops afterwards is found, though it was there while the job was."""
    mine = Cycle()
    gone = weakref.ref(mine)
    (tmp_path / "in.jsonl").write_text('{"instruction": "Say hello", "output": "Hello"}\n')
    pipelines.score(tmp_path / "in.jsonl", tmp_path / "scored", metrics=["mtld"])
    assert gc.get_threshold() == USUAL
    del mine
    gc.collect()
    assert gone() is None
