"""A run that goes on with a larger budget than it was begun with."""

import signal

import numpy as np
import pyarrow.parquet as pq
import pytest
from curricle.train.curricula.base import Stage
from curricle.train.ordering.batches import Budget, batches
from curricle.train.ordering.journal import read_journal
from kills import at_call, outcome

FOUR = ["--batch.size", "8", "--checkpoint.every", "3"]


def bits(run):
    """What training has made: weights, moments and the hash of the order, of the last checkpoint."""
    return {key: value for key, value in outcome(run).items() if key != "journal"}


@pytest.mark.parametrize("unit", ["samples", "tokens", "steps"])
def test_every_budget_ends_a_batch_and_no_row_is_lost(unit):
    stages = [Stage(np.arange(start, start + 20)) for start in range(0, 100, 20)]
    tokens = np.full(100, 3)
    sizes = {"samples": (13, 40, 57), "tokens": (40, 120, 171), "steps": (2, 5, 9)}[unit]
    budgets = [Budget(**{unit: size}) for size in sizes]
    cut = list(batches(iter(stages), 8, budgets, tokens))
    first = list(batches(iter(stages), 8, budgets[0], tokens))
    assert [batch.rows.tolist() for batch in cut[: len(first)]] == [batch.rows.tolist() for batch in first]
    rows = np.concatenate([batch.rows for batch in cut])
    assert rows.tolist() == list(range(len(rows)))
    assert [batch.step for batch in cut] == list(range(len(cut)))
    ends = {"samples": np.cumsum, "tokens": lambda it: 3 * np.cumsum(it), "steps": lambda it: np.arange(1, len(it) + 1)}
    spent = ends[unit]([len(batch.rows) for batch in cut])
    assert {size // 3 * 3 if unit == "tokens" else size for size in sizes} <= {*spent.tolist()}


def test_a_budget_extends_another_by_being_larger():
    assert Budget(samples=9).extends(Budget(samples=8))
    assert Budget(samples=9, steps=4).extends(Budget(samples=8, steps=4))
    for other in (Budget(samples=9), Budget(samples=10), Budget(steps=1), Budget(samples=8, steps=1), Budget()):
        assert not Budget(samples=9).extends(other)


@pytest.mark.parametrize("curriculum", ["random", "campus"])
def test_with_a_horizon_an_extended_run_is_one_of_the_larger_budget_to_the_last_bit(
    command, train_in_fork, tmp_path, curriculum
):
    """Where the smaller budget is an epoch: there a batch ends anyway."""
    base = ["--curriculum", curriculum, "--optimizer.horizon", "128", *FOUR]
    assert train_in_fork(command(*base, "--budget.samples", "128", output="whole")).code == 0
    assert train_in_fork(command(*base, output="run")).code == 0  # without a budget: one epoch
    began = bits(tmp_path / "run")
    done = train_in_fork(command(*base, "--budget.samples", "128", output="run"))
    assert done.code == 0, done.text
    assert "extended from 64 samples to 128 samples: " in done.text and "--optimizer.horizon spans it" in done.text
    assert bits(tmp_path / "run") == bits(tmp_path / "whole") != began
    journal = read_journal(tmp_path / "run" / "journal.jsonl")
    assert [it.samples for it in journal.budgets] == [64, 128]
    assert journal.records == read_journal(tmp_path / "whole" / "journal.jsonl").records


def test_without_a_horizon_the_rates_differ_and_the_run_says_so(command, train_in_fork, tmp_path):
    base = ["--curriculum", "random", *FOUR]
    assert train_in_fork(command(*base, "--budget.samples", "128", output="whole")).code == 0
    assert train_in_fork(command(*base, "--budget.samples", "64")).code == 0
    done = train_in_fork(command(*base, "--budget.samples", "128"))
    assert done.code == 0, done.text
    assert "had come to 0.00e+00 and goes on at 5.24e-04" in done.text  # half of a cosine with 3 % of warm-up
    run, whole = bits(tmp_path / "run"), bits(tmp_path / "whole")
    assert (run["step"], run["order"]) == (whole["step"], whole["order"]) and run["weights"] != whole["weights"]


def test_an_extended_run_ends_the_same_wherever_it_is_killed(command, train_in_fork, tmp_path):
    import curricle.train.ordering.journal as journal
    import curricle.train.training.loop

    first, more = ["--budget.samples", "30", *FOUR], ["--budget.samples", "70", *FOUR]
    assert train_in_fork(command(*first, output="whole")).code == 0
    assert train_in_fork(command(*more, output="whole")).code == 0
    assert train_in_fork(command(*first)).code == 0
    for patch in (
        lambda: at_call(journal, "open_journal", 0),
        lambda: at_call(journal, "_append", 0, after=True),
        lambda: at_call(curricle.train.training.loop.Loop, "_step", 1),
        lambda: at_call(curricle.train.training.loop.Loop, "_step", 2, after=True),
    ):
        ended = train_in_fork(command(*more), patch)
        assert ended.code in (0, -signal.SIGKILL), ended.text
    assert train_in_fork(command(*more)).code == 0
    assert "nothing left to do" in train_in_fork(command(*more)).text
    assert bits(tmp_path / "run") == bits(tmp_path / "whole")
    assert outcome(tmp_path / "run") == outcome(tmp_path / "whole")
    planned = train_in_fork(["plan", "--journal", str(tmp_path / "run"), "--output", str(tmp_path / "plan")])
    assert planned.code == 0 and "70 samples" in planned.text
    assert pq.read_table(tmp_path / "plan" / "plan.parquet").num_rows == 70
    assert train_in_fork(["report", str(tmp_path / "run")]).code == 0
    assert train_in_fork(["verify", str(tmp_path / "run")]).code == 0
    again = command("--replay", str(tmp_path / "run" / "journal.jsonl"), *FOUR, output="again", without="--curriculum")
    assert train_in_fork(again).code == 0
    assert bits(tmp_path / "again")["order"] == bits(tmp_path / "run")["order"]


def test_a_budget_may_only_grow(command, train_in_fork, tmp_path):
    assert train_in_fork(command("--budget.samples", "30", *FOUR)).code == 0
    before = outcome(tmp_path / "run")
    for budget in (
        ["--budget.samples", "20"],
        ["--budget.steps", "9"],
        ["--budget.samples", "40", "--budget.steps", "2"],
    ):
        refused = train_in_fork(command(*budget, *FOUR))
        assert refused.code == 2, refused.text
        assert "another order" in refused.text and "may be raised" in refused.text
    assert outcome(tmp_path / "run") == before
