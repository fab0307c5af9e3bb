"""Bad and odd input files: what each is, and how scoring it has to end.

Used at every level: reading alone, and the whole command. Each file stands alone in its job.
"""

import gzip
import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import pyarrow as pa
import pyarrow.parquet as pq
import zstandard

Outcome = Literal["reject", "error", "row"]


@dataclass(frozen=True)
class BadInput:
    """One file. ``make`` writes it into a directory and returns its path.

    reject: it gives ``good`` rows and ``rejected`` rejects, each with a reason that has ``expect`` in it.
    error: nothing is written, and the message has ``expect`` in it. row: odd, but all of it is good.
    """

    name: str
    make: Callable[[Path], Path]
    outcome: Outcome
    expect: str = ""
    good: int = 0
    rejected: int = 0


GOOD = {"prompt": "Name a colour.", "completion": "Blue."}
GOOD_LINE = json.dumps(GOOD).encode()
CORPUS: list[BadInput] = []


def _write(file: str, content: bytes) -> Callable[[Path], Path]:
    def make(directory: Path) -> Path:
        path = directory / file
        path.write_bytes(content)
        return path

    return make


def _line(name: str, bad: bytes, expect: str) -> None:
    """A bad line between two good ones."""
    content = b"\n".join([GOOD_LINE, bad, GOOD_LINE]) + b"\n"
    CORPUS.append(BadInput(name, _write("data.jsonl", content), "reject", expect, good=2, rejected=1))


def _odd(name: str, line: bytes) -> None:
    content = b"\n".join([GOOD_LINE, line]) + b"\n"
    CORPUS.append(BadInput(name, _write("data.jsonl", content), "row", good=2))


def _record(name: str, record: Any, expect: str) -> None:
    _line(name, json.dumps(record).encode(), expect)


def _error(name: str, file: str, content: bytes, expect: str) -> None:
    CORPUS.append(BadInput(name, _write(file, content), "error", expect))


def _turns(*turns: Any) -> dict[str, Any]:
    return {"messages": list(turns)}


USER = {"role": "user", "content": "Hello"}
ASSISTANT = {"role": "assistant", "content": "Hello!"}

# text that is not strict JSON
_line("not JSON", b"prompt: Name a colour.", "not JSON: Expecting value at column 1")
_line("line cut short", GOOD_LINE[:-5], "not JSON: Unterminated string")
_line("two objects in a line", GOOD_LINE + GOOD_LINE, "not JSON: Extra data")
_line("single quotes", b"{'prompt': 'a', 'completion': 'b'}", "not JSON")
_line("trailing comma", GOOD_LINE[:-1] + b",}", "not JSON")
_line("raw NUL", GOOD_LINE.replace(b"Blue", b"Bl\0ue"), "not JSON: Invalid control character")
_line("raw tab in a string", GOOD_LINE.replace(b"Blue", b"Bl\tue"), "not JSON: Invalid control character")
_line("BOM inside the file", b"\xef\xbb\xbf" + GOOD_LINE, "not JSON")
_line("invalid UTF-8", GOOD_LINE.replace(b"Blue", b"Bl\xffue"), "invalid UTF-8 at byte")
_line("Latin-1", '{"prompt": "a", "completion": "café"}'.encode("latin-1"), "invalid UTF-8 at byte")
_line("UTF-8 of a surrogate", GOOD_LINE.replace(b"Blue", b"\xed\xa0\x80"), "invalid UTF-8 at byte")
_line("NaN", b'{"prompt": "a", "completion": "b", "score": NaN}', "NaN is not JSON")
_line("Infinity", b'{"prompt": "a", "completion": "b", "score": -Infinity}', "-Infinity is not JSON")
_line("number out of range", b'{"prompt": "a", "completion": "b", "score": 1e999}', "the number 1e999 is out of range")
_line("endless number", b'{"prompt": "a", "completion": "b", "n": ' + b"9" * 9000 + b"}", "too many digits")
_line("duplicate key", b'{"prompt": "a", "prompt": "c", "completion": "b"}', "duplicate key 'prompt'")
_line("deep nesting", b'{"prompt": "a", "completion": "b", "x": ' + b"[" * 150 + b"]" * 150 + b"}", "nested more than")
_line("very deep nesting", b"[" * 100_000 + b"]" * 100_000, "nested more than")


def _long_line(directory: Path) -> Path:
    path = directory / "data.jsonl"
    with path.open("wb") as file:
        file.write(GOOD_LINE + b'\n{"prompt": "a", "completion": "')
        for _ in range(50):
            file.write(b"x" * 1_000_000)
        file.write(b'"}\n' + GOOD_LINE + b"\n")
    return path


