"""CAMPUS: by hand on four rows for every option, against argmin with scripted students, and the simulation of its
readings."""

import math
from itertools import islice
from statistics import NormalDist

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from curricle.schemas.common.errors import UserError
from curricle.train.curricula.base import Probe, ProbeResult, Stage
from curricle.train.curricula.campus.curriculum import Campus
from curricle.train.curricula.campus.perplexity import log_perplexity
from curricle.train.curricula.course import Course
from curricle.train.data.table import open_table
from train_tables import make_table

LOSS, LENGTH = [1.0, 2.0, 3.0, 4.0], [4, 3, 2, 1]  # two opposite orders: 0 1 2 3 and 3 2 1 0


def answer(probe, nll, tokens=None):
    """The answer of a student whose loss on row i is nll[i] over tokens[i] tokens (1 unless told)."""
    nll = np.asarray(nll, float)
    tokens = np.ones(len(nll), np.int64) if tokens is None else np.asarray(tokens, np.int64)
    return ProbeResult(
        tuple(nll[each.rows] for each in probe.candidates), tuple(tokens[each.rows] for each in probe.candidates)
    )


def follow(course, student, limit=50):
    """Stages as (choice, rows), and the probes, of a course whose student has these losses (or a function of them)."""
    stages, probes = [], []
    while len(stages) < limit and (step := course.next()) is not None:
        if isinstance(step, Probe):
            probes.append(step)
            course.answer(student(step) if callable(student) else answer(step, student))
        else:
            stages.append((step.choice, step.rows.tolist()))
    return stages, probes


@pytest.fixture
def four(tmp_path):
    return make_table(tmp_path, {"loss": LOSS, "length": LENGTH})


def campus(**options):
    """Slices of 1, 2, 1 and 0 rows. Unless a test says so, the orders are not sorted again, and a choice may cost
    anything.
    """
    arguments = {"perspectives": ("loss", "length"), "decisions": 4, "stop": "exhaustion"}
    earlier = {"probe": "sparse", "pointer": "own", "seen": "keep", "probe_rows": 0, "probe_cost": 0.0}
    return Campus(**{**arguments, **earlier, **options})


def run(table, student=LOSS, limit=50, **options):
    return follow(Course(campus(**options), table, 0, 2), student, limit)


OWN = [("loss", [0]), ("loss", [1, 2]), ("loss", [3]), ("length", [3]), ("length", [2, 1]), ("length", [0])]


def test_own_pointers_until_exhaustion(four):
    stages, probes = run(four)
    # 1 < 4, 2.5 < 4, and at 4 = 4 the first named; then nothing is left to choose and nobody is asked
    assert stages == OWN
    assert len(probes) == 3


def test_shared_pointer(four):
    stages, _ = run(four, pointer="shared")
    # 1 < 4; 2.5 = 2.5; 4 > 1. Row 3 is never seen.
    assert stages == [("loss", [0]), ("loss", [1, 2]), ("length", [0])]


def test_seen_rows_skipped(four):
    stages, _ = run(four, seen="skip")
    assert stages == OWN[:3]


def test_seen_rows_skipped_inside_a_slice(four):
    # the student finds 3 easy: length opens with [3]; then [0] against [2, 1], and what is left of both
    stages, _ = run(four, [2.0, 3.0, 3.0, 1.0], seen="skip")
    assert stages == [("length", [3]), ("loss", [0]), ("loss", [1, 2])]


@pytest.mark.parametrize(("stop", "stages"), [("decisions", 4), ("coverage", 3), ("exhaustion", 6)])
def test_stops(four, stop, stages):
    assert run(four, stop=stop)[0] == OWN[:stages]


def test_budget_starts_the_orders_again(four):
    assert run(four, stop="budget", limit=14)[0] == OWN + OWN + OWN[:2]


def test_budget_with_skip_starts_again_when_all_are_seen(four):
    assert run(four, stop="budget", seen="skip", limit=7)[0] == OWN[:3] + OWN[:3] + OWN[:1]


