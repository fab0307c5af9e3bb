"""The options of ``curricle cluster``."""

from dataclasses import dataclass
from typing import Literal

from schemas.config import option
from schemas.errors import UsageError


@dataclass(frozen=True)
class ClusterSettings:
    table: str = option("a finished table with a column of vectors", positional=True)
    output: str = option("directory for the table with the column `cluster`")
    by: str = option("the column of vectors", "embedding")
    k: int = option("how many clusters", 1000)
    algorithm: Literal["kmeans", "minibatch"] | None = option(
        "scikit-learn's KMeans or MiniBatchKMeans; left out: kmeans for tables of up to 100,000 rows", None
    )
    seed: int = option("of the first centres, of the batches and of the sample for the silhouette", 42)
    overwrite: bool = option("throw away something different in the output directory", False)
    log_format: Literal["text", "json"] = option("how log lines are written", "text")

    def __post_init__(self) -> None:
        if self.k < 1:
            raise UsageError(f"--k is {self.k}", remedy="give 1 or more")
        if not 0 <= self.seed < 2**32:
            raise UsageError(f"--seed is {self.seed}", remedy="give a number from 0 to 4294967295")
        if not self.output:
            raise UsageError("--output is empty", remedy="name a directory for the table")
