"""Several processes train as one does: the same order, the same loss; and are killed and resumed to the same bits."""

import contextlib
import functools
import json
import os
import resource
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from curricle.train.distributed import Processes
from curricle.train.model.student import Student
from safetensors.torch import load_file
from torch.nn.parallel import DistributedDataParallel
from transformers import AutoModelForCausalLM

REPOSITORY = Path(__file__).resolve().parents[2]


def losses(run: Path) -> list[float]:
    lines = map(json.loads, (run / "metrics.jsonl").read_text().splitlines())
    return [line["loss"] for line in lines if line["kind"] in ("train", "eval")]


def last(run: Path) -> Path:
    return sorted((run / "checkpoints").glob("step-*"))[-1]


def order(run: Path) -> str:
    return json.loads((last(run) / "state" / "cursor.json").read_text())["order"]


def weights(run: Path) -> bytes:
    return (last(run) / "model.safetensors").read_bytes()


def die_in_step(number: int) -> None:
    original, calls = torch.optim.AdamW.step, iter(range(1000))

    def step(self, *args, **kwargs):  # type: ignore[no-untyped-def]
        if next(calls) == number:
            os.kill(os.getpid(), signal.SIGKILL)
        return original(self, *args, **kwargs)

    torch.optim.AdamW.step = step


def answers_by_step(run: Path) -> list[tuple[int, list[bool]]]:
    lines = map(json.loads, (run / "metrics.jsonl").read_text().splitlines())
    records = [(line["step"], line["generations"]["answers"]) for line in lines if line["kind"] == "eval"]
    return [(step, [answer["text"] is not None for answer in answers]) for step, answers in records]


OPTIONS = [
    "--eval.rows",
    "8",
    "--eval.generations",
    "3",
    "--eval.generation-tokens",
    "3",
    "--eval.every",
    "4",
    "--checkpoint.every",
    "2",
    "--budget.samples",
    "40",
]


def test_more_processes_than_gpus_are_refused_before_any_is_started(
    command, train_in_fork, train_in_forks, tmp_path, monkeypatch
):
    """torch says that there is one, and nobody asks it for more."""

    def with_one_gpu():
        torch.cuda.is_available = lambda: True
        torch.cuda.device_count = lambda: 1
        torch.cuda.set_device = subprocess.Popen = None

    refused = train_in_fork(command("--device.nproc", "2"), with_one_gpu)
    assert refused.code == 2, refused.text
    assert "--device.nproc: 2 processes take a GPU each, and torch sees 1 here" in refused.text
    assert "give at most 1" in refused.text
    assert not (tmp_path / "run").exists()
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "2")
    first, second = train_in_forks(2, command(), with_one_gpu)  # of which the first speaks for all
    assert (first.code, second.code) == (2, 2)
    assert "torchrun --nproc-per-node: 2 processes take a GPU each" in first.text


@pytest.mark.parametrize("parallel", ["ddp", "fsdp"])
def test_two_and_four_processes_train_as_one(parallel, command, train_in_fork, train_in_forks, tmp_path):
    assert train_in_fork(command(*OPTIONS, output="one")).code == 0
    for world, output in (2, "two"), (4, "four"):
        whole = train_in_forks(world, command(*OPTIONS, "--device.parallel", parallel, output=output))
        assert [ended.code for ended in whole] == [0] * world, whole
        assert order(tmp_path / output) == order(tmp_path / "one")
        assert losses(tmp_path / output) == pytest.approx(losses(tmp_path / "one"), rel=1e-5)

    arguments = command(*OPTIONS, "--device.parallel", parallel, output="killed")
    killed = train_in_forks(2, arguments, lambda: die_in_step(4))
    assert [ended.code for ended in killed] == [-signal.SIGKILL] * 2, killed
    assert last(tmp_path / "killed").name == "step-00000004"
    resumed = train_in_forks(2, arguments)
    assert [ended.code for ended in resumed] == [0, 0], resumed
    assert (tmp_path / "killed" / "journal.jsonl").read_bytes() == (tmp_path / "two" / "journal.jsonl").read_bytes()
    assert losses(tmp_path / "killed") == pytest.approx(losses(tmp_path / "one"), rel=1e-5)
    for output in "one", "two", "four", "killed":  # of three prompts, four processes have one too few
        assert answers_by_step(tmp_path / output) == [(4, [True] * 3), (5, [True] * 3)]
    if parallel == "ddp":
        assert weights(tmp_path / "killed") == weights(tmp_path / "two")


