"""The report of a run, and the comparison of several."""

import html
import json
import re
import shutil

import pytest
from curricle.schemas.sealed import sealed, unsealed
from curricle.train.comparison.figures import Curve, _interval, _until
from curricle.train.comparison.render import picture
from curricle.train.model.optimizer import learning_rate
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
            "--batch-size",
            "8",
        ]
    )
    assert done.code == 0, done.text
    assert "64 samples in 8 steps" in done.text
    assert (tmp_path / "plan" / "plan.parquet").exists() and (tmp_path / "plan" / "plan.png").exists()


def test_compare_trains_every_arm_with_every_seed(command, train_in_fork, tmp_path):
    arguments = [
        "compare",
        *command(
            "--eval.rows",
            "8",
            "--eval.every",
            "2",
            "--budget.samples",
            "24",
            "--arms",
            "random,sorted?by=loss,campus?probe=exact",
            "--seeds",
            "2",
            "--learning-rates",
            "1e-3,1e-5",
            output="compared",
            without="--curriculum.",
        )[1:],
    ]
    done = train_in_fork(arguments)
    assert done.code == 0, done.text
    result = json.loads((tmp_path / "compared" / "compare.json").read_text())
    assert result["learning_rate"] == 1e-3 and result["tried"]["0.001"] < result["tried"]["1e-05"]
    rows = {row["arm"]: row for row in result["rows"]}
    assert rows.keys() == {"random", "sorted?by=loss", "campus?probe=exact"}
    assert all(curve["samples"][-1] == 24 for curves in result["curves"].values() for curve in curves)
    assert rows["campus?probe=exact"]["probe_share"] > 0 == rows["random"]["probe_share"]
    assert rows["random"]["steps"] == 3 <= rows["campus?probe=exact"]["steps"]
    trained = {path.parent.name for path in (tmp_path / "compared" / "random").glob("*/seed-*")}
    assert trained == {"lr-0.001", "lr-1e-05"}  # what was trained for tuning is not trained again elsewhere
    assert rows["random"]["tokens_to_baseline"] and rows["random"]["difference"] is None
    table = (tmp_path / "compared" / "compare.md").read_text()
    assert table.count("\n|") == 4 and "campus?probe=exact" in table
    assert (tmp_path / "compared" / "compare.png").read_bytes().startswith(b"\x89PNG")


def test_compare_without_held_out_rows_is_refused(command, train_in_fork, tmp_path):
    done = train_in_fork(["compare", *command(without="--curriculum.")[1:]])
    assert done.code == 2 and "nothing is held out" in done.text
    assert not (tmp_path / "run").exists()


def test_compare_refuses_before_anything_is_trained(command, train_in_fork, tmp_path):
    cases = {
        "there is no column 'lost'": ["--arms", "random,sorted?by=lost"],
        "did you mean 'campus'": ["--arms", "random,campsu"],
        "is not NAME?key=value": ["--arms", "random,sorted?loss"],
        "the arms leave out 'random'": ["--arms", "campus"],
        "--seeds is 0": ["--seeds", "0"],
        "--learning-rates is 0.0": ["--learning-rates", "1e-3,0"],
    }
    for words, more in cases.items():
        done = train_in_fork(["compare", *command("--eval.rows", "8", *more, without="--curriculum.")[1:]])
        assert done.code == 2 and words in done.text, f"{words}: {done.text}"
        assert not (tmp_path / "run").exists()


def test_the_picture_averages_curves_of_different_length():
    def curve(tokens, loss):
        return Curve([*range(len(tokens))], tokens, tokens, [1.0] * len(tokens), loss, 0.0, 1.0)

    figure = picture({"random": [curve([0, 100], [4.0, 2.0]), curve([0, 50, 140], [4.0, 3.0, 1.0])]})
    mean = next(line for line in figure.axes[0].lines if line.get_label().startswith("random"))
    assert mean.get_xdata().tolist() == [0, 50, 120] and mean.get_ydata().tolist() == [4.0, 3.0, 1.5]


def test_intervals_and_crossings():
    assert _interval([1.0]) is None
    assert _interval([1.0, 2.0, 3.0]) == pytest.approx(4.303 / 3**0.5, rel=1e-3)
    assert _until([10, 20], [3.0, 1.0], 2.0) == 15
    assert _until([10, 20], [3.0, 1.0], 3.5) == 10
    assert _until([10, 20], [3.0, 1.0], 0.5) is None


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
