"""SIGTERM and Ctrl-C at any instant of the other commands: one line, exit code 1, no process left, and gone on with.

CI takes an instant of one of them, a soak ten of each signal for all.
"""

import os
import shutil
import signal
import time
from hashlib import sha256
from pathlib import Path

import drawn
import pytest
import yaml
from clusters import until_true
from curricle.schemas.verify import verify
from running import catches, children_of_group, curricle, signed, start, write_jsonl
from safetensors.numpy import load_file
from table_maker import make_table, random_scores

ROWS = 40
MODEL = ("--proxy.model", "TINY", "--proxy.max-length", 128)
PLAN = {
    "scored": {"command": "score", "inputs": "in.jsonl", "metrics": ["length"], "proxy.model": "TINY"},
    "wider": {"command": "add", "table": "scored", "metrics": ["mattr"]},
    "sets": {"command": "select", "table": "wider", "split": ["train=0.75", "judging=0.25"]},
    "model": {
        "command": "train",
        "data": "sets/train",
        "model": "TINY",
        "curriculum": "random",
        "budget.steps": 4,
        "batch.size": 4,
        "max-length": 64,
    },
}
COMMANDS = {
    "add": ("add", "scored", "--metrics", "mtld,mattr", "--shard-rows", 5, "--output", "out"),
    "add over itself": ("add", "out", "--metrics", "mtld,mattr", "--shard-rows", 5),
    "cluster": ("cluster", "vectors", "--by", "embedding", "--k", 5, "--output", "out"),
    "lp": ("lp", "scored", *MODEL, "--epochs", 2, "--batch-size", 8, "--shard-rows", 10, "--output", "out"),
    "reward": (
        "reward",
        "scored",
        *MODEL,
        "--proxy.generation.max-new-tokens",
        4,
        "--shard-rows",
        10,
        "--output",
        "out",
    ),
    "run": ("run", "pipeline.yaml"),
}
SIGNALS = (signal.SIGINT, signal.SIGTERM)
NAMES = drawn.some("stopped commands", [*COMMANDS], 1)


@pytest.fixture(scope="module")
def directory(tmp_path_factory, tiny_model: Path) -> Path:
    path = tmp_path_factory.mktemp("commands")
    rows = [
        {"instruction": f"Say {n}.", "output": " ".join(f"w{n * k % 17}" for k in range(9 + n))} for n in range(ROWS)
    ]
    write_jsonl(path / "in.jsonl", rows)
    (path / "vectors").mkdir()
    make_table(path / "vectors", random_scores(ROWS, 0), rows=ROWS)
    (path / "TINY").symlink_to(tiny_model)
    curricle("score", "in.jsonl", "--output", "scored", "--metrics", "length", "--proxy.model", "TINY", cwd=path)
    (path / "pipeline.yaml").write_text(yaml.safe_dump({"output": "out", "steps": PLAN}, sort_keys=False))
    return path


def prepared(directory: Path, work: Path, name: str) -> Path:
    shutil.copytree(directory, work, symlinks=True, copy_function=shutil.copy2)
    if name == "add over itself":
        shutil.copytree(work / "scored", work / "out", copy_function=shutil.copy2)
    return work


def content(out: Path) -> dict[str, object]:
    """What a command leaves that an interruption must not change: tables, and the weights that were learned."""
    tables = {str(path.parent.relative_to(out)): path.parent for path in out.rglob("manifest.json")}
    assert all(verify(table).faults == [] for table in tables.values())
    manifests = {name: signed(table) for name, table in tables.items()}
    for manifest in manifests.values():  # what names another manifest, which has the seconds that it took
        manifest["extended_from"] = manifest["selected_from"] = None
    weights = sorted({*out.rglob("*.safetensors")})
    return {
        **manifests,
        **{str(path.relative_to(out)): tensors(path) for path in weights},
    }


def tensors(path: Path) -> dict[str, str]:
    """Digests of what a file holds: in which order it lies there is left to the writer's threads."""
    return {name: sha256(array.tobytes()).hexdigest() for name, array in load_file(path).items()}


@pytest.fixture(scope="module")
def whole(directory: Path, tmp_path_factory) -> dict[str, tuple[float, dict[str, object]]]:
    """How long each command takes in a process of its own, and what it leaves."""
    result = {}
    for name in NAMES:
        work, began = prepared(directory, tmp_path_factory.mktemp("whole") / "work", name), time.monotonic()
        process = start(*COMMANDS[name], cwd=work)
        output, _ = process.communicate()
        assert process.returncode == 0, output
        result[name] = time.monotonic() - began, content(work / "out")
    return result


@pytest.mark.parametrize("number", range(drawn.amount(1, 20)))
@pytest.mark.parametrize("name", NAMES)
def test_a_command_is_asked_to_stop(name: str, number: int, directory: Path, whole, tmp_path: Path):
    seconds, expected = whole[name]
    draw = drawn.draw(f"stopped: {name} {number}")
    sent, later, group = SIGNALS[number % 2], seconds * draw.random(), draw.random() < 0.5
    print(name, sent.name, later, "group" if group else "process")
    work = prepared(directory, tmp_path / "work", name)
    process = start(*COMMANDS[name], cwd=work)
    until_true(lambda: catches(process, signal.SIGTERM) or process.poll() is not None, "it has begun")
    time.sleep(later)
    if process.poll() is None:
        (os.killpg if group else os.kill)(process.pid, sent)
    output, _ = process.communicate(timeout=100)
    until_true(lambda: not children_of_group(process.pid), "no process is left")
    if process.returncode:
        assert process.returncode == 1, output
        *before, last = output.splitlines()
        assert last.startswith("curricle: asked to stop") and last.endswith("goes on from what is finished"), output
        assert not any(word in line for line in before for word in ("asked to stop", "Traceback", "Error")), output
    curricle(*COMMANDS[name], cwd=work)
    assert content(work / "out") == expected
