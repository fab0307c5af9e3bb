"""Rows of a table that a model must not learn from, because they stand in other tables: the other sets of a split."""

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from curricle.pipelines.tables.reader import TableReader, table_path
from curricle.schemas.common.errors import UsageError
from curricle.schemas.fingerprint import digest
from numpy.typing import NDArray

log = logging.getLogger("curricle")


@dataclass(frozen=True)
class LeftOut:
    """``mask`` (rows,): which rows are left out. ``identity``: what a recipe says of them; nothing if none is."""

    mask: NDArray[np.bool_]
    identity: dict[str, Any]

    @property
    def rows(self) -> int:
        return int(self.mask.sum())

    def note(self, text: str) -> list[str | None]:
        """The text for each row that is left out, None for the others."""
        return [text if out else None for out in self.mask.tolist()]


def left_out(table: TableReader, paths: Sequence[str]) -> LeftOut:
    """The rows of the table whose ``example_id`` stands in one of these tables.

    UsageError where fewer than two rows are left to learn from.
    """
    ids = table.columns(["example_id"])["example_id"]
    mask = np.zeros(len(ids), np.bool_)
    for path in paths:
        other = TableReader(table_path(path))
        other.check_bytes()
        inside = pc.is_in(ids, value_set=other.columns(["example_id"])["example_id"]).to_numpy(zero_copy_only=False)
        line = f"{int(inside.sum()):,} of {len(ids):,} rows are not learned from: they stand in {path} as well"
        log.log(logging.INFO if inside.any() else logging.WARNING, "%s", line)
        mask |= inside
    if mask.sum() > len(mask) - 2 and mask.any():
        found = f"{len(mask) - int(mask.sum())} of {len(mask):,} rows are left to learn from"
        raise UsageError(found, where=", ".join(paths), remedy="leave out less")
    if not mask.any():
        return LeftOut(mask, {})
    distinct = sorted(pc.unique(ids.filter(pa.array(mask))).to_pylist())
    return LeftOut(mask, {"left_out": {"rows": int(mask.sum()), "ids": digest(distinct)}})
