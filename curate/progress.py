"""What counts work while it is done."""

from typing import Protocol


class Progress(Protocol):
    """Told of work as it is done. Whatever it does with that, it changes no number."""

    def add(self, *, rows: int = 0, rejects: int = 0, tokens: int = 0, in_hand: float = 0.0) -> None:
        """Count finished rows, rejects among them, and tokens that went through a model.

        ``in_hand`` is how many rows of the batch at work are behind us.
        """
        ...


class NoProgress:
    """Counts nothing."""

    def add(self, *, rows: int = 0, rejects: int = 0, tokens: int = 0, in_hand: float = 0.0) -> None:
        pass
