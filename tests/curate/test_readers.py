"""From bytes to records: nothing is lost, whatever is in the file and however it is cut."""

import bz2
import gzip
import hashlib
import io
import json
import lzma
import random
import tracemalloc
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import zstandard
from bad_inputs import CORPUS, BadInput
from curricle.curate.formats import FormatError, normalise
from curricle.curate.readers import RAW_LIMIT, Record, Slice, kind_of, read, survey
from curricle.curate.readers.records import parse
from curricle.curate.readers.split import elements, lines
from curricle.schemas.common.errors import UsageError, UserError
from hypothesis import example, given
from hypothesis import strategies as st

LIMIT = 1 << 20
MOST = 500


def records_of(path: Path, rows_per_slice: int = 1000, opener: Callable[[], Any] | None = None) -> list[Record]:
    open_ = opener or (lambda: path.open("rb"))
    result = survey(open_, path.name, rows_per_slice, LIMIT, MOST)
    records = [record for _, part in read(open_, path.name, result.slices, LIMIT) for record in part]
    assert len(records) == result.records == sum(part.records for part in result.slices)
    return records


class Stream(io.RawIOBase):
    """A stream that cannot seek and gives a few bytes at a time, as a network may."""

    def __init__(self, content: bytes) -> None:
        self.content, self.at = content, 0

    def readable(self) -> bool:
        return True

    def read(self, size: int | None = -1) -> bytes:
        size = len(self.content) if size is None or size < 0 else size
        data = self.content[self.at : self.at + min(size, 1000)]
        self.at += len(data)
        return data


@pytest.mark.parametrize("bad", CORPUS, ids=lambda bad: bad.name)
def test_bad_input_ends_as_reject_error_or_row(bad: BadInput, tmp_path: Path) -> None:
    path = bad.make(tmp_path)
    if bad.outcome == "error":
        with pytest.raises(UsageError) as error:
            survey(lambda: path.open("rb"), str(path), 10, LIMIT, MOST)
        assert bad.expect in str(error.value)
        assert error.value.where == str(path) and error.value.remedy
        return
    reasons = []
    records = records_of(path, rows_per_slice=2)
    for record in records:
        try:
            if record.reason is None:
                normalise(record.value)
                continue
            reasons.append(record.reason)
        except FormatError as refusal:
            reasons.append(str(refusal))
        assert len(record.raw) <= RAW_LIMIT
        pa.array([record.raw, reasons[-1]]).validate(full=True)
    assert len(reasons) == bad.rejected and len(records) == bad.good + bad.rejected
    assert all(bad.expect in reason for reason in reasons), reasons


def test_corpus_is_large_and_names_are_unique() -> None:
    assert len({bad.name for bad in CORPUS}) == len(CORPUS) >= 45


CONTENT: list[Any] = [
    {"prompt": f"a\n\"{i}'\\", "completion": "é😀" * (i % 7), "i": i, "x": [[], {}]} for i in range(83)
]


