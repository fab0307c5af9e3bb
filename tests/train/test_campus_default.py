"""What CAMPUS does unless it is told otherwise: each row once, competence from losses that are free, at any size."""

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from curricle.train.curricula.base import Outcome, Probe, ProbeResult, Stage
from curricle.train.curricula.campus.curriculum import Campus
from curricle.train.curricula.course import Course
from curricle.train.data.table import open_table
from curricle.train.ordering.batches import Budget, batches
from curricle.train.ordering.rehearsal import Rehearsal
from curricle.train.ordering.summary import Tally
from train_tables import make_table

BATCH = 32
COLUMNS = ("prompt_words:high", "response_mtld:high", "loss:high")


@pytest.fixture(scope="module")
def published(shared_data):
    """Losses of OPT-350M on 52,002 rows of Alpaca, before training."""
    oracle = pq.read_table(shared_data / "oracles" / "alpaca_opt350m_by_index.parquet")
    return np.log(oracle["opt-350m__P0"].to_numpy())


def table_of(directory, losses, rows):
    """A sample of the losses, and two columns that agree with them by about .3, and not at all."""
    random = np.random.default_rng(rows)
    loss = losses[random.permutation(len(losses))[:rows]]
    ranks = np.argsort(np.argsort(loss)) / rows - 0.5
    columns = {
        "loss": loss,
        "prompt_words": ranks + random.normal(size=rows),
        "response_mtld": random.normal(size=rows),
        "prompt_tokens": random.integers(10, 200, rows),
        "response_tokens": np.maximum(1, np.exp(random.normal(4, 0.8, rows))).astype(int),
    }
    ids = [f"{row:032x}" for row in range(rows)]
    pq.write_table(pa.table({"example_id": ids, **columns}), directory / "table.parquet")
    return open_table(directory / "table.parquet")


class ProbeLog(Course):
    """A course that keeps its probes."""

    def __init__(self, *arguments) -> None:
        super().__init__(*arguments)
        self.probes: list[Probe] = []

    def next(self) -> Probe | Stage | None:
        step = super().next()
        self.probes += [step] if isinstance(step, Probe) else []
        return step