def test_budget_with_shared_pointer_and_skip_reaches_what_was_left_out(four):
    stages, _ = run(four, stop="budget", pointer="shared", seen="skip", limit=4)
    assert stages == [("loss", [0]), ("loss", [1, 2]), ("loss", [3]), ("loss", [0])]


@pytest.mark.parametrize(
    ("scope", "slices"), [("root", [1, 2, 1]), ("root_shifted", [1, 2, 1]), ("literal_exp", [1, 1, 1, 1])]
)
def test_scope(four, scope, slices):
    stages, _ = run(four, scope=scope)
    assert [len(rows) for choice, rows in stages if choice == "length"] == slices


def test_s1_p_and_number_of_decisions(four):
    assert [len(rows) for _, rows in run(four, s1=0.5, p=1.0, perspectives=("loss",))[0]] == [2, 1, 1]
    assert [len(rows) for _, rows in run(four, decisions=2, perspectives=("loss",))[0]] == [1, 3]
    assert [len(rows) for _, rows in run(four, decisions=1, perspectives=("loss",))[0]] == [4]


def test_competence_is_the_share_opened(four):
    course = Course(campus(), four, 0, 2)
    opened = []
    while (step := course.next()) is not None:
        if isinstance(step, Probe):
            course.answer(answer(step, LOSS))
        else:
            opened.append((step.competence["loss"], step.competence["length"]))
    assert opened == [(0.25, 0), (0.75, 0), (1, 0), (1, 0.25), (1, 0.75), (1, 1)]


@pytest.mark.parametrize(
    ("rival", "chosen"),
    [
        (1.9, {"sample_mean": "length", "mean_ppl": "length", "token": "length"}),
        (2.2, {"sample_mean": "loss", "mean_ppl": "length", "token": "length"}),
        (2.45, {"sample_mean": "loss", "mean_ppl": "loss", "token": "length"}),
        (2.6, {"sample_mean": "loss", "mean_ppl": "loss", "token": "loss"}),
    ],
)
def test_averaging(four, rival, chosen):
    # loss offers rows 0 and 1 with NLL 1 over 1 token and 9 over 3: 2, ln((e + e^3) / 2) = 2.434, 10 / 4 = 2.5
    # length offers rows 3 and 2 with the same mean NLL
    nll, tokens = [1.0, 9.0, rival, rival], [1, 3, 1, 1]
    for averaging, expected in chosen.items():
        course = Course(campus(averaging=averaging, s1=0.5, p=1.0), four, 0, 2)
        decision = course.answer(answer(course.next(), nll, tokens))
        assert decision.choice == expected
        assert (decision.nll, decision.tokens, decision.rows) == ((10.0, 2 * rival), (4, 2), (2, 2))


def test_log_perplexity_by_hand():
    nll, tokens = np.array([1.0, 9.0, 0.0]), np.array([1, 3, 0])
    assert log_perplexity(nll, tokens, "sample_mean") == 2.0
    assert log_perplexity(nll, tokens, "token") == 2.5
    assert log_perplexity(nll, tokens, "mean_ppl") == pytest.approx(math.log((math.e + math.e**3) / 2))
    assert log_perplexity(np.array([5000.0, 1.0]), np.array([1, 1]), "mean_ppl") == pytest.approx(5000 - math.log(2))
    assert log_perplexity(nll, np.zeros(3, np.int64), "token") is None


def test_temperature_draws_with_softmax(four):
    probability = 1 / (1 + math.exp(-(2.0 - 1.0) / 0.8))  # row 0 at 1, row 3 at 2
    chosen = []
    for seed in range(600):
        course = Course(campus(temperature=0.8), four, seed, 2)
        chosen.append(course.answer(answer(course.next(), [1.0, 9.0, 9.0, 2.0])).choice == "loss")
    assert np.mean(chosen) == pytest.approx(probability, abs=4 * math.sqrt(probability * (1 - probability) / 600))
    again = Course(campus(temperature=0.8), four, 599, 2)
    assert (again.answer(answer(again.next(), [1.0, 9.0, 9.0, 2.0])).choice == "loss") == chosen[-1]