CORPUS.append(BadInput("line of 50 MB", _long_line, "reject", "more than the limit of", good=2, rejected=1))

# JSON that is no conversation
_record("number", 7, "the record is a number, not an object")
_record("null", None, "the record is null, not an object")
_record("text", "Name a colour.", "the record is text, not an object")
_record("nested arrays", [["a", "b"]], "the record is a list, not an object")
_record("no fields", {}, "it has no fields")
_record("unknown fields", {"title": "a", "body": "b"}, "no known format; found 'title', 'body'")
_record("null prompt", {"prompt": None, "completion": "b"}, "'prompt' is null, not text")
_record("null answer", {"prompt": "a", "completion": None}, "'completion' is null, not text")
_record("number as text", {"prompt": "a", "completion": 4}, "'completion' is a number, not text")
_record("truth as text", {"prompt": "a", "completion": True}, "'completion' is true or false, not text")
_record("list as text", {"instruction": ["a"], "output": "b"}, "'instruction' is a list, not text")
_record("object as input", {"instruction": "a", "input": {"x": 1}, "output": "b"}, "'input' is an object, not text")
_record("history that is no pairs", {"instruction": "a", "output": "b", "history": ["a"]}, "'history' 0")
_line("lone surrogate", rb'{"prompt": "a", "completion": "\ud800"}', r"a lone surrogate, \ud800")
_line("lone surrogate in another field", rb'{"prompt": "a", "completion": "b", "id": "\udc00"}', "a lone surrogate")
_line("lone surrogate in a key", rb'{"prompt": "a", "completion": "b", "\ud83d": 1}', "a lone surrogate")
_record("null messages", {"messages": None}, "'messages' is null, not a list")
_record("messages as text", {"messages": "Hello"}, "'messages' is text, not a list")
_record("empty messages", _turns(), "no assistant turn")
_record("no assistant turn", _turns(USER), "no assistant turn")
_record("unknown role", _turns(USER, {"role": "narrator", "content": "a"}), "messages 1: unknown role 'narrator'")
_record("null role", _turns({"role": None, "content": "a"}), "messages 0: 'role' is null, not text")
_record("turn without role", _turns(USER, {"content": "a"}), "messages 1: no field 'role'")
_record("turn without content", _turns(USER, {"role": "assistant"}), "messages 1: no field 'content'")
_record("null content", _turns(USER, {"role": "assistant", "content": None}), "messages 1: 'content' is null, not text")
_record("content a number", _turns(USER, {"role": "assistant", "content": 4}), "'content' is a number, not text")
_record("turn a number", _turns(USER, 4), "messages 1: a number, not an object")
_record(
    "image part",
    _turns({"role": "user", "content": [{"type": "image_url", "image_url": {"url": "x"}}]}, ASSISTANT),
    "a part of type 'image_url' is not text",
)
_record(
    "tool call without a name",
    _turns(USER, {"role": "assistant", "content": None, "tool_calls": [{"function": {"arguments": "{}"}}]}),
    "no field 'name'",
)
_record("tools a number", _turns(USER, ASSISTANT) | {"tools": 3}, "'tools' is a number")
_record("unknown sender", {"conversations": [{"from": "moderator", "value": "a"}]}, "unknown role 'moderator'")
_record("text among turns", {"conversations": [{"from": "gpt", "value": "a"}, "b"]}, "conversations 1: text")
_record("number among texts", {"conversations": ["a", 1]}, "conversations 1: a number, not text")

