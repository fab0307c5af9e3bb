"""Tables that grow: what is there is copied, and only what is new is computed. Passes are counted, not timed."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from curricle.schemas.manifest import read_manifest
from running import curricle, read_data, read_rejects, write_jsonl

MODEL = Path(__file__).resolve().parents[1] / "data" / "v1" / "model"
PROXY = ("--proxy.model", MODEL, "--proxy.max-length", 160)
WORDS = [first + second for first in ("ba", "do", "ki", "lu", "me") for second in ("ta", "ri", "mo", "ne")]
ROWS, FEW = 1000, 80
"""Of each file: three of them are a table of 3,000, or of fewer where that shows as much."""
SIZES = {"many": ROWS, "few": FEW}


def text(start: int, words: int) -> str:
    return " ".join(WORDS[(start * (word + 3) + word // 7) % len(WORDS)] for word in range(words))


def records(name: str, count: int = ROWS) -> list[dict]:
    """Of each file its own: a row without an answer, one that is rejected, one whose field is not followed."""
    rows = [
        {"prompt": f"{name} {row} {text(row, 2 + row % 5)}", "completion": text(row + len(name), 1 + row % 9)}
        for row in range(count - 3)
    ]
    return [
        *rows,
        {"prompt": f"{name} asks", "completion": ""},
        {"prompt": f"{name} alone"},
        {"prompt": f"{name} weighs", "completion": "much", "weight": 0.5},
    ]


def score_three(folder: Path, rows: int) -> Path:
    """A folder of three files, and the table that was scored of them."""
    (folder / "in").mkdir(parents=True)
    for name in ("a", "b", "c"):
        write_jsonl(folder / "in" / f"{name}.jsonl", records(name, rows))
    curricle("score", "in", "--output", "table", "--metrics", "length,loss", *PROXY, cwd=folder)
    return folder


@pytest.fixture(scope="module")
def scored(tmp_path_factory) -> dict[str, Path]:
    return {name: score_three(tmp_path_factory.mktemp(name) / "work", rows) for name, rows in SIZES.items()}


@pytest.fixture
def folder(scored, tmp_path) -> Path:
    """Three files of 1,000 records and their table, to be changed."""
    return Path(shutil.copytree(scored["many"], tmp_path / "work"))


@pytest.fixture
def few(scored, tmp_path) -> Path:
    """The same, of fewer rows."""
    return Path(shutil.copytree(scored["few"], tmp_path / "work"))


@pytest.fixture
def count(monkeypatch) -> Callable[[], dict[str, int]]:
    """How many rows went through each pass, and through each measure of words, since it was last asked."""
    from curricle.curate.metrics import mtld
    from curricle.curate.passes.rendering import RenderPass
    from curricle.curate.proxy.transformers_backend import TransformersBackend

    counts = {"rendered": 0, "read": 0, "mtld": 0}

    def counting(target: object, name: str, key: str, rows: Callable[..., int]) -> None:
        original = getattr(target, name)

        def counted(*args, **kwargs):  # type: ignore[no-untyped-def]
            counts[key] += rows(*args)
            return original(*args, **kwargs)

        monkeypatch.setattr(target, name, counted)

    counting(RenderPass, "ask", "rendered", lambda self, batch, *_: len(batch))
    counting(TransformersBackend, "score", "read", lambda self, requests, *_: len(requests))
    original = mtld.METRIC.compute

    def measured(batch):  # type: ignore[no-untyped-def]
        counts["mtld"] += len(batch)
        return original(batch)

    object.__setattr__(mtld.METRIC, "compute", measured)

    def since() -> dict[str, int]:
        result = dict(counts)
        counts.update(dict.fromkeys(counts, 0))
        return result

    yield since
    object.__setattr__(mtld.METRIC, "compute", original)


def outcome(table: Path) -> dict:
    """The rows, the rejects and the manifest, but for what it says of the making."""
    manifest = json.loads((table / "manifest.json").read_text())
    del manifest["cost"], manifest["provenance"]
    for counts in (manifest["total"], *manifest["sources"]):
        del counts["reused"]
    return {"manifest": manifest, "rejects": read_rejects(table)}


def at_once(folder: Path, *options: object, inputs: tuple[str, ...] = ("in",), name: str = "whole") -> dict:
    curricle("score", *inputs, "--output", name, *options, cwd=folder)
    return outcome(folder / name)


def assert_alike(one: pa.Table, other: pa.Table) -> None:
    """The same rows and values; but for the rounding of a model's arithmetic, where other rows lay beside a row."""
    assert one.column_names == other.column_names and len(one) == len(other)
    for name in one.column_names:
        if one.schema.field(name).type == pa.float64():
            values = [table[name].to_numpy() for table in (one, other)]
            assert np.allclose(*values, rtol=0, atol=1e-5, equal_nan=True), name
        else:
            assert one[name].equals(other[name]), name


