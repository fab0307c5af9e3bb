"""CAMPUS with four perspectives, its scorer refitted on the student's own answers: order, cost, kills, processes."""

import json
import random
import signal
from pathlib import Path

import curricle.train.rewards.refresh
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from curricle.schemas.chat.generation import Draw
from curricle.schemas.columns import ScoreColumn
from curricle.schemas.common.errors import UsageError
from curricle.train.curricula.base import Decision, Probe, ProbeResult, RewardGap
from curricle.train.curricula.campus.curriculum import Campus
from curricle.train.curricula.course import Course
from curricle.train.data.encoding import ConversationTokenizer
from curricle.train.data.table import open_table
from curricle.train.distributed import Processes
from curricle.train.model.load import load_model, load_tokenizer
from curricle.train.model.student import Student
from curricle.train.ordering.journal import Journal, StageRecord, read_journal
from curricle.train.rewards.pairs import read_pairs
from curricle.train.rewards.refresh import Refresher
from curricle.train.settings import DeviceSettings
from kills import at_call, outcome
from train_tables import make_table

GAPS = {"loss": [1.0, 2.0, 3.0, 4.0], "reward_gap": [1.0, 2.0, 3.0, 4.0]}


def follow(course, gaps):
    """Stages, and the probes that are not about choices, of a student whose gaps are these."""
    stages, probes = [], []
    while (step := course.next()) is not None:
        if isinstance(step, Probe):
            zeros = tuple(np.zeros(len(each.rows)) for each in step.candidates)
            rows = step.candidates[0].rows
            course.answer(ProbeResult(zeros, tuple(each.astype(int) + 1 for each in zeros), np.array(gaps)[rows]))
            probes += [step] if step.purpose != "choose" else []
        else:
            stages.append(step.rows.tolist())
    return stages, probes


def campus(**options):
    """Slices of 1, 2, 1 and 0 rows, as in the tests of campus."""
    arguments = {"perspectives": ("reward_gap",), "decisions": 4, "stop": "exhaustion", "refresh": "reward"}
    arguments |= {"probe": "exact", "pointer": "own", "seen": "keep"}
    return Campus(**{**arguments, "resort_every": 1, "resort_epochs": 9.0, "refresh_tokens": 7, **options})


def test_the_rest_is_sorted_by_the_new_gaps(tmp_path):
    table = make_table(tmp_path, GAPS)
    stages, (probe,) = follow(Course(campus(), table, 0, 1), [0.0, 5.0, np.nan, -5.0])
    assert stages == [[0], [3, 1], [2]]  # without a gap it stays last
    assert (probe.purpose, probe.what) == ("refresh", RewardGap(7))
    assert [each.rows.tolist() for each in probe.candidates] == [[1, 2, 3]] * 2


def test_the_student_answers_a_seeded_sample(tmp_path):
    columns = {"reward_gap": list(range(100)), "generated": ["x"] * 100}
    table = make_table(tmp_path, columns)
    options = {"refresh_rows": 10, "decisions": 3, "perspectives": ("reward_gap:high",)}
    (_, (one, *_)), (_, (again, *_)), (_, (other, *_)) = (
        follow(Course(campus(**options), table, seed, 1), np.arange(100.0)) for seed in (0, 0, 1)
    )
    rest, questions = (each.rows for each in one.candidates)
    assert len(questions) == 10 and np.isin(questions, rest).all()
    assert one.digest == again.digest != other.digest


@pytest.mark.parametrize(
    ("options", "times"),
    [
        ({"resort_epochs": 9 / 4}, 1),  # three rows, three passes each
        ({"resort_epochs": 8 / 4}, 0),
        ({"resort_epochs": 7 / 4, "refresh_rows": 1}, 1),  # two of the three answers are the table's
        ({"resort_epochs": 12 / 4, "resort_every": 0}, 1),  # as often as the bound allows: nine passes, and three
        ({"resort_epochs": 9 / 4, "refresh": "loss", "competence_aware": ()}, 0),
    ],
)
def test_an_answer_costs_three_passes(tmp_path, options, times):
    table = make_table(tmp_path, {**GAPS, "generated": ["x"] * 4})
    assert len(follow(Course(campus(**options), table, 0, 1), [0.0] * 4)[1]) == times


