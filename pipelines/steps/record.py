"""What was recorded of a step below the plan's directory: what it was begun with, and what came of it."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from curricle.pipelines.steps.options import with_texts
from curricle.pipelines.steps.plan import Step
from curricle.pipelines.storage import Storage
from curricle.schemas.common.errors import UsageError
from curricle.schemas.common.secrets import redacted
from curricle.schemas.contract import from_record, tagged, untagged
from curricle.schemas.fingerprint import differences, digest
from curricle.schemas.sealed import seal, unsealed


def record_path(step: str) -> str:
    return f"_progress/steps/{step}.json"


@dataclass(frozen=True)
class StepRecord:
    """``inputs``: what it reads, see ``content``; ``sets``: the tables below its directory, if it is none itself;
    ``product``: what it made, None while it is at work; ``replaces``: what lies in its directory may be replaced, for
    this plan made it.

    Values of the environment do not stand in ``settings``; ``digest`` is of all of them.
    """

    command: str
    settings: Mapping[str, Any]
    digest: str
    inputs: Mapping[str, Any]
    sets: Sequence[str] = ()
    product: Mapping[str, Any] | None = None
    replaces: bool = False

    @classmethod
    def of(cls, step: Step, inputs: Mapping[str, Any]) -> "StepRecord":
        return cls(step.command, with_texts(step.settings, redacted), digest(step.settings), inputs, step.sets)

    def changes(self, now: "StepRecord") -> list[str]:
        """One line for each option that differs."""
        if self.command != now.command:
            return [f"command: {self.command!r} there, {now.command!r} now"]
        if self.digest == now.digest:
            return []
        return differences(self.settings, now.settings) or ["an option from the environment differs"]

    def write(self, storage: Storage, step: str) -> None:
        storage.write(record_path(step), seal(tagged("step", asdict(self))))


def read_record(storage: Storage, step: str) -> StepRecord | None:
    """What was recorded of a step; None if nothing was. UsageError if it is damaged."""
    try:
        about = untagged("step", unsealed(storage.read(record_path(step))), storage.uri(record_path(step)))
        return from_record(StepRecord, about)
    except FileNotFoundError:
        return None
    except (ValueError, TypeError) as error:
        raise UsageError(
            f"the record of a step is damaged: {error}",
            where=storage.uri(record_path(step)),
            remedy="remove it, and the directory of the step, and run this again",
        ) from error