def test_a_fourth_file(folder, count):
    write_jsonl(folder / "in" / "d.jsonl", records("d"))
    message = curricle("score", "in", "--output", "table", "--metrics", "length,loss", *PROXY, cwd=folder, code=2)
    assert "in/d.jsonl: is new" in message and "--append" in message and "--reuse" in message
    count()
    curricle("score", "in", "--output", "table", "--metrics", "length,loss", *PROXY, "--append", cwd=folder)
    assert count() == {"rendered": ROWS - 1, "read": ROWS - 2, "mtld": 0}
    assert "whole" in curricle("verify", folder / "table")
    total = read_manifest(folder / "table").total
    assert (total.read, total.rejected, total.reused) == (4 * ROWS, 4, 3 * (ROWS - 1))
    assert outcome(folder / "table") == at_once(folder, "--metrics", "length,loss", *PROXY)
    count()
    before = {path: path.stat().st_mtime_ns for path in (folder / "table").rglob("*") if path.is_file()}
    for more in ([], ["--append"]):
        again = curricle("score", "in", "--output", "table", "--metrics", "length,loss", *PROXY, *more, cwd=folder)
        assert "nothing to do" in again
    assert before == {path: path.stat().st_mtime_ns for path in before} and count()["read"] == 0


def test_a_metric_more_and_a_file_more_at_once(folder, count):
    """No row that is there is read by the proxy; columns and notes stand as in a table that is scored at once."""
    write_jsonl(folder / "in" / "d.jsonl", records("d", 50))
    options = ("--metrics", "+mtld,+mattr", *PROXY)
    refused = curricle("score", "in", "--output", "table", *options, cwd=folder, code=2)
    assert "in/d.jsonl: is new" in refused and "--append" in refused
    count()
    curricle("score", "in", "--output", "table", *options, "--append", cwd=folder)
    assert count() == {"rendered": 49, "read": 48, "mtld": 3 * (ROWS - 1) + 49}
    assert outcome(folder / "table") == at_once(folder, "--metrics", "length,loss,mtld,mattr", *PROXY)
    assert "nothing to do" in curricle("score", "in", "--output", "table", *options, "--append", cwd=folder)


def test_a_metric_that_needs_a_pass_that_is_there(few, count):
    """IFD is of two passes, and the loss is a column of its own, which stays."""
    before = read_data(few / "table")
    count()
    curricle("score", "in", "--output", "table", "--metrics", "+ifd", *PROXY, cwd=few)
    assert count()["rendered"] == 3 * (FEW - 1)
    after = read_data(few / "table")
    assert all(after[name].equals(before[name]) for name in before.column_names if name != "notes")
    at_once(few, "--metrics", "length,loss,ifd", *PROXY)
    assert_alike(after, read_data(few / "whole"))


def test_an_input_is_known_by_its_content(few, count):
    """Moved, renamed, or named otherwise: it is the same input, and nothing is done."""
    options = ("--output", "table", "--metrics", "length,loss", *PROXY)
    (few / "in").rename(few / "elsewhere")
    (few / "elsewhere" / "b.jsonl").rename(few / "elsewhere" / "b-2.jsonl")
    count()
    for inputs in (("elsewhere",), (few / "elsewhere",)):
        message = curricle("score", *inputs, *options, cwd=few)
        assert "nothing to do" in message and "b-2.jsonl is the input in/b.jsonl: its content is the same" in message
    assert count()["read"] == 0
    write_jsonl(few / "elsewhere" / "c.jsonl", records("changed", FEW))
    assert "was read then, is not among the inputs now" in curricle("score", "elsewhere", *options, cwd=few, code=2)


