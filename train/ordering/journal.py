"""The journal of a run: its decisions and stages, one JSON object a line, on disk before anything follows from them.

The first line says what defines the order: table, curriculum, options, seed, batch size and budget. Decisions, stages
and the outcomes that stages ask for, 8 bytes a row, follow as they come, and larger budgets that the run was extended
to. The rows themselves are not repeated: the curriculum derives them again from decisions and outcomes, and the digests
prove that it did. There are no times in it, so that two runs of one order have the same journal, byte for byte. Every
line tells whether it is as it was written.
"""

import base64
import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
from curricle.schemas.common.disk import sync
from curricle.schemas.common.errors import UsageError
from curricle.schemas.contract import from_record, known_keys, tagged, untagged
from curricle.schemas.fingerprint import canonical_json, differences
from curricle.schemas.sealed import lines_of, sealed, unsealed
from curricle.train.curricula import build, completed
from curricle.train.curricula.base import Decision, Outcome, Stage, rows_digest
from curricle.train.ordering.batches import Budget
from numpy.typing import NDArray

JOURNAL = "journal.jsonl"


@dataclass(frozen=True)
class Header:
    """What defines an order: the first line of a journal. ``table`` is ``Table.digest``.

    ``plugin`` says where a curriculum of others is from: its distribution and version, or the digest of its file.
    """

    table: str
    fingerprint: str | None
    curriculum: str
    options: Mapping[str, Any]
    seed: int
    batch: int
    budget: Mapping[str, int | None]
    plugin: Mapping[str, str] = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        """The header with every option of the curriculum, defaults among them."""
        return _as_json(replace(self, options=asdict(build(self.curriculum, self.options))))

    def differences(self, recorded: "Header") -> list[str]:
        """What this order has otherwise than a recorded one, a line for each. Only the curriculum of this one runs."""
        same = (recorded.curriculum, recorded.plugin) == (self.curriculum, self.plugin)
        return differences(recorded.to_json() if same else _as_json(recorded), self.to_json())


def _as_json(header: Header) -> dict[str, Any]:
    fields: dict[str, Any] = json.loads(canonical_json(asdict(header)))
    return fields if header.plugin else {name: value for name, value in fields.items() if name != "plugin"}


@dataclass(frozen=True)
class StageRecord:
    """A stage as it stands in the journal: how many rows, the digest that proves which, and weights of a mixture."""

    index: int
    choice: str | None
    competence: Mapping[str, float]
    rows: int
    digest: str
    weights: Mapping[str, float] = field(default_factory=dict)

    @classmethod
    def of(cls, stage: Stage) -> "StageRecord":
        competence, weights = dict(stage.competence), dict(stage.weights)
        return cls(stage.index, stage.choice, competence, len(stage.rows), rows_digest(stage.rows), weights)


@dataclass(frozen=True)
class Extension:
    """A larger budget, which a run went on with from here."""

    budget: Mapping[str, int | None]


JournalEntry: TypeAlias = Decision | StageRecord | Outcome


@dataclass
class Journal:
    """An open journal: the records that were in it, and where further ones go (nowhere if ``path`` is None).

    ``extensions``: larger budgets that the run was given later, one after another.
    """

    header: Header
    records: list[JournalEntry] = field(default_factory=list)
    path: Path | None = None
    extensions: list[Extension] = field(default_factory=list)

    @property
    def budgets(self) -> list[Budget]:
        """The budget that the order began with, and those that it was extended to; see ``Cutter``."""
        return _budgets(self.header, self.extensions)

    def append(self, record: JournalEntry) -> None:
        """Add a record; it is on disk when this returns."""
        self.records.append(record)
        if self.path is not None:
            _append(self.path, sealed(_to_line(record)))


@dataclass(frozen=True)
class Recording:
    """What a file holds of a journal: its first line, None where there is none; its records; and in how many bytes they
    lie, without a line that a kill cut short."""

    path: Path
    header: Header | None
    records: list[JournalEntry]
    extensions: list[Extension]
    size: int

    @property
    def budgets(self) -> list[Budget]:
        """As those of ``Journal``; none where there is no header."""
        return _budgets(self.header, self.extensions) if self.header else []

    def extended(self, budget: Budget) -> list[Budget]:
        """The budgets of the order if it is to end with this one."""
        return [*self.budgets, *([] if self.budgets[-1:] == [budget] else [budget])]

    def check(self, header: Header) -> None:
        """UsageError, with the differences, if it is of another order. The budget of the same order may be larger."""
        if self.header is None:
            return
        begun, last, budget = _completed(self.header), self.budgets[-1], Budget(**header.budget)
        begun = replace(begun, budget=header.budget if budget.extends(last) else asdict(last))
        if changed := header.differences(begun):
            raise UsageError(
                "the run was started with another order:\n  " + "\n  ".join(changed),
                where=str(self.path),
                remedy="run the same command as before, or choose another output directory; of a run that is there, "
                "the limits of its budget may be raised",
            )

    def current(self) -> "Recording":
        """What the file holds now: another process may have written to it. Lines are only ever added."""
        size = self.path.stat().st_size if self.path.exists() else 0
        return self if size == self.size else read_recording(self.path)


