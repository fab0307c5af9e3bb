"""Whether what a run has left is as it was written: what `curricle-train verify` says of each of its files."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from curricle.schemas.common.errors import UserError
from curricle.schemas.common.log import printable
from curricle.schemas.common.wording import counted
from curricle.schemas.sealed import is_sealed
from curricle.schemas.sums import damaged
from curricle.train.ordering.journal import JOURNAL, read_journal
from curricle.train.records.checkpoints import DIGESTS, checkpoints, faults, name_of, read_cursor, sums
from curricle.train.records.metrics import METRICS, read_metrics
from curricle.train.records.run_json import RUN, no_run, read_description, runs_of_comparison

EARLIER = "written by an earlier version, without digests: nothing proves it whole"


@dataclass(frozen=True)
class Finding:
    """One file or checkpoint: what it holds, and everything that is wrong with it."""

    name: str
    holds: str
    faults: list[str]

    def __str__(self) -> str:
        state = "; ".join(self.faults) if self.faults else f"whole: {self.holds}"
        return printable(f"{self.name:<32} {state}")


def verify(directory: Path) -> list[Finding]:
    """Look at every byte of a run, or of all runs of a comparison; UsageError if there is none."""
    runs = [directory] if _is_run(directory) else runs_of_comparison(directory)
    if not runs:
        raise no_run(directory)
    return [
        Finding(str(run.relative_to(directory) / each.name), each.holds, each.faults)
        for run in runs
        for each in _findings(run)
    ]


def _is_run(directory: Path) -> bool:
    return any((directory / name).exists() for name in (RUN, JOURNAL, "checkpoints"))


def _findings(run: Path) -> Iterator[Finding]:
    try:
        about = read_description(run)
        finished, files = about.get("finished"), about.get("files")
        wrong = [] if about else ["is absent"]
        if about and not is_sealed((run / RUN).read_bytes()):
            wrong = [EARLIER]
        saved = {path.name for path in checkpoints(run)}
        if finished is not None and files is None and name_of(finished) not in saved:
            wrong.append(f"the run is finished after step {finished}, and has no checkpoint of it")
    except UserError as error:
        finished, files, wrong = None, None, [error.found]
    yield Finding(RUN, "in progress" if finished is None else "finished", wrong)
    if files is not None:  # a reward model
        yield Finding("what was made", counted(len(files), "file"), damaged(run, files))
        return
    yield _lines(run, JOURNAL, lambda: len(read_journal(run / JOURNAL).records))
    if (run / METRICS).exists():
        yield _lines(run, METRICS, lambda: len(read_metrics(run)))
    for checkpoint in checkpoints(run):
        yield _checkpoint(run, checkpoint)


def _lines(run: Path, name: str, count: Callable[[], int]) -> Finding:
    try:
        held = count()
    except UserError as error:
        return Finding(name, "", [error.found])
    lines = (run / name).read_bytes().splitlines()
    old = [] if all(map(is_sealed, lines)) else [EARLIER]
    return Finding(name, counted(held, "record" if name == JOURNAL else "line"), old)


def _checkpoint(run: Path, checkpoint: Path) -> Finding:
    problems = faults(checkpoint)
    wrong = [EARLIER] if problems is None else problems
    if not problems:
        try:
            read_cursor(checkpoint)
        except UserError as error:
            wrong.append(error.found)
        saved, whole = checkpoint / "state" / JOURNAL, run / JOURNAL
        if saved.exists() and whole.exists() and not whole.read_bytes().startswith(saved.read_bytes()):
            wrong.append(f"state/{JOURNAL} is not how {JOURNAL} begins")
    there = [path for path in checkpoint.rglob("*") if path.is_file()]
    size = sum(path.stat().st_size for path in there)
    if problems == []:
        expected = {*sums(checkpoint), DIGESTS}
        extra = sorted({path.relative_to(checkpoint).as_posix() for path in there} - expected)
        wrong += [f"{name} was not written with it" for name in extra]
    return Finding(f"checkpoints/{checkpoint.name}", f"{counted(len(there), 'file')}, {size / 1e6:,.1f} MB", wrong)
