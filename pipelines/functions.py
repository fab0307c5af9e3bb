"""A function beside each command of ``curricle``: the same options as keywords, the same refusals as exceptions.

What each option means and what it is when it is left out stands in ``curricle.pipelines.settings``, and is what
``curricle COMMAND --help`` prints. A group of options is a mapping, or an instance of its class:
``proxy={"model": "org/name", "max_length": 1024}``; a model alone is its name: ``proxy="org/name"``.

With ``workers`` above 1 a job runs in processes of its own. If one of them dies, this process ends, as the command
does, and the same call goes on from the finished shards: what must outlive that calls the command.
"""

import os
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal, TypeAlias, TypedDict, TypeVar, Unpack

from curricle.curate.embedding.settings import EmbeddingSettings
from curricle.curate.proxy.settings import ProxySettings
from curricle.curate.selection.recipe import NearDuplicatesOf, SplitOf, Take
from curricle.pipelines.settings.add import AddSettings, TableProxySettings
from curricle.pipelines.settings.cluster import ClusterSettings
from curricle.pipelines.settings.concat import ConcatSettings
from curricle.pipelines.settings.contamination import ContaminationSettings
from curricle.pipelines.settings.diff import DiffSettings
from curricle.pipelines.settings.lp import LearnerSettings, LpSettings
from curricle.pipelines.settings.push import PushSettings
from curricle.pipelines.settings.reward import HeadSettings, RewardSettings
from curricle.pipelines.settings.score import ScoreSettings, Workers
from curricle.pipelines.settings.select import SelectSettings
from curricle.pipelines.settings.transfer import TransferSettings
from curricle.schemas.common.config import build
from curricle.schemas.common.home import at_home

if TYPE_CHECKING:
    from curricle.curate.report.difference import Difference
    from curricle.curate.report.transfer import Comparison
    from curricle.pipelines.commands.push import Upload
    from curricle.pipelines.commands.run import StepResult
    from curricle.schemas.manifest import Manifest
    from curricle.schemas.verify import Verification

StrPath: TypeAlias = str | os.PathLike[str]
"""A path, or where a command takes one, an address such as ``s3://bucket/table``."""
Options: TypeAlias = Mapping[str, Any]
S = TypeVar("S")


class ScoreOptions(TypedDict, total=False):
    """Options of ``score``."""

    metrics: Sequence[str]
    append: bool
    reuse: Sequence[StrPath]
    format: str | None
    prompt_field: str | None
    response_field: str | None
    columns: Sequence[str]
    media: Literal["refuse", "ignore"]
    bad_answers: Literal["context", "score"]
    replies: Literal["refuse", "best", "paths"]
    readers: Sequence[str]
    proxy: str | ProxySettings | Options
    embedding: str | EmbeddingSettings | Options
    compat: Literal["small2large"] | None
    workers: Workers
    engine: str
    engine_address: str | None
    dask_resources: Mapping[str, float]
    beam: Mapping[str, str]
    shard_rows: int | None
    max_record_bytes: int
    max_expansion: int
    max_reject_fraction: float
    source_paths: Literal["relative", "absolute"]
    license: str | None
    language: Sequence[str]
    overwrite: bool
    stall_limit: float
    prometheus_file: StrPath | None


class SelectOptions(TypedDict, total=False):
    """Options of ``select``."""

    join: Sequence[StrPath]
    where: str | None
    distinct: bool
    near_duplicates: float | None
    near_duplicates_of: NearDuplicatesOf
    take: Take | None
    by: str | None
    count: int | None
    fraction: float | None
    part: str | None
    per: str | None
    shares: Literal["proportional", "equal"]
    temperature: float
    complement: bool
    split: Sequence[str]
    split_by: str
    split_of: SplitOf
    split_threshold: float
    split_only: str | None
    seed: int
    overwrite: bool


class SplitOptions(TypedDict, total=False):
    """Options of ``split``: what never parts, and which rows of the table are parted."""

    by: str
    of: SplitOf
    threshold: float
    join: Sequence[StrPath]
    where: str | None
    distinct: bool
    near_duplicates: float | None
    near_duplicates_of: NearDuplicatesOf
    seed: int
    overwrite: bool


