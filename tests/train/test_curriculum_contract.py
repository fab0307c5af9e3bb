"""What a curriculum of somebody's own may ask, and what is refused before anything is trained."""

import json
import shutil
from dataclasses import dataclass

import numpy as np
import pytest
from curricle.schemas.common.errors import UsageError, UserError
from curricle.train.curricula import CURRICULA, build
from curricle.train.curricula.base import (
    Candidate,
    Curriculum,
    Decision,
    Outcome,
    Probe,
    ProbeResult,
    Stage,
    Steps,
)
from curricle.train.curricula.course import Course
from curricle.train.data.holdout import hold_out
from curricle.train.data.table import Table
from curricle.train.ordering.journal import read_journal
from kills import outcome
from train_tables import make_table


@pytest.fixture
def table(tmp_path):
    return make_table(tmp_path, {"loss": np.arange(12.0), "length": np.arange(12), "topic": list("abcabcabcabc")})


@pytest.mark.parametrize(
    ("name", "options", "columns"),
    [
        ("random", {}, []),
        ("sorted", {"by": "length:low"}, ["length:low"]),
        ("competence", {}, ["loss"]),
        ("cyclical", {}, ["loss"]),
        ("paced", {"by": "length"}, ["length"]),
        ("blocked", {"category": "topic"}, ["topic"]),
        ("interleaved", {"category": "topic", "by": "loss"}, ["topic", "loss"]),
        ("campus", {"perspectives": ["loss", "length"]}, ["loss", "length"]),
        ("random_stages", {"perspectives": ["loss", "length"], "decisions": 3}, ["loss", "length"]),
        ("mixture", {"category": "topic"}, ["topic"]),
        ("mixture", {"category": "topic", "order": "sorted?by=length:low"}, ["topic", "length:low"]),
        ("multistage", {"category": "topic", "order": "competence"}, ["topic", "loss"]),
        ("odm", {"category": "topic"}, ["topic"]),
        ("skill_it", {"category": "topic"}, ["topic"]),
        ("doremi", {"category": "topic", "reference": "length"}, ["topic", "length"]),
    ],
)
def test_a_curriculum_says_what_it_reads(table, name, options, columns):
    """It reads those, and no other."""
    read: list[str] = []

    class Watched(Table):
        def _column(self, name):
            read.append(name)
            return super()._column(name)

    table.__class__ = Watched
    curriculum = build(name, options)
    Course(curriculum, table, 0, 4)
    assert list(curriculum.columns()) == columns
    assert set(read) == {column.removesuffix(":low") for column in columns}


def test_every_curriculum_of_ours_is_looked_at():
    names = {"random", "sorted", "competence", "cyclical", "paced", "blocked", "interleaved", "campus", "random_stages"}
    assert set(CURRICULA) == names | {"mixture", "multistage", "odm", "skill_it", "doremi"}


@dataclass(frozen=True)
class Late(Curriculum):
    """Looks at its column in the second stage."""

    def columns(self) -> tuple[str, ...]:
        return ("lenght",)

    def steps(self, table: Table, seed: int, batch: int) -> Steps:
        yield Stage(np.arange(2))
        yield Stage(table.order("lenght", seed))


def test_an_absent_column_is_refused_before_anything_starts(table):
    with pytest.raises(UsageError, match=r"no column 'lenght'[\s\S]*did you mean 'length'"):
        Course(Late(), table, 0, 4)


