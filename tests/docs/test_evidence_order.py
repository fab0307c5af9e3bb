"""The experiment on orders, cut down: its command makes everything from a few lines of each file, and goes on."""

import gzip
import json
import shutil
import subprocess
import sys
from itertools import islice
from pathlib import Path

import forking
import polars as pl
import pytest
from pages import REPOSITORY

DATA = REPOSITORY.parent / "shared" / "data"
SCRIPT = REPOSITORY / "docs" / "evidence" / "order" / "run.py"
# Of T0, tasks that rows are drawn from and others that the student is pretrained on.
TASKS = ("common_gen_Put_together", "social_i_qa_Generate_answer", "rotten_tomatoes_Reviewer_Enjoyment")


@pytest.fixture(scope="module")
def data(tmp_path_factory) -> Path:
    """The first lines of the public files, in folders as they lie there."""
    if not DATA.is_dir():
        pytest.skip(f"{DATA} is not here")
    few = tmp_path_factory.mktemp("data")
    for name in ("alpaca/alpaca_46k.jsonl", "gsm8k/train.jsonl"):
        (few / name).parent.mkdir(exist_ok=True)
        with (DATA / name).open(encoding="utf-8") as file:
            (few / name).write_text("".join(islice(file, 150)), "utf-8")
    code = json.loads((DATA / "alpaca" / "code_alpaca_2k.json").read_text("utf-8"))
    (few / "alpaca" / "code_alpaca_2k.json").write_text(json.dumps(code[:60]), "utf-8")
    (few / "t0").mkdir()
    for task in TASKS:
        with gzip.open(DATA / "t0" / f"{task}.jsonl.gz", "rt", encoding="utf-8") as file:
            lines = "".join(islice(file, 60))
        (few / "t0" / f"{task}.jsonl.gz").write_bytes(gzip.compress(lines.encode()))
    return few


AS_A_SCRIPT = """
import runpy, sys
from pathlib import Path
del sys.argv[0]
sys.path.insert(0, str(Path(sys.argv[0]).parent))
runpy.run_path(sys.argv[0], run_name="__main__")
"""


def experiment(data: Path, output: Path) -> None:
    command = [sys.executable, "-P", "-c", AS_A_SCRIPT, str(SCRIPT), str(data), str(output), "--size", "small"]
    done = forking.run(command, timeout=900)
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-4000:]


def test_the_experiment_cut_down(data, tmp_path):
    experiment(data, tmp_path)
    results = tmp_path / "results"
    compared = json.loads((results / "compare.json").read_text("utf-8"))
    random, campus = compared["rows"]
    assert (random["arm"], campus["arm"], campus["seeds"]) == ("random", "campus", 2)
    assert set(campus["tried"]) == {"0.001", "0.01"} and campus["loss"]["difference"]
    for run in compared["runs"]:
        four = [run["sets"][name]["row_loss"] for name in ("alpaca", "code", "gsm8k", "t0")]
        assert run["loss"] == pytest.approx(sum(four) / 4)

    rows = pl.read_parquet(results / "rows.parquet")  # ids alone: no text of the data
    assert rows.columns == ["example_id", "source", "set"] and rows["example_id"].n_unique() == len(rows)
    assert set(rows["set"].str.split("-").list.first()) == {"pool", "judging", "tuning"}
    assert json.loads((results / "stages.json").read_text("utf-8")) == {"0": True, "1": True}

    before = {path.name: path.read_bytes() for path in results.iterdir()}
    trained = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("compared/**/metrics.jsonl")}
    assert len(trained) == 6  # two orders with two rates, and one of them with another seed
    shutil.rmtree(results)
    experiment(data, tmp_path)
    assert {path.name: path.read_bytes() for path in results.iterdir()} == before
    assert {path: path.stat().st_mtime_ns for path in trained} == trained


def test_no_pretraining_text_is_near_a_row():
    """A row with a few other words, and with a beginning or an end of another, is near; another question is not."""
    code = (
        "import sys; sys.path.insert(0, sys.argv[1])\n"
        "from texts import Near\n"
        "near = Near(['Name three primary colours. Red, yellow and blue are primary.', 'Add one and two. Three.'])\n"
        "print(near.holds('name three primary colours red yellow and blue'),\n"
        "      near.holds('Please add one and two. Three. ' + 'Then something else follows here. ' * 5),\n"
        "      near.holds('Name three rivers in France. The Seine, the Loire and the Rhone.'))\n"
    )
    done = subprocess.run([sys.executable, "-c", code, SCRIPT.parent], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["True", "True", "False"]
