"""The options of ``curricle score``: the flags, and the keys of its YAML file."""

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Literal

from curricle.curate.embedding.settings import EmbeddingSettings
from curricle.curate.proxy.settings import ProxySettings
from curricle.schemas.common.config import check_ranges, option
from curricle.schemas.common.errors import UsageError
from curricle.schemas.common.plugins import Group

Workers = int | Literal["auto"]
AUTO = "one a GPU (or so many as --proxy.tensor-parallel says); without GPUs one for a model, else one a core"

ENGINES = ("local", "dask", "portable", "flink", "spark", "dataflow")
ENGINE_PLUGINS: Group[Callable[..., None]] = Group(
    "curricle.engines", "engine", "a function of a Work of curricle.pipelines.engines", callable, ENGINES
)

OTHER_NAMES = {
    "batch_size": "--proxy.batch-tokens: tokens of a forward pass; no score depends on it",
    "model_name": "--proxy.model",
    "model_name_or_path": "--proxy.model",
    "tokenizer": "--proxy.model: its tokenizer counts the tokens",
    "max_seq_length": "--proxy.max-length",
    "torch_dtype": "--proxy.dtype",
    "output_dir": "--output",
    "out": "--output",
    "num_proc": "--workers",
    "num_workers": "--workers",
    "n_jobs": "--workers",
    "device": "--proxy.backend: either takes a GPU where there is one, and CUDA_VISIBLE_DEVICES says which",
    "resume": "--output: the same command goes on from what is finished",
    "force": "--overwrite",
}
"""Names that other programs have for options: see ``curricle.schemas.common.config``."""

FITTED = {
    "reuse": "--overwrite: every row is computed again, because what scores it is fitted to all rows of the table",
}
"""The same of commands that fit a model to the table: a row more changes what all have."""

DEFAULT_METRICS = ("length", "mtld", "loss", "ifd")


