"""The plan of a job: every input surveyed, cut into shards, before anything is scored.

The survey reads each file once. It finds what spoils a file as a whole while there is still nothing to
undo, counts the records that the ledger must account for, and makes shards a property of the input alone.
"""

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from functools import partial
from typing import Any

from curricle.curate.formats import Format
from curricle.curate.readers import Reader, Slice, survey
from curricle.curate.readers.inputs import InputFile
from curricle.pipelines.scoring.inputs import open_input
from curricle.pipelines.tables.directory import RECEIPTS, SHARDS, OutputDirectory
from curricle.pipelines.tables.recorded import damaged_plan, read_recorded
from curricle.schemas.common.errors import UsageError, UserError
from curricle.schemas.contract import from_record
from curricle.schemas.fingerprint import file_sha256
from curricle.schemas.manifest import NotRead


@dataclass(frozen=True)
class PlannedSource:
    """An input file as surveyed, and the slices that it is read in."""

    file: InputFile
    sha256: str
    records: int
    slices: tuple[Slice, ...]


@dataclass(frozen=True)
class Shard:
    """The unit of work, retry, resume and output: consecutive records of one file.

    ``path`` is where the file lies, if its name does not say it; workers are told, and no file is.
    """

    index: int
    source: str
    slice: Slice
    path: str = ""

    @property
    def opened(self) -> str:
        return self.path or self.source


@dataclass(frozen=True)
class ScoringPlan:
    """What a job reads and how. ``reading`` holds the options that decide what a record becomes.

    ``not_read`` is what lay in the folders that the user named and is no input.
    """

    fingerprint: str
    identity: dict[str, Any]
    reading: dict[str, Any]
    sources: tuple[PlannedSource, ...]
    not_read: tuple[NotRead, ...] = ()

    @property
    def shards(self) -> list[Shard]:
        slices = [(source.file, part) for source in self.sources for part in source.slices]
        return [Shard(index, file.name, part, file.path) for index, (file, part) in enumerate(slices)]

    @property
    def records(self) -> int:
        return sum(source.records for source in self.sources)

    def to_json(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_json(cls, value: dict[str, Any]) -> "ScoringPlan":
        sources = tuple(
            PlannedSource(
                from_record(InputFile, source["file"]),
                source["sha256"],
                source["records"],
                tuple(Slice(*part) for part in source["slices"]),
            )
            for source in value["sources"]
        )
        not_read = tuple(from_record(NotRead, other) for other in value.get("not_read", ()))
        return cls(value["fingerprint"], value["identity"], value["reading"], sources, not_read)


def read_plan(directory: OutputDirectory) -> ScoringPlan | None:
    """The plan that lies in a directory; None if there is none. UsageError if it is damaged, or of something else."""
    recorded = read_recorded(directory)
    if recorded is None:
        return None
    if "recipe" in recorded:
        kinds = {"extends": "a table with columns that were added", "concatenates": "tables that were put together"}
        what = next((kind for key, kind in kinds.items() if key in recorded), "a selection")
        raise UsageError(
            f"holds {what}, not scores",
            where=directory.path,
            remedy="name another directory; `curricle score` with --overwrite replaces it, once the scores are whole",
        )
    try:
        return ScoringPlan.from_json(recorded)
    except (UserError, ValueError, LookupError, TypeError, AttributeError) as error:
        raise damaged_plan(directory, error) from error


def pending_shards(directory: OutputDirectory, plan: ScoringPlan) -> list[Shard]:
    """The shards that are not done, by the names of files alone: a job may have very many."""
    receipts, files = set(directory.storage.names(RECEIPTS)), set(directory.storage.names(SHARDS))
    return [
        shard
        for shard in plan.shards
        if directory.receipt(shard.index) not in receipts or directory.shard(shard.index) not in files
    ]


def survey_inputs(
    files: Sequence[InputFile],
    format: Format | None,
    readers: Sequence[Reader],
    shard_rows: int,
    max_record_bytes: int,
    max_expansion: int,
) -> Iterator[PlannedSource]:
    """Survey files in order, a few at a time; UsageError names the first that cannot be read."""

    def one(file: InputFile) -> PlannedSource:
        limits = shard_rows, max_record_bytes, max_expansion
        surveyed = survey(partial(open_input, file.path), file.path, *limits, format, readers)
        return PlannedSource(file, surveyed.sha256, surveyed.records, tuple(surveyed.slices))

    with ThreadPoolExecutor(max_workers=4) as pool:
        yield from pool.map(one, files)


def changed_inputs(plan: ScoringPlan, files: Sequence[InputFile]) -> list[str]:
    """One line for each input that is not what the plan was made from.

    Size and time of change decide; where only the time differs (a copy, a fresh checkout) the bytes do.
    """
    before = {source.file.name: source for source in plan.sources}
    now = {file.name: file for file in files}
    lines = [f"{name}: was read then, is not among the inputs now" for name in before if name not in now]
    lines += [f"{name}: is new" for name in now if name not in before]
    for name in before.keys() & now.keys():
        if not _same(before[name], now[name]):
            lines.append(f"{name}: was changed ({before[name].file.bytes} bytes then, {now[name].bytes} now)")
    if not lines and list(before) != list(now):
        lines.append("the inputs are in another order")
    return sorted(lines)


def _same(planned: PlannedSource, file: InputFile) -> bool:
    if planned.file == file:
        return True
    if planned.file.bytes != file.bytes:
        return False
    with open_input(file.path) as stream:
        return file_sha256(stream) == planned.sha256


def require_records(sources: Sequence[PlannedSource]) -> None:
    if not any(source.records for source in sources):
        raise UsageError("the inputs hold no record", remedy="name files with at least one record")
