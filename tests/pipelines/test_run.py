"""Plans of steps: in order, done once, made again where something changed, and gone on with after a kill."""

import json
import os
import shutil
import signal
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pyarrow.compute as pc
import pytest
import yaml
from clusters import until_true
from curricle import pipelines
from curricle.pipelines.steps.plan import read_pipeline
from curricle.schemas.common.dry_run import NOTHING_WRITTEN
from curricle.schemas.common.errors import UsageError
from running import curricle, read_data, signed, start, write_jsonl

ROWS = [{"instruction": f"Say {n}.", "output": " ".join(f"w{n * k % 17}" for k in range(60 + n))} for n in range(40)]
STEPS: dict[str, dict[str, Any]] = {
    "sets": {"command": "select", "table": "hard-rows", "split": ["train=0.75", "judging=0.25"]},
    "hard-rows": {"command": "select", "table": "wider", "take": "hard", "by": "response_words", "count": 20},
    "wider": {"command": "add", "table": "scored", "metrics": ["mattr"]},
    "scored": {"command": "score", "inputs": ["in.jsonl"], "metrics": ["length", "msttr"]},
}
"""As nobody would write them: from the last to the first."""


def write_plan(directory: Path, steps: Mapping[str, Any] = STEPS, **changed: Mapping[str, Any]) -> Path:
    steps = {name: {**step, **changed.get(name.replace("-", "_"), {})} for name, step in steps.items()}
    path = directory / "pipeline.yaml"
    path.write_text(yaml.safe_dump({"output": "out", "steps": steps}, sort_keys=False))
    return path


@pytest.fixture
def here(tmp_path, monkeypatch) -> Path:
    write_jsonl(tmp_path / "in.jsonl", ROWS)
    write_plan(tmp_path)
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture(scope="module")
def whole(tmp_path_factory) -> Path:
    """What the plan makes, uninterrupted."""
    directory = tmp_path_factory.mktemp("whole")
    write_jsonl(directory / "in.jsonl", ROWS)
    curricle("run", write_plan(directory), cwd=directory)
    return directory


@pytest.fixture
def done(whole, tmp_path, monkeypatch) -> Path:
    """A copy of it, to be changed."""
    shutil.copytree(whole, tmp_path / "done", copy_function=shutil.copy2)
    monkeypatch.chdir(tmp_path / "done")
    return tmp_path / "done"


TABLES = ("scored", "wider", "hard-rows", "sets/train", "sets/judging")


def state(directory: Path) -> dict[str, int]:
    """When each file was written, but for those that only say who is at work."""
    files = (
        path for path in (directory / "out").rglob("*") if path.is_file() and path.name not in ("lock", "holder.json")
    )
    return {str(path.relative_to(directory / "out")): path.stat().st_mtime_ns for path in files}


def written(directory: Path, before: Mapping[str, int]) -> set[str]:
    """The steps in whose directories anything was written since."""
    after = state(directory)
    changed = {name for name in {*before, *after} if before.get(name) != after.get(name)}
    return {name.partition("/")[0] for name in changed} - {"_progress"}


def assert_same(one: Path, other: Path) -> None:
    for name in TABLES:
        assert read_data(one / "out" / name).equals(read_data(other / "out" / name)), name
        mine, theirs = signed(one / "out" / name), signed(other / "out" / name)
        for key in ("selected_from", "extended_from"):  # digests of manifests, which say how long it took
            mine.pop(key), theirs.pop(key)
        assert mine == theirs


def test_steps_are_made_in_the_order_of_their_names(whole, monkeypatch):
    monkeypatch.chdir(whole)
    assert [step.name for step in read_pipeline(str(whole / "pipeline.yaml")).steps] == [
        "scored",
        "wider",
        "hard-rows",
        "sets",
    ]
    for name in TABLES:
        assert "whole" in curricle("verify", whole / "out" / name)
    assert len(read_data(whole / "out" / "hard-rows")) == 20
    assert "response_mattr" in read_data(whole / "out" / "sets" / "train").column_names
    curricle("select", "--check", whole / "out" / "sets", cwd=whole)


