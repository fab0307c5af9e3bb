"""The options of ``curricle add``: those of the metrics, which default to how the table was scored."""

from dataclasses import dataclass, field, fields
from typing import Any, Literal

from curricle.curate.embedding.settings import EmbeddingSettings
from curricle.curate.proxy.settings import GenerationSettings, ProxySettings
from curricle.pipelines.settings.score import AUTO, OTHER_NAMES, Workers
from curricle.schemas.common.config import check_ranges, option
from curricle.schemas.common.errors import UsageError


def _proxy_option(name: str) -> dict[str, Any]:
    """Help and bounds of an option of the proxy."""
    return next(dict(item.metadata) for item in fields(ProxySettings) if item.name == name)


def _as_scored(name: str) -> Any:
    """An option of the proxy that has no default of its own here."""
    about = _proxy_option(name)
    return option(f"{about.pop('help')}; left out: as the table was scored", None, **about)


@dataclass(frozen=True)
class TableProxySettings:
    """``ProxySettings`` in which None is what the table was scored with, or the default where it was with none."""

    model: str | None = option(
        "the proxy, as for `curricle score`; left out: the default, which has to be the one that scored the table",
        None,
        path=True,
    )
    backend: Literal["transformers", "vllm"] | None = _as_scored("backend")
    checkpoints: tuple[str, ...] = option("checkpoints, as for `curricle score`: adds the metric lp", (), path=True)
    template: Literal["chat", "alpaca", "plain"] | None = _as_scored("template")
    end_of_turn: Literal["yes", "no"] | None = _as_scored("end_of_turn")
    max_length: int | None = _as_scored("max_length")
    dtype: Literal["float32", "bfloat16", "float16"] | None = _as_scored("dtype")
    batch_tokens: int | None = option(default=None, **_proxy_option("batch_tokens"))
    tensor_parallel: int = option(default=1, **_proxy_option("tensor_parallel"))
    generation: GenerationSettings = field(default_factory=GenerationSettings)


@dataclass(frozen=True)
class AddSettings:
    OTHER_NAMES = OTHER_NAMES

    table: str = option("a finished table, which is not scored again", positional=True, path=True)
    metrics: tuple[str, ...] = option("what to add; what is there already and made alike is left as it is")
    output: str | None = option(
        "directory for the table with the new columns; left out, or the table's own: over itself, where readers find "
        "the old table until the new one is whole",
        None,
        path=True,
    )
    reuse: tuple[str, ...] = option(
        "finished tables: the new columns are copied for each example that one of them has, where they are made alike",
        (),
        path=True,
    )
    proxy: TableProxySettings = field(default_factory=TableProxySettings)
    embedding: EmbeddingSettings = field(default_factory=EmbeddingSettings)
    compat: Literal["small2large"] | None = option(
        "compute the metric lp as its authors' code does, with 0 where nothing was learned", None
    )
    workers: Workers = option(f"worker processes here, or auto: {AUTO}", 1, at_least=1, at_most=4096)
    shard_rows: int | None = option(
        "rows in a shard, the unit of work, retry and resume; by default about a minute's work", None, at_least=1
    )
    overwrite: bool = option("make it again where the output directory holds something else, or what is damaged", False)
    log_format: Literal["text", "json"] = option("how log lines are written", "text")

    def __post_init__(self) -> None:
        check_ranges(self)
        if not self.metrics:
            raise UsageError("--metrics names no metric", remedy="name at least one, such as mattr")
        if self.compat and not self.proxy.checkpoints:
            raise UsageError("--compat is for the metric lp", remedy="leave it out, or add --proxy.checkpoints")
