"""What is computed: functions from a batch of examples to columns. Knows nothing of Beam.

``curate.read`` makes Arrow tables of files or records, ``curate.score`` computes metrics on them, in this process::

    examples, rejects = curate.read("alpaca.jsonl")
    table = curate.score(examples, ["length", "loss", "ifd"], proxy="smollm2-135m")

What a metric of your own is made of stands in ``curate.metric``, ``curate.batch`` and ``curate.passes``.
"""

import os
from typing import TYPE_CHECKING

from curricle.schemas.common.lazy import attach

os.environ.setdefault("USE_HUB_KERNELS", "NO")  # with `kernels` installed, transformers fetches code for some models

if TYPE_CHECKING:
    from curricle.curate.progress import Progress as Progress
    from curricle.curate.reading import Read as Read
    from curricle.curate.reading import read as read
    from curricle.curate.scoring import score as score

_MODULES = {"Progress": "progress", "Read": "reading", "read": "reading", "score": "scoring"}
"""The public names, and where each is: imported when it is asked for, because ``--help`` reads this package too."""

__all__ = [*_MODULES]
__getattr__, __dir__ = attach(__name__, _MODULES)
