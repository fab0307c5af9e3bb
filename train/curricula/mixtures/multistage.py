"""One domain after the other, A then B then C, in one run: one schedule of the learning rate spans all of it."""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import count
from typing import Literal

import numpy as np
from curricle.schemas.common.config import option
from curricle.schemas.common.wording import counted, shortened
from curricle.train.curricula.base import Steps, check
from curricle.train.curricula.mixtures.base import OverDomains, derived
from curricle.train.curricula.mixtures.inside import asks, order_inside
from curricle.train.curricula.mixtures.mixing import Mixing
from curricle.train.curricula.mixtures.streams import Stream
from curricle.train.data.domains import Domains
from curricle.train.data.table import Table

ONE_OR_EACH = "give one number of epochs for all stages, or one for each"


@dataclass(frozen=True)
class Length:
    """Rows of a stage: ``fresh`` ones of its own domain, and ``replay`` of those before."""

    name: str
    fresh: int
    replay: int


@dataclass(frozen=True)
class Multistage(OverDomains):
    """Domains one after the other, each for so many epochs, with a share of what came before.

    The learning rate follows the budget as in any run, across the stages. Without a budget the run is one pass over
    the stages.
    """

    stages: tuple[str, ...] = option(
        "the domains in their order, A,B,C; a name may be a pattern, as math*, and * stands for all others, together; "
        "none: every value, sorted by name",
        (),
    )
    epochs: tuple[float, ...] = option(
        "how often each stage visits its rows: one number for all, or one for each", (1.0,), above=0, at_most=1e6
    )
    replay: float = option(
        "the share of the rows of a stage that are drawn from all stages before it", 0.0, at_least=0, below=1
    )
    then: Literal["last", "again", "stop"] = option(
        "what comes after the last stage, if budget is left: last: it goes on; again: all from the first one; stop",
        "last",
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        wrong = self.stages and len(self.epochs) not in (1, len(self.stages))
        check(not wrong, f"{len(self.stages)} stages and {len(self.epochs)} epochs", ONE_OR_EACH)
        twice = len({*self.stages}) < len(self.stages)
        check(not twice, f"stages {', '.join(self.stages)} repeat", "name each once; then=again goes over all again")

    def steps(self, table: Table, seed: int, batch: int) -> Steps:
        domains, lengths = self._lengths(table)
        before = [np.flatnonzero((domains.codes >= 0) & (domains.codes < index)) for index in range(len(lengths))]
        fresh = self.streams(table, domains, seed, [self._own(each, batch) for each in lengths])
        for again in count():
            if again and self.then == "stop":
                return
            for index in range(len(lengths)) if not again or self.then == "again" else [len(lengths) - 1]:
                streams = [fresh[index]]
                if lengths[index].replay:
                    draw = derived(seed, len(lengths) * (1 + again) + index)
                    streams.append(Stream("replay", table, before[index], order_inside("random"), draw, batch))
                yield from self._stage(streams, lengths[index], batch)

    def _stage(self, streams: list[Stream], length: Length, batch: int) -> Steps:
        mixing, units = Mixing(streams), [length.fresh, length.replay][: len(streams)]
        if not asks(self.order):
            yield from mixing.train(mixing.turns(units, sum(units)), {}, length.name)
            return
        fresh, begun, back = streams[0], streams[0].visits, 0
        while (left := begun + length.fresh - fresh.visits) > 0:
            own = min(left, self._own(length, batch))
            due = round(length.replay * (length.fresh - left + own) / length.fresh) - back
            portion = yield from mixing.train([0] * own + [1] * due, {}, length.name)
            back += due if portion else 0

    def _own(self, length: Length, batch: int) -> int:
        """Rows in a batch that are of the stage itself: the order inside it may have to know how many."""
        return max(1, batch * length.fresh // (length.fresh + length.replay))

    def epoch_rows(self, table: Table) -> int:
        return sum(each.fresh + each.replay for each in self._lengths(table)[1])

    def describe(self, table: Table, batch: int) -> str:
        _, lengths = self._lengths(table)
        parts = [
            f"{each.name}, {counted(each.fresh, 'row')}"
            + (f" and {each.replay:,} of the stages before" if each.replay else "")
            for each in lengths
        ]
        after = {
            "last": "the last one goes on as long as there is budget",
            "again": "and again from the first as long as there is budget",
            "stop": "and that is the end",
        }[self.then]
        stages = f"{counted(len(lengths), 'stage')} by {self.category}: {shortened(parts)}"
        return f"{stages}; inside each, the order {self.order}; {after}"

    def remarks(self, table: Table, batch: int) -> Iterator[str]:
        domains, _ = self._lengths(table)
        if left := int((domains.codes < 0).sum()):
            yield f"{counted(left, 'row')} of the table are in no stage, and are not trained on"

    def domains(self, table: Table) -> Domains:
        return self._lengths(table)[0]

    def _lengths(self, table: Table) -> tuple[Domains, list[Length]]:
        domains = Domains.of(table, self.category, self.stages)
        domains.check_several(self.category, table.where)
        epochs = self.epochs if len(self.epochs) > 1 else self.epochs * len(domains.names)
        each = len(epochs) == len(domains.names)
        check(each, f"{len(domains.names)} stages and {len(epochs)} epochs", ONE_OR_EACH)
        lengths = list[Length]()
        for name, times, rows in zip(domains.names, epochs, self.visited_rows(table, domains), strict=True):
            fresh = max(1, round(times * rows))
            replay = round(fresh * self.replay / (1 - self.replay)) if lengths else 0
            lengths.append(Length(name, fresh, replay))
        return domains, lengths