def test_what_is_done_is_left_as_it_is(done):
    before = state(done)
    printed = curricle("run", "pipeline.yaml")
    assert "0 of 4 steps were made" in printed
    assert state(done) == before
    os.utime("in.jsonl", (1, 1))  # another time, and the same bytes
    write_plan(done, scored={"shard_rows": 7, "workers": 2, "inputs": "in.jsonl"}, wider={"workers": 3})
    assert "0 of 4 steps were made" in curricle("run", "pipeline.yaml")
    assert state(done) == before


def test_a_changed_step_is_made_again_and_what_follows_it(done, tmp_path):
    before = state(done)
    write_plan(done, hard_rows={"count": 25})
    forecast = curricle("run", "pipeline.yaml", "--dry-run").splitlines()
    assert forecast == [
        "scored: would not run: it is done",
        "wider: would not run: it is done",
        "hard-rows: would run: it is made again: count: 20 there, 25 now; out/hard-rows is replaced",
        "  `select` asks no model: it takes reading the table, and writing another",
        "sets: would run: it follows hard-rows: if that makes something else, out/sets is replaced",
        "  what it takes can be told when hard-rows is made",
        NOTHING_WRITTEN,
    ]
    assert state(done) == before, "a dry run writes nothing"
    printed = curricle("run", "pipeline.yaml")
    assert printed.index("out/hard-rows is replaced") < printed.index("step hard-rows")
    assert "2 of 4 steps were made" in printed and written(done, before) == {"hard-rows", "sets"}
    assert not list((done / "out" / "_progress" / "replaced").iterdir())
    fresh = tmp_path / "fresh"
    fresh.mkdir()
    shutil.copy(done / "in.jsonl", fresh)
    curricle("run", write_plan(fresh, hard_rows={"count": 25}), cwd=fresh)
    assert_same(done, fresh)
    assert "0 of 4 steps were made" in curricle("run", "pipeline.yaml")


def test_what_a_plan_takes_is_said_as_far_as_it_can_be_told(here, trained, capfd):
    """By the dry runs of the commands, where what a step reads is there."""
    lines = curricle("run", "pipeline.yaml", "--dry-run").splitlines()
    scored, wider = (lines.index(f"{name}: would run: it is to be made") for name in ("scored", "wider"))
    assert any(line.startswith("  input: 1 file, 40 records, ") for line in lines[scored:wider])
    (time,) = (line for line in lines if line.startswith("  time: "))
    assert "length, msttr, measured here by a sample of 40 rows" in time and time in lines[scored:wider]
    assert lines[wider + 1] == "  what it takes can be told when scored is made" and lines[-1] == NOTHING_WRITTEN
    assert lines.count(NOTHING_WRITTEN) == 1 and not Path("out").exists()
    shutil.copytree(trained, "trained", symlinks=True, copy_function=shutil.copy2)
    write_plan(Path("trained"), {**TRAINING, "model": {**TRAINING["model"], "optimizer.lr": 2e-3}})
    before = state(Path("trained"))
    capfd.readouterr()
    assert "\n  `curricle-train run` says:\n" in curricle("run", "pipeline.yaml", "--dry-run", cwd=Path("trained"))
    assert "optimizer steps: 3 of 4 rows" in capfd.readouterr().out and state(Path("trained")) == before


def test_a_changed_input_is_known_by_its_content(done):
    write_jsonl(done / "in.jsonl", [*ROWS[:-1], {"instruction": "Say so.", "output": "so " * 200}])
    forecast = curricle("run", "pipeline.yaml", "--dry-run")
    assert "scored: would run: it is made again: in.jsonl was changed" in forecast
    printed = curricle("run", "pipeline.yaml")
    assert "4 of 4 steps were made" in printed and "scores of 39 rows were copied, of 40 in all" in printed
    write_jsonl(done / "more.jsonl", ROWS[:1])
    write_plan(done, scored={"inputs": ["in.jsonl", "more.jsonl"]})
    assert "more.jsonl is new; out/scored is replaced" in curricle("run", "pipeline.yaml", "--dry-run")
    write_plan(done, scored={"inputs": ["more.jsonl"], "append": True})
    assert "out/scored grows" in curricle("run", "pipeline.yaml", "--dry-run")
    assert "4 of 4 steps were made" in curricle("run", "pipeline.yaml")
    assert len(read_data(done / "out" / "scored")) == 41  # those of the file that is not named any more as well


