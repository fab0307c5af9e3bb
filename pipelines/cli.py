"""The ``curricle`` command. Heavy libraries are imported inside the commands, so that help is quick."""

import atexit
import logging
import os
import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, NoReturn, Protocol, TypeVar

from curricle.pipelines.processes.collector import seldom
from curricle.schemas.common import stop
from curricle.schemas.common.command import DIFFERENT, DONE, FAILED, STATES, TOO_MANY_REJECTS, Command, dispatch
from curricle.schemas.common.config import check_ranges, option
from curricle.schemas.common.flags import parse
from curricle.schemas.common.surroundings import show
from curricle.schemas.common.wording import counted

if TYPE_CHECKING:
    from curricle.schemas.common.dry_run import DryRunSettings

log = logging.getLogger("curricle")


class _Logged(Protocol):
    @property
    def log_format(self) -> Literal["text", "json"]: ...


T = TypeVar("T", bound=_Logged)
D = TypeVar("D", bound="DryRunSettings")


@dataclass(frozen=True)
class DirectorySettings:
    directory: str = option(
        "where `curricle score` writes, or wrote: a directory, or an address", positional=True, path=True
    )


@dataclass(frozen=True)
class StatusSettings(DirectorySettings):
    json: bool = option("one line of JSON, and an exit code that says how the job stands", False)


@dataclass(frozen=True)
class PoolSettings:
    host: str = option("the address to listen at; there is no password, so keep it private", "127.0.0.1")
    port: int = option("the port to listen at; 0 takes any that is free", 50000, at_least=0, at_most=65535)

    def __post_init__(self) -> None:
        check_ranges(self)


@dataclass(frozen=True)
class ViewSettings:
    table: str = option("a finished table", positional=True, path=True)
    port: int = option(
        "the port to listen at, on this machine alone; 0 takes any that is free", 0, at_least=0, at_most=65535
    )

    def __post_init__(self) -> None:
        check_ranges(self)


def _begun_or_dry(
    cls: type[T], arguments: Sequence[str], name: str, description: str | None, dry_run: type[D]
) -> tuple[T, D]:
    """The same of a command that scores and has ``--dry-run``, and what was said of that."""
    from curricle.schemas.common.dry_run import parse_with_dry_run
    from curricle.schemas.common.log import set_up_logging

    settings, dry = parse_with_dry_run(cls, arguments, f"curricle {name}", description, dry_run)
    set_up_logging(settings.log_format)
    from curricle.pipelines.processes.log import quieten_beam

    quieten_beam()
    return settings, dry


def _dry_run(name: str, *settings: object) -> int:
    from curricle.pipelines.commands import dry_run

    return _show_all(getattr(dry_run, name)(*settings))


def _show_all(lines: Iterable[str]) -> int:
    for line in lines:
        show(line)
        sys.stdout.flush()  # the trainer, another process, may say the next one
    return DONE


def _begun(cls: type[T], arguments: Sequence[str], name: str, description: str | None) -> T:
    """The options of a command that works for long; from now on its lines are logged."""
    from curricle.schemas.common.log import set_up_logging

    settings = parse(cls, arguments, f"curricle {name}", description)
    set_up_logging(settings.log_format)
    return settings


def _say_where(directory: str) -> None:
    """A line for each column that has no value for some rows, a warning where it has none for any; then the table, and
    where its rejects are.
    """
    from curricle.pipelines.tables.nulls import most_rejected, nulls
    from curricle.pipelines.tables.reader import TableReader
    from curricle.schemas.common.log import printable

    table = TableReader(directory)
    for column in nulls(table):
        log.log(logging.WARNING if column.rows == column.of else logging.INFO, "  %s", column)
    log.info("table: %s (look at %s/report.html, check with `curricle verify`)", directory, directory)
    total = table.manifest.total
    if total.rejected:
        reason = printable(most_rejected(table) or "")
        log.warning("rejects: %s/rejects (%d of %d, most often: %s)", directory, total.rejected, total.read, reason)


