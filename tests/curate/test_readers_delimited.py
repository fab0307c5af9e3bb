"""CSV and TSV: whatever is in a file, every record of it is read as it was written, or has a reason."""

import csv
import io
import random

import pytest
from curricle.curate import read as read_inputs
from curricle.curate.readers import Record, named_readers, read, survey
from curricle.curate.readers.delimited import CSV, TSV
from curricle.schemas.common.errors import UsageError
from hypothesis import given
from hypothesis import strategies as st

NAMES = ("instruction", "output", "id")
TEXTS = ("plain", 'with "quotes"', "two\nlines", "two\r\nlines", "a, comma", "a\ttab", "é😀", "", '"', "\n", 'x"y')


def rows_of(count: int, seed: int = 0) -> list[tuple[str, str, str]]:
    draw = random.Random(seed)
    return [(f"{draw.choice(TEXTS)} {index}", draw.choice(TEXTS) + "x", str(index)) for index in range(count)]


def written(rows, end: str, delimiter: str) -> bytes:
    text = io.StringIO(newline="")
    csv.writer(text, delimiter=delimiter, lineterminator=end).writerows([NAMES, *rows])
    return text.getvalue().encode()


def records_of(content: bytes, rows_per_slice: int, name: str = "a.csv") -> list[Record]:
    surveyed = survey(lambda: io.BytesIO(content), name, rows_per_slice, 1 << 20, 500)
    return [record for _, part in read(lambda: io.BytesIO(content), name, surveyed.slices, 1 << 20) for record in part]


@pytest.mark.parametrize("end", ["\n", "\r\n"])
@pytest.mark.parametrize(("name", "delimiter"), [("a.csv", ","), ("a.tsv", "\t")])
@pytest.mark.parametrize("rows_per_slice", [1, 3, 1000])
def test_records_depend_on_no_border_of_a_slice(end: str, name: str, delimiter: str, rows_per_slice: int) -> None:
    rows = rows_of(40)
    content = written(rows, end, delimiter)
    for each in (content, b"\xef\xbb\xbf" + content, content.rstrip()):
        records = records_of(each, rows_per_slice, name)
        assert [record.value for record in records] == [dict(zip(NAMES, row, strict=True)) for row in rows]
        assert [record.position for record in records] == list(range(1, 41))


@given(
    st.lists(st.sampled_from([b'"', b'""', b",", b"\n", b"\r\n", b"a", "é".encode(), b"\xff"]), max_size=40).map(
        b"".join
    )
)
def test_whatever_follows_the_header_every_record_is_read_as_it_was_counted(text: bytes) -> None:
    by_slice = [records_of(b"question,answer,id\nq,a,0\n" + text, size) for size in (1, 2, 100)]
    assert by_slice[0] == by_slice[1] == by_slice[2] and by_slice[0][0].value
    for record in by_slice[0]:
        assert (record.value is None) == (record.reason is not None)


@given(
    st.lists(st.sampled_from([b'"', b",", b"\n", b"a", b"bc"]), max_size=40).map(b"".join),
    st.lists(st.integers(1, 5), max_size=20),
)
def test_records_are_cut_alike_in_chunks_of_any_size(text: bytes, sizes: list[int]) -> None:
    chunks, at = [], 0
    for size in sizes:
        chunks.append(text[at : at + size])
        at += size
    chunks = [chunk for chunk in [*chunks, text[at:]] if chunk]
    assert [*CSV.cut(chunks, 7, 1 << 20)] == [*CSV.cut([text] if text else [], 7, 1 << 20)]


@pytest.mark.parametrize(
    ("name", "line", "words"),
    [
        ("a.csv", "question;answer", "separated by ';', and those of CSV by ','"),
        ("a.csv", "question\tanswer", "name it .tsv"),
        ("a.tsv", "question,answer", "write it with '\\\\t'"),
    ],
)
def test_other_separators_are_named(name: str, line: str, words: str) -> None:
    with pytest.raises(UsageError, match=words):
        records_of(f"{line}\n{line}\n".encode(), 10, name)


def test_a_quote_in_the_middle_of_a_field_is_a_character_and_opens_nothing() -> None:
    lines = b'question\tanswer\nthe 5" disk\tyes\nsay "hi" and "bye\tno\n'
    assert [record.value for record in records_of(lines, 10, "a.tsv")] == [
        {"question": 'the 5" disk', "answer": "yes"},
        {"question": 'say "hi" and "bye', "answer": "no"},
    ]
    _, record = records_of(b'question,answer\na,b\n"hi" he said,b\n', 10)
    assert record.value is None and "not CSV: ',' expected after '\"'" in str(record.reason)
    assert record.raw == '"hi" he said,b'


def test_a_record_that_is_too_long_is_a_reject_and_the_next_one_is_read(tmp_path) -> None:
    (tmp_path / "a.csv").write_text('question,answer\na,"' + "x\n" * 1000 + '"\nc,d\n')
    examples, rejects = read_inputs(tmp_path / "a.csv", max_record_bytes=100)
    assert examples.num_rows == 1 and "2,004 bytes, more than the limit" in rejects["reason"][0].as_py()


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"question,answer\na,b,c\n", "3 fields, where the header names 2"),
        (b"question,answer\n\xff,b\n", "not CSV: invalid UTF-8 at byte 0"),
        (b'question,answer\na,"b\n', "not CSV: unexpected end of data"),
        (b"question,answer\na,b\rc,d\n", "not CSV"),
    ],
)
def test_what_is_wrong_with_a_record_is_its_reason(content: bytes, reason: str) -> None:
    (record,) = records_of(content.replace(b"\n", b"\nq,a\n", 1), 10)[1:]
    assert record.value is None and reason in str(record.reason)


def test_columns_are_named_where_no_line_does(tmp_path) -> None:
    (tmp_path / "a.tsv").write_text("Hello\tHi\nBye\tSee you\n")
    examples, rejects = read_inputs(tmp_path / "a.tsv", columns=["question", "answer"])
    assert rejects.num_rows == 0 and examples["source_position"].to_pylist() == [0, 1]
    assert [turns[1]["content"] for turns in examples["messages"].to_pylist()] == ["Hi", "See you"]
    with pytest.raises(UsageError, match="2 fields, where --columns names 3"):
        read_inputs(tmp_path / "a.tsv", columns=["question", "answer", "id"])
    with pytest.raises(UsageError, match="--columns question,answer"):
        read_inputs(tmp_path / "a.tsv")
    for columns in (["a", "a"], ["a", ""]):
        with pytest.raises(UsageError, match="--columns"):
            named_readers([], columns)
    assert named_readers([]) == () and TSV.header and not named_readers([], ["a"])[1].header  # type: ignore[attr-defined]


@pytest.mark.parametrize("header", [b"a,a\n", b'"a,b\n', b"\xff\xfea\x00\n"])
def test_a_header_that_names_no_columns_is_refused(header: bytes) -> None:
    with pytest.raises(UsageError, match="--columns"):
        records_of(header + b"a,b\n", 10)
