"""When a model is loaded: the passes that score rows, tried on rows whose log p the model also gives each alone."""

from collections.abc import Callable, Sequence
from typing import Any, Protocol

import numpy as np
import torch
from curricle.curate.proxy.bounded import in_batches
from curricle.curate.proxy.packing import ForwardInput, Trunk, attending_along_branches, packed, packs, padded
from curricle.curate.proxy.sequences import Request
from curricle.schemas.chat.positions import Alike, telling_lengths
from curricle.schemas.chat.trials import LENGTHS, REACH, tolerance, vocabulary
from curricle.schemas.common.errors import UsageError


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
    name = type(proxy.model).__name__
    requests = _requests(proxy.model, max_length)
    bound = tolerance(torch.finfo(proxy.dtype).eps)
    proxy.plain_head = proxy.in_packs = False
    try:
        alone = [proxy.nats([each], padded([each.ids], proxy.device)) for each in requests]
        proxy.plain_head = isinstance(proxy.model.get_output_embeddings(), torch.nn.Linear)
        proxy.plain_head = proxy.plain_head and _tried(proxy, alone, requests, _padded, bound)
        off = _furthest(proxy, alone, requests, _padded)
    except torch.OutOfMemoryError:
        raise
    except Exception as error:  # of a model's own code, which may be anything
        raise UsageError(
            f"{name} cannot be asked for the log p of tokens: {type(error).__name__}: {error}",
            remedy="choose another architecture",
        ) from error
    if not off <= bound:
        raise UsageError(
            f"{name} gives a row another loss beside a longer one than alone, by {off:.2g} nats a token: "
            "what stands after a token changes its loss",
            remedy="choose a causal language model",
        )
    config = proxy.model.config.get_text_config()
    windows = [getattr(config, name, None) for name in ("sliding_window", "attention_chunk_size")]
    near = any(window and window <= max_length for window in windows)
    # On a GPU packs are as exact, but it has better things to do than to attend row by row.
    if proxy.device.type == "cpu" and config._attn_implementation == "sdpa" and not near:
        proxy.in_packs = _tried(proxy, alone, requests, _packed, bound)


_Way = Callable[[ScoringModel, Sequence[Request]], dict[int, torch.Tensor]]


def _tried(
    proxy: ScoringModel, alone: Sequence[torch.Tensor], requests: Sequence[Request], way: _Way, bound: float
) -> bool:
    """Whether rows scored in this way have the numbers that they have alone. What fails in it is not for this model."""
    try:
        return _furthest(proxy, alone, requests, way) <= bound
    except torch.OutOfMemoryError:
        raise
    except (TypeError, AttributeError, KeyError, IndexError, ValueError, RuntimeError):
        return False


def _furthest(proxy: ScoringModel, alone: Sequence[torch.Tensor], requests: Sequence[Request], way: _Way) -> float:
    """How far the log p of a row's tokens is from that of the row alone, in nats a token, for the worst of them."""
    nats_of = way(proxy, requests)
    return float(torch.stack([(nats_of[index] - nats).abs().mean() for index, nats in enumerate(alone)]).max())


def _padded(proxy: ScoringModel, requests: Sequence[Request]) -> dict[int, torch.Tensor]:
    nats_of: dict[int, torch.Tensor] = {}
    rows = [request.ids for request in requests]

    def work(batch: list[int]) -> None:
        _take(proxy, requests, batch, padded([rows[index] for index in batch], proxy.device), nats_of)

    in_batches([len(row) for row in rows], len(rows) * max(LENGTHS), work, _unexpected, proxy.alike)
    return nats_of


def _packed(proxy: ScoringModel, requests: Sequence[Request]) -> dict[int, torch.Tensor]:
    nats_of: dict[int, torch.Tensor] = {}
    rows, trunk = [request.ids for request in requests], Trunk()
    starts = [request.spans[0][0] - 1 for request in requests]
    with attending_along_branches(proxy.model):
        for pack in packs(rows, starts, 2 * max(LENGTHS), proxy.alike):
            _take(proxy, requests, pack.rows, packed(rows, pack, trunk, proxy.dtype), nats_of)
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


def _requests(model: Any, max_length: int) -> list[Request]:
    """Rows of random tokens and unlike lengths, two of which begin alike, and longer ones where the config says that
    length matters. Of those the last tokens are scored, which is where it shows.
    """
    draw = np.random.default_rng(0)
    spans = {max(2, min(length, max_length)): 1 for length in LENGTHS}
    for length in telling_lengths(model.config, max_length):
        spans.setdefault(min(length + REACH, max_length), max(1, length - REACH))
    tokens = vocabulary(model)
    rows = [(draw.integers(0, tokens, length).tolist(), start) for length, start in spans.items()]
    row, start = rows[len(LENGTHS) - 1] if len(rows) >= len(LENGTHS) else rows[-1]
    half = len(row) // 2
    rows.append((row[:half] + draw.integers(0, tokens, len(row) - half).tolist(), max(start, half)))
    return [Request(ids, ((start, len(ids)),)) for ids, start in rows]
