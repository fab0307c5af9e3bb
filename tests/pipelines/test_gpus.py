"""Every worker has a GPU of its own, on every engine: real workers, and GPUs of which only the names are there."""

import contextlib
import json
import os
from collections.abc import Iterator
from pathlib import Path

import clusters
import drawn
import pytest
from clusters import beam_service, dask_cluster
from curricle.curate.proxy import devices
from curricle.pipelines.commands.status import Status
from curricle.pipelines.scoring.meter import Meter
from curricle.pipelines.scoring.snapshot import standing
from curricle.pipelines.tables.directory import OutputDirectory
from curricle.schemas.chat import cards
from running import curricle, in_process_of_its_own, read_data, write_jsonl

NAMES = ("5", "7", "9")
METRIC = '''
import os, time
from pathlib import Path
import pyarrow as pa
from curricle.curate.batch import Scores
from curricle.curate.metric import Metric
from curricle.curate.passes import LOSS
from curricle.schemas.chat import cards
from curricle.schemas.columns import ScoreColumn

cards.count = lambda: len(os.environ[cards.VISIBLE].split(","))
SEEN = Path(__file__).with_name("seen")


def compute(batch):
    """How many responses are scored, after two workers have: each says which GPU it sees."""
    (SEEN / str(os.getpid())).write_text(os.environ[cards.VISIBLE])
    until = time.monotonic() + 600
    while len(list(SEEN.iterdir())) < 2:
        assert time.monotonic() < until, "no second worker came"
        time.sleep(0.05)
    return Scores({"scored": pa.array([each.count for each in LOSS.of(batch)], pa.int32())})


COLUMN = ScoreColumn("scored", pa.int32(), "tokens", "tokens that are scored", hard="high")
METRIC = Metric("scored", 1, (COLUMN,), compute, frozenset({LOSS}))
'''


