"""How many bytes Arrow values stand for, told without unfolding them: a dictionary may stand for a thousandfold."""

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
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