def written(directory: Path) -> list[Path]:
    """The same records in every kind of file."""
    text = b"".join(json.dumps(record).encode() + b"\n" for record in CONTENT)
    array = json.dumps(CONTENT, indent=1, ensure_ascii=False).encode()
    half = text.index(b"\n", len(text) // 2) - 7
    contents = {
        "a.jsonl": text,
        "a.jsonl.gz": gzip.compress(text[:half]) + gzip.compress(text[half:]),
        "a.jsonl.zst": zstandard.compress(text[:half]) + zstandard.compress(text[half:]),
        "a.jsonl.bz2": bz2.compress(text[:half]) + bz2.compress(text[half:]),
        "a.jsonl.xz": lzma.compress(text[:half]) + bytes(8) + lzma.compress(text[half:]) + bytes(4),
        "a.ndjson": text.replace(b"\n", b"\r\n"),
        "a.json": array,
        "a.json.gz": gzip.compress(array),
        "b.json": text,
    }
    for name, content in contents.items():
        (directory / name).write_bytes(content)
    flat = pa.Table.from_pylist([{k: v for k, v in record.items() if k != "x"} for record in CONTENT])
    pq.write_table(flat, directory / "a.parquet", row_group_size=20)
    return sorted(directory.iterdir())


@pytest.mark.parametrize("rows_per_slice", [1, 2, 7, 82, 83, 10_000])
def test_records_depend_on_neither_file_kind_nor_slices_nor_stream(tmp_path: Path, rows_per_slice: int) -> None:
    for path in written(tmp_path):
        data = path.read_bytes()
        expected = [{k: v for k, v in r.items() if k != "x" or path.suffix != ".parquet"} for r in CONTENT]
        for opener in (None, partial(Stream, data)):
            records = records_of(path, rows_per_slice, opener)
            assert [record.value for record in records] == expected
            assert [record.position for record in records] == list(range(len(CONTENT)))


def test_slices_may_be_left_out_and_left_early(tmp_path: Path) -> None:
    for path in written(tmp_path):
        result = survey(partial(path.open, "rb"), path.name, 10, LIMIT, MOST)
        chosen = result.slices[1::3]
        firsts = [next(part).position for _, part in read(partial(path.open, "rb"), path.name, chosen, LIMIT)]
        assert firsts == [part.position for part in chosen] == [10, 40, 70]


def test_survey_counts_bytes_and_hashes_them(tmp_path: Path) -> None:
    for path in written(tmp_path):
        result = survey(partial(path.open, "rb"), path.name, 10, LIMIT, MOST)
        assert (result.bytes, result.sha256) == (path.stat().st_size, hashlib.sha256(path.read_bytes()).hexdigest())


def test_positions_count_blank_lines(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_bytes(b'\n{"prompt": "a", "completion": "b"}\n\n \n{"prompt": "c", "completion": "d"}\n\n')
    for rows_per_slice in (1, 5):
        assert [record.position for record in records_of(path, rows_per_slice)] == [1, 4]
    result = survey(lambda: path.open("rb"), path.name, 1, LIMIT, MOST)
    assert [part[:3] for part in result.slices] == [("lines", 0, 1), ("lines", 1, 1)]


def test_file_without_records_is_in_order(tmp_path: Path) -> None:
    for name, content in {
        "a.jsonl": b"",
        "b.jsonl": b"\n \n",
        "c.json": b" [ ]\n",
        "d.jsonl.gz": gzip.compress(b""),
    }.items():
        (tmp_path / name).write_bytes(content)
        assert records_of(tmp_path / name) == []


def test_file_that_changes_after_the_survey_stops_reading(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_bytes(b'{"prompt": "a", "completion": "b"}\n' * 100)
    result = survey(lambda: path.open("rb"), path.name, 10, LIMIT, MOST)
    path.write_bytes(path.read_bytes()[:1000])
    with pytest.raises(UserError, match="has changed since the job began"):
        for _, part in read(lambda: path.open("rb"), path.name, result.slices, LIMIT):
            list(part)


def test_long_records_are_read_in_bounded_memory(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    good = b'{"prompt": "a", "completion": "b"}'
    path.write_bytes(b"[" + good + b', {"prompt": "' + b"x" * 40_000_000 + b'"}, ' + good + b"]")
    tracemalloc.start()
    records = records_of(path)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert [record.reason is None for record in records] == [True, False, True]
    assert peak < 8 * LIMIT


def test_format_is_looked_for_among_the_first_objects_only() -> None:
    good, unknown = b'{"prompt": "a", "completion": "b"}\n', b'{"title": "a"}\n'
    survey(lambda: io.BytesIO(b"nonsense\n" * 200 + unknown * 99 + good), "a.jsonl", 10, LIMIT, MOST)
    with pytest.raises(UsageError, match="no known format; found 'title'"):
        survey(lambda: io.BytesIO(unknown * 100 + good), "a.jsonl", 10, LIMIT, MOST)


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("a.jsonl", ("JSON lines", None)),
        ("gs://bucket/a.b.NDJSON.GZ", ("JSON lines", "gzip")),
        ("/x/a.json.zst", ("JSON", "zstd")),
        ("a.jsonl.bz2", ("JSON lines", "bzip2")),
        ("a.csv.xz", ("CSV", "xz")),
        ("a.tsv", ("TSV", None)),
        ("a.arrow", ("Arrow IPC", None)),
        ("a.parquet", ("Parquet", None)),
    ],
)
def test_kind_is_told_by_the_name(name: str, kind: tuple[str, str | None]) -> None:
    reader, compression = kind_of(name)
    assert (reader.name, compression) == kind


def test_parquet_values_that_json_has_not(tmp_path: Path) -> None:
    typed = next(bad for bad in CORPUS if bad.name == "Parquet with values that JSON has not")
    first, second = (record.value for record in records_of(typed.make(tmp_path)))
    assert first["blob"] == b"\xff" and first["map"] == {"k": 1}
    assert normalise(first).extra == {"blob": "/w==", "when": "1970-01-01T00:00:00+00:00", "map": {"k": 1}}
    assert normalise(second).extra == {"when": "1970-01-01T00:00:00.000001+00:00"}, "NaN and infinities are null"


def cut(text: bytes, sizes: Sequence[int]) -> list[bytes]:
    parts, at = [], 0
    for size in sizes:
        parts.append(text[at : at + size])
        at += size
    return [part for part in [*parts, text[at:]] if part]


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(st.sampled_from('"\\[]{},:é\n a')),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(st.sampled_from('"\\[]{},é')), inner),
)


