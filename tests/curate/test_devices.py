"""GPUs are claimed by processes that nobody numbers. Here their names are given, and the processes are real."""

import os
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import filelock
import pytest
from curricle.curate.passes.models import Models
from curricle.curate.proxy import devices, vllm_backend
from curricle.curate.proxy.settings import ProxySettings
from curricle.curate.proxy.vllm_backend import _share_of_memory, check_heads
from curricle.schemas.chat import cards
from curricle.schemas.common.commandline import command_line
from curricle.schemas.common.errors import UsageError, UserError
from hypothesis import given
from hypothesis import strategies as st
from transformers import LlamaConfig

CLAIM = """
import os, sys
from curricle.curate.proxy import devices
from curricle.schemas.chat import cards
devices.PATIENCE = 0
cards.count = lambda: len(os.environ[devices.VISIBLE].split(","))
gpus, workers, may_crowd = map(int, sys.argv[1:])
try:
    devices.claim(gpus, workers, may_crowd=bool(may_crowd))
    print(os.environ[devices.VISIBLE], devices.claimed().sharers, flush=True)
except Exception as error:
    print(type(error).__name__, error, flush=True)
sys.stdin.read()
"""

Start = Callable[..., subprocess.Popen]


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    """Starts a process that claims GPUs of these names, and keeps them until it is killed."""
    started: list[subprocess.Popen] = []

    def begin(names: str, gpus: int = 1, workers: int = 1, may_crowd: bool = False) -> subprocess.Popen:
        started.append(
            subprocess.Popen(
                [sys.executable, "-P", "-c", CLAIM, *map(str, (gpus, workers, int(may_crowd)))],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                text=True,
                env={**os.environ, "TMPDIR": str(tmp_path), devices.VISIBLE: names},
            )
        )
        return started[-1]

    yield begin
    for process in started:
        process.kill()
        process.communicate()


def claims(processes: list[subprocess.Popen]) -> dict[str, subprocess.Popen]:
    """Processes by what each prints of its claim."""
    return {process.stdout.readline().strip(): process for process in processes}


