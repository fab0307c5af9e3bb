"""When a model is loaded: the passes that score rows, tried on rows whose log p the model also gives each alone."""

import logging
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, Protocol

import numpy as np
import torch
from curricle.curate.proxy.attention import Tree, Trunk, attending_in_packs
from curricle.curate.proxy.bounded import in_batches
from curricle.curate.proxy.packing import ForwardInput, packed, packs, padded
from curricle.curate.proxy.sequences import Request
from curricle.schemas.chat.memory import is_out_of_memory
from curricle.schemas.chat.positions import Alike, telling_lengths
from curricle.schemas.chat.trials import (
    LENGTHS,
    OTHER,
    REACH,
    check_causal,
    find_head,
    furthest,
    holds,
    in_words,
    tolerance,
    vocabulary,
)
from curricle.schemas.common.wording import first_line

log = logging.getLogger("curricle")


class ScoringModel(Protocol):
    """See ``curate.proxy.transformers_backend``."""

    model: Any
    device: torch.device
    dtype: torch.dtype
    alike: Alike
    plain_head: bool
    in_packs: bool

    def nats(self, batch: Sequence[Request], layout: ForwardInput) -> torch.Tensor: ...


def check_passes(proxy: ScoringModel, max_length: int) -> None:
    """Find out whether the proxy's head is plain, and whether it may score rows in packs.

    UsageError where rows in one pass do not have the numbers that each has alone, or the model cannot be asked.
    """
    # on a GPU also one of several blocks: what is compiled for other sizes than the first is tried before it is needed
    more = (3 * Tree.block,) if proxy.device.type == "cuda" else ()
    requests = _requests(proxy.model, max_length, (*LENGTHS, *more))
    bound = tolerance(torch.finfo(proxy.dtype).eps)
    proxy.plain_head = proxy.in_packs = False
    with in_words(f"{type(proxy.model).__name__} cannot be asked for the log p of tokens", OTHER):
        alone = [proxy.nats([each], padded([each.ids], proxy.device)) for each in requests]
        find_head(proxy, lambda: _furthest(proxy, alone, requests, _padded), bound)
        off = _furthest(proxy, alone, requests, _padded)
    check_causal(proxy.model, "a row another loss", off, bound)
    config = proxy.model.config.get_text_config()
    windows = [getattr(config, name, None) for name in ("sliding_window", "attention_chunk_size")]
    near = any(window and window <= max_length for window in windows)
    if config._attn_implementation == "sdpa" and not near:
        # so many that rows share what they have in common inside of a pack, and so few that a pack goes on from another
        ways = [partial(_packed, tokens=tokens) for tokens in (2 * max(LENGTHS), max(LENGTHS))]
        proxy.in_packs = all(_packs_hold(proxy, partial(_furthest, proxy, alone, requests, way), bound) for way in ways)


def _packs_hold(proxy: ScoringModel, trial: Callable[[], float], bound: float) -> bool:
    """Whether the numbers of rows in packs are within a bound; where a GPU has no code for them, that is said."""
    if proxy.device.type == "cpu":
        return holds(trial, bound)
    try:
        return trial() <= bound
    except Exception as error:  # what a compiler raises may be anything
        if is_out_of_memory(error):
            raise
        log.warning("rows pass padded, not in packs: their attention cannot be compiled here: %s", first_line(error))
        return False


_Way = Callable[[ScoringModel, Sequence[Request]], dict[int, torch.Tensor]]


def _furthest(proxy: ScoringModel, alone: Sequence[torch.Tensor], requests: Sequence[Request], way: _Way) -> float:
    nats_of = way(proxy, requests)
    return furthest((nats_of[index], nats) for index, nats in enumerate(alone))


def _padded(proxy: ScoringModel, requests: Sequence[Request]) -> dict[int, torch.Tensor]:
    nats_of: dict[int, torch.Tensor] = {}
    rows = [request.ids for request in requests]

    def work(batch: list[int]) -> None:
        _take(proxy, requests, batch, padded([rows[index] for index in batch], proxy.device), nats_of)

    in_batches([len(row) for row in rows], len(rows) * max(LENGTHS), work, _unexpected, proxy.alike)
    return nats_of


def _packed(proxy: ScoringModel, requests: Sequence[Request], tokens: int) -> dict[int, torch.Tensor]:
    nats_of: dict[int, torch.Tensor] = {}
    rows, trunk = [request.ids for request in requests], Trunk()
    starts = [request.spans[0][0] - 1 for request in requests]
    with attending_in_packs(proxy.model):
        for pack in packs(rows, starts, tokens, proxy.alike):
            _take(proxy, requests, pack.rows, packed(rows, pack, trunk, proxy.dtype, proxy.device), nats_of)
    return nats_of


def _take(
    proxy: ScoringModel,
    requests: Sequence[Request],
    batch: list[int],
    layout: ForwardInput,
    nats_of: dict[int, torch.Tensor],
) -> None:
    chosen = [requests[index] for index in batch]
    nats_of.update(zip(batch, proxy.nats(chosen, layout).split([each.count for each in chosen]), strict=True))


def _unexpected(index: int) -> None:
    raise torch.OutOfMemoryError


def _requests(model: Any, max_length: int, lengths: Sequence[int]) -> list[Request]:
    """Rows of random tokens and of these lengths, two of which begin alike, and longer ones where the config says that
    length matters. Of those the last tokens are scored, which is where it shows.
    """
    draw = np.random.default_rng(0)
    spans = {max(2, min(length, max_length)): 1 for length in lengths}
    for length in telling_lengths(model.config, max_length):
        spans.setdefault(min(length + REACH, max_length), max(1, length - REACH))
    tokens = vocabulary(model)
    rows = [(draw.integers(0, tokens, length).tolist(), start) for length, start in spans.items()]
    row, start = rows[len(LENGTHS) - 1] if len(rows) >= len(LENGTHS) else rows[-1]
    half = len(row) // 2
    rows.append((row[:half] + draw.integers(0, tokens, len(row) - half).tolist(), max(start, half)))
    return [Request(ids, ((start, len(ids)),)) for ids, start in rows]
