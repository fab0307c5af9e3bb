"""A job of very many shards: what the driver holds, lists and hands on does not grow with what they hold, or not much.

Counted and measured in bytes that are held, never timed. ``tests/benchmarks/p12_driver.py`` runs 100,000 for real.
"""

import gc
import json
import pickle
import tracemalloc
from collections import Counter
from collections.abc import Callable
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path

import pytest
from curricle.curate.readers import Slice
from curricle.curate.readers.inputs import InputFile
from curricle.pipelines import engines
from curricle.pipelines.commands import score as command
from curricle.pipelines.commands.status import status_of
from curricle.pipelines.engines import dask
from curricle.pipelines.processes.collector import as_before
from curricle.pipelines.scoring import finish
from curricle.pipelines.scoring.plan import PlannedSource, ScoringPlan, Shard, Shards, read_plan
from curricle.pipelines.scoring.receipts import Receipt
from curricle.pipelines.storage import THREADS, in_threads
from curricle.pipelines.storage.disk import Disk
from curricle.pipelines.storage.longarray import dumps, loads
from curricle.pipelines.tables.directory import OutputDirectory
from curricle.pipelines.tables.recorded import begin, read_recorded, record_plan
from curricle.pipelines.transforms.score import pipeline
from curricle.pipelines.transforms.shards import MOST_RUNS, ShardRun, shard_runs
from curricle.schemas.exchange import FINISHED, Finished
from curricle.schemas.files import Folder
from curricle.schemas.fingerprint import LongArray, digest
from curricle.schemas.manifest import MANIFEST
from curricle.schemas.sealed import seal, unsealed
from hypothesis import given
from hypothesis import strategies as st
from running import curricle, read_data, signed, write_jsonl

INDICES = st.integers(0, 2**62)
SLICES = st.builds(Slice, st.sampled_from(["text", "table", "lines"]), *[INDICES] * 9)


def planned(*shards: int) -> list[PlannedSource]:
    """Sources with so many shards, each of 100 rows of 200 bytes."""
    return [
        PlannedSource(
            InputFile(f"{name}.jsonl", 20_000 * count, 0.0),
            "0" * 64,
            100 * count,
            tuple(Slice("text", 100 * at, 100, 20_000 * at, 20_000 * (at + 1), 100 * at) for at in range(count)),
        )
        for name, count in enumerate(shards)
    ]


@lru_cache(1)
def shards_of(count: int) -> list[Shard]:
    return [*Shards(planned(count))]


def short(rows: int) -> list[dict]:
    return [{"prompt": f"q {row}", "completion": f"a {row}"} for row in range(rows)]


@given(shards=st.lists(st.tuples(INDICES, SLICES), min_size=1, max_size=9), in_table=st.booleans())
def test_a_run_travels_whole(shards, in_table):
    run = ShardRun(tuple(Shard(index, "a", part, "/b", in_table) for index, part in shards))
    assert pickle.loads(pickle.dumps(run)) == run


def test_a_shard_takes_few_bytes_on_its_way():
    runs = shard_runs([*Shards(planned(16_000))], 1, {"0.jsonl"}, 1)
    assert len(runs) == 16 and sum(len(pickle.dumps(run)) for run in runs) < 10 * 16_000


def test_the_shards_of_a_plan_are_made_as_they_are_asked_for():
    shards = Shards(planned(3, 0, 2))
    listed = [*shards]
    assert len(shards) == len(listed) == 5 and [shard.index for shard in listed] == [*range(5)]
    assert [shards[at] for at in range(-5, 5)] == listed * 2 and shards[1:4] == listed[1:4]
    assert [shard.source for shard in listed] == ["0.jsonl"] * 3 + ["2.jsonl"] * 2
    with pytest.raises(IndexError):
        shards[5]


@pytest.mark.parametrize(("workers", "most"), [(1, MOST_RUNS), (2, MOST_RUNS), (1000, MOST_RUNS), (3, 1 << 16)])
@pytest.mark.parametrize("count", [1, MOST_RUNS, MOST_RUNS + 1, 100_000])
def test_an_engine_is_given_few_runs_and_every_worker_enough(workers, most, count):
    shards = shards_of(count)
    runs = shard_runs(shards, workers, {"0.jsonl"}, most)
    assert [shard for run in runs for shard in run.shards] == shards
    assert len(runs) <= max(most, 16 * workers)
    assert len(runs) >= min(count, 8 * workers), "each worker has some, and nobody waits long for the last one"
    assert max(len(run.shards) for run in runs) <= 1 + count // max(most, 16 * workers)