@pytest.mark.parametrize("repeats", ["once", "keep"])
def test_with_a_shared_pointer_an_order_is_refreshed_though_another_is_chosen(tmp_path, repeats):
    """All move on together, over slices without rows too, so that which one is chosen when a period is over, if any is,
    is chance."""
    random = np.random.default_rng(0)
    table = make_table(tmp_path, {"loss": random.random(400), "reward_gap": random.random(400)})
    options = {"perspectives": ("loss", "reward_gap"), "pointer": "shared", "seen": repeats, "competence_aware": ()}
    course = Course(campus(**options, decisions=0, resort_every=0, resort_epochs=1.0), table, 0, 8)
    _, probes = follow(course, random.random(400))
    assert "refresh" in [probe.purpose for probe in probes if probe.purpose != "choose"]


def test_what_a_refresh_needs_is_checked_first(tmp_path):
    table = make_table(tmp_path, GAPS)
    with pytest.raises(UsageError, match="reward_gap is no perspective"):
        Course(campus(perspectives=("loss",)), table, 0, 1)
    with pytest.raises(UsageError, match="no column generated"):
        Course(campus(refresh_rows=1), table, 0, 1)


@pytest.fixture
def four(command, table_file: Path, tmp_path: Path):
    """Arguments of a run with four perspectives, whose scorer is refitted once."""
    draw, ids = random.Random(5), pq.read_table(table_file)["example_id"]
    score = ScoreColumn("reward_gap", pa.float64(), "log odds", "a gap", "high").of_metric("reward", 1, {})
    gaps = pa.array([draw.gauss(0, 1) for _ in ids])
    texts = pa.array([None if row % 9 == 0 else f"{row} is not known" for row in range(len(ids))])
    schema = pa.schema([("example_id", pa.string()), score.to_field(), ("generated", pa.string())])
    path = tmp_path / "gaps.parquet"
    pq.write_table(pa.Table.from_arrays([ids, gaps, texts], schema=schema), path)
    options = {
        "--join": path,
        "--curriculum.perspectives": "prompt_words,response_mtld,loss,reward_gap",
        "--curriculum.competence-aware": "",
        "--curriculum.refresh": "reward",
        "--curriculum.refresh-tokens": "4",
        "--curriculum.refresh-rows": "40",
        "--curriculum.resort-every": "1",
        "--curriculum.resort-epochs": "2.6",
        "--curriculum.decisions": "4",
        "--curriculum.s1": "0.1",
        "--curriculum.probe-rows": "2",
        "--curriculum.probe-cost": "0",
        "--curriculum.temperature": "100",  # no perspective has every turn
        "--seed": "1",
        "--budget.samples": "64",
        "--checkpoint.every": "2",
    }
    arguments = [str(part) for pair in options.items() for part in pair]
    return lambda *more, **where: command(*arguments, *more, **where)


def refreshes(run: Path) -> list[dict]:
    lines = map(json.loads, (run / "metrics.jsonl").read_text().splitlines())
    return [line for line in lines if line["kind"] == "probe" and line["purpose"] == "refresh"]


def decisions(run: Path) -> list[Decision]:
    return [it for it in read_journal(run / "journal.jsonl").records if getattr(it, "purpose", "") == "refresh"]


def is_refresh(_, record) -> bool:
    return isinstance(record, Decision) and record.purpose == "refresh"


