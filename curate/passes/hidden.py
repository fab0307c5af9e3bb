"""The proxy's last hidden states, pooled for each row."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from curricle.curate.batch import Batch
from curricle.curate.passes.base import OnProgress
from curricle.curate.passes.models import Models
from curricle.curate.passes.rendering import ProxyPass
from curricle.curate.proxy.settings import no_states
from curricle.schemas.chat.rendering import Rendered, beyond

if TYPE_CHECKING:
    import numpy as np
    import torch
    from curricle.curate.proxy.backend import Backend
    from numpy.typing import NDArray

NO_TOKEN = "there is no token"


@dataclass(frozen=True)
class HiddenStatePass(ProxyPass["Sequence[NDArray[np.float32] | str]"]):
    """The proxy's last hidden states, pooled for each row; the answer is a float32 array a row, or why there is none.

    ``pool(states, row)`` makes one tensor of the states of a row. ``states``: float32 (tokens, width), one for each of
    ``row.ids``, on the model's device. ``row``: the ``Rendered``, whose ``spans`` are the ranges ``(start, stop)`` of
    tokens that are responses. Rows without a token are not asked. The backend vllm is refused with a UsageError.
    """

    pool: Callable[["torch.Tensor", Rendered], "torch.Tensor"] = field(kw_only=True)

    def ask(self, batch: Batch, model: "Backend", on_progress: OnProgress) -> "Sequence[NDArray[np.float32] | str]":
        rendered = self.rendering.of(batch)
        unread = [row.note or beyond(row.ids, model.vocabulary) or ("" if row.ids else NO_TOKEN) for row in rendered]
        readable = [row for row, reason in zip(rendered, unread, strict=True) if not reason]
        states = model.states([row.ids for row in readable], lambda row, of: self.pool(of, readable[row]), on_progress)
        pooled = iter(states)
        return [reason or next(pooled) for reason in unread]

    def check(self, models: Models) -> None:
        if models.proxy.backend == "vllm":
            raise no_states()
