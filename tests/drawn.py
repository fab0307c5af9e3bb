"""What the tests of damage and of kills draw: the same every time.

``CURRICLE_SEED`` draws other bits and operations, ``CURRICLE_FLIPS=50`` that many bits in every kind of file, and
``CURRICLE_KILLS=100``, or ``all``, that many operations of every command.
"""

import os
import random

SEED = os.environ.get("CURRICLE_SEED", "0")


def draw(what: str) -> random.Random:
    """For one kind of file, or one command: what is drawn for it does not depend on the others."""
    return random.Random(f"{SEED} {what}")


def flips(usual: int) -> int:
    """How many bits are flipped."""
    return int(os.environ.get("CURRICLE_FLIPS", usual))


def kills(what: str, operations: int, usual: int) -> list[int]:
    """Before which of a command's operations it is killed."""
    wanted = os.environ.get("CURRICLE_KILLS", str(usual))
    count = operations if wanted == "all" else min(int(wanted), operations)
    return sorted(draw(what).sample(range(operations), count))
