"""Memory that runs out: half as many tokens are tried first, and what nothing helps names the option."""

import json
import resource

import pytest
from curricle.schemas.common.errors import UserError
from curricle.train.model.memory import smaller_passes

PAGE = resource.getpagesize()


def limit(mebibytes: int) -> None:
    """From now on this process gets so much more address space than it has, and torch's allocator says no to more."""
    with open("/proc/self/statm") as file:
        now = int(file.read().split()[0]) * PAGE
    resource.setrlimit(resource.RLIMIT_AS, (now + (mebibytes << 20), resource.RLIM_INFINITY))


def digest(run) -> tuple[str, bytes]:
    last = sorted((run / "checkpoints").glob("step-*"))[-1]
    return json.loads((last / "state/cursor.json").read_text())["order"], (last / "model.safetensors").read_bytes()


def test_a_step_that_does_not_fit_is_made_with_half(command, train_in_fork, tmp_path):
    """The same rows in the same order, and the weights of a run that had half as many tokens from the start."""
    options = ["--curriculum", "random", "--budget.steps", "3"]

    def broken_in_its_backward() -> None:
        import torch
        from curricle.train.model.student import Student

        original, ran_out = Student.nll, []

        def nll(self, micro):  # type: ignore[no-untyped-def]
            loss = original(self, micro)
            if torch.is_grad_enabled() and not ran_out:
                ran_out.append(True)
                # a real refusal of the allocator, in the middle of the backward pass
                return loss + _Refused.apply(loss)
            return loss

        class _Refused(torch.autograd.Function):
            @staticmethod
            def forward(ctx, loss):  # type: ignore[no-untyped-def]
                return torch.zeros_like(loss)

            @staticmethod
            def backward(ctx, grad):  # type: ignore[no-untyped-def]
                torch.empty(1 << 44)

        Student.nll = nll

    ended = train_in_fork(command(*options, output="short"), broken_in_its_backward)
    assert ended.code == 0, ended.text
    assert "out of memory in step 1, with 256 tokens" in ended.text and "--batch.tokens 128" in ended.text
    assert ended.text.count("out of memory") == 1
    assert train_in_fork(command(*options, "--batch.tokens", "128", output="half")).code == 0
    assert train_in_fork(command(*options, output="whole")).code == 0
    short, half, whole = (digest(tmp_path / name) for name in ("short", "half", "whole"))
    assert short == half
    assert short[0] == whole[0] and short[1] != whole[1], "the same order, and other last bits"


def test_what_half_does_not_help_names_the_option(command, train_in_fork, tmp_path):
    """So little memory that no document fits, under a limit of the kernel's: each token takes 64 MiB."""

    import torch
    from curricle.train.model.loss import token_nll as original
    from curricle.train.training.loop import Loop

    load = Loop.load

    def wide(hidden, head, targets):  # type: ignore[no-untyped-def]
        torch.empty(len(hidden), 1 << 24)  # a vocabulary of millions
        return original(hidden, head, targets)

    def loaded(self) -> None:  # type: ignore[no-untyped-def]
        import curricle.train.model.student as student

        load(self)
        student.token_nll = wide  # not before: what a pass took then would be kept, and there for the next ones
        limit(512)

    def small_and_wide() -> None:
        Loop.load = loaded

    ended = train_in_fork(command("--curriculum", "random", "--budget.steps", "3"), small_and_wide)
    assert ended.code == 1 and "Traceback" not in ended.text, ended.text
    assert "out of memory in step 1, with " in ended.text.splitlines()[-2], ended.text
    assert "smaller --batch.tokens" in ended.text and not list((tmp_path / "run").glob("checkpoints/*"))


def test_other_errors_are_no_lack_of_memory(command, train_in_fork):
    def broken() -> None:
        from curricle.train.model.student import Student

        Student.nll = lambda *_: (_ for _ in ()).throw(RuntimeError("shapes do not fit"))

    ended = train_in_fork(command("--curriculum", "random"), broken)
    assert ended.code == 1 and "shapes do not fit" in ended.text and "out of memory" not in ended.text


def test_torch_refuses_in_words_that_are_known():
    import torch
    from curricle.schemas.chat.memory import is_out_of_memory

    with pytest.raises(RuntimeError) as refused:
        torch.empty(1 << 44)
    assert is_out_of_memory(refused.value)
    assert is_out_of_memory(MemoryError()) and is_out_of_memory(torch.OutOfMemoryError())
    assert not is_out_of_memory(RuntimeError("shapes")) and not is_out_of_memory(ValueError())


@pytest.mark.parametrize(
    "words",
    [
        "CUDA error: out of memory\nCUDA kernel errors might be asynchronously reported at some other API call",
        "CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`",
        "Triton Error [CUDA]: out of memory",
    ],
)
def test_libraries_of_a_gpu_refuse_in_words_that_are_known(words):
    """Several processes share a GPU, and what one's allocator leaves another's handles and kernels may lack."""
    from curricle.schemas.chat.memory import is_out_of_memory

    assert is_out_of_memory(RuntimeError(words))


def test_of_several_processes_none_goes_on_alone():
    """They wait for each other inside of a pass, which is said; one process takes half."""
    with pytest.raises(UserError, match="because the other processes wait for this one inside of it"):
        smaller_passes(MemoryError(), "step 1", 256, documents=4, processes=2)
    assert smaller_passes(MemoryError(), "step 1", 256, documents=4, processes=1) == 128
