"""From renderings to what a backend scores: tokens to read, and which of them to score.

The conditional loss reads the rendering as it is. The unconditional loss scores the same tokens without what they
answer: it reads BOS, where the rendering begins with one, and then for each response the template's header and the
response (docs/methods.md, "Without the prompt"). For Alpaca that is "### Response:" and the output, as Cherry LLM
scores an answer alone.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

from curricle.schemas.chat.rendering import Rendered


class SpecialTokens(NamedTuple):
    """Ids of the tokenizer's beginning- and end-of-text tokens, where it has them."""

    bos: int | None
    eos: int | None


@dataclass(frozen=True)
class Request:
    """Token ids, and the half-open ranges of them to score. Position 0 is never scored: nothing precedes it."""

    ids: Sequence[int]
    spans: Sequence[tuple[int, int]]

    def __post_init__(self) -> None:
        assert self.spans and all(0 < start < end <= len(self.ids) for start, end in self.spans), self.spans

    @property
    def count(self) -> int:
        return sum(end - start for start, end in self.spans)


def conditional(rendered: Rendered, special: SpecialTokens) -> Request | None:
    """The response after its prompt; None if nothing can precede its first token."""
    return _request(rendered.ids, rendered.spans, special)


def unconditional(rendered: Rendered, special: SpecialTokens) -> Request | None:
    """The same response tokens without the prompt; None if nothing can precede the first."""
    ids: list[int] = []
    spans = []
    opening, begins = rendered.ids[0], rendered.headers[0][0]
    if opening == special.bos and opening != rendered.ids[begins]:
        ids.append(opening)
    for header, (start, end) in zip(rendered.headers, rendered.spans, strict=True):
        ids += rendered.ids[slice(*header)]
        spans.append((len(ids), len(ids) + end - start))
        ids += rendered.ids[start:end]
    return _request(ids, spans, special)


def _request(ids: Sequence[int], spans: Sequence[tuple[int, int]], special: SpecialTokens) -> Request | None:
    if spans[0][0] > 0:
        return Request(ids, spans)
    before = special.eos if special.bos is None else special.bos
    if before is None:
        return None
    return Request([before, *ids], [(start + 1, end + 1) for start, end in spans])
