"""The errors that users see."""

from collections.abc import Iterator
from contextlib import contextmanager

from curricle.schemas.common.log import printable
from curricle.schemas.common.secrets import redacted


class UserError(Exception):
    """Something that a user can put right: where it is, what was found there, and what to do.

    Commands print it without a traceback. Our own broken invariants are ``assert`` instead. It is no ValueError, which
    says of a value that it is not as it was written: whoever catches that does not catch a refusal.
    """

    def __init__(self, found: str, *, where: str | None = None, remedy: str | None = None) -> None:
        self.found, self.where, self.remedy = found, where, remedy
        prefix = f"{printable(where)}: " if where else ""  # a file's name may hold an end of line
        cure = f"\n  What to do: {remedy}" if remedy else ""
        super().__init__(redacted(f"{prefix}{found}{cure}"))


class UsageError(UserError):
    """Wrong usage, input or configuration, found before anything was written (exit code 2)."""


class DirectoryLocked(UserError):
    """Another job holds the directory: the same command may succeed later (exit code 4)."""


class Divergence(UserError):
    """A loss, a gradient or a weight is not finite: with a lower learning rate it may be (exit code 5)."""


@contextmanager
def usage_errors() -> Iterator[None]:
    """For a ``with`` block, or a function, that reads input before anything is written: a UserError is a UsageError."""
    try:
        yield
    except UsageError:
        raise
    except UserError as error:
        raise UsageError(error.found, where=error.where, remedy=error.remedy) from error