def test_what_the_driver_holds_for_a_shard():
    """Its slice in the plan, the shard that is left, and its share of a run: together half a kilobyte."""

    def held(count: int) -> int:
        tracemalloc.start()
        sources = planned(count)
        pending = [*Shards(sources)]
        runs = [pickle.dumps(run) for run in shard_runs(pending, 1, {"0.jsonl"})]
        size, _ = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        assert runs
        return size

    few, many = held(1_000), held(6_000)
    assert (many - few) / 5_000 < 512


def begun(path: Path, count: int) -> OutputDirectory:
    """A job of so many shards, half of which are done."""
    directory = OutputDirectory(str(path))
    record_plan(directory, ScoringPlan("f", {"a": 1}, {}, tuple(planned(count))).to_json())
    for folder, name in (("receipts", directory.receipt), ("shards", directory.shard)):
        (path / "_progress" / folder).mkdir()
        for index in range(count // 2):
            (path / name(index)).touch()
    return directory


@pytest.mark.parametrize("is_finished", [False, True])
def test_what_status_holds_for_a_shard(tmp_path, is_finished):
    """Its lines in the file, its slice, and the names of its two files, not all at once."""

    def held(count: int) -> int:
        directory = begun(tmp_path / str(count), count)
        if is_finished:
            table = Finished(plan=digest(unsealed_plan(directory)), manifest="", files=[])
            directory.write_sealed(FINISHED, table.model_dump())
            directory.write_text(MANIFEST, "{}")
        gc.collect()
        tracemalloc.start()
        status = status_of(directory.path)
        _, most = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        assert status.records == 100 * count and status.shards == count
        assert status.shards_done == (count if is_finished else count // 2)
        assert (status.records_done == 100 * status.shards_done and status.state == "done") or not is_finished
        return most

    few, many = held(500), held(3_000)
    assert (many - few) / 2_500 < 500


def test_what_writing_a_plan_holds_for_a_shard(tmp_path):
    def held(count: int) -> int:
        plan = ScoringPlan("f", {}, {}, tuple(planned(count)))
        gc.collect()
        tracemalloc.start()
        begin(OutputDirectory(str(tmp_path / str(count))), plan.to_json())
        _, most = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        return most

    few, many = held(500), held(3_000)
    assert (many - few) / 2_500 < 500


def test_a_plan_with_a_line_for_each_number_is_the_same(tmp_path):
    """Earlier versions wrote it so."""
    directory = begun(tmp_path / "out", 30)
    recorded, plan = read_recorded(directory), read_plan(directory)
    path = tmp_path / "out" / "_progress" / "plan.json"
    content = path.read_bytes()
    path.write_bytes(seal(unsealed(content)))
    assert path.stat().st_size > 2 * len(content)
    assert read_recorded(directory) == recorded and read_plan(directory) == plan
    assert digest(read_recorded(directory)) == digest(recorded)


def unsealed_plan(directory: OutputDirectory) -> dict:
    """As Python reads it, without its tag."""
    plan = unsealed(Path(directory.path, "_progress", "plan.json").read_bytes())
    return {key: value for key, value in plan.items() if key not in ("kind", "contract")}


def test_a_plan_is_what_python_reads(tmp_path):
    """Of slices with fewer numbers, too, as earlier versions wrote them; and what is written again is the same plan."""
    directory = begun(tmp_path / "out", 30)
    plan, recorded = unsealed_plan(directory), read_recorded(directory)
    assert recorded == plan and digest(recorded) == digest(plan)
    assert isinstance(recorded["sources"][0]["slices"], LongArray)
    assert read_plan(directory).sources == tuple(planned(30))
    begin(directory, read_plan(directory).to_json())
    assert read_recorded(directory) == recorded
    for source in plan["sources"]:
        source["slices"] = [part[:6] for part in source["slices"]]
    record_plan(directory, plan)
    assert digest(read_recorded(directory)) == digest(plan) != digest(recorded)
    assert read_plan(directory).sources == tuple(planned(30))


HOSTILE = st.sampled_from(['"slices": [', '\\"slices": [["a"]]', "slices", "]", "[", "é\u2028", "\\", '"'])
ELEMENTS = st.lists(st.tuples(HOSTILE, INDICES, st.integers()).map(list), max_size=3)
OTHERS = st.lists(
    st.one_of(HOSTILE, st.floats(allow_nan=False, allow_infinity=False), st.none(), ELEMENTS, st.booleans()), max_size=3
)
SOURCES = st.lists(
    st.fixed_dictionaries({}, optional={"slices": st.one_of(ELEMENTS, ELEMENTS, OTHERS), "file": HOSTILE, "x": OTHERS}),
    max_size=4,
)


@given(
    value=st.dictionaries(st.one_of(st.just("sources"), HOSTILE), st.one_of(SOURCES, SOURCES, OTHERS, HOSTILE)),
    indent=st.sampled_from([None, 1]),
    ascii=st.booleans(),
)
def test_json_with_long_arrays_is_read_as_python_reads_it(value, indent, ascii):
    """Whatever stands where the slices do, and wherever else their name stands."""
    data = json.dumps(value, indent=indent, ensure_ascii=ascii).encode()
    read = loads(data, among="sources", key="slices")
    assert read == value and digest(read) == digest(value)


@pytest.mark.parametrize("other", [None, 1, "slices", [], {}])
def test_long_arrays_may_stand_among_anything(other):
    value = {"sources": [other, {"slices": [["a", 1]]}, other]}
    assert loads(json.dumps(value).encode(), among="sources", key="slices") == value


@given(slices=st.lists(ELEMENTS, min_size=1, max_size=3))
def test_long_arrays_are_held_as_text(slices):
    sources = [{"slices": each, "x": 1} for each in slices]
    read = loads(json.dumps({"sources": sources}).encode(), among="sources", key="slices")["sources"]
    assert [type(each["slices"]) for each in read] == [LongArray] * len(slices)
    assert [[*each["slices"]] for each in read] == slices
    written = dumps({"sources": [{**each, "slices": LongArray.of(each["slices"])} for each in sources]})
    assert json.loads(written) == {"sources": sources}
    assert loads(written.encode(), among="sources", key="slices") == {"sources": read}


@pytest.mark.parametrize(
    "slices", ['[["a", 1],]', '[["a", 01]]', '[["a" 1]]', '[["a", 1] ["b", 2]]', "[,]", '[["a", 1]', '[["a\n", 1]]']
)
def test_what_is_no_json_is_not_read(slices):
    text = f'{{"sources": [{{"slices": {slices}}}]}}'
    with pytest.raises(ValueError):
        json.loads(text)
    with pytest.raises(ValueError):
        loads(text.encode(), among="sources", key="slices")


def test_a_listing_holds_the_names_alone(tmp_path, monkeypatch):
    """With links as a folder may have them; from the folder itself, too."""
    (tmp_path / "a" / "b").mkdir(parents=True)
    for number in range(3000):
        (tmp_path / "a" / "b" / f"{number:06d}").touch()
    (tmp_path / "a" / "to-folder").symlink_to("b")
    (tmp_path / "a" / "to-nothing").symlink_to("c")
    monkeypatch.chdir(tmp_path)
    expected = sorted([*(f"a/b/{number:06d}" for number in range(3000)), "a/to-nothing"])
    tracemalloc.start()
    listed = Folder(tmp_path).names("a")
    _, most = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert listed == Folder(Path()).names("") == expected and Folder(tmp_path).names("nothing") == []
    assert Folder(tmp_path / "a").names("b") == [name.removeprefix("a/") for name in expected[:-1]]
    assert most < 400 * len(expected)


def test_threads_are_not_far_ahead():
    begun: list[int] = []
    results = in_threads(lambda item: begun.append(item) or item, iter(range(1000)))
    for index in range(100):
        assert next(results) == index
    results.close()
    assert len(begun) <= 100 + 2 * THREADS + 1


def test_an_error_in_a_thread_is_raised_where_its_result_is_wanted():
    def work(item: int) -> float:
        return 1 / (item - 3)

    results = in_threads(work, range(1000))
    assert [next(results) for _ in range(3)] == [-1 / 3, -1 / 2, -1]
    with pytest.raises(ZeroDivisionError):
        next(results)


@pytest.fixture
def counted(monkeypatch):
    """How often each folder of an output directory is listed."""
    listings: Counter[str] = Counter()
    names = Disk.names

    def count(self, folder):
        listings[folder] += 1
        return names(self, folder)

    monkeypatch.setattr(Disk, "names", count)
    return listings


def test_a_job_lists_its_shards_as_often_however_many_they_are(counted, tmp_path, monkeypatch):
    """Resumed at half of it, looked at with `status`, and made whole; receipts are read and not kept."""
    run, compact = engines.run, finish.compact
    receipts: list[int] = []

    def half(work):
        run(engines.Work(work.directory, work.job, work.pending[: len(work.pending) // 2], work.run, work.check))

    def compacted(*arguments):
        gc.collect()
        receipts.append(sum(type(each) is Receipt for each in gc.get_objects()))
        return compact(*arguments)

    monkeypatch.setattr(finish, "compact", compacted)
    monkeypatch.setattr(command, "_LOOKS", 0)
    totals = []
    for rows in (40, 160):
        counted.clear()
        write_jsonl(tmp_path / f"{rows}.jsonl", short(rows))
        arguments = ("score", f"{rows}.jsonl", "--output", f"out{rows}", "--metrics", "mtld", "--shard-rows", 1)
        with monkeypatch.context() as patch:
            patch.setattr(engines, "run", half)
            curricle(*arguments, cwd=tmp_path, code=1)
        assert f"{rows // 2} of {rows} shards are finished" in curricle("status", f"out{rows}", cwd=tmp_path)
        assert f"{rows // 2} of {rows} shards were finished before" in curricle(*arguments, cwd=tmp_path)
        assert read_data(tmp_path / f"out{rows}")["source_position"].to_pylist() == [*range(rows)]
        totals.append((counted["_progress/receipts"], counted["_progress/shards"]))
    assert totals[0] == totals[1] and max(totals[0]) <= 9, totals
    assert max(receipts) <= 2, "of 160 receipts at most the last one"


@pytest.fixture
def job_with(tmp_path, monkeypatch):
    """A job of so many shards of a row each, which a function runs instead of an engine."""

    def run(rows: int, engine: Callable[[engines.Work], None], code: int) -> None:
        write_jsonl(tmp_path / "in.jsonl", short(rows))
        monkeypatch.setattr(engines, "run", engine)
        options = ("--metrics", "mtld", "--shard-rows", 1)
        curricle("score", "in.jsonl", "--output", "out", *options, cwd=tmp_path, code=code)

    return run


def test_what_a_driver_sends_grows_with_its_shards_and_no_faster(job_with):
    """dask a message for each task; a portable runner the whole pipeline in one, of which Dataflow takes 10 MB."""
    few, many = 500, 2_000
    messages: dict[int, list[int]] = {}
    protos: dict[int, int] = {}

    def send(work: engines.Work) -> None:
        for count in (few, many):
            runs = shard_runs(shards_of(count), 2, {"0.jsonl"}, engines.MOST_RUNS_ELSEWHERE)
            whole = pipeline(["--runner=FnApiRunner"], work.directory, work.job, work.run, runs)
            protos[count] = whole.to_runner_api().ByteSize()
            tasks = dask._tasks(runs, 1)
            messages[count] = [len(pickle.dumps((work.directory, work.job, work.run, task))) for task in tasks]

    job_with(1, send, code=1)
    assert len(messages[few]) == few and len(messages[many]) == many
    assert max(messages[many]) < 5_000 and sum(messages[many]) < 1.02 * many / few * sum(messages[few])
    a_run = (protos[many] - protos[few]) / (many - few)
    assert a_run * engines.MOST_RUNS_ELSEWHERE < 8e6 and protos[many] < many / few * protos[few]


def test_a_task_of_dask_leaves_little_in_its_worker(job_with):
    """A Beam pipeline leaves ten thousand objects that hold one another; rounds that find them are seldom."""
    held: list[int] = []

    def score(work: engines.Work) -> None:
        for run in work.runs(1):
            dask.score(work.directory, work.job, work.run, [run])
            held.append(len(gc.get_objects()))

    with as_before():
        job_with(9, score, code=0)
    assert len(held) == 9 and held[-1] - held[3] < 5 * 500


def test_dask_is_given_some_tasks_at_a_time(tmp_path, monkeypatch):
    """Its own workers do not keep the stacks of each: dask's profiler would, for a thousand seconds."""
    cluster, callbacks = dask._cluster, list[str]()

    @contextmanager
    def looked_at(work):
        with cluster(work) as client:
            yield client
            callbacks.extend(*client.run(lambda dask_worker: [*dask_worker.periodic_callbacks]).values())

    monkeypatch.setattr(dask, "_cluster", looked_at)
    monkeypatch.setattr(dask, "MOST_TASKS", 2)
    write_jsonl(tmp_path / "in.jsonl", short(12))
    options = ("--metrics", "mtld", "--shard-rows", 1)
    curricle("score", "in.jsonl", "--output", "whole", *options, cwd=tmp_path)
    curricle("score", "in.jsonl", "--output", "out", *options, "--engine", "dask", cwd=tmp_path)
    assert signed(tmp_path / "out") == signed(tmp_path / "whole")
    assert "heartbeat" in callbacks and "profile" not in callbacks
