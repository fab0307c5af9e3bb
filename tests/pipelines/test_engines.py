"""Law 4: the engine and the number of workers do not show. Every engine runs for real, in processes of its own."""

import gzip
import json
import os
import socket
import threading
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from itertools import islice
from pathlib import Path
from types import SimpleNamespace

import apache_beam as beam
import drawn
import grpc
import pyarrow.compute as pc
import pytest
from apache_beam.portability.api import beam_fn_api_pb2 as api
from apache_beam.portability.api import beam_fn_api_pb2_grpc as services
from apache_beam.runners.portability.local_job_service import BeamJob, LocalJobServicer
from clusters import beam_service, dask_cluster
from curricle.curate.readers import Slice
from curricle.curate.readers.examples import normalise_records
from curricle.curate.readers.records import of_program
from curricle.pipelines.engines.portable import RUNNERS, pipeline_options
from curricle.pipelines.scoring.job import make_job
from curricle.pipelines.scoring.plan import Shard
from curricle.pipelines.settings.score import ScoreSettings
from curricle.pipelines.tables.directory import OutputDirectory
from curricle.pipelines.transforms.coder import ShardBatchCoder
from curricle.pipelines.transforms.score import pipeline
from curricle.pipelines.transforms.shards import ShardBatch, ShardRun
from curricle.schemas.common.flags import parse
from curricle.schemas.table import EXAMPLES
from running import curricle, in_process_of_its_own, read_data, signed, write_jsonl

ENGINES = ["two workers", "dask", "portable"]


@pytest.fixture(scope="module")
def engines(tmp_path_factory):
    """The options of each engine."""
    root = tmp_path_factory.mktemp("engines")
    with dask_cluster(root / "dask") as cluster, beam_service(root / "beam") as portable:
        yield {
            "two workers": ("--workers", "2"),
            "dask": cluster.options,
            "portable": (*portable, "--workers", "2"),
        }


@pytest.fixture(scope="module")
def files(shared_data, tmp_path_factory) -> list[Path]:
    """The rows of Alpaca and gzip files of T0: some five thousand, or in a soak 46,846 and 294 files of 55,185."""
    alpaca, t0 = shared_data / "alpaca" / "alpaca_46k.jsonl", sorted((shared_data / "t0").glob("*.gz"))
    if not drawn.SOAK:
        with alpaca.open("rb") as lines:
            alpaca = tmp_path_factory.mktemp("files") / "alpaca.jsonl"
            alpaca.write_bytes(b"".join(islice(lines, 4000)))
    return [alpaca, *drawn.some("files of T0", t0, 8)]


def names(files: list[Path]) -> list[str]:
    """What a table calls them."""
    folder = os.path.commonpath([path.parent for path in files])
    return [os.path.relpath(path, folder) for path in files]


def records(path: Path) -> int:
    with gzip.open(path) if path.suffix == ".gz" else path.open("rb") as lines:
        return sum(1 for _ in lines)


@pytest.fixture(scope="module")
def bulk(files, tmp_path_factory):
    """Their table, on CPU metrics, made in one process: what the others must equal."""
    options = ("--metrics", "mtld", "--max-reject-fraction", 1)
    path = tmp_path_factory.mktemp("bulk") / "table"
    curricle("score", *files, "--output", path, *options)
    return (*files, *options), path


@pytest.mark.parametrize("engine", ENGINES)
def test_many_rows_of_many_files(engine, engines, files, bulk, tmp_path):
    arguments, whole = bulk
    in_process_of_its_own("score", *arguments, "--output", tmp_path / "table", *engines[engine])
    assert signed(tmp_path / "table") == signed(whole)  # digests of every part among it: the same bytes
    sources = signed(whole)["sources"]
    assert {source["source"]: source["read"] for source in sources} == dict(
        zip(names(files), map(records, files), strict=True)
    )
    scored = Counter(read_data(tmp_path / "table")["source"].to_pylist())
    assert {source["source"]: source["scored"] for source in sources if source["scored"]} == dict(scored)
    receipts = (tmp_path / "table" / "_progress" / "receipts").iterdir()
    assert Counter(json.loads(path.read_text())["source"] for path in receipts).keys() >= scored.keys()


def test_every_row_of_alpaca_is_where_it_was(bulk, files):
    alpaca, name = files[0], names(files)[0]
    assert "whole" in curricle("verify", bulk[1])
    rows = read_data(bulk[1]).select(["source", "source_position", "messages"])
    rows = rows.filter(pc.equal(rows["source"], name)).to_pylist()
    with open(alpaca, encoding="utf-8") as file:
        for position, (line, row) in enumerate(zip(file, rows, strict=True)):
            record = json.loads(line)
            assert row["source_position"] == position
            assert row["messages"][-1] == {"role": "assistant", "content": record["output"]}
            assert row["messages"][0]["content"].startswith(record["instruction"])


