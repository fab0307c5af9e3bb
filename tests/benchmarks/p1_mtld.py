"""P1: text to MTLD, on one core."""

import json
import os
from collections.abc import Sequence
from itertools import islice

from alpaca import FILE
from curricle.curate.metrics.mtld import mtld
from curricle.curate.words import hold_unspaced
from harness import Comparison, Setting, alternate, timed
from lexicalrichness import LexicalRichness

ROWS = 46_846


def reference(texts: Sequence[str]) -> list[float | None]:
    """lexicalrichness, as its own documentation calls it."""
    result = map(LexicalRichness, texts)
    return [lex.mtld() if lex.words else None for lex in result]


def measure(setting: Setting) -> list[Comparison]:
    os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
    with (setting.data / FILE).open(encoding="utf-8") as lines:
        texts = [json.loads(line)["output"] for line in islice(lines, setting.rows(ROWS))]
    spaced = [text for text, unspaced in zip(texts, hold_unspaced(texts), strict=True) if not unspaced]
    assert mtld(spaced) == reference(spaced), "a value differs"
    ours, theirs = alternate(timed(lambda _: mtld(texts)), timed(lambda _: reference(texts)), rounds=setting.rounds)
    work = f"{len(texts):,} Alpaca responses, text to MTLD, one core"
    return [Comparison("P1", work, "lexicalrichness", ours, theirs, goal=20, note="equal to the last bit")]
