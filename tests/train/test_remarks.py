"""What a run says before it begins: options that cannot matter, rewards that never come due, and the disk it takes."""

import re
from collections import Counter, namedtuple
from dataclasses import replace

import numpy as np
import pytest
from curricle.schemas.common.errors import UsageError
from curricle.train.curricula import build
from curricle.train.curricula.base import Outcome, Probe, ProbeResult
from curricle.train.curricula.course import Course
from curricle.train.ordering.journal import Header
from curricle.train.ordering.order import remarks
from curricle.train.settings import (
    CheckpointSettings,
    EvalSettings,
    LoraSettings,
    OptimizerSettings,
    RunSettings,
)
from curricle.train.training import preparation
from curricle.train.training.preparation import disk_note, idle_options
from train_tables import make_table

ROWS = 60


@pytest.fixture
def table(tmp_path):
    draw = np.random.default_rng(0)
    return make_table(
        tmp_path,
        {
            **{name: draw.random(ROWS) for name in ("loss", "length", "reward_gap")},
            "flat": [3.0] * ROWS,
            "topic": ["one"] * ROWS,
            "kind": list("ab") * (ROWS // 2),
        },
    )


def lines(table, curriculum, **options):
    budget = {"samples": ROWS, "tokens": None, "steps": None}
    return list(remarks(table, Header(table.digest, table.fingerprint, curriculum, options, 0, 8, budget)))


CAMPUS = {"perspectives": ("loss", "length")}


@pytest.mark.parametrize(
    ("curriculum", "options", "words"),
    [
        ("blocked", {"category": "topic"}, "the same topic, 'one': with one category this is the order of random"),
        ("interleaved", {"category": "topic", "by": "loss"}, "this is the order of sorted by loss"),
        ("interleaved", {"category": "kind", "by": "loss", "thresholds": (0.5,), "parts": 4}, "parts has no use"),
        ("blocked", {"category": "kind", "thresholds": (0.5,)}, "thresholds has no use without by"),
        ("sorted", {"by": "flat"}, "every row has the same flat: an order by it is a random one"),
        ("campus", {"perspectives": ("loss",)}, "loss is the only perspective"),
        ("campus", {**CAMPUS, "competence_aware": ("lenght",)}, "names lenght, and no perspective is called so"),
        ("campus", {**CAMPUS, "probe": "exact", "probe_rows": 4}, "probe_rows: of no use with probe=exact"),
        ("campus", {**CAMPUS, "refresh_rows": 4}, "refresh_rows: of no use without refresh=reward"),
        ("campus", {**CAMPUS, "resort_epochs": 1.0}, "resort_epochs: of no use with probe=free"),
    ],
)
def test_an_option_of_a_curriculum_that_cannot_matter_is_named(table, curriculum, options, words):
    (line,) = lines(table, curriculum, **options)
    assert words in line


@pytest.mark.parametrize(
    ("curriculum", "options"),
    [
        ("blocked", {"category": "kind", "by": "loss"}),
        ("interleaved", {"category": "kind", "parts": 2}),
        ("sorted", {"by": "loss"}),
        ("random", {}),
        ("campus", {**CAMPUS, "probe": "exact", "resort_epochs": 1.0}),
    ],
)
def test_where_every_option_matters_nothing_is_named(table, curriculum, options):
    assert lines(table, curriculum, **options) == []


@pytest.mark.parametrize(
    ("options", "due"),
    [
        ({"probe": "exact", "resort_epochs": 1.0}, False),
        ({"probe": "exact", "resort_epochs": 4.0}, True),
        ({"probe": "free", "resort_epochs": 0.001}, False),
        ({"probe": "free", "resort_epochs": 1.0}, True),
    ],
)
def test_a_reward_that_never_comes_due_is_named_at_the_start(table, options, due):
    """A student that answers anything is asked for the reward in an epoch, or it is not."""
    campus = {"perspectives": ("loss", "reward_gap"), "refresh": "reward", "decisions": 12, **options}
    course = Course(build("campus", campus), table, 0, 8)
    draw, probes, trained = np.random.default_rng(1), Counter(), 0
    while trained < ROWS and (step := course.next()) is not None:
        if isinstance(step, Probe):
            probes[step.purpose] += 1
            rows = [each.rows for each in step.candidates]
            ones = tuple(np.ones(len(each), np.int64) for each in rows)
            course.answer(ProbeResult(tuple(draw.random(len(each)) for each in rows), ones, draw.random(len(rows[0]))))
        else:
            trained += len(step.rows)
            if step.outcome:
                count = len(step.rows)
                course.report(Outcome(draw.random(count), np.ones(count, np.int64), step.index))
    assert bool(probes["refresh"]) is due
    assert bool(lines(table, "campus", **campus)) is not due


def test_a_reward_that_waits_for_visits_of_its_own_is_named(table):
    options = {"perspectives": ("loss", "reward_gap"), "refresh": "reward", "resort_epochs": 1.0, "decisions": 12}
    (line,) = lines(table, "campus", **options, **{"pointer": "own", "seen": "keep"})
    assert re.search(r"refresh=reward may never come due: reward_gap has to be chosen \d+ times first, of 12", line)


def test_options_of_the_trainer_that_cannot_matter_are_named(tmp_path):
    plain = RunSettings(data=tmp_path, model="m", output=tmp_path / "run")
    assert list(idle_options(plain)) == []
    idle = replace(
        plain,
        lora=LoraSettings(alpha=4.0, dropout=0.1),
        optimizer=OptimizerSettings(decay=0.5, floor=0.1, schedule="constant"),
        eval=EvalSettings(every=10, seed=3, generation_tokens=9),
    )
    assert list(idle_options(idle)) == [
        "--lora.alpha, --lora.dropout: of no use without --lora.rank",
        "--optimizer.decay: of no use without --optimizer.schedule wsd",
        "--optimizer.floor: of no use with --optimizer.schedule constant",
        "--eval.every: of no use without rows to evaluate on: --eval.rows or --eval.data",
        "--eval.seed: of no use without --eval.rows",
        "--eval.generation-tokens: of no use without --eval.generations",
    ]
    used = replace(
        idle,
        lora=LoraSettings(rank=2, alpha=4.0),
        optimizer=OptimizerSettings(decay=0.5, floor=0.1, schedule="wsd"),
        eval=EvalSettings(every=10, seed=3, rows=5, generations=1, generation_tokens=9),
    )
    assert list(idle_options(used)) == []


@pytest.mark.parametrize("lora", [False, True])
def test_the_disk_is_named_before_it_is_taken(command, train_in_fork, tmp_path, lora):
    """About as much as the checkpoints then take: weights and moments; with adapters hardly more than the weights."""
    done = train_in_fork(command("--budget.steps", "2", *(["--lora.rank", "2"] if lora else [])))
    assert done.code == 0, done.text
    (line,) = [line for line in done.text.splitlines() if "checkpoints take about" in line]
    assert done.text.index(line) < done.text.index("step 1 ")
    (saved,) = (tmp_path / "run" / "checkpoints").glob("step-*")
    size = sum(path.stat().st_size for path in saved.rglob("*.safetensors"))
    number, unit = re.search(r"take about ([\d.]+) (\w+) each; the last 2 stay", line).groups()
    assert float(number) * {"MB": 1e6}[unit] == pytest.approx(size, rel=0.07 if lora else 0.02)


def test_a_disk_without_room_for_a_checkpoint_is_refused(tiny_model, tmp_path, monkeypatch):
    usage = namedtuple("usage", "total used free")
    settings = RunSettings(
        data=tmp_path, model=str(tiny_model), output=tmp_path / "run", checkpoint=CheckpointSettings(keep=3)
    )
    monkeypatch.setattr(preparation.shutil, "disk_usage", lambda _: usage(10**9, 0, 5_000_000))
    (line,) = disk_note(settings)
    assert "lower --checkpoint.keep, or free space" in line  # four of 4 MB
    (line,) = disk_note(settings, runs=6, jobs=2)
    assert "3 of each of 6 runs stay" in line
    monkeypatch.setattr(preparation.shutil, "disk_usage", lambda _: usage(10**9, 0, 1_000_000))
    with pytest.raises(UsageError, match=r"a checkpoint takes about 4.\d+ MB, and 1 MB are free"):
        list(disk_note(settings))
