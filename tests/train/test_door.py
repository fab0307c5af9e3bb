"""The door for Python: tables, orders, and a function beside each command."""

import inspect
import json
import os
import pydoc
import subprocess
import sys
from dataclasses import fields
from pathlib import Path
from typing import get_type_hints

import numpy as np
import pyarrow.parquet as pq
import pytest
from curricle import train
from curricle.schemas.common.errors import UsageError
from curricle.train import cli, commands, settings
from curricle.train.records.checkpoints import read_cursor
from curricle.train.settings import BatchSettings
from curricle.train.settings import export as export_settings
from pages import block

STATIC = {
    "random": {},
    "sorted": {"by": "loss", "direction": "hard_to_easy"},
    "competence": {"by": "loss", "c0": 0.1},
    "paced": {"by": "response_mtld:low", "function": "root"},
    "cyclical": {"by": "loss"},
    "interleaved": {"category": "kind"},
    "blocked": {"category": "kind"},
    "mixture": {"category": "kind", "weights": "a=2,*=1"},
}


def flags(options, prefix=""):
    return [part for key, value in options.items() for part in (f"--{prefix}{key.replace('_', '-')}", str(value))]


@pytest.mark.parametrize("curriculum", STATIC)
@pytest.mark.parametrize("more", [{}, {"seed": 7, "batch_size": 5, "budget": {"samples": 150}}], ids=["plain", "more"])
def test_an_order_is_the_one_that_the_command_plans(table_file, tmp_path, curriculum, more):
    options = STATIC[curriculum]
    order = train.order(train.open_table(table_file), curriculum, **more, **options)
    arguments = {"seed": 7, "batch.size": 5, "budget.samples": 150} if more else {}
    source = ["--data", str(table_file), "--output", str(tmp_path / "plan"), "--curriculum", curriculum]
    assert cli.main(["plan", *source, *flags(arguments), *flags(options, "curriculum.")]) == 0
    written = pq.read_table(tmp_path / "plan" / "plan.parquet")
    assert order.rows.dtype == order.steps.dtype == order.stages.dtype == np.int64
    for name, values in (("row", order.rows), ("step", order.steps), ("stage", order.stages)):
        assert written[name].to_pylist() == values.tolist()
    assert len(order) == (150 if more else 64)
    assert np.array_equal(np.concatenate(order.batches), order.rows) and len(order.batches) == order.steps[-1] + 1
    other = train.order(train.open_table(table_file), curriculum, **{**more, "seed": 8}, **options)
    assert (other.digest == order.digest) == np.array_equal(other.rows, order.rows)


def test_a_run_by_function_is_the_run_of_the_command(command, train_in_fork, tmp_path):
    arguments = command("--budget.steps", "4", "--curriculum", "competence", "--eval.rows", "6", output="by-command")
    assert train_in_fork(arguments).code == 0
    options = dict(zip(arguments[1::2], arguments[2::2], strict=True))

    def call():
        saved = train.run(
            Path(options["--data"]),
            options["--model"],
            tmp_path / "by-function",
            curriculum="competence",
            max_length=128,
            budget={"steps": 4},
            batch=BatchSettings(size=8, tokens=256),
            optimizer={"lr": "1e-3"},
            eval={"rows": 6},
            checkpoint={"every": 3},
            log={"every": 1},
        )
        print(saved)
        return 0

    done = train_in_fork([], call_instead(call))
    assert done.code == 0, done.text
    one, other = (tmp_path / name / "checkpoints" / "step-00000004" for name in ("by-command", "by-function"))
    assert done.text.rstrip().endswith(str(other))
    assert (one / "model.safetensors").read_bytes() == (other / "model.safetensors").read_bytes()
    identities = [json.loads((path.parents[1] / "run.json").read_text())["identity"] for path in (one, other)]
    assert identities[0] == identities[1]

    table, held = train.hold_out(train.open_table(options["--data"]), 6)
    assert (len(table), len(held)) == (58, 6)
    order = train.order(table, "competence", batch_size=8, budget={"steps": 4})
    assert read_cursor(one).order == order.digest
    journal = train.order(table, journal=tmp_path / "by-command" / "journal.jsonl")
    assert (journal.digest, journal.rows.tolist()) == (order.digest, order.rows.tolist())

    assert all(not finding.faults for finding in train.verify(tmp_path / "by-function"))
    assert train.report(str(tmp_path / "by-function")) == tmp_path / "by-function" / "report.html"
    plan = train.plan(
        options["--data"], tmp_path / "plan", curriculum="competence", batch={"size": 8}, eval={"rows": 6}
    )
    assert (plan.samples, pq.read_table(plan.parquet)["row"].to_pylist()[:32]) == (
        58,
        table.origin[order.rows].tolist(),
    )