@given(st.lists(JSON), st.lists(st.integers(1, 9)), st.booleans(), st.sampled_from([None, 1]))
@example([{"a": "\\"}, '"'], [1] * 30, False, None)
def test_elements_are_those_that_the_parser_finds(
    value: list[Any], sizes: list[int], ascii_only: bool, indent: int | None
) -> None:
    text = json.dumps(value, ensure_ascii=ascii_only, indent=indent).encode()
    pieces = list(elements(cut(text[1:], sizes), 1, LIMIT))
    assert [json.loads(piece.data) for piece in pieces] == value
    assert all(text[piece.start : piece.start + piece.length] == piece.data for piece in pieces)


@given(
    st.binary(max_size=60).map(lambda data: data.replace(b"\0", b"\n")), st.lists(st.integers(1, 9)), st.integers(1, 9)
)
def test_lines_are_those_between_line_feeds(text: bytes, sizes: list[int], limit: int) -> None:
    expected = text.split(b"\n")
    pieces = list(lines(cut(text, sizes), 0, limit))
    assert [piece.length for piece in pieces] == [
        len(line) for line in (expected[:-1] if not expected[-1] else expected)
    ]
    assert all(text[piece.start : piece.start + piece.length][:limit] == piece.data for piece in pieces)


def test_damage_anywhere_never_loses_a_record_or_escapes(tmp_path: Path) -> None:
    """Change bytes of whole files at random: either the survey refuses, or every record it counted is read."""
    rng = random.Random(7)
    ended: set[object] = set()
    for path in written(tmp_path):
        for _ in range(30):
            data = bytearray(path.read_bytes())
            for _ in range(rng.randint(1, 3)):
                data[rng.randrange(len(data))] = rng.choice(b'"\\[]{},\n\0\xff1a')
            try:
                ended.add(len(records_of(path, 5, partial(io.BytesIO, bytes(data)))) > 0)
            except UsageError:
                ended.add("refused")
    assert ended == {True, "refused"}


def test_slice_is_plain_data() -> None:
    part = Slice("lines", 0, 1, 0, 10, 0)
    assert Slice(*json.loads(json.dumps(part))) == part


def frame(content: bytes, log: int) -> bytes:
    """A zstd frame that names a window of 2^log bytes, and holds one block as it is."""
    return b"\x28\xb5\x2f\xfd" + bytes([0, (log - 10) << 3]) + (len(content) << 3 | 1).to_bytes(3, "little") + content


@pytest.mark.parametrize("suffix", [".jsonl.gz", ".jsonl.zst"])
def test_archives_that_other_tools_read(suffix: str, tmp_path: Path) -> None:
    """Members and frames one after another, zeros of tapes after gzip, frames of zstd that hold nothing of ours."""
    path = tmp_path / f"a{suffix}"
    line = b'{"prompt": "a", "completion": "b"}\n'
    if suffix.endswith(".gz"):
        one = gzip.compress(line)
        contents = {one * 3: 3, one + bytes(5000): 1, one + bytes(9) + one + bytes(70_000): 2}
    else:
        skipped = b"\x50\x2a\x4d\x18\x04\x00\x00\x00skip"
        one = zstandard.compress(line)
        contents = {one * 3: 3, skipped + one: 1, one + skipped + one + skipped: 2, frame(line, 27) + one: 2}
    for content, count in contents.items():
        path.write_bytes(content)
        for rows_per_slice in (1, 10):
            assert len(records_of(path, rows_per_slice, partial(Stream, content))) == count


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (frame(b"{}", 29), "a window of 536,870,912 bytes, over the limit of 134,217,728"),
        (frame(b"{}\n", 20) + frame(b"{}", 31), "a frame with a window, over the limit of 134,217,728"),
    ],
)
def test_a_window_that_is_too_large_is_named(content: bytes, message: str) -> None:
    with pytest.raises(UsageError, match="compress it again: zstd -d --long=31") as error:
        survey(lambda: io.BytesIO(content), "a.jsonl.zst", 10, LIMIT, MOST)
    assert message in str(error.value)


@pytest.mark.parametrize("end", [3, 5, 9])
def test_zeros_do_not_hide_that_an_archive_is_cut_short(end: int) -> None:
    whole = gzip.compress(b'{"prompt": "a", "completion": "b"}\n' * 50)
    for content in (whole + whole[:-end], whole[:-end], whole[:-end] + bytes(20)):
        with pytest.raises(UsageError, match="cannot be read"):
            survey(lambda content=content: io.BytesIO(content), "a.jsonl.gz", 10, LIMIT, MOST)


def test_the_position_of_what_is_no_json_is_said_once() -> None:
    assert parse(b'{"prompt": "a', 0).reason == "not JSON: Unterminated string starting at column 12"
