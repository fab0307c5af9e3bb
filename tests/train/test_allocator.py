"""On a CPU the trainer keeps the memory that a step frees; nothing else is another, and what a user set stays."""

import json
import os
import subprocess
import sys

import pytest

CODE = """
import json, resource, sys
import torch
from curricle.train.model.allocator import keep_freed_memory

def faults(work):
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    work()
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

def fill():
    torch.empty(64 << 20).fill_(1.0)

def losses():
    torch.manual_seed(0)
    layer = torch.nn.Linear(64, 40_000)
    torch.nn.functional.cross_entropy(layer(torch.randn(300, 64)), torch.arange(300)).backward()
    return layer.weight.grad.sum().item().hex()

before = losses()
keeps = keep_freed_memory()
fewest = min(faults(fill) for _ in range(6))  # something small may lie in what was freed, and the next is new
print(json.dumps({"keeps": keeps, "faults": fewest, "same": losses() == before}))
"""


def result(**environment: str) -> dict:
    inherited = {name: value for name, value in os.environ.items() if not name.startswith(("MALLOC_", "GLIBC_"))}
    command = [sys.executable, "-c", CODE]
    done = subprocess.run(command, env={**inherited, **environment}, capture_output=True, text=True, check=True)
    return json.loads(done.stdout)


@pytest.mark.skipif(sys.platform != "linux", reason="glibc's own")
def test_a_tensor_gets_the_memory_of_the_one_before():
    ours = result()
    if not ours["keeps"]:
        pytest.skip("the C library is not glibc")
    left = result(MALLOC_MMAP_MAX_="65536")  # its default: what a user set stays
    assert not left["keeps"] and ours["same"] and left["same"]
    assert ours["faults"] < 16 < 100 < left["faults"]  # 256 MiB are 128 of the largest pages
    assert not result(GLIBC_TUNABLES="glibc.malloc.trim_threshold=1048576")["keeps"]