def as_begun(header: Header, recording: Recording) -> Header:
    """The order of a run that is to be started, or gone on with: where an earlier version began it, with fewer options
    than there are today, what nobody gives is as it was then.
    """
    begun = recording.header
    if begun is None or begun.curriculum != header.curriculum or _completed(begun) == begun:
        return header
    return replace(header, options={**_completed(begun).options, **header.options})


def read_journal(path: str | Path) -> Journal:
    """A journal as it was recorded, for reading; UsageError if there is none or it cannot be trusted."""
    recording = read_recording(path)
    if recording.header is None:
        raise UsageError("the journal is absent or empty", where=str(path), remedy="name the journal.jsonl of a run")
    return Journal(_completed(recording.header), recording.records, extensions=recording.extensions)


def open_journal(
    path: str | Path,
    header: Header,
    write: bool = True,
    recording: Recording | None = None,
    budgets: Sequence[Budget] = (),
) -> Journal:
    """Start a journal, or open the one that is there to go on with it. A line that a kill cut short is dropped.

    With ``write=False`` (every process but the first) nothing on disk changes. ``recording``: what was read of it
    before. ``budgets``: all that the order has, where it is more than one; those that are new are added.
    UsageError, with the differences, if the journal there is of another order.
    """
    path = Path(path)
    recording = recording.current() if recording else read_recording(path)
    recording.check(header)
    all_budgets = budgets or recording.extended(Budget(**header.budget))
    first, extensions = (
        replace(header, budget=asdict(all_budgets[0])),
        [Extension(asdict(it)) for it in all_budgets[1:]],
    )
    if write:
        path.parent.mkdir(parents=True, exist_ok=True)
        if recording.header is None:
            path.write_bytes(b"")
            _append(path, sealed(canonical_json(tagged("journal", first.to_json()))))
            sync(path.parent)
        else:
            os.truncate(path, recording.size)
        for extension in extensions[len(recording.extensions) :]:
            _append(path, sealed(canonical_json({"extension": asdict(extension)})))
    return Journal(first, recording.records, path if write else None, extensions)


def _to_line(record: JournalEntry) -> str:
    if isinstance(record, StageRecord):
        stage = {name: value for name, value in asdict(record).items() if name != "weights" or value}
        return canonical_json({"stage": stage})
    if isinstance(record, Outcome):
        losses = {"nll": _encoded(record.nll, "<f4"), "tokens": _encoded(record.tokens, "<i4")}
        return canonical_json({"outcome": {"index": record.index, **losses}})
    fields = {name: value for name, value in vars(record).items() if name != "scores"}
    if record.scores is not None:
        fields["scores"] = _encoded(record.scores, "<f8")
    return canonical_json({"decision": fields})


def _encoded(values: NDArray[Any], kind: str) -> str:
    return base64.b64encode(values.astype(kind).tobytes()).decode()


def _decoded(text: str, kind: str) -> NDArray[Any]:
    return np.frombuffer(base64.b64decode(text), kind)


def _budgets(header: Header, extensions: Sequence[Extension]) -> list[Budget]:
    return [Budget(**header.budget), *(Budget(**it.budget) for it in extensions)]


def _from_line(line: bytes) -> JournalEntry | Extension:
    match unsealed(line):
        case {"extension": dict(fields)}:
            return from_record(Extension, fields)
        case {"stage": dict(fields)}:
            return from_record(StageRecord, fields)
        case {"decision": dict(fields)}:
            fields.setdefault("what", "reward_gap" if fields.get("purpose") == "refresh" else "nll")  # earlier versions
            scores = fields.pop("scores", None)
            if scores is not None:
                scores = _decoded(scores, "<f8")
            values: dict[str, Any] = {
                name: tuple(value) if isinstance(value, list) else value
                for name, value in known_keys(Decision, fields).items()
            }
            return Decision(**values, scores=scores)
        case {"outcome": dict(fields)}:
            nll, tokens = _decoded(fields.pop("nll", ""), "<f4"), _decoded(fields.pop("tokens", ""), "<i4")
            return Outcome(nll, tokens, **known_keys(Outcome, fields))
        case other:
            raise ValueError(f"no stage, decision, outcome or extension: {str(other)[:80]}")


def _completed(header: Header) -> Header:
    return replace(header, options=completed(header.curriculum, header.options))


def read_recording(path: str | Path) -> Recording:
    """What a file holds of a journal, also if there is none; UsageError for what is no journal."""
    header, number = None, 0
    records: list[JournalEntry] = []
    extensions: list[Extension] = []
    try:
        lines = lines_of(Path(path))
        for number, line in enumerate(lines):
            if number:
                record = _from_line(line)
                if isinstance(record, Extension):
                    extensions.append(record)
                else:
                    records.append(record)
            else:
                header = from_record(Header, untagged("journal", unsealed(line), str(path)))
    except (ValueError, TypeError) as error:
        raise UsageError(
            f"not a journal: line {number + 1}: {error}",
            where=str(path),
            remedy="copy state/journal.jsonl of the last checkpoint over it, or start a new run",
        ) from error
    return Recording(Path(path), header, records, extensions, sum(len(line) + 1 for line in lines))


def _append(path: Path, line: str) -> None:
    with path.open("ab") as file:
        file.write(line.encode() + b"\n")
    sync(path)
