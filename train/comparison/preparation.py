"""Before a comparison trains: everything about it that can be refused without a model, and without torch."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace

from curricle.schemas.common.disk import check_writable, refuse_links
from curricle.schemas.common.errors import UsageError
from curricle.schemas.common.wording import counted
from curricle.train.comparison.arms import Arm, Trial, arms_of
from curricle.train.data.holdout import split
from curricle.train.data.table import Table
from curricle.train.extras import check_extras
from curricle.train.model.locate import check_name, identify
from curricle.train.ordering.journal import Header
from curricle.train.ordering.rehearsal import expected_steps
from curricle.train.records.run_json import read_description, rows_digest_of
from curricle.train.settings import CompareSettings
from curricle.train.training.preparation import disk_note, order_of

MOST_TUNING = 500
"""Rows that are held out for tuning where no set is given, and at most a tenth of those to train on."""


@dataclass(frozen=True)
class ComparisonPlan:
    """What is to be compared, over the rows of ``table``. ``settings``: with rows to tune by, where that is wanted;
    ``held_for_tuning``: so many of those to train on. ``steps``: of each arm, the optimizer steps that are expected,
    None where they are not known. ``runs``: how many there are in all.
    """

    settings: CompareSettings
    arms: list[Arm]
    table: Table
    steps: Mapping[str, int | None]
    held_for_tuning: int
    runs: int


def prepare(settings: CompareSettings) -> ComparisonPlan:
    """Read what a comparison rests on. UsageError for what is wrong with it, before anything is written."""
    check_writable(settings.output)
    arms = arms_of(settings)
    if not settings.eval.rows and not settings.eval.data:
        raise UsageError(
            "nothing is held out, so there is nothing to compare by", remedy="give --eval.rows or --eval.data"
        )
    if settings.jobs > 1 and settings.device.nproc > 1:
        raise UsageError(
            f"--jobs {settings.jobs}, and {settings.device.nproc} processes a run",
            remedy="leave out one of --jobs, --device.nproc",
        )
    if settings.tuning_seeds > settings.seeds:
        raise UsageError(
            f"--tuning-seeds {settings.tuning_seeds} of --seeds {settings.seeds}", remedy="give no more than there are"
        )
    check_extras(settings)
    refuse_links(settings.output)
    tuned = _with_tuning(settings)
    table = split(tuned, 0).train
    table.check_texts()
    _check_begun(tuned, table)
    check_name(settings.model)
    orders = {arm.text: order_of(Trial.of(arm, arm.rates(tuned)[0], 0, tuned).settings, table) for arm in arms}
    _check_alike(orders)
    steps = {arm: expected_steps(order, table) for arm, order in orders.items()}
    identify(settings.model)
    runs = sum(runs_of(tuned, arms).values())
    table.notes += disk_note(tuned, runs, settings.jobs)
    return ComparisonPlan(tuned, arms, table, steps, tuned.eval.tuning_rows - settings.eval.tuning_rows, runs)


def _check_alike(orders: Mapping[str, Header]) -> None:
    """UsageError where arms would not have one budget: without one, a run is a pass of its own order."""
    passes = {arm: order.budget["samples"] for arm, order in orders.items()}
    if len({*passes.values()}) > 1:
        each = ", ".join(f"{arm} {counted(rows or 0, 'row')}" for arm, rows in passes.items())
        raise UsageError(
            f"a pass is not as long in every arm: {each}", remedy="give a budget, such as --budget.samples"
        )


def runs_of(settings: CompareSettings, arms: Sequence[Arm]) -> dict[str, int]:
    """How many runs are made of each arm, those to choose its learning rate among them."""
    tuning = settings.tuning_seeds if tunes(settings) else 0
    return {arm.text: settings.seeds - tuning + tuning * len(arm.rates(settings)) for arm in arms}


def _check_begun(settings: CompareSettings, table: Table) -> None:
    """UsageError if runs there are not to be compared with those that would be made now: of another budget, which a
    run by itself would be extended to; or with rows that they are judged by, as earlier versions began them.
    """
    for run in sorted(settings.output.glob("*/lr-*/seed-*")):
        before = read_description(run).get("settings", {}).get("budget")
        if before not in (None, asdict(settings.budget)):
            raise UsageError(
                f"was begun with the budget {before}, and now it is {asdict(settings.budget)}",
                where=str(run),
                remedy="choose another --output: a run that is extended has had the learning rates of a shorter one",
            )
        begun = None if settings.subset else rows_digest_of(run)  # they had no subsets
        if begun not in (None, table.digest) and split(settings, 0, begun).train.digest == begun:
            raise UsageError(
                "was begun by an earlier version, which trained on rows of --eval.data; they are left out now",
                where=str(run),
                remedy="choose another --output, so that all runs train on the same rows",
            )


def tunes(settings: CompareSettings) -> bool:
    """Whether learning rates are tried."""
    return len(set(settings.learning_rates)) > 1


def _with_tuning(settings: CompareSettings) -> CompareSettings:
    """The same with rows to tune by, other than those to judge by, where rates are tried and no set is given."""
    how = settings.eval
    if not tunes(settings) or how.tuning or how.tuning_rows:
        return settings
    rows = max(1, min(MOST_TUNING, len(split(replace(settings, subset=0), 0).train) // 10))
    return replace(settings, eval=replace(how, tuning_rows=rows))
