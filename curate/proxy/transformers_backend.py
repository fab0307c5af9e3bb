"""The proxy on plain PyTorch: packs of rows where the model takes them, else padded batches of rows of like length."""

import inspect
import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from curricle.curate.batch import OUT_OF_MEMORY, LogLikelihood
from curricle.curate.proxy.attention import Trunk, attending_in_packs, on_device
from curricle.curate.proxy.bounded import half_of, in_batches
from curricle.curate.proxy.checks import check_passes
from curricle.curate.proxy.likelihood import log_p, log_p_of_logits
from curricle.curate.proxy.packing import ForwardInput, packed, packs, padded
from curricle.curate.proxy.questions import Decoder, GenerationRequest
from curricle.curate.proxy.sequences import Request, SpecialTokens
from curricle.curate.proxy.settings import ProxySettings
from curricle.curate.proxy.weights import Weights
from curricle.schemas.chat.generation import Draw, Heard, answers_alike, go_on
from curricle.schemas.chat.memory import is_out_of_memory
from curricle.schemas.chat.models import body, check_reach, embeddings, implementations
from curricle.schemas.chat.positions import Alike, growing, rewind, rows_alike
from curricle.schemas.chat.trials import tolerance
from curricle.schemas.common.errors import UsageError
from numpy.typing import NDArray
from transformers import AutoModelForCausalLM, AutoTokenizer, GenerationConfig
from transformers.utils import logging

BATCH_TOKENS = {"cpu": 2048, "cuda": 32768}
CACHED = 4
"""Tokens whose keys and values are kept, while answers are drawn, for each one that a forward pass may have."""


