"""Tokens a second and MFU of scoring and training, beside the products of matrices that the card can do; and memory."""

import random
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial

import numpy as np
import torch
from checks import Context, Line
from curricle.curate.proxy.backend import Backend, load
from curricle.curate.proxy.sequences import Request
from curricle.curate.proxy.settings import ProxySettings
from curricle.curate.proxy.weights import resolve
from curricle.schemas.chat.models import body
from curricle.train.data.encoding import Encoded
from curricle.train.distributed import connect
from curricle.train.model.load import load_model
from curricle.train.model.optimizer import build_optimizer, clip
from curricle.train.model.peak import peak_flops
from curricle.train.model.student import Student
from curricle.train.settings import BatchSettings, DeviceSettings, OptimizerSettings
from curricle.train.training.gradients import Gradients
from flops import forward_flops
from limits import free, median_seconds, wait
from scores import Rows, halves_apart, without_vllm

KINDS = {
    "attention": ("flash", "fmha", "flex", "attention"),
    "matrices": ("gemm", "nvjet", "cutlass", "cublas", "xmma", "aten::mm", "aten::addmm"),
}
"""Parts of the names of kernels, by what they compute; all others are element by element."""


def scoring(context: Context) -> Iterator[Line]:
    work = _work(context)
    for dtype in ("bfloat16", "float32"):
        yield from _scoring(context, dtype, work)
        free(context.device)
    if context.device == "cuda":
        yield _scoring_compiled(context, next(iter(work.values())))


def vllm(context: Context) -> Iterator[Line]:
    """The other backend, where it is installed, in bfloat16: its scores, and its tokens a second beside ours."""
    if absent := without_vllm():
        yield absent
        return
    work = _work(context)
    exact = Rows(context)
    requests = exact.requests
    expected = exact.score(requests)
    rows = Rows(context, dtype="bfloat16")
    flops = {words: _flops(rows.backend, each) for words, each in work.items()}
    yield from _rates(context, "transformers", rows.backend, work, flops)
    del exact, rows  # vLLM wants nearly all of the device's memory to be free
    free(context.device)
    other = Rows(context, backend="vllm", dtype="bfloat16")
    yield from halves_apart("vLLM: bfloat16 and float32", other.score(requests), expected)
    yield from _rates(context, "vLLM", other.backend, work, flops)


def _rates(
    context: Context,
    name: str,
    backend: Backend,
    work: Mapping[str, Sequence[Request]],
    flops: Mapping[str, Sequence[float]],
) -> Iterator[Line]:
    for words, requests in work.items():
        tokens, once = sum(len(each.ids) for each in requests), partial(_score, backend, requests)
        yield _rate(context, f"scoring, bfloat16, {name}, {words}", once, tokens, flops[words], "bfloat16")


