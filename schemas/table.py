"""The columns of the difficulty table and of the rejects beside it (docs/design.md, "The table")."""

import json
from collections.abc import Iterable
from typing import Any

import pyarrow as pa
from curricle.schemas.columns import METADATA_KEY, ScoreColumn, read_metadata
from curricle.schemas.common.errors import UserError
from curricle.schemas.contract import CONTRACT, read_contract

ROLES = ("system", "user", "assistant", "tool")
# Parquet names the items of a list "element"; with the same name here, what is read equals what was written.
MESSAGES = pa.list_(pa.field("element", pa.struct([pa.field("role", pa.string()), pa.field("content", pa.string())])))
TEXTS = pa.list_(pa.field("element", pa.string()))


def _described(name: str, type_: pa.DataType, description: str) -> pa.Field:
    return pa.field(name, type_, metadata={METADATA_KEY: json.dumps({"description": description}).encode()})


def description(arrow: pa.Field) -> str:
    """What a column of the contract, or a score column, means."""
    return read_metadata(arrow.metadata).get("description", "")


EXAMPLE_FIELDS = (
    _described("example_id", pa.string(), "128-bit hash of the messages, and of what is input in them, 32 hex digits"),
    _described("source", pa.string(), "the file that the example came from"),
    _described("source_position", pa.int64(), "line or row number in that file, from 0"),
    _described("messages", MESSAGES, "the conversation: roles system, user, assistant and tool, in order"),
    _described("extra", pa.string(), "the input's other fields, as a JSON object; null if there are none"),
)
NOTES_FIELD = _described("notes", TEXTS, "why something is null, or worth knowing")

EXAMPLES = pa.schema(EXAMPLE_FIELDS)
REJECTS = pa.schema(
    [
        _described("source", pa.string(), "the file that the record came from"),
        _described("source_position", pa.int64(), "line or row number in that file, from 0"),
        _described("reason", pa.string(), "why the record is not in the table"),
        _described("raw", pa.string(), "the start of the record as it stood in the file"),
    ]
)


def column_of_note(note: str) -> str:
    """The column that a note of a metric is about; the beginning of a note that is about none."""
    return note.partition(": ")[0]


def table_schema(columns: Iterable[ScoreColumn], fingerprint: str) -> pa.Schema:
    """The schema of a table with these score columns, signed with the fingerprint of its scores."""
    fields = [*EXAMPLE_FIELDS, *(column.to_field() for column in columns), NOTES_FIELD]
    return pa.schema(fields, metadata=file_metadata(fingerprint))


def rejects_schema(fingerprint: str) -> pa.Schema:
    """The schema of the rejects that belong to a table with this fingerprint."""
    return REJECTS.with_metadata(file_metadata(fingerprint))


def file_metadata(fingerprint: str) -> dict[bytes, bytes]:
    signed = {"contract": CONTRACT.to_json(), "fingerprint": fingerprint}
    return {METADATA_KEY: json.dumps(signed, sort_keys=True).encode()}


def read_file_metadata(schema: pa.Schema) -> dict[str, Any]:
    """Contract and fingerprint of a file, and whatever a later version adds; an empty dict if it carries none.

    UserError if it is damaged, or for readers newer than this one.
    """
    signed = read_metadata(schema.metadata)
    try:
        read_contract(signed.get("contract"))
    except ValueError as error:
        raise UserError(str(error), remedy="copy the table again, or score again") from error
    return signed


def score_columns(schema: pa.Schema) -> dict[str, ScoreColumn]:
    """The score columns of a table by name, in order."""
    columns = (ScoreColumn.from_field(arrow) for arrow in schema)
    return {column.name: column for column in columns if column}
