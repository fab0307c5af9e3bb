"""However much a file unpacks to: memory is bounded, and what is out of all proportion is refused."""

import bz2
import gzip
import io
import json
import lzma
import tracemalloc
from collections.abc import Callable, Iterator
from functools import partial
from itertools import accumulate
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import zstandard
from curricle.curate.readers import Record, Slice, parquet, read, streams, survey, surveys
from curricle.curate.readers.rows import row_bytes
from curricle.schemas.common.errors import UsageError

LIMIT = 1 << 20
ANY = 1 << 40
GOOD = b'{"prompt": "a", "completion": "b"}'
COMPRESSORS: dict[str, Callable[[bytes], bytes]] = {
    **{".gz": gzip.compress, ".zst": zstandard.compress},
    **{".bz2": bz2.compress, ".xz": partial(lzma.compress, preset=0)},
}


def records(path: Path, slices: list[Slice]) -> Iterator[Record]:
    for _, part in read(partial(path.open, "rb"), path.name, slices, LIMIT):
        yield from part


def repeated(path: Path, rows: int, size: int, **options) -> Path:
    """One long text in every row, which Parquet stores once."""
    text = pa.DictionaryArray.from_arrays(pa.array([0] * rows, pa.int32()), ["x" * size])
    turns = pa.array([[{"role": "user", "content": "q"}, {"role": "assistant", "content": "a"}]] * rows)
    table = pa.table({"system": text.cast(pa.string()), "messages": turns})
    pq.write_table(table, path, **options)
    return path


