"""The driver of very many shards on dask and on a portable runner: its memory and time, and those of who serves it.

    python tests/benchmarks/driver_engines.py --engine dask --shards 1000,100000 [--folder /dev/shm] [--with-beam]

Every shard has one row, so that what a shard costs shows and not what a row does. Two dask workers do their tasks
without Beam, whose pipeline takes a tenth of a second for each, unless ``--with-beam`` is said. The portable runner is
Beam's job service with one pool of workers. Prints a line of JSON for each number of shards.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil

sys.path.insert(0, str(Path(__file__).parents[1]))

import clusters
from harness import usage_of
from jobs import CURRICLE

WITHOUT_BEAM = Path(__file__).with_name("tasks_without_beam.py")


@contextmanager
def engine_of(name: str, folder: Path, with_beam: bool) -> Iterator[tuple[tuple[str, ...], dict[str, int]]]:
    """The options that lead to the engine, and the processes that are started for it."""
    if name == "dask":
        if not with_beam:
            clusters.ENVIRONMENT["DASK_DISTRIBUTED__WORKER__PRELOAD"] = json.dumps([str(WITHOUT_BEAM)])
        clusters.ENVIRONMENT["DASK_DISTRIBUTED__WORKER__PROFILE__ENABLED"] = "false"
        with clusters.dask_cluster(folder) as cluster:
            yield cluster.options, {"scheduler": cluster.scheduler.pid, "workers": cluster.worker.pid}
    else:
        with clusters.beam_service(folder, pools=1) as options:
            yield options, {path.stem: int(path.read_text()) for path in folder.glob("*.pid")}


def usage_now(process: int) -> dict[str, float]:
    """Memory now in MB, the largest process alone, and seconds of the processor, of a process and those below it."""
    root = psutil.Process(process)
    below = [root, *root.children(recursive=True)]
    times = [each.cpu_times() for each in below]
    return {
        "memory": round(max(each.memory_info().rss for each in below) / 1e6),
        "seconds": round(sum(each.user + each.system for each in times), 1),
    }


def measure(engine: str, shards: int, folder: Path, with_beam: bool) -> dict[str, object]:
    source = folder / "rows.jsonl"
    source.write_text("".join(json.dumps({"prompt": f"q {n}", "completion": f"a {n}"}) + "\n" for n in range(shards)))
    with engine_of(engine, folder / "engine", with_beam) as (options, processes):
        job = ["score", str(source), "--output", str(folder / "out"), "--metrics", "mtld", "--shard-rows", "1"]
        driver = subprocess.Popen([*CURRICLE, *job, *options], stdout=subprocess.DEVNULL)
        usage = usage_of(driver)
        others = {name: usage_now(process) for name, process in processes.items()}
    peak = {"peak": round(usage.bytes / 1e6), "seconds": round(usage.seconds, 1)}
    return {"engine": engine, "shards": shards, "driver": peak, **others}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--engine", choices=("dask", "portable"), required=True)
    parser.add_argument("--shards", default="1000,10000,100000")
    parser.add_argument("--folder", type=Path, default=Path("/dev/shm") if os.path.isdir("/dev/shm") else None)
    parser.add_argument("--with-beam", action="store_true")
    options = parser.parse_args()
    for shards in map(int, options.shards.split(",")):
        with tempfile.TemporaryDirectory(dir=options.folder) as folder:
            print(json.dumps(measure(options.engine, shards, Path(folder), options.with_beam)), flush=True)


if __name__ == "__main__":
    main()