def score(arguments: Sequence[str]) -> int:
    """Score instruction data into a difficulty table; run it again to resume."""
    from curricle.pipelines.settings.machines import MachinesSettings
    from curricle.pipelines.settings.score import ScoreSettings

    settings, dry = _begun_or_dry(ScoreSettings, arguments, "score", score.__doc__, MachinesSettings)
    if dry.dry_run:
        return _dry_run("score", settings, dry)
    from curricle.pipelines.commands.score import score as run

    manifest = run(settings)
    total = manifest.total
    figures = {"records": total.read, "records_done": total.read, "rejects": total.rejected}
    words = "%d records read = %d scored + %d rejected"
    log.info(words, total.read, total.scored, total.rejected, extra={"figures": figures})
    _say_where(settings.output)
    if total.rejected > settings.max_reject_fraction * total.read:
        share, most = total.rejected / total.read, settings.max_reject_fraction
        log.error("%.1f%% of the records were rejected, more than --max-reject-fraction %g", 100 * share, most)
        return TOO_MANY_REJECTS
    return DONE


def verify(arguments: Sequence[str]) -> int:
    """Recount a finished table: every record, digest, identity and column that its manifest promises."""
    settings = parse(DirectorySettings, arguments, "curricle verify", verify.__doc__)
    from curricle.pipelines.functions import verify as run

    result = run(settings.directory)
    for fault in result.faults:
        show(f"WRONG  {fault}")
    for other in result.manifest.not_read:
        show(f"NOT READ  {other.path}: {other.reason}")
    total, files = result.counted, counted(len(result.manifest.sources), "file")
    verdict = f"NOT WHOLE: {counted(len(result.faults), 'fault')}" if result.faults else "whole"
    ledger = f"{counted(total.read, 'record')} of {files} = {total.scored:,} scored + {total.rejected:,} rejected"
    if result.manifest.selected_from:
        ledger = f"{counted(total.read, 'row')} of a table = {total.scored:,} selected + {total.left_out:,} left out"
    show(f"{settings.directory}: {verdict}; {ledger}")
    return FAILED if result.faults else DONE


def select(arguments: Sequence[str]) -> int:
    """Select rows of a finished table by its columns, or part them into sets, with certificates; or check one."""
    from curricle.pipelines.settings.select import SelectSettings

    settings = _begun(SelectSettings, arguments, "select", select.__doc__)
    if settings.check:
        from curricle.pipelines.tables.certificate import check

        faults = check(settings.check, settings.table, settings.join)
        for fault in faults:
            show(f"WRONG  {fault:.500}")
        show(f"{settings.check}: {'NOT what it says' if faults else 'derived again, the same to the last value'}")
        return FAILED if faults else DONE
    from curricle.pipelines.commands.select import select as run
    from curricle.pipelines.commands.select import split

    if settings.split and settings.split_only is None:
        for name, manifest in split(settings).items():
            log.info("%s/%s: %s", settings.output, name, counted(manifest.total.scored, "row"))
        log.info("sets: %s (check with `curricle select --check %s`)", settings.output, settings.output)
        return DONE
    total = run(settings).total
    rows = counted(total.read, "row")
    log.info("%s = %s selected + %s left out", rows, f"{total.scored:,}", f"{total.left_out:,}")
    log.info("selection: %s (check with `curricle select --check %s`)", settings.output, settings.output)
    return DONE


def concat(arguments: Sequence[str]) -> int:
    """Put finished tables together whose columns are made alike: the rows of all, source and position kept."""
    from curricle.pipelines.settings.concat import ConcatSettings

    settings = _begun(ConcatSettings, arguments, "concat", concat.__doc__)
    from curricle.pipelines.commands.concat import concat as run

    total = run(settings).total
    rows, rejects = counted(total.scored, "row"), counted(total.rejected, "reject")
    log.info("%s and %s of %s", rows, rejects, counted(len(settings.tables), "table"))
    _say_where(settings.output)
    return DONE


def diff(arguments: Sequence[str]) -> int:
    """Say how two tables differ: rows, columns, fingerprints, drift of each metric. The exit code is 6 if they do."""
    from curricle.pipelines.settings.diff import DiffSettings

    settings = parse(DiffSettings, arguments, "curricle diff", diff.__doc__)
    from curricle.curate.report.difference import lines
    from curricle.pipelines.commands.diff import PAGE
    from curricle.pipelines.commands.diff import diff as run

    difference = run(settings)
    for line in lines(difference):
        show(line)
    if difference.is_empty:
        log.info("nothing differs")
    if settings.output:
        log.info("look at %s/%s", settings.output, PAGE)
    return DIFFERENT if difference.beyond(settings.max_drift) else DONE


