"""Which documents went into a forward pass: read from its tokens, whatever sampler, collator or loader made it."""

from collections.abc import Mapping, Sequence
from hashlib import blake2b
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from curricle.train.integrations.rows import IGNORED
from numpy.typing import NDArray

if TYPE_CHECKING:
    import datasets

SIZE = 16


def token_digest(tokens: NDArray[Any]) -> bytes:
    """16 bytes that stand for the tokens of a document."""
    return blake2b(np.ascontiguousarray(tokens, "<i4").data, digest_size=SIZE).digest()


class Documents(NamedTuple):
    """The rows of a dataset: ``digests`` of their tokens, their ``lengths``, and how many tokens are ``labelled``."""

    digests: list[bytes]
    lengths: NDArray[np.int64]
    labelled: NDArray[np.int64]


def documents_of(dataset: "datasets.Dataset") -> Documents:
    """What is to be known of the rows of a dataset. Without a column of labels every token has one."""
    has_labels = "labels" in dataset.column_names
    rows = dataset.select_columns(["input_ids", *(["labels"] if has_labels else [])]).with_format("numpy")
    digests, lengths, labelled = [], [], []
    for batch in rows.iter(batch_size=1024):
        digests += [token_digest(tokens) for tokens in batch["input_ids"]]
        lengths += [len(tokens) for tokens in batch["input_ids"]]
        labelled += [int((each[1:] != IGNORED).sum()) for each in batch["labels" if has_labels else "input_ids"]]
    return Documents(digests, np.array(lengths, np.int64), np.array(labelled, np.int64))


def document_index(inputs: Mapping[str, Any]) -> NDArray[np.int64]:
    """For each token of a pass the document that it belongs to, from 0; -1 for padding. int64 (B, T).

    A padded batch has a document in each line, and an attention mask. A batch without padding has all of its documents
    in one line, no mask, and positions that begin again at 0 with each of them::

        input_ids     5 6 7 | 8 9        positions  0 1 2 0 1        documents  0 0 0 1 1
    """
    lines, width = inputs["input_ids"].shape
    mask, positions = inputs.get("attention_mask"), inputs.get("position_ids")
    if mask is None and positions is not None:
        starts = positions.cpu().numpy().reshape(lines, width) == 0
        starts[:, 0] = True
        return np.cumsum(starts.reshape(-1)).reshape(lines, width) - 1
    rows = np.broadcast_to(np.arange(lines)[:, None], (lines, width))
    return rows.copy() if mask is None else np.where(mask.cpu().numpy() != 0, rows, -1)


def documents(inputs: Mapping[str, Any], index_BT: NDArray[np.int64]) -> list[NDArray[Any]]:
    """The tokens of each document of a pass, in order."""
    tokens = inputs["input_ids"].cpu().numpy()
    return [tokens[index_BT == document] for document in range(index_BT.max(initial=-1) + 1)]


def without_padding(digests: Sequence[bytes], inputs: Mapping[str, Any], expected: int) -> Sequence[bytes]:
    """The documents of a pass without what fills its line up where it has no mask: single tokens after the last."""
    surplus = len(digests) - expected
    if surplus <= 0 or inputs.get("attention_mask") is not None or inputs.get("position_ids") is None:
        return digests
    ends = inputs["position_ids"].cpu().numpy().reshape(-1)[-surplus:]
    return digests[:expected] if not ends.any() else digests