def test_another_number_of_processes_goes_on_from_the_shards(command, train_in_fork, train_in_forks, tmp_path):
    """Four sharded processes, then two, then one: each reads the moments that others wrote."""
    assert train_in_fork(command(*OPTIONS, output="one")).code == 0
    arguments = command(*OPTIONS, "--device.parallel", "fsdp", output="moved")
    for world, step in (4, 2), (2, 3):  # a resume makes a step of its own, to have moments to fill
        killed = train_in_forks(world, arguments, functools.partial(die_in_step, step))
        assert {ended.code for ended in killed} == {-signal.SIGKILL}, killed
        shards = [load_file(path) for path in (last(tmp_path / "moved") / "state" / "optimizer").iterdir()]
        assert len(shards) == world
        sizes = [sum(tensor.numel() for tensor in shard.values()) for shard in shards]
        assert max(sizes) < 1.2 * sum(sizes) / world, "one process wrote more than its part"
    assert last(tmp_path / "moved").name == "step-00000004"
    assert AutoModelForCausalLM.from_pretrained(last(tmp_path / "moved"))
    alone = train_in_fork(arguments)
    assert alone.code == 0, alone.text
    assert order(tmp_path / "moved") == order(tmp_path / "one")
    assert losses(tmp_path / "moved") == pytest.approx(losses(tmp_path / "one"), rel=1e-5)


def test_a_shard_that_cannot_be_written_is_no_checkpoint(command, train_in_forks, tmp_path):
    """The disk of the second process is full from its second checkpoint on."""
    import curricle.train.model.checkpoint

    def full_from_the_second_on() -> None:
        original, calls = curricle.train.model.checkpoint._save_optimizer, iter(range(100))

        def save(*arguments):  # type: ignore[no-untyped-def]
            if next(calls) and os.environ["RANK"] == "1":
                resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 10, resource.RLIM_INFINITY))
            original(*arguments)

        curricle.train.model.checkpoint._save_optimizer = save

    arguments = command(*OPTIONS, "--device.parallel", "fsdp")
    ended = train_in_forks(2, arguments, full_from_the_second_on)
    assert [each.code for each in ended] == [1, 1], ended
    assert "could not be written: process 1: " in ended[0].text and "Traceback" not in ended[0].text
    assert [path.name for path in (tmp_path / "run" / "checkpoints").glob("step-*")] == ["step-00000002"]


def test_a_probe_is_shared_and_added_up_once(command, train_in_forks, tmp_path):
    """Each process scores a part of the rows, and the parts make the whole; between them is one sum."""

    def count() -> None:
        from curricle.train.training.asking import Asking

        ask = Asking.nll

        def counted(self, probe):  # type: ignore[no-untyped-def]
            calls: dict[str, list] = {"sum": [], "nll": [], "forward": []}
            with pytest.MonkeyPatch.context() as patch:
                for owner, name in ((Processes, "sum"), (Student, "nll"), (DistributedDataParallel, "forward")):
                    original = getattr(owner, name)

                    def noted(self, it, name=name, original=original):  # type: ignore[no-untyped-def]
                        calls[name].append(it)
                        return original(self, it)

                    patch.setattr(owner, name, noted)
                answer = ask(self, probe)
            questions = len(np.unique(np.concatenate([candidate.rows for candidate in probe.candidates])))
            mine = sum(len(micro.documents) for micro in calls["nll"])
            print("COUNTED", len(calls["sum"]) + len(calls["forward"]), mine, questions)
            return answer

        Asking.nll = counted

    ended = train_in_forks(2, command("--budget.steps", "2"), count)
    assert [each.code for each in ended] == [0, 0], ended
    first, second = ([line.split()[1:] for line in each.text.splitlines() if "COUNTED" in line] for each in ended)
    assert first
    for (sums, mine, questions), (other_sums, others, _) in zip(first, second, strict=True):
        assert sums == other_sums == "1"
        assert 0 < int(mine) < int(questions) and int(mine) + int(others) == int(questions)


