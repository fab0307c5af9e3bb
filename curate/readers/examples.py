"""From records to examples, in Arrow: every record ends as a row of one table or of the other."""

import json
from collections.abc import Iterable, Sequence
from itertools import accumulate
from typing import Any, NamedTuple

import pyarrow as pa
from curricle.curate.formats import RULES, Conversation, Format, FormatError, ReadingRules, normalise
from curricle.curate.readers.records import Record
from curricle.schemas.fingerprint import example_id
from curricle.schemas.table import EXAMPLES, MESSAGES, NOTES_FIELD, REJECTS

_EXTRA = json.JSONEncoder(ensure_ascii=False, allow_nan=False)

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
    positions: list[int] = []
    conversations: list[Conversation] = []
    rejects: list[tuple[Any, ...]] = []
    notes: list[Note] = []
    for record in records:
        conversation = _conversation(record, source, format, rules)
        if isinstance(conversation, str):
            reason = f"{conversation} ({record.where})" if record.where else conversation
            rejects.append((source, record.position, reason, record.raw))
        else:
            notes += [(len(positions), note) for note in conversation.notes]
            positions.append(record.position)
            conversations.append(conversation)
    return Normalised(_examples(source, positions, conversations), _table(rejects, REJECTS), tuple(notes))


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


def _examples(source: str, positions: Sequence[int], conversations: Sequence[Conversation]) -> pa.Table:
    turns = [turn for each in conversations for turn in each.messages]
    ends = accumulate((len(each.messages) for each in conversations), initial=0)
    role, content = (pa.array([turn[side] for turn in turns], pa.string()) for side in (0, 1))
    columns = {
        "example_id": pa.array([example_id(each.messages, each.extra) for each in conversations], pa.string()),
        "source": pa.repeat(pa.scalar(source, pa.string()), len(positions)),
        "source_position": pa.array(positions, pa.int64()),
        "messages": pa.ListArray.from_arrays(
            pa.array(ends, pa.int32()),
            pa.StructArray.from_arrays([role, content], fields=[*MESSAGES.value_type]),
            MESSAGES,
        ),
        "extra": pa.array([_EXTRA.encode(each.extra) if each.extra else None for each in conversations], pa.string()),
    }
    return pa.table([columns[name] for name in EXAMPLES.names], schema=EXAMPLES)


def _table(rows: Sequence[tuple[Any, ...]], schema: pa.Schema) -> pa.Table:
    columns = zip(*rows, strict=True) if rows else [()] * len(schema)
    arrays = [pa.array(values, field.type) for values, field in zip(columns, schema, strict=True)]
    return pa.Table.from_arrays(arrays, schema=schema)
