"""The proxy's log-likelihood of responses: given the prompt, without it, and under later checkpoints."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Self

from curricle.curate.batch import Batch, LogLikelihood
from curricle.curate.passes.base import OnProgress, Pass, merged
from curricle.curate.passes.models import Models
from curricle.curate.passes.rendering import RENDERING, ProxyPass
from curricle.curate.proxy.sequences import Request, SpecialTokens, conditional, unconditional
from curricle.schemas.chat.rendering import Rendered, beyond

if TYPE_CHECKING:
    from curricle.curate.proxy.backend import Backend

NOTHING_BEFORE = "no token can precede the response"


@dataclass(frozen=True)
class LikelihoodPass(ProxyPass[Sequence[LogLikelihood]]):
    """How likely the proxy finds each response: a ``LogLikelihood`` a row, the sum over its response tokens in nats.

    Null with a note where there is none. Several passes of this class are asked in one call, so that what their rows
    have in common at the start, such as the prompt, goes through the model once.
    """

    request: Callable[[Rendered, SpecialTokens], Request | None] = conditional
    """``request(rendered, special_tokens)``: which tokens to read and which of them to score; by default the response
    after the prompt. None where no token can precede the first one that is scored."""

    def ask(self, batch: Batch, model: "Backend", on_progress: OnProgress) -> Sequence[LogLikelihood]:
        return self.of(self.fill_together([self], batch, model, on_progress))

    def flops(self, models: Models, tokens: float) -> float:
        """Without the prompt about half is left."""
        return models.flops(self.model, tokens) / (2 if self.request is unconditional else 1)

    def least_flops(self, models: Models, rows: Sequence[Rendered]) -> Sequence[float]:
        """Every scored token passes the head. Those of a response pass the body, but for its last one, after which
        nothing is scored, and those with which another of the rows begins, too. A prompt may be that of rows that are
        not here, and what is left without a prompt may be in many: neither is counted.
        """
        if self.rendering != RENDERING or self.request not in (conditional, unconditional):
            return super().least_flops(models, rows)
        body, head = models.matrices()
        through = _new_of_responses(rows) if self.request is conditional else [0] * len(rows)
        return [2.0 * (body * each + head * _scored(row)) for each, row in zip(through, rows, strict=True)]

    def work(self, batch: Batch, model: "Backend") -> int:
        return sum(len(item.ids) for item in self._planned(batch, model) if isinstance(item, Request))

    @classmethod
    def fill_together(cls, passes: Sequence[Self], batch: Batch, model: "Backend", on_progress: OnProgress) -> Batch:
        planned = [item for each in passes for item in each._planned(batch, model)]
        answers = iter(model.score([item for item in planned if isinstance(item, Request)], on_progress))
        scores = [next(answers) if isinstance(item, Request) else item for item in planned]
        rows = len(batch)
        return batch.with_answers(
            {each.name: scores[index * rows : (index + 1) * rows] for index, each in enumerate(passes)}
        )

    def _planned(self, batch: Batch, model: "Backend") -> list[Request | LogLikelihood]:
        """What to ask of each row, or the null that stands there."""
        planned: list[Request | LogLikelihood] = []
        for rendered in self.rendering.of(batch):
            unscorable = _why_unscorable(rendered)
            request = None if unscorable else self.request(rendered, model.special)
            unscorable = unscorable or (beyond(request.ids, model.vocabulary) if request else NOTHING_BEFORE)
            planned.append(request if request and not unscorable else LogLikelihood(note=unscorable))
        return planned


def _why_unscorable(rendered: Rendered) -> str | None:
    if rendered.note:
        return rendered.note
    if rendered.spans:
        return None
    if rendered.response_tokens == 0:
        return "the response is empty"
    return f"the prompt fills the maximum length of {len(rendered.ids)} tokens: no response token is left"


def _scored(row: Rendered) -> int:
    """At least so many tokens: none where it depends on the tokenizer whether anything stands before the first."""
    preceded = row.spans and row.spans[0][0] > 0 and row.headers[0][0] < row.headers[0][1]
    return sum(end - start for start, end in row.spans) if preceded else 0


def _new_of_responses(rows: Sequence[Rendered]) -> list[int]:
    """How many tokens of each row's responses, without the last, stand behind what it shares with any other row before
    it in lexicographic order.
    """
    new = [0] * len(rows)
    before: tuple[int, ...] = ()
    for index in sorted(range(len(rows)), key=lambda index: tuple(rows[index].ids)):
        ids = tuple(rows[index].ids)
        common = next(
            (at for at, (a, b) in enumerate(zip(before, ids, strict=False)) if a != b), min(len(before), len(ids))
        )
        if _scored(rows[index]):
            new[index] = sum(max(0, end - 1 - max(start, common)) for start, end in rows[index].spans)
        before = ids
    return new


LOSS = LikelihoodPass("loss")
"""The log-likelihood of the response given the prompt: a ``LogLikelihood`` a row."""
UNCONDITIONAL_LOSS = LikelihoodPass("unconditional_loss", request=unconditional)
"""That of the same response tokens without the prompt (``curate.proxy.sequences``)."""


@dataclass(frozen=True)
class CheckpointPass(ProxyPass[Sequence[Sequence[LogLikelihood]]]):
    """``LOSS`` under each checkpoint of the proxy: sequences of rows, from the first checkpoint to the last.

    The first is the proxy itself.
    """

    requires: tuple[Pass[Any], ...] = (RENDERING, LOSS)

    def ask(self, batch: Batch, model: "Backend", on_progress: OnProgress) -> Sequence[Sequence[LogLikelihood]]:
        """One after the other instead of the loaded weights, which are put back whatever happens."""
        first, losses = model.weights, [LOSS.of(batch)]
        try:
            for weights in model.checkpoints:
                model.take(weights)
                losses.append(LOSS.ask(batch, model, on_progress))
        finally:
            model.take(first)
        return losses

    def identity(self, models: Models) -> dict[str, Any]:
        later = {"proxy": {"checkpoints": [weights.identity for weights in models.checkpoints]}}
        return merged([super().identity(models), later])

    def flops(self, models: Models, tokens: float) -> float:
        return len(models.checkpoints) * LOSS.flops(models, tokens)

    def least_flops(self, models: Models, rows: Sequence[Rendered]) -> Sequence[float]:
        return [len(models.checkpoints) * each for each in LOSS.least_flops(models, rows)]

    def work(self, batch: Batch, model: "Backend") -> int:
        return len(model.checkpoints) * LOSS.work(batch, model)


CHECKPOINT_LOSSES = CheckpointPass("checkpoint_losses")
"""``LOSS`` under each of ``--proxy.checkpoints``: for each checkpoint a sequence of ``LogLikelihood``, one a row."""