def start(launcher: list[str], arguments: list[str], directory: Path) -> subprocess.Popen[str]:
    """The real command, in a directory with a train.py of the user's own, which is on the path."""
    (directory / "train.py").write_text("raise SystemExit('the wrong train')")
    return subprocess.Popen(
        [sys.executable, "-P", *launcher, "-m", "curricle.train.cli", *arguments],
        stderr=subprocess.PIPE,
        text=True,
        cwd=directory,
        env={**os.environ, "PYTHONPATH": str(directory)},
    )


def kill_the_second(launcher: int) -> None:
    for path in Path("/proc").glob("[0-9]*"):
        try:
            parent = int((path / "stat").read_text().rpartition(")")[2].split()[1])
            if parent == launcher and b"RANK=1" in (path / "environ").read_bytes().split(b"\0"):
                os.kill(int(path.name), signal.SIGKILL)
        except FileNotFoundError:
            continue


def listening(launcher: int) -> set[str]:
    """The local addresses at which a process or a child of it listens, as the kernel writes them."""
    sockets = set()
    for process in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            parent = int((process / "stat").read_text().rpartition(")")[2].split()[1])
            if launcher in (parent, int(process.name)):
                links = [os.readlink(handle) for handle in (process / "fd").iterdir()]
                sockets |= {link[8:-1] for link in links if link.startswith("socket:[")}
    result = set()
    for table in ("/proc/net/tcp", "/proc/net/tcp6"):
        for line in Path(table).read_text().splitlines()[1:]:
            _, local, _, state, *_, inode = line.split()[:10]
            if state == "0A" and inode in sockets:
                result.add(local.partition(":")[0])
    return result


LOOPBACK = {"0100007F", "00000000000000000000000001000000", "0000000000000000FFFF00000100007F"}
"""127.0.0.1, ::1, and the former as IPv6 writes it."""


def test_a_killed_process_ends_all_and_torchrun_goes_on(command, train_in_fork, tmp_path):
    """What our own launcher began, torchrun resumes: the real commands. Ours listen to this machine alone."""
    options = ["--curriculum", "random", "--batch.size", "1", "--budget.samples", "48", "--checkpoint.every", "8"]
    started = start([], command(*options, "--device.nproc", "2"), tmp_path)
    addresses = set()
    while not (tmp_path / "run" / "metrics.jsonl").exists():  # which is begun when the processes have met
        assert started.poll() is None, started.communicate()[1]
        addresses |= listening(started.pid)
        time.sleep(0.1)
    addresses |= listening(started.pid)
    assert addresses and addresses <= LOOPBACK, addresses
    while not list((tmp_path / "run").glob("checkpoints/step-*")):
        assert started.poll() is None, started.communicate()[1]
        time.sleep(0.01)
    kill_the_second(started.pid)
    _, message = started.communicate(timeout=300)
    assert started.returncode == 1, message
    assert (
        "process 1 of 2 was killed by SIGKILL" in message
        and "the same command goes on from the last checkpoint" in message
    )
    assert "Traceback" not in message

    torchrun = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    started = start(torchrun, command(*options), tmp_path)
    _, message = started.communicate(timeout=300)
    assert started.returncode == 0 and "going on after step" in message, message
    assert train_in_fork(command(*options, output="one")).code == 0
    assert order(tmp_path / "run") == order(tmp_path / "one")


@pytest.mark.parametrize("parallel", ["ddp", "fsdp"])
def test_the_others_of_a_killed_process_say_so_and_end(parallel, command, train_in_forks):
    def kill_the_last() -> None:
        if os.environ["RANK"] == "2":
            die_in_step(2)

    ended = train_in_forks(3, command(*OPTIONS, "--device.parallel", parallel), kill_the_last)
    assert [each.code for each in ended] == [1, 1, -signal.SIGKILL], ended
    for rank, each in enumerate(ended[:2]):
        assert f"another process has ended, and with it process {rank} of 3; the same command goes on" in each.text
        assert "Traceback" not in each.text


def test_nproc_passes_on_how_the_processes_end(command, tmp_path):
    started = start([], command("--device.nproc", "2", "--data", "absent"), tmp_path)
    _, message = started.communicate(timeout=300)
    assert started.returncode == 2, message
    assert message.count("there is no such file or directory") == 1 and "Traceback" not in message