def test_only_what_is_new_need_be_named(few, count):
    """A nightly job may move what it has scored out of the way; a file that takes an old name is another one."""
    whole = at_once(few, "--metrics", "length,loss", *PROXY, inputs=("in",))
    shutil.rmtree(few / "in")
    write_jsonl(few / "new.jsonl", records("new", 30))
    options = ("--output", "table", "--metrics", "length,loss", *PROXY, "--append")
    count()
    curricle("score", "new.jsonl", *options, cwd=few)
    assert count()["read"] == 28
    manifest = read_manifest(few / "table")
    names = ["in/a.jsonl", "in/b.jsonl", "in/c.jsonl"]
    assert [source.source for source in manifest.sources] == [*names, "new.jsonl"]
    rows = read_data(few / "table").slice(0, 3 * (FEW - 1)).replace_schema_metadata()
    assert rows.equals(read_data(few / "whole").replace_schema_metadata()) and whole["rejects"]
    (few / "new.jsonl").rename(few / "yesterday.jsonl")
    write_jsonl(few / "new.jsonl", records("newer", 40))
    curricle("score", "yesterday.jsonl", "new.jsonl", *options, cwd=few)
    assert count()["read"] == 38
    manifest = read_manifest(few / "table")
    assert [source.source for source in manifest.sources] == [*names, "yesterday.jsonl", "new.jsonl"]
    assert "whole" in curricle("verify", few / "table")


def test_a_file_that_has_grown(few, count):
    with (few / "in" / "b.jsonl").open("a") as file:
        file.writelines(json.dumps(row) + "\n" for row in records("more", 20))
    options = ("--output", "table", "--metrics", "length,loss", *PROXY)
    assert "was changed" in curricle("score", "in", *options, cwd=few, code=2)
    count()
    curricle("score", "in", *options, "--append", cwd=few)
    assert count()["read"] == 18
    at_once(few, *options[2:])
    assert_alike(read_data(few / "table"), read_data(few / "whole"))
    content = (few / "in" / "b.jsonl").read_text()
    (few / "in" / "b.jsonl").write_text(content.replace("b 1 ", "b one "))
    message = curricle("score", "in", *options, "--append", cwd=few, code=2)
    assert "was changed" in message and "a name of its own" in message and "add --append" not in message


def test_rows_that_any_table_has_are_copied(few, count, tmp_path):
    """Whatever their file is called, in whichever order; what is doubled in the input is doubled in the table."""
    (few / "in" / "a.jsonl").rename(few / "in" / "z.jsonl")
    rows = records("b", FEW)
    write_jsonl(few / "in" / "b.jsonl", [*rows[50:], *records("new", 10), *rows[:50], *rows[:7]])
    options = ("--metrics", "length,loss", *PROXY)
    count()
    message = curricle("score", "in", "--output", "other", *options, "--reuse", "table", cwd=few)
    assert count()["read"] == 8 and "reuse table: copied: length, loss" in message
    total = read_manifest(few / "other").total
    assert total.reused == 3 * (FEW - 1) + 7 and total.scored == total.reused + 9
    assert [source.source for source in read_manifest(few / "other").sources][-1] == "in/z.jsonl"
    assert "whole" in curricle("verify", few / "other")
    before = {row["example_id"]: row for row in read_data(few / "table").to_pylist()}
    for row in read_data(few / "other").to_pylist():
        if there := before.get(row["example_id"]):
            same = ("loss", "loss_tokens", "prompt_tokens", "response_words", "notes", "truncated")
            assert [row[name] for name in same] == [there[name] for name in same]
    count()
    curricle("score", "in", "--output", "third", *options, "--reuse", "table,other", cwd=few)
    assert count()["read"] == 0
    assert outcome(few / "third") == outcome(few / "other")


def test_a_model_is_not_loaded_where_nothing_is_asked_of_it(folder, monkeypatch):
    from curricle.curate.proxy import backend

    monkeypatch.setattr(backend, "load", lambda *_: pytest.fail("the proxy was loaded"))
    monkeypatch.setattr("curricle.curate.passes.models._loaded", {})
    curricle("score", "in", "--output", "other", "--metrics", "length,loss", *PROXY, "--reuse", "table", cwd=folder)
    assert read_manifest(folder / "other").cost.tokens == 0
    write = outcome(folder / "other")
    assert write == outcome(folder / "table")