def test_other_sets_and_another_command_take_the_directory_of_a_step(done):
    """Sets that the plan does not name any more are not left beside those that it does."""
    write_plan(done, sets={"split": ["train=0.5", "rest=0.5"]})
    assert "1 of 4 steps were made" in curricle("run", "pipeline.yaml")
    assert sorted(path.name for path in (done / "out" / "sets").iterdir()) == ["rest", "train"]
    write_plan(done, {**STEPS, "sets": {"command": "select", "table": "hard-rows", "distinct": True}})
    curricle("run", "pipeline.yaml")
    assert "whole" in curricle("verify", "out/sets") and not (done / "out" / "sets" / "rest").exists()


def test_what_the_plan_did_not_make_stays(done):
    (done / "out" / "hard-rows" / "manifest.json").write_text("{}")
    message = curricle("run", "pipeline.yaml", code=2)
    assert "step 'hard-rows'" in message and "not as this plan made it" in message
    shutil.rmtree(done / "out" / "hard-rows")
    printed = curricle("run", "pipeline.yaml")
    assert "hard-rows: was removed, and is made again" in printed
    curricle("add", "out/wider", "--metrics", "hdd")  # over itself, by hand
    before = state(done)
    write_plan(done, wider={"metrics": ["hdd"]})
    assert "step 'wider'" in curricle("run", "pipeline.yaml", code=2)
    assert not written(done, before)


def test_a_directory_of_somebody_else_is_not_taken(here):
    (here / "out" / "wider").mkdir(parents=True)
    (here / "out" / "wider" / "thesis.txt").write_text("mine")
    for _ in range(2):
        message = curricle("run", "pipeline.yaml", code=2)
        assert "step 'wider'" in message and "holds other files" in message
        write_plan(here, wider={"metrics": ["hdd"]})  # a change gives no right to it either
    assert (here / "out" / "wider" / "thesis.txt").read_text() == "mine"
    curricle("score", "in.jsonl", "--output", "table", "--metrics", "length")
    assert "is a table" in curricle("run", "pipeline.yaml", "--output", "table", code=2)


def test_a_table_that_was_made_by_hand_is_gone_on_with_where_it_is_the_same(here):
    curricle("score", "in.jsonl", "--output", "out/scored", "--metrics", "length,msttr")
    before = state(here)
    assert "already scored, nothing to do" in curricle("run", "pipeline.yaml")
    assert written(here, before) == {"wider", "hard-rows", "sets"}
    shutil.rmtree(here / "out")
    curricle("score", "in.jsonl", "--output", "out/scored", "--metrics", "length")
    message = curricle("run", "pipeline.yaml", code=2)
    assert "another job's scores" in message and "move it elsewhere" in message


INSTANTS: dict[str, Callable[[Path], bool]] = {
    "score": lambda out: any((out / "scored" / "_progress" / "receipts").glob("*")),
    "scored": lambda out: (out / "scored" / "manifest.json").exists(),
    "add": lambda out: (out / "_progress" / "steps" / "wider.json").exists(),
    "select": lambda out: (out / "hard-rows" / "_progress").exists(),
    "sets": lambda out: (out / "sets" / "train" / "manifest.json").exists(),
}


@pytest.mark.parametrize("instant", INSTANTS)
def test_killed_it_goes_on(here, whole, instant):
    process = start("run", "pipeline.yaml", cwd=here)
    until_true(lambda: INSTANTS[instant](here / "out") or process.poll() is not None, instant)
    os.killpg(process.pid, signal.SIGKILL)
    process.communicate()
    curricle("run", "pipeline.yaml")
    assert_same(here, whole)
    assert "0 of 4 steps were made" in curricle("run", "pipeline.yaml")


def test_killed_and_changed_it_is_that_of_the_changed_plan(done, tmp_path):
    """A step that was begun, and is to be another one now, is begun anew; the old one is not taken for it."""
    write_plan(done, hard_rows={"count": 25})
    process = start("run", "pipeline.yaml", cwd=done)
    until_true(
        lambda: "25" in (done / "out/_progress/steps/hard-rows.json").read_text() or process.poll(), "it is begun"
    )
    os.killpg(process.pid, signal.SIGKILL)
    process.communicate()
    write_plan(done, hard_rows={"count": 15})
    curricle("run", "pipeline.yaml")
    assert len(read_data(done / "out" / "hard-rows")) == 15
    assert len(read_data(done / "out/sets/train")) + len(read_data(done / "out/sets/judging")) == 15


