"""What a curriculum of somebody's own may ask, and what is refused before anything is trained."""

from dataclasses import dataclass

import numpy as np
import pytest
from curricle.schemas.common.errors import UsageError, UserError
from curricle.train.curricula import CURRICULA, build
from curricle.train.curricula.base import Candidate, Course, Curriculum, Decision, Probe, ProbeResult, Stage, Steps
from curricle.train.data.holdout import hold_out
from curricle.train.data.table import Table
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
    assert set(CURRICULA) == {"random", "sorted", "competence", "cyclical", "paced", "blocked", "interleaved", "campus"}


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


def test_a_curriculum_that_asks_has_to_decide(table):
    course = Course(Wrong(Probe((Candidate("a", np.arange(2)),))), table, 0, 4)
    course.next()
    with pytest.raises(NotImplementedError, match="Wrong asks the student"):
        course.answer(ProbeResult((np.zeros(2),), (np.ones(2, np.int64),)))
