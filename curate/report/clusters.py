"""What a person looks at to judge clusters: how even they are, and how well apart."""

from collections.abc import Mapping
from typing import Any

import polars as pl
import pyarrow as pa
from curricle.curate.report.chart import histogram
from curricle.curate.report.distributions import distribution
from curricle.schemas.columns import ScoreColumn
from curricle.schemas.pages.page import rendered


def clusters_page(figures: Mapping[str, Any]) -> str:
    """One self-contained HTML page; ``figures`` are what stands in ``clusters.json``."""
    column = ScoreColumn("rows in a cluster", pa.int64(), "rows", "the height is clusters")
    shape = distribution(column, pl.Series(figures["sizes"]))
    shown = {name: value for name, value in figures.items() if name != "sizes"}
    return rendered(
        "curricle.curate.report", "clusters.html.j2", {"figures": shown, "histogram": histogram(shape, "h0")}
    )
