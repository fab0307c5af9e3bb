"""Which rows an order visits how often, and what those say that it never visits."""

from collections import Counter
from dataclasses import dataclass

import numpy as np
from curricle.schemas.pages.excerpts import ShownExample
from curricle.train.data.table import Table
from numpy.typing import NDArray

SHOWN = 20
"""Rows that were never visited, of which a page shows the text."""


@dataclass(frozen=True)
class Exposure:
    """``times[k]`` rows were visited k times. ``never`` are the first of those that were not, out of ``times[0]``."""

    times: dict[int, int]
    never: list[ShownExample]

    @classmethod
    def of(cls, visits: NDArray[np.int64], table: Table) -> "Exposure":
        """``visits``: of each row of the table."""
        rows = np.flatnonzero(visits == 0)[:SHOWN]
        texts = (
            [example.messages for example in table.examples(rows)] if "messages" in table.columns else [[]] * len(rows)
        )
        never = [
            ShownExample.of({"example_id": table.ids[row].tobytes().hex(), "messages": messages})
            for row, messages in zip(rows, texts, strict=True)
        ]
        return cls(dict(sorted(Counter(visits.tolist()).items())), never)
