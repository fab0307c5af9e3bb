"""What a comparison would do and take, by rows of its own that are trained on for a moment; nothing is written."""

from collections.abc import Iterator

from curricle.schemas.common.dry_run import NOTHING_WRITTEN, Interval
from curricle.train.comparison.arms import BASELINE, Trial
from curricle.train.comparison.preparation import ComparisonPlan, runs_of
from curricle.train.distributed import Processes
from curricle.train.records.run_json import read_description, runs_of_comparison
from curricle.train.training.dry_run import costs, generations, judged_rows, measured, steps_by_budget
from curricle.train.training.preparation import prepare


def compare(plan: ComparisonPlan, processes: Processes) -> Iterator[str]:
    """What ``curricle-train compare`` would do, as lines."""
    settings = plan.settings
    first = prepare(Trial.of(plan.arms[0], plan.arms[0].rates(settings)[0], 0, settings).settings)
    speed, judged, batch = measured(first, processes), judged_rows(first), settings.batch.size
    base = plan.steps.get(BASELINE) or steps_by_budget(first)
    yield f"rows: {len(plan.table):,} to train on, {judged:,} held out"
    yield f"tokens: {(speed.tokens * len(plan.table)).count} in them, by a sample of {speed.sampled} rows"
    runs, whole = runs_of(settings, plan.arms), Interval(0, 0)
    for arm in plan.arms:
        steps = plan.steps[arm.text]
        remark = "" if steps is not None else ", as many as random: its order follows the student's answers"
        steps = base if steps is None else steps
        yield f"{arm.text}: {runs[arm.text]:,} runs of {steps:,} optimizer steps{remark}"
        every = settings.eval.every
        evaluations = 1 + ((steps - 1) // every if every else 0)
        whole += speed.seconds(steps, batch, judged, evaluations) * runs[arm.text]
    total = sum(runs.values())
    finished_at = [read_description(run).get("finished") for run in runs_of_comparison(settings.output)]
    if finished := sum(each is not None for each in finished_at):
        yield f"finished before: {finished:,} of {total:,} runs; they are not made again"
        whole = whole * (max(0, total - finished) / total)
    yield from costs(speed, whole, settings.device.nproc)
    yield from generations(settings.eval)
    if settings.jobs > 1:
        yield f"time: {settings.jobs} runs at a time share the cores that one was measured with; each takes that memory"
    yield from plan.table.notes
    yield NOTHING_WRITTEN
