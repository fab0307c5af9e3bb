"""A file of columns, read whole before anything is said of its types: what stands in its first rows decides nothing.

CSV has no types: a column is numbers where every value that is there reads as one. ``nan``, ``NA`` and the other
spellings that programs give a missing number are missing there; in a column of texts they are texts.
"""

import csv
import io
import math
import re
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import polars as pl
from curricle.curate.readers.records import parse
from curricle.schemas.common.errors import UsageError
from curricle.schemas.fingerprint import file_sha256

BY_ID, BY_POSITION = ["example_id"], ["source", "source_position"]

_TEXTS = {"example_id", "source"}
_MISSING = {"nan", "-nan", "na", "n/a", "#n/a", "<na>", "null", "none"}
"""What pandas, R, SQL and Python write for a missing number, in any case."""

_INTEGER = re.compile(r"[+-]?(0|[1-9][0-9]*)")  # 007 is a name, not seven
_NUMBER = re.compile(r"[+-]?(([0-9]+\.?[0-9]*|\.[0-9]+)(e[+-]?[0-9]+)?|inf|infinity)", re.IGNORECASE)
_ZEROS = re.compile(r"[+-]?0[0-9]")
_BITS_64 = range(-(2**63), 2**63)
_DIGITS_64 = len(str(-(2**63)))


def read_columns(path: Path) -> tuple[pl.DataFrame, str]:
    """The columns of a file and its SHA-256. UsageError, naming the line, for what has not one meaning."""
    reader = _READERS.get(path.suffix.lower())
    if reader is None:
        raise UsageError("is of no known kind", where=str(path), remedy=f"name a file of {', '.join(_READERS)}")
    try:
        with path.open("rb") as stream:
            sha256 = file_sha256(stream)
            stream.seek(0)
            return reader(stream.read(), path), sha256
    except FileNotFoundError as error:
        remedy = f"name a table's directory, or a file of {', '.join(_READERS)}"
        raise UsageError("there is no such file", where=str(path), remedy=remedy) from error
    except (OSError, csv.Error, UnicodeDecodeError, pl.exceptions.PolarsError) as error:
        raise UsageError(f"cannot be read: {error}", where=str(path), remedy="name a whole file") from error


def _read_parquet(data: bytes, path: Path) -> pl.DataFrame:
    return pl.read_parquet(io.BytesIO(data))


def _read_csv(data: bytes, path: Path) -> pl.DataFrame:
    csv.field_size_limit(2**31 - 1)
    reader = csv.reader(io.StringIO(data.decode("utf-8-sig"), newline=""), strict=True)
    names = next(reader, None)
    if not names:
        raise UsageError("is empty", where=str(path), remedy="name a file with a line of names and lines of values")
    if len(names) == 1 and (mark := next((mark for mark in ";\t|" if mark in names[0]), None)):
        found = f"its first line has {mark!r} and no comma between the names"
        raise UsageError(found, where=str(path), remedy="write it with commas (pandas: sep=',')")
    if "" in names:
        remedy = "give it one, or leave the column out (pandas: index=False)"
        raise UsageError("a column has no name", where=str(path), remedy=remedy)
    name, times = Counter(names).most_common(1)[0]
    if times > 1:
        raise UsageError(f"has two columns {name!r}", where=str(path), remedy="rename one of them")
    rows = []
    for row in reader:
        if row and len(row) != len(names):
            found = f"line {reader.line_num} has {len(row)} values, and the first line {len(names)} names"
            raise UsageError(found, where=str(path), remedy="mend the line; a comma inside a value wants quotes")
        if row:
            rows.append(row)
    columns = zip(*rows, strict=True) if rows else [()] * len(names)
    return pl.DataFrame([_of_texts(name, column, path) for name, column in zip(names, columns, strict=True)])


