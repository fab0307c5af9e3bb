"""Rows of Arrow: how large they are, and as Python values; which of them JSON can hold is for those who read them.

Bytes are counted without unfolding anything: a dictionary may stand for a thousandfold.
"""

from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from curricle.curate.formats.values import Unreadable
from curricle.curate.readers.base import Slice
from curricle.curate.readers.records import RAW_LIMIT, Record, too_long
from curricle.schemas.common.errors import UsageError
from numpy.typing import NDArray
from pyarrow import types

VALUE_BYTES = 8
"""What a value counts beside its text: nulls and numbers that were packed away still have to be held."""

Sizes = NDArray[np.int64]


def row_bytes(batch: pa.RecordBatch) -> Sizes:
    """Bytes of each row: the text and bytes in it, and ``VALUE_BYTES`` for every value. int64 (rows,)

    Raises ArrowInvalid for a dictionary that is damaged, and not safe to unfold.
    """
    return sum((value_bytes(column) for column in batch.columns), np.zeros(batch.num_rows, np.int64))


def value_bytes(array: pa.Array) -> Sizes:
    """The same of each value of one column."""
    kind = array.type
    if isinstance(array, pa.ExtensionArray):
        return value_bytes(array.storage)
    if types.is_dictionary(kind):
        count = len(array.dictionary)
        numbers = _numbers(array.indices.drop_null())
        if len(numbers) and not 0 <= numbers.min() <= numbers.max() < count:
            raise pa.ArrowInvalid("an index is not in its dictionary")  # Arrow takes them from the file as they are
        return np.append(value_bytes(array.dictionary), VALUE_BYTES)[_numbers(array.indices.fill_null(count))]
    if types.is_string_view(kind) or types.is_binary_view(kind):
        return value_bytes(array.cast(pa.large_string() if types.is_string_view(kind) else pa.large_binary()))
    if types.is_struct(kind):
        return sum((value_bytes(child) for child in array.flatten()), np.full(len(array), VALUE_BYTES))
    if types.is_map(kind):
        return _of_lists(array, [array.keys, array.items])
    if types.is_list(kind) or types.is_large_list(kind):
        return _of_lists(array, [array.values])
    if types.is_fixed_size_list(kind):
        width = kind.list_size
        inside = value_bytes(array.values.slice(array.offset * width, len(array) * width))
        return inside.reshape(len(array), width).sum(axis=1) + VALUE_BYTES
    if types.is_fixed_size_binary(kind):
        return np.full(len(array), VALUE_BYTES + kind.byte_width)
    try:
        return _numbers(pc.binary_length(array).fill_null(0)) + VALUE_BYTES
    except pa.ArrowNotImplementedError:  # neither text nor bytes
        return np.full(len(array), VALUE_BYTES)


def _of_lists(array: pa.Array, children: list[pa.Array]) -> Sizes:
    offsets = _numbers(array.offsets)
    low, high = int(offsets[0]), int(offsets[-1])
    inside = sum((value_bytes(child.slice(low, high - low)) for child in children), np.zeros(high - low, np.int64))
    return np.diff(np.append(0, np.cumsum(inside))[offsets - low]) + VALUE_BYTES


def _numbers(array: pa.Array) -> Sizes:
    return array.to_numpy(zero_copy_only=False).astype(np.int64)


NO_FORM = (ValueError, OverflowError, LookupError)
"""What pyarrow raises for a value that has no Python form."""


def check_names(schema: pa.Schema, name: str) -> None:
    """UsageError if two columns of the file ``name`` have one name."""
    commonest = Counter(schema.names).most_common(1)
    if commonest and commonest[0][1] > 1:
        raise UsageError(f"two columns are named {commonest[0][0]!r}", where=name, remedy="rename one of them")


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