def test_a_refresh_is_counted_journalled_resumed_and_never_repeated(four, train_in_fork, tmp_path):
    whole = train_in_fork(four(output="whole"))
    assert whole.code == 0, whole.text
    (line,), (result,) = refreshes(tmp_path / "whole"), decisions(tmp_path / "whole")
    assert line["scored"] > 40 and line["tokens"] > 3 * line["scored"] and line["flops"] > 0 and line["seconds"] > 0
    assert line["accuracy"]["pairs"] == 40  # each by a head that has not seen it
    assert len(result.scores) > 40 and np.isfinite(result.scores).sum() >= 40 and len(set(result.scores)) > 30
    assert "the reward ranks the reference first in" in whole.text
    records = read_journal(tmp_path / "whole" / "journal.jsonl").records
    assert {it.choice for it in records if isinstance(it, StageRecord)} >= {"loss", "reward_gap"}

    kills = {
        "while it answers": lambda: at_call(Student, "generate", 1),
        "after the fit": lambda: at_call(curricle.train.rewards.refresh, "cross_fit", 0, after=True),
        "after the decision": lambda: at_call(Journal, "append", 0, is_refresh, after=True),
    }
    for name, patch in kills.items():
        ended = train_in_fork(four(output="killed"), patch)
        assert ended.code == -signal.SIGKILL, f"{name}: {ended.text}"
    assert train_in_fork(four(output="killed")).code == 0
    killed, expected = outcome(tmp_path / "killed"), outcome(tmp_path / "whole")
    for key, value in expected.items():
        assert killed[key] == value, f"{key} differs"

    copy = tmp_path / "kept.jsonl"
    copy.write_bytes((tmp_path / "whole" / "journal.jsonl").read_bytes())
    replayed = train_in_fork(four("--replay", str(copy), output="again"), lambda: at_call(Student, "generate", 0))
    assert replayed.code == 0, replayed.text
    assert outcome(tmp_path / "again") == expected and not refreshes(tmp_path / "again")


def test_two_processes_refresh_as_one(four, train_in_fork, train_in_forks, tmp_path):
    more = ["--curriculum.refresh-rows", "0", "--curriculum.resort-epochs", "3", "--budget.samples", "24"]
    assert train_in_fork(four(*more, output="one")).code == 0
    ended = train_in_forks(2, four(*more, "--device.parallel", "fsdp", output="two"))
    assert [each.code for each in ended] == [0, 0], ended
    (one,), (two,) = decisions(tmp_path / "one"), decisions(tmp_path / "two")
    assert two.scores == pytest.approx(one.scores, abs=0.05) and np.std(one.scores) > 0.1
    assert outcome(tmp_path / "one")["order"] == outcome(tmp_path / "two")["order"]
    keys = ("tokens", "scored", "flops")
    (cost,), (shared,) = refreshes(tmp_path / "one"), refreshes(tmp_path / "two")
    assert [cost[key] for key in keys] == [shared[key] for key in keys]


def test_the_student_says_which_of_its_answers_it_did_not_end(tiny_model, table_file):
    """At the limit alone, and an answer that ends with the last token that fits has ended."""
    alone = Processes(0, 1, torch.device("cpu"))
    model = load_model(str(tiny_model), "sdpa")
    encoder = ConversationTokenizer(load_tokenizer(str(tiny_model)), "chat", 128)
    student, table = Student(model, DeviceSettings(), alone), open_table(table_file)
    examples = table.examples(np.arange(6))
    refresher = Refresher(student, encoder, table, table.examples, 0, 512, alone, lambda: None)
    (stop,) = encoder.stops(model.config)
    drawn = [[5, 6, 7], [5, 6, stop], [stop], [5, stop], [7, 8, 9], [6, 6, stop]]

    tried = []
    own = student.generate

    def generate(prompts, draw, limit, stops):
        if not isinstance(draw, Draw):  # whether rows are alike in a batch is looked at first
            tried.append(prompts)
            return own(prompts, draw, limit, stops)
        assert limit == 3 and stops == [stop]
        return [drawn[seed] for seed in draw._seeds]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(student, "generate", generate)
        answers, _ = refresher.generate(examples, range(6), 3)
        tries = len(tried)
        refresher.generate(examples, range(6), 3)
        assert 0 < tries == len(tried)  # it is looked at once
    assert [answer.truncated for answer in answers] == [True, False, False, False, True, False]
    pairs = read_pairs(encoder, examples, answers)
    assert [pair.generated[-1] == stop for pair in pairs] == [not answer.truncated for answer in answers]
