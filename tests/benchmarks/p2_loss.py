"""P2: loss with the prompt and without it, on the transformers backend in float32.

Each round scores other rows, all contenders the same ones. The values are compared before anything is timed.
"""

import itertools
from pathlib import Path

import pyarrow as pa
import torch
from alpaca import first
from curricle.curate.batch import Batch
from curricle.curate.passes import LOSS, RENDERING, UNCONDITIONAL_LOSS, fill
from curricle.curate.proxy.backend import load
from curricle.curate.proxy.rendering import Renderer
from curricle.curate.proxy.sequences import Request, conditional, unconditional
from curricle.curate.proxy.settings import ProxySettings
from curricle.curate.proxy.weights import resolve
from harness import Comparison, Setting, alternate, timed
from lm_eval.api.instance import Instance
from lm_eval.models.huggingface import HFLM
from transformers import AutoModelForCausalLM, AutoTokenizer

ROWS = 40  # a round
WARM_UP = 8
LM_EVAL_BATCH = 16
LIMIT_TOKENS, LIMIT_COLUMNS = 512, 2048  # in a matrix product, the latter of the head

Losses = list[tuple[float, float]]
"""For each row the sum of -log p of its response after the prompt and alone, in nats."""


class OneByOne:
    """A row at a time and all logits, as Superfiltering and data-juicer's IFD filter do it."""

    def __init__(self, directory: Path) -> None:
        self.tokenizer = AutoTokenizer.from_pretrained(directory)
        self.model = AutoModelForCausalLM.from_pretrained(directory, dtype=torch.float32).eval()

    def score(self, table: pa.Table) -> Losses:
        rows = table["messages"].to_pylist()
        return [tuple(self._loss(*pair) for pair in pairs(self.tokenizer, row)) for row in rows]

    def _loss(self, before: str, response: str) -> float:
        ids = self.tokenizer(before + response, return_tensors="pt", add_special_tokens=False).input_ids
        start = len(self.tokenizer(before, add_special_tokens=False).input_ids)
        labels = ids.clone()
        labels[0, :start] = -100
        with torch.no_grad():
            return self.model(ids, labels=labels).loss.item() * (ids.shape[1] - start)


class LmEval:
    """The HF backend of lm-evaluation-harness, on the same pairs."""

    def __init__(self, directory: Path) -> None:
        tokenizer = AutoTokenizer.from_pretrained(directory)
        model = AutoModelForCausalLM.from_pretrained(directory, dtype=torch.float32).eval()
        self.lm = HFLM(pretrained=model, tokenizer=tokenizer, batch_size=LM_EVAL_BATCH, add_bos_token=False)

    def score(self, table: pa.Table) -> Losses:
        questions = [pair for row in table["messages"].to_pylist() for pair in pairs(self.lm.tokenizer, row)]
        requests = [Instance("loglikelihood", {}, pair, index) for index, pair in enumerate(questions)]
        result = iter(-total for total, _ in self.lm.loglikelihood(requests, disable_tqdm=True))
        return list(zip(result, result, strict=True))


class Ours:
    def __init__(self) -> None:
        settings = ProxySettings()
        self.weights = resolve(settings.model)
        self.renderer, self.backend = Renderer(self.weights, settings), load(settings, self.weights)

    def score(self, table: pa.Table) -> Losses:
        batch = RENDERING.fill(Batch(table), self.renderer, lambda rows: None)
        scored = fill([LOSS, UNCONDITIONAL_LOSS], batch, self.backend, lambda tokens: None)
        return [
            (-with_prompt.sum, -alone.sum)
            for with_prompt, alone in zip(LOSS.of(scored), UNCONDITIONAL_LOSS.of(scored), strict=True)
        ]

    def requests(self, table: pa.Table) -> list[Request]:
        rendered = self.renderer.render(table)
        return [build(row, self.backend.special) for build in (conditional, unconditional) for row in rendered]


def pairs(tokenizer, messages: list[dict]) -> list[tuple[str, str]]:
    """Prompt and response, and what opens a response and the response."""
    before = messages[:-1]
    prompt = tokenizer.apply_chat_template(before, tokenize=False, add_generation_prompt=True)
    opening = prompt.removeprefix(tokenizer.apply_chat_template(before, tokenize=False))
    whole = tokenizer.apply_chat_template(messages, tokenize=False).rstrip()
    return [(prompt, whole.removeprefix(prompt)), (opening, whole.removeprefix(prompt))]


def needed(requests: list[Request]) -> tuple[int, int]:
    """How many tokens have to pass, once wherever rows begin alike, and how many of them the head has to see."""
    tokens = len({tuple(request.ids[:end]) for request in requests for end in range(1, len(request.ids) + 1)})
    return tokens, sum(request.count for request in requests)


def multiply(model: torch.nn.Module, tokens: int, scored: int) -> None:
    """The matrix products of that many tokens with the model's weights, and nothing else."""
    head = model.get_output_embeddings()
    body = [module.weight for module in model.modules() if isinstance(module, torch.nn.Linear) and module is not head]
    columns = head.weight.split(LIMIT_COLUMNS)
    rows = {weight.shape[1]: torch.randn(LIMIT_TOKENS, weight.shape[1]) for weight in [*body, *columns]}
    with torch.inference_mode():
        for weights, count in (body, tokens), (columns, scored):
            for start in range(0, count, LIMIT_TOKENS):
                for weight in weights:
                    torch.nn.functional.linear(rows[weight.shape[1]][: count - start], weight)


def measure(setting: Setting) -> list[Comparison]:
    rows, rounds = setting.rows(ROWS), setting.rounds
    table = first(setting.data, WARM_UP + rounds * rows)
    parts = [table.slice(0, WARM_UP), *(table.slice(WARM_UP + rows * round, rows) for round in range(rounds))]
    ours = Ours()
    one_by_one, lm_eval = OneByOne(ours.weights.directory), LmEval(ours.weights.directory)
    mine = ours.score(parts[0])
    for other in one_by_one, lm_eval:
        both = zip(itertools.chain(*mine), itertools.chain(*other.score(parts[0])), strict=True)
        # lm-eval counts white space at the end of a prompt to the response: a line break, which is nearly certain
        assert all(abs(a - b) < 0.1 for a, b in both), type(other).__name__

    requests = [ours.requests(part) for part in parts]
    least = [needed(each) for each in requests]
    took, naive, harness, products = alternate(
        timed(lambda round: ours.score(parts[round])),
        timed(lambda round: one_by_one.score(parts[round])),
        timed(lambda round: lm_eval.score(parts[round])),
        timed(lambda round: multiply(one_by_one.model, *least[round])),
        rounds=rounds,
    )
    tokens = sum(len(request.ids) for request in itertools.chain(*requests[1:]))
    work = f"loss with and without the prompt, {rounds * rows} Alpaca rows, SmolLM2-135M, float32"
    return [
        Comparison("P2", work, against, took, theirs, goal, note=f"{tokens / sum(took):,.0f} tokens/s{more}")
        for against, theirs, goal, more in (
            ("a row at a time, all logits", naive, 2.5, f", theirs {tokens / sum(naive):,.0f}"),
            ("lm-eval HFLM.loglikelihood", harness, 1.3, f", theirs {tokens / sum(harness):,.0f}"),
            ("matrix products of their shapes alone", products, 0.85, ""),
        )
    ]