class ClusterOptions(TypedDict, total=False):
    """Options of ``cluster``."""

    by: str
    k: int
    algorithm: Literal["kmeans", "minibatch"] | None
    seed: int
    leave_out: Sequence[StrPath]
    overwrite: bool


class AddOptions(TypedDict, total=False):
    """Options of ``add``."""

    reuse: Sequence[StrPath]
    proxy: str | TableProxySettings | Options
    embedding: str | EmbeddingSettings | Options
    compat: Literal["small2large"] | None
    workers: Workers
    shard_rows: int | None
    overwrite: bool


class ContaminationOptions(TypedDict, total=False):
    """Options of ``contamination``."""

    columns: Sequence[str]
    near_duplicates: float
    overwrite: bool


class LpOptions(TypedDict, total=False):
    """Options of ``lp``."""

    epochs: int
    schedule_epochs: int | None
    batch_size: int
    learning_rate: float
    seed: int
    leave_out: Sequence[StrPath]
    train: Mapping[str, str]
    proxy: str | LearnerSettings | Options
    compat: Literal["small2large"] | None
    workers: Workers
    shard_rows: int | None
    overwrite: bool


class RewardOptions(TypedDict, total=False):
    """Options of ``reward``."""

    leave_out: Sequence[StrPath]
    proxy: str | ProxySettings | Options
    reward: HeadSettings | Options
    workers: Workers
    shard_rows: int | None
    overwrite: bool


def score(inputs: StrPath | Sequence[StrPath], output: StrPath, **options: Unpack[ScoreOptions]) -> "Manifest":
    """Score files into a difficulty table in ``output``, or what is left of it, and return its manifest.

    ``inputs``: files, folders or patterns. The same call resumes, and so does the command. How many records were read,
    scored and rejected stands in ``manifest.total``.
    ``options``: those of ``curricle score --help``, with ``_`` for ``-``: ``metrics=["length"]``, ``workers=2``.
    A group of them is a mapping, ``proxy={"model": "org/name", "max_length": 1024}``, or an instance of its class; a
    model alone is its name. ``append=True`` scores what is new and keeps the rows that are there,
    ``metrics=["+mattr"]`` adds columns to them, and ``reuse=["scored"]`` copies what finished tables have.

    Raises UsageError for what is wrong before anything is written, UserError for what stops a job, and DirectoryLocked
    where another one is at work.
    """
    from curricle.pipelines.commands.score import score

    return score(_settings(ScoreSettings, "score", inputs=inputs, output=output, **options))


def select(table: StrPath, output: StrPath, **options: Unpack[SelectOptions]) -> "Manifest":
    """Select rows of a table by its columns into a table in ``output``, with a certificate, and return its manifest.

    ``options``: those of ``curricle select --help``, as for ``score``: ``take="hard", by="loss", fraction=0.1``.
    Several sets at once are ``split``'s.

    Raises UsageError where nothing is asked for or nothing is left, and as ``score`` does.
    """
    from curricle.pipelines.commands.select import select

    return select(_settings(SelectSettings, "select", table=table, output=output, **options))


def split(
    table: StrPath, output: StrPath, shares: Mapping[str, float | str], **options: Unpack[SplitOptions]
) -> "dict[str, Manifest]":
    """Part the rows of a table into sets that share no group, each a table with a certificate below ``output``.

    ``shares``: which share of the rows each set gets, by the name of its directory: ``{"train": 0.9, "judging": 0.1}``,
    or ``"1/3"``; they sum to 1. ``options``: those of ``curricle select --help``; ``by``, ``of`` and ``threshold`` are
    ``--split-by`` and so on. Returns the manifests by name.

    Raises UsageError where a set would have no row, and as ``score`` does.
    """
    from curricle.pipelines.commands.select import split

    own = {f"split_{name}": options.pop(name) for name in ("by", "of", "threshold") if name in options}  # type: ignore[misc]
    values = {"split": [f"{name}={share}" for name, share in shares.items()], **own, **options}
    return split(_settings(SelectSettings, "split", table=table, output=output, **values))


