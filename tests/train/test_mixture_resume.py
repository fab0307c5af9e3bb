"""Mixtures in real runs: killed at any instant, and started again, they have the bits of a run that was not."""

import json
import signal

import drawn
import pytest
from curricle.train.ordering.journal import StageRecord, read_journal
from kills import PROBING, WAITING, instants, outcome

CAMPUS = "campus?perspectives=loss,prompt_words&decisions=4&probe_cost=0"
MIXTURES = {
    "odm": ["--curriculum.memory", "0.5"],
    "doremi": ["--curriculum.every", "2"],
    "skill_it": ["--curriculum.losses", "held_out", "--curriculum.graph", "estimate", "--eval.rows", "16"],
    "mixture": ["--curriculum.weights", "a=2,b=1,c=1", "--curriculum.order", CAMPUS],
    "multistage": ["--curriculum.stages", "b,a,c", "--curriculum.replay", "0.25"],
}
ASKS = ("skill_it", "mixture")
WAITS = ("odm", "doremi", "mixture")
NAMES = sorted(MIXTURES)


def options(name: str) -> list[str]:
    common = ["--curriculum", name, "--curriculum.category", "kind", "--checkpoint.every", "2"]
    return [*common, *MIXTURES[name], "--optimizer.lr", "5e-3", "--budget.samples", "128"]


def chosen(name: str) -> list[str]:
    """The instants that this mixture comes to, in their order: one that is drawn, or in a soak all of them."""
    there = [
        instant
        for instant in instants()
        if (instant not in PROBING or name in ASKS) and (instant != WAITING or name in WAITS)
    ]
    certain = [instant for instant in there if not instant.startswith("at random")]
    return there if drawn.SOAK else drawn.some(f"kills of {name}", certain, 1)


def weights(run) -> list[dict[str, float]]:
    return [it.weights for it in read_journal(run / "journal.jsonl").records if isinstance(it, StageRecord)]


@pytest.mark.parametrize("name", NAMES if drawn.SOAK else drawn.some("mixtures", NAMES, 2))
def test_killed_and_resumed_it_has_the_bits_of_a_whole_run(name, command, train_in_fork, tmp_path):
    whole = train_in_fork(command(*options(name), output="whole"))
    assert whole.code == 0, whole.text
    kills = 0
    for instant in chosen(name):
        ended = train_in_fork(command(*options(name), output="killed"), instants()[instant])
        assert ended.code in (0, -signal.SIGKILL), f"{instant}: {ended.text}"
        kills += ended.code == -signal.SIGKILL
    last = train_in_fork(command(*options(name), output="killed"))
    assert last.code == 0, last.text
    assert kills >= drawn.amount(1, 8)
    expected, killed = outcome(tmp_path / "whole"), outcome(tmp_path / "killed")
    for key, value in expected.items():
        assert killed[key] == value, f"{key} differs"
    if name in ("odm", "doremi", "skill_it"):
        assert len({tuple(each.items()) for each in weights(tmp_path / "whole")}) > 3, "weights that never change"


@pytest.mark.parametrize("name", NAMES if drawn.SOAK else drawn.some("mixtures of two processes", NAMES, 1))
def test_two_processes_decide_alike_and_resume_to_the_bit(name, command, train_in_fork, train_in_forks, tmp_path):
    assert train_in_fork(command(*options(name), output="one")).code == 0
    whole = train_in_forks(2, command(*options(name), output="whole"))
    assert [each.code for each in whole] == [0, 0], whole
    arguments, kills = command(*options(name), output="killed"), 0
    for instant in chosen(name):
        ended = train_in_forks(2, arguments, instants()[instant])
        assert {each.code for each in ended} <= {0, 1, -signal.SIGKILL}, f"{instant}: {ended}"
        kills += any(each.code == -signal.SIGKILL for each in ended)
    last = train_in_forks(2, arguments)
    assert [each.code for each in last] == [0, 0], last
    assert kills >= drawn.amount(1, 8)
    expected, killed = outcome(tmp_path / "whole"), outcome(tmp_path / "killed")
    for key, value in expected.items():
        assert killed[key] == value, f"{key} differs"
    assert expected["order"] == outcome(tmp_path / "one")["order"]
    for one, two in zip(weights(tmp_path / "one"), weights(tmp_path / "whole"), strict=True):
        assert two == pytest.approx(one, rel=1e-3)


def test_metrics_report_and_summary_have_the_weights_and_the_exposure(command, train_in_fork, tmp_path):
    ended = train_in_fork(command(*options("odm")))
    assert ended.code == 0, ended.text
    lines = [json.loads(line) for line in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()]
    steps, (summary,) = ([line for line in lines if line["kind"] == kind] for kind in ("train", "summary"))
    assert [line["weights"] for line in steps] == weights(tmp_path / "run")
    domains = summary["domains"]
    assert {*domains} == {*"abc"} and sum(visits for _, visits in domains.values()) == 128
    last = steps[-1]["weights"]
    assert {name: at_the_end for name, (_, at_the_end) in summary["weights"].items()} == last
    mean = sum(8 * line["weights"]["a"] for line in steps) / 128
    assert summary["weights"]["a"][0] == pytest.approx(mean)
    assert "odm over 64 rows: ODM: after every batch the weights follow" in ended.text
    assert "exposure: a " in ended.text and "weights, on average and at the end: a " in ended.text
    assert train_in_fork(["report", str(tmp_path / "run")]).code == 0
    page = (tmp_path / "run" / "report.html").read_text()
    assert "Weights of the domains" in page and "Exposure of domains" in page

    # the negative control of a resume: the losses of the journal decide, and nothing else could
    (tmp_path / "run" / "journal.jsonl").unlink()
    (tmp_path / "run" / "run.json").unlink()  # it says that the run is finished
    refused = train_in_fork(command(*options("odm")))
    assert refused.code == 1 and "the journal does not have the decisions" in refused.text, refused.text


def test_one_schedule_of_the_learning_rate_spans_all_stages(command, train_in_fork, tmp_path):
    """A linear one falls from batch to batch by as much within a stage as from one stage to the next."""
    more = ["--optimizer.schedule", "linear", "--optimizer.warmup", "0", "--curriculum.stages", "a,b,c"]
    arguments = command("--curriculum", "multistage", "--curriculum.category", "kind", *more)
    assert train_in_fork(arguments).code == 0
    lines = [json.loads(line) for line in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()]
    steps = [line for line in lines if line["kind"] == "train"]
    assert [line["choice"] for line in steps] == ["a"] * 3 + ["b"] * 3 + ["c"] * 3
    middles = [line["total"]["samples"] for line in steps]
    before = [0, *middles[:-1]]
    for line, start, end in zip(steps, before, middles, strict=True):
        assert line["lr"] == pytest.approx(1e-3 * (1 - (start + end) / 2 / 64))


def test_arms_are_compared_at_one_budget(command, train_in_fork):
    """A pass with replay is longer than one of random order, and each would have a schedule of its own."""
    arms = "random,multistage?category=kind&replay=0.25"
    common = command("--arms", arms, "--eval.rows", "4", without="--curriculum")[1:]
    refused = train_in_fork(["compare", *common])
    assert refused.code == 2, refused.text
    assert "a pass is not as long in every arm: random 60 rows, multistage" in refused.text
