"""How much the tests do, and what of it all they draw.

`make test` takes a part that is drawn anew every day; `make soak`, or ``CURRICLE_SOAK=1``, takes everything. The day's
seed stands in the header and beside each failure: ``CURRICLE_SEED=2026-02-03`` draws the same again.
"""

import datetime
import os
import random
from collections.abc import Sequence
from typing import TypeVar

SOAK = os.environ.get("CURRICLE_SOAK", "0") not in ("", "0")
SEED = os.environ.setdefault("CURRICLE_SEED", f"{datetime.datetime.now(datetime.UTC):%Y-%m-%d}")  # for workers, too

T = TypeVar("T")


def draw(what: str) -> random.Random:
    """For one kind of file, or one command: what is drawn for it does not depend on the others."""
    return random.Random(f"{SEED} {what}")


def amount(usual: int, soak: int) -> int:
    """Of rows, examples, kills or bits: how many."""
    return soak if SOAK else usual


def some(what: str, items: Sequence[T], usual: int) -> list[T]:
    """Some of them, or in a soak all, in their order."""
    count = len(items) if SOAK else min(usual, len(items))
    return [items[index] for index in sorted(draw(what).sample(range(len(items)), count))]
