"""The options of ``curricle diff``."""

from dataclasses import dataclass

from curricle.schemas.common.config import check_ranges, option


@dataclass(frozen=True)
class DiffSettings:
    old: str = option("a finished table", positional=True, path=True)
    new: str = option("another one, such as that of a day later", positional=True, path=True)
    output: str | None = option("directory for diff.json and diff.html, a page with pictures", None, path=True)
    columns: tuple[str, ...] = option("score columns to compare; left out: all", ())
    max_drift: float | None = option(
        "rows may come and go, and columns may come: the exit code is 6 only where a column is gone or made otherwise, "
        "drifts by more than this, from 0 to 1, or orders the same rows so much otherwise (1 less Spearman's rho)",
        None,
        at_least=0,
        at_most=1,
    )

    def __post_init__(self) -> None:
        check_ranges(self)
