"""What a pass is: one thing that a model is asked about the rows of a batch, and what it answers."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Generic, Self, TypeVar, cast

from curricle.curate.batch import Batch
from curricle.curate.passes.models import ROLES, Models, Role
from curricle.schemas.chat.rendering import Rendered
from curricle.schemas.common.errors import UsageError

Answers = TypeVar("Answers")

OnProgress = Callable[[int], None]
"""Called as a pass goes on, with how much of its ``work`` is done since the last call."""


@dataclass(frozen=True)
class Pass(ABC, Generic[Answers]):
    """One question that a model is asked about every row of a batch, such as the loss of its response.

    A metric names the passes whose answers it reads in ``Metric.requires``, and reads them with ``of``. Before a metric
    computes, a job asks each pass once, however many metrics require it: passes with the same class and fields are one.
    A row's answer must not depend on the rows beside it (docs/design.md, law 4). A row that cannot be asked has, in the
    passes here, a null with a note, or the reason as a text, instead of an answer.

    A pass of your own derives ``ProxyPass``, ``RenderPass`` or this class, is a frozen dataclass, and defines ``ask``.
    """

    name: str
    """Under which the answers lie in ``Batch.answers``; no other pass of a job may have it."""
    model: Role
    """Which model is asked: ``"renderer"`` (the proxy's tokenizer and template), ``"proxy"`` or ``"encoder"``."""
    requires: tuple["Pass[Any]", ...] = ()
    """The passes whose answers this one reads: of the same model, or of one that is asked earlier (see ``Role``)."""

    def __post_init__(self) -> None:
        if late := [each for each in self.requires if ROLES.index(each.model) > ROLES.index(self.model)]:
            raise ValueError(f"the pass {self.name} asks the {self.model}, before {late[0].name} the {late[0].model}")

    @abstractmethod
    def ask(self, batch: Batch, model: Any, on_progress: OnProgress) -> Answers:
        """The model's answers about the rows of a batch, in their order.

        ``model``: a ``Renderer``, a ``Backend`` or an ``Encoder``, for the role ``renderer``, ``proxy`` or ``encoder``.
        The passes in ``requires`` are answered already: ``RENDERING.of(batch)`` reads the answers of one.
        ``on_progress(amount)``: to be called as the work goes on, see ``work``.
        """

    def of(self, batch: Batch) -> Answers:
        """The answers of this pass about the rows of a batch, usually one a row, in their order.

        LookupError if nothing has asked for them: the metric does not name the pass in ``requires``.
        """
        if self.name not in batch.answers:
            raise LookupError(f"nothing has asked for {self.name}: name the pass in the metric's `requires`")
        return cast(Answers, batch.answers[self.name])

    def check(self, models: Models) -> None:
        """Raise UsageError if these models cannot be asked; called before anything is loaded."""

    def identity(self, models: Models) -> dict[str, Any]:
        """What the answers depend on, for the fingerprints of columns: by default the digests of the model's files.

        A pass with further settings that change its answers adds them here.
        """
        return models.identity(self.model)

    def params(self, models: Models) -> dict[str, Any]:
        """Entries for ``params`` in the metadata of every column that rests on this pass; none by default."""
        return {}

    def flops(self, models: Models, tokens: float) -> float:
        """About how many floating-point operations a row of so many tokens takes; a job's shards are cut by it.

        By default one forward pass of the model; no number depends on it.
        """
        return models.flops(self.model, tokens)

    def least_flops(self, models: Models, rows: Sequence[Rendered]) -> Sequence[float]:
        """How many floating-point operations each of these rows takes at least, whoever answers and however well.

        ``rows``: as ``RENDERING`` has them. A dry run for other machines rests its bound on it; by default none is
        known.
        """
        return [0.0] * len(rows)

    def work(self, batch: Batch, model: Any) -> int:
        """How much there is to do in a batch, in the unit of ``on_progress``: tokens for the proxy, else rows."""
        return len(batch)

    def fill(self, batch: Batch, model: Any, on_progress: OnProgress) -> Batch:
        """The batch with the answers of this pass."""
        return self.fill_together([self], batch, model, on_progress)

    @classmethod
    def fill_together(cls, passes: Sequence[Self], batch: Batch, model: Any, on_progress: OnProgress) -> Batch:
        """The batch with the answers of several passes of this class; for those that can share a forward pass."""
        for each in passes:
            batch = batch.with_answers({each.name: each.ask(batch, model, on_progress)})
        return batch


def in_order(passes: Iterable[Pass[Any]]) -> list[Pass[Any]]:
    """These passes and all that they require, each after what it requires, in an order that nothing else decides.

    Those that may be filled together stand side by side. UsageError if two different ones have one name.
    """
    depths: dict[Pass[Any], int] = {}

    def depth(each: Pass[Any]) -> int:
        if each not in depths:
            depths[each] = 1 + max(map(depth, each.requires), default=-1)
        return depths[each]

    for each in passes:
        depth(each)
    ordered = sorted(
        depths, key=lambda each: (ROLES.index(each.model), depths[each], type(each).__qualname__, each.name)
    )
    names = [each.name for each in ordered]
    if twice := next((name for name in names if names.count(name) > 1), None):
        raise UsageError(
            f"two passes have the name {twice!r}", remedy="leave one of the metrics out, or rename its pass"
        )
    return ordered


def identity_of(passes: Iterable[Pass[Any]], models: Models) -> dict[str, Any]:
    """What the answers of these passes and of all that they require depend on."""
    return merged(each.identity(models) for each in in_order(passes))


def merged(identities: Iterable[Mapping[str, Any]]) -> dict[str, Any]:
    """One mapping of all. UsageError where two say different things under one name."""
    whole: dict[str, Any] = {}
    for identity in identities:
        _merge(whole, identity, "")
    return whole


def _merge(whole: dict[str, Any], more: Mapping[str, Any], prefix: str) -> None:
    for name, value in more.items():
        if isinstance(value, Mapping) and isinstance(whole.setdefault(name, {}), dict):
            _merge(whole[name], value, f"{prefix}{name}.")
        elif whole.setdefault(name, value) != value:
            raise UsageError(
                f"two metrics or passes say different things of {prefix}{name}",
                remedy="leave one of them out, or have each write under a name of its own",
            )
