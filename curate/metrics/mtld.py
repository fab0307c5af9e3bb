"""MTLD, the measure of textual lexical diversity (McCarthy & Jarvis 2010, Behavior Research Methods 42(2)).

The formula, and in what implementations differ: docs/methods.md, "MTLD".
"""

import sys
from collections.abc import Sequence

import pyarrow as pa
from curricle.curate.batch import Batch, Scores
from curricle.curate.metric import Metric
from curricle.curate.metrics.cells import Cell, to_scores
from curricle.curate.words import SEGMENTATION, UNICODE, tokens, with_ascii_rules
from curricle.schemas.columns import ScoreColumn

THRESHOLD = 0.72
NO_WORDS = "no words"
FEW = 1 << 21
"""Characters: a process that has measured no more gains nothing from compiled loops, whose libraries take longer."""

_MEANING = (
    "MTLD: mean length of the runs of words that keep a type-token ratio above 0.72, forwards and backwards "
    "(McCarthy & Jarvis 2010); unreliable below about 50 words"
)

COLUMNS = (
    ScoreColumn("prompt_mtld", pa.float64(), "words", f"{_MEANING}; of the prompt", hard="high"),
    ScoreColumn("response_mtld", pa.float64(), "words", f"{_MEANING}; of the response", hard="high"),
)


def compute(batch: Batch) -> Scores:
    """MTLD of prompts and responses, null with a note where a text has no words."""
    cells: dict[str, Sequence[Cell]] = {
        "prompt_mtld": [NO_WORDS if value is None else value for value in mtld(batch.prompts)],
        "response_mtld": [NO_WORDS if value is None else value for value in mtld(batch.responses)],
    }
    return to_scores(COLUMNS, cells)


def mtld(texts: Sequence[str]) -> list[float | None]:
    """MTLD of each text, equal to the last bit to lexicalrichness 0.5.1 on the tokens of ``curate.words.tokens``.

    None for a text without words, where lexicalrichness divides by zero.
    """
    global _measured
    _measured += sum(map(len, texts))
    if _measured <= FEW and _KERNEL not in sys.modules:
        return [_by_words(tokens(text)) for text in texts]
    from curricle.curate.metrics import mtld_kernel

    values = mtld_kernel.mtld(with_ascii_rules(texts), THRESHOLD)
    return pa.array(values, from_pandas=True).to_pylist()  # the kernel's NaN becomes None


_KERNEL = "curricle.curate.metrics.mtld_kernel"
_measured = 0


def _by_words(words: Sequence[str]) -> float | None:
    """MTLD of a text with these words, in plain Python."""
    if not words:
        return None
    forward, backward = len(words) / _factors(words), len(words) / _factors(words[::-1])
    return (forward + backward) / 2


def _factors(words: Sequence[str]) -> float:
    """How many runs of words the text makes in this direction, the last one in part; 1 if no word comes twice."""
    types: set[str] = set()
    whole = count = 0
    for word in words:
        count += 1
        types.add(word)
        if len(types) / count <= THRESHOLD:
            whole += 1
            count = 0
            types.clear()
    part = (1 - len(types) / count) / (1 - THRESHOLD) if count else 0.0
    return whole + part or 1.0


METRIC = Metric(
    "mtld",
    1,
    COLUMNS,
    compute,
    params={
        "threshold": THRESHOLD,
        "tokeniser": "lexicalrichness 0.5.1",
        "segmentation": SEGMENTATION,
        "unicode": UNICODE,
    },
)
