"""What a scoring job takes on machines that are named and not here: by a rate that is measured or stated, or else as a
bound, which is said to be one.
"""

import math
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from curricle.curate.metric import passes_of
from curricle.pipelines.engines import Work
from curricle.pipelines.scoring.cost import flops_of
from curricle.pipelines.scoring.estimate import Sample, estimate, sample
from curricle.pipelines.scoring.job import Job
from curricle.pipelines.scoring.plan import Shard
from curricle.pipelines.settings.machines import MFU, MachinesSettings
from curricle.pipelines.settings.score import ScoreSettings
from curricle.pipelines.tables.directory import OutputDirectory
from curricle.schemas.chat.cards import card_named
from curricle.schemas.common.dry_run import Interval
from curricle.schemas.common.errors import UsageError
from curricle.schemas.common.wording import bytes_in_words, counted

PER_WORKER = 4
"""Shards that a worker should have: with fewer, some workers wait for the last ones of others."""


def elsewhere(settings: ScoreSettings) -> ScoreSettings:
    """The same for machines that are not this one: its shards are cut as for engines whose workers are elsewhere."""
    return replace(settings, engine="dask") if settings.engine == "local" else settings


def of_machines(machines: MachinesSettings, job: Job, shards: Sequence[Shard], begun: bool = False) -> Iterator[str]:
    """Lines on tokens, shards a worker, hours and cost. ``job`` is one for ``elsewhere``; where it has ``begun``, its
    shards are no more to be cut.
    """
    examples = sample(job, shards)
    if examples.rejected:
        yield f"rejects: {examples.rejected:,} of {examples.read:,} sampled records are no example"
    fleet = _Fleet(machines, job, len(shards))
    yield fleet.line
    yield from _memory(fleet, job)
    yield from _shards(fleet, job, shards, begun)
    if not len(examples.examples):
        yield "tokens, time and cost: unknown, for nothing in the sample could be measured"
        return
    if fleet.asks:
        took = _Demand.of(job, examples)
        yield (
            f"tokens: {took.tokens.count} in the rows to score, as the proxy reads them, by a sample of "
            f"{counted(len(examples.examples), 'row')}; {took.through.count} go through it, by its passes"
        )
        if machines.tokens_per_second is None and not fleet.is_here:
            yield from _bound(fleet, took)
        else:
            yield from _by_rate(fleet, job, examples, took)
    else:
        seconds = estimate(job, examples).seconds * (1 / fleet.busy)
        names = ", ".join(each.name for each in job.metrics)
        yield f"time: {seconds.time}: {names}, measured here with one process; no GPU has a part in it"
        yield from _cost(fleet, seconds)


