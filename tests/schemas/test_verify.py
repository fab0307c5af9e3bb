"""Whatever lies in a directory: verifying it says what is wrong, and never ends with a traceback."""

import hashlib
import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from curricle.schemas.columns import METADATA_KEY
from curricle.schemas.common.errors import UserError
from curricle.schemas.manifest import MANIFEST
from curricle.schemas.verify import verify
from table_maker import COLUMNS, make_table, random_scores


@pytest.fixture(scope="module")
def whole(tmp_path_factory) -> Path:
    directory = tmp_path_factory.mktemp("whole")
    make_table(directory, random_scores(30), rows=30, rejects=[("not JSON", "no")])
    assert verify(directory).faults == []
    return directory


@pytest.fixture
def table(whole: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(whole, tmp_path / "table"))


def edit(table: Path, change: Callable[[dict[str, Any]], object]) -> None:
    manifest = json.loads((table / MANIFEST).read_text())
    change(manifest)
    (table / MANIFEST).write_text(json.dumps(manifest))


def sign(table: Path, kind: str = "data") -> None:
    """Put what lies there into the manifest: only a look inside can tell."""
    part = json.loads((table / MANIFEST).read_text())[kind][0]
    content = (table / part["path"]).read_bytes()
    signed = {"bytes": len(content), "sha256": hashlib.sha256(content).hexdigest()}
    edit(table, lambda manifest: manifest[kind][0].update(signed))


def part(table: Path, kind: str = "data") -> Path:
    return next((table / kind).iterdir())


def column(name: str, change: Callable[[pa.Field, list[Any]], tuple[pa.Field, list[Any]]], kind: str = "data"):
    """Change one column of a part."""

    def harm(table: Path) -> None:
        before = pq.read_table(part(table, kind))
        index = before.schema.get_field_index(name)
        field, values = change(before.schema.field(index), before[name].to_pylist())
        pq.write_table(before.set_column(index, field, pa.array(values, field.type)), part(table, kind))
        sign(table, kind)

    return harm


def as_type(kind: pa.DataType):
    return lambda field, values: (field.with_type(kind), [None] * len(values))


def described(**words: object):
    """Another description of a score column; with no words, one that is no JSON."""
    encoded = json.dumps(words).encode() if words else b"{{"
    return lambda field, values: (field.with_metadata({METADATA_KEY: encoded}), values)


def raw(content: bytes, kind: str = "data") -> Callable[[Path], None]:
    return lambda table: (part(table, kind).write_bytes(content), sign(table, kind))[1]


def signed_as(metadata: bytes) -> Callable[[Path], None]:
    def harm(table: Path) -> None:
        before = pq.read_table(part(table))
        pq.write_table(before.replace_schema_metadata({METADATA_KEY: metadata}), part(table))
        sign(table)

    return harm


def twice(table: Path) -> None:
    before = pq.read_table(part(table))
    pq.write_table(before.append_column("source", before["source"]), part(table))
    sign(table)


def replaced(by: Callable[[Path], object]) -> Callable[[Path], None]:
    def harm(table: Path) -> None:
        path = part(table)
        path.rename(table.parent / "elsewhere.parquet")
        by(path)

    return harm


GOOD = COLUMNS[3].to_field().metadata[METADATA_KEY].decode()


