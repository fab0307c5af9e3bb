"""What the card itself does: products of large matrices, and copies."""

import gc
import time
from collections.abc import Callable, Iterator
from functools import partial

import torch
from checks import Context, Line


def wait(device: str) -> None:
    if device == "cuda":
        torch.cuda.synchronize()


def free(device: str) -> None:
    """Give back the memory of what nothing refers to any more."""
    gc.collect()
    if device == "cuda":
        torch.cuda.empty_cache()
        torch.compiler.reset()


def median_seconds(work: Callable[[], object], device: str, rounds: int) -> float:
    """Of so many rounds after one to warm up; the device has finished each."""
    took = []
    for _ in range(rounds + 1):
        wait(device)
        began = time.perf_counter()
        work()
        wait(device)
        took.append(time.perf_counter() - began)
    return sorted(took[1:])[rounds // 2]


def limits(context: Context) -> Iterator[Line]:
    """TFLOP/s of one large product on random numbers, in each arithmetic, and GB/s of a copy."""
    edge, device = context.scale.edge, context.device
    draw = torch.Generator(device).manual_seed(0)
    with torch.inference_mode():
        for name, dtype, tf32 in (
            ("bfloat16", torch.bfloat16, False),
            ("float32", torch.float32, False),
            ("tf32", torch.float32, True),
        ):
            torch.backends.cuda.matmul.allow_tf32 = tf32
            one, other = (torch.randn(edge, edge, device=device, generator=draw).to(dtype) for _ in range(2))
            repeats = 10 if device == "cuda" else 1
            seconds = median_seconds(partial(_multiply, one, other, repeats), device, 5) / repeats
            tflops = 2 * edge**3 / seconds / 1e12
            words = f"product of two matrices of {edge} × {edge}, {name}"
            yield Line(words, tflops, "TFLOP/s", figures={"name": name, "tflops": tflops})
        one = torch.randn(edge * edge * 8, device=device)
        other = torch.empty_like(one)
        seconds = median_seconds(partial(other.copy_, one), device, 5)
        yield Line("copy on the device, bytes read and written", 2 * one.nbytes / seconds / 1e9, "GB/s")


def _multiply(one: torch.Tensor, other: torch.Tensor, repeats: int) -> None:
    for _ in range(repeats):
        one @ other