class _Fleet:
    """All machines: how many workers they have, how many of those have shards, and whether what a worker takes can be
    measured here.
    """

    def __init__(self, machines: MachinesSettings, job: Job, shards: int) -> None:
        self.settings, self.proxy = machines, job.settings.proxy
        self.asks = job.asks_model
        self.machines = machines.machines or 1
        gpus, self.gpus = machines.gpus_per_machine or 1, self.proxy.tensor_parallel if machines.device else 1
        if self.asks and self.gpus > gpus:
            raise UsageError(
                f"--proxy.tensor-parallel is {self.gpus}, and a machine has {counted(gpus, 'GPU')}",
                remedy=f"give --gpus-per-machine {self.gpus} or more, or a smaller --proxy.tensor-parallel",
            )
        self.workers = self.machines * (gpus // self.gpus if self.asks else job.workers)
        self.busy = min(self.workers, shards)
        self.is_here = not machines.device or _is_here(machines.device_name)
        device = f"with {gpus} x {machines.device_name}" if machines.device else "like this one"
        own = (
            ""
            if not (self.asks and machines.device)
            else f", one for {self.gpus} GPUs"
            if self.gpus > 1
            else ", one a GPU"
        )
        self.line = f"machines: {self.machines:,} {device}; {counted(self.workers, 'worker')}{own}"

    def peak(self) -> tuple[float, str]:
        """FLOP/s of a worker by its card, in the arithmetic of the proxy, and which that is."""
        card = self.settings.card
        assert card is not None, "it was checked"
        if self.proxy.dtype == "bfloat16" and not card.bfloat16:
            raise UsageError(
                f"--device {self.settings.device_name} has no arithmetic in bfloat16",
                remedy="give --proxy.dtype float16 or float32, or state the rate that was measured, with "
                "--tokens-per-second",
            )
        each, which = (
            (card.single, "float32") if self.proxy.dtype == "float32" else (card.half, "dense " + self.proxy.dtype)
        )
        whole = f"{each / 1e12:,.5g} TFLOP/s of {which}" + (f" on each of {self.gpus} GPUs" if self.gpus > 1 else "")
        return each * self.gpus, f"{whole} ({card.source})"


@dataclass(frozen=True)
class _Demand:
    """What all rows take: ``tokens`` as rendered, those that go ``through`` the proxy in its passes, ``flops`` of all
    models, two for each parameter and token, of which nobody can do without the ``least``, and ``cpu``, seconds of one
    core for what no model does.
    """

    tokens: Interval
    through: Interval
    flops: Interval
    least: Interval
    cpu: Interval

    @classmethod
    def of(cls, job: Job, it: Sample) -> "_Demand":
        renderer = job.models.load("renderer")
        began = time.monotonic()
        rows = renderer.render(it.examples)
        lengths = [len(row.ids) for row in rows]
        rendering = (time.monotonic() - began) / len(lengths)
        proxy = passes_of(job.metrics, "proxy")
        through = [sum(each.flops(job.models, length) for each in proxy) for length in lengths]
        flops = [flops_of(job, length) for length in lengths]
        least = [each.least_flops(job.models, rows) for each in passes_of(job.metrics)]
        models = {each.name for each in job.metrics if {one.model for one in each.requires} - {"renderer"}}
        rest = replace(job, references=tuple(each for each in job.references if each.name not in models))
        cpu = estimate(rest, it).seconds
        if "renderer" not in rest.roles:
            cpu += Interval(rendering, rendering) * it.expected
        parameters = job.models.flops("proxy", 1) if proxy else 1.0
        return cls(
            Interval.of_mean(lengths) * it.expected,
            Interval.of_mean(through) * (it.expected / parameters),
            Interval.of_mean(flops) * it.expected,
            Interval.of_mean([sum(row) for row in zip(*least, strict=True)]) * it.expected,
            cpu,
        )


def _memory(fleet: _Fleet, job: Job) -> Iterator[str]:
    """Where the weights of the proxy alone are more than its GPUs have, by the card's data sheet."""
    card = fleet.settings.card
    if card is None or "proxy" not in job.roles:
        return
    weights, there = job.models.weight_bytes(), card.memory * fleet.gpus
    if weights > there:
        whole = (
            f"{fleet.gpus} x {fleet.settings.device_name} have"
            if fleet.gpus > 1
            else f"the {fleet.settings.device_name} has"
        )
        halved = "; in half precision (--proxy.dtype) they take half" if fleet.proxy.dtype == "float32" else ""
        gpus = math.ceil(weights / card.memory)
        yield (
            f"memory: the model does not fit: its weights take {bytes_in_words(weights)} in {fleet.proxy.dtype}, and "
            f"{whole} {bytes_in_words(there)} ({there / 2**30:.4g} GiB); --proxy.tensor-parallel {gpus} or more, "
            f"with --proxy.backend vllm, spreads them over as many GPUs{halved}"
        )


def _shards(fleet: _Fleet, job: Job, shards: Sequence[Shard], begun: bool) -> Iterator[str]:
    """How many a worker gets, and whether some workers get none."""
    work = Work(OutputDirectory(job.settings.output), job, shards, "", lambda: None)
    runs = len(work.runs(job.workers, len(shards)))
    each = len(shards) / fleet.workers
    yield f"shards: {counted(len(shards), 'shard')}, {each:,.3g} for each worker"
    records = sum(shard.slice.records for shard in shards)
    if fleet.workers > 1 and len(shards) < fleet.workers * PER_WORKER:
        rows = records // (fleet.workers * PER_WORKER)
        remedy = f"--shard-rows {rows} gives each {PER_WORKER}" if rows else "there are too few records for so many"
        remedy = "the job goes on with those that it began with" if begun else remedy
        idle = f"{fleet.workers - len(shards):,} of them without any" if len(shards) < fleet.workers else "uneven"
        yield f"shards: few for {counted(fleet.workers, 'worker')}: {idle}; {remedy}"
    elif runs < fleet.workers:
        yield (
            f"shards: they lie in compressed files, which are read in {counted(runs, 'portion')}: fewer than workers; "
            f"--workers {math.ceil(fleet.workers / max(1, len({shard.source for shard in shards})))} cuts each file "
            "into as many"
        )


def _by_rate(fleet: _Fleet, job: Job, it: Sample, took: _Demand) -> Iterator[str]:
    rate = fleet.settings.tokens_per_second
    if rate is None:
        seconds, whence = estimate(job, it).seconds, "measured here with one worker"
    else:
        unit = "GPU" if fleet.settings.device else "machine"
        seconds = took.through * (1 / (rate * fleet.gpus))
        whence = f"at {rate:,.10g} tokens a second and {unit}, as was stated"
        if "encoder" in job.roles:
            yield "time: what the encoder of embeddings takes is not in that rate, and not reckoned"
    seconds *= 1 / fleet.busy
    yield f"time: {seconds.time}, {whence}; {counted(fleet.busy, 'worker')} together"
    yield from _cores(fleet, took, seconds)


def _bound(fleet: _Fleet, took: _Demand) -> Iterator[str]:
    """By the card's published peak: what cannot be undercut by the least of operations, and what all of them would
    take with a share of the peak that is assumed.
    """
    share, (peak, words) = fleet.settings.mfu or MFU, fleet.peak()
    least = took.least * (1 / (peak * fleet.busy))
    seconds = took.flops * (1 / (peak * fleet.busy * share))
    chosen = "as --mfu states" if fleet.settings.mfu else "an assumption, which --mfu changes"
    lasts = least.time if least.high >= 1 else "less than a second"
    bound = f"{lasts}: a bound" if least.high else "no bound is known"
    yield (
        f"operations: {took.flops.scientific}, two for each parameter and token; at least {took.least.scientific}: "
        "responses through the layers once, and what is scored through the head"
    )
    yield (
        f"time: nothing was measured on {fleet.settings.device_name}. At its published peak, {words}, "
        f"{bound}; at {share:.4g} of that, {chosen}, {seconds.time}"
    )
    if fleet.proxy.dtype == "float32":
        half = "bfloat16" if fleet.settings.card and fleet.settings.card.bfloat16 else "float16"
        yield f"time: float32 is what a job has if nothing is said; --proxy.dtype {half} has a higher peak"
    yield "time: for a measured one score some thousand rows there, and give the rate as --tokens-per-second"
    yield from _cores(fleet, took, seconds, " if that is reached")


def _cores(fleet: _Fleet, took: _Demand, seconds: Interval, condition: str = "") -> Iterator[str]:
    """What a worker has to do beside its model, and what the longer of both costs. ``seconds``: what the model takes
    it.
    """
    each = took.cpu * (1 / fleet.busy)
    slower = "more than its model does, so that this is the time" if each.low > seconds.high else "beside that"
    yield f"cores: reading, rendering and metrics without a model take each worker {each.time} of a core here: {slower}"
    yield from _cost(fleet, Interval(max(seconds.low, each.low), max(seconds.high, each.high)), condition)


def _cost(fleet: _Fleet, seconds: Interval, condition: str = "") -> Iterator[str]:
    price = fleet.settings.price_per_hour
    if price is not None:
        cost = seconds * (fleet.machines * price / 3600)
        yield f"cost: {cost.money}{condition}, at {price:,.10g} an hour of each machine"


def _is_here(device: str) -> bool:
    """Whether this machine has that GPU: what is measured here is then measured on it."""
    import torch

    return torch.cuda.is_available() and card_named(torch.cuda.get_device_name()) == device