# odd, but good
_odd("empty answer", b'{"prompt": "a", "completion": ""}')
_odd("empty prompt", b'{"prompt": "", "completion": "b"}')
_odd("null optional fields", b'{"instruction": "a", "input": null, "output": "b", "system": null, "history": null}')
_odd("other shape in another field", b'{"prompt": "a", "completion": "b", "meta": {"x": [1, null, "y"]}}')
_odd("escaped NUL", rb'{"prompt": "a", "completion": "b\u0000c"}')
_odd("surrogate pair", rb'{"prompt": "a", "completion": "\ud83d\ude00"}')
_odd("integer over 64 bits", b'{"prompt": "a", "completion": "b", "n": 123456789012345678901234567890}')
_odd("markup", b'{"prompt": "<script>alert(1)</script>", "completion": "<|im_end|>"}')
CORPUS += [
    BadInput("BOM at the start", _write("d.jsonl", b"\xef\xbb\xbf" + GOOD_LINE + b"\n"), "row", good=1),
    BadInput("CRLF", _write("d.jsonl", (GOOD_LINE + b"\r\n") * 3), "row", good=3),
    BadInput("no final line feed", _write("d.jsonl", GOOD_LINE + b"\n" + GOOD_LINE), "row", good=2),
    BadInput("blank lines", _write("d.jsonl", b"\n\n" + GOOD_LINE + b"\n \r\n" + GOOD_LINE + b"\n\n"), "row", good=2),
    BadInput("lines in a .json", _write("d.json", (GOOD_LINE + b"\n") * 2), "row", good=2),
    BadInput("BOM before an array", _write("d.json", b"\xef\xbb\xbf [" + GOOD_LINE + b"]"), "row", good=1),
    BadInput(
        "bad element of an array",
        _write("d.json", b"[" + GOOD_LINE + b", {'a': 1}, NaN, " + GOOD_LINE + b"]"),
        "reject",
        "JSON",
        good=2,
        rejected=2,
    ),
    BadInput(
        "missing comma in an array",
        _write("d.json", b"[" + GOOD_LINE + GOOD_LINE + b", " + GOOD_LINE + b"]"),
        "reject",
        "not JSON: Extra data",
        good=1,
        rejected=1,
    ),
]


# files that are spoilt as a whole
def _directory(directory: Path) -> Path:
    path = directory / "data.jsonl"
    path.mkdir()
    return path


def _vanished(directory: Path) -> Path:
    path = directory / "data.jsonl"
    path.write_bytes(GOOD_LINE)
    path.unlink()
    return path


