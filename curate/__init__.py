"""What is computed: functions from a batch of examples to columns. Knows nothing of Beam.

``curate.read`` makes Arrow tables of files or records, ``curate.score`` computes metrics on them.
"""

import os
from importlib import import_module
from typing import TYPE_CHECKING, Any

os.environ.setdefault("USE_HUB_KERNELS", "NO")  # with `kernels` installed, transformers fetches code for some models

if TYPE_CHECKING:
    from curricle.curate.progress import Progress as Progress
    from curricle.curate.reading import Read as Read
    from curricle.curate.reading import read as read
    from curricle.curate.scoring import score as score

_MODULES = {"Progress": "progress", "Read": "reading", "read": "reading", "score": "scoring"}
"""The public names, and where each is: imported when it is asked for, because ``--help`` reads this package too."""

__all__ = [*_MODULES]


def __getattr__(name: str) -> Any:
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_MODULES[name]}"), name)


def __dir__() -> list[str]:
    """For ``help()`` and for completion, which would not see what is imported later."""
    return sorted({*globals(), *__all__})
