"""P3: the same losses through vLLM, against its own call with the same prompts in the same engine."""

import itertools

from alpaca import first
from curricle.curate.batch import Batch
from curricle.curate.passes import LOSS, RENDERING, UNCONDITIONAL_LOSS, fill
from curricle.curate.proxy.backend import load
from curricle.curate.proxy.rendering import Renderer
from curricle.curate.proxy.sequences import conditional, unconditional
from curricle.curate.proxy.settings import ProxySettings
from curricle.curate.proxy.weights import resolve
from harness import Comparison, Setting, alternate, timed

ROWS = 20  # a round
MAX_LENGTH = 512


def measure(setting: Setting) -> list[Comparison]:
    rows, rounds = setting.rows(ROWS), setting.rounds
    settings = ProxySettings(backend="vllm", max_length=MAX_LENGTH)
    weights = resolve(settings.model)
    renderer, backend = Renderer(weights, settings), load(settings, weights)
    from vllm import SamplingParams, TokensPrompt

    parts = [first(setting.data, rows * (rounds + 1)).slice(rows * round, rows) for round in range(rounds + 1)]
    prompts = [
        [
            TokensPrompt(prompt_token_ids=list(build(row, backend.special).ids))
            for build in (conditional, unconditional)
            for row in renderer.render(part)
        ]
        for part in parts
    ]
    sampling = SamplingParams(max_tokens=1, prompt_logprobs=0)

    def ours(round: int) -> None:
        batch = RENDERING.fill(Batch(parts[round]), renderer, lambda rows: None)
        fill([LOSS, UNCONDITIONAL_LOSS], batch, backend, lambda tokens: None)

    def bare(round: int) -> None:
        backend.llm.generate(prompts[round], sampling, use_tqdm=False)

    # the engine is a process that goes on: what it takes of the processors is not known
    took, theirs = map(list, alternate(timed(ours), timed(bare), rounds=rounds))
    tokens = sum(len(prompt["prompt_token_ids"]) for prompt in itertools.chain(*prompts[1:]))
    work = f"the same through vLLM, {rows * rounds} rows"
    note = f"{tokens / sum(took):,.0f} tokens/s"
    return [Comparison("P3", work, "LLM.generate(prompt_logprobs=0)", took, theirs, goal=0.95, note=note)]
