"""Plans: rows and picture of static orders and of journals, with no model and no torch."""

import subprocess
import sys

import numpy as np
import pyarrow.parquet as pq
import pytest
from curricle.schemas.common.errors import UsageError
from curricle.train.curricula import build
from curricle.train.curricula.base import ProbeResult
from curricle.train.curricula.course import Course
from curricle.train.data.holdout import split
from curricle.train.ordering.batches import Budget, OrderHash, batches
from curricle.train.ordering.journal import Header, open_journal, read_journal
from curricle.train.ordering.plan import plan, plan_of
from curricle.train.settings import EvalSettings, PlanSettings
from train_tables import make_table, stages_of, write_table

ROWS = 50


@pytest.fixture
def table(tmp_path):
    random = np.random.default_rng(0)
    return make_table(
        tmp_path,
        {"loss": random.random(ROWS), "length": [None] * 5 + list(range(ROWS - 5)), "topic": list("abcde") * 10},
    )


def header(table, name, options, **budget):
    budget = {"samples": None, "tokens": None, "steps": None, **budget}
    return Header(table.digest, table.fingerprint, name, options, 1, 8, budget)


@pytest.mark.parametrize(
    ("name", "options"),
    [("random", {}), ("sorted", {"by": "length"}), ("interleaved", {"category": "topic"}), ("competence", {})],
)
def test_the_plan_is_the_order_that_is_trained(table, tmp_path, name, options):
    head = header(table, name, options, samples=70)
    product = plan(table, head, tmp_path / "plan")
    trained = list(batches(iter(Course(build(name, options), table, 1, 8).next, None), 8, Budget(samples=70)))
    result = pq.read_table(product.parquet)
    assert result["row"].to_pylist() == np.concatenate([batch.rows for batch in trained]).tolist()
    assert result["step"].to_pylist() == [batch.step for batch in trained for _ in batch.rows]
    assert result["position"].to_pylist() == [index for batch in trained for index in range(len(batch.rows))]
    assert result["example_id"].to_pylist() == [table.ids[row].tobytes().hex() for row in result["row"].to_pylist()]
    assert (product.samples, product.steps) == (70, len(trained))
    assert sum(product.exposures) == ROWS
    assert sum(times * rows for times, rows in enumerate(product.exposures)) == 70
    assert product.picture.read_bytes().startswith(b"\x89PNG")
    assert {path.name for path in (tmp_path / "plan").iterdir()} == {"plan.parquet", "plan.png"}


@pytest.mark.parametrize("more", [{}, {"rows": 12}, {"rows": 7, "tuning_rows": 5, "near_duplicates": 0.9}])
def test_rows_are_those_of_the_table_that_the_user_has(tmp_path, more):
    """Also in several files, without what is left out, held out and not drawn: none of that is ever named."""
    ids = []
    (tmp_path / "scored").mkdir()
    for part in range(2):
        path = write_table(tmp_path / "scored" / f"{part}.parquet", {"loss": [0.5] * ROWS}, first=part * ROWS)
        ids += pq.read_table(path)["example_id"].to_pylist()
    other = write_table(tmp_path / "other.parquet", {"loss": [0.5] * 9}, first=40)
    settings = PlanSettings(
        data=tmp_path / "scored",
        output=tmp_path / "plan",
        curriculum="random",
        leave_out=(other,),
        subset=30,
        eval=EvalSettings(**more),
    )
    result = pq.read_table(plan_of(settings).parquet)
    assert result.num_rows == 30
    assert [ids[row] for row in result["row"].to_pylist()] == result["example_id"].to_pylist()
    held_out = split(settings, 0).held_out
    named = {*result["row"].to_pylist()}
    assert not named & {row for table in held_out.values() for row in table.origin.tolist()}
    assert not named & set(range(40, 49))


def test_the_plan_of_a_journal(table, tmp_path):
    head = header(table, "campus", {"perspectives": ["loss", "length"], "probe": "exact"}, samples=60)
    course = Course(build("campus", head.options), table, 1, 8)
    random = np.random.default_rng(0)

    def student(probe):
        return ProbeResult(
            tuple(random.random(len(each.rows)) for each in probe.candidates),
            tuple(np.ones(len(each.rows), np.int64) for each in probe.candidates),
        )

    journal = open_journal(tmp_path / "journal.jsonl", head)
    running = OrderHash()
    for batch in batches(stages_of(course, journal, student), 8, Budget(samples=60)):
        running.update(table.ids[batch.rows])
    product = plan(table, read_journal(tmp_path / "journal.jsonl"), tmp_path / "plan")
    planned = OrderHash()
    result = pq.read_table(product.parquet)
    steps, rows = result["step"].to_numpy(), result["row"].to_numpy()
    for step in range(product.steps):
        planned.update(table.ids[rows[steps == step]])
    assert planned.hexdigest() == running.hexdigest()
    assert set(result["choice"].to_pylist()) <= {"loss", "length"}


@pytest.mark.parametrize("probe", ["free", "exact"])
def test_the_plan_of_a_curriculum_that_asks_is_a_rehearsal(table, tmp_path, probe):
    head = header(table, "campus", {"perspectives": ["loss", "length"], "probe": probe}, samples=60)
    product = plan(table, head, tmp_path / "plan")
    assert product.rehearsed
    assert "decisions between the orders by loss, length" in product.description
    assert pq.read_table(product.parquet).num_rows == 60
    assert not plan(table, header(table, "random", {}, samples=60), tmp_path / "random").rehearsed


def test_without_losses_nothing_can_stand_in_for_a_student(tmp_path):
    table = make_table(tmp_path, {"length": list(range(40)), "mtld": list(range(40))})
    with pytest.raises(UsageError, match="what no column of the table holds"):
        plan(table, header(table, "campus", {"perspectives": ["length", "mtld"]}, samples=40), tmp_path / "plan")
    assert not (tmp_path / "plan").exists()


def test_nothing_is_written_for_an_order_without_end_or_column(table, tmp_path):
    with pytest.raises(UsageError, match="no end"):
        plan(table, header(table, "random", {}), tmp_path / "plan")
    with pytest.raises(UsageError, match="did you mean 'length'"):
        plan(table, header(table, "sorted", {"by": "lenght"}, samples=9), tmp_path / "plan")
    assert not (tmp_path / "plan").exists()


def test_planning_needs_neither_torch_nor_the_other_half():
    modules = ", ".join(f"curricle.train.ordering.{name}" for name in ("plan", "journal", "batches"))
    code = f"import sys, {modules}; print(*sys.modules)"
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    assert not {"torch", "transformers", "curricle.curate", "curricle.pipelines", "apache_beam", "vllm"} & set(loaded)