_LINES = b"".join(json.dumps({"prompt": f"a {i * i}", "completion": f"b {i**3}"}).encode() + b"\n" for i in range(2000))
_GZ, _ZST = gzip.compress(_LINES), zstandard.compress(_LINES)
_error("gzip cut short", "d.jsonl.gz", _GZ[: len(_GZ) // 2], "ended before the end-of-stream marker")
_error("gzip without its end", "d.jsonl.gz", _GZ[:-4], "ended before the end-of-stream marker")
_error("gzip with a changed byte", "d.jsonl.gz", _GZ[:-8] + b"\0\0\0\0" + _GZ[-4:], "CRC check failed")
_error("gzip that is none", "d.jsonl.gz", _LINES, "cannot be read")
_error("gzip of 0 bytes", "d.jsonl.gz", b"", "the file has 0 bytes")
_error("zstd cut short", "d.jsonl.zst", _ZST[: len(_ZST) // 2], "Truncated compressed stream")
_error("zstd that is none", "d.jsonl.zst", _LINES, "cannot be read")
_error("gzip without its suffix", "d.jsonl", _GZ, "the file looks like .gz")
_error("UTF-16", "d.jsonl", _LINES.decode().encode("utf-16"), "no record can be read")
_error("array cut short", "d.json", b"[" + GOOD_LINE + b", " + GOOD_LINE[:-4], "the array is cut short in element 1")
_error("array not closed", "d.json", b"[" + GOOD_LINE, "the array is cut short")
_error("array and more", "d.json", b"[" + GOOD_LINE + b"] " + GOOD_LINE, "the array has ended and something follows")
_error("array with two commas", "d.json", b"[" + GOOD_LINE + b",, " + GOOD_LINE + b"]", "element 1 is empty")
_error("array with a last comma", "d.json", b"[" + GOOD_LINE + b",]", "element 1 is empty")
_error("array with a wrong bracket", "d.json", b"[" + GOOD_LINE[:-1] + b"]]", "element 0 closes what it did not open")
_error("one object over lines", "d.json", json.dumps(GOOD, indent=2).encode(), "spread over several lines")
_error("one object of lists", "d.json", b'{"prompt_list": ["a"], "other": ["b"]}', "found 'prompt_list', 'other'")
_error("array in a .jsonl", "d.jsonl", json.dumps([GOOD, GOOD], indent=2).encode(), "spread over several lines")
_error("no known field anywhere", "d.jsonl", b'{"title": "a", "body": "b"}\n' * 5, "--prompt-field")
_error("table of tabs without a header", "d.tsv", b"a\tb\nc\td\n", "with --columns")
_error("stream of Arrow that is cut short", "d.arrow", b"\xff\xff\xff\xff\x10", "the Arrow stream is cut short")
_error("Arrow that is none", "d.arrow", _LINES, "not Arrow IPC")
_error("Arrow of 0 bytes", "d.arrow", b"", "the file has 0 bytes")
_error("columns of one name", "d.csv", b"prompt,completion,prompt\na,b,c\n", "two columns are named 'prompt'")
_error("kind that is not read", "d.xlsx", b"PK", "files that end in .xlsx are not read")
_error("no suffix", "data", GOOD_LINE, "the name does not say what the file is")
_error("Parquet that is none", "d.parquet", _LINES, "not Parquet")
_error("Parquet of 0 bytes", "d.parquet", b"", "not Parquet: Parquet file size is 0 bytes")
_error("array of 0 bytes", "d.json", b"", "the file has 0 bytes")
_error("compressed Parquet", "d.parquet.gz", _GZ, "a compressed Parquet file")


def _bomb(directory: Path) -> Path:
    """One line of 70 MB in a few kilobytes."""
    path = directory / "data.jsonl.zst"
    path.write_bytes(zstandard.compress(GOOD_LINE + b"\n" + bytes(70_000_000)))
    return path


CORPUS += [
    BadInput("zstd bomb", _bomb, "error", "--max-expansion"),
    BadInput("directory with a file's name", _directory, "error", "a directory, not a file"),
    BadInput("file that vanished", _vanished, "error", "there is no such file"),
]


# Parquet
def _table(rows: int) -> pa.Table:
    return pa.table({"prompt": [f"a {i * i}" for i in range(rows)], "completion": [f"b {i**3}" for i in range(rows)]})


def _parquet(table: Callable[[], pa.Table], change: Callable[[bytes], bytes] = bytes) -> Callable[[Path], Path]:
    def make(directory: Path) -> Path:
        path = directory / "data.parquet"
        pq.write_table(table(), path, row_group_size=100)
        path.write_bytes(change(path.read_bytes()))
        return path

    return make


def _spoil_second_group(content: bytes) -> bytes:
    """The footer still describes the second row group, but its pages are something else."""
    column = pq.read_metadata(pa.BufferReader(content)).row_group(1).column(0)
    start = column.dictionary_page_offset or column.data_page_offset
    return content[:start] + b"\xff" * column.total_compressed_size + content[start + column.total_compressed_size :]


def _invalid_text() -> pa.Table:
    texts = pa.array([b"fine", b"not \xff fine", b"fine"], pa.binary()).cast(pa.binary())
    spoilt = pa.Array.from_buffers(pa.string(), 3, texts.buffers())
    return pa.table({"prompt": ["a", "b", "c"], "completion": spoilt})


def _typed() -> pa.Table:
    return pa.table(
        {
            "prompt": ["a", "b"],
            "completion": ["c", "d"],
            "score": [float("nan"), float("inf")],
            "blob": [b"\xff", None],
            "when": pa.array([0, 1], pa.timestamp("us", "UTC")),
            "map": pa.array([[("k", 1)], None], pa.map_(pa.string(), pa.int8())),
        }
    )


def _long_row() -> pa.Table:
    return pa.table({"prompt": ["a", "b"], "completion": ["c", "x" * 17_000_000], "id": ["1", "kept"]})


def _foreign_time() -> pa.Table:
    when = pa.array([None, 0], pa.timestamp("us", "Mars/Phobos"))
    return pa.table({"prompt": ["a", "b"], "completion": ["c", "d"], "when": when})


CORPUS += [
    BadInput("Parquet with a row of 17 MB", _parquet(_long_row), "reject", "more than the limit of", 1, 1),
    BadInput("Parquet with an unknown time zone where nobody looks", _parquet(_foreign_time), "row", good=2),
    BadInput("Parquet cut short", _parquet(lambda: _table(300), lambda data: data[:-40]), "error", "not Parquet"),
    BadInput(
        "Parquet with a spoilt row group",
        _parquet(lambda: _table(300), _spoil_second_group),
        "reject",
        "row group 1 cannot be read",
        good=200,
        rejected=100,
    ),
    BadInput("Parquet with invalid UTF-8", _parquet(_invalid_text), "reject", "'completion' is unreadable", 2, 1),
    BadInput(
        "Parquet with null prompts",
        _parquet(lambda: pa.table({"prompt": ["a", None], "completion": ["b", "c"]})),
        "reject",
        "'prompt' is null, not text",
        good=1,
        rejected=1,
    ),
    BadInput(
        "Parquet with two columns of one name",
        _parquet(lambda: pa.Table.from_arrays([pa.array(["a"])] * 3, ["prompt", "prompt", "completion"])),
        "error",
        "two columns are named 'prompt'",
    ),
    BadInput("Parquet with values that JSON has not", _parquet(_typed), "row", good=2),
]