def test_another_proxy_beside_the_first(folder, count):
    """What the first gave is not mixed in; what rests on the tokenizer alone, or on no model, is copied."""
    from safetensors.numpy import load_file, save_file

    shutil.copytree(MODEL, folder / "model")
    weights = load_file(MODEL / "model.safetensors")
    name = next(name for name in weights if name.endswith("q_proj.weight"))
    save_file({**weights, name: weights[name] * 1.5}, folder / "model" / "model.safetensors", {"format": "pt"})
    other = ("--metrics", "length,loss", "--proxy.model", "model", *PROXY[2:])
    for more in ((), ("--append",)):
        assert "weights" in curricle("score", "in", "--output", "table", *other, *more, cwd=folder, code=2)
    count()
    message = curricle("score", "in", "--output", "other", *other, "--reuse", "table", cwd=folder)
    assert "copied: length" in message and "made otherwise or not there: loss" in message
    assert count()["read"] == 3 * (ROWS - 2)
    assert outcome(folder / "other") == at_once(folder, *other)
    origin = read_manifest(folder / "other").provenance
    assert origin.commands[0].command == read_manifest(folder / "table").provenance.commands[0].command
    assert [model.name for model in origin.models] == ["model"], "what gave numbers, and not what could have"
    first, second = read_data(folder / "table")["loss"], read_data(folder / "other")["loss"]
    assert first.null_count == second.null_count == 3 and not first.equals(second)
    curricle(
        "score", "in", "--output", "back", "--metrics", "length,loss", *PROXY, "--reuse", "other,table", cwd=folder
    )
    assert count()["read"] == 3 * (ROWS - 2) and outcome(folder / "back") == outcome(folder / "table")


SMALL = ("--metrics", "mtld", "--shard-rows", "20")


@pytest.fixture
def small(tmp_path) -> Path:
    """Two files of forty rows and a table of them, without a model."""
    (tmp_path / "in").mkdir()
    for name in ("a", "b"):
        write_jsonl(tmp_path / "in" / f"{name}.jsonl", records(name, 40))
    curricle("score", "in", "--output", "table", *SMALL, cwd=tmp_path)
    return tmp_path