@dataclass(frozen=True)
class ScoreSettings:
    OTHER_NAMES = OTHER_NAMES

    inputs: tuple[str, ...] = option(
        "files, folders or globs, local or of any filesystem Beam knows", positional=True, path=True
    )
    output: str = option("directory for the table; it is created, and resumed if it is there", path=True)
    metrics: tuple[str, ...] = option(
        "what to compute; +NAME adds columns to those that a table at --output has", DEFAULT_METRICS
    )
    append: bool = option("score what is new, and keep the rows that are there, whatever became of their files", False)
    reuse: tuple[str, ...] = option(
        "finished tables: of their examples the scores are copied that are made alike", (), path=True
    )
    format: str | None = option("read every record in this format, instead of recognising it by its fields", None)
    prompt_field: str | None = option("field that holds the prompt, in data of no known format", None)
    response_field: str | None = option("field that holds the response, in data of no known format", None)
    columns: tuple[str, ...] = option("what the columns of CSV and TSV are called, if no first line says it", ())
    media: Literal["refuse", "ignore"] = option(
        "what becomes of records with images, video or sound: their text", "refuse"
    )
    bad_answers: Literal["context", "score"] = option(
        "answers that are marked as ones not to give: context, on which nothing is learnt, or scored like others",
        "context",
    )
    replies: Literal["refuse", "best", "paths"] = option(
        "trees of replies, as of OASST: refused, or read with the best-ranked reply at each turn, or as one "
        "conversation for each answer",
        "refuse",
    )
    readers: tuple[str, ...] = option("readers of other kinds of files, as ./my.py:NAME", (), path=True)
    proxy: ProxySettings = field(default_factory=ProxySettings)
    embedding: EmbeddingSettings = field(default_factory=EmbeddingSettings)
    compat: Literal["small2large"] | None = option(
        "compute the metric lp as its authors' code does, with 0 where nothing was learned", None
    )
    workers: Workers = option(
        f"worker processes here, or auto: {AUTO}. Elsewhere, the portions that a compressed file is cut into",
        1,
        at_least=1,
        at_most=4096,
    )
    engine: str = option(f"what runs the shards: {', '.join(ENGINES)}, or a plug-in", "local")
    engine_address: str | None = option("the dask scheduler, Beam job service, Flink or Spark master", None)
    dask_resources: dict[str, float] = option("dask resources that a task needs", {}, rest="dask", above=0)
    beam: dict[str, str] = option("Beam's own pipeline options", {}, rest="beam", path=True)
    shard_rows: int | None = option(
        "records in a shard, the unit of work, retry and resume; by default about a minute's work", None, at_least=1
    )
    max_record_bytes: int = option("a longer record is rejected, and never held in memory", 16 * 2**20, at_least=1)
    max_expansion: int = option("a file that unpacks to more than this many times its size is refused", 500, at_least=1)
    max_reject_fraction: float = option("with a larger share of rejects the exit code is 3", 0.1, at_least=0, at_most=1)
    source_paths: Literal["relative", "absolute"] = option(
        "what `source` says of inputs that are named by absolute paths: where they lie in the folder that all inputs "
        "have in common, or the whole path",
        "relative",
    )
    license: str | None = option("licence of the data, for manifest and card, as the hub writes it: cc-by-4.0", None)
    language: tuple[str, ...] = option("languages of the data, for manifest and card, by their codes: en,de", ())
    overwrite: bool = option("make it again where the output directory holds something else, or what is damaged", False)
    stall_limit: float = option("seconds without any progress after which the job is given up", 3600.0, above=0)
    prometheus_file: str | None = option(
        "keep the job's figures here, for Prometheus's textfile collector", None, path=True
    )
    log_format: Literal["text", "json"] = option("how log lines are written", "text")

    def __post_init__(self) -> None:
        check_ranges(self)
        if not self.output:
            raise UsageError("--output is empty", remedy="name a directory, or an address such as s3://bucket/table")
        self._check_engine()
        self._check_description()
        if not self.metrics:
            raise UsageError("--metrics names no metric", remedy="name at least one, such as length")
        if self.compat and not self.proxy.checkpoints:
            raise UsageError("--compat is for the metric lp", remedy="leave it out, or add --proxy.checkpoints")
        if self.overwrite and self.grows:
            raise UsageError(
                "--overwrite makes the table again, and --append and --metrics +NAME keep it", remedy="leave one out"
            )
        if not self.inputs:
            raise UsageError("no input is named", remedy="name files, folders or globs before the options")

    @property
    def starts_workers(self) -> bool:
        """Whether the job starts its workers itself, on this machine."""
        return self.engine == "local" or (self.engine == "dask" and not self.engine_address)

    @property
    def grows(self) -> bool:
        """Whether the table that is there stays, and rows or columns are added to it."""
        return self.append or self.adds_columns

    @property
    def adds_columns(self) -> bool:
        return any(name.startswith("+") for name in self.metrics)

    def all_metrics(self, there: Sequence[str]) -> tuple[str, ...]:
        """The metrics by name, those of the table ``there`` first if some are added to it."""
        named = [name for name in self.metrics if not name.startswith("+")]
        added = [name.removeprefix("+") for name in self.metrics if name.startswith("+")]
        return (*(named or there or DEFAULT_METRICS), *added)

    def _check_description(self) -> None:
        if self.license is not None and not (self.license.strip() and self.license.isprintable()):
            raise UsageError(f"--license is {self.license!r}", remedy="give a name, such as cc-by-4.0 or apache-2.0")
        for code in self.language:
            if not re.fullmatch(r"[a-z]{2,3}(-[A-Za-z0-9]{2,8})*", code):
                raise UsageError(f"--language has {code!r}", remedy="give codes, such as en or pt-BR")

    def _check_engine(self) -> None:
        needs_address = self.engine in ("portable", "flink", "spark")
        if needs_address and not self.engine_address:
            raise UsageError(f"--engine {self.engine} needs --engine-address", remedy="give its HOST:PORT")
        if self.engine not in ENGINES:
            ENGINE_PLUGINS.load(self.engine)
        if self.engine_address and self.engine in ("local", "dataflow"):
            raise UsageError(f"--engine {self.engine} has no --engine-address", remedy="leave it out")
        if self.workers == "auto" and not self.starts_workers:
            raise UsageError(
                "--workers auto counts what this machine has, and the workers are not started here",
                remedy="give a number, or leave it out",
            )
        if self.dask_resources and self.engine != "dask":
            raise UsageError("--dask.… needs --engine dask", remedy="leave it out, or name the engine")
        if self.beam and self.engine in ("local", "dask"):
            raise UsageError(f"--engine {self.engine} takes no --beam.…", remedy="leave it out, or name another engine")
