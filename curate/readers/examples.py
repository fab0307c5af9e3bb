"""From records to examples, in Arrow: every record ends as a row of one table or of the other."""

import json
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

import pyarrow as pa
from curricle.curate.formats import RULES, Conversation, Format, FormatError, ReadingRules, normalise
from curricle.curate.readers.records import Record
from curricle.schemas.fingerprint import example_id
from curricle.schemas.table import EXAMPLES, NOTES_FIELD, REJECTS

Note = tuple[int, str]
"""A row, and what is worth knowing of it."""


class Normalised(NamedTuple):
    """Examples (``schemas.table.EXAMPLES``), what was rejected (``REJECTS``), and the notes of reading in row order."""

    examples: pa.Table
    rejects: pa.Table
    notes: tuple[Note, ...]


def normalise_records(
    records: Iterable[Record], source: str, format: Format | None, rules: ReadingRules = RULES
) -> Normalised:
    """Read each record as ``format``, or as what it looks like. ``source`` is the name of their file."""
    examples: list[tuple[Any, ...]] = []
    rejects: list[tuple[Any, ...]] = []
    notes: list[Note] = []
    for record in records:
        conversation = _conversation(record, source, format, rules)
        if isinstance(conversation, str):
            rejects.append((source, record.position, conversation, record.raw))
        else:
            notes += [(len(examples), note) for note in conversation.notes]
            examples.append(_example(source, record.position, conversation))
    return Normalised(_table(examples, EXAMPLES), _table(rejects, REJECTS), tuple(notes))


def notes_column(notes: Iterable[Note], rows: int) -> pa.Array:
    """The column ``notes``: the texts of each row, null where there are none."""
    texts: list[list[str] | None] = [None] * rows
    for row, text in notes:
        texts[row] = [*(texts[row] or []), text]
    return pa.array(texts, NOTES_FIELD.type)


def _conversation(record: Record, source: str, format: Format | None, rules: ReadingRules) -> Conversation | str:
    """The conversation, or the reason why there is none."""
    if record.reason is not None:
        return record.reason
    try:
        return normalise(record.value, format, rules)
    except FormatError as error:
        return str(error)
    except RecursionError:  # text inside a record may hold JSON of its own, deeper than the record's limit
        return "nested too deeply"
    except Exception:
        if format is None or format.origin is None:
            raise
        with format.origin.blamed(f"{source} position {record.position}"):
            raise


def _example(source: str, position: int, conversation: Conversation) -> tuple[Any, ...]:
    extra = json.dumps(conversation.extra, ensure_ascii=False, allow_nan=False) if conversation.extra else None
    turns = [{"role": role, "content": content} for role, content in conversation.messages]
    return example_id(conversation.messages, conversation.extra), source, position, turns, extra


def _table(rows: Sequence[tuple[Any, ...]], schema: pa.Schema) -> pa.Table:
    columns = zip(*rows, strict=True) if rows else [()] * len(schema)
    arrays = [pa.array(values, field.type) for values, field in zip(columns, schema, strict=True)]
    return pa.Table.from_arrays(arrays, schema=schema)
