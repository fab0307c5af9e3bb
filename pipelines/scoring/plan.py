"""The plan of a job: every input surveyed, cut into shards, before anything is scored.

The survey reads each file once. It finds what spoils a file as a whole while there is still nothing to
undo, counts the records that the ledger must account for, and makes shards a property of the input alone.
"""

import logging
import sys
from abc import abstractmethod
from array import array
from bisect import bisect_right
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from itertools import accumulate
from typing import Any, TypeVar, overload

from curricle.curate.formats import RULES, Format, ReadingRules
from curricle.curate.readers import Reader, Slice, kind_of, survey
from curricle.curate.readers.inputs import InputFile, is_remote
from curricle.pipelines.scoring.inputs import content_sha256, open_input
from curricle.pipelines.storage import THREADS, in_threads
from curricle.pipelines.tables.directory import RECEIPTS, SHARDS, OutputDirectory
from curricle.pipelines.tables.recorded import damaged_plan, read_recorded
from curricle.schemas.common.errors import UsageError, UserError
from curricle.schemas.common.log import printable
from curricle.schemas.contract import from_record
from curricle.schemas.fingerprint import LongArray
from curricle.schemas.manifest import NotRead

log = logging.getLogger("curricle")
T = TypeVar("T")


class _ByIndex(Sequence[T]):
    """A sequence that makes each element when it is asked for: a job may have very many."""

    @abstractmethod
    def _at(self, index: int) -> T:
        """The element at an index from 0."""

    @overload
    def __getitem__(self, index: int) -> T: ...
    @overload
    def __getitem__(self, index: slice) -> Sequence[T]: ...
    def __getitem__(self, index: int | slice) -> T | Sequence[T]:
        among = range(len(self))[index]
        return self._at(among) if isinstance(among, int) else [self._at(each) for each in among]


class Slices(_ByIndex[Slice]):
    """Slices of a file, in order: 80 bytes each, where the tuples are hundreds. ValueError for what are none."""

    def __init__(self, slices: Iterable[Slice]) -> None:
        self._layouts: list[str] = []
        self._numbers = array("q")
        for layout, *numbers in slices:
            self._layouts.append(sys.intern(layout))
            try:
                self._numbers.extend(numbers)
            except OverflowError as error:
                raise ValueError(f"{numbers} are no positions in a file") from error

    def __len__(self) -> int:
        return len(self._layouts)

    def _at(self, index: int) -> Slice:
        return Slice(self._layouts[index], *self._numbers[_NUMBERS * index : _NUMBERS * (index + 1)])

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Slices) and (self._layouts, self._numbers) == (other._layouts, other._numbers)


_NUMBERS = len(Slice._fields) - 1


@dataclass(frozen=True)
class PlannedSource:
    """An input file as surveyed, and the slices that it is read in.

    ``in_table``: it is not read again, for the table in the output directory has its rows (``scoring.growth``).
    ``path`` is where it lies, if that is under another name than the plan's; it is for workers, and no file has it.
    """

    file: InputFile
    sha256: str
    records: int
    slices: Sequence[Slice]
    in_table: bool = False
    path: str = field(default="", compare=False)

    def __post_init__(self) -> None:
        if not isinstance(self.slices, Slices):
            object.__setattr__(self, "slices", Slices(self.slices))


@dataclass(frozen=True, slots=True)
class Shard:
    """The unit of work, retry, resume and output: consecutive records of one file.

    ``path`` is where the file lies, if its name does not say it; workers are told, and no file is.
    """

    index: int
    source: str
    slice: Slice
    path: str = ""
    in_table: bool = False

    @property
    def opened(self) -> str:
        return self.path or self.source


class Shards(_ByIndex[Shard]):
    """The shards of a plan, in order."""

    def __init__(self, sources: Sequence[PlannedSource]) -> None:
        self._sources = sources
        self._begins = [*accumulate((len(source.slices) for source in sources), initial=0)]

    def __len__(self) -> int:
        return self._begins[-1]

    def _at(self, index: int) -> Shard:
        which = bisect_right(self._begins, index) - 1
        source = self._sources[which]
        return _shard(index, source, source.slices[index - self._begins[which]])

    def __iter__(self) -> Iterator[Shard]:
        parts = ((source, part) for source in self._sources for part in source.slices)
        return (_shard(index, source, part) for index, (source, part) in enumerate(parts))


