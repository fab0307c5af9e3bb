"""What a job is expected to cost before any of it is done: by the bytes of its records and the passes over them.

It decides how many records are a shard, and no number that is computed. A reference machine is reckoned with, not this
one: the same input, metrics and models are cut in the same way wherever they are scored.
"""

import os
from collections.abc import Callable
from functools import lru_cache

from curricle.curate.metric import passes_of
from curricle.pipelines.scoring.job import Job

MOST_ROWS = 4096
"""Of a shard whose metrics are cheap: what it holds has to fit into memory, and every worker has to have some."""
SHARD_SECONDS = 60.0
"""What a kill may cost."""
TOKEN_BYTES = 4.0
TEMPLATE_TOKENS = 30.0
"""Bytes of a record that are a token, and tokens that a chat template adds: about what English in JSON has."""
RATES = {"cpu": 3e11, "cuda": 1e14}
"""Floating-point operations a second: of two cores (loss and IFD of SmolLM2 135M, measured), and of a GPU."""
_NVIDIA = "/proc/driver/nvidia/version"


def tokens_of(record_bytes: float) -> float:
    """About how many tokens a record of so many bytes is rendered to."""
    return record_bytes / TOKEN_BYTES + TEMPLATE_TOKENS


def flops_of(job: Job, tokens: float) -> float:
    """About how many floating-point operations all passes over a row of so many tokens take."""
    return sum(each.flops(job.models, tokens) for each in passes_of(job.metrics))


def shard_share(job: Job) -> Callable[[int], float]:
    """How much of a shard a record of so many bytes is: its share of the time that a shard should take."""
    most = RATES[device(job)] * SHARD_SECONDS
    share = lru_cache(4096)(lambda tokens: flops_of(job, tokens) / most)
    return lambda record_bytes: share(round(tokens_of(record_bytes)))


def survey_limits(job: Job) -> tuple[int, int, int, Callable[[int], float]]:
    """What ``survey_inputs`` is told of the size of shards, and of what is too large to be read."""
    settings = job.settings
    share = (lambda _: 0.0) if settings.shard_rows else shard_share(job)
    return settings.shard_rows or MOST_ROWS, settings.max_record_bytes, settings.max_expansion, share


def rows_of_shard(job: Job, record_bytes: float) -> int:
    """How many records of so many bytes a shard has."""
    most, _, _, share = survey_limits(job)
    return max(1, min(most, int(1 / max(share(round(record_bytes)), 1 / most))))


def device(job: Job) -> str:
    """``cuda`` where there is an NVIDIA GPU, and for engines whose workers are elsewhere; else ``cpu``."""
    return "cuda" if job.settings.engine != "local" or os.path.exists(_NVIDIA) else "cpu"
