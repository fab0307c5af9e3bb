"""Scores on the device: against a CPU, against a row at a time, in another order, in half precision, and on vLLM."""

import logging
import math
import os
import random
import subprocess
import sys
from collections.abc import Iterator, Sequence
from functools import cached_property

import torch
from checks import HERE, REPOSITORY, SCALES, Context, Line, hide_devices, lines_of
from curricle.curate.proxy.backend import load
from curricle.curate.proxy.rendering import Renderer
from curricle.curate.proxy.sequences import Request, conditional, unconditional
from curricle.curate.proxy.settings import ProxySettings
from curricle.curate.proxy.weights import resolve
from curricle.curate.reading import read
from limits import free

EXACT = 1e-4
"""Nats a token, on average over a row, in float32: what backends and devices may differ by."""
HALF = (0.02, 0.15)
"""The same in bfloat16 against float32: on average over rows, and in the worst row."""
LONG = 2
"""Rows of random tokens and the longest length, beside those of the sample."""
MEMORY = 3 * 2**30
"""Bytes of the device that the check of memory leaves to torch."""

Means = list[float]


class Rows:
    """Requests of the sample, with the prompt and without, and of a few long rows of random tokens."""

    def __init__(self, context: Context, **settings: object) -> None:
        self.context = context
        self.settings = ProxySettings(model=context.model, max_length=context.scale.length, **settings)
        self.weights = resolve(self.settings.model)

    @cached_property
    def backend(self):
        return load(self.settings, self.weights)

    @cached_property
    def requests(self) -> list[Request]:
        examples = read(REPOSITORY / "tests" / "data" / "sample.jsonl").examples.slice(0, self.context.scale.rows)
        rendered = [row for row in Renderer(self.weights, self.settings).render(examples) if row.spans]
        sample = [build(row, self.backend.special) for build in (conditional, unconditional) for row in rendered]
        draw = random.Random(0)
        length = self.context.scale.length
        long = [[draw.randrange(1000) for _ in range(length)] for _ in range(LONG)]
        return [*(each for each in sample if each), *(Request(ids, ((length // 2, length),)) for ids in long)]

    def score(self, requests: Sequence[Request]) -> Means:
        """-log p a token of each request, by the backend."""
        scores = self.backend.score(requests, lambda tokens: None)
        assert all(each.note is None for each in scores), [each.note for each in scores if each.note]
        return [-each.sum / each.count for each in scores]

    def one_by_one(self) -> Means:
        """The same from all logits of one row, in float64, by the model alone."""
        model, means = self.backend.model, []
        for request in self.requests:
            ids = torch.tensor([request.ids], device=self.backend.device)
            with torch.inference_mode():
                nats = torch.log_softmax(model(ids, use_cache=False).logits[0].double(), dim=-1)
            scored = torch.tensor([index for span in request.spans for index in range(*span)], device=ids.device)
            means.append(-nats[scored - 1, ids[0, scored]].mean().item())
        return means


def reference(context: Context) -> Iterator[Line]:
    """What a CPU gives, in float32. To be run in a process that has no other device."""
    hide_devices()
    assert not torch.cuda.is_available()
    rows = Rows(context)
    yield Line("rows", len(rows.requests), figures={"means": rows.score(rows.requests)})


def scores(context: Context) -> Iterator[Line]:
    """Float32 on the device against a row at a time there, against other batches and orders, and against a CPU."""
    torch.manual_seed(0)
    rows = Rows(context)
    means = rows.score(rows.requests)
    backend = rows.backend
    assert backend.device.type == context.device
    yield Line("rows share their beginnings in packs", "yes" if backend.in_packs else "no: padded")
    yield _apart("float32: a row at a time, by the model's own logits", means, rows.one_by_one(), EXACT)
    order = random.Random(0).sample(range(len(means)), len(means))
    together, backend.batch_tokens = backend.batch_tokens, 2 * context.scale.length
    other = rows.score([rows.requests[index] for index in order])
    yield _apart("float32: in another order, with small passes", [means[index] for index in order], other, EXACT)
    backend.batch_tokens = together
    if backend.in_packs:
        backend.in_packs = False
        yield _apart("float32: padded instead of packed", means, rows.score(rows.requests), EXACT)
    yield _apart("float32: on a CPU", means, _on_a_cpu(context), EXACT)


def half(context: Context) -> Iterator[Line]:
    """bfloat16 against float32, both on the device."""
    exact = Rows(context)
    expected = exact.score(exact.requests)
    rows = Rows(context, dtype="bfloat16")
    means = rows.score(exact.requests)
    yield from halves_apart("bfloat16 and float32", means, expected)
    yield _apart("bfloat16: a row at a time, mean", means, rows.one_by_one(), HALF[0], mean=True)


def halves_apart(what: str, means: Means, expected: Means) -> Iterator[Line]:
    """How far scores in bfloat16 are from those in float32."""
    off = [abs(a - b) for a, b in zip(means, expected, strict=True)]
    figures = {"bfloat16": means, "float32": expected}
    mean, worst = math.fsum(off) / len(off), max(off)
    yield Line(f"{what}, mean of rows", mean, "nats/token", f"≤ {HALF[0]}", mean <= HALF[0], figures=figures)
    yield Line(f"{what}, the worst row", worst, "nats/token", f"≤ {HALF[1]}", worst <= HALF[1])


def memory(context: Context) -> Iterator[Line]:
    """Where memory runs out passes are halved, and every row has the score that it has otherwise."""
    if context.device == "cpu":
        yield Line("memory runs out", "not tried on a CPU")
        return
    rows = Rows(context)
    draw = random.Random(0)
    many = [  # which begin alike in nothing
        Request([draw.randrange(1000) for _ in request.ids], request.spans) for request in rows.requests * 8
    ]
    expected = rows.score(many)
    warnings: list[str] = []
    handler = logging.Handler()
    handler.emit = lambda record: warnings.append(record.getMessage())  # type: ignore[method-assign]
    logging.getLogger("curricle").addHandler(handler)
    torch.cuda.empty_cache()
    torch.cuda.set_per_process_memory_fraction(MEMORY / torch.cuda.get_device_properties(0).total_memory)
    rows.backend.batch_tokens = 2**20
    means = rows.score(many)
    halved = [each for each in warnings if "out of memory" in each]
    note = halved[-1] if halved else ""
    yield Line("times that passes were halved in 3 GiB", len(halved), "", "≥ 1", bool(halved), note)
    yield _apart("float32: scores in 3 GiB and in all memory", means, expected, EXACT)


def vllm(context: Context) -> Iterator[Line]:
    """The other backend, where it is installed, in float32."""
    if absent := without_vllm():
        yield absent
        return
    rows = Rows(context)
    requests = rows.requests
    expected = rows.score(requests)
    del rows  # vLLM wants nearly all of the device's memory to be free
    free(context.device)
    other = Rows(context, backend="vllm")
    yield _apart("float32: vLLM", other.score(requests), expected, EXACT)


def without_vllm() -> Line | None:
    try:
        import vllm as _  # noqa: F401
    except Exception as error:
        return Line("vLLM", "not installed here", note=f"{type(error).__name__}: {error}")
    return None


def _apart(what: str, means: Means, expected: Means, bound: float, mean: bool = False) -> Line:
    """How far the scores of rows are apart: those of the worst row, or on average."""
    off = [abs(a - b) for a, b in zip(means, expected, strict=True)]
    value = math.fsum(off) / len(off) if mean else max(off)
    return Line(what, value, "nats/token", f"≤ {bound:g}", value <= bound, f"{len(off)} rows")


def _on_a_cpu(context: Context) -> Means:
    environment = {**os.environ, "CUDA_VISIBLE_DEVICES": ""}
    command = [sys.executable, HERE, "--alone", "reference", "--output", context.work, "--device", "cpu"]
    (scale,) = (name for name, each in SCALES.items() if each is context.scale)
    subprocess.run([*map(str, command), "--scale", scale], env=environment, check=True)
    (line,) = lines_of(context.work / "reference.jsonl")
    means: Means = line["figures"]["means"]
    return means