def _shard(index: int, source: PlannedSource, part: Slice) -> Shard:
    return Shard(index, source.file.name, part, source.path or source.file.path, source.in_table)


@dataclass(frozen=True)
class ScoringPlan:
    """What a job reads and how. ``reading`` holds the options that decide what a record becomes.

    ``not_read`` is what lay in the folders that the user named and is no input. ``earlier`` is the digest of the
    manifest of the table of which rows stay, if there is one.
    """

    fingerprint: str
    identity: dict[str, Any]
    reading: dict[str, Any]
    sources: tuple[PlannedSource, ...]
    not_read: tuple[NotRead, ...] = ()
    earlier: str = ""

    @property
    def shards(self) -> Shards:
        return Shards(self.sources)

    @property
    def records(self) -> int:
        return sum(source.records for source in self.sources)

    def continues(self, other: "ScoringPlan") -> bool:
        """Whether work by the other plan is work by this one: it is the same, or has more sources at its end."""
        return replace(self, sources=self.sources[: len(other.sources)], not_read=other.not_read) == other

    def to_json(self) -> dict[str, Any]:
        value = asdict(replace(self, sources=()))
        sources = [
            asdict(replace(source, slices=())) | {"slices": LongArray.of(source.slices)} for source in self.sources
        ]
        for source in sources:
            del source["path"]
        return value | {"sources": sources}

    @classmethod
    def from_json(cls, value: dict[str, Any]) -> "ScoringPlan":
        sources = tuple(
            PlannedSource(
                from_record(InputFile, source["file"]),
                source["sha256"],
                source["records"],
                Slices(Slice(*part) for part in source["slices"]),
                source.get("in_table", False),
            )
            for source in value["sources"]
        )
        not_read = tuple(from_record(NotRead, other) for other in value.get("not_read", ()))
        earlier = value.get("earlier", "")
        return cls(value["fingerprint"], value["identity"], value["reading"], sources, not_read, earlier)


def read_plan(directory: OutputDirectory) -> ScoringPlan | None:
    """The plan that lies in a directory; None if there is none. UsageError if it is damaged, or of something else."""
    recorded = read_recorded(directory)
    return None if recorded is None else plan_of(recorded, directory)


def plan_of(recorded: dict[str, Any], directory: OutputDirectory) -> ScoringPlan:
    """What was recorded in a directory, as the plan of a scoring job. UsageError if it is that of something else."""
    if "recipe" in recorded:
        kinds = {"extends": "a table with columns that were added", "concatenates": "tables that were put together"}
        what = next((kind for key, kind in kinds.items() if key in recorded), "a selection")
        raise UsageError(
            f"holds {what}, not scores",
            where=directory.path,
            remedy="name another directory; `curricle score` adds to a table with --append and --metrics +NAME, and "
            "with --overwrite replaces it, once the scores are whole",
        )
    try:
        return ScoringPlan.from_json(recorded)
    except (UserError, ValueError, LookupError, TypeError, AttributeError) as error:
        raise damaged_plan(directory, error) from error


def pending_shards(directory: OutputDirectory, plan: ScoringPlan) -> Iterator[Shard]:
    """The shards that are not done, by the names of files alone, one at a time: a job may have very many."""
    receipts, files = set(directory.storage.names(RECEIPTS)), set(directory.storage.names(SHARDS))
    return (
        shard
        for shard in plan.shards
        if directory.receipt(shard.index) not in receipts or directory.shard(shard.index) not in files
    )


def survey_inputs(
    files: Sequence[InputFile],
    format: Format | None,
    readers: Sequence[Reader],
    shard_rows: int,
    max_record_bytes: int,
    max_expansion: int,
    share: Callable[[int], float],
    rules: ReadingRules = RULES,
) -> Iterator[PlannedSource]:
    """Survey files in order, a few at a time; UsageError names the first that cannot be read.

    ``share``: how much of a shard a record of so many bytes is.
    """

    def one(file: InputFile) -> PlannedSource:
        limits = shard_rows, max_record_bytes, max_expansion
        surveyed = survey(partial(open_input, file.path), file.path, *limits, format, readers, share, rules)
        return PlannedSource(file, surveyed.sha256, surveyed.records, surveyed.slices)

    # a file of this machine is read as fast as it is parsed; one that is not begins with round trips
    yield from in_threads(one, files, THREADS if any(is_remote(file.path) for file in files) else 4)


