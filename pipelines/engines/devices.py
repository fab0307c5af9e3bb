"""Which GPUs the workers of a job will have, before any of them is started."""

from curricle.curate.proxy import devices
from curricle.pipelines.scoring.job import Job


def speed_up(job: Job) -> float:
    """How many times as fast as one worker those of a job are: where a model is asked they share GPUs, or the cores."""
    if not job.settings.starts_workers:
        return 1
    if not job.asks_model:
        return job.workers
    there = devices.names()
    return job.workers / devices.sharers(job.settings.proxy.tensor_parallel, job.workers, there) if there else 1


def describe(job: Job) -> str | None:
    """In words, for workers that the job starts itself; None where that goes without saying.

    UsageError if the machine has GPUs, and fewer than a worker needs.
    """
    proxy, workers = job.settings.proxy, job.workers
    if not job.asks_model or not job.settings.starts_workers:
        return None
    there, gpus = devices.names(), proxy.tensor_parallel
    devices.check(gpus, there)
    if not there:
        return None
    each, of = devices.sharers(gpus, workers, there), f"of this machine's {', '.join(there)}"
    own = "a GPU" if gpus == 1 else f"{gpus} GPUs"
    if each == 1:
        return f"{workers} workers, each with {own} of its own, {of}" if workers > 1 else f"{own}, {of}"
    how = f"vLLM takes 1/{each} of what it takes else" if proxy.backend == "vllm" else "they take what they need"
    return f"{workers} workers, each with {own}, {of}: up to {each} share one, and of its memory {how}"
