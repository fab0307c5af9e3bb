"""The options of ``curricle cluster``."""

from dataclasses import dataclass
from typing import Literal

from curricle.schemas.common.config import check_ranges, option
from curricle.schemas.common.errors import UsageError


@dataclass(frozen=True)
class ClusterSettings:
    table: str = option("a finished table with a column of vectors", positional=True, path=True)
    output: str = option("directory for the table with the column `cluster`", path=True)
    by: str = option("the column of vectors", "embedding")
    k: int = option("how many clusters", 1000, at_least=1)
    algorithm: Literal["kmeans", "minibatch"] | None = option(
        "scikit-learn's KMeans or MiniBatchKMeans; left out: kmeans for tables of up to 100,000 rows", None
    )
    seed: int = option(
        "of the first centres, of the batches and of the sample for the silhouette", 42, at_least=0, below=2**32
    )
    leave_out: tuple[str, ...] = option(
        "tables, such as other sets of a split, or their certificates: their rows get the nearest centre and move none",
        (),
        path=True,
    )
    overwrite: bool = option("make it again where the output directory holds something else, or what is damaged", False)
    log_format: Literal["text", "json"] = option("how log lines are written", "text")

    def __post_init__(self) -> None:
        check_ranges(self)
        if not self.output:
            raise UsageError("--output is empty", remedy="name a directory for the table")