@pytest.mark.parametrize(
    ("harm", "message"),
    {
        "not Parquet": (raw(b"no Parquet at all"), "cannot be read"),
        "Parquet cut short": (lambda table: raw(part(table).read_bytes()[:-9])(table), "cannot be read"),
        "rejects that are not Parquet": (raw(b"", "rejects"), "cannot be read"),
        "messages are null": (column("messages", lambda f, v: (f, [None, *v[1:]])), "column messages has nulls"),
        "a turn is null": (column("messages", lambda f, v: (f, [[None], *v[1:]])), "a null in its messages"),
        "a role is null": (
            column("messages", lambda f, v: (f, [[{"role": None, "content": "a"}], *v[1:]])),
            "a null in its messages",
        ),
        "a content is null": (
            column("messages", lambda f, v: (f, [[{"role": "user", "content": None}], *v[1:]])),
            "a null in its messages",
        ),
        "an id is null": (column("example_id", lambda f, v: (f, [None, *v[1:]])), "column example_id has nulls"),
        "a source is null": (column("source", lambda f, v: (f, [*v[1:], None])), "column source has nulls"),
        "a position is null": (
            column("source_position", lambda f, v: (f, [None] * len(v)), "rejects"),
            "column source_position has nulls",
        ),
        "messages are numbers": (column("messages", as_type(pa.int64())), "column messages is missing or is not list"),
        "positions are texts": (
            column("source_position", as_type(pa.string()), "rejects"),
            "the columns are not those of rejects",
        ),
        "a column is there twice": (twice, "column source is missing"),
        "a description is no JSON": (column("loss", described()), "the metadata is not JSON"),
        "a description without a unit": (
            column("loss", described(**{key: value for key, value in json.loads(GOOD).items() if key != "unit"})),
            "the description of column 'loss' breaks the contract",
        ),
        "a description of numbers": (
            column("loss", described(**json.loads(GOOD) | {"unit": 3})),
            "the description of column 'loss' breaks the contract",
        ),
        "a direction that is none": (
            column("loss", described(**json.loads(GOOD) | {"hard": "<b>"})),
            "the description of column 'loss' breaks the contract",
        ),
        "signed with a list": (signed_as(b"[]"), "the metadata is no JSON object"),
        "a directory": (replaced(Path.mkdir), "is not there, or no file"),
        "a pipe": (replaced(os.mkfifo), "is not there, or no file"),
        "a link to itself": (replaced(lambda path: path.symlink_to(path)), "missing"),
        "a link that leads out": (
            replaced(lambda path: path.symlink_to("../../elsewhere.parquet")),
            "leads out of the directory",
        ),
        "a folder that leads out": (
            lambda table: ((table / "data").rename(table.parent / "d"), (table / "data").symlink_to("../d")),
            "leads out of the directory",
        ),
        "a name for the terminal": (
            lambda table: edit(table, lambda m: m["sources"][0].update(source="\x1b[2J\u202e")),
            r"\x1b[2J\u202e: 0 scored",
        ),
    }.values(),
)
def test_faults_are_listed(table: Path, harm, message: str):
    harm(table)
    faults = verify(table).faults
    assert any(message in fault for fault in faults), faults
    assert all(fault.isprintable() for fault in faults)


def test_a_link_that_stays_inside_is_fine(table: Path):
    path = part(table)
    path.rename(table / "kept.parquet")
    path.symlink_to("../kept.parquet")
    assert verify(table).faults == []


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "not JSON"),
        (b"{", "not JSON"),
        (b"\xff\xfe{", "not JSON"),
        (b"[" * 100_000, "not JSON"),
        (b'{"contract": ' + b"9" * 5000 + b"}", "not JSON"),
        (b'{"identity": NaN}', "not JSON"),
        (b'{"identity": 1e999}', "not JSON"),
        (rb'{"data": "\ud800"}', "not JSON"),
        (b"[]", "breaks the contract"),
        (b"null", "breaks the contract"),
        (b'{"contract": "one"}', "breaks the contract"),
    ],
)
def test_a_damaged_manifest_is_an_error(table: Path, content: bytes, message: str):
    (table / MANIFEST).write_bytes(content)
    with pytest.raises(UserError, match=message):
        verify(table)


@pytest.mark.parametrize(
    "change",
    [
        lambda m: m.update(data=None),
        lambda m: m.update(sources={"a": 1}),
        lambda m: m["data"][0].update(bytes="many"),
        lambda m: m["data"][0].update(path=7),
        lambda m: m["data"][0].update(path="/etc/passwd"),
        lambda m: m["rejects"][0].update(path="data/../../x"),
    ],
)
def test_a_manifest_of_other_types_is_an_error(table: Path, change):
    edit(table, change)
    with pytest.raises(UserError, match="breaks the contract at"):
        verify(table)


def test_a_manifest_that_is_no_file_is_an_error(table: Path, tmp_path: Path):
    (table / MANIFEST).unlink()
    (table / MANIFEST).mkdir()
    with pytest.raises(UserError, match="cannot be read"):
        verify(table)
    with pytest.raises(UserError, match="no such directory"):
        verify(tmp_path / "nowhere")


def test_large_rows_are_read_a_few_at_a_time(tmp_path: Path, monkeypatch):
    from curricle.schemas import verify as module

    monkeypatch.setattr(module, "BATCH_BYTES", 10_000)
    make_table(tmp_path, random_scores(300), rows=300)
    sizes = []
    check = module._Recount._check_ids
    monkeypatch.setattr(module._Recount, "_check_ids", lambda *args: (sizes.append(len(args[2])), check(*args))[1])
    assert verify(tmp_path).faults == []
    assert sum(sizes) == 300 and max(sizes) < 30, sizes
