"""A course beside its journal: what is recorded is replayed, and what is new is recorded before it takes effect."""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import TypeVar

from curricle.schemas.common.errors import UsageError, UserError
from curricle.schemas.common.plugins import is_file
from curricle.schemas.fingerprint import differences
from curricle.train.curricula import build, origin
from curricle.train.curricula.base import Decision, Outcome, Probe, ProbeResult, Stage
from curricle.train.curricula.course import Course
from curricle.train.data.table import Table
from curricle.train.ordering.journal import Journal, JournalEntry, StageRecord

R = TypeVar("R", bound=JournalEntry)


def recorded_course(journal: Journal, table: Table, curriculum: str = "") -> Course:
    """The course that a journal records; UsageError if it was over another table, or by another curriculum.

    ``curriculum`` is what a user names. The code of a file runs for nobody who does not name it: a journal may be from
    anywhere.
    """
    header = journal.header
    if is_file(header.curriculum) and header.curriculum != curriculum:
        raise UsageError(
            f"the journal's curriculum is {header.curriculum}, a file of code, which is not run for a journal alone",
            remedy=f"look at that file, and add --curriculum {header.curriculum}",
        )
    if changed := differences(header.plugin, origin(header.curriculum)):
        raise UsageError(
            f"the journal was written with another version of curriculum {header.curriculum!r}:\n  "
            + "\n  ".join(changed),
            remedy="install or restore that version",
        )
    if (header.table, header.fingerprint) != (table.digest, table.fingerprint):
        raise UsageError(
            "the journal was written for another table, or for other scores of it",
            remedy=f"name the table with digest {header.table} and fingerprint {header.fingerprint}",
        )
    return Course(build(header.curriculum, header.options), table, header.seed, header.batch)


class JournaledCourse:
    """A course that a journal keeps: what the records know is replayed, and what is new is appended to them before it
    takes effect.

    The records are first those of the journal, then ``recorded``, which another run has left.
    """

    def __init__(self, course: Course, journal: Journal, recorded: Sequence[JournalEntry] = ()) -> None:
        self._course, self._journal = course, journal
        self._records = [*journal.records, *recorded[len(journal.records) :]]
        self._done = 0

    @property
    def beyond(self) -> bool:
        """Whether the last step is one that the records do not have."""
        return self._done > len(self._records)

    def next(self) -> Probe | Stage | None:
        """The next stage, or a probe that the records do not answer; None when the curriculum has ended.

        A stage whose outcome the records have does not ask for it any more.
        UserError if a record does not fit what the course derives.
        """
        while isinstance(step := self._course.next(), Probe):
            decision = self._recorded(Decision)
            if decision is None:
                return step
            self._course.replay(decision)
            self._keep(decision)
        if isinstance(step, Stage):
            new = StageRecord.of(step)
            if self._recorded(StageRecord) not in (None, new):
                raise self._diverged()
            self._keep(new)
            if step.outcome and (outcome := self._recorded(Outcome)) is not None:
                self._course.report(outcome)
                self._keep(outcome)
                step = replace(step, outcome=False)
        return step

    def answer(self, result: ProbeResult) -> None:
        """What the student says to the probe that ``next`` gave."""
        self._keep(self._course.answer(result))

    def report(self, outcome: Outcome) -> None:
        """What came of the stage that ``next`` gave, if it asks for it."""
        self._course.report(outcome)
        self._keep(outcome)

    def _recorded(self, kind: type[R]) -> R | None:
        """The next record; None if there is none."""
        if self._done >= len(self._records):
            return None
        record = self._records[self._done]
        if not isinstance(record, kind):
            raise self._diverged()
        return record

    def _keep(self, record: JournalEntry) -> None:
        if self._done >= len(self._journal.records):
            self._journal.append(record)
        self._done += 1

    def _diverged(self) -> UserError:
        return UserError(
            f"record {self._done} of the journal is not what the curriculum derives",
            remedy="use the version, table, options and seed that the journal was written with",
        )


def follow(course: Course, journal: Journal) -> Iterator[Stage]:
    """The stages of a course that a journal records, without a student. UserError as ``JournaledCourse.next``."""
    replay = JournaledCourse(course, Journal(journal.header), journal.records)
    while isinstance(step := replay.next(), Stage) and not replay.beyond:
        yield step
        if step.outcome:
            return  # the records end before it