def add(arguments: Sequence[str]) -> int:
    """Add columns of more metrics to a finished table, without scoring it again; run it again to resume."""
    from curricle.pipelines.settings.add import AddSettings
    from curricle.schemas.common.dry_run import DryRunSettings

    settings, dry = _begun_or_dry(AddSettings, arguments, "add", add.__doc__, DryRunSettings)
    if dry.dry_run:
        return _dry_run("add", settings)
    from curricle.pipelines.commands.add import add as run

    run(settings)
    _say_where(settings.output or settings.table)
    return DONE


def lp(arguments: Sequence[str]) -> int:
    """Add learning percentages to a table: train the proxy on it, and score it with each epoch's checkpoint.

    Other options of `curricle-train run` are given behind --train, such as --train.device.precision bf16.
    """
    from curricle.pipelines.settings.lp import LpSettings
    from curricle.schemas.common.dry_run import DryRunSettings

    settings, dry = _begun_or_dry(LpSettings, arguments, "lp", lp.__doc__, DryRunSettings)
    if dry.dry_run:
        return _dry_run("lp", settings)
    from curricle.pipelines.commands.lp import lp as run

    run(settings)
    _say_where(settings.output)
    return DONE


def reward(arguments: Sequence[str]) -> int:
    """Add rewards to a table: the proxy answers the prompts, and a reward is fitted that prefers the responses."""
    from curricle.pipelines.settings.reward import RewardSettings
    from curricle.schemas.common.dry_run import DryRunSettings

    settings, dry = _begun_or_dry(RewardSettings, arguments, "reward", reward.__doc__, DryRunSettings)
    if dry.dry_run:
        return _dry_run("reward", settings)
    from curricle.pipelines.commands.reward import reward as run

    run(settings)
    _say_where(settings.output)
    return DONE


def cluster(arguments: Sequence[str]) -> int:
    """Add a column of cluster numbers to a table, by k-means over its embeddings."""
    from curricle.pipelines.settings.cluster import ClusterSettings

    settings = _begun(ClusterSettings, arguments, "cluster", cluster.__doc__)
    from curricle.pipelines.commands.cluster import cluster as run

    run(settings)
    log.info("table: %s (look at %s/clusters.html, check with `curricle verify`)", settings.output, settings.output)
    return DONE


def contamination(arguments: Sequence[str]) -> int:
    """Add columns to a table that say which rows hold texts of benchmarks: whole, in part, or nearly the same."""
    from curricle.pipelines.settings.contamination import ContaminationSettings

    settings = _begun(ContaminationSettings, arguments, "contamination", contamination.__doc__)
    from curricle.pipelines.commands.contamination import PAGE
    from curricle.pipelines.commands.contamination import contamination as run

    run(settings)
    log.info("table: %s (look at %s/%s, check with `curricle verify`)", settings.output, settings.output, PAGE)
    return DONE


def transfer(arguments: Sequence[str]) -> int:
    """Compare columns of tables that different models scored: is what one finds hard hard for another?"""
    from curricle.pipelines.settings.transfer import TransferSettings

    settings = parse(TransferSettings, arguments, "curricle transfer", transfer.__doc__)
    from curricle.pipelines.commands.transfer import PAGE, lines
    from curricle.pipelines.commands.transfer import transfer as run

    for line in lines(run(settings)):
        show(line)
    show(f"look at {settings.output}/{PAGE}")
    return DONE


def export(arguments: Sequence[str]) -> int:
    """Write the rows of a table in an order, as another trainer reads them: the same as `curricle-train export`."""
    from curricle.pipelines.processes.trainer import hand_over

    if {"-h", "--help"} & {*arguments}:
        show("usage: curricle export is `curricle-train export`, which says:\n")
        sys.stdout.flush()
        sys.exit(hand_over("export", arguments))  # as help of the other commands ends
    return hand_over("export", arguments)


