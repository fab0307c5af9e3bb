"""The options of ``curricle run``."""

from dataclasses import dataclass
from typing import Literal

from curricle.schemas.common.config import option


@dataclass(frozen=True)
class PipelineSettings:
    plan: str = option(
        "a YAML file: an output directory, and named steps with their options", positional=True, path=True
    )
    output: str | None = option("directory for the steps, instead of the one that the file names", None, path=True)
    dry_run: bool = option("say of each step whether it would run, and why; nothing is written", False)
    log_format: Literal["text", "json"] = option("how log lines are written", "text")
