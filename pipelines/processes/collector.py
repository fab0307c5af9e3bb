"""How often Python looks for objects that only hold one another.

It does after every 700 objects that stay, and what a command imports, and the tokens and texts of a shard, are half a
million that all stay: a fifth of the time of cheap metrics went into that. What really is garbage and holds itself is
little here, and waits until there are more new objects than those of a shard, which go when it is written.
"""

import gc
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from itertools import count

_SELDOM = (500_000, 20, 50)
_USUAL = gc.get_threshold()
_shards, _MANY = count(1), 1000


def seldom() -> None:
    """For a process of our own, until something asks for more."""
    gc.set_threshold(*_SELDOM)


def leave_libraries_alone(asks_models: bool) -> None:
    """Take what is loaded by now out of the rounds, once in a process or a job, and make them seldom.

    Beam loads 300,000 objects. Where models are asked, rounds are as usual: garbage may hold what fills a device.
    """
    _freeze()
    gc.set_threshold(*(_USUAL if asks_models else _SELDOM))


@cache
def _freeze() -> None:
    """Once in a process: to ask how much is frozen already takes 20 ms, as often as a task of dask's has a pipeline."""
    if not gc.get_freeze_count():
        gc.freeze()


def shard_is_done() -> None:
    """Look for what shards of a few rows left behind, which is 3 kB each however small they are, after many of them.

    A dask task leaves as much in the driver.
    """
    if next(_shards) % _MANY == 0:
        gc.collect(1)


def pipeline_is_done() -> None:
    """Look for what a Beam pipeline left behind: ten thousand objects, which add up in a worker that runs many."""
    gc.collect(1)


@contextmanager
def as_before() -> Iterator[None]:
    """Afterwards the rounds are as often as they were, and of all objects: the process may be a user's own."""
    before, frozen = gc.get_threshold(), gc.get_freeze_count()
    if not frozen:
        _freeze.cache_clear()
    try:
        yield
    finally:
        gc.set_threshold(*before)
        if not frozen:
            gc.unfreeze()
