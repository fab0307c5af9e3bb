"""The proxy's own answer to what comes before the last response."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from curricle.curate.batch import Batch, Generated
from curricle.curate.passes.base import OnProgress
from curricle.curate.passes.models import Models
from curricle.curate.passes.rendering import ProxyPass
from curricle.schemas.chat.generation import prompt_of
from curricle.schemas.chat.rendering import beyond

if TYPE_CHECKING:
    from curricle.curate.proxy.backend import Backend
    from curricle.curate.proxy.questions import GenerationRequest


_SLOWER = 6
"""Times: to draw a token, the model is read from memory again, for a batch of rows; this is of the order measured."""


@dataclass(frozen=True)
class GenerationPass(ProxyPass[Sequence[Generated]]):
    """What the proxy itself answers to what comes before the last response: a ``Generated`` a row.

    Null with a note where there is no prompt, or no answer could be drawn.
    """

    def ask(self, batch: Batch, model: "Backend", on_progress: OnProgress) -> Sequence[Generated]:
        planned = self._planned(batch, model)
        answers = iter(model.answer([item for item in planned if not isinstance(item, str)], on_progress))
        drawn = [item if isinstance(item, str) else next(answers) for item in planned]
        return [model.speech.generated(item) for item in drawn]

    def identity(self, models: Models) -> dict[str, Any]:
        return {**super().identity(models), "generation": asdict(models.proxy.generation)}

    def flops(self, models: Models, tokens: float) -> float:
        """As if no answer ended before it is cut, and half of a row were its prompt."""
        drawn = models.proxy.generation.max_new_tokens
        return models.flops(self.model, tokens / 2) + _SLOWER * drawn * models.flops(self.model, 1)

    def work(self, batch: Batch, model: "Backend") -> int:
        """As if no answer ended before it is cut."""
        longest = model.speech.settings.max_new_tokens
        return sum(row.spans[-1][0] + longest for row in self.rendering.of(batch) if row.spans)

    def _planned(self, batch: Batch, model: "Backend") -> "list[GenerationRequest | str]":
        """What to ask for each row, or the reason why it cannot be asked."""
        planned: list[GenerationRequest | str] = []
        rows = batch.table.select(["example_id", "messages"]).to_pylist()
        for row, rendered in zip(rows, self.rendering.of(batch), strict=True):
            prompt = prompt_of(row["messages"], rendered)
            if not isinstance(prompt, str):
                prompt = beyond(prompt, model.vocabulary) or prompt
            planned.append(prompt if isinstance(prompt, str) else model.speech.question(prompt, row["example_id"]))
        return planned


GENERATION = GenerationPass("generation")
"""The proxy's own answer to each prompt, as ``--proxy.generation.…`` says: a ``Generated`` a row."""