def test_a_low_temperature_is_argmin(four):
    assert run(four, temperature=1e-9)[0][:2] == OWN[:2]


def test_probe_rows_asks_about_a_sample_and_trains_on_all(tmp_path):
    table = make_table(tmp_path, {"loss": np.arange(400.0), "length": np.arange(400)[::-1].copy()})
    stages, probes = run(table, np.arange(400.0), limit=3, probe_rows=7)
    whole, _ = run(table, np.arange(400.0), limit=3)
    assert stages == whole
    for probe in probes[1:]:
        for candidate in probe.candidates:
            assert len(candidate.rows) == min(7, len(candidate.rows))
            steps = np.diff(candidate.rows)
            assert (steps > 0).all() or (steps < 0).all()  # in the order of the perspective
    again = run(table, np.arange(400.0), limit=3, probe_rows=7)[1]
    assert [probe.digest for probe in probes] == [probe.digest for probe in again]


@pytest.mark.parametrize(
    ("cost", "stages", "questions"),
    [
        # 2 rows, then 3, are asked about, where 2 x 3 passes for the 1 row trained on allow 6: length is easier
        (2.0, [OWN[0], OWN[3], OWN[1], OWN[2], *OWN[4:]], [2, 3, 4, 3]),
        # 1.5 x 3 passes are less than 5: loss goes on, and may be compared again when 3 rows have been trained on
        (1.5, OWN, [2, 2]),
        (1e-9, OWN, [2]),  # one choice; the other order follows when the first is exhausted
    ],
)
def test_a_choice_stands_until_another_is_affordable(four, cost, stages, questions):
    result, probes = run(four, [1.0, 5.0, 5.0, 4.0], probe_cost=cost)
    assert result == stages
    assert [sum(len(each.rows) for each in probe.candidates) for probe in probes] == questions


@pytest.mark.parametrize("share", [0.01, 0.05, 0.3])
def test_choosing_costs_no_more_than_its_share(tmp_path, share):
    random = np.random.default_rng(0)
    table = make_table(tmp_path, {name: random.random(2000) for name in ("loss", "length")})
    stages, probes = run(table, random.random(2000), 1000, decisions=50, probe_rows=8, probe_cost=share)
    questions = sum(len(each.rows) for probe in probes for each in probe.candidates)
    trained = 3 * sum(len(rows) for _, rows in stages)
    assert questions <= share * trained + 16  # the first choice comes before any training
    # and it asks as often as it may: before nearly every stage, or to nearly the last row of its share
    assert questions > 0.7 * min(share * trained, 16 * len(stages))


def test_what_is_left_of_a_competence_aware_order_is_sorted_again(four):
    # the student finds 3 easiest of what is left, though the table says 1
    stages, probes = run(four, [1.0, 4.0, 3.0, 2.0], resort_every=1, resort_epochs=9.0, perspectives=("loss",))
    assert stages == [("loss", [0]), ("loss", [3, 2]), ("loss", [1])]
    assert [(probe.purpose, probe.candidates[0].rows.tolist()) for probe in probes] == [("resort", [1, 2, 3])]


def test_resort_sorts_towards_the_hard_end(four):
    stages, _ = run(four, [1.0, 4.0, 3.0, 2.0], resort_every=1, resort_epochs=9.0, perspectives=("loss:low",))
    assert stages == [("loss", [3]), ("loss", [1, 2]), ("loss", [0])]


def test_rows_without_a_token_stay_last_when_sorted_again(four):
    tokens = [1, 0, 1, 1]
    options = {"resort_every": 1, "resort_epochs": 9.0, "perspectives": ("loss",)}
    stages, _ = run(four, lambda probe: answer(probe, [1.0, 0.0, 3.0, 2.0], tokens), **options)
    assert stages == [("loss", [0]), ("loss", [3, 2]), ("loss", [1])]