def _of_texts(name: str, texts: Sequence[str], path: Path) -> pl.Series:
    if name in _TEXTS:
        return pl.Series(name, [text or None for text in texts], pl.String)
    stripped = [text.strip() for text in texts]
    values = [None if not text or text.lower() in _MISSING else text for text in stripped]
    there = [value for value in values if value is not None]
    if all(_NUMBER.fullmatch(value) and not _ZEROS.match(value) for value in there):
        return _numbers(name, [None if value is None else _number(name, value, path) for value in values], path)
    if all(value.lower() in ("true", "false") for value in there):
        return pl.Series(name, [None if value is None else value.lower() == "true" for value in values], pl.Boolean)
    return pl.Series(name, [text or None for text in texts], pl.String)


def _number(name: str, text: str, path: Path) -> int | float:
    if _INTEGER.fullmatch(text) and len(text) <= _DIGITS_64:
        return int(text)
    number = float(text)
    if _INTEGER.fullmatch(text) or (math.isinf(number) and "inf" not in text.lower()):
        raise _too_large(name, text, path)
    return number


def _numbers(name: str, values: Sequence[int | float | None], path: Path) -> pl.Series:
    """Integers where all are, and else fractions; UsageError where one would be another number there."""
    whole = [value for value in values if isinstance(value, int)]
    if large := [value for value in whole if value not in _BITS_64]:
        raise _too_large(name, str(large[0]), path)
    if whole and not any(isinstance(value, float) for value in values):
        return pl.Series(name, values, pl.Int64)
    if rounded := [value for value in whole if int(float(value)) != value]:
        found = f"column {name!r} holds fractions and {rounded[0]}, which would be rounded to {float(rounded[0]):.0f}"
        raise UsageError(found, where=str(path), remedy="write the whole numbers and the fractions as two columns")
    return pl.Series(name, [None if value is None else float(value) for value in values], pl.Float64)


def _too_large(name: str, number: str, path: Path) -> UsageError:
    found = f"column {name!r} holds {number:.40}, which has more than 64 bits"
    return UsageError(found, where=str(path), remedy="write it as a text, or with a point")


def _read_lines(data: bytes, path: Path) -> pl.DataFrame:
    rows: list[tuple[int, dict[str, Any]]] = []
    for number, line in enumerate(data.removeprefix(b"\xef\xbb\xbf").split(b"\n"), 1):
        if not line.strip():
            continue
        record = parse(line.rstrip(b"\r"), number)
        if record.reason or not isinstance(record.value, dict):
            found = f"line {number}: {record.reason or 'is no object'}"
            raise UsageError(found, where=str(path), remedy="write one JSON object in each line")
        rows.append((number, record.value))
    names = list(dict.fromkeys(name for _, row in rows for name in row))
    lines = [number for number, _ in rows]
    return pl.DataFrame([_of_values(name, [row.get(name) for _, row in rows], lines, path) for name in names])


def _of_values(name: str, values: list[Any], lines: Sequence[int], path: Path) -> pl.Series:
    first: dict[type, int] = {}  # the line in which each type is met
    for value, line in zip(values, lines, strict=True):
        if value is not None:
            first.setdefault(type(value), line)
    kinds = first.keys()
    if kinds <= {int, float}:
        return _numbers(name, values, path)
    if len(kinds) == 1 and kinds <= {str, bool}:
        return pl.Series(name, values, pl.String if kinds == {str} else pl.Boolean)
    words = {
        str: "a text",
        bool: "true or false",
        int: "a number",
        float: "a number",
        list: "a list",
        dict: "an object",
    }
    mixture = " and ".join(f"{words[kind]} (line {line})" for kind, line in first.items())
    raise UsageError(
        f"column {name!r} holds {mixture}", where=str(path), remedy="leave it out, or write plain values of one kind"
    )


_READERS: dict[str, Callable[[bytes, Path], pl.DataFrame]] = {
    ".parquet": _read_parquet,
    ".csv": _read_csv,
    ".jsonl": _read_lines,
    ".ndjson": _read_lines,
}
