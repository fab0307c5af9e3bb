"""Workers of one machine share its cores."""

import os
import subprocess
import sys

import pytest
from curricle.pipelines.engines.local import processes
from curricle.pipelines.processes.cores import cores
from curricle.pipelines.tables.directory import OutputDirectory
from tokenizers import Tokenizer, models, pre_tokenizers

THREADS = """
import os, sys
from tokenizers import Tokenizer
before = len(os.listdir("/proc/self/task"))
Tokenizer.from_file(sys.argv[1]).encode_batch(["a b"] * 1000)
print(len(os.listdir("/proc/self/task")) - before)
"""


@pytest.mark.parametrize("workers", [1, 2, 1000])
def test_the_tokenizer_of_a_worker_starts_threads_for_its_share_of_the_cores(workers, tmp_path, monkeypatch):
    for name in ("RAYON_NUM_THREADS", "TOKENIZERS_PARALLELISM", "OMP_NUM_THREADS"):
        monkeypatch.delenv(name, raising=False)
    tokenizer = Tokenizer(models.WordLevel({"a": 0, "b": 1}, unk_token="a"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.save(str(tmp_path / "tokenizer.json"))
    (tmp_path / "_progress").mkdir()
    with processes(workers, OutputDirectory(str(tmp_path))):
        command = [sys.executable, "-c", THREADS, str(tmp_path / "tokenizer.json")]
        started = int(subprocess.check_output(command, text=True))
    assert started == max(1, cores() // workers)
    assert "RAYON_NUM_THREADS" not in os.environ


def test_cores_are_those_that_a_process_may_run_on(monkeypatch):
    monkeypatch.setattr(os, "sched_getaffinity", lambda process: {3}, raising=False)
    assert cores() == 1
    monkeypatch.delattr(os, "sched_getaffinity")
    assert cores() == os.cpu_count()