@pytest.mark.parametrize(
    ("options", "questions"),
    [
        ({"resort_every": 1, "resort_epochs": 1.0}, [3]),  # 1 row left after the second visit needs no sorting
        ({"resort_every": 2, "resort_epochs": 1.0}, []),
        ({"resort_every": 1, "resort_epochs": 0.5}, []),  # 3 of 4 rows cost more than half an epoch
        ({"resort_every": 0, "resort_epochs": 1.0}, [3]),  # every visit costs 3 + 1 + 0 rows: one epoch
        ({"resort_every": 0, "resort_epochs": 0.5}, []),  # every second visit
        ({"resort_every": 1, "resort_epochs": 1.0, "competence_aware": ("length",)}, []),
    ],
)
def test_period_and_cost_of_sorting_again(four, options, questions):
    _, probes = run(four, perspectives=("loss",), **options)
    assert [len(probe.candidates[0].rows) for probe in probes] == questions


@pytest.mark.parametrize("epochs", [0.3, 1.0, 2.0])
def test_the_cost_of_sorting_again_is_bounded(tmp_path, epochs):
    losses = np.random.default_rng(0).random(1000)
    table = make_table(tmp_path, {"loss": losses, "length": np.random.default_rng(1).random(1000)})
    for every in (0, 1, 3):
        _, probes = run(table, losses, 1000, decisions=100, resort_every=every, resort_epochs=epochs)
        cost = sum(len(probe.candidates[0].rows) for probe in probes if probe.purpose == "resort")
        assert cost <= epochs * 1000
        assert cost > 0.2 * epochs * 1000 or every > 0


def test_every_perspective_still_visits_each_of_its_rows_once_when_sorted_again(tmp_path):
    random = np.random.default_rng(0)
    table = make_table(tmp_path, {"loss": random.random(300), "length": [None] * 50 + list(random.random(250))})
    stages, _ = run(
        table, lambda probe: answer(probe, random.random(300)), 1000, decisions=30, resort_every=2, resort_epochs=5.0
    )
    for name, rows in (("loss", range(300)), ("length", range(50, 300))):
        assert sorted(row for choice, part in stages if choice == name for row in part) == list(rows)


def test_a_loss_that_is_not_finite_stops_and_names_the_row(four):
    course = Course(campus(), four, 0, 2)
    with pytest.raises(UserError, match="row 3"):
        course.answer(answer(course.next(), [1.0, 1.0, 1.0, np.nan]))


def test_a_candidate_without_scored_tokens_loses(four):
    course = Course(campus(), four, 0, 2)
    assert course.answer(answer(course.next(), [0.0, 1.0, 1.0, 9.0], [0, 1, 1, 1])).choice == "length"
    course = Course(campus(), four, 0, 2)
    assert course.answer(answer(course.next(), [0.0] * 4, [0] * 4)).choice == "loss"


@pytest.mark.parametrize("seed", range(5))
def test_a_scripted_student_gets_what_argmin_says(tmp_path, seed):
    """An independent simulation: own pointers, three perspectives, a student whose losses fall as it trains."""
    random = np.random.default_rng(seed)
    scores = {name: random.permutation(120).astype(float) for name in ("loss", "length", "mtld")}
    table = make_table(tmp_path, scores)
    losses = random.random(120) * 5
    names = ("loss", "length", "mtld")
    options = {"perspectives": names, "decisions": 10}

    learned = losses.copy()
    course = Course(campus(**options), table, 0, 2)
    result = []
    while (step := course.next()) is not None:
        if isinstance(step, Stage):
            result.append((step.choice, step.rows.tolist()))
            learned[step.rows] *= 0.5
        else:
            course.answer(answer(step, learned))

    learned, orders = losses.copy(), {name: np.argsort(scores[name]) for name in names}
    ends = [0, *(math.ceil(120 * math.sqrt(t * 0.9999 / 10 + 0.0001)) if t > 1 else 2 for t in range(1, 10)), 120]
    visits, expected = dict.fromkeys(names, 0), []
    while any(count < 10 for count in visits.values()):
        offers = {
            name: orders[name][ends[visits[name]] : ends[visits[name] + 1]] for name in names if visits[name] < 10
        }
        best = min(offers, key=lambda name: learned[offers[name]].mean())
        visits[best] += 1
        expected.append((best, offers[best].tolist()))
        learned[offers[best]] *= 0.5
    assert result == expected


