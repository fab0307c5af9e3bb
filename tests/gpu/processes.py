"""Processes that train together: NCCL on a GPU, gloo on a CPU; one with itself where there is one GPU."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator

import torch
from checks import HERE, Context, Line
from training import EXACT, Runs

LOOPBACK = {"NCCL_SOCKET_IFNAME": "lo", "GLOO_SOCKET_IFNAME": "lo", "OMP_NUM_THREADS": "4"}


def processes(context: Context) -> Iterator[Line]:
    """Sums over processes, gradients under DDP, and where there are two GPUs a run on both against a run on one."""
    count = min(2, torch.cuda.device_count()) if context.device == "cuda" else 1
    result = context.work / "result.json"
    command = [sys.executable, "-m", "torch.distributed.run", f"--nproc-per-node={count}", "--nnodes=1"]
    command += ["--rdzv-backend=c10d", "--rdzv-endpoint=127.0.0.1:0", "--local-addr=127.0.0.1", "--max-restarts=0"]
    worker = [HERE / "worker.py", context.device, context.model, result]
    environment = {**os.environ, **LOOPBACK, "PYTHONPATH": os.pathsep.join([str(HERE), str(HERE.parent)])}
    done = subprocess.run([*map(str, [*command, *worker])], env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    for line in json.loads(result.read_text()):
        yield Line(**line)
    if count == 1:
        yield Line("two processes, a run on both", "there is one device", note="other tests do it with gloo on a CPU")
        return
    runs = Runs(context)
    alone = runs.losses("alone")
    assert (
        subprocess.run(
            [sys.executable, "-m", "curricle.train.cli", *runs.arguments("both", **{"device.nproc": count})],
            env=environment,
        ).returncode
        == 0
    )
    off = max(abs(a - b) for a, b in zip(runs.reported("both"), alone, strict=True))
    yield Line(f"a run on {count} GPUs and on one", off, "nats/token", f"≤ {EXACT:g}", off <= EXACT)
