"""What a run does where memory runs out: the passes of half as many tokens are tried first."""

import logging
from collections.abc import Iterator
from contextlib import contextmanager

from curricle.schemas.chat.memory import is_out_of_memory
from curricle.schemas.common.errors import UserError

log = logging.getLogger("curricle")

REMEDY = (
    "give a smaller --batch.tokens, which changes neither the rows of a step nor their order; --max-length shortens "
    "what one document needs, and --device.activation-checkpointing takes time instead of memory"
)


def smaller_passes(error: BaseException, what: str, capacity: int, documents: int, processes: int) -> int:
    """The tokens of a pass to try next; raises what is no lack of memory, and UserError where nothing is left to try.

    ``what`` ran out of memory with passes of ``capacity`` tokens, of at most so many ``documents``. Several processes
    make as many passes each, and none goes on alone.
    """
    if not is_out_of_memory(error):
        raise error
    if documents <= 1 or processes > 1:
        alone = "; it is not made again with fewer, because the other processes wait for this one inside of it"
        found = f"out of memory in {what}, with {capacity:,} tokens in a forward pass{alone if processes > 1 else ''}"
        raise UserError(found, remedy=REMEDY) from error
    half = max(1, capacity // 2)
    log.warning(
        "out of memory in %s, with %s tokens in a forward pass: it is made again with %s, and so is what follows. The "
        "rows of a step and their order are the same; its sums are added up in more parts, so that their last bits are "
        "those of a run with --batch.tokens %d from here on",
        what,
        f"{capacity:,}",
        f"{half:,}",
        half,
    )
    return half


@contextmanager
def memory_in_words() -> Iterator[None]:
    """UserError where memory runs out elsewhere than in passes: for the model itself, or the optimizer's moments."""
    try:
        yield
    except (RuntimeError, MemoryError) as error:
        if not is_out_of_memory(error):
            raise
        raise UserError(
            f"out of memory: {str(error).strip().partition(chr(10))[0] or 'none is left'}", remedy=REMEDY
        ) from error