def check_selection(selection: StrPath, table: StrPath | None = None, join: Sequence[StrPath] = ()) -> list[str]:
    """Derive a selection from its certificate again, and return what is not as it says: nothing, if it is true.

    ``selection``: its directory, its certificate, or the directory of a split, whose sets are checked together.

    ``table`` and ``join``: where the table and the joined files lie now, if they were moved. UserError if there is no
    selection or no table.
    """
    from curricle.pipelines.tables.certificate import check

    settings = _settings(SelectSettings, "check_selection", check=selection, table=table, join=join)
    assert settings.check
    return check(settings.check, settings.table, settings.join)


def add(
    table: StrPath, metrics: Sequence[str], output: StrPath | None = None, **options: Unpack[AddOptions]
) -> "Manifest":
    """Add columns of more metrics to a finished table, and return its manifest: nothing that is there is scored again.

    The table with the new columns goes to ``output``. Without one it replaces the old table, which readers find until
    the new one is whole. Settings of the proxy that are left out are those with which the table was scored.
    ``options``: those of ``curricle add --help``, as for ``score``.

    Raises UsageError for a column that is there and made otherwise, and as ``score`` does.
    """
    from curricle.pipelines.commands.add import add

    return add(_settings(AddSettings, "add", table=table, metrics=metrics, output=output, **options))


def concat(
    tables: Sequence[StrPath], output: StrPath, columns: Sequence[str] = (), overwrite: bool = False
) -> "Manifest":
    """Write the rows of several tables as one table in ``output``, and return its manifest.

    ``columns``: the score columns to keep; left out, all, which all tables then have to have. Sources and positions
    stay what they are; files of one name that are different have the name of their table before it.

    Raises UsageError, which names the columns with both fingerprints, where tables are not made alike, where a record
    stands in two of them, and as ``score`` does.
    """
    from curricle.pipelines.commands.concat import concat

    values = {"tables": tables, "output": output, "columns": columns, "overwrite": overwrite}
    return concat(_settings(ConcatSettings, "concat", **values))


def diff(old: StrPath, new: StrPath, output: StrPath | None = None, columns: Sequence[str] = ()) -> "Difference":
    """Compare two tables, and return what differs: rows by ``example_id``, columns, fingerprints, the drift of metrics.

    Nothing does if ``is_empty``; ``beyond(0.1)`` asks whether a column is gone, made otherwise, or drifts by more than
    that. ``columns``: names of score columns; left out, all. ``diff.json`` and ``diff.html`` are written to ``output``,
    if it is named. Raises UserError for a damaged table, and UsageError as ``score`` does.
    """
    from curricle.pipelines.commands.diff import diff

    return diff(_settings(DiffSettings, "diff", old=old, new=new, output=output, columns=columns))


def cluster(table: StrPath, output: StrPath, **options: Unpack[ClusterOptions]) -> "Manifest":
    """Write the table with a column of cluster numbers, by k-means over its embeddings, and return its manifest.

    ``options``: those of ``curricle cluster --help``, as for ``score``. Raises UsageError for a table without vectors.
    """
    from curricle.pipelines.commands.cluster import cluster

    return cluster(_settings(ClusterSettings, "cluster", table=table, output=output, **options))


def contamination(
    table: StrPath, output: StrPath, against: StrPath | Sequence[StrPath], **options: Unpack[ContaminationOptions]
) -> "Manifest":
    """Write the table with columns that say which rows hold texts of the benchmarks ``against``; return its manifest.

    ``options``: those of ``curricle contamination --help``, as for ``score``. Raises UsageError for files that cannot
    be read.
    """
    from curricle.pipelines.commands.contamination import contamination

    files = [against] if isinstance(against, (str, os.PathLike)) else against
    return contamination(
        _settings(ContaminationSettings, "contamination", table=table, output=output, against=files, **options)
    )