@pytest.fixture
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with a metric whose workers find three GPUs, by names that the user gave."""
    for name, value in ((devices.VISIBLE, ",".join(NAMES)), ("TMPDIR", str(tmp_path))):
        monkeypatch.setenv(name, value)
        monkeypatch.setitem(clusters.ENVIRONMENT, name, value)
    (tmp_path / "seen").mkdir()
    (tmp_path / "my.py").write_text(METRIC)
    write_jsonl(tmp_path / "in.jsonl", [{"prompt": f"Say {row}", "completion": f"It is {row}."} for row in range(8)])
    return tmp_path


def score(machine: Path, tiny_model: Path, *options: object) -> str:
    """Eight shards of a row; the log."""
    metrics = ("--metrics", "./my.py:METRIC", "--proxy.model", tiny_model, "--shard-rows", 1)
    return in_process_of_its_own("score", "in.jsonl", "--output", "out", *metrics, *options, cwd=machine)


def visible(machine: Path) -> dict[str, str]:
    return {path.name: path.read_text() for path in (machine / "seen").iterdir()}


JOBS = {"local": ("--workers", 2), "dask": ("--engine", "dask", "--workers", 2)}
"""Those that start their workers themselves."""


@contextlib.contextmanager
def started(machine: Path, way: str) -> Iterator[tuple[object, ...]]:
    """The options of a job whose workers are started in one of these ways."""
    if way in JOBS:
        yield JOBS[way]
    elif way == "a dask cluster":
        with dask_cluster(machine / "cluster") as cluster:
            yield cluster.options
    else:
        with beam_service(machine / "beam") as portable:
            yield (*portable, "--workers", 2)


WAYS = [*JOBS, "a dask cluster", "the pools of a Beam engine"]


@pytest.mark.parametrize("way", drawn.some("what starts workers with GPUs", WAYS, 2))
def test_each_worker_has_a_gpu_of_its_own(machine, tiny_model, way):
    with started(machine, way) as options:
        log = score(machine, tiny_model, *options)
    assert sorted(visible(machine).values()) == ["5", "7"]
    if way in JOBS:
        assert "2 workers, each with a GPU of its own, of this machine's 5, 7, 9" in log
        for process, gpu in visible(machine).items():
            assert f"-{process} has the GPU {gpu}" in log
    assert all(read_data(machine / "out")["scored"].to_pylist())


@pytest.fixture
def three_gpus(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """This process as one that may claim one of three."""
    monkeypatch.setattr(devices, "_claims", [])
    monkeypatch.setattr(cards, "count", lambda: 3)
    monkeypatch.setenv(devices.VISIBLE, ",".join(NAMES))
    monkeypatch.setattr(devices.tempfile, "tempdir", str(tmp_path))
    write_jsonl(tmp_path / "in.jsonl", [{"prompt": f"Say {row}", "completion": f"It is {row}."} for row in range(8)])


@pytest.mark.parametrize(
    ("options", "line"),
    [
        (("--workers", "auto"), "GPUs: 3 workers, each with a GPU of its own, of this machine's 5, 7, 9"),
        (
            ("--workers", 6),
            "GPUs: 6 workers, each with a GPU, of this machine's 5, 7, 9: up to 2 share one, and of its memory they "
            "take what they need",
        ),
        ((), "GPUs: a GPU, of this machine's 5, 7, 9"),
    ],
)
def test_a_dry_run_says_which_gpus_the_workers_will_have(three_gpus, tiny_model, tmp_path, options, line):
    arguments = ("in.jsonl", "--output", "out", "--metrics", "loss", "--proxy.model", tiny_model, *options)
    assert line in curricle("score", *arguments, "--dry-run", cwd=tmp_path).splitlines()
    assert devices.claimed().gpus == ("5",)  # it measures with the model


def test_a_job_without_a_model_claims_none(three_gpus, tiny_model, tmp_path):
    options = ("--metrics", "length", "--proxy.model", tiny_model)
    assert "GPU" not in curricle("score", "in.jsonl", "--output", "out", *options, cwd=tmp_path)
    assert devices.claimed() is None and os.environ[devices.VISIBLE] == ",".join(NAMES)


def test_a_job_in_this_process_leaves_the_other_gpus_to_what_is_started_after_it(three_gpus, tiny_model, tmp_path):
    options = ("--metrics", "loss", "--proxy.model", tiny_model)
    log = curricle("score", "in.jsonl", "--output", "out", *options, cwd=tmp_path)
    assert f"process {os.getpid()} has the GPU 5 of 5, 7, 9" in log
    assert devices.claimed().gpus == ("5",) and os.environ[devices.VISIBLE] == ",".join(NAMES)


def test_more_gpus_for_a_worker_than_there_are_are_refused_before_a_worker_starts(three_gpus, tiny_model, tmp_path):
    options = ("--metrics", "loss", "--proxy.model", tiny_model, "--proxy.backend", "vllm", "--workers", 2)
    arguments = ("in.jsonl", "--output", "out", *options, "--proxy.tensor-parallel", 4)
    log = curricle("score", *arguments, cwd=tmp_path, code=2)
    assert "a worker needs 4 GPUs, and there are 3 (5, 7, 9)" in log


def test_status_says_which_worker_has_which_gpu(three_gpus, tmp_path):
    directory = OutputDirectory(str(tmp_path / "out"))
    devices.claim()
    Meter(directory, "run").add(rows=3, tokens=5)
    now = standing(directory, "run", 8, 0)
    assert (now.rows, now.tokens) == (3, 5)
    ((worker, gpu),) = now.gpus.items()
    assert worker.endswith(f"-{os.getpid()}") and gpu == "5"
    status = Status("out", "running", 8, 3, 4, 1, holder="somebody", gpus=now.gpus)
    assert f"worker {worker} has the GPU 5" in [*status.lines()]
    assert json.loads(status.to_json())["gpus"] == {worker: "5"}


@pytest.mark.parametrize("engine", [("--engine", "portable", "--engine-address", "a:1"), ("--engine", "dataflow")])
def test_auto_is_refused_where_workers_are_started_elsewhere(engine, tmp_path):
    write_jsonl(tmp_path / "in.jsonl", [{"prompt": "a", "completion": "b"}])
    log = curricle("score", "in.jsonl", "--output", "out", "--workers", "auto", *engine, cwd=tmp_path, code=2)
    assert "the workers are not started here" in log


def test_auto_is_a_worker_a_core_without_a_model_and_no_more_than_there_are_shards(tmp_path):
    write_jsonl(tmp_path / "in.jsonl", [{"prompt": f"a {row}", "completion": "b"} for row in range(3)])
    log = curricle("score", "in.jsonl", "--output", "out", "--workers", "auto", "--metrics", "mtld", cwd=tmp_path)
    assert "starting" in log and not (tmp_path / "out" / "_progress" / "workers.log").exists()
