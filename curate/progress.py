"""What counts work while it is done."""

from typing import Protocol


class Progress(Protocol):
    """What ``progress=`` takes: any object whose method ``add`` is called as work is done. It changes no number."""

    def add(self, *, rows: int = 0, rejects: int = 0, tokens: int = 0, in_hand: float = 0.0) -> None:
        """So much more is done since the last call.

        ``rows``: records, rejected ones included. ``rejects``: how many of them were rejected. ``tokens``: tokens that
        went through the proxy. ``in_hand`` adds to nothing: of the batch at work, how many rows are done so far.
        """
        ...


class NoProgress:
    """Counts nothing."""

    def add(self, *, rows: int = 0, rejects: int = 0, tokens: int = 0, in_hand: float = 0.0) -> None:
        pass
