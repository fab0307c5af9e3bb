"""Before a run: the passes that it will make, tried on documents whose losses the model also gives each alone."""

import contextlib
from collections.abc import Iterator, Sequence
from typing import Protocol

import numpy as np
import torch
from curricle.schemas.chat.positions import Alike, telling_lengths
from curricle.schemas.common.errors import UsageError
from curricle.train.data.batching import MicroBatch, micro_batches
from curricle.train.data.encoding import Encoded
from curricle.train.settings import BatchSettings
from transformers import PreTrainedModel

TOLERANCE, TOLERANCE_HALF = 1e-4, 0.1
"""Nats a token, on average over a document; the second for a forward pass in bfloat16."""
LENGTHS = (5, 17, 40)
REACH = 32
"""Tokens beyond a length from which on the model does something else."""


class Passes(Protocol):
    """See ``train.model.student.Scorer``."""

    model: PreTrainedModel
    plain_head: bool

    def __call__(self, micro: MicroBatch) -> torch.Tensor: ...

    def logits(self, micro: MicroBatch) -> torch.Tensor: ...


def check_passes(
    scorer: Passes, alike: Alike, batch: BatchSettings, max_length: int, device: torch.device, tolerance: float
) -> None:
    """Find out whether the head is plain, and whether documents in one pass have the losses that each has alone.

    UsageError, with the remedy, where they have not.
    """
    model = scorer.model
    name, training = type(model).__name__, model.training
    documents = _documents(model, max_length, batch)
    capacity = max(batch.tokens, len(LENGTHS) * max(LENGTHS))
    model.eval()
    try:
        with torch.no_grad():
            with _in_words(f"{name} cannot be asked for the losses of documents", "choose another architecture"):
                alone = [_alone(scorer, document, device) for document in documents]
                padded = micro_batches(documents, capacity, 1, False, alike)[0]
                scorer.plain_head = _head_is_plain(scorer, alone, padded, device, tolerance)
                off = _furthest(scorer, alone, padded, device)
            if not off <= tolerance:
                raise UsageError(
                    f"{name} gives a document other losses beside a longer one than alone, by {off:.2g} nats a token: "
                    "what stands after a token changes its loss",
                    remedy="choose a causal language model",
                )
            if not batch.packing:
                return
            remedy = "leave out --batch.packing: padded batches of documents of like length are exact"
            with _in_words(f"--batch.packing: {name} does not read documents in one sequence", remedy):
                off = _furthest(scorer, alone, micro_batches(documents, capacity, 1, True, alike)[0], device)
            if not off <= tolerance:
                raise UsageError(
                    f"--batch.packing: {name} with {model.config._attn_implementation} attention does not keep "
                    f"documents of a sequence apart: their losses are off by {off:.2g} nats a token",
                    remedy=remedy,
                )
    finally:
        model.train(training)


@contextlib.contextmanager
def _in_words(found: str, remedy: str) -> Iterator[None]:
    """UsageError for what a model's own code raises, which may be anything."""
    try:
        yield
    except torch.OutOfMemoryError:
        raise
    except Exception as error:
        raise UsageError(f"{found}: {type(error).__name__}: {error}", remedy=remedy) from error


def _head_is_plain(
    scorer: Passes, alone: Sequence[torch.Tensor], passes: Sequence[MicroBatch], device: torch.device, tolerance: float
) -> bool:
    """Whether the output embedding of the last hidden state gives the losses that the model itself gives."""
    if not isinstance(scorer.model.get_output_embeddings(), torch.nn.Linear):
        return False
    scorer.plain_head = True
    try:
        return _furthest(scorer, alone, passes, device) <= tolerance
    except torch.OutOfMemoryError:
        raise
    except (TypeError, AttributeError, KeyError, IndexError, ValueError, RuntimeError):
        return False  # what its body gives, or takes, is not what the head reads


def _documents(model: PreTrainedModel, max_length: int, batch: BatchSettings) -> list[Encoded]:
    """Documents of random tokens and unlike lengths, and longer ones where the config says that length matters.

    Of those the last tokens are scored, which is where it shows. With packing, sequences are as long, too.
    """
    known = int(model.get_input_embeddings().weight.shape[0])  # type: ignore[arg-type, union-attr, index]
    vocabulary = min(known, getattr(model.config.get_text_config(), "vocab_size", known))
    scored_from = {min(length, max_length): 1 for length in LENGTHS}
    order = [min(length, max_length) for length in LENGTHS]
    for length in telling_lengths(model.config, batch.tokens if batch.packing else max_length):
        whole, rest = divmod(length + REACH, max_length)
        more = [max_length] * whole + [max(2, rest)] if length >= max_length else [min(length + REACH, max_length)]
        if sum(order) < length + REACH:  # else the documents before it reach as far
            order += more
        scored_from.update({each: max(1, each - 2 * REACH) for each in more if each not in scored_from})
    draw = np.random.default_rng(0)
    return [
        Encoded(row, draw.integers(0, vocabulary, length), np.arange(scored_from[length], length))
        for row, length in enumerate(order)
    ]


def _single(document: Encoded) -> MicroBatch:
    ((micro,),) = micro_batches([document], len(document), 1, False)
    return micro


def _alone(scorer: Passes, document: Encoded, device: torch.device) -> torch.Tensor:
    """float64 (scored,): the losses of a document by the model's own logits."""
    micro = _single(document).to(device)
    log_p = scorer.logits(micro).double().log_softmax(-1)
    return -log_p.gather(1, micro.targets_S[:, None])[:, 0].cpu()


def _furthest(
    scorer: Passes,
    alone: Sequence[torch.Tensor],
    passes: Sequence[MicroBatch],
    device: torch.device,
) -> float:
    """How far the losses of a document are from those that it has alone, in nats a token, for the worst of them."""
    off = [
        (nll - alone[place]).abs().mean()
        for micro in passes
        for place, nll in zip(
            micro.documents, scorer(micro.to(device)).double().cpu().split(list(micro.counts)), strict=True
        )
    ]
    return float(torch.stack(off).max())  # not a number if one of them is not