@pytest.fixture
def unclaimed(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Callable[[int], None]:
    """Makes this process one that has claimed nothing, on a machine with so many GPUs."""
    monkeypatch.setattr(devices, "_claims", [])
    monkeypatch.setattr(devices, "PATIENCE", 0)
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    monkeypatch.setenv(devices.VISIBLE, "")  # so that it is put back in the end
    monkeypatch.delenv(devices.VISIBLE)
    return lambda count: monkeypatch.setattr(cards, "count", lambda: count)


def test_each_process_has_gpus_of_its_own_until_it_is_killed(start):
    names = "5, GPU-8f3a,MIG-c0/ffee"
    held = claims([start(names) for _ in range(3)])
    assert held.keys() == {"5 1", "GPU-8f3a 1", "MIG-c0/ffee 1"}
    (refused,) = claims([start(names)])
    assert refused.startswith("UserError") and "taken by other processes of yours: 5, GPU-8f3a, MIG-c0/ffee" in refused
    held["GPU-8f3a 1"].kill()
    held["GPU-8f3a 1"].wait()
    assert claims([start(names)]).keys() == {"GPU-8f3a 1"}


def test_where_workers_are_more_than_gpus_they_share_them_evenly(start):
    lines = [process.stdout.readline().strip() for process in [start("0,1", workers=4) for _ in range(4)]]
    assert Counter(lines) == {"0 2": 2, "1 2": 2}
    assert claims([start("0,1", workers=4)]).popitem()[0].startswith("UserError")  # vLLM has divided the memory by two


def test_who_may_crowd_joins_where_the_fewest_are_and_says_so(start):
    held = claims([start("0,1", may_crowd=True) for _ in range(2)])
    assert held.keys() == {"0 1", "1 1"}
    held["0 1"].kill()
    held["0 1"].wait()
    for _ in range(2):
        third = start("0,1", may_crowd=True)
        assert third.stdout.readline().strip() == "0 1"
    assert "all GPUs are taken: 0 is shared with another job" in third.communicate("")[1]


def test_a_model_over_several_gpus_claims_all_of_them_or_none(start):
    held = claims([start("0,1,2,3", gpus=2) for _ in range(2)])
    assert held.keys() == {"0,1 1", "2,3 1"}
    assert claims([start("0,1,2,3")]).popitem()[0].startswith("UserError")
    held["0,1 1"].kill()
    held["0,1 1"].wait()
    assert claims([start("0,1,2,3")]).keys() == {"0 1"}
    assert claims([start("0,1,2,3", gpus=2)]).popitem()[0].startswith("UserError")
    assert claims([start("0,1,2,3")]).keys() == {"1 1"}  # who was refused has kept nothing


def test_more_gpus_than_there_are_are_refused(unclaimed):
    unclaimed(2)
    with pytest.raises(UsageError, match=r"a worker needs 3 GPUs, and there are 2 \(0, 1\)"):
        devices.claim(3)
    assert devices.claimed() is None and devices.VISIBLE not in os.environ


def test_a_process_keeps_what_it_has_claimed(unclaimed):
    unclaimed(4)
    with devices.seen_by_children():
        devices.claim(workers=2)
        devices.claim(workers=2)
        assert os.environ[devices.VISIBLE] == "0" and devices.names() == ("0", "1", "2", "3")
    assert devices.VISIBLE not in os.environ  # what it starts from now on may claim others
    with devices.seen_by_children():
        devices.claim()
        assert os.environ[devices.VISIBLE] == "0"
    with pytest.raises(UserError, match="has the GPU 0, and the job needs 2"):
        devices.claim(2)


def test_where_torch_can_use_no_gpu_nothing_is_claimed(unclaimed, monkeypatch, tmp_path):
    if cards.count():
        pytest.skip("there is a GPU")
    monkeypatch.setenv(devices.VISIBLE, "0,1")
    devices.claim(gpus=2, workers=8, may_crowd=False)
    assert devices.claimed() is None and os.environ[devices.VISIBLE] == "0,1" and not [*tmp_path.iterdir()]


def test_instances_of_a_gpu_are_claimed_without_asking_cuda_which_sees_the_first_alone(unclaimed, monkeypatch):
    def started():
        raise AssertionError("CUDA has looked at the variable, and would not look again")

    monkeypatch.setattr(cards, "count", started)
    monkeypatch.setenv(devices.VISIBLE, "MIG-a, MIG-b")
    monkeypatch.setattr("torch.version.cuda", "13.0")
    with filelock.FileLock(devices._folder() / "MIG-a 0.lock"):
        devices.claim()
    assert devices.names() == ("MIG-a", "MIG-b") and os.environ[devices.VISIBLE] == "MIG-b"
    monkeypatch.setattr(devices, "_claims", [])
    monkeypatch.setattr("torch.version.cuda", None)
    assert devices.names() == ()


def test_the_folder_of_somebody_else_is_not_used(unclaimed, tmp_path):
    unclaimed(1)
    (tmp_path / "elsewhere").mkdir()
    folder = tmp_path / f"curricle-gpus-{os.geteuid()}"
    folder.symlink_to(tmp_path / "elsewhere")
    with pytest.raises(UserError, match=r"somebody else's.*\n?.*TMPDIR"):
        devices.claim()
    folder.unlink()
    folder.write_text("")
    with pytest.raises(UserError, match="TMPDIR"):
        devices.claim()
    assert devices.claimed() is None and not [*(tmp_path / "elsewhere").iterdir()]


@given(st.integers(1, 64), st.integers(1, 8), st.integers(1, 16))
def test_all_workers_of_a_job_fit_where_they_share(workers, gpus, machine):
    there = [str(index) for index in range(max(gpus, machine))]
    each = devices.sharers(gpus, workers, there)
    assert workers <= each * (len(there) // gpus) < workers + len(there)


def test_vllm_takes_its_part_of_the_memory_where_workers_share(unclaimed, monkeypatch):
    class Engine:
        def __init__(self, gpu_memory_utilization: float = 0.92) -> None: ...

    assert _share_of_memory(Engine) == 0.92
    for sharers, share in ((1, 0.92), (4, 0.23)):
        monkeypatch.setattr(devices, "_claims", [devices.Claim(("0",), ("0", "1"), sharers, ())])
        assert _share_of_memory(Engine) == share


@pytest.fixture
def without_vllm(monkeypatch):
    """What this process is told for vLLM, where it then cannot be imported."""
    for name in vllm_backend._ENVIRONMENT:
        monkeypatch.setenv(name, "")  # so that it is put back in the end
        monkeypatch.delenv(name)
    monkeypatch.setitem(sys.modules, "vllm", None)
    with pytest.raises(UserError, match="vLLM cannot be imported"):
        vllm_backend.VllmBackend(ProxySettings(backend="vllm"), None)
    return os.environ


def test_processes_of_a_model_in_parts_are_no_forks_of_a_worker(without_vllm):
    """By itself vLLM spawns them on a CPU alone."""
    assert without_vllm["VLLM_WORKER_MULTIPROC_METHOD"] == "spawn"


def test_float32_is_float32_in_triton_too(without_vllm):
    knobs = pytest.importorskip("triton.knobs")
    assert knobs.language.fp32_default == "ieee"


def test_a_model_is_spread_over_as_many_gpus_as_divide_its_heads():
    config = LlamaConfig(num_attention_heads=9, hidden_size=576)
    for parts in (1, 3, 9):
        check_heads(ProxySettings(tensor_parallel=parts, backend="vllm"), config)
    with pytest.raises(UsageError, match=r"9 attention heads.* over 2 GPUs.*\n?.*1, 3, 9"):
        check_heads(ProxySettings(tensor_parallel=2, backend="vllm"), config)


def test_how_many_gpus_a_model_is_spread_over_is_no_part_of_a_tables_identity(smollm2):
    one, three = (Models(ProxySettings(backend="vllm", tensor_parallel=parts)) for parts in (1, 3))
    assert one.identity("proxy") == three.identity("proxy")
    assert "tensor" not in command_line("curricle score", three.proxy)


def test_only_vllm_spreads_a_model_over_gpus():
    with pytest.raises(UsageError, match="tensor-parallel is 2, and transformers runs a model on one GPU"):
        ProxySettings(tensor_parallel=2)
    assert ProxySettings(tensor_parallel=2, backend="vllm").tensor_parallel == 2