@dataclass(frozen=True)
class Watchful(Curriculum):
    """Goes on with the easier half of the table as long as the held-out loss is above 1."""

    def steps(self, table: Table, seed: int, batch: int) -> Steps:
        held_out = Candidate("held out", np.arange(len(table.held_out)), held_out=True)
        for _ in range(2):
            decision = yield Probe((held_out,))
            rows = table.order("loss", seed)
            yield Stage(rows[: len(rows) // 2] if decision.scores[0] > 1 else rows)

    def decide(self, probe: Probe, result: ProbeResult, seed: int) -> Decision:
        return Decision.of(probe, result, scores=result.nll[0][:1] / result.tokens[0][:1])


def test_held_out_rows_are_asked_about_on_request_and_refused_in_words(table):
    with pytest.raises(UsageError, match=r"asks about held-out rows, and none are held out[\s\S]*--eval.rows"):
        Course(Watchful(), table, 0, 4)
    rest, held_out = hold_out(table, 4)
    course = Course(Watchful(), rest, 0, 4)
    sizes = []
    for loss in (2.0, 0.5):
        probe = course.next()
        assert len(probe.candidates[0].rows) == len(held_out) == 4
        decision = course.answer(ProbeResult((np.full(4, 3 * loss),), (np.full(4, 3),)))
        assert decision.log_perplexity == (loss,)
        sizes.append(len(course.next().rows))
    assert sizes == [4, 8]


@dataclass(frozen=True)
class Wrong(Curriculum):
    """Yields what it is made with."""

    step: object = None

    def steps(self, table: Table, seed: int, batch: int) -> Steps:
        yield self.step


@pytest.mark.parametrize(
    ("step", "words"),
    [
        (Stage(np.array([3, 12])), "names rows 3 to 12, and the table has 12 rows"),
        (Stage(np.array([-1, 3])), "names rows -1 to 3"),
        (Probe((Candidate("a", np.array([12])),)), "names rows 12 to 12"),
        ([1, 2], "yields a list"),
    ],
)
def test_a_wrong_step_is_refused_in_words(table, step, words):
    with pytest.raises(UserError, match=words):
        Course(Wrong(step), table, 0, 4).next()


@pytest.mark.parametrize(
    ("rows", "words"),
    [
        ([0, 1], "names rows by a list"),
        (np.arange(12) > 5, r"names rows by an array bool\(12,\)"),
        (np.arange(4.0), r"names rows by an array float64\(4,\)"),
        (np.arange(4).reshape(2, 2), r"names rows by an array int64\(2, 2\)"),
    ],
)
def test_rows_are_numbers_and_no_mask(table, rows, words):
    @dataclass(frozen=True)
    class Mine(Curriculum):
        def steps(self, table: Table, seed: int, batch: int) -> Steps:
            yield Stage(rows)

    with pytest.raises(UserError, match=words):
        Course(Mine(), table, 0, 4).next()


def test_what_fails_in_a_curriculum_of_others_names_it(table):
    @dataclass(frozen=True)
    class Mine(Curriculum):
        late: bool

        def steps(self, table: Table, seed: int, batch: int) -> Steps:
            if self.late:
                yield Stage(np.arange(4))
            raise KeyError("topic")

        def decide(self, probe, result, seed):
            return 3

    with pytest.raises(UserError, match="curriculum Mine, its first step: failed: KeyError: 'topic'"):
        Course(Mine(False), table, 0, 4)
    course = Course(Mine(True), table, 0, 4)
    course.next()
    with pytest.raises(UserError, match="after 0 probes and 1 stages: failed: KeyError"):
        course.next()

    class Asking(Mine):
        def steps(self, table: Table, seed: int, batch: int) -> Steps:
            yield Probe((Candidate("all", np.arange(3)),))

    course = Course(Asking(True), table, 0, 4)
    course.next()
    with pytest.raises(UserError, match="decide returned int, and not a Decision"):
        course.answer(ProbeResult((np.zeros(3),), (np.ones(3, np.int64),)))

    class Text(Mine):
        def columns(self):
            return "loss"

    with pytest.raises(UserError, match=r"columns\(\) is the text 'loss'"):
        Course(Text(True), table, 0, 4)


def test_stages_without_a_row_are_no_endless_course(table):
    @dataclass(frozen=True)
    class Stuck(Curriculum):
        def steps(self, table: Table, seed: int, batch: int) -> Steps:
            for row in range(3):
                yield Stage(np.zeros(0, np.int64))
                yield Stage(np.array([row]))
            while True:
                yield Stage(np.zeros(0, np.int64))

    course = Course(Stuck(), table, 0, 4)
    assert [len(course.next().rows) for _ in range(6)] == [0, 1] * 3
    with pytest.raises(UserError, match="1,001 stages without a row"):
        while course.next():
            pass


def test_a_curriculum_that_asks_has_to_decide(table):
    course = Course(Wrong(Probe((Candidate("a", np.arange(2)),))), table, 0, 4)
    course.next()
    with pytest.raises(UserError, match="NotImplementedError: Wrong asks the student"):
        course.answer(ProbeResult((np.zeros(2),), (np.ones(2, np.int64),)))


CURIOUS = '''
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from curricle.train.curricula.base import Candidate, Curriculum, Decision, Probe, ProbeResult, Stage, Steps
from curricle.train.data.table import Table


@dataclass(frozen=True)
class Length:
    """How many tokens the student reads of each row of the first candidate."""

    name: ClassVar[str] = "length"

    def answer(self, student, probe: Probe) -> ProbeResult:
        (candidate,) = probe.candidates
        table = student.table.held_out if candidate.held_out else student.table
        lengths = np.array([len(each) for each in student.encode(table, candidate.rows)])
        student.remark("rows were measured", longest=int(lengths.max()))
        return ProbeResult((np.zeros(len(lengths)),), (np.zeros(len(lengths), np.int64),), lengths.astype(float))


@dataclass(frozen=True)
class Curious(Curriculum):
    """Short rows first, then a look at the loss of what is held out."""

    def steps(self, table: Table, seed: int, batch: int) -> Steps:
        held_out = Candidate("held out", np.arange(len(table.held_out)), held_out=True)
        lengths = (yield Probe((Candidate("all", np.arange(len(table))),), Length(), "measure")).scores
        yield Stage(np.argsort(lengths, kind="stable")[:16])
        decision = yield Probe((held_out,), purpose="look")
        yield Stage(np.argsort(lengths, kind="stable")[16:32], competence={"loss": float(decision.scores[0])})

    def decide(self, probe: Probe, result: ProbeResult, seed: int) -> Decision:
        scores = result.values if probe.what.name == "length" else result.nll[0] / result.tokens[0]
        return Decision.of(probe, result, scores=scores)
'''


def test_a_question_of_ones_own_is_asked_journalled_and_replayed(command, train_in_fork, tmp_path):
    """In a file of somebody's own; and not without held-out rows."""
    file = tmp_path / "curious.py"
    file.write_text(CURIOUS)
    asks = ["--curriculum", f"{file}:Curious", "--budget.samples", "32"]
    refused = train_in_fork(command(*asks))
    assert refused.code == 2 and "asks about held-out rows, and none are held out" in refused.text, refused.text
    assert not (tmp_path / "run").exists()
    asks += ["--eval.rows", "6"]
    done = train_in_fork(command(*asks))
    assert done.code == 0 and "step 0  rows were measured" in done.text, done.text
    metrics = [json.loads(line) for line in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()]
    first, second = (line for line in metrics if line["kind"] == "probe")
    assert (first["what"], first["purpose"], first["tokens"]) == ("length", "measure", 0) and first["longest"] > 0
    assert (second["what"], second["purpose"]) == ("nll", "look") and second["tokens"] > 0 and second["step"] == 2
    assert set(second["loss"]) == {"held out"}
    records = read_journal(tmp_path / "run" / "journal.jsonl").records
    measured, _, looked, last = records
    assert (measured.what, looked.what) == ("length", "nll") and len(looked.scores) == 6
    assert last.competence == {"loss": looked.scores[0]}

    rest = shutil.copy(tmp_path / "run" / "journal.jsonl", tmp_path / "kept.jsonl")
    replayed = train_in_fork(command(*asks, "--replay", str(rest), output="again"))
    assert replayed.code == 0 and "measured" not in replayed.text, replayed.text
    assert outcome(tmp_path / "again") == outcome(tmp_path / "run")
    assert train_in_fork(["report", str(tmp_path / "run")]).code == 0


def test_a_course_by_hand_is_told_in_words_what_it_waits_for(table):
    course = Course(Wrong(Probe((Candidate("a", np.arange(2)),))), table, 0, 4)
    with pytest.raises(UserError, match="no probe waits for an answer"):
        course.answer(ProbeResult((), ()))
    course.next()
    for misuse, words in (
        (course.next, "probe 0 waits to be answered"),
        (lambda: course.report(Outcome(np.zeros(2), np.zeros(2))), "no stage waits for its outcome"),
    ):
        with pytest.raises(UserError, match=words):
            misuse()