@pytest.mark.skipif(not drawn.SOAK, reason="a million rows are for a soak")
def test_a_million_rows(files, tmp_path):
    copies = [tmp_path / f"{copy}-{path.name}" for copy in range(10) for path in files]
    for copy, path in zip(copies, [*files] * 10, strict=True):
        copy.symlink_to(path)
    options = ("--metrics", "length", "--max-reject-fraction", 1, "--workers", 2)
    in_process_of_its_own("score", *copies, "--output", tmp_path / "table", *options)
    total = 10 * sum(map(records, files))
    assert f" {total:,} records of {len(copies):,} files" in curricle("verify", tmp_path / "table")


@pytest.fixture(scope="module")
def modelled(alpaca_rows, smollm2, tmp_path_factory):
    root = tmp_path_factory.mktemp("modelled")
    arguments = (
        *(write_jsonl(root / "in.jsonl", alpaca_rows(8)), "--metrics", "loss,ifd,mtld", "--shard-rows", 2),
        *("--proxy.max-length", 96),
    )
    in_process_of_its_own("score", *arguments, "--output", root / "table")
    return arguments, root / "table"


@pytest.mark.parametrize("engine", drawn.some("engines with a model", ENGINES, 1))
def test_a_real_model(engine, engines, modelled, tmp_path):
    arguments, whole = modelled
    in_process_of_its_own("score", *arguments, "--output", tmp_path / "table", *engines[engine])
    assert signed(tmp_path / "table") == signed(whole)


def test_dask_starts_a_cluster_where_none_is_named(alpaca_rows, tmp_path):
    write_jsonl(tmp_path / "in.jsonl", alpaca_rows(40))
    options = ("--metrics", "mtld", "--shard-rows", 10)
    curricle("score", "in.jsonl", "--output", "whole", *options, cwd=tmp_path)
    message = in_process_of_its_own(
        "score",
        "in.jsonl",
        "--output",
        "out",
        *options,
        *("--engine", "dask", "--workers", 2, "--dask.SLOT", 1),
        cwd=tmp_path,
    )
    assert signed(tmp_path / "out") == signed(tmp_path / "whole")
    assert "distributed" not in message and "Nanny" not in message


@pytest.mark.parametrize("engine", ["dask", "portable"])
def test_an_engine_that_is_not_there(engine, tmp_path):
    (tmp_path / "in.jsonl").write_text('{"prompt": "a", "completion": "b c"}\n')
    options = ("--metrics", "mtld", "--engine", engine, "--engine-address", "127.0.0.1:9")
    message = in_process_of_its_own("score", "in.jsonl", "--output", "out", *options, cwd=tmp_path, code=1)
    assert "127.0.0.1:9" in message and "What to do" in message and "Traceback" not in message
    assert "Connection refused, tried once" in message, "and not as long as the engine's library would"


def test_what_is_no_dask_scheduler_is_not_waited_for_for_ever(tmp_path, monkeypatch):
    """It takes connections, and says nothing: dask itself would wait without end. A slow scheduler is given time."""
    monkeypatch.setenv("DASK_DISTRIBUTED__COMM__TIMEOUTS__CONNECT", "500ms")
    (tmp_path / "in.jsonl").write_text('{"prompt": "a", "completion": "b c"}\n')
    with socket.create_server(("127.0.0.1", 0)) as mute:
        address = f"tcp://127.0.0.1:{mute.getsockname()[1]}"
        options = ("--metrics", "mtld", "--engine", "dask", "--engine-address", address)
        message = in_process_of_its_own("score", "in.jsonl", "--output", "out", *options, cwd=tmp_path, code=1)
    assert f"{address}: no dask scheduler answers" in message and "tried for 0.5 s" in message
    assert "DASK_DISTRIBUTED__COMM__TIMEOUTS__CONNECT" in message and "Traceback" not in message


def test_a_job_is_heard_of_as_long_as_it_runs(tmp_path):
    """Beam sets the limit of a single request, five minutes, to what a job says while it runs, and ends after it."""
    left: dict[str, float] = {}

    class Service(LocalJobServicer):
        def Prepare(self, request, context, timeout=None):
            left["prepare"] = context.time_remaining()
            return super().Prepare(request, context)

        def GetStateStream(self, request, context, timeout=None):
            left["state"] = context.time_remaining()
            return super().GetStateStream(request, context)

        def GetMessageStream(self, request, context, timeout=None):
            left["message"] = context.time_remaining()
            return super().GetMessageStream(request, context)

    class Nothing(BeamJob):
        def _invoke_runner(self):
            return SimpleNamespace(wait_until_finish=lambda: None, state="DONE")

    (tmp_path / "in.jsonl").write_text('{"prompt": "a", "completion": "b c"}\n')
    service = Service(beam_job_type=Nothing)
    options = ("--engine", "portable", "--engine-address", f"localhost:{service.start_grpc_server()}")
    environment = ("--beam.environment_type", "EXTERNAL", "--beam.environment_config", "localhost:9")
    arguments = ("score", "in.jsonl", "--output", "out", "--metrics", "mtld", *options, *environment)
    message = in_process_of_its_own(*arguments, cwd=tmp_path, code=1)
    service.stop()
    assert "no receipt though the engine ended" in message
    assert left["prepare"] < 600 and min(left["state"], left["message"]) > 1e9, "seconds"


