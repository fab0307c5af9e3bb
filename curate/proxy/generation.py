"""Ask the proxy to answer the prompts of a batch itself."""

from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING

from curricle.curate.batch import Batch
from curricle.curate.proxy.questions import GenerationRequest
from curricle.schemas.chat.generation import prompt_of
from curricle.schemas.chat.rendering import beyond

if TYPE_CHECKING:
    from curricle.curate.proxy.backend import Backend


def generate_batch(batch: Batch, backend: "Backend", on_progress: Callable[[int], None]) -> Batch:
    """The batch with ``generated`` filled in, by one call of the backend."""
    assert batch.rendered is not None, "render the batch first"
    speech = backend.speech
    planned: list[GenerationRequest | str] = []
    for row, rendered in zip(batch.table.select(["example_id", "messages"]).to_pylist(), batch.rendered, strict=True):
        prompt = prompt_of(row["messages"], rendered)
        if not isinstance(prompt, str):
            prompt = beyond(prompt, backend.vocabulary) or prompt
        planned.append(prompt if isinstance(prompt, str) else speech.question(prompt, row["example_id"]))
    answers = iter(backend.answer([item for item in planned if isinstance(item, GenerationRequest)], on_progress))
    found = [item if isinstance(item, str) else next(answers) for item in planned]
    return replace(batch, generated=[speech.generated(item) for item in found])
