"""MTLD, the measure of textual lexical diversity (McCarthy & Jarvis 2010, Behavior Research Methods 42(2)).

The formula, and in what implementations differ: docs/methods.md, "MTLD".
"""

from collections.abc import Sequence

import pyarrow as pa
from curricle.curate.batch import Batch, Scores
from curricle.curate.metric import Metric
from curricle.curate.metrics.cells import Cell, to_scores
from curricle.curate.words import SEGMENTATION, UNICODE, with_ascii_rules
from curricle.schemas.columns import ScoreColumn

THRESHOLD = 0.72
NO_WORDS = "no words"

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
    from curricle.curate.metrics import mtld_kernel  # numba takes a while to import: only where it is used

    values = mtld_kernel.mtld(with_ascii_rules(texts), THRESHOLD)
    return pa.array(values, from_pandas=True).to_pylist()  # the kernel's NaN becomes None


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