@pytest.mark.parametrize("rows", [200, 600, 2000, 10_000, 52_002])
def test_an_epoch_opens_every_order_and_trains_on_every_row(published, tmp_path, rows):
    table = table_of(tmp_path, published, rows)
    course = ProbeLog(Campus(perspectives=COLUMNS), table, 0, BATCH)
    rehearsal = Rehearsal(course, table)
    steps = list(batches(rehearsal.stages(), BATCH, Budget(samples=rows)))
    tally, stages = Tally(rows), {batch.stage.index: batch.stage for batch in steps}
    for stage in stages.values():
        tally.stage(stage)
    for batch in steps:
        tally.batch(batch.rows)
    summary = tally.summary(table, COLUMNS, 0)
    assert tally.visits.tolist() == [1] * rows
    assert len(steps) == -(-rows // BATCH)  # as many as in random order
    assert summary.competence == {"prompt_words": 1, "response_mtld": 1, "loss": 1}
    assert min(min(tenths) for tenths in summary.tenths.values()) == 1
    assert list(summary.warnings()) == []
    tokens = table.numbers("prompt_tokens") + table.numbers("response_tokens")
    cost = sum(tokens[each.rows].sum() for probe in course.probes for each in probe.candidates) / (3 * tokens.sum())
    assert 0 < cost <= 0.05
    assert summary.estimates.agreed == summary.estimates.checks > 0  # the stored losses are this student's
    # no one order decides alone, and what comes early is easier than what comes late
    assert len(summary.choices) > 1 and max(summary.choices.values()) < 0.9 * sum(summary.choices.values())
    order, loss = np.concatenate([batch.rows for batch in steps]), table.numbers("loss")
    assert loss[order[: rows // 3]].mean() < loss[order[-rows // 3 :]].mean()


def test_before_there_were_free_losses_an_epoch_ended_too_early(published, tmp_path):
    """The negative control: own pointers, a sample when the cost allows, and repeats."""
    table = table_of(tmp_path, published, 2000)
    earlier = Campus(perspectives=COLUMNS, probe="sparse", pointer="own", seen="keep", decisions=100)
    tally = Tally(2000)
    for batch in batches(Rehearsal(Course(earlier, table, 0, BATCH), table).stages(), BATCH, Budget(samples=2000)):
        tally.stage(batch.stage)
        tally.batch(batch.rows)
    summary = tally.summary(table, COLUMNS, 0)
    assert min(summary.tenths["loss:high"]) < 0.5
    assert any("hardly trained on" in line for line in summary.warnings())
    assert any("was opened to" in line for line in summary.warnings())


class Learner:
    """A student whose loss is a mixture of columns that moves as it is trained, and a share of noise on each row."""

    def __init__(self, table, seed=0, noise=0.2):
        random = np.random.default_rng(seed)
        self.parts = [(values - values.mean()) / values.std() for values in map(table.numbers, ("loss", "length"))]
        self.noise, self.trained = random.normal(size=len(table)) * noise, 0

    def losses(self):
        moved = min(1.0, self.trained / len(self.noise) * 4)  # after a quarter of an epoch length alone decides
        return 3 + (1 - moved) * self.parts[0] + moved * self.parts[1] + self.noise

    def answer(self, probe):
        losses = self.losses()
        rows = [each.rows for each in probe.candidates]
        return ProbeResult(tuple(losses[it] for it in rows), tuple(np.ones(len(it), np.int64) for it in rows))

    def outcome(self, stage):
        losses = self.losses()[stage.rows]
        self.trained += len(stage.rows)
        return Outcome(losses, np.ones(len(losses), np.int64), stage.index)


class Static(Learner):
    """A student whose losses never change."""

    def __init__(self, losses):
        self.fixed, self.trained = np.array(losses), 0

    def losses(self):
        return self.fixed


def follow(course, learner, rows):
    """Stages until so many rows are trained on, and how many rows were asked about."""
    stages, questions, trained = [], 0, 0
    while trained < rows and (step := course.next()) is not None:
        if isinstance(step, Probe):
            questions += sum(len(each.rows) for each in step.candidates)
            course.answer(learner.answer(step))
        else:
            stages.append(step)
            trained += len(step.rows)
            result = learner.outcome(step)
            if step.outcome:
                course.report(result)
    return stages, questions


@pytest.fixture
def learned(tmp_path):
    random = np.random.default_rng(1)
    return make_table(tmp_path, {"loss": random.random(1200) * 4, "length": random.random(1200)})


NAMES = ("loss", "length")


def test_a_student_that_moves_away_from_the_stored_losses_is_followed(learned):
    """After a quarter of the epoch its losses go with length, so that ``loss`` sorted again is nearly that order."""
    campus = Campus(perspectives=NAMES)
    stages, questions = follow(Course(campus, learned, 0, BATCH), learner := Learner(learned), 1200)
    assert questions <= 0.05 * 3 * 1200
    order = np.concatenate([stage.rows for stage in stages])
    late = order[600:]
    now, stored = learner.losses(), learned.numbers("loss")
    ranks = np.argsort(np.argsort(np.arange(len(late))))

    def rho(values):
        return np.corrcoef(ranks, np.argsort(np.argsort(values[late])))[0, 1]

    assert rho(now) > rho(stored) + 0.1
    last = [stage.calibration for stage in stages if stage.calibration][-1]
    assert last.rho > 0.7 and abs(last.bias) < 0.5


@pytest.mark.parametrize(("probe", "share"), [("free", 0.05), ("sampled", 0.05), ("sampled", 0.2)])
def test_asking_stays_within_its_share_at_every_instant(learned, probe, share):
    course, learner = Course(Campus(perspectives=NAMES, probe=probe, probe_cost=share), learned, 0, 8), Learner(learned)
    trained = questions = 0
    while trained < 2400 and (step := course.next()) is not None:
        if isinstance(step, Probe):
            questions += sum(len(each.rows) for each in step.candidates)
            assert questions <= share * 3 * trained
            course.answer(learner.answer(step))
        else:
            trained += len(step.rows)
            course.report(learner.outcome(step))
    assert questions > (0.9 * share * 3 * trained if probe == "sampled" else 0)


def test_a_poor_estimate_is_checked_more_often(learned):
    def checks(losses):
        course = Course(Campus(perspectives=NAMES, probe_cost=1.0), learned, 0, BATCH)
        stages, _ = follow(course, Static(losses), 1200)
        return [stage.calibration.decision for stage in stages if stage.calibration]

    assert checks(learned.numbers("loss")) == [2, 4, 8, 16, 32]
    assert len(checks(np.random.default_rng(0).normal(5, 1, 1200))) > 8


@pytest.mark.parametrize(("scale", "rounds"), [(1.0, 1), (0.001, 4)])
def test_questions_end_where_one_candidate_alone_can_be_the_easiest(tmp_path, scale, rounds):
    """Successive elimination: four rows of each do where the estimates lie far apart, else it is sixteen."""
    orders = np.arange(400.0), np.arange(400.0)[::-1]
    table = make_table(tmp_path, {"loss": orders[0] * scale, "length": orders[1].copy()})
    learner = Static(np.random.default_rng(2).normal(5, 1, 400) + orders[0] * scale)
    course = Course(Campus(perspectives=NAMES, probe="sampled", probe_cost=0.0), table, 0, 8)
    while not isinstance(step := course.next(), Stage):
        course.answer(learner.answer(step))
    course.report(learner.outcome(step))
    questions = []
    while not isinstance(step := course.next(), Stage):
        questions.append([len(each.rows) for each in step.candidates])
        course.answer(learner.answer(step))
    assert questions == [[4, 4]] * rounds


def test_exact_asks_about_every_row_and_wants_no_outcome(learned):
    course = Course(Campus(perspectives=NAMES, probe="exact", competence_aware=()), learned, 0, BATCH)
    probe = course.next()
    assert [len(each.rows) for each in probe.candidates] == [BATCH, BATCH]
    course.answer(Learner(learned).answer(probe))
    assert isinstance(stage := course.next(), Stage) and not stage.outcome and stage.calibration is None


def test_exact_sorts_again_after_one_two_four_eight_decisions(learned):
    course, learner = Course(Campus(perspectives=NAMES, probe="exact"), learned, 0, BATCH), Learner(learned)
    decisions, sorts = 0, []
    while decisions < 20:
        step = course.next()
        if isinstance(step, Probe):
            decisions += step.purpose == "choose"
            sorts += [decisions] if step.purpose == "resort" else []
            course.answer(learner.answer(step))
        else:
            learner.outcome(step)
    assert sorts == [1, 2, 4, 8, 16]


@pytest.mark.parametrize("pointer", ["own", "shared"])
@pytest.mark.parametrize("seen", ["once", "skip", "keep"])
@pytest.mark.parametrize("probe", ["free", "sampled", "exact", "sparse"])
def test_every_reading_fills_its_batches(learned, pointer, seen, probe):
    """No step but the last of an epoch is short of rows, and no row comes twice where it is not to."""
    course = Course(Campus(perspectives=NAMES, pointer=pointer, seen=seen, probe=probe), learned, 0, BATCH)
    stages, _ = follow(course, Learner(learned), 1200)
    sizes = [len(stage.rows) for stage in stages]
    visits = np.bincount(np.concatenate([stage.rows for stage in stages])[:1200], minlength=1200)
    if seen != "keep":
        assert visits.tolist() == [1] * 1200
    if probe != "sparse":
        assert all(size % BATCH == 0 for size in sizes[:-1])


def test_rows_without_a_score_are_trained_on_through_another_order(tmp_path):
    table = make_table(
        tmp_path, {"loss": [1.0, 2.0, 3.0, None, None, None], "length": [None, None, 1.0, 2.0, 3.0, 4.0]}
    )
    stages, _ = follow(Course(Campus(perspectives=NAMES), table, 0, 2), Static([1.0] * 6), 12)
    rows = np.concatenate([stage.rows for stage in stages])
    assert sorted(rows[:6].tolist()) == sorted(rows[6:12].tolist()) == list(range(6))


@pytest.mark.parametrize("probe", ["free", "exact", "sparse"])
def test_coverage_comes_where_every_row_is_trained_on_once(learned, probe):
    """What the first round passes over comes in further ones, and then it ends."""
    course = Course(Campus(perspectives=NAMES, probe=probe, stop="coverage"), learned, 0, BATCH)
    stages, _ = follow(course, Learner(learned), 10_000)
    assert sorted(np.concatenate([stage.rows for stage in stages]).tolist()) == list(range(1200))


def test_a_second_epoch_begins_with_orders_sorted_by_the_student(learned):
    """Also where it has to be asked: the stored losses are long out of date."""
    losses = np.random.default_rng(3).random(1200)
    course = Course(Campus(perspectives=("loss",), probe="exact"), learned, 0, BATCH)
    stages, _ = follow(course, Static(losses), 2400)
    second = np.concatenate([stage.rows for stage in stages])[1200:]
    assert losses[second].tolist() == sorted(losses)


def test_sparse_counts_what_is_trained_on_and_not_what_is_compared(learned):
    """With each row once, a slice may hold rows that were trained on, which cost nothing."""
    options = {"probe": "sparse", "seen": "once", "probe_rows": 4, "probe_cost": 0.02, "decisions": 300}
    learner = Learner(learned)
    course = Course(Campus(perspectives=NAMES, competence_aware=(), **options), learned, 0, 8)
    trained = questions = 0
    while trained < 1200 and (step := course.next()) is not None:
        if isinstance(step, Probe):
            questions += sum(len(each.rows) for each in step.candidates) if trained else 0  # the first choice is free
            assert questions <= 0.02 * 3 * trained
            course.answer(learner.answer(step))
        else:
            trained += len(step.rows)
            learner.outcome(step)