def test_a_worker_that_never_starts_does_not_hold_the_job_for_ever(engines, tmp_path):
    """A pool that says that it has started a worker, and has not: Beam would wait for it without end."""

    class Liar(services.BeamFnExternalWorkerPoolServicer):
        def StartWorker(self, request, context):
            return api.StartWorkerResponse()

    (tmp_path / "in.jsonl").write_text('{"prompt": "a", "completion": "b c"}\n')
    pool = grpc.server(ThreadPoolExecutor(max_workers=1))
    services.add_BeamFnExternalWorkerPoolServicer_to_server(Liar(), pool)
    options = (*engines["portable"], "--beam.environment_config", f"localhost:{pool.add_insecure_port('127.0.0.1:0')}")
    pool.start()
    arguments = ("score", "in.jsonl", "--output", "out", "--metrics", "mtld", *options, "--stall-limit", 3)
    message = in_process_of_its_own(*arguments, cwd=tmp_path, code=1)
    pool.stop(None)
    assert "no worker has done anything" in message and "Traceback" not in message


GIVEN = {
    "flink": (("--beam.flink_version", "2.0", "--beam.parallelism", "4"), {"parallelism": 4}),
    "spark": (("--beam.environment_type", "DOCKER"), {"environment_type": "DOCKER"}),
    "dataflow": (
        (
            *("--beam.project", "curation-1", "--beam.region", "europe-west4"),
            *("--beam.temp_location", "gs://curation-tmp/beam"),
            *("--beam.sdk_container_image", "registry.example/curricle-beam:1"),
        ),
        {"sdk_container_image": "registry.example/curricle-beam:1", "region": "europe-west4"},
    ),
}


@pytest.mark.parametrize("engine", GIVEN)
def test_what_is_handed_to_a_managed_engine(engine, tmp_path):
    """These are not run here: the pipeline is built with their options, and its proto has our chain and no data."""
    flags, expected = GIVEN[engine]
    address = () if engine == "dataflow" else ("--engine-address", "host:8081")
    arguments = ["in.jsonl", "--output", "s3://b/t", "--metrics", "mtld", "--engine", engine, *address, *flags]
    settings = parse(ScoreSettings, arguments, "curricle score")
    job = make_job(settings)
    shards = [ShardRun((Shard(index, "in.jsonl", Slice("lines", index, 1, 0, 9, index)),)) for index in range(3)]
    built = pipeline(pipeline_options(settings), OutputDirectory(settings.output), job, "run", shards)
    options = built.options.get_all_options()
    assert {name: options[name] for name in expected} == expected
    assert options["runner"] == RUNNERS[engine][0]
    proto = built.to_runner_api()
    names = {transform.unique_name for transform in proto.components.transforms.values()}
    assert any("ReadShards" in name for name in names) and any("WriteShards" in name for name in names)


def test_no_shard_is_pickled_between_the_steps_of_one_process() -> None:
    """Beam asks for the size of what goes from step to step, and would pickle all tokens of a shard to learn it."""
    examples = EXAMPLES.empty_table()

    def shard(_: int) -> ShardBatch:
        return ShardBatch(None, examples, examples, 0.0, notes=((0, threading.Lock()),))  # type: ignore[arg-type]

    def run(as_type: type) -> None:
        with beam.Pipeline(runner="FnApiRunner") as pipeline:
            pipeline | beam.Create([0]) | beam.Map(shard).with_output_types(as_type) | beam.Map(lambda each: None)

    run(ShardBatch)
    with pytest.raises(Exception, match="cannot pickle"):
        run(object)


def test_a_shard_that_does_travel_arrives_as_it_was() -> None:
    records = [of_program(0, {"instruction": "Say hello", "output": "Hello"}), of_program(1, {"title": "none"})]
    examples, rejects, notes = normalise_records(records, "in.jsonl", None)
    batch = ShardBatch(Shard(0, "in.jsonl", Slice("lines", 0, 2, 0, 99, 0)), examples, rejects, 1.5, notes=notes)
    assert examples.num_rows == rejects.num_rows == 1
    coder = ShardBatchCoder()
    assert coder.decode(coder.encode(batch)) == batch
    assert coder.estimate_size(batch) == examples.nbytes + rejects.nbytes
