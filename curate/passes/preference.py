"""Both answers of preference data: each alone, in the conversation that it ends."""

import json
from collections.abc import Sequence
from dataclasses import dataclass

from curricle.curate.batch import Batch
from curricle.curate.passes.loss import LikelihoodPass
from curricle.curate.passes.rendering import RenderPass
from curricle.curate.proxy.sequences import unconditional
from curricle.schemas.inputs import MESSAGE_FIELDS, REJECTED, TRAIN, Turn, fields_of

NO_REJECTED = "there is no rejected answer"


@dataclass(frozen=True)
class AnswerRendering(RenderPass):
    """The conversation with the answer that was chosen, or with the first of those that were rejected.

    Answers before the two part are context: what both conversations have in common tells nothing of either answer.
    """

    answer: str = REJECTED
    """``"rejected"`` or ``"chosen"``"""

    def conversations(self, batch: Batch) -> Sequence[list[Turn] | str]:
        rows = zip(batch.table["messages"].to_pylist(), batch.rejected, strict=True)
        return [self._conversation(turns, answers) for turns, answers in rows]

    def _conversation(self, turns: list[Turn], answers: list[tuple[int, list[Turn]]]) -> list[Turn] | str:
        if not answers:
            return NO_REJECTED
        turn, instead = answers[0]
        return [*turns[:turn], *instead] if self.answer == REJECTED else turns

    def extras(self, batch: Batch) -> Sequence[str | None]:
        """The row's own, in which the answers before are marked as context."""
        return [_with_context(*row) for row in zip(batch.extra, batch.rejected, strict=True)]


def _with_context(extra: str | None, answers: list[tuple[int, list[Turn]]]) -> str | None:
    if not answers:
        return extra
    fields = dict(fields_of(extra))
    there = fields.get(MESSAGE_FIELDS)
    after = there[answers[0][0] :] if isinstance(there, list) else []
    return json.dumps({**fields, MESSAGE_FIELDS: [*[{TRAIN: False}] * answers[0][0], *after]})


REJECTED_RENDERING = AnswerRendering("rejected_rendering")
"""The rejected answer after its prompt, as the proxy reads it: a ``Rendered`` a row."""
CHOSEN_LOSS = LikelihoodPass("chosen_loss", requires=(AnswerRendering("chosen_rendering", answer="chosen"),))
"""The log-likelihood of the answer that was chosen, from where it and the rejected one part."""
REJECTED_LOSS = LikelihoodPass("rejected_loss", requires=(REJECTED_RENDERING,))
"""That of the first answer that was rejected."""
REJECTED_UNCONDITIONAL_LOSS = LikelihoodPass(
    "rejected_unconditional_loss", requires=(REJECTED_RENDERING,), request=unconditional
)
"""That of the same tokens without the prompt."""