class TransformersBackend:
    """``plain_head``: whether logits are the output embedding of the last hidden state and nothing more; models that
    scale, cap or mix them are asked for them. ``in_packs``: whether rows pass in packs.
    """

    model: Any = None
    vocabulary: int
    weights: Weights
    alike: Alike
    plain_head = in_packs = False
    _answers_alike: Alike | None = None

    def __init__(self, settings: ProxySettings, weights: Weights, checkpoints: Sequence[Weights] = ()) -> None:
        logging.disable_progress_bar()  # the job has a bar of its own
        self.device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        self.dtype = getattr(torch, settings.dtype)
        self.max_length = settings.max_length
        self._checked: dict[str, Any] | None = None
        self.checkpoints = checkpoints
        self.take(weights)
        self.batch_tokens = settings.batch_tokens or BATCH_TOKENS[self.device.type]
        tokenizer = AutoTokenizer.from_pretrained(weights.directory, trust_remote_code=False)
        self.special = SpecialTokens(tokenizer.bos_token_id, tokenizer.eos_token_id)
        self.speech = Decoder(tokenizer, self.model.config, settings)

    def take(self, weights: Weights) -> None:
        """See ``Backend.take``."""
        if self.model is not None and weights == self.weights:
            return
        self.model = None  # two models at once may not fit
        self.model = AutoModelForCausalLM.from_pretrained(
            weights.directory, dtype=self.dtype, use_safetensors=True, trust_remote_code=False, **implementations()
        )
        self.model.eval()
        if (config := self.model.config.to_dict()) != self._checked:
            with torch.no_grad():
                check_reach(self.model, self.max_length, "--proxy.max-length")
        self.model.to(self.device)
        self.model.generation_config = GenerationConfig()  # the model's own defaults would change what is drawn
        self._growing = growing(self.model.modules())
        self._takes = inspect.signature(self.model.forward).parameters
        if config != self._checked:
            self.alike = rows_alike(self.model.config)
            check_passes(self, self.max_length)
            self._answers_alike = None
            self._checked = config
        self.weights, self.vocabulary = weights, embeddings(self.model)

    def score(self, requests: Sequence[Request], on_progress: Callable[[int], None]) -> list[LogLikelihood]:
        """See ``Backend.score``. A row that does not fit into memory alone is null with a note."""
        scores: list[LogLikelihood] = [LogLikelihood()] * len(requests)
        rows = [request.ids for request in requests]
        passes: list[tuple[list[int], torch.Tensor]] = []

        def work(batch: list[int], layout: ForwardInput) -> None:
            passes.append((batch, self.nats([requests[index] for index in batch], layout)))

        def settle() -> list[int]:
            totals = self._sums(requests, passes)
            passes.clear()
            for index, total in totals.items():
                scores[index] = (
                    LogLikelihood(total, requests[index].count)
                    if math.isfinite(total)
                    else LogLikelihood(note=f"the model gives a log-likelihood of {total}")
                )
            return [index for index, total in totals.items() if not math.isfinite(total)]

        def failed(index: int) -> None:
            scores[index] = LogLikelihood(note=f"{OUT_OF_MEMORY} {len(rows[index])} tokens")

        starts = [request.spans[0][0] - 1 for request in requests]
        self._pass(rows, starts, work, settle, failed, on_progress)
        return scores

    @torch.inference_mode()
    def states(
        self,
        rows: Sequence[Sequence[int]],
        pool: Callable[[int, torch.Tensor], torch.Tensor],
        on_progress: Callable[[int], None],
    ) -> list[NDArray[np.float32] | str]:
        """See ``Backend.states``. A row that does not fit into memory alone has none."""
        pooled: list[NDArray[np.float32] | str] = [""] * len(rows)
        broken: list[int] = []

        def work(batch: list[int], layout: ForwardInput) -> None:
            rewind(self._growing)
            output = body(self.model)(**layout.inputs, **self._uncached())
            if not isinstance(hidden := getattr(output, "last_hidden_state", None), torch.Tensor):
                found = f"{type(self.model).__name__} does not give its last hidden states"
                raise UsageError(found, where="--proxy.model", remedy="choose another architecture")
            positions = on_device(np.concatenate(layout.paths), self.device).split([*map(len, layout.paths)])
            hidden = hidden.flatten(0, 1)
            pools = [pool(index, hidden[each].float()).float() for index, each in zip(batch, positions, strict=True)]
            host = torch.cat([each.flatten() for each in pools]).cpu().split([each.numel() for each in pools])
            for index, each, values in zip(batch, pools, host, strict=True):
                pooled[index] = vector = values.reshape(each.shape).numpy().copy()
                if not np.isfinite(vector).all():
                    broken.append(index)

        def settle() -> list[int]:
            again = broken.copy()
            broken.clear()
            return again

        def failed(index: int) -> None:
            pooled[index] = f"{OUT_OF_MEMORY} {len(rows[index])} tokens"

        self._pass(rows, [0] * len(rows), work, settle, failed, on_progress)
        return pooled

    def _pass(
        self,
        rows: Sequence[Sequence[int]],
        starts: Sequence[int],
        work: Callable[[list[int], ForwardInput], None],
        settle: Callable[[], list[int]],
        failed: Callable[[int], None],
        on_progress: Callable[[int], None],
    ) -> None:
        """Call ``work`` with the indices of all rows, those that go through the model together, and how it reads them.

        ``starts``: the first token of each row whose hidden state is wanted. ``work`` should not wait for the device:
        ``settle``, which is called when all rows have passed, may. It returns those rows of which the model gives what
        is not finite. ``failed`` is told of a row that does not fit into memory alone.
        """

        def work_padded(batch: list[int]) -> None:
            work(batch, padded([rows[index] for index in batch], self.device))
            on_progress(sum(len(rows[index]) for index in batch))

        if self.in_packs:
            with attending_in_packs(self.model):
                self._pass_packs(rows, starts, work, failed, on_progress)
                # A number that is not finite is not finite times a weight of 0 either: in the beginning that rows share
                # it reaches them all. Each is read once more, alone.
                for index in settle():
                    for pack in packs([rows[index]], [starts[index]], self.batch_tokens, self.alike):
                        work([index], packed([rows[index]], pack, {}, self.dtype, self.device))
        else:
            in_batches([len(row) for row in rows], self.batch_tokens, work_padded, failed, self.alike)
        settle()

    def _pass_packs(
        self,
        rows: Sequence[Sequence[int]],
        starts: Sequence[int],
        work: Callable[[list[int], ForwardInput], None],
        failed: Callable[[int], None],
        on_progress: Callable[[int], None],
    ) -> None:
        """The same with packs, of half as many tokens from where memory runs out."""
        left = [*range(len(rows))]
        while left:
            chosen, trunk, done = [rows[index] for index in left], Trunk(), set[int]()
            try:
                for pack in packs(chosen, [starts[index] for index in left], self.batch_tokens, self.alike):
                    batch = [left[at] for at in pack.rows]
                    work(batch, packed(chosen, pack, trunk, self.dtype, self.device))
                    done.update(batch)
                    on_progress(sum(len(rows[index]) for index in batch))
            except (RuntimeError, MemoryError) as error:
                if not is_out_of_memory(error):
                    raise
                trunk.clear()
                if len(batch) > 1:
                    self.batch_tokens = half_of(min(self.batch_tokens, sum(len(rows[index]) for index in batch)))
                elif not pack.prefix:  # without the rows before it, which share its beginning, and alone
                    failed(batch[0])
                    done.update(batch)
                torch.cuda.empty_cache()
            left = [index for index in left if index not in done]

    def answer(
        self, questions: Sequence[GenerationRequest], on_progress: Callable[[int], None]
    ) -> list[Sequence[int] | str]:
        """See ``Backend.answer``."""
        answers: list[Sequence[int] | str] = [()] * len(questions)
        lengths = [len(question.ids) + self.speech.settings.max_new_tokens for question in questions]

        def work(batch: list[int]) -> None:
            chosen = [questions[index] for index in batch]
            for index, answer in zip(batch, self._drawn(chosen), strict=True):
                answers[index] = answer
            on_progress(sum(lengths[index] for index in batch))

        def failed(index: int) -> None:
            answers[index] = f"{OUT_OF_MEMORY} {lengths[index]} tokens"

        if self._answers_alike is None:
            self._answers_alike = answers_alike(
                lambda prompts, heard: self._go_on(prompts, heard, heard.steps),
                self.model,
                tolerance(torch.finfo(self.dtype).eps),
            )
        in_batches(lengths, CACHED * self.batch_tokens, work, failed, self._answers_alike)
        return answers

    def _drawn(self, batch: Sequence[GenerationRequest]) -> list[Sequence[int] | str]:
        """The tokens that follow each question, or the reason why none do."""
        settings = self.speech.settings
        draw = Draw([each.seed for each in batch], settings.temperature)
        drawn = self._go_on([each.ids for each in batch], draw, settings.max_new_tokens)
        failed = draw.failed.tolist()
        return ["the model's logits are not numbers" if bad else row for row, bad in zip(drawn, failed, strict=True)]

    @torch.inference_mode()
    def _go_on(self, prompts: Sequence[Sequence[int]], draw: Draw | Heard, limit: int) -> list[list[int]]:
        """At most ``limit`` tokens after each prompt."""
        rewind(self._growing)
        return go_on(self.model.generate, prompts, draw, limit, self.speech.stops, self.device)

    def _sums(self, requests: Sequence[Request], passes: Sequence[tuple[list[int], torch.Tensor]]) -> dict[int, float]:
        """Σ log p over the spans of each request that has passed, in nats; here the host waits for the device."""
        indices = [index for batch, _ in passes for index in batch]
        rows = np.repeat(np.arange(len(indices)), [requests[index].count for index in indices])
        nats = torch.cat([each for _, each in passes]).cpu() if passes else torch.zeros(0, dtype=torch.float64)
        sums = torch.zeros(len(indices), dtype=torch.float64).index_add_(0, torch.from_numpy(rows), nats)
        return dict(zip(indices, sums.tolist(), strict=True))

    @torch.inference_mode()
    def nats(self, batch: Sequence[Request], layout: ForwardInput) -> torch.Tensor:
        """float64 (S,), on the device: log p of every token in the requests' spans, one after the other."""
        # What stands at a position predicts the next token.
        spans = [(row, *span) for row, request in enumerate(batch) for span in request.spans]
        positions = on_device(
            np.concatenate([layout.paths[row][start - 1 : end - 1] for row, start, end in spans]), self.device
        )
        scored = np.array([token for row, start, end in spans for token in batch[row].ids[start:end]], np.int64)
        targets = on_device(scored, self.device)
        rewind(self._growing)
        if self.plain_head:
            hidden = body(self.model)(**layout.inputs, **self._uncached()).last_hidden_state
            return log_p(hidden.flatten(0, 1)[positions], self.model.get_output_embeddings(), targets)
        width = layout.inputs["input_ids"].shape[1]
        rows, columns, options = positions // width, positions % width, self._uncached()
        if "logits_to_keep" in self._takes:
            options["logits_to_keep"], columns = columns.unique(return_inverse=True)
        return log_p_of_logits(self.model(**layout.inputs, **options).logits[rows, columns], targets)

    def _uncached(self) -> dict[str, Any]:
        return {"use_cache": False} if "use_cache" in self._takes else {}
