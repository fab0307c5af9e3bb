"""Ask the proxy for the losses of a batch."""

from collections.abc import Callable
from dataclasses import replace

from curate.batch import Batch, LogLikelihood, Rendered
from curate.proxy import sequences
from curate.proxy.backend import Backend
from curate.proxy.sequences import Request


def score_batch(batch: Batch, backend: Backend, unconditional: bool, on_progress: Callable[[int], None]) -> Batch:
    """The batch with ``conditional`` and, if asked, ``unconditional`` filled in, by one call of the backend."""
    assert batch.rendered is not None, "render the batch first"
    wanted = [sequences.conditional, sequences.unconditional] if unconditional else [sequences.conditional]
    planned: list[Request | LogLikelihood] = []
    for build in wanted:
        for rendered in batch.rendered:
            unscorable = _why_unscorable(rendered)
            request = None if unscorable else build(rendered, backend.special)
            planned.append(request or LogLikelihood(note=unscorable or "no token can precede the response"))
    asked = [item for item in planned if isinstance(item, Request)]
    answers = iter(backend.score(asked, on_progress))
    scores = [next(answers) if isinstance(item, Request) else item for item in planned]
    rows = len(batch)
    return replace(batch, conditional=scores[:rows], unconditional=scores[rows:] if unconditional else None)


def _why_unscorable(rendered: Rendered) -> str | None:
    if rendered.note:
        return rendered.note
    if rendered.spans:
        return None
    if rendered.response_tokens == 0:
        return "the response is empty"
    return f"the prompt fills the maximum length of {len(rendered.ids)} tokens: no response token is left"
