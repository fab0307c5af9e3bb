"""Before a run: the passes that it will make, tried on documents whose losses the model also gives each alone."""

import contextlib
from collections.abc import Iterator, Sequence
from typing import Protocol

import numpy as np
import torch
from curricle.schemas.chat.positions import Alike, telling_lengths
from curricle.schemas.chat.trials import (
    LENGTHS,
    OTHER,
    REACH,
    TOLERANCE,
    check_causal,
    find_head,
    furthest,
    in_words,
    tolerance,
    vocabulary,
)
from curricle.schemas.common.errors import UsageError
from curricle.train.data.batching import MicroBatch, micro_batches
from curricle.train.data.encoding import Encoded
from curricle.train.settings import BatchSettings
from transformers import PreTrainedModel

HALF = torch.bfloat16
"""The arithmetic of flash attention, which has no other here."""


class NllModel(Protocol):
    """See ``train.model.student.Scorer``."""

    model: PreTrainedModel
    plain_head: bool

    def __call__(self, micro: MicroBatch) -> torch.Tensor: ...

    def logits(self, micro: MicroBatch) -> torch.Tensor: ...


def check_passes(
    scorer: NllModel, alike: Alike, batch: BatchSettings, max_length: int, device: torch.device, half: bool = False
) -> None:
    """Find out whether the head is plain, and whether documents in one pass have the losses that each has alone.

    UsageError, with the remedy, where they have not. In bfloat16 alone that would prove little: with ``half`` the
    architecture is tried in float32 first, by another attention where its own has no float32, and then its own passes
    in bfloat16 are tried against each other.
    """
    model = scorer.model
    documents = _documents(model, max_length, batch)
    capacity = max(batch.tokens, len(LENGTHS) * max(LENGTHS))
    padded = micro_batches(documents, capacity, 1, False, alike)[0]
    packed = micro_batches(documents, capacity, 1, True, alike)[0] if batch.packing else None
    training = model.training
    model.eval()
    try:
        with torch.no_grad():
            with _in_float32(model):
                with in_words(f"{type(model).__name__} cannot be asked for the losses of documents", OTHER):
                    alone = [_alone(scorer, document, device) for document in documents]
                    find_head(scorer, lambda: _furthest(scorer, alone, padded, device), TOLERANCE)
                _compare(scorer, alone, padded, packed, device, TOLERANCE)
            if half:
                with torch.autocast(device.type, HALF):
                    alone = [scorer(_single(each).to(device)).double().cpu() for each in documents]
                    _compare(scorer, alone, padded, packed, device, tolerance(torch.finfo(HALF).eps))
    finally:
        model.train(training)


def _compare(
    scorer: NllModel,
    alone: Sequence[torch.Tensor],
    padded: Sequence[MicroBatch],
    packed: Sequence[MicroBatch] | None,
    device: torch.device,
    bound: float,
) -> None:
    """UsageError where passes over several documents are further than this from those over each alone."""
    name = type(scorer.model).__name__
    with in_words(f"{name} cannot be asked for the losses of documents", OTHER):
        off = _furthest(scorer, alone, padded, device)
    check_causal(scorer.model, "a document other losses", off, bound)
    if packed is None:
        return
    remedy = "leave out --batch.packing: padded batches of documents of like length are exact"
    with in_words(f"--batch.packing: {name} does not read documents in one sequence", remedy):
        off = _furthest(scorer, alone, packed, device)
    if not off <= bound:
        raise UsageError(
            f"--batch.packing: {name} with {scorer.model.config._attn_implementation} attention does not keep "
            f"documents of a sequence apart: their losses are off by {off:.2g} nats a token",
            remedy=remedy,
        )


@contextlib.contextmanager
def _in_float32(model: PreTrainedModel) -> Iterator[None]:
    """Attention that knows float32 instead of flash attention, which does not."""
    own = model.config._attn_implementation
    if own != "flash_attention_2":
        yield
        return
    model.set_attn_implementation("sdpa" if model._supports_sdpa else "eager")
    try:
        yield
    finally:
        model.set_attn_implementation(own)


def _documents(model: PreTrainedModel, max_length: int, batch: BatchSettings) -> list[Encoded]:
    """Documents of random tokens and unlike lengths, and longer ones where the config says that length matters.

    Of those the last tokens are scored, which is where it shows. With packing, sequences are as long, too.
    """
    tokens = vocabulary(model)
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
        Encoded(row, draw.integers(0, tokens, length), np.arange(scored_from[length], length))
        for row, length in enumerate(order)
    ]


def _single(document: Encoded) -> MicroBatch:
    ((micro,),) = micro_batches([document], len(document), 1, False)
    return micro


def _alone(scorer: NllModel, document: Encoded, device: torch.device) -> torch.Tensor:
    """float64 (scored,): the losses of a document by the model's own logits."""
    micro = _single(document).to(device)
    log_p = scorer.logits(micro).double().log_softmax(-1)
    return -log_p.gather(1, micro.targets_S[:, None])[:, 0].cpu()


def _furthest(
    scorer: NllModel,
    alone: Sequence[torch.Tensor],
    passes: Sequence[MicroBatch],
    device: torch.device,
) -> float:
    return furthest(
        (nll, alone[index])
        for micro in passes
        for index, nll in zip(
            micro.documents, scorer(micro.to(device)).double().cpu().split(list(micro.counts)), strict=True
        )
    )
