"""A flipped bit in any file of a run is found before it is believed: never a traceback, never another number."""

import json
import random
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import drawn
import pytest
from curricle.schemas.common.errors import UserError
from curricle.schemas.sealed import unsealed
from curricle.train.cli import main
from curricle.train.ordering.journal import read_journal
from curricle.train.records import checkpoints
from curricle.train.records.metrics import read_metrics
from curricle.train.records.run_json import read_description
from curricle.train.reporting.verification import verify
from kills import at_call, outcome

KINDS = {
    "run.json": 50,
    "journal.jsonl": 50,
    "metrics.jsonl": 50,
    "checkpoints/*/state/cursor.json": 50,
    "checkpoints/*/state/journal.jsonl": 50,
    "checkpoints/*/state/digests.json": 50,
    "checkpoints/*/config.json": 50,
    "checkpoints/*/tokenizer.json": 10,
    "checkpoints/*/chat_template.jinja": 50,
    "checkpoints/*/model.safetensors": 15,
    "checkpoints/*/state/optimizer/*": 15,
    "checkpoints/*/adapter/adapter_model.safetensors": 15,
    "checkpoints/*/adapter/adapter_config.json": 10,
}
"""How many bits a soak flips in a file of each kind."""


@pytest.fixture
def stopped(command, train_in_fork, tmp_path) -> Path:
    """A run with adapters that was killed after its second checkpoint, with evaluations and decisions behind it."""
    import curricle.train.training.loop

    options = ["--eval.rows", "8", "--eval.every", "2", "--checkpoint.every", "2", "--lora.rank", "2"]
    ended = train_in_fork(command(*options), lambda: at_call(curricle.train.training.loop.Loop, "_step", 4))
    assert ended.code == -9, ended.text
    assert len(checkpoints.checkpoints(tmp_path / "run")) == 2
    return tmp_path / "run"


@contextmanager
def flipped(path: Path, draw: random.Random) -> Iterator[str]:
    """A bit of a file flipped, and flipped back."""
    index, bit = draw.randrange(path.stat().st_size), draw.randrange(8)

    def flip() -> None:
        with path.open("r+b") as file:
            file.seek(index)
            (byte,) = file.read(1)
            file.seek(index)
            file.write(bytes([byte ^ 1 << bit]))

    flip()
    yield f"{path}, bit {bit} of byte {index}"
    flip()


def content(run: Path) -> dict[str, object]:
    """All that a resume, a report or a comparison reads of a run. UserError for what it refuses."""
    last = checkpoints.checkpoints(run)[-1]
    checkpoints.check(last)
    return {
        "run": read_description(run),
        "journal": repr(read_journal(run / "journal.jsonl")),
        "metrics": read_metrics(run),
        "cursor": checkpoints.read_cursor(last),
        "sums": checkpoints.sums(last),
    }


def test_a_flipped_bit_is_found(stopped):
    whole = content(stopped)
    assert not any(finding.faults for finding in verify(stopped)), verify(stopped)
    for kind, times in KINDS.items():
        path = sorted(stopped.glob(kind))[-1]
        draw = drawn.draw(kind)
        for _ in range(drawn.amount(min(times, 10), times)):
            with flipped(path, draw) as what:
                about = f"{what}, seed {drawn.SEED}"
                assert any(finding.faults for finding in verify(stopped)) or content(stopped) == whole, about
                try:
                    read = content(stopped)
                except UserError as error:
                    assert error.where and error.remedy, about
                else:
                    assert read == whole, f"believed: {about}"
    assert content(stopped) == whole


def test_a_resume_refuses_what_is_damaged_and_its_remedy_works(stopped, command, train_in_fork, tmp_path):
    options = ["--eval.rows", "8", "--eval.every", "2", "--checkpoint.every", "2", "--lora.rank", "2"]
    assert train_in_fork(command(*options, output="undisturbed")).code == 0
    last = checkpoints.checkpoints(stopped)[-1]
    for name in ("model.safetensors", "state/cursor.json"):
        with flipped(last / name, random.Random(1)):
            ended = train_in_fork(command(*options))
            assert ended.code == 1 and "Traceback" not in ended.text, ended.text
            assert name in ended.text and "remove this checkpoint" in ended.text, ended.text
    (last / "config.json").write_text("{}")
    shutil.rmtree(last)
    assert train_in_fork(command(*options)).code == 0
    assert outcome(stopped) == outcome(tmp_path / "undisturbed")
    assert verified(stopped) == 0
    (checkpoints.checkpoints(stopped)[-1] / "generation_config.json").unlink()
    ended = train_in_fork(command(*options))
    assert ended.code == 1 and "generation_config.json is absent" in ended.text, "a finished run is looked at, too"
    assert verified(stopped) == 1


def verified(run: Path) -> int:
    return main(["verify", str(run)])


def test_what_an_earlier_version_wrote_goes_on_and_is_said(stopped, command, train_in_fork):
    """Without checksums, digests, and the files of the model."""
    for name in ("journal.jsonl", "metrics.jsonl"):
        lines = (stopped / name).read_bytes().splitlines()
        (stopped / name).write_text("".join(json.dumps(unsealed(line)) + "\n" for line in lines))
    about = read_description(stopped)
    del about["identity"]["model"]
    (stopped / "run.json").write_text(json.dumps(about))
    for checkpoint in checkpoints.checkpoints(stopped):
        (checkpoint / "state" / "digests.json").unlink()
    faults = [finding.faults for finding in verify(stopped)]
    assert len(faults) == 5 and all("nothing proves it whole" in each[0] for each in faults), faults
    options = ["--eval.rows", "8", "--eval.every", "2", "--checkpoint.every", "2", "--lora.rank", "2"]
    ended = train_in_fork(command(*options))
    assert ended.code == 0, ended.text
    assert "does not say which files its model had" in ended.text and "without digests" in ended.text


@pytest.mark.parametrize(
    ("name", "damage", "words"),
    [
        ("run.json", lambda path: path.write_bytes(b"\xff{"), "run.json: not the description of a run"),
        ("metrics.jsonl", lambda path: path.write_bytes(b'{"kind": 1}\n'), "line 1: it has no kind or no step"),
        ("metrics.jsonl", lambda path: path.write_bytes(b"[" * 10**5 + b"\n"), "line 1: it is nested too deeply"),
        ("journal.jsonl", lambda path: path.write_bytes(b"[]\n"), "line 1: it is no JSON object"),
    ],
)
def test_files_that_are_not_ours_are_refused_in_words(stopped, name, damage, words, command, train_in_fork):
    damage(stopped / name)
    options = ["--eval.rows", "8", "--eval.every", "2", "--checkpoint.every", "2", "--lora.rank", "2"]
    ended = train_in_fork(command(*options))
    assert ended.code == 2 and words in ended.text and "Traceback" not in ended.text, ended.text
    assert main(["report", str(stopped)]) == 2
    assert verified(stopped) == 1
