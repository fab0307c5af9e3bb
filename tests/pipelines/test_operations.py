"""Every command, killed before each of its file operations: the same command ends whole, and an old table survives.

Some of the operations are drawn, see ``drawn``; a soak takes every one.
"""

import shutil
import signal
from pathlib import Path

import drawn
import operations
import pytest
from curricle.schemas.verify import verify
from running import curricle, signed, write_jsonl
from table_maker import make_table, random_scores

ROWS = 60


@pytest.fixture(scope="module")
def directory(tmp_path_factory) -> Path:
    """Inputs, and finished tables to make others from."""
    path = tmp_path_factory.mktemp("tables")
    rows = [{"prompt": f"Say {n}.", "completion": f"It is {n}, and no other." * (1 + n % 5)} for n in range(ROWS)]
    write_jsonl(path / "in.jsonl", [*rows, {"no": "format"}])
    write_jsonl(path / "more.jsonl", [{"prompt": f"And {n}?", "completion": "No. " * n} for n in range(1, 30)])
    for name, seed in (("table", 0), ("other", 1)):
        (path / name).mkdir()
        make_table(path / name, random_scores(ROWS, seed), rows=ROWS, rejects=[("not JSON", "no")])
    half = ("select", "table", "--take", "random", "--fraction", "0.5", "--output")
    curricle(*half, "half", cwd=path)
    curricle(*half, "rest", "--complement", cwd=path)
    return path


SCORE = ["score", "in.jsonl", "--metrics", "mtld", "--shard-rows", "20", "--output", "out"]
BY = ["select", "table", "--take", "low", "--by", "loss", "--output", "out"]
CLUSTER = ["cluster", "table", "--output", "out", "--by", "embedding", "--k"]
ADD = ["add", "--metrics", "mattr", "--shard-rows", "20"]
COMMANDS: dict[str, tuple[list[str] | None, list[str]]] = {  # what lies there before, and what is killed
    "score": (None, SCORE),
    "score over scores": (SCORE, [*SCORE, "--max-record-bytes", "9000", "--overwrite"]),
    "score a file and a metric more": (
        SCORE,
        ["score", "in.jsonl", "more.jsonl", "--metrics", "+mattr", "--append", *SCORE[4:]],
    ),
    "score over a cluster table": ([*CLUSTER, "3"], [*SCORE, "--overwrite"]),
    "select": (None, [*BY, "--count", "5"]),
    "select over a selection": ([*BY, "--count", "5"], [*BY, "--count", "7", "--overwrite"]),
    "select over scores": (SCORE, [*BY, "--count", "7", "--overwrite"]),
    "cluster": (None, [*CLUSTER, "3"]),
    "add": (None, [*ADD, "table", "--output", "out"]),
    "add over itself": (SCORE, [*ADD, "out"]),
    "add over itself to clusters": ([*CLUSTER, "3"], [*ADD, "out"]),
    "cluster over clusters": ([*CLUSTER, "3"], [*CLUSTER, "4", "--overwrite"]),
    "concat": (None, ["concat", "half", "rest", "--output", "out"]),
    "concat over scores": (SCORE, ["concat", "half", "rest", "--output", "out", "--overwrite"]),
    "diff": (None, ["diff", "half", "rest", "--max-drift", "1", "--output", "out"]),
    "transfer": (None, ["transfer", "table", "other", "--output", "out"]),
    "transfer over another": (
        ["transfer", "table", "other", "--columns", "loss", "--output", "out"],
        ["transfer", "table", "other", "--output", "out"],
    ),
    "report": (SCORE, ["report", "out"]),
}
KILLS = {"score a file and a metric more": 4, "add": 4, "add over itself": 4}
WORKING = {"_progress/lock", "_progress/workers.log", "_progress/holder.json"}
"""Of who is, or was, at work. What a killed process left of itself, and what it was writing below ``_progress/tmp``,
goes when somebody takes the lock next."""


def files(out: Path) -> set[str]:
    names = {path.relative_to(out).as_posix() for path in out.rglob("*") if path.is_file()}
    return {name for name in names - WORKING if not name.startswith("_progress/tmp/")}


def content(out: Path) -> object:
    """What a command leaves, without what two runs of it may do differently."""
    if (out / "manifest.json").exists():
        parts = {path.relative_to(out).as_posix(): path.read_bytes() for path in out.glob("data/*")}
        return signed(out), parts, files(out)
    pages = {path.name: path.read_bytes() for path in [*out.glob("*.json"), *out.glob("*.html")]}
    assert len(pages) == 2, "a page and its numbers"
    return pages, files(out)


