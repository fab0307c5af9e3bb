"""The rows of a table as a dataset of tokens and labels: the ones that the scores are about, and `curricle-train` uses.

Template and mask are those of ``train.data.encoding``: labels are -100 but where the table counts a response token.
"""

import logging
from collections import Counter
from collections.abc import Iterable, Iterator
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
from curricle.schemas.common.errors import UsageError
from curricle.schemas.common.wording import counted
from curricle.train.data.documents import DocumentReader
from curricle.train.data.encoding import ConversationTokenizer, Encoded
from curricle.train.data.table import Rows, Table, check_open
from curricle.train.ordering.order import Order

if TYPE_CHECKING:
    import datasets
    from transformers import PreTrainedTokenizerBase

log = logging.getLogger("curricle")

IGNORED = -100
"""The label of a token whose loss does not count, as torch and transformers have it."""
CHUNK = 1024
SCHEMA = pa.schema({"input_ids": pa.list_(pa.int32()), "labels": pa.list_(pa.int32()), "example_id": pa.string()})


def require(package: str) -> None:
    """UsageError if a package of the extra is not installed."""
    if find_spec(package) is None:
        raise UsageError(f"{package} is not installed", remedy='pip install "curricle[trl]"')


def as_dataset(
    table: Table,
    tokenizer: "PreTrainedTokenizerBase",
    order: Order | None = None,
    *,
    max_length: int = 1024,
    template: str = "chat",
) -> "datasets.Dataset":
    """Rows of a table as tokens: columns ``input_ids``, ``labels`` and ``example_id``.

    ``order``: what ``train.order`` gives; the dataset has one row for each visit, in its order. Without one, it has the
    rows of the table. ``max_length``: tokens after which a row is cut. ``template``: ``"chat"`` for that of the
    tokenizer, ``"alpaca"`` or ``"plain"``. A row that cannot be rendered is one token without a label, so that it is
    visited and adds no loss; how many there are is logged. The tokens are held in memory, 8 bytes for each of a row
    that is visited; a row that is visited twice is there once.
    Raises UsageError for a tokenizer without offsets or template, and UserError where the text of a row is not what
    its ``example_id`` stands for.
    """
    check_open(table)
    require("datasets")
    import datasets

    reader = DocumentReader(ConversationTokenizer(tokenizer, template, max_length), table.where)
    rows, visits = (np.arange(len(table)), None) if order is None else np.unique(order.rows, return_inverse=True)
    notes: Counter[str] = Counter()
    stub = next((it for it in (tokenizer.pad_token_id, tokenizer.eos_token_id) if it is not None), 0)
    arrow = pa.Table.from_batches(_batches(table, rows, reader, stub, notes), SCHEMA)
    for note, number in notes.items():
        log.info("  %s: %s", note, counted(number, "row"))
    name = f"{table.digest}{max_length}{template}"  # else datasets hashes every byte
    dataset = datasets.Dataset(datasets.table.InMemoryTable(arrow), fingerprint=datasets.fingerprint.Hasher.hash(name))
    return dataset if visits is None else dataset.select(visits)


def _batches(
    table: Table, rows: Rows, reader: DocumentReader, stub: int, notes: Counter[str]
) -> Iterator[pa.RecordBatch]:
    for start in range(0, len(rows), CHUNK):
        chunk = rows[start : start + CHUNK]
        documents = reader.encode(table, chunk)
        notes.update(note for document in documents for note in document.notes)
        tokens = [document.ids if len(document) else np.array([stub]) for document in documents]
        labels = [_labels(document) for document in documents]
        ids = [table.ids[row].tobytes().hex() for row in chunk]
        yield pa.record_batch([_lists(tokens), _lists(labels), pa.array(ids)], schema=SCHEMA)


def _labels(document: Encoded) -> np.ndarray[Any, np.dtype[np.int64]]:
    labels = np.full(max(1, len(document)), IGNORED, np.int64)
    labels[document.scored] = document.ids[document.scored]
    return labels


def _lists(arrays: Iterable[Any]) -> pa.Array:
    arrays = [*arrays]
    offsets = np.cumsum([0, *(len(each) for each in arrays)], dtype=np.int32)
    return pa.ListArray.from_arrays(pa.array(offsets), pa.array(np.concatenate(arrays), pa.int32()))
