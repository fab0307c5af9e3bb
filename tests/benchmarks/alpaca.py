"""Alpaca rows for the benchmarks, as the pipeline reads them."""

import json
from collections.abc import Iterable, Iterator
from itertools import islice
from pathlib import Path

import pyarrow as pa
from curricle.curate.formats import normalise
from curricle.schemas.fingerprint import example_id
from curricle.schemas.table import EXAMPLES

FILE = Path("alpaca", "alpaca_46k.jsonl")


def records(data: Path) -> Iterator[dict]:
    """Those that have an answer, in the order of the file."""
    with (data / FILE).open(encoding="utf-8") as lines:
        yield from (record for record in map(json.loads, lines) if record["output"].strip())


def first(data: Path, rows: int) -> pa.Table:
    """A table of the first rows that have an answer."""
    return table_of(islice(records(data), rows))


def table_of(records: Iterable[dict]) -> pa.Table:
    return pa.Table.from_pylist([_example(*item) for item in enumerate(records)], EXAMPLES)


def _example(index: int, record: dict) -> dict:
    result = normalise(record)
    return {
        "example_id": example_id(result.messages),
        "source": "alpaca",
        "source_position": index,
        "messages": [{"role": role, "content": content} for role, content in result.messages],
        "extra": json.dumps(result.extra, ensure_ascii=False) if result.extra else None,
    }