def test_more_arrives_while_a_job_is_stopped(small, monkeypatch):
    """The shards that it finished are shards of the longer job too; what arrives while it ends is for the next one."""
    from curricle.pipelines.commands import score as module

    grow = ("score", "in", "--output", "table", *SMALL, "--append")
    write_jsonl(small / "in" / "c.jsonl", records("c", 40))

    def stopped(*arguments: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(module, "finish", stopped)
        curricle(*grow, cwd=small, code=1)
    assert "whole" in curricle("verify", small / "table") and len(read_manifest(small / "table").sources) == 2
    receipts = {path.name: path.read_bytes() for path in (small / "table/_progress/receipts").iterdir()}
    write_jsonl(small / "in" / "d.jsonl", records("d", 25))
    assert "in/d.jsonl: is new" in curricle(*grow[:-1], cwd=small, code=2)
    original = module._check_unchanged

    def late(*arguments: object) -> None:
        write_jsonl(small / "in" / "e.jsonl", records("e", 5))
        original(*arguments)

    with monkeypatch.context() as patch:
        patch.setattr(module, "_check_unchanged", late)
        message = curricle(*grow, cwd=small)
    assert "new since the job began, and taken in: in/d.jsonl" in message and len(receipts) == 6
    left = {path.name: path.read_bytes() for path in (small / "table/_progress/receipts").iterdir()}
    assert left.items() > receipts.items()
    assert len(read_manifest(small / "table").sources) == 4
    curricle(*grow, cwd=small)
    assert outcome(small / "table") == at_once(small, *SMALL)


def test_inputs_move_while_a_job_is_stopped(small, monkeypatch):
    from curricle.pipelines.transforms.write import ShardWriter

    original, written = ShardWriter.write, []

    def twice(self, element):  # type: ignore[no-untyped-def]
        if len(written) == 2:
            raise KeyboardInterrupt
        written.append(element.shard.index)
        return original(self, element)

    with monkeypatch.context() as patch:
        patch.setattr(ShardWriter, "write", twice)
        curricle("score", "in", "--output", "other", *SMALL, cwd=small, code=1)
    (small / "in").rename(small / "moved")
    assert "2 of 4 shards were finished before" in curricle("score", "moved", "--output", "other", *SMALL, cwd=small)
    assert outcome(small / "other") == outcome(small / "table")


def test_a_table_is_made_as_its_input_is_now(small):
    """Of what it has: nothing is computed, and a row that is gone is gone."""
    (small / "in" / "b.jsonl").unlink()
    (small / "in" / "a.jsonl").rename(small / "in" / "c.jsonl")
    now = ("score", "in", "--output", "table", *SMALL, "--overwrite", "--reuse", "table")
    curricle(*now, cwd=small)
    total = read_manifest(small / "table").total
    assert total.reused == total.scored == 39
    assert outcome(small / "table") == at_once(small, *SMALL)
    assert "nothing to do" in curricle(*now, cwd=small)


def test_a_grown_table_that_is_damaged_is_made_again_of_its_input(small):
    write_jsonl(small / "in" / "c.jsonl", records("c", 20))
    curricle("score", "in", "--output", "table", *SMALL, "--append", cwd=small)
    (part,) = read_manifest(small / "table").data
    (small / "table" / part.path).write_bytes(b"no Parquet")
    message = curricle("score", "in", "--output", "table", *SMALL, "--append", cwd=small, code=2)
    assert "add --overwrite to make it again" in message
    curricle("score", "in", "--output", "table", *SMALL, "--overwrite", cwd=small)
    assert outcome(small / "table") == at_once(small, *SMALL)


def test_a_file_of_the_same_name_size_and_age_in_another_folder_is_another_one(small):
    """As tools leave files that write one time of change for all: a night that is skipped is data that is lost."""
    import os

    for night, word in (("one", "yes"), ("two", "not")):
        (small / night).mkdir()
        write_jsonl(small / night / "in.jsonl", [{"prompt": f"Say {word}", "completion": word}])
        os.utime(small / night / "in.jsonl", (1e9, 1e9))
        curricle("score", small / night / "in.jsonl", "--output", "nights", *SMALL, "--append", cwd=small)
    rows = read_data(small / "nights")["messages"].to_pylist()
    assert [turns[1]["content"] for turns in rows] == ["yes", "not"]
    assert "whole" in curricle("verify", small / "nights")


def rotate(folder: Path, names: str, night: int) -> None:
    """As programs do with what they write: each name goes to the next older file, and the oldest one goes."""
    for older, newer in zip(names[:0:-1], names[-2::-1], strict=True):
        if (folder / f"{newer}.jsonl").exists():
            (folder / f"{newer}.jsonl").replace(folder / f"{older}.jsonl")
    write_jsonl(folder / f"{names[0]}.jsonl", records(f"night {night}", 20 + night))


def test_files_that_are_rotated(small):
    """Each night every name is that of another file: none is lost, and each is called what it is called now."""
    grow = ("score", "in", "--output", "nights", *SMALL, "--append")
    shutil.rmtree(small / "in")
    (small / "in").mkdir()
    for night in range(5):
        rotate(small / "in", "abc", night)
        curricle(*grow, cwd=small)
        assert "whole" in curricle("verify", small / "nights")
        assert "nothing to do" in curricle(*grow, cwd=small)
    first, second, *newer = [source.source for source in read_manifest(small / "nights").sources]
    assert newer == ["in/c.jsonl", "in/b.jsonl", "in/a.jsonl"]
    assert first.startswith("in/c@") and second.startswith("in/c@") and first != second
    prompts = [turns[0]["content"] for turns in read_data(small / "nights")["messages"].to_pylist()]
    assert prompts == [
        f"{row['prompt']}" for night in range(5) for row in records(f"night {night}", 20 + night) if len(row) > 1
    ]


def test_what_is_new_changes_while_a_job_is_stopped(small, monkeypatch):
    """A nightly job is not stuck: it grows, is gone, and has its own name again; the table of yesterday is there."""
    from curricle.pipelines.commands import score as module

    grow, new = ("score", "in", "--output", "table", *SMALL, "--append"), small / "in" / "c.jsonl"

    def stopped(*arguments: object) -> None:
        raise KeyboardInterrupt

    def stop_at(count: int) -> None:
        write_jsonl(new, records("c", count))
        with monkeypatch.context() as patch:
            patch.setattr(module, "finish", stopped)
            curricle(*grow, cwd=small, code=1)

    def change(*arguments: object) -> None:
        write_jsonl(new, records("c", 44))
        original(*arguments)

    stop_at(40)
    new.unlink()
    curricle(*grow, cwd=small)
    assert "whole" in curricle("verify", small / "table") and len(read_manifest(small / "table").sources) == 2
    stop_at(41)
    write_jsonl(new, records("c", 42))
    message = curricle(*grow, "--no-append", cwd=small, code=2)
    assert "in/c.jsonl: was changed" in message
    original = module._check_unchanged
    with monkeypatch.context() as patch:
        patch.setattr(module, "_check_unchanged", change)
        assert "run the same command again" in curricle(*grow, cwd=small, code=1)
    message = curricle(*grow, cwd=small)
    assert "the input changed since the job began" in message and "in/c.jsonl: was changed" in message
    assert outcome(small / "table") == at_once(small, *SMALL)


def test_files_are_rotated_while_a_job_is_stopped(small, monkeypatch):
    """Shards that are finished keep their names; the file that has one of them now gets another."""
    from curricle.pipelines.commands import score as module

    def stopped(*arguments: object) -> None:
        raise KeyboardInterrupt

    grow = ("score", "in", "--output", "table", *SMALL, "--append")
    write_jsonl(small / "in" / "c.jsonl", records("c", 40))
    with monkeypatch.context() as patch:
        patch.setattr(module, "finish", stopped)
        curricle(*grow, cwd=small, code=1)
    rotate(small / "in", "abcd", 1)
    curricle(*grow, cwd=small)
    assert "whole" in curricle("verify", small / "table")
    names = [source.source for source in read_manifest(small / "table").sources]
    assert names[:3] == ["in/a.jsonl", "in/b.jsonl", "in/c.jsonl"] and names[3].startswith("in/a@") and len(names) == 4
    assert "nothing to do" in curricle(*grow, cwd=small)


def test_a_night_without_a_file(small):
    (small / "in").rename(small / "elsewhere")
    (small / "in").mkdir()
    assert "nothing to do" in curricle("score", "in", "--output", "table", *SMALL, "--append", cwd=small)
    assert "no file that can be read" in curricle("score", "in", "--output", "table", *SMALL, cwd=small, code=2)
    assert "hold no record" in curricle("score", "in", "--output", "new", *SMALL, "--append", cwd=small, code=2)


def test_in_an_object_store(small, s3):
    from curricle.pipelines.storage import open_storage

    table = f"s3://{s3}/table"
    curricle("score", "in", "--output", table, *SMALL, cwd=small)
    write_jsonl(small / "in" / "c.jsonl", records("c", 30))
    grow = ("score", "in", "--output", table, "--metrics", "+mattr", "--shard-rows", "20", "--append")
    curricle(*grow, cwd=small)
    assert "nothing to do" in curricle(*grow, cwd=small)
    manifest = read_manifest(open_storage(table))
    whole = at_once(small, "--metrics", "mtld,mattr", "--shard-rows", "20")
    assert [part.sha256 for part in manifest.data] == [part["sha256"] for part in whole["manifest"]["data"]]
    curricle("score", "in", "--output", "here", "--metrics", "mtld,mattr", "--reuse", table, cwd=small)
    total = read_manifest(small / "here").total
    assert total.reused == total.scored == 39 + 39 + 29


def test_on_two_workers(small, tmp_path):
    from running import in_process_of_its_own

    write_jsonl(small / "in" / "c.jsonl", [*records("c", 30), *records("a", 40)[:10]])
    options = ("--metrics", "+mattr", "--shard-rows", "20", "--append", "--workers", "2")
    in_process_of_its_own("score", "in", "--output", "table", *options, cwd=small)
    assert read_manifest(small / "table").total.reused == 2 * 39 + 10
    assert outcome(small / "table") == at_once(small, "--metrics", "mtld,mattr", "--shard-rows", "20")


def test_what_another_command_made_of_the_table(small):
    """Columns that were added grow with it; of those that scoring does not compute it is said which they are."""
    write_jsonl(small / "in" / "c.jsonl", records("c", 20))
    curricle("add", "table", "--metrics", "mattr", cwd=small)
    message = curricle("score", "in", "--output", "table", *SMALL, "--append", cwd=small, code=2)
    assert "column prompt_mattr: of the metric mattr, which --metrics does not name" in message
    grow = ("score", "in", "--output", "table", "--metrics", "+mattr", "--shard-rows", "20", "--append")
    curricle(*grow, cwd=small)
    assert outcome(small / "table") == at_once(small, "--metrics", "mtld,mattr", "--shard-rows", "20")
    curricle("select", "table", "--output", "some", "--take", "hard", "--by", "response_mtld", "--count", 5, cwd=small)
    message = curricle("score", "in", "--output", "some", *SMALL, "--append", cwd=small, code=2)
    assert "holds a selection" in message
    message = curricle("score", "in", "--output", "table", *SMALL, "--append", "--overwrite", cwd=small, code=2)
    assert "leave one out" in message


def test_a_copy_without_its_progress_can_grow(small):
    shutil.rmtree(small / "table" / "_progress")
    write_jsonl(small / "in" / "c.jsonl", records("c", 20))
    curricle("score", "in", "--output", "table", *SMALL, "--append", cwd=small)
    assert outcome(small / "table") == at_once(small, *SMALL)


def test_a_damaged_table_neither_grows_nor_gives(small):
    (part,) = read_manifest(small / "table").data
    content = bytearray((small / "table" / part.path).read_bytes())
    content[len(content) // 2] ^= 1
    (small / "table" / part.path).write_bytes(content)
    write_jsonl(small / "in" / "c.jsonl", records("c", 20))
    for more in (("--output", "table", "--append"), ("--output", "other", "--reuse", "table")):
        assert "not those that were written" in curricle("score", "in", *SMALL, *more, cwd=small, code=1)
    assert len(read_manifest(small / "table").sources) == 2 and not (small / "other" / "manifest.json").exists()


PLUGIN = """
import pyarrow as pa
from curricle.curate.batch import Scores
from curricle.curate.metric import Metric
from curricle.schemas.columns import ScoreColumn

COLUMNS = [ScoreColumn("marks", pa.int32(), "marks", "how long the field extra is")]


def compute(batch):
    extras = batch.table["extra"].to_pylist()
    notes = {row: ["no extra"] for row, extra in enumerate(extras) if extra is None}
    with open("computed.txt", "a") as file:
        file.write("x" * len(batch))
    return Scores({"marks": pa.array([extra and len(extra) for extra in extras], pa.int32())}, notes)


METRIC = Metric("marks", 1, COLUMNS, compute)
"""


def test_a_metric_of_a_plug_in_is_copied_where_all_that_it_may_read_is_the_same(tmp_path):
    (tmp_path / "my.py").write_text(PLUGIN)
    rows = [{"prompt": f"Say {row}", "completion": "Yes.", **({"id": row} if row else {})} for row in range(5)]
    write_jsonl(tmp_path / "one.jsonl", rows)
    write_jsonl(tmp_path / "two.jsonl", [*rows[:3], {**rows[3], "id": 1000}, {**rows[4], "more": 1}])

    def scored(name: str, output: str, *more: object) -> list[dict]:
        (tmp_path / "computed.txt").write_text("")
        curricle("score", name, "--output", output, "--metrics", "mtld,./my.py:METRIC", *more, cwd=tmp_path)
        return [{**row, "source": ""} for row in read_data(tmp_path / output).to_pylist()]

    scored("one.jsonl", "one")
    again = scored("two.jsonl", "two", "--reuse", "one")
    # two have other fields beside the conversation, and one a note of which nobody can tell whose it is
    assert (tmp_path / "computed.txt").read_text() == "xxx"
    assert read_manifest(tmp_path / "two").total.reused == 5, "of MTLD"
    assert again == scored("two.jsonl", "whole") and again[0]["notes"][-1] == "no extra"


def test_what_a_machine_could_not_do_is_tried_again(tmp_path, count, monkeypatch):
    from curricle.curate.batch import OUT_OF_MEMORY, LogLikelihood
    from curricle.curate.proxy.transformers_backend import TransformersBackend

    write_jsonl(tmp_path / "in.jsonl", records("a", 10))
    options = ("--metrics", "loss", *PROXY)
    original = TransformersBackend.score
    with monkeypatch.context() as patch:
        note = LogLikelihood(note=f"{OUT_OF_MEMORY} 9 tokens")
        patch.setattr(TransformersBackend, "score", lambda *args: [note, *original(*args)[1:]])
        curricle("score", "in.jsonl", "--output", "one", *options, cwd=tmp_path)
    assert read_data(tmp_path / "one")["notes"][0].as_py() == [f"loss: {note.note}", f"loss_tokens: {note.note}"]
    count()
    curricle("score", "in.jsonl", "--output", "two", *options, "--reuse", "one", cwd=tmp_path)
    assert count()["read"] == 1
    row = read_data(tmp_path / "two").to_pylist()[0]
    assert row["loss"] is not None and row["notes"] is None


def test_scores_of_a_table_of_contract_1(tmp_path, count):
    """Its columns have the fingerprints that they would have now, and so have the rows' ids, or they are computed."""
    v1 = MODEL.parent
    options = ("--metrics", "length,loss,ifd", "--proxy.model", MODEL, *_rendering(v1 / "scored"))
    count()
    curricle("score", v1 / "in.jsonl", "--output", "now", *options, "--reuse", v1 / "scored", cwd=tmp_path)
    total = read_manifest(tmp_path / "now").total
    assert count()["read"] == 0 and 0 < total.reused == total.scored
    curricle("score", v1 / "in.jsonl", "--output", "whole", *options, cwd=tmp_path)
    assert_alike(read_data(tmp_path / "now"), read_data(tmp_path / "whole"))
    shutil.copytree(v1 / "scored", tmp_path / "scored")
    message = curricle("score", v1 / "in.jsonl", "--output", "scored", *options, "--append", cwd=tmp_path, code=2)
    assert "--reuse" in message


def _rendering(table: Path) -> list[str]:
    rendering = read_manifest(table).identity["rendering"]
    return ["--proxy.max-length", str(rendering["max_length"])]


def test_a_table_of_contract_1_does_not_grow(small, tmp_path):
    """It does not say how its records became rows."""
    table = Path(shutil.copytree(MODEL.parent / "scored", tmp_path / "first"))
    write_jsonl(small / "in" / "c.jsonl", records("c", 5))
    options = ("--metrics", "length,mtld,loss,ifd,embedding", "--embedding.model", "proxy", "--proxy.model", MODEL)
    options += ("--proxy.max-length", 192)
    message = curricle("score", "in", "--output", table, *options, "--append", cwd=small, code=2)
    assert "reading: how its records became rows is not in the table" in message and "--reuse" in message


@pytest.mark.parametrize("also", [(), ("--dry-run",)])
def test_a_table_to_copy_from_that_is_none_is_found_first(small, also):
    message = curricle("score", "in", "--output", "new", *SMALL, "--reuse", "in", *also, cwd=small, code=2)
    assert "in/manifest.json: there is no manifest" in message and "80 records" not in message
    assert not (small / "new" / "manifest.json").exists()


def test_a_finished_table_needs_none_of_those_that_it_copied_from(small):
    again = ("score", "in", "--output", "new", *SMALL, "--reuse", "table")
    curricle(*again, cwd=small)
    shutil.rmtree(small / "table")
    assert "nothing to do" in curricle(*again, cwd=small)


def test_from_python(small):
    from curricle import pipelines

    write_jsonl(small / "in" / "c.jsonl", records("c", 20))
    inputs = [small / "in" / f"{name}.jsonl" for name in "abc"]
    manifest = pipelines.score(inputs, small / "table", metrics=["+mattr"], shard_rows=20, append=True)
    assert manifest.total.reused == 78 and manifest.sources[0].source == "in/a.jsonl"
    other = pipelines.score(inputs, small / "other", metrics=["mtld", "mattr"], reuse=[small / "table"], shard_rows=20)
    assert other.total.reused == other.total.scored == 97
    assert [part.rows for part in other.data] == [97] and other.columns == manifest.columns
