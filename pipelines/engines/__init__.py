"""Engines: what runs the shards. Whatever the engine, a shard's file and receipt are the same bytes."""

import logging
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from importlib import import_module

from curricle.pipelines.engines.devices import describe
from curricle.pipelines.processes.fork_server import ForkServer
from curricle.pipelines.scoring.inputs import is_seekable
from curricle.pipelines.scoring.job import Job
from curricle.pipelines.scoring.plan import Shard
from curricle.pipelines.settings.score import ENGINE_PLUGINS
from curricle.pipelines.tables.directory import OutputDirectory
from curricle.pipelines.transforms.shards import MOST_RUNS, ShardRun, shard_runs

log = logging.getLogger("curricle")

MODULES = {
    "local": "curricle.pipelines.engines.local",
    "dask": "curricle.pipelines.engines.dask",
    "portable": "curricle.pipelines.engines.portable",
    "flink": "curricle.pipelines.engines.portable",
    "spark": "curricle.pipelines.engines.portable",
    "dataflow": "curricle.pipelines.engines.portable",
}

MOST_RUNS_ELSEWHERE = 1 << 16
"""Of a job whose workers are elsewhere, and may be thousands. Their descriptions are to fit into one message, of which
Dataflow takes 10 MB.
"""

LOOK_EVERY = 2.0
"""Seconds between two looks at whether a job still moves."""


@dataclass(frozen=True)
class Work:
    """The shards of a job that have no receipt yet, and the run that they are to be committed under.

    ``check`` raises UserError when nothing has moved for too long; an engine that waits calls it now and then.
    ``server``: of ``workers_ahead``, for the workers of this machine.
    """

    directory: OutputDirectory
    job: Job
    pending: Sequence[Shard]
    run: str
    check: Callable[[], None]
    server: ForkServer | None = None

    def runs(self, workers: int, most: int = MOST_RUNS) -> list[ShardRun]:
        """The pending shards in the portions that a worker takes at a time: not many more than ``most``, or a source
        each.
        """
        files = {shard.source: shard.opened for shard in self.pending if not shard.in_table}
        seekable = {source for source, opened in files.items() if is_seekable(opened, self.job.readers)}
        return shard_runs(self.pending, workers, seekable, most)


def workers_ahead(job: Job) -> AbstractContextManager[ForkServer | None]:
    """Where workers will be forked, the server that does it, for ``Work``: what they import takes seconds."""
    if job.settings.engine == "local":
        from curricle.pipelines.engines import local

        return local.workers_ahead(job)
    return nullcontext()


def run(work: Work) -> None:
    """Run the engine that the settings name until every shard has its receipt; UserError where it fails.

    That of a plug-in is called with the work. What it leaves undone is found after it, as for every engine.

    An engine's libraries take seconds to import, and a run that has nothing to score does not need them.
    """
    engine = work.job.settings.engine
    if gpus := describe(work.job):
        log.info("%s", gpus)
    if engine in MODULES:
        import_module(MODULES[engine]).run(work)
    else:
        plugin = ENGINE_PLUGINS.load(engine)
        log.info("engine: %s %s", engine, plugin.identity)
        plugin.object(work)