@dataclass(frozen=True)
class InputMatch:
    """Inputs beside those of a plan. ``there``: where each source of the plan lies now, by its name in the plan.

    ``changed`` are files that have the name of a source and other content, unless they are known to lie elsewhere.
    """

    there: dict[str, InputFile]
    new: list[InputFile]
    gone: list[PlannedSource]
    changed: list[tuple[PlannedSource, InputFile]]

    def changes(self) -> list[str]:
        """One line for each input that is not what the plan was made from."""
        gone = [f"{source.file.name}: was read then, is not among the inputs now" for source in self.gone]
        changed = [
            f"{file.name}: was changed ({source.file.bytes} bytes then, {file.bytes} now)"
            for source, file in self.changed
        ]
        return sorted([*gone, *(f"{file.name}: is new" for file in self.new), *changed])


def match_inputs(sources: Sequence[PlannedSource], files: Sequence[InputFile], readers: Sequence[Reader]) -> InputMatch:
    """Which file is which source of a plan: by content, whatever a file is called and wherever it lies.

    Under the same name and path, size and time of change decide; else (a copy, a fresh checkout) the bytes do. Of files
    of other names those are read that are as large as a source that is sought.
    """
    by_name = {file.name: file for file in files}
    there = {
        source.file.name: by_name[source.file.name]
        for source in sources
        if source.file.name in by_name and _same(source, by_name[source.file.name])
    }
    sought: dict[int, dict[str, list[PlannedSource]]] = defaultdict(lambda: defaultdict(list))
    for source in sources:
        if source.file.name not in there:
            sought[source.file.bytes][source.sha256].append(source)
    others: list[InputFile] = []
    for file in [file for file in files if file.name not in there]:
        if same := _moved(file, sought.get(file.bytes, {}), readers):
            sought[file.bytes][same.sha256].remove(same)
            there[same.file.name] = file
            log.info("%s is the input %s: its content is the same", printable(file.name), printable(same.file.name))
        else:
            others.append(file)
    left = {source.file.name: source for source in sources if source.file.name not in there}
    changed = [(left.pop(file.name), file) for file in others if _is_changed(left, file)]
    names = {file.name for _, file in changed}
    return InputMatch(there, [file for file in others if file.name not in names], [*left.values()], changed)


def _same(planned: PlannedSource, file: InputFile) -> bool:
    before = planned.file.absolute
    if planned.file == file and (before == file.absolute or not (before or file.location)):
        return True
    return planned.file.bytes == file.bytes and _sha256(file) == planned.sha256


def _is_changed(sources: Mapping[str, PlannedSource], file: InputFile) -> bool:
    """Whether it has the name of one of these, and lies where that was, if both say so, or begins with its content."""
    source = sources.get(file.name)
    if source is None:
        return False
    before, now = source.file.location, file.location
    return not (before and now and before != now) or is_longer(source, file)


def is_longer(source: PlannedSource, file: InputFile) -> bool:
    """Whether a file has all that was read of a source, and more after that."""
    size = source.file.bytes
    return file.bytes > size and _sha256(file, size) == source.sha256


def _moved(
    file: InputFile, sought: Mapping[str, Sequence[PlannedSource]], readers: Sequence[Reader]
) -> PlannedSource | None:
    """The source that a file of another name is, if it is one: of the same content, and read in the same way.

    ``sought``: sources of its size, by their digests.
    """
    kind, same = kind_of(file.name, readers), sought.get(_sha256(file), ()) if any(sought.values()) else ()
    return next((each for each in same if each.in_table or kind_of(each.file.name, readers) == kind), None)


def _sha256(file: InputFile, size: int | None = None) -> str:
    return content_sha256(file.path, file.bytes, file.modified, size)


def require_records(sources: Sequence[PlannedSource]) -> None:
    if not any(source.records for source in sources):
        raise UsageError("the inputs hold no record", remedy="name files with at least one record")
