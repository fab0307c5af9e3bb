"""Law 1: every input record is a scored row or a reject, on real data of every kind."""

import json
import shutil

import polars
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from curricle.schemas.manifest import read_manifest
from curricle.schemas.verify import verify
from running import curricle, read_data, read_rejects, write_jsonl


def test_every_format(shared_data, tmp_path):
    curricle("score", shared_data / "formats", shared_data / "gsm8k", "--output", tmp_path, "--metrics", "mtld")
    manifest = read_manifest(tmp_path)
    assert len(manifest.sources) == 9
    assert manifest.total.read == manifest.total.scored + manifest.total.rejected
    assert manifest.total.rejected == 0
    for source in manifest.sources:
        text = (shared_data / source.source).read_text("utf-8")
        records = (
            json.loads(text) if text.lstrip().startswith("[") else [json.loads(line) for line in text.splitlines()]
        )
        assert source.read == len(records), source.source
    assert not verify(tmp_path).faults


def test_a_table_without_a_header_is_refused_with_what_to_do_and_then_read(shared_data, tmp_path):
    command = ["score", *sorted((shared_data / "mgsm").glob("*.tsv")), "--output", tmp_path / "out"]
    message = curricle(*command, code=2)
    assert "mgsm_es.tsv" in message and "--columns" in message
    assert not (tmp_path / "out").exists()
    columns = ["--metrics", "mtld", "--columns", "question,answer"]
    curricle(*command, *columns)
    manifest = read_manifest(tmp_path / "out")
    assert [(source.scored, source.rejected) for source in manifest.sources] == [(250, 0)] * 3
    curricle(*command, *columns, "--shard-rows", 9)  # it is there
    assert "columns" in curricle(*command, "--metrics", "mtld", "--columns", "prompt,completion", code=2)


@pytest.fixture(scope="module")
def original(alpaca_rows, tmp_path_factory):
    root = tmp_path_factory.mktemp("original")
    lines = [json.dumps(row) for row in alpaca_rows(50)]
    lines[7] = lines[7][:20]
    (root / "in.jsonl").write_text("\n".join(lines))
    curricle("score", root / "in.jsonl", "--output", root / "out", "--metrics", "mtld")
    assert not verify(root / "out").faults
    return root / "out"


@pytest.fixture
def scored(original, tmp_path):
    return shutil.copytree(original, tmp_path / "out")


def rewrite(path, change):
    table = pq.read_table(path)
    pq.write_table(change(table), path)


@pytest.mark.parametrize(
    ("harm", "message"),
    [
        (lambda out: next(out.glob("data/*")).unlink(), "missing"),
        (lambda out: next(out.glob("rejects/*")).unlink(), "missing"),
        (
            lambda out: shutil.copy(next(out.glob("data/*")), out / "data" / "part-00001-of-00001.parquet"),
            "not in the manifest",
        ),
        (lambda out: rewrite(next(out.glob("data/*")), lambda table: table.slice(1)), "not those that were written"),
        (lambda out: edit(out, lambda m: m["total"].update(scored=50)), "total scored"),
        (lambda out: edit(out, lambda m: m["identity"].update(contract=9)), "fingerprint"),
        (lambda out: resign(out, lambda table: table.slice(1)), "48 scored"),
        (lambda out: resign(out, lambda table: table.take([1, 0, *range(2, 49)])), "out of order"),
        (lambda out: resign(out, lambda table: table.drop(["notes"])), "notes"),
        (lambda out: resign(out, swap_ids), "does not hold the messages"),
        (lambda out: resign(out, lambda table: table.replace_schema_metadata({})), "signed"),
    ],
)
def test_verify_notices(scored, harm, message):
    harm(scored)
    faults = verify(scored).faults
    assert any(message in fault for fault in faults), faults
    assert "NOT WHOLE" in curricle("verify", scored, code=1)


def edit(out, change):
    manifest = json.loads((out / "manifest.json").read_text())
    change(manifest)
    (out / "manifest.json").write_text(json.dumps(manifest))


