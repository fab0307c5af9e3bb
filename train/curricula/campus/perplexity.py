"""The perplexity of a set of rows, from sums of NLL and counts of tokens."""

from typing import Literal

import numpy as np
from numpy.typing import NDArray

Averaging = Literal["sample_mean", "mean_ppl", "token"]


def log_perplexity(nll: NDArray[np.float64], tokens: NDArray[np.int64], averaging: Averaging) -> float | None:
    """The natural logarithm of a set's perplexity; None if no row has a token.

    ``nll``: float64 (rows,), sums in nats; ``tokens``: int64 (rows,). Rows without tokens do not count.
    ``sample_mean``: exp of the mean of each row's mean NLL. ``mean_ppl``: the mean of each row's perplexity.
    ``token``: exp of all NLL over all tokens. (CAMPUS does not say which; docs/methods.md, "Perplexity of a set".)
    """
    scored = tokens > 0
    if not scored.any():
        return None
    nll, tokens = nll[scored], tokens[scored]
    if averaging == "token":
        return float(nll.sum() / tokens.sum())
    means = nll / tokens
    if averaging == "sample_mean":
        return float(means.mean())
    highest = means.max()  # subtracted first, so that exp cannot overflow
    return float(highest + np.log(np.exp(means - highest).mean()))