@pytest.mark.parametrize("name", COMMANDS)
def test_killed_before_a_file_operation(directory: Path, tmp_path: Path, name: str):
    before, command = COMMANDS[name]
    work = Path(shutil.copytree(directory, tmp_path / "work"))
    out = work / "out"

    def again(kill: int | None) -> operations.Outcome:
        shutil.rmtree(out, ignore_errors=True)
        if before:
            shutil.copytree(tmp_path / "before", out)
        return operations.run(*command, cwd=work, below=out, kill=kill)

    if before:
        result = operations.run(*before, cwd=work, below=out)
        assert result.code == 0, result.output
        out.rename(tmp_path / "before")
    whole = again(None)
    assert whole.code == 0, whole.output
    expected = content(out)
    for number in drawn.some(name, range(whole.operations), KILLS.get(name, 3)):
        killed = again(number)
        assert killed.code is None, f"{number}: {killed.output}"
        if (before or [""])[0] in ("score", "select", "cluster"):
            assert verify(out).faults == [], f"the old table or the new one, at {number}"
            curricle("verify", "out", cwd=work)
        ended = operations.run(*command, cwd=work, below=out)
        assert ended.code == 0, f"{number}: {ended.output}"
        if (out / "manifest.json").exists():
            assert verify(out).faults == [], number
        assert content(out) == expected, f"killed before operation {number} of {whole.operations}"


@pytest.mark.parametrize("name", ["score", "add over itself"])
def test_asked_to_stop_before_a_file_operation(directory: Path, tmp_path: Path, name: str):
    """Done is what has its table: one line and exit code 1 until then, and from then on nothing of it, and code 0."""
    before, command = COMMANDS[name]
    work = Path(shutil.copytree(directory, tmp_path / "work"))
    out = work / "out"
    if before:
        assert operations.run(*before, cwd=work, below=out).code == 0
        out.rename(tmp_path / "before")
    codes = []

    def again(number: int | None) -> operations.Outcome:
        shutil.rmtree(out, ignore_errors=True)
        if before:
            shutil.copytree(tmp_path / "before", out)
        sent = (signal.SIGTERM, signal.SIGINT)[(number or 0) % 2]
        return operations.run(*command, cwd=work, below=out, kill=number, sent=sent)

    whole = again(None)
    expected, last = content(out), whole.operations - 1
    for number in sorted({*drawn.some(f"stopped: {name}", range(last - 2), 2), *range(last - 2, last + 1)}):
        stopped = again(number)
        codes.append(stopped.code)
        request = "curricle: asked to stop" in stopped.output
        assert (stopped.code, request) in [(0, False), (1, True)], f"{number}: {stopped.output}"
        if stopped.code == 1:
            *lines, line = stopped.output.splitlines()
            assert line.endswith("; the same command goes on from what is finished") and "Traceback" not in str(lines)
            assert operations.run(*command, cwd=work, below=out).code == 0, number
        assert content(out) == expected, f"stopped before operation {number} of {whole.operations}"
    assert codes == sorted(codes, reverse=True) and codes[-1] == 0, "the page comes last, when the table is there"


def test_the_operations_are_seen(directory: Path, tmp_path: Path):
    """A control: without the hook's kill nothing is killed, and a table is made in many operations."""
    result = operations.run(*SCORE[:-1], tmp_path / "out", cwd=directory, below=tmp_path / "out")
    assert result.code == 0 and result.operations > 20, result
    assert operations.run("verify", tmp_path / "out", cwd=directory, below=tmp_path / "out").operations == 0


LONG = {  # commands that train: killed where the plan is replaced, where the new table is begun, and in the exchange
    "lp": (["--epochs", "1", "--batch-size", "8", "--train.batch.tokens", "2048"], ["--seed", "1"]),
    "reward": (["--proxy.generation.max-new-tokens", "4"], ["--reward.seed", "1"]),
}


@pytest.mark.parametrize("name", drawn.some("trainings that are killed", [*LONG], 1))
def test_a_training_over_another_is_killed(directory: Path, tiny_model: Path, tmp_path: Path, name: str):
    options, other = LONG[name]
    model = ["--proxy.model", str(tiny_model), "--proxy.max-length", "128", "--output", "out"]
    command = [name, "scored", *options, *model]
    work, out = Path(shutil.copytree(directory, tmp_path / "work")), tmp_path / "work" / "out"
    assert operations.run(*SCORE, cwd=work, below=out).code == 0
    out.rename(work / "scored")
    product = operations.run(*command, cwd=work, below=out)
    assert product.code == 0, product.output
    old = signed(out)
    for when, number in (("plan.json", 0), ("_progress/next", 0), ("/out/manifest.json", 0), ("/out/manifest.json", 1)):
        killed = operations.run(*command, *other, "--overwrite", cwd=work, below=out, kill=number, when=when)
        assert killed.code is None, f"{when}: {killed.output}"
        assert verify(out).faults == [], when
    ended = operations.run(*command, *other, "--overwrite", cwd=work, below=out)
    assert ended.code == 0, ended.output
    assert verify(out).faults == [] and signed(out)["fingerprint"] != old["fingerprint"]
    result = signed(out)
    shutil.rmtree(out)
    assert operations.run(*command, *other, cwd=work, below=out).code == 0
    assert signed(out) == result, "the table of a run that nothing happened to"
