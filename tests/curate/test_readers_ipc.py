"""Arrow IPC, as datasets, polars and Arrow itself write it, is read like Parquet of the same records."""

import io
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from curricle.curate import read as read_inputs
from curricle.curate.readers import read, survey
from curricle.curate.readers.inputs import CACHE, DESCRIPTION, find_inputs
from curricle.schemas.common.errors import UserError

ROWS = [{"prompt": f"Hello {index}", "completion": "Hi" * (index % 5), "n": index} for index in range(2500)]


def arrow_file(path: Path, compression: str | None = None) -> None:
    table = pa.Table.from_pylist(ROWS)
    options = pa.ipc.IpcWriteOptions(compression=compression)
    with pa.ipc.new_file(path, table.schema, options=options) as writer:
        writer.write_table(table, 100)


def arrow_stream(path: Path) -> None:
    table = pa.Table.from_pylist(ROWS)
    table = table.set_column(0, "prompt", table["prompt"].dictionary_encode())
    with pa.ipc.new_stream(path, table.schema) as writer:
        writer.write_table(table, 999)


def of_polars(path: Path) -> None:
    import polars

    polars.from_dicts(ROWS).write_ipc(path)  # texts are views, all rows one batch


WRITERS: dict[str, Callable[[Path], None]] = {
    "file": arrow_file,
    "file with zstd": lambda path: arrow_file(path, "zstd"),
    "stream": arrow_stream,
    "polars": of_polars,
}


@pytest.mark.parametrize("kind", WRITERS)
@pytest.mark.parametrize("rows_per_slice", [700, 100_000])
def test_rows_depend_on_no_border_of_a_slice_and_not_on_the_stream(
    kind: str, rows_per_slice: int, tmp_path: Path
) -> None:
    path = tmp_path / "a.arrow"
    WRITERS[kind](path)
    content = path.read_bytes()
    openers: tuple[Callable[[], Any], ...] = (lambda: path.open("rb"), lambda: io.BytesIO(content))
    for opener in openers:
        surveyed = survey(opener, "a.arrow", rows_per_slice, 1 << 20, 500)
        assert surveyed.records == len(ROWS)
        for slices in (surveyed.slices, surveyed.slices[-1:]):
            records = [record for _, part in read(opener, "a.arrow", slices, 1 << 20) for record in part]
            first = slices[0].position
            assert [record.position for record in records] == [*range(first, len(ROWS))]
            assert [record.value for record in records] == ROWS[first:]


@pytest.mark.parametrize("kind", ["file", "stream"])
def test_damage_ends_in_words_or_in_the_rows_themselves(kind: str, tmp_path: Path) -> None:
    """No byte that is turned over ends the process, or gives more rows than were counted."""
    path = tmp_path / "a.arrow"
    WRITERS[kind](path)
    whole = path.read_bytes()
    for at in [*range(0, len(whole), len(whole) // 60), len(whole) - 5]:
        content = bytearray(whole)
        content[at] ^= 0xFF
        try:
            surveyed = survey(lambda content=content: io.BytesIO(content), "a.arrow", 700, 1 << 20, 500)
        except UserError:
            continue
        slices = read(lambda content=content: io.BytesIO(content), "a.arrow", surveyed.slices, 1 << 20)
        assert sum(1 for _, part in slices for _ in part) == surveyed.records


def test_a_cut_file_is_refused(tmp_path: Path) -> None:
    for kind in ("file", "stream"):
        WRITERS[kind](tmp_path / "a.arrow")
        content = (tmp_path / "a.arrow").read_bytes()
        for size in (7, len(content) // 2, len(content) - 8):
            with pytest.raises(UserError):
                survey(lambda size=size, content=content: io.BytesIO(content[:size]), "a.arrow", 700, 1 << 20, 500)


def test_what_datasets_saved_is_read_and_nothing_beside_it(tmp_path: Path) -> None:
    import datasets

    split = datasets.Dataset.from_list(ROWS[:30]).train_test_split(10, shuffle=False)
    split.save_to_disk(tmp_path / "saved", num_shards={"train": 2, "test": 1})
    (tmp_path / "saved" / "train" / "cache-0123456789abcdef.arrow").write_bytes(b"of another state")
    files, not_read = find_inputs([str(tmp_path / "saved")])
    assert [file.name for file in files] == [
        "test/data-00000-of-00001.arrow",
        "train/data-00000-of-00002.arrow",
        "train/data-00001-of-00002.arrow",
    ]
    assert [(other.path, other.reason) for other in not_read] == [
        ("dataset_dict.json", DESCRIPTION),
        ("test/dataset_info.json", DESCRIPTION),
        ("test/state.json", DESCRIPTION),
        ("train/cache-0123456789abcdef.arrow", CACHE),
        ("train/dataset_info.json", DESCRIPTION),
        ("train/state.json", DESCRIPTION),
    ]
    examples, rejects = read_inputs(tmp_path / "saved" / "train")
    assert [turns[0]["content"] for turns in examples["messages"].to_pylist()] == [f"Hello {n}" for n in range(20)]
    assert rejects.num_rows == 0