def report(arguments: Sequence[str]) -> int:
    """Write report.html: what is in a table, to look at."""
    settings = parse(DirectorySettings, arguments, "curricle report", report.__doc__)
    from curricle.pipelines.functions import report as run

    show(run(settings.directory))
    return DONE


def push(arguments: Sequence[str]) -> int:
    """Upload a finished table to a hub of datasets; without --upload, say what would be uploaded."""
    from curricle.pipelines.settings.push import PushSettings

    settings = parse(PushSettings, arguments, "curricle push", push.__doc__)
    from curricle.pipelines.commands.push import push as run

    upload = run(settings)
    for note in upload.notes:
        log.warning("%s", note)
    return _show_all(upload.lines())


def view(arguments: Sequence[str]) -> int:
    """Look at a table in a browser: sort, filter and search its rows and rejects; for this machine alone."""
    settings = parse(ViewSettings, arguments, "curricle view", view.__doc__)
    from curricle.pipelines.view.server import serve

    serve(settings.table, settings.port)
    return DONE


def status(arguments: Sequence[str]) -> int:
    """Say how far a job is, how fast, and who works on it; from any machine that sees its directory."""
    settings = parse(StatusSettings, arguments, "curricle status", status.__doc__)
    from curricle.pipelines.commands.status import status_of

    standing = status_of(settings.directory)
    if settings.json:
        show(standing.to_json())
        return STATES[standing.state]
    return _show_all(standing.lines())


def run(arguments: Sequence[str]) -> int:
    """Run the steps of a plan, from raw data to a trained model; run it again for what is not done, or has changed."""
    from curricle.pipelines.settings.run import PipelineSettings

    settings = _begun(PipelineSettings, arguments, "run", run.__doc__)
    from curricle.pipelines.steps.plan import read_pipeline

    plan = read_pipeline(settings.plan, settings.output)
    from curricle.pipelines.commands.run import outlook
    from curricle.pipelines.commands.run import run as make
    from curricle.pipelines.processes.log import quieten_beam

    quieten_beam()
    if settings.dry_run:
        return _show_all(outlook(plan))
    results = make(plan, settings.log_format)
    ran = sum(result.ran for result in results)
    log.info("%d of %d steps were made, the others were done: %s", ran, len(results), plan.output)
    for result in results:
        log.info("  %s: %s", result.name, result.output)
    return DONE


def workers(arguments: Sequence[str]) -> int:
    """Start Beam workers for an engine that asks for them (`--beam.environment_type EXTERNAL`)."""
    settings = parse(PoolSettings, arguments, "curricle workers", workers.__doc__)
    from curricle.pipelines.engines.pool import serve
    from curricle.schemas.common.log import set_up_logging

    set_up_logging("text")
    serve(settings.host, settings.port)
    return DONE


COMMANDS: dict[str, Command] = {
    "score": score,
    "status": status,
    "verify": verify,
    "add": add,
    "cluster": cluster,
    "contamination": contamination,
    "select": select,
    "concat": concat,
    "diff": diff,
    "lp": lp,
    "transfer": transfer,
    "reward": reward,
    "export": export,
    "report": report,
    "view": view,
    "push": push,
    "run": run,
    "workers": workers,
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command and turn its outcome into an exit code."""
    return dispatch("curricle", COMMANDS, sys.argv[1:] if arguments is None else arguments, "what is finished")


def command() -> NoReturn:
    """The console script. After a failure or a stop nothing is waited for: a shard at work is scored again.

    Else threads end, and what libraries have registered for the end is done. But nothing is taken apart: the
    interpreter would look for garbage among all that was imported, for most of a second, and if it were kept from that,
    libraries written in C++ would print what they count as leaks.
    """
    code: int | None = None

    def leave() -> None:
        if code is not None:
            logging.shutdown()
            for stream in (sys.stdout, sys.stderr):
                if stream:  # not where it was closed from the start
                    stream.flush()
            os._exit(code)

    seldom()
    atexit.register(leave)  # the first that is registered is the last that is called
    code = main()
    stop.ignore()
    if code == FAILED:
        leave()
    sys.exit(code)


if __name__ == "__main__":
    command()