@pytest.mark.parametrize("suffix", [".jsonl", ".jsonl.gz", ".json", ".parquet"])
def test_a_slice_ends_with_its_bytes(suffix: str, tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr(surveys, "SLICE_BYTES", 10_000)
    path = tmp_path / f"a{suffix}"
    rows = [{"prompt": "a" * (1000 * (row % 5)), "completion": "b"} for row in range(100)]
    lines = [json.dumps(row).encode() for row in rows]
    contents = {".jsonl": b"\n".join(lines), ".jsonl.gz": gzip.compress(b"\n".join(lines))}
    contents[".json"] = b"[" + b", ".join(lines) + b"]"
    if suffix == ".parquet":
        pq.write_table(pa.Table.from_pylist(rows), path, row_group_size=30)
    else:
        path.write_bytes(contents[suffix])
    result = survey(partial(path.open, "rb"), path.name, 1000, LIMIT, ANY)
    assert [part.first_record for part in result.slices] == [0, *accumulate(part.records for part in result.slices)][
        :-1
    ]
    held = [sum(1000 * (row % 5) for row in range(p.first_record, p.first_record + p.records)) for p in result.slices]
    assert all(5_000 < size < 14_500 for size in held[:-1]), held
    assert [record.value for record in records(path, result.slices)] == rows


@pytest.mark.parametrize("suffix", COMPRESSORS)
def test_a_bomb_is_refused_in_flat_memory(suffix: str, tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr(streams, "FREE_BYTES", 8 * LIMIT)
    path = tmp_path / f"a.jsonl{suffix}"
    path.write_bytes(COMPRESSORS[suffix](GOOD + b"\n" + bytes(40 * LIMIT)))
    opener = partial(path.open, "rb")
    tracemalloc.start()
    with pytest.raises(UsageError, match="over 500 times as many") as error:
        survey(opener, path.name, 10, LIMIT, 500)
    assert error.value.where == path.name and "--max-expansion" in str(error.value)
    result = survey(opener, path.name, 10, LIMIT, ANY)
    assert [record.reason is None for record in records(path, result.slices)] == [True, False]
    assert tracemalloc.get_traced_memory()[1] < 8 * LIMIT
    tracemalloc.stop()


def test_text_that_repeats_is_no_bomb(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr(streams, "FREE_BYTES", 1000)
    rows = (
        json.dumps({"system": "Be kind. " * 100, "prompt": f"What is {i * i}?", "completion": f"{i**3}"})
        for i in range(2000)
    )
    content = zstandard.compress("\n".join(rows).encode())
    assert survey(lambda: io.BytesIO(content), "a.jsonl.zst", 100, LIMIT, 500).records == 2000


def test_lists_without_end_in_an_array_are_refused() -> None:
    content = b"[" + GOOD + b"," + b"[" * 200_000
    with pytest.raises(UsageError, match="element 1 is nested more than"):
        survey(lambda: io.BytesIO(content), "a.json", 10, LIMIT, 500)


def test_parquet_that_repeats_a_text_is_refused_or_read_in_bounded_memory(tmp_path: Path) -> None:
    path = repeated(tmp_path / "a.parquet", 3000, 100_000)
    assert path.stat().st_size < 100_000
    with pytest.raises(UsageError, match="over 500 times as many"):
        survey(partial(path.open, "rb"), path.name, 4096, LIMIT, 500)
    before = most = pa.total_allocated_bytes()
    result = survey(partial(path.open, "rb"), path.name, 4096, LIMIT, ANY)
    assert {part.records for part in result.slices[:-1]} == {336}, "32 MiB"
    for record in records(path, result.slices):
        assert len(record.value["system"]) == 100_000
        most = max(most, pa.total_allocated_bytes())
    assert result.records == record.position + 1 == 3000
    assert most - before < 16 * LIMIT, "a batch of 1024 rows has a hundred"


def test_parquet_of_texts_that_share_their_beginnings_is_read_a_few_rows_at_a_time(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr(parquet, "BATCH_BYTES", 4 * LIMIT)
    encoding = {
        "system": "DELTA_BYTE_ARRAY",
        "messages.list.element.role": "PLAIN",
        "messages.list.element.content": "PLAIN",
    }
    path = repeated(tmp_path / "a.parquet", 500, 100_000, use_dictionary=False, column_encoding=encoding)
    before = most = pa.total_allocated_bytes()
    result = survey(partial(path.open, "rb"), path.name, 4096, LIMIT, ANY)
    for record in records(path, result.slices):
        assert len(record.value["system"]) == 100_000
        most = max(most, pa.total_allocated_bytes())
    assert most - before < 16 * LIMIT, "all of it has fifty"


def test_parquet_of_endless_nulls_is_refused_by_its_footer(tmp_path: Path, monkeypatch) -> None:
    path = tmp_path / "a.parquet"
    pq.write_table(pa.table({"prompt": pa.nulls(5_000_000, pa.string()), "completion": pa.nulls(5_000_000)}), path)
    monkeypatch.setattr(parquet.ParquetRows, "sizes", None)
    with pytest.raises(UsageError, match="over 500 times as many"):
        survey(partial(path.open, "rb"), path.name, 4096, LIMIT, 500)


def test_a_parquet_row_over_the_limit_shows_its_short_columns(tmp_path: Path) -> None:
    path = tmp_path / "a.parquet"
    turns = [{"role": "user", "content": "x" * 1000}, {"role": "assistant", "content": "y"}]
    pq.write_table(pa.table({"id": [1, 2], "messages": [turns, turns * 2000]}), path)
    result = survey(partial(path.open, "rb"), path.name, 10, LIMIT, ANY)
    good, long = records(path, result.slices)
    assert good.value == {"id": 1, "messages": turns}
    assert long.reason and "more than the limit of 1,048,576" in long.reason
    assert long.raw == '{"id": 2}'


def test_sizes_are_those_of_what_is_unfolded() -> None:
    texts = ["é", None, "ab", ""]
    columns = {
        "text": pa.array(texts),
        "large": pa.array(texts, pa.large_string()),
        "folded": pa.array(texts).dictionary_encode(),
        "none": pa.array([None] * 4, pa.string()).dictionary_encode(),
        "list": pa.array([["a", "bc"], [], None, ["d"]]),
        "turns": pa.array([[{"role": "u", "n": 1}], None, [], [{"role": None, "n": 2}]]),
        "map": pa.array([[("k", "vv")], None, [], [("k", None)]], pa.map_(pa.string(), pa.string())),
        "pair": pa.array([["a", "b"], ["c", "d"], None, ["e", "f"]], pa.list_(pa.string(), 2)),
        "uuid": pa.array([b"0" * 16] * 4, pa.binary(16)),
        "number": pa.array([1, 2, None, 4]),
        "nothing": pa.nulls(4),
    }
    expected = {
        "text": [10, 8, 10, 8],
        "large": [10, 8, 10, 8],
        "folded": [10, 8, 10, 8],
        "none": [8] * 4,
        "list": [8 + 9 + 10, 8, 8, 17],
        "turns": [8 + 8 + 9 + 8, 8, 8, 8 + 8 + 8 + 8],
        "map": [8 + 9 + 10, 8, 8, 8 + 9 + 8],
        "pair": [8 + 18, 8 + 18, 8 + 16, 8 + 18],
        "uuid": [24] * 4,
        "number": [8] * 4,
        "nothing": [8] * 4,
    }
    for name, column in columns.items():
        batch = pa.record_batch({name: column})
        assert row_bytes(batch).tolist() == expected[name], name
        assert row_bytes(batch.slice(1, 2)).tolist() == expected[name][1:3], name
    assert row_bytes(pa.record_batch(columns)).tolist() == [sum(row) for row in zip(*expected.values(), strict=True)]


@pytest.mark.parametrize("index", [-1, 2, 7])
def test_a_dictionary_that_is_damaged_is_never_unfolded(index: int) -> None:
    folded = pa.DictionaryArray.from_arrays(pa.array([0, index, None], pa.int32()), ["a", "b"], safe=False)
    for column in (folded, pa.ListArray.from_arrays([0, 3], folded), pa.StructArray.from_arrays([folded], ["a"])):
        with pytest.raises(pa.ArrowInvalid, match="not in its dictionary"):
            row_bytes(pa.record_batch({"a": column}))
