"""P9: a job with CPU metrics beside the same job at an earlier commit, one worker on one core, the same numbers."""

from pathlib import Path

import polars as pl
from harness import Comparison, Finding, Setting, Skipped, alternate
from jobs import ONE_CORE, repeated, scored
from polars.testing import assert_frame_equal
from programs import NotInstalled, earlier_curricle

COMMIT = "2bf3f74"
ROWS = 46_846
WARM_UP = 500
ROUNDS = 3  # the earlier job takes a minute
METRICS = "length,mtld"
COLUMNS = ("prompt_words", "response_words", "prompt_tokens", "response_tokens", "prompt_mtld", "response_mtld")


def measure(setting: Setting) -> list[Finding]:
    rows, path = setting.rows(ROWS), setting.path
    work, against = f"curricle score --metrics {METRICS}, {rows:,} rows, one worker on one core", f"commit {COMMIT}"
    try:
        earlier = earlier_curricle(COMMIT, setting.output)
    except NotInstalled as error:
        return [Skipped("P9", work, against, str(error))]
    sources = [repeated(setting.data, count, path) for count in (min(WARM_UP, rows), rows)]
    options = ("--metrics", METRICS)
    ours, theirs = alternate(
        scored(sources, path / "now", *options, cores=ONE_CORE),
        scored(sources, path / "earlier", *options, program=[earlier], cores=ONE_CORE),
        rounds=min(ROUNDS, setting.rounds),
    )
    assert_frame_equal(numbers(path / "now" / "1"), numbers(path / "earlier" / "1"), check_exact=True)
    note = f"{rows * len(ours) / sum(ours):,.0f} rows/s, every number the same"
    return [Comparison("P9", work, against, ours, theirs, 4, note=note)]


def numbers(table: Path) -> pl.DataFrame:
    """In input order; ids have come to depend on more than they did."""
    return pl.read_parquet(table / "data" / "*.parquet", columns=["source_position", *COLUMNS])
