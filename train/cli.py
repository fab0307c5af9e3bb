"""The ``curricle-train`` command. Heavy libraries are imported inside the commands, so that help is quick."""

import logging
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from itertools import pairwise
from typing import TYPE_CHECKING, Generic, Literal, NamedTuple, NoReturn, TypeVar

from curricle.schemas.common import stop
from curricle.schemas.common.command import DONE, FAILED, STATES, Command, dispatch
from curricle.schemas.common.disk import check_writable
from curricle.schemas.common.dry_run import DryRunSettings, parse_with_dry_run
from curricle.schemas.common.flags import parse
from curricle.schemas.common.log import set_up_logging
from curricle.schemas.common.surroundings import show
from curricle.schemas.common.wording import counted

if TYPE_CHECKING:
    from pathlib import Path

    from curricle.train.comparison.preparation import ComparisonPlan
    from curricle.train.distributed import Processes, Stop
    from curricle.train.settings import TrainSettings
    from curricle.train.training.preparation import Preparation

P = TypeVar("P")


def run(arguments: Sequence[str]) -> int:
    """Train a model on a scored table in the order of a curriculum; run it again to resume."""
    from curricle.train.settings import RunSettings

    _show_curriculum(arguments, "curricle-train run")
    settings, dry = parse_with_dry_run(RunSettings, arguments, "curricle-train run", run.__doc__, DryRunSettings)
    from curricle.train.training.preparation import prepare

    def work() -> "_Work[Preparation]":
        from curricle.train.training import dry_run, loop

        return _Work(loop.train, dry_run.run)

    return _train(settings, dry.dry_run, ["run", *arguments], partial(prepare, settings), work, "model")


def plan(arguments: Sequence[str]) -> int:
    """Write what a curriculum would visit, or what a journal did visit; no model is needed.

    Where a curriculum asks the student, the losses of the table stand in for its answers: a rehearsal.
    """
    from curricle.train.settings import PlanSettings

    _show_curriculum(arguments, "curricle-train plan")
    settings = parse(PlanSettings, arguments, "curricle-train plan", plan.__doc__)
    from curricle.train.reporting.plan import write_plan

    product, page = write_plan(settings)
    steps = f"{counted(product.steps, 'step')} of {counted(product.stages, 'stage')}"
    notes = [f"  {note}" for note in product.notes]
    for line in (product.description, *notes, *product.summary.lines(), *product.summary.warnings()):
        show(line)
    if product.rehearsed:
        show("a rehearsal: the losses of the table stand in for a student; the order of a run follows its own")
    show(f"{counted(product.samples, 'sample')} in {steps}: {product.parquet}; look at {page}")
    return DONE


def compare(arguments: Sequence[str]) -> int:
    """Train several orders over several seeds at the same budget, and write one table and one picture."""
    from curricle.train.settings import CompareSettings

    settings, dry = parse_with_dry_run(
        CompareSettings, arguments, "curricle-train compare", compare.__doc__, DryRunSettings
    )
    from curricle.train.comparison.preparation import prepare

    def work() -> "_Work[ComparisonPlan]":
        from curricle.train.comparison import dry_run, run

        return _Work(run.train_all, dry_run.compare)

    return _train(settings, dry.dry_run, ["compare", *arguments], partial(prepare, settings), work, "comparison")


def reward(arguments: Sequence[str]) -> int:
    """Fit a reward model to references over a model's own answers, and score both; run it again to resume."""
    from curricle.train.settings import RewardSettings

    settings = parse(RewardSettings, arguments, "curricle-train reward", reward.__doc__)

    from curricle.train.rewards.preparation import RewardPreparation, prepare

    def fit(prepared: RewardPreparation, processes: "Processes") -> "Path":
        from curricle.train.rewards.run import fit_and_score

        return fit_and_score(prepared, processes)

    prepared = partial(prepare, settings)
    return _in_processes(
        settings.log_format, settings.device.nproc, ["reward", *arguments], prepared, fit, "reward model"
    )


def status(arguments: Sequence[str]) -> int:
    """Say how far a run or a comparison is, how fast, and whether somebody works on it; from its directory alone."""
    from curricle.train.settings import RunStatusSettings

    settings = parse(RunStatusSettings, arguments, "curricle-train status", status.__doc__)
    from curricle.train.commands import status_of

    standing = status_of(settings.directory)
    if settings.json:
        show(standing.to_json())
        return STATES[standing.state]
    for line in standing.lines():
        show(line)
    return DONE


def evaluate(arguments: Sequence[str]) -> int:
    """Ask the last checkpoint of a run, or of every run of a comparison, tasks of lm-evaluation-harness."""
    from curricle.train.settings import EvaluateSettings

    settings = parse(EvaluateSettings, arguments, "curricle-train evaluate", evaluate.__doc__)
    check_writable(settings.directory)
    _set_up_logging(settings.log_format)
    from curricle.train.evaluation.harness import evaluate as ask
    from curricle.train.evaluation.harness import lines

    for path, records in ask(settings):
        for line in lines(path, records):
            show(line)
    return DONE


def report(arguments: Sequence[str]) -> int:
    """Write report.html: what a run learned, in which order, and at what cost."""
    from curricle.train.settings import ReportSettings

    settings = parse(ReportSettings, arguments, "curricle-train report", report.__doc__)
    check_writable(settings.directory)
    from curricle.train.reporting.page import write_report

    show(str(write_report(settings.directory)))
    return DONE