@pytest.fixture(scope="module")
def alpaca(shared_data, tmp_path_factory):
    """OPT-350M's losses on Alpaca, and three orders with a rank correlation of about .3, 0 and -.3 to them."""
    perplexity = pq.read_table(shared_data / "oracles" / "alpaca_opt350m_by_index.parquet")["opt-350m__P0"].to_numpy()
    rows = len(perplexity)
    normal = np.array([NormalDist().inv_cdf((rank + 0.5) / rows) for rank in range(rows)])
    normal = normal[np.argsort(np.argsort(perplexity, kind="stable"))]
    random = np.random.default_rng(0)
    columns = {"loss": np.log(perplexity)}
    for name, rho in (("friend", 0.3), ("stranger", 0.0), ("rival", -0.3)):
        columns[name] = rho * normal + math.sqrt(1 - rho**2) * random.standard_normal(rows)
    path = tmp_path_factory.mktemp("alpaca") / "table.parquet"
    pq.write_table(pa.table({"example_id": [f"{row:032x}" for row in range(rows)], **columns}), path)
    return open_table(path), columns["loss"], tuple(f"{name}:high" for name in columns)


def picks_of(stages, names):
    return [sum(f"{choice}:high" == name for choice, _ in stages) for name in names]


@pytest.mark.parametrize(
    ("options", "picks", "coverage", "mean_exposure"),
    [
        ({"pointer": "shared", "stop": "exhaustion"}, [42, 0, 0, 58], 0.727, 1.0),
        ({"stop": "decisions"}, [54, 34, 12, 0], 0.902, 1.67),
        ({"stop": "exhaustion"}, [100, 100, 100, 100], 1.0, 4.0),
        ({"seen": "skip", "stop": "coverage"}, [100, 4, 4, 3], 1.0, 1.0),
    ],
)
def test_simulation_of_the_four_readings(alpaca, options, picks, coverage, mean_exposure):
    """Own or shared pointers, with and without repeats: docs/methods.md, "CAMPUS". The synthetic orders are drawn anew,
    so picks agree to within a few."""
    table, losses, names = alpaca
    stages, _ = follow(Course(campus(perspectives=names, decisions=100, **options), table, 0, 32), losses, 1000)
    result = picks_of(stages, names)
    exposures = np.bincount(np.concatenate([rows for _, rows in stages]), minlength=len(table))
    assert result == pytest.approx(picks, abs=6)
    assert (exposures > 0).mean() == pytest.approx(coverage, abs=0.01)
    assert exposures.mean() == pytest.approx(mean_exposure, abs=0.03)


def test_cheap_choices_follow_those_that_ask_about_all(alpaca):
    table, losses, names = alpaca
    whole, cheap = (
        follow(Course(campus(perspectives=names, decisions=100, stop="decisions", **options), table, 0, 32), losses)
        for options in ({}, {"probe_rows": 16, "probe_cost": 0.05})
    )
    assert picks_of(cheap[0], names) == pytest.approx(picks_of(whole[0], names), abs=10)
    questions, trained = (
        sum(len(each.rows) for probe in cheap[1] for each in probe.candidates),
        sum(len(rows) for _, rows in cheap[0]),
    )
    assert questions / (3 * trained) < 0.03


def test_no_scores_in_common_is_fine(tmp_path):
    table = make_table(tmp_path, {"loss": [1.0, 2.0, None, None], "length": [None, None, 1.0, 2.0]})
    stages, _ = run(table, [1.0, 2.0, 3.0, 4.0], stop="coverage")
    assert sorted(row for _, rows in stages for row in rows) == [0, 1, 2, 3]


def test_endless_without_a_stop(four):
    course = Course(campus(stop="budget", perspectives=("loss",)), four, 0, 2)
    steps = list(islice(iter(course.next, None), 100))
    assert len(steps) == 100
