"""The machines that a dry run reckons with: options of ``curricle score --dry-run``."""

from dataclasses import dataclass, fields

from curricle.schemas.chat.cards import CARDS, Card, card_named
from curricle.schemas.common.config import nearest, option
from curricle.schemas.common.dry_run import DryRunSettings
from curricle.schemas.common.errors import UsageError

MFU = 0.4
"""The share of the peak that is assumed where none is stated. Large matrices reach more, small models less."""


@dataclass(frozen=True)
class MachinesSettings(DryRunSettings):
    machines: int | None = option("of a dry run: how many machines, alike, are to do the work", None, at_least=1)
    device: str | None = option(f"of a dry run: the GPU of a machine: {', '.join(CARDS)}", None)
    gpus_per_machine: int | None = option("of a dry run: how many of it a machine has (1)", None, at_least=1)
    tokens_per_second: float | None = option(
        "of a dry run: what one GPU, or one machine without, was measured to score, as `curricle status` shows it",
        None,
        above=0,
    )
    mfu: float | None = option(
        f"of a dry run: the share of the GPU's peak that is assumed where no rate is stated ({MFU})",
        None,
        above=0,
        at_most=1,
    )
    price_per_hour: float | None = option("of a dry run: what one machine costs an hour", None, at_least=0)

    @property
    def named(self) -> bool:
        """Whether anything is asked about machines."""
        return bool(self._given)

    @property
    def _given(self) -> list[str]:
        return [each.name for each in fields(self) if each.name != "dry_run" and getattr(self, each.name) is not None]

    def check(self) -> None:
        """UsageError for options of machines without a dry run, or that say nothing together, or of no known card."""
        if self.named and not self.dry_run:
            flag = self._given[0].replace("_", "-")
            remedy = "add --dry-run to reckon with it; who does the work is said by --engine and --workers"
            raise UsageError(f"--{flag} is for --dry-run alone, and starts no machine", remedy=remedy)
        if self.device is not None and self.card is None and self.tokens_per_second is None:
            raise UsageError(
                f"--device is {self.device!r}, of which no peak is known",
                remedy=f"{nearest(self.device, CARDS)}; or state the rate that was measured, with --tokens-per-second",
            )
        if self.mfu and (self.tokens_per_second or not self.device):
            raise UsageError(
                "--mfu is a share of the peak of --device, where no rate is stated",
                remedy="leave it out, or name a device and no --tokens-per-second",
            )
        if self.gpus_per_machine and not self.device:
            raise UsageError("--gpus-per-machine without --device", remedy="name the device, such as H100")

    @property
    def device_name(self) -> str:
        """The device as the table of cards writes it, whether it is called so or as its driver does."""
        return (card_named(self.device) if self.device else None) or self.device or ""

    @property
    def card(self) -> Card | None:
        return CARDS.get(self.device_name)
