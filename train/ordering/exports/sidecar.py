"""``order.json`` and ``order.parquet``: which order an export is in, over which table, and what it consists of."""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from curricle.schemas.common.errors import UsageError
from curricle.schemas.contract import from_record, tagged, untagged
from curricle.schemas.sealed import seal, unsealed
from curricle.train.data.parquet import id_bytes
from curricle.train.ordering.exports.orders import ORDER_FILE
from numpy.typing import NDArray

SIDECAR = "order.json"


@dataclass(frozen=True)
class Sidecar:
    """``digest``: of the ids, step by step, as a run over them states it. ``order``: where the order is from, and its
    options. ``table``: the digest of its ids, the fingerprint of its scores, and its rows. ``request``: what decides
    the content. ``left_out``: rows, by reason, that the export does not have. ``lost``: fields of the input that the
    format has no room for, and of how many rows. ``files``: sizes and digests.
    """

    digest: str
    rows: int
    distinct: int
    steps: int
    batch: int
    order: Mapping[str, Any]
    table: Mapping[str, Any]
    request: Mapping[str, Any]
    left_out: Mapping[str, int] = field(default_factory=dict)
    lost: Mapping[str, int] = field(default_factory=dict)
    files: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    curricle: str = ""

    def to_json(self) -> dict[str, Any]:
        """As it is read back: lists for tuples, texts for paths."""
        return dict(json.loads(json.dumps(asdict(self), default=str)))

    def write(self, directory: Path) -> None:
        (directory / SIDECAR).write_bytes(seal(tagged("export", self.to_json())))


def read_sidecar(directory: Path) -> Sidecar | None:
    """What a directory says of its order; None if it says nothing. UsageError if it is not as it was written."""
    path = directory / SIDECAR
    try:
        return from_record(Sidecar, untagged("export", unsealed(path.read_bytes()), str(path)))
    except (FileNotFoundError, NotADirectoryError):
        return None
    except (ValueError, TypeError) as error:
        raise UsageError(f"not the order of an export: {error}", where=str(path), remedy="export again") from error


def read_order(directory: Path) -> tuple[pa.Table, NDArray[np.uint8]]:
    """The order of an export, in columns of a plan, and its ids, uint8 (visits, 16). UsageError if it is not there."""
    path = directory / ORDER_FILE
    try:
        order = pq.read_table(path, columns=["step", "row", "example_id"])
        return order, id_bytes(order["example_id"].combine_chunks())
    except (OSError, KeyError, pa.ArrowException) as error:
        raise UsageError(f"cannot be read: {error}", where=str(path), remedy="export again") from error
