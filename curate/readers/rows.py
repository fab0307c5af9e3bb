"""Rows of Arrow as Python values; which of them JSON can hold is for those who read them."""

from collections.abc import Iterator, Sequence
from typing import Any

import pyarrow as pa
from curricle.curate.formats.values import Unreadable
from curricle.curate.readers.base import Slice
from curricle.curate.readers.records import RAW_LIMIT, Record, too_long
from curricle.curate.readers.sizes import row_bytes, value_bytes

NO_FORM = (ValueError, OverflowError, LookupError)
"""What pyarrow raises for a value that has no Python form."""


def bounded(batch: pa.RecordBatch, schema: pa.Schema, first: int, limit: int) -> Iterator[Record]:
    """The rows of a batch, at most ``limit`` bytes of them unfolded at once; ``first`` is the position of the first."""
    sizes = row_bytes(batch).tolist()
    for low, high in _stretches(sizes, limit):
        part = batch.slice(low, high - low)
        if sizes[low] > limit:
            yield too_long(first + low, sizes[low], limit, _short_columns(part, schema))
            continue
        for position, row in enumerate(rows_of(part, schema), first + low):
            yield Record(position, row)


def _short_columns(row: pa.RecordBatch, schema: pa.Schema) -> bytes:
    """What can be shown of one row that is too long."""
    short = [index for index, column in enumerate(row.columns) if value_bytes(column)[0] <= RAW_LIMIT]
    return Record(0, next(rows_of(row.select(short), schema))).raw.encode() if short else b""


def until(records: Iterator[Record], part: Slice) -> Iterator[Record]:
    """The slice's rows; rows that were left of the slice before are passed over."""
    for record in records:
        if record.position >= part.start:
            yield record
        if record.position == part.stop - 1:
            return


def rows_of(batch: pa.RecordBatch, schema: pa.Schema) -> Iterator[dict[str, Any]]:
    """The rows as Python has them, maps as objects; ``schema`` has the types of the columns, without dictionaries.

    What has no form in Python, as a map with two equal keys, is ``Unreadable``: a column that nobody needs must not
    decide over its row.
    """
    try:
        columns = [_values(batch, schema, name) for name in batch.schema.names]
    except NO_FORM:  # one value that has no Python form spoils the batch: each is looked at alone
        if batch.num_rows > 1:
            for row in range(batch.num_rows):
                yield from rows_of(batch.slice(row, 1), schema)
            return
        columns = [_value(batch, schema, name) for name in batch.schema.names]
    for values in zip(*columns, strict=True):
        yield dict(zip(batch.schema.names, values, strict=True))


def _values(batch: pa.RecordBatch, schema: pa.Schema, name: str) -> list[Any]:
    """A column's values. Raises one of ``NO_FORM``, for two equal keys of a map too."""
    return _as(schema.field(name).type, batch[name]).to_pylist(maps_as_pydicts="strict")


def _value(row: pa.RecordBatch, schema: pa.Schema, name: str) -> list[Any]:
    try:
        return _values(row, schema, name)
    except NO_FORM as error:
        return [Unreadable(str(error.args[0] if isinstance(error, KeyError) else error))]


def without_dictionaries(schema: pa.Schema) -> pa.Schema:
    """The same columns with the types of their values, where those are held as dictionaries."""
    kinds = (field.type for field in schema)
    plain = [kind.value_type if pa.types.is_dictionary(kind) else kind for kind in kinds]
    return pa.schema([field.with_type(kind) for field, kind in zip(schema, plain, strict=True)])


def _stretches(sizes: Sequence[int], limit: int) -> Iterator[tuple[int, int]]:
    """Half-open ranges of rows that have at most ``limit`` bytes together; a row that has more is alone."""
    start = held = 0
    for row, size in enumerate(sizes):
        if row > start and held + size > limit:
            yield start, row
            start, held = row, 0
        held += size
    yield start, len(sizes)


def _as(kind: pa.DataType, array: pa.Array) -> pa.Array:
    """The values as their own type, of which Arrow makes Python's many times faster than of dictionaries."""
    try:
        cast = array.cast(kind)
        cast.validate()  # columns of nothing but null inside lists come out too short
        return cast
    except (pa.ArrowNotImplementedError, pa.ArrowInvalid):  # the values in the dictionary are the same
        return array
