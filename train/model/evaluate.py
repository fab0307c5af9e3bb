"""The loss on held-out rows: a sum of negative log-likelihoods over a sum of tokens, whatever the batches."""

from collections.abc import Sequence

from curricle.train.data.batching import Size
from curricle.train.data.encoding import Encoded
from curricle.train.distributed import Processes
from curricle.train.model.probe import CHUNK, score
from curricle.train.model.student import Student


def evaluate(
    student: Student, documents: Sequence[Encoded], capacity: int, processes: Processes
) -> tuple[float | None, int, Size]:
    """Mean loss in nats per response token (None without tokens), the number of tokens, and what it took."""
    chunks = (documents[start : start + CHUNK] for start in range(0, len(documents), CHUNK))
    scores = score(student, chunks, capacity, processes)
    tokens = int(scores.tokens.sum())
    return (float(scores.nll.sum() / tokens) if tokens else None), tokens, scores.size
