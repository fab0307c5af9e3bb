"""One record of a file: parsed strictly, or the reason why it cannot be."""

import json
from collections.abc import Mapping
from typing import Any, NamedTuple

from curricle.curate.formats import strict
from curricle.curate.formats.values import stand_in

RAW_LIMIT = 2000
"""Characters of a record that a reject keeps."""


class Record(NamedTuple):
    """A record: its value, or, if there is a ``reason``, none.

    ``position`` is the line in a file of lines, the record in CSV and TSV (from 0; blank ones and the header are
    counted), the index in an array or object, or the row in Parquet and Arrow. Of a record that stands inside those of
    the file it is its number among all such, and ``where`` says in which of them it stands.
    """

    position: int
    value: Any
    reason: str | None = None
    source: bytes = b""
    where: str = ""

    @property
    def raw(self) -> str:
        """The record's first ``RAW_LIMIT`` characters as they stood in the file, or, for Parquet and Arrow, as JSON.

        Always valid Unicode: bytes that are not UTF-8 are written as ``\\xNN``.
        """
        if self.value is not None and not self.source:
            text = json.dumps(stand_in(self.value), ensure_ascii=False)[:RAW_LIMIT]
            return text.encode("utf-8", "backslashreplace").decode()[:RAW_LIMIT]
        return self.source[: 4 * RAW_LIMIT].decode("utf-8", "backslashreplace")[:RAW_LIMIT]


def inside(record: Record, value: Any, *steps: str, reason: str | None = None) -> Record:
    """A value that stands in a record of the file, or is made of it; ``steps`` say where in it."""
    return Record(record.position, value, reason, where=", ".join([f"record {record.position}", *steps]))


def of_program(position: int, value: Any) -> Record:
    """A record that a program hands over, with its mappings, arrays and numbers as files give them."""
    try:
        return Record(position, _plain(value))
    except RecursionError:
        return Record(position, None, "nested too deeply")


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {name: _plain(item) for name, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    if hasattr(value, "tolist"):  # of NumPy, pandas or torch: an array is a list, and its numbers are Python's
        value = value.tolist()
        return _plain(value) if isinstance(value, list) else value
    return value


def too_long(position: int, length: int, limit: int, data: bytes) -> Record:
    """The reject of a record that is over the limit on its size, of which ``data`` is the beginning."""
    return Record(position, None, f"the record has {length:,} bytes, more than the limit of {limit:,}", data)


def parse(data: bytes, position: int) -> Record:
    """The record in these bytes of JSON; whatever is wrong with them becomes its reason."""
    try:
        return Record(position, strict.loads(data.decode("utf-8")), None, data)
    except UnicodeDecodeError as error:
        reason = f"invalid UTF-8 at byte {error.start}"
    except json.JSONDecodeError as error:
        reason = f"not JSON: {error.msg.removesuffix(' at')} at column {error.pos + 1}"  # "... starting at"
    except strict.Refused as error:
        reason = str(error)
    return Record(position, None, reason, data)