def test_the_call_in_the_guide_trains_as_it_stands(train_in_fork, tiny_model, table_file, tmp_path, monkeypatch):
    _, lines = block("docs/python.md", "train-run")
    monkeypatch.chdir(tmp_path)
    (tmp_path / "scored").symlink_to(table_file.parent)
    (tmp_path / "smollm2-135m").symlink_to(tiny_model)  # what lies here under a name comes first
    done = train_in_fork([], call_instead(lambda: exec(lines, {}) or 0))
    assert done.code == 0, done.text
    assert done.text.rstrip().endswith("run/checkpoints/step-00000008 done run/report.html")


def call_instead(call):
    """Make ``train_in_fork`` call a function: what it patches runs in the forked process."""

    def patch():
        code = call()
        sys.stdout.flush()
        os._exit(code)

    return patch


def test_what_campus_chose_is_in_the_order_of_its_journal(command, train_in_fork, tmp_path, table_file):
    assert train_in_fork(command("--budget.steps", "4")).code == 0
    order = train.order(train.open_table(table_file), journal=str(tmp_path / "run" / "journal.jsonl"))
    perspectives = {"prompt_words", "response_mtld", "loss"}
    assert len(order.choices) == order.stages[-1] + 1 and set(order.choices) <= perspectives
    assert order.digest == read_cursor(tmp_path / "run" / "checkpoints" / "step-00000004").order


def test_refusals_are_those_of_the_command(table_file, tmp_path, tiny_model):
    table = train.open_table(table_file)
    calls = {
        "'campus' asks the student": lambda: train.order(table, "campus"),
        "did you mean 'competence'": lambda: train.order(table, "competance"),
        "there is no column 'lost'": lambda: train.order(table, "sorted", by="lost"),
        "unknown option 'curriculum.bye'": lambda: train.order(table, "sorted", bye="loss"),
        "seed is -1": lambda: train.order(table, seed=-1),
        "--budget.samples is 0": lambda: train.order(table, budget={"samples": 0}),
        "unknown option 'budget.sample'": lambda: train.order(table, budget={"sample": 1}),
        "a global batch of 0 rows": lambda: train.order(table, batch_size=0),
        "a journal decides the order": lambda: train.order(table, "sorted", journal="journal.jsonl"),
        "the journal is absent or empty": lambda: train.order(table, journal=tmp_path / "journal.jsonl"),
        "there is no such file or directory": lambda: train.open_table(tmp_path / "absent"),
        "did you mean 'batch'": lambda: train.run(table_file, "x", tmp_path / "run", bach={}),
        "--batch.size is 0": lambda: train.run(table_file, "x", tmp_path / "run", batch={"size": 0}),
        "there is no config.json": lambda: train.run(table_file, str(tmp_path), tmp_path / "run"),
        "start your program with torchrun": lambda: train.run(table_file, "x", tmp_path / "r", device={"nproc": 2}),
        "nothing is held out": lambda: train.compare(table_file, str(tiny_model), tmp_path / "run"),
        "there is no column 'generated'": lambda: train.reward(table_file, str(tiny_model), tmp_path / "run"),
        "there is no run here": lambda: train.verify(tmp_path),
    }
    before = {*tmp_path.iterdir()}
    for words, call in calls.items():
        with pytest.raises(UsageError) as refused:
            call()
        assert words in str(refused.value), str(refused.value)
    assert {*tmp_path.iterdir()} == before


@pytest.mark.parametrize("name", ["run", "compare", "plan", "reward", "export", "evaluate"])
def test_the_keywords_of_a_function_are_the_options_of_its_command(name):
    function = getattr(train, name)
    accepted = {*inspect.signature(function).parameters} - {"options"}
    accepted |= {*get_type_hints(getattr(commands, f"{name.title()}Options"))}
    module = export_settings if name == "export" else settings
    assert accepted == {item.name for item in fields(getattr(module, f"{name.title()}Settings"))}


def test_every_command_has_a_documented_function():
    assert {name.replace("-", "_") for name in cli.COMMANDS} <= {*train.__all__}
    for name in train.__all__:
        assert inspect.getdoc(getattr(train, name)), name
    with pytest.raises(AttributeError, match="no attribute 'orders'"):
        train.orders  # noqa: B018


def test_nothing_is_imported_before_it_is_needed(table_file):
    code = (
        "import sys\nfrom curricle import train\n"
        "print(*sorted({'numpy', 'pyarrow', 'argparse', 'torch', 'matplotlib'} & {*sys.modules}))\n"
        f"train.order(train.open_table({str(table_file)!r}), curriculum='competence', by='loss')\n"
        "print(*sorted({'numpy', 'pyarrow', 'torch', 'transformers', 'matplotlib'} & {*sys.modules}))\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines() == ["", "numpy pyarrow"]


def test_a_path_instead_of_a_table_is_refused_in_words(table_file):
    for wrong in (lambda: train.order(str(table_file)), lambda: train.hold_out(str(table_file), 5)):
        with pytest.raises(TypeError, match=r"no open table: train.open_table"):
            wrong()
    assert "64 rows" in repr(train.open_table(table_file))


def test_help_and_completion_see_the_public_names():
    assert {*train.__all__} <= {*dir(train)}
    page = pydoc.render_doc(train, renderer=pydoc.plaintext)
    assert "open_table(data" in page and "run(data" in page
