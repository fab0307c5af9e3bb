"""Ask the proxy for the losses of a batch."""

from collections.abc import Callable, Sequence
from dataclasses import replace

from curricle.curate.batch import Batch, LogLikelihood, Rendered
from curricle.curate.proxy import sequences
from curricle.curate.proxy.backend import Backend
from curricle.curate.proxy.sequences import Request, SpecialTokens
from curricle.curate.proxy.weights import Weights
from curricle.schemas.chat.rendering import beyond

NOTHING_BEFORE = "no token can precede the response"

_Build = Callable[[Rendered, SpecialTokens], Request | None]


def score_batch(batch: Batch, backend: Backend, unconditional: bool, on_progress: Callable[[int], None]) -> Batch:
    """The batch with ``conditional`` and, if asked, ``unconditional`` filled in, by one call of the backend."""
    wanted = [sequences.conditional, sequences.unconditional] if unconditional else [sequences.conditional]
    scores = _ask(batch, wanted, backend, on_progress)
    rows = len(batch)
    return replace(batch, conditional=scores[:rows], unconditional=scores[rows:] if unconditional else None)


def score_checkpoints(
    batch: Batch, backend: Backend, checkpoints: Sequence[Weights], on_progress: Callable[[int], None]
) -> Batch:
    """A batch that was scored before, with ``checkpoints``: what it has, and the losses under each of these weights."""
    assert batch.conditional is not None, "score the batch first"
    scores: list[Sequence[LogLikelihood]] = [batch.conditional]
    for weights in checkpoints:
        backend.take(weights)
        scores.append(_ask(batch, [sequences.conditional], backend, on_progress))
    return replace(batch, checkpoints=scores)


def _ask(
    batch: Batch, wanted: Sequence[_Build], backend: Backend, on_progress: Callable[[int], None]
) -> list[LogLikelihood]:
    """The log-likelihoods of the batch in the first form that is wanted, then in the next."""
    assert batch.rendered is not None, "render the batch first"
    planned: list[Request | LogLikelihood] = []
    for build in wanted:
        for rendered in batch.rendered:
            unscorable = _why_unscorable(rendered)
            request = None if unscorable else build(rendered, backend.special)
            unscorable = unscorable or (beyond(request.ids, backend.vocabulary) if request else NOTHING_BEFORE)
            planned.append(request if request and not unscorable else LogLikelihood(note=unscorable))
    asked = [item for item in planned if isinstance(item, Request)]
    answers = iter(backend.score(asked, on_progress))
    return [next(answers) if isinstance(item, Request) else item for item in planned]


def _why_unscorable(rendered: Rendered) -> str | None:
    if rendered.note:
        return rendered.note
    if rendered.spans:
        return None
    if rendered.response_tokens == 0:
        return "the response is empty"
    return f"the prompt fills the maximum length of {len(rendered.ids)} tokens: no response token is left"
