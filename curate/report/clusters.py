"""What a person looks at to judge clusters: how even they are, how well apart, and what is in them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import polars as pl
import pyarrow as pa
from curricle.curate.report.chart import histogram
from curricle.curate.report.distributions import distribution
from curricle.schemas.columns import ScoreColumn
from curricle.schemas.pages.excerpts import ShownExample
from curricle.schemas.pages.page import rendered

MANY = 30
"""Clusters from which on a histogram of their sizes says more than the list."""


@dataclass(frozen=True)
class ShownCluster:
    """One of the clusters: its number, its rows, the words that set it apart, and the rows nearest to its centre."""

    number: int
    rows: int
    words: Sequence[str]
    examples: Sequence[ShownExample]


def clusters_page(figures: Mapping[str, Any], shown: Sequence[ShownCluster]) -> str:
    """One self-contained HTML page; ``figures`` are what stands in ``clusters.json``, ``shown`` the largest."""
    column = ScoreColumn("rows in a cluster", pa.int64(), "rows", "the height is clusters")
    sizes = distribution(column, pl.Series(figures["sizes"]))
    page = {
        "figures": {name: value for name, value in figures.items() if name not in ("sizes", "about")},
        "shown": shown,
        "histogram": histogram(sizes, "h0") if figures["clusters"] > MANY else None,
    }
    return rendered("curricle.curate.report", "clusters.html.j2", page)