def lp(table: StrPath, output: StrPath, **options: Unpack[LpOptions]) -> "Manifest":
    """Write the table with learning percentages, and return its manifest.

    The proxy is trained on it by ``curricle-train``, in a process of its own, and each epoch's checkpoint scores it.
    ``options``: those of ``curricle lp --help``, as for ``score``; for the trainer
    ``train={"device.precision": "bf16"}``.
    """
    from curricle.pipelines.commands.lp import lp

    return lp(_settings(LpSettings, "lp", table=table, output=output, **options))


def reward(table: StrPath, output: StrPath, **options: Unpack[RewardOptions]) -> "Manifest":
    """Write the table with the proxy's answers and the rewards of a model fitted on them, and return its manifest.

    ``options``: those of ``curricle reward --help``, as for ``score``.
    """
    from curricle.pipelines.commands.reward import reward

    return reward(_settings(RewardSettings, "reward", table=table, output=output, **options))


def transfer(tables: Sequence[StrPath], output: StrPath, columns: Sequence[str] = ()) -> "list[Comparison]":
    """Compare columns of tables that different models scored, and return what each pair of them has in common.

    ``columns``: names of score columns; left out, all numbers that all tables have. ``transfer.json`` and
    ``transfer.html`` are written to ``output``.
    """
    from curricle.pipelines.commands.transfer import transfer

    return transfer(_settings(TransferSettings, "transfer", tables=tables, output=output, columns=columns))


def verify(directory: StrPath) -> "Verification":
    """Recount a finished table: every record, digest, identity and column that its manifest promises.

    The table is whole if the result has no ``faults``, a list of what is wrong. Raises UserError if there is no table.
    """
    from curricle.pipelines.storage import open_storage
    from curricle.schemas.verify import verify

    return verify(open_storage(_path("verify", directory)))


def report(directory: StrPath) -> str:
    """Write the table's ``report.html``, and return its path or address. UserError if there is no whole table."""
    from curricle.pipelines.tables.directory import OutputDirectory
    from curricle.pipelines.tables.exchange import REPORT
    from curricle.pipelines.tables.reader import TableReader
    from curricle.pipelines.tables.sign import write_report

    path = _path("report", directory)
    output = OutputDirectory(path)
    TableReader(path).check_bytes()
    write_report(output)
    return output.storage.uri(REPORT)


def push(table: StrPath, repository: str, upload: bool = False, public: bool = False) -> "Upload":
    """Upload a finished table to a hub of datasets, as OWNER/NAME, and return its files and the address of the commit.

    Without ``upload`` nothing is done, and nobody asked: the result says what would be. A dataset that this makes is
    private unless ``public``. Raises UserError for a damaged table, and where the hub refuses.
    """
    from curricle.pipelines.commands.push import push

    return push(_settings(PushSettings, "push", table=table, repository=repository, upload=upload, public=public))


def run(plan: StrPath | Mapping[str, Any], output: StrPath | None = None, dry_run: bool = False) -> "list[StepResult]":
    """Make the steps of a plan that are not done, or have changed, in order, and return what became of each.

    ``plan``: a YAML file, or a mapping with the same keys: ``output`` and ``steps``, each step with its ``command`` and
    options. ``output``: a directory instead of the plan's. ``dry_run``: nothing is made; ``ran`` of each result says
    whether it would be, and ``reason`` why.

    Raises UsageError for what is wrong in the plan, before anything is made, and what the commands raise.
    """
    from curricle.pipelines.commands.run import forecast
    from curricle.pipelines.commands.run import run as make
    from curricle.pipelines.steps.plan import read_pipeline

    source = plan if isinstance(plan, Mapping) else _path("run", plan)
    read = read_pipeline(source, None if output is None else _path("run", output))
    return forecast(read) if dry_run else make(read)


def status(directory: StrPath) -> list[str]:
    """How far the job of a directory is, how fast, and who works on it, as lines. UsageError if no job is there."""
    from curricle.pipelines.commands.status import describe

    return describe(_path("status", directory))


def _path(name: str, directory: StrPath) -> str:
    return at_home(os.fspath(directory), f"pipelines.{name}")


def _settings(cls: type[S], name: str, **values: Any) -> S:
    for model in ("proxy", "embedding"):
        if isinstance(values.get(model), str):
            values[model] = {"model": values[model]}
    return build(cls, values, f"pipelines.{name}")
