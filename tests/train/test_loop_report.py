"""The report of a run."""

import html
import json
import re
import shutil

import numpy as np
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest
from curricle.schemas.sealed import sealed, unsealed
from curricle.train.model.optimizer import learning_rate
from curricle.train.ordering.batches import OrderHash
from curricle.train.records.checkpoints import read_cursor
from curricle.train.settings import OptimizerSettings


def test_the_page_shows_the_run_and_fetches_nothing(command, train_in_fork, tmp_path):
    assert train_in_fork(command("--eval.rows", "8", "--eval.every", "2", "--budget.samples", "30")).code == 0
    run = tmp_path / "run"
    hostile = run / "run.json"
    about = unsealed(hostile.read_bytes())
    about["settings"]["template"] = "chat"
    about["settings"]["model"] = "<script>alert(1)</script>"
    hostile.write_text(sealed(json.dumps(about)))
    done = train_in_fork(["report", str(run)])
    assert done.code == 0, done.text
    page = (run / "report.html").read_text()
    for title in (
        "Loss",
        "What was chosen when",
        "Perplexity of the candidates",
        "Competence",
        "Exposure by difficulty",
        "Exposure",
        "never seen",
    ):
        assert title in page
    assert "<script" not in page and html.escape("<script>alert(1)</script>") in page
    assert not re.findall(r'(?:src|href)="(?!#)', page) and "url(http" not in page
    counted = re.search(r"([\d,]+) rows were not visited", page)
    assert counted and 56 - 30 <= int(counted[1]) < 56


def test_without_its_table_a_run_still_has_a_report(command, train_in_fork, tmp_path):
    assert train_in_fork(command("--budget.steps", "2", "--curriculum", "random")).code == 0
    shutil.rmtree(tmp_path / "table")
    assert train_in_fork(["report", str(tmp_path / "run")]).code == 0
    assert "no longer where the run found it" in (tmp_path / "run" / "report.html").read_text()


def test_no_run_no_report(train_in_fork, tmp_path):
    done = train_in_fork(["report", str(tmp_path)])
    assert done.code == 2 and "there is no run here" in done.text


def test_plan_needs_no_model(train_in_fork, table_file, tmp_path):
    done = train_in_fork(
        [
            "plan",
            "--data",
            str(table_file),
            "--output",
            str(tmp_path / "plan"),
            "--curriculum",
            "sorted",
            "--curriculum.by",
            "loss",
            "--batch.size",
            "8",
        ]
    )
    assert done.code == 0, done.text
    assert "64 samples in 8 steps" in done.text
    assert (tmp_path / "plan" / "plan.parquet").exists() and (tmp_path / "plan" / "plan.png").exists()


def test_a_journal_is_planned_over_the_rows_that_its_run_had(command, train_in_fork, tmp_path, table_file):
    """Its directory is enough: what was held out, and which table, stands in run.json."""
    arguments = command("--budget.samples", "24", "--eval.rows", "9", "--subset", "40", "--eval.seed", "3")
    assert train_in_fork(arguments).code == 0
    (saved,) = (tmp_path / "run" / "checkpoints").glob("step-*")
    ids = pq.read_table(table_file)["example_id"].to_pylist()
    orders = []
    for journal in (tmp_path / "run", tmp_path / "run" / "journal.jsonl", saved / "state" / "journal.jsonl"):
        done = train_in_fork(["plan", "--journal", str(journal), "--output", str(tmp_path / "plan")])
        assert done.code == 0, done.text
        orders.append(pq.read_table(tmp_path / "plan" / "plan.parquet"))
    plan = orders[0]
    assert orders == [plan] * 3 and plan.num_rows == 24
    assert [ids[row] for row in plan["row"].to_pylist()] == plan["example_id"].to_pylist()
    running = OrderHash()
    for step in range(plan["step"][-1].as_py() + 1):
        digits = "".join(plan.filter(pc.field("step") == step)["example_id"].to_pylist())
        running.update(np.frombuffer(bytes.fromhex(digits), np.uint8).reshape(-1, 16))
    assert running.hexdigest() == read_cursor(saved).order
    (tmp_path / "run" / "run.json").unlink()
    refused = train_in_fork(["plan", "--journal", str(tmp_path / "run"), "--output", str(tmp_path / "other")])
    assert refused.code == 2 and "give --data" in refused.text


@pytest.mark.parametrize(
    ("schedule", "values"),
    [
        ("constant", {0.05: 0.5, 0.1: 1, 0.55: 1, 1: 1}),
        ("linear", {0.05: 0.5, 0.1: 1, 0.55: 0.5, 1: 0}),
        ("cosine", {0.05: 0.5, 0.1: 1, 0.55: 0.5, 0.325: 0.853553, 1: 0}),
        ("wsd", {0.05: 0.5, 0.1: 1, 0.8: 1, 0.9: 0.5, 1: 0}),
        ("rex", {0.05: 0.5, 0.1: 1, 0.55: 0.5 / 0.75, 1: 0}),
    ],
)
def test_schedules(schedule, values):
    settings = OptimizerSettings(lr=2.0, warmup=0.1, schedule=schedule)
    for spent, factor in values.items():
        assert learning_rate(settings, spent) == pytest.approx(2 * factor, abs=1e-6)
    floored = OptimizerSettings(lr=2.0, warmup=0.1, schedule=schedule, floor=0.1)
    assert learning_rate(floored, 1.0) == pytest.approx(2.0 if schedule == "constant" else 0.2)


def test_tensorboard_events_are_written(command, train_in_fork, tmp_path):
    pytest.importorskip("tensorboard")
    arguments = command("--budget.steps", "2", "--curriculum", "random")
    done = train_in_fork([*arguments, "--log.tensorboard"])
    assert done.code == 0, done.text
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(tmp_path / "run" / "tensorboard"))
    events.Reload()
    assert [event.step for event in events.Scalars("train/loss")] == [1, 2]
