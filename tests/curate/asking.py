"""Passes over a batch, for tests that hold a model in their hands."""

from collections.abc import Callable
from typing import Any

from curricle.curate.batch import Batch
from curricle.curate.passes import Pass, fill, in_order


def nothing(_: int) -> None:
    pass


def run_passes(batch: Batch, model: Any, *passes: Pass[Any], on_progress: Callable[[int], None] = nothing) -> Batch:
    """The batch with the answers of these passes by this model; it has those of the models before it already."""
    return fill([each for each in in_order(passes) if each.name not in batch.answers], batch, model, on_progress)


def with_answers(batch: Batch, answers: dict[Pass[Any], Any]) -> Batch:
    """The batch as if these passes had been by, and had answered so."""
    return batch.with_answers({each.name: answer for each, answer in answers.items()})