SPELLED: tuple[tuple[str, Mapping[str, Any]], ...] = (
    ("cluster", {"table": "scored", "k": 2, "leave-out": ["hard"]}),
    ("lp", {"table": "scored", "leave-out": ["hard"], "proxy": {"max-length": 64}, "proxy.batch-tokens": 512}),
    ("lp", {"table": "scored", "leave-out": ["hard"], "proxy.batch-tokens": 512, "proxy": {"max-length": 64}}),
    ("train", {"data": "scored", "model": "smollm2-135m", "leave-out": ["hard"], "max-length": 64}),
)


@pytest.mark.parametrize(("command", "options"), SPELLED)
def test_options_with_dashes_name_steps_too(command, options, here):
    """As flags have them, a step that is named so is a step, and what is no option of a step is refused."""
    steps = {"scored": STEPS["scored"], "hard": {"command": "select", "table": "scored", "take": "hard", "count": 5}}
    steps["hard"]["by"] = "response_words"
    plan = read_pipeline({"output": "out", "steps": {"last": {"command": command, **options}, **steps}})
    assert [step.name for step in plan.steps] == ["scored", "hard", "last"]
    assert plan.steps[-1].after == ("scored", "hard")
    assert plan.steps[-1].paths == plan.steps[-1].paths | {"hard": "out/hard", "scored": "out/scored"}
    for name in ("log-format", "dry-run"):
        with pytest.raises(UsageError, match=f"'{name}' is no option of a step"):
            read_pipeline({"output": "out", "steps": {"last": {"command": command, name: "json"}, **steps}})


def test_a_search_for_benchmarks_is_a_step_and_rests_on_their_files(here):
    texts = [" ".join(f"{letter}{n}" for n in range(20)) for letter in "xy"]
    write_jsonl(here / "in.jsonl", [*ROWS, *({"instruction": "Say it.", "output": text} for text in texts)])
    write_jsonl(here / "bench.jsonl", [{"question": texts[0]}])
    steps = {
        "scored": {"command": "score", "inputs": ["in.jsonl"], "metrics": ["length"]},
        "searched": {"command": "contamination", "table": "scored", "against": "bench.jsonl"},
        "clean": {"command": "select", "table": "searched", "where": "not contaminated"},
    }
    plan = write_plan(here, steps)
    curricle("run", plan)
    (searched,) = read_data(here / "out" / "searched").filter(pc.field("contaminated"))["source_position"].to_pylist()
    assert searched == len(ROWS) and len(read_data(here / "out" / "clean")) == len(ROWS) + 1
    assert "0 of 3 steps were made" in curricle("run", plan)
    write_jsonl(here / "bench.jsonl", [{"question": texts[1]}])
    assert "bench.jsonl was changed" in curricle("run", plan)
    assert read_data(here / "out" / "clean")["source_position"].to_pylist() == [*range(len(ROWS) + 1)]
    steps["searched"]["against"] = "nowhere.jsonl"
    assert "step 'searched'" in curricle("run", write_plan(here, steps), code=2)


WRONG: dict[str, tuple[Any, str]] = {
    "no output": ({"steps": STEPS}, "no output is named"),
    "no steps": ({"output": "out"}, "there are no steps"),
    "another key": ({"output": "out", "stages": STEPS}, "did you mean 'steps'"),
    "no command": ({"output": "out", "steps": {"a": {"inputs": "in.jsonl"}}}, "step 'a': has no `command`"),
    "a command": ({"output": "out", "steps": {"a": {"command": "scoer"}}}, "did you mean 'score'"),
    "run": ({"output": "out", "steps": {"a": {"command": "run"}}}, "give `command: train`"),
    "a name": ({"output": "out", "steps": {"../a": {"command": "score"}}}, "'../a' is no name of a step"),
    "names": ({"output": "out", "steps": {"a": {}, "A": {}}}, "one name but for capitals"),
    "no map": ({"output": "out", "steps": {"a": "score"}}, "step 'a': is no step"),
}


def test_a_plan_that_is_not_there(here):
    message = curricle("run", "pipelin.yaml", code=2)
    assert "pipelin.yaml: there is no such file" in message and "name a YAML file" in message