def resign(out, change):
    """Change the rows and put the new size and digest into the manifest: only a recount can tell."""
    import hashlib

    path = next(out.glob("data/*"))
    rewrite(path, change)
    content = path.read_bytes()
    edit(out, lambda m: m["data"][0].update(bytes=len(content), sha256=hashlib.sha256(content).hexdigest()))


def swap_ids(table):
    ids = table["example_id"].to_pylist()
    return table.set_column(0, table.schema.field(0), [[ids[1], ids[0], *ids[2:]]])


@pytest.mark.parametrize("path", ["../outside.parquet", "/etc/passwd", "data/../../x", "data\\..\\x", ""])
def test_hostile_path_in_a_manifest_is_refused(scored, path):
    edit(scored, lambda m: m["data"][0].update(path=path))
    message = curricle("verify", scored, code=1)
    assert "manifest.json" in message and "leaves the directory" in message


def test_unfinished_directory_is_not_verified(tmp_path):
    assert "no manifest" in curricle("verify", tmp_path, code=1)


def test_rejects_say_where_why_and_what(scored):
    (reject,) = read_rejects(scored)
    assert reject["source"].endswith("in.jsonl")
    assert reject["source_position"] == 7
    assert "JSON" in reject["reason"]
    assert reject["raw"].startswith('{"instruction"')


def test_hand_over_to_datasets_polars_and_duckdb(scored, monkeypatch, tmp_path):
    import datasets
    import duckdb

    monkeypatch.setenv("HF_HOME", str(tmp_path / "hf"))
    loaded = datasets.load_dataset(
        "parquet", data_files=str(scored / "data" / "*.parquet"), cache_dir=str(tmp_path / "cache"), split="train"
    )
    rows = read_data(scored).to_pylist()
    assert loaded.num_rows == len(rows) == 49
    assert loaded[3]["messages"] == rows[3]["messages"]
    frame = polars.read_parquet(scored / "data" / "*.parquet")
    assert frame["response_mtld"].to_list() == [row["response_mtld"] for row in rows]
    counted = duckdb.sql(f"select count(*), max(response_mtld) from '{scored}/data/*.parquet'").fetchall()[0]
    assert counted == (49, max(row["response_mtld"] for row in rows if row["response_mtld"] is not None))


def test_json_and_parquet_of_the_same_records_give_the_same_table(tmp_path):
    """From the file to the scores: what Arrow pads, orders and widens is in no row."""

    def record(name, arguments, **fields):
        call = {"function": {"name": name, "arguments": arguments}}
        turns = [{"role": "user", "content": "Please."}, {"role": "assistant", "tool_calls": [call], "content": "So."}]
        tool = {
            "type": "function",
            "function": {"name": name, "parameters": {"properties": {n: {} for n in arguments}}},
        }
        tool["function"]["parameters"]["properties"] = {n: {"type": "string"} for n in arguments}
        return {"messages": turns, "tools": [tool], **fields}

    records = [
        record("turn_on", {"lamp": "hall", "for": {"minutes": 5}}, id=1, site={"room": 2}),
        record("brew", {"cups": 2, "for": {"guest": "Zoë", "minutes": 2.5}}, id=2.5, site={"floor": 0, "room": None}),
        record("play", {"volume": 0.5, "lamp": None}, tags=["a", None]),
    ]
    write_jsonl(tmp_path / "a.jsonl", records)
    names = dict.fromkeys(name for row in records for name in row)
    table = pa.table({name: pa.array([row.get(name) for row in records]) for name in names})
    pq.write_table(table, tmp_path / "a.parquet")
    for kind in ("jsonl", "parquet"):
        curricle("score", f"a.{kind}", "--output", kind, "--metrics", "length,mtld", cwd=tmp_path)
    lines, rows = (read_data(tmp_path / kind).drop(["source"]) for kind in ("jsonl", "parquet"))
    assert lines.num_rows == 3 and lines.equals(rows)
    assert '"volume"' in rows["messages"][2].as_py()[-1]["content"]
    assert '"volume"' not in str(rows["messages"][0])
