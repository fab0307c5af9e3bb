"""Conversations as the proxy reads them: token ids, and which of them are the response."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from curricle.curate.batch import Batch
from curricle.curate.passes.base import Answers, OnProgress, Pass
from curricle.curate.passes.models import Models, Role
from curricle.curate.proxy.rendering import Renderer
from curricle.schemas.chat.rendering import Rendered
from curricle.schemas.inputs import Turn


@dataclass(frozen=True)
class RenderPass(Pass[Sequence[Rendered]]):
    """Renders each row for the proxy; the answer is a ``Rendered``: token ids, and the spans that are responses.

    Where there is nothing to read, it has a note instead. To render another text than the row's own conversation, such
    as a second response, derive a class that overrides ``conversations``.
    """

    model: Role = "renderer"

    def conversations(self, batch: Batch) -> Sequence[list[Turn] | str]:
        """The turns of each row, ``{"role": …, "content": …}``; or the reason why there are none."""
        # dicts, as templates and plug-ins read them: columns would save 0.24 us of a row's 60 in a job, on Alpaca
        conversations: list[list[Turn]] = batch.table["messages"].to_pylist()
        return conversations

    def extras(self, batch: Batch) -> Sequence[str | None]:
        """What ``extra`` says of the turns of each row, JSON: see ``schemas.inputs``."""
        return batch.extra

    def ask(self, batch: Batch, model: Renderer, on_progress: OnProgress) -> Sequence[Rendered]:
        rows = self.conversations(batch)
        pairs = zip(rows, self.extras(batch), strict=True)
        readable = [(row, extra) for row, extra in pairs if not isinstance(row, str)]
        rendered = iter(model.render_turns([row for row, _ in readable], [extra for _, extra in readable]))
        return [Rendered(note=row) if isinstance(row, str) else next(rendered) for row in rows]

    def params(self, models: Models) -> dict[str, Any]:
        return {"rendering": models.proxy.rendering}


RENDERING = RenderPass("rendering")
"""The row's own conversation as the proxy reads it: a ``Rendered`` a row."""


@dataclass(frozen=True)
class ProxyPass(Pass[Answers]):
    """A question to the proxy about rendered rows: derive this for one of your own, and define ``ask``.

    ``ask`` gets a ``curate.proxy.backend.Backend``, which scores tokens, answers prompts and gives hidden states. The
    tokens of the rows are ``self.rendering.of(batch)``; to read others, give another ``RenderPass`` in ``requires``.
    """

    model: Role = "proxy"
    requires: tuple[Pass[Any], ...] = (RENDERING,)

    @property
    def rendering(self) -> RenderPass:
        """The pass whose rows the proxy reads: the first rendering in ``requires``."""
        return next(each for each in self.requires if isinstance(each, RenderPass))

    def work(self, batch: Batch, model: Any) -> int:
        return sum(len(row.ids) for row in self.rendering.of(batch))