@pytest.mark.parametrize("name", WRONG)
def test_wrong_plans(here, name):
    plan, message = WRONG[name]
    Path("wrong.yaml").write_text(yaml.safe_dump(plan))
    printed = curricle("run", "wrong.yaml", code=2)
    assert message in printed and "wrong.yaml" in printed and not Path("out").exists()


MODEL = {"command": "train", "data": "sets/train", "model": "TINY"}


@pytest.mark.parametrize(
    ("changed", "messages"),
    [
        ({"wider": {"metrcs": ["mattr"]}}, ["step 'wider'", "unknown option 'metrcs'", "did you mean 'metrics'"]),
        ({"wider": {"table": "scord"}}, ["step 'wider'", "table is scord", "did you mean 'scored'"]),
        ({"wider": {"table": "out/scored"}}, ["step 'wider'", "which a step makes", "write scored"]),
        ({"wider": {"output": "x"}}, ["step 'wider'", "'output' is no option of a step"]),
        ({"scored": {"inputs": ["none.jsonl"]}}, ["step 'scored'", "none.jsonl: there is no such file"]),
        ({"scored": {"shard-rows": 0}}, ["step 'scored'", "--shard-rows is 0"]),
        ({"wider": {"table": "sets/train"}}, ["steps wait for each other", "wider", "hard-rows", "sets"]),
        ({"hard_rows": {"count": None}}, ["step 'hard-rows'", "--take hard needs a number of rows"]),
        ({"hard_rows": {"join": ["judged.csv"]}}, ["step 'hard-rows'", "join is judged.csv", "nothing at this path"]),
        ({"model": {"budget.sample": 3}}, ["step 'model'", "unknown option 'budget.sample'", "'samples'"]),
        ({"model": {"curriculum": "compus"}}, ["step 'model'", "did you mean 'campus'"]),
        ({"model": {"curriculum": "sorted", "curriculum.bye": "loss"}}, ["step 'model'", "curriculum.bye"]),
        ({"model": {"seed": "first"}}, ["step 'model'", "--seed is 'first'"]),
        ({"model": {"model": None}}, ["step 'model'", "--model"]),
    ],
    ids=lambda value: str(value)[:40],
)
def test_wrong_options_are_refused_before_anything_is_made(here, changed, messages):
    write_plan(here, {**STEPS, "model": MODEL}, **changed)
    printed = curricle("run", "pipeline.yaml", code=2)
    assert all(message in printed for message in ["pipeline.yaml", *messages]), printed
    assert not Path("out").exists()


def test_values_of_the_environment_are_written_nowhere(here, monkeypatch):
    shutil.copy("in.jsonl", "secret-name.jsonl")
    monkeypatch.setenv("DATA", "secret-name")
    monkeypatch.setenv("ENCODER", "minilm")
    write_plan(here, scored={"inputs": ["${DATA}.jsonl"]}, wider={"embedding.model": "${ENCODER}"})
    curricle("run", "pipeline.yaml")
    records = [path.read_text() for path in (here / "out" / "_progress" / "steps").iterdir()]
    assert records and not any("secret-name" in text or "minilm" in text for text in records)
    assert "0 of 4 steps were made" in curricle("run", "pipeline.yaml")
    monkeypatch.setenv("ENCODER", "proxy")
    assert "wider: would run: it is made again" in curricle("run", "pipeline.yaml", "--dry-run")


def test_too_many_rejects_end_a_plan(here):
    with Path("in.jsonl").open("a") as file:
        file.write("no JSON\n" * 20)
    for _ in range(2):
        message = curricle("run", "pipeline.yaml", code=1)
        assert "step 'scored'" in message and "20 of 60 records were rejected" in message
        assert not Path("out/wider").exists()
    write_plan(here, scored={"max_reject_fraction": 0.5})
    assert "3 of 4 steps were made" in curricle("run", "pipeline.yaml")


def test_a_damaged_record_is_named(done):
    path = done / "out" / "_progress" / "steps" / "wider.json"
    path.write_text(path.read_text().replace("mattr", "matrr", 1))
    assert "the record of a step is damaged" in curricle("run", "pipeline.yaml", code=2)