def verify(arguments: Sequence[str]) -> int:
    """Look at every byte of a run, and say of each file and checkpoint whether it is whole; 1 if one is not."""
    from curricle.train.settings import VerifySettings

    settings = parse(VerifySettings, arguments, "curricle-train verify", verify.__doc__)
    from curricle.train.reporting.verification import verify as look

    findings = look(settings.directory)
    for finding in findings:
        show(str(finding))
    return FAILED if any(finding.faults for finding in findings) else DONE


def export(arguments: Sequence[str]) -> int:
    """Write the rows of a table in an order, as another trainer reads them, with the settings that keep it."""
    from curricle.train.settings.export import ExportSettings

    _show_curriculum(arguments, "curricle-train export", "--order")
    settings = parse(ExportSettings, arguments, "curricle-train export", export.__doc__)
    set_up_logging(settings.log_format)
    from curricle.train.ordering.exports.export import export as write

    done = write(settings)
    for reason, rows in done.left_out.items():
        show(f"left out: {counted(rows, 'row')}: {reason}")
    for name, rows in done.lost.items():
        show(f"not in this format: the field {name} of {counted(rows, 'row')}")
    show(f"{counted(done.rows, 'row')} in {counted(done.steps, 'step')}, order {done.digest}: {settings.output}")
    show(f"which settings keep it, and what breaks it: {settings.output / 'README.md'}")
    return DONE


def verify_order(arguments: Sequence[str]) -> int:
    """Look whether an export, or what a trainer has consumed of it, is in its order; 1 if it is not."""
    from curricle.train.settings.export import VerifyOrderSettings

    settings = parse(VerifyOrderSettings, arguments, "curricle-train verify-order", verify_order.__doc__)
    from curricle.train.reporting.order_verification import verify_order as look

    findings = look(settings)
    for finding in findings:
        show(str(finding))
    return FAILED if any(finding.faults for finding in findings) else DONE


def _show_curriculum(arguments: Sequence[str], command: str, option: str = "--curriculum") -> None:
    """`--curriculum NAME --help` lists the options of that curriculum."""
    name = next((value for flag, value in pairwise(arguments) if flag == option), None)
    if name and {"-h", "--help"} & set(arguments):
        from curricle.train.curricula import show_options

        show_options(name, command, option.removeprefix("--"))


COMMANDS: dict[str, Command] = {
    "run": run,
    "plan": plan,
    "compare": compare,
    "reward": reward,
    "status": status,
    "evaluate": evaluate,
    "report": report,
    "verify": verify,
    "export": export,
    "verify-order": verify_order,
}


class _Work(NamedTuple, Generic[P]):
    """What a command does with what it has prepared, or says that it would."""

    train: "Callable[[P, Processes, Stop], Path]"
    dry_run: "Callable[[P, Processes], Iterator[str]]"


def _train(
    settings: "TrainSettings",
    dry: bool,
    arguments: Sequence[str],
    prepare: Callable[[], P],
    work: Callable[[], _Work[P]],
    title: str,
) -> int:
    """Train until it is done or asked to stop; or, dry, say what that would be, here and in this process alone."""

    def train(prepared: P, processes: "Processes") -> "Path":
        with _signals(processes) as request:
            return work().train(prepared, processes, request)

    if not dry:
        return _in_processes(settings.log.format, settings.device.nproc, arguments, prepare, train, title)
    _set_up_logging(settings.log.format)
    prepared = prepare()
    processes = _connect()
    try:
        for line in work().dry_run(prepared, processes):
            show(line)
    finally:
        processes.disconnect()
    return DONE


def _in_processes(
    form: Literal["text", "json"],
    nproc: int,
    arguments: Sequence[str],
    prepare: Callable[[], P],
    train: "Callable[[P, Processes], Path]",
    title: str,
) -> int:
    """Train here, or in as many processes as are asked for; say where the result lies.

    What is wrong is said by ``prepare``, which needs no torch: that takes seconds to be imported.
    """
    _set_up_logging(form)
    prepared = prepare()
    from curricle.train.distributed import RESUMES, launch

    if nproc > 1 and "RANK" not in os.environ:
        return launch(nproc, arguments)
    processes = _connect()
    try:
        directory = train(prepared, processes)
    except RuntimeError as error:
        if not processes.lost(error):
            raise
        ended = f"another process has ended, and with it process {processes.rank} of {processes.world}"
        print(f"curricle-train: {ended}; {RESUMES}", file=sys.stderr)
        return FAILED
    finally:
        processes.disconnect()
    if processes.first:
        show(f"{title}: {directory}")
    return DONE


def _connect() -> "Processes":
    """Join the others. The process is the command's own, and on a CPU it keeps the memory of its tensors."""
    from curricle.train.distributed import connect
    from curricle.train.model.allocator import keep_freed_memory

    processes = connect()
    if processes.device.type == "cpu":
        keep_freed_memory()
    return processes


@contextmanager
def _signals(processes: "Processes") -> "Iterator[Stop]":
    """SIGTERM and SIGINT ask a run to stop at its next step; before it has begun, they end the command at once."""
    from curricle.train.distributed import Stop

    request = Stop(processes)

    def answer() -> bool:
        request.request()
        return request.watched

    with stop.answered_by(answer):
        yield request


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command and turn its outcome into an exit code."""
    arguments = sys.argv[1:] if arguments is None else arguments
    return dispatch("curricle-train", COMMANDS, arguments, "the last checkpoint")


def command() -> NoReturn:
    """The console script. Once the code is known, a signal changes nothing."""
    code = main()
    stop.ignore()
    sys.exit(code)


def _set_up_logging(form: Literal["text", "json"]) -> None:
    """With several processes, the first one's lines stand for all."""
    set_up_logging(form, logging.INFO if os.environ.get("RANK", "0") == "0" else logging.WARNING)


if __name__ == "__main__":
    command()