def _work(context: Context) -> dict[str, Sequence[Request]]:
    """Long rows of random tokens, half of which are scored, and short ones that begin alike."""
    scale, draw = context.scale, random.Random(0)
    long = [[draw.randrange(1000) for _ in range(scale.length)] for _ in range(scale.sequences)]
    begins = [draw.randrange(1000) for _ in range(scale.length // 32)]
    short = [
        begins + [draw.randrange(1000) for _ in range(draw.randrange(scale.length // 32, scale.length // 8))]
        for _ in range(8 * scale.sequences)
    ]
    return {
        f"{scale.length} tokens a row": [Request(ids, ((len(ids) // 2, len(ids)),)) for ids in long],
        "short rows that begin alike": [Request(ids, ((len(begins), len(ids)),)) for ids in short],
    }


def _flops(backend: Backend, requests: Sequence[Request]) -> list[float]:
    """With attention in full, and with half of it, which is what a causal kernel does."""
    lengths, scored = [len(each.ids) for each in requests], sum(each.count for each in requests)
    return [forward_flops(backend.model, lengths, scored, causal) for causal in (False, True)]


def _scoring(context: Context, dtype: str, work: Mapping[str, Sequence[Request]]) -> Iterator[Line]:
    settings = ProxySettings(model=context.model, dtype=dtype, max_length=context.scale.length)
    backend = load(settings, resolve(settings.model))
    ways = {"packed": True, "padded": False} if backend.in_packs else {"padded": False}
    for words, requests in work.items():
        tokens, flops = sum(len(each.ids) for each in requests), _flops(backend, requests)
        for way, packs in ways.items():
            backend.in_packs = packs
            once = partial(_score, backend, requests)
            yield _rate(context, f"scoring, {dtype}, {way}, {words}", once, tokens, flops, dtype)
    if dtype == "bfloat16":
        backend.in_packs = "packed" in ways
        once = partial(_score, backend, next(iter(work.values())))
        yield from _kernels(context, "scoring, bfloat16", once)
        if context.device == "cuda":
            yield _waits(once)


def _scoring_compiled(context: Context, requests: Sequence[Request]) -> Line:
    """What it would be if the model's layers were compiled, which scoring does not do."""
    what = f"scoring, bfloat16, layers compiled, {context.scale.length} tokens a row (an experiment)"
    settings = ProxySettings(model=context.model, dtype="bfloat16", max_length=context.scale.length)
    backend = load(settings, resolve(settings.model))
    tokens, flops = sum(len(each.ids) for each in requests), _flops(backend, requests)
    for layer in body(backend.model).layers:
        layer.compile()
    try:
        return _rate(context, what, partial(_score, backend, requests), tokens, flops, "bfloat16")
    except Exception as error:  # a compiler's are of many kinds, and nothing rests on it
        return Line(what, "not compiled", note=f"{type(error).__name__}: {str(error)[:200]}")


def _score(backend: Backend, requests: Sequence[Request]) -> None:
    assert all(each.note is None for each in backend.score(requests, lambda tokens: None))


def training(context: Context) -> Iterator[Line]:
    """Optimizer steps over documents of random tokens, all of which are scored."""
    scale = context.scale
    draw = np.random.default_rng(0)
    rows = max(scale.pass_tokens // scale.length, 1) * 2
    documents = [Encoded(row, draw.integers(0, 1000, scale.length), np.arange(1, scale.length)) for row in range(rows)]
    gpu = context.device == "cuda"
    ways = [
        ("bf16, padded", DeviceSettings(precision="bf16"), False),
        ("bf16, packed", DeviceSettings(precision="bf16"), True),
        *([("bf16, packed, flex", DeviceSettings(precision="bf16", attention="flex_attention"), True)] if gpu else []),
        ("fp32, padded", DeviceSettings(), False),
        *([("bf16, padded, compiled", DeviceSettings(precision="bf16", compile=True), False)] if gpu else []),
    ]
    for words, settings, packing in ways:
        step = _Step(context, settings, packing, documents)
        flops = [
            3 * forward_flops(step.model, [scale.length] * rows, rows * (scale.length - 1), c) for c in (False, True)
        ]
        name = "bfloat16" if settings.precision == "bf16" else "float32"
        try:
            yield _rate(
                context, f"training, {words}, {scale.length} tokens a row", step, scale.length * rows, flops, name
            )
            if words == "bf16, padded":
                yield from _kernels(context, f"training, {words}", step)
                if gpu:
                    yield _waits(step)
        except torch.OutOfMemoryError as error:
            yield Line(f"training, {words}", "out of memory", note=str(error).partition(". ")[0])
        del step
        free(context.device)


class _Step:
    """An optimizer step as the trainer makes it, with nothing around it."""

    def __init__(self, context: Context, settings: DeviceSettings, packing: bool, documents: Sequence[Encoded]) -> None:
        scale, processes = context.scale, connect()
        assert processes.device.type == context.device
        batch = BatchSettings(size=len(documents), tokens=max(scale.pass_tokens, scale.length), packing=packing)
        self.model, self.documents = load_model(context.model, settings.attention), documents
        self.student = Student(self.model, settings, processes, batch, scale.length)
        self.optimizer = build_optimizer(self.student.scorer, OptimizerSettings(lr=1e-5))
        self.gradients = Gradients(self.student, self.optimizer, 0, batch, processes)

    def __call__(self) -> None:
        self.gradients.add(self.documents, 0)
        clip(self.student.scorer, 1.0)
        self.optimizer.step()
        self.optimizer.zero_grad()


def _rate(
    context: Context, what: str, work: Callable[[], object], tokens: int, flops: Sequence[float], arithmetic: str
) -> Line:
    """``flops``: with attention in full, and with half of it."""
    gpu = context.device == "cuda"
    if gpu:
        torch.cuda.reset_peak_memory_stats()
    seconds = median_seconds(work, context.device, context.scale.rounds)
    full, causal = (each / seconds / 1e12 for each in flops)
    peak, limit = peak_flops(torch.device(context.device), None), context.limit(arithmetic)
    figures = {
        "tokens_per_second": tokens / seconds,
        "tflops": full,
        "tflops_causal": causal,
        "mfu": full * 1e12 / peak if peak and arithmetic == "bfloat16" else None,
        "of_the_limit": full / limit if limit else None,
        "of_the_limit_causal": causal / limit if limit else None,
        "peak_bytes": torch.cuda.max_memory_allocated() if gpu else None,
    }
    notes = [f"{full:.3g} TFLOP/s ({causal:.3g} with causal attention)"]
    if figures["mfu"] is not None:
        notes.append(f"MFU {figures['mfu']:.3f} of the data sheet")
    if limit:
        notes.append(f"{full / limit:.3f} of the product measured here ({causal / limit:.3f})")
    if gpu:
        notes.append(f"{figures['peak_bytes'] / 2**30:.2f} GiB at the peak")
    return Line(what, tokens / seconds, "tokens/s", note=", ".join(notes), figures=figures)


def _kernels(context: Context, what: str, work: Callable[[], object]) -> Iterator[Line]:
    """What the device does in the time, by kind of kernel, and how long it does nothing."""
    gpu = context.device == "cuda"
    activity = torch.profiler.ProfilerActivity
    work()
    wait(context.device)
    with torch.profiler.profile(activities=[activity.CUDA] if gpu else [activity.CPU]) as profile:
        seconds = median_seconds(work, context.device, 1)
    events = profile.key_averages()
    took = {each.key: (each.self_device_time_total if gpu else each.self_cpu_time_total) / 1e6 for each in events}
    took = {name: value for name, value in took.items() if value > 0 and not name.startswith("ProfilerStep")}
    kinds = dict.fromkeys((*KINDS, "element by element"), 0.0)
    for name, value in took.items():
        kind = next((kind for kind, parts in KINDS.items() if any(part in name.lower() for part in parts)), None)
        kinds[kind or "element by element"] += value
    total = sum(kinds.values())
    longest = sorted(took.items(), key=lambda item: -item[1])[:15]
    shares = ", ".join(f"{kind} {value / max(total, 1e-9):.0%}" for kind, value in kinds.items())
    counts = sum(each.count for each in events)
    yield Line(
        f"{what}: time in kernels of the time in all",
        total / (2 * seconds),  # the round that warms up is in the profile, too
        note=f"{shares}; {counts // 2} kernels a round",
        figures={"longest": longest},
    )


def _waits(work: Callable[[], object]) -> Line:
    """How often the host waits for the device in one round."""
    wait("cuda")
    torch.cuda.set_sync_debug_mode("warn")
    try:
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            work()
    finally:
        torch.cuda.set_sync_debug_mode("default")
    waits = [f"{each.filename}:{each.lineno}" for each in caught if "synchroniz" in str(each.message)]
    note = ", ".join(sorted({each.rpartition("/")[2] for each in waits})[:6])
    return Line("times that the host waits for the device in a round", len(waits), note=note)