def test_as_a_function(here):
    plan = {"output": "out", "steps": {name: STEPS[name] for name in ("scored", "wider")}}
    would = pipelines.run(plan, dry_run=True)
    assert [(step.name, step.ran) for step in would] == [("scored", True), ("wider", True)]
    assert not Path("out").exists()
    assert all(step.ran for step in pipelines.run(plan))
    assert not any(step.ran for step in pipelines.run(plan))
    assert all(step.ran for step in pipelines.run("pipeline.yaml", output="elsewhere"))
    with pytest.raises(UsageError, match="the plan, step 'wider'"):
        pipelines.run({"output": "out", "steps": {"wider": {"command": "add", "table": "nowhere", "metrics": ["hdd"]}}})


@pytest.fixture(scope="module")
def trained(tmp_path_factory, tiny_model) -> Path:
    directory = tmp_path_factory.mktemp("trained")
    write_jsonl(directory / "in.jsonl", ROWS)
    (directory / "TINY").symlink_to(tiny_model)
    curricle("run", write_plan(directory, TRAINING), cwd=directory)
    return directory


TRAINING = {
    "scored": {"command": "score", "inputs": "in.jsonl", "metrics": ["length"]},
    "sets": {"command": "select", "table": "scored", "split": ["train=0.75", "judging=0.25"]},
    "model": {
        **MODEL,
        "eval": {"data": "sets/judging"},
        "curriculum": "sorted",
        "curriculum.by": "response_words",
        "budget.steps": 3,
        "batch.size": 4,
        "max-length": 64,
        "batch.tokens": 512,
        "optimizer.lr": 1e-3,
        "checkpoint.every": 1,
        "checkpoint.keep": 9,
    },
}


def weights(directory: Path) -> dict[str, bytes]:
    saved = sorted((directory / "out" / "model" / "checkpoints").glob("step-*/model.safetensors"))
    return {path.parent.name: path.read_bytes() for path in saved}


def test_a_step_trains(trained, tmp_path):
    """From rows to a checkpoint and its report; changed, it is trained again, and what cannot be leaves the old one."""
    assert len(weights(trained)) == 3 and (trained / "out" / "model" / "report.html").exists()
    here = tmp_path / "here"
    shutil.copytree(trained, here, symlinks=True, copy_function=shutil.copy2)
    before = state(here)
    write_plan(here, TRAINING, model={"log.every": 1, "checkpoint.keep": 5, "device.nproc": 1})
    assert "0 of 3 steps were made" in curricle("run", "pipeline.yaml", cwd=here)
    write_plan(here, TRAINING, model={"curriculum.by": "response_wrds"})
    message = curricle("run", "pipeline.yaml", cwd=here, code=2)
    assert "step 'model'" in message and "exit code 2" in message
    assert {name: time for name, time in state(here).items() if not name.startswith("_progress")} == {
        name: time for name, time in before.items() if not name.startswith("_progress")
    }
    write_plan(here, TRAINING, model={"seed": 1, "curriculum": "random", "curriculum_options": {}})
    write_plan(here, {**TRAINING, "model": {**TRAINING["model"], "optimizer.lr": 2e-3}})
    printed = curricle("run", "pipeline.yaml", cwd=here)
    assert "model: is made again: optimizer.lr: 0.001 there, 0.002 now; out/model is replaced" in printed
    assert written(here, before) == {"model"} and len(weights(here)) == 3
    assert weights(here) != weights(trained)
    assert not list((here / "out" / "_progress" / "replaced").iterdir())


def test_a_killed_training_goes_on(trained, tmp_path):
    """To the weights of the one that was not killed, to the last bit."""
    write_jsonl(tmp_path / "in.jsonl", ROWS)
    (tmp_path / "TINY").symlink_to((trained / "TINY").resolve())
    write_plan(tmp_path, TRAINING)
    process = start("run", "pipeline.yaml", cwd=tmp_path)
    first = tmp_path / "out" / "model" / "checkpoints" / "step-00000001"
    until_true(lambda: first.exists() or process.poll() is not None, "a checkpoint is there")
    os.killpg(process.pid, signal.SIGKILL)
    process.communicate()
    assert not json.loads((tmp_path / "out/_progress/steps/model.json").read_text())["product"]
    printed = curricle("run", "pipeline.yaml", cwd=tmp_path)
    assert "model: was begun, and goes on" in printed and "1 of 3 steps were made" in printed
    assert weights(tmp_path) == weights(trained)
