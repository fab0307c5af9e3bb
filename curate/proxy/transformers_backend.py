"""The proxy on plain PyTorch: packs of rows where the model takes them, else padded batches of rows of like length."""

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer, GenerationConfig
from transformers.utils import logging

from curate.batch import LogLikelihood
from curate.proxy.bounded import in_batches
from curate.proxy.generation import Question, Speech
from curate.proxy.likelihood import log_p, log_p_of_logits
from curate.proxy.packing import Layout, Trunk, attending_along_branches, packed, packs, padded
from curate.proxy.sequences import Request, SpecialTokens
from curate.proxy.settings import ProxySettings
from curate.proxy.weights import Weights
from schemas.answers import Draw, left_padded

BATCH_TOKENS = {"cpu": 2048, "cuda": 16384}
CACHED = 4
"""Tokens whose keys and values are kept, while answers are drawn, for each one that a forward pass may have."""


class TransformersBackend:
    model: Any
    weights: Weights | None = None

    def __init__(self, settings: ProxySettings, weights: Weights) -> None:
        logging.disable_progress_bar()  # the job has a bar of its own
        self.device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        self.dtype = getattr(torch, settings.dtype)
        self.take(weights)
        self.batch_tokens = settings.batch_tokens or BATCH_TOKENS[self.device.type]
        tokenizer = AutoTokenizer.from_pretrained(weights.directory, trust_remote_code=False)
        self.special = SpecialTokens(tokenizer.bos_token_id, tokenizer.eos_token_id)
        self.speech = Speech(tokenizer, self.model.config, settings)
        self._head_is_plain = self._check_head()
        self.in_packs = self._check_packs(settings.max_length)

    def take(self, weights: Weights) -> None:
        """See ``Backend.take``."""
        if weights == self.weights:
            return
        self.weights = self.model = None  # two models at once may not fit
        self.model = AutoModelForCausalLM.from_pretrained(
            weights.directory, dtype=self.dtype, use_safetensors=True, trust_remote_code=False
        )
        self.model.eval().to(self.device)
        self.model.generation_config = GenerationConfig()  # the model's own defaults would change what is drawn
        self.weights = weights

    def score(self, requests: Sequence[Request], on_progress: Callable[[int], None]) -> list[LogLikelihood]:
        """See ``Backend.score``. A row that does not fit into memory alone is null with a note."""
        scores: list[LogLikelihood] = [LogLikelihood()] * len(requests)
        rows = [request.ids for request in requests]

        def work(batch: list[int], layout: Layout) -> None:
            chosen = [requests[place] for place in batch]
            for place, request, total in zip(batch, chosen, self._sums(chosen, layout), strict=True):
                scores[place] = (
                    LogLikelihood(total, request.count)
                    if math.isfinite(total)
                    else LogLikelihood(note=f"the model gives a log-likelihood of {total}")
                )
            on_progress(sum(len(rows[place]) for place in batch))

        def work_padded(batch: list[int]) -> None:
            work(batch, padded([rows[place] for place in batch], self.device))

        def failed(place: int) -> None:
            scores[place] = LogLikelihood(note=f"out of memory for {len(rows[place])} tokens")

        if self.in_packs:
            trunk: Trunk = {}
            with attending_along_branches(self.model):
                for pack in packs(rows, [request.spans[0][0] - 1 for request in requests], self.batch_tokens):
                    work(pack.rows, packed(rows, pack, trunk, self.dtype))
        else:
            in_batches([len(row) for row in rows], self.batch_tokens, work_padded, failed)
        return scores

    def answer(self, questions: Sequence[Question], on_progress: Callable[[int], None]) -> list[Sequence[int] | str]:
        """See ``Backend.answer``."""
        answers: list[Sequence[int] | str] = [()] * len(questions)
        lengths = [len(question.ids) + self.speech.settings.max_new_tokens for question in questions]

        def work(batch: list[int]) -> None:
            chosen = [questions[place] for place in batch]
            for place, answer in zip(batch, self._drawn(chosen), strict=True):
                answers[place] = answer
            on_progress(sum(lengths[place] for place in batch))

        def failed(place: int) -> None:
            answers[place] = f"out of memory for {lengths[place]} tokens"

        in_batches(lengths, CACHED * self.batch_tokens, work, failed)
        return answers

    @torch.inference_mode()
    def _drawn(self, batch: Sequence[Question]) -> list[Sequence[int] | str]:
        """The tokens that follow each question, or the reason why none do."""
        settings = self.speech.settings
        ids, mask = (torch.tensor(lists, device=self.device) for lists in left_padded([each.ids for each in batch]))
        draw = Draw([each.seed for each in batch], settings.temperature)
        rows = self.model.generate(
            ids,
            attention_mask=mask,
            generation_config=GenerationConfig(
                max_new_tokens=settings.max_new_tokens, eos_token_id=self.speech.stops, pad_token_id=0, do_sample=False
            ),
            logits_processor=[draw],
        )
        drawn = rows[:, ids.shape[1] :].tolist()
        failed = draw.failed.tolist()
        return ["the model's logits are not numbers" if bad else row for row, bad in zip(drawn, failed, strict=True)]

    @torch.inference_mode()
    def _sums(self, batch: Sequence[Request], layout: Layout) -> list[float]:
        """Σ log p over each request's spans, in nats."""
        # What stands at a position predicts the next token.
        spans = [(row, *span) for row, request in enumerate(batch) for span in request.spans]
        places = np.concatenate([layout.paths[row][start - 1 : end - 1] for row, start, end in spans])
        targets = [token for row, start, end in spans for token in batch[row].ids[start:end]]
        nats = self._log_p(layout.inputs, torch.from_numpy(places).to(self.device), torch.tensor(targets)).cpu()
        rows = torch.tensor([row for row, start, end in spans for _ in range(start, end)])
        return torch.zeros(len(batch), dtype=torch.float64).index_add_(0, rows, nats).tolist()

    def _log_p(self, inputs: dict[str, Any], places: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        """float64 (S,): log p of each target after the token at its place."""
        targets = targets.to(self.device)
        if self._head_is_plain:
            hidden = self.model.base_model(**inputs, use_cache=False).last_hidden_state
            return log_p(hidden.flatten(0, 1)[places], self.model.get_output_embeddings(), targets)
        logits = self.model(**inputs, use_cache=False).logits.flatten(0, 1)[places]
        return log_p_of_logits(logits, targets)

    @torch.inference_mode()
    def _check_head(self) -> bool:
        """Whether logits are the output embedding of the last hidden state and nothing more.

        Some models scale them or cap them; those pay for logits at every position.
        """
        ids = torch.arange(8, device=self.device)[None]
        hidden = self.model.base_model(ids, use_cache=False).last_hidden_state
        head = self.model.get_output_embeddings()
        return isinstance(head, torch.nn.Linear) and torch.equal(head(hidden), self.model(ids, use_cache=False).logits)

    @torch.inference_mode()
    def _check_packs(self, max_length: int) -> bool:
        """Whether rows in a pack get the hidden states that they get alone, however long they are.

        On a GPU they would, but it has better things to do than to attend row by row.
        """
        config = self.model.config.get_text_config()
        windows = [getattr(config, name, None) for name in ("sliding_window", "attention_chunk_size")]
        if self.device.type != "cpu" or config._attn_implementation != "sdpa":
            return False
        if any(window and window <= max_length for window in windows):
            return False
        rows = [[1, 2, 3, 4], [1, 2, 3, 5, 6, 7], [1, 2, 3, 5, 8, 9], [2, 1, 3]]
        trunk: Trunk = {}
        try:
            with attending_along_branches(self.model):
                layouts = [packed(rows, pack, trunk, self.dtype) for pack in packs(rows, [3, 5, 5, 2], 7)]
                together = [self._last_hidden(layout) for layout in layouts]
        except TypeError:  # the model's layers hand nothing on to their attention
            return False
        alone = self._last_hidden(padded(rows, self.device))
        tolerance = torch.finfo(self.dtype).eps ** 0.5 * float(alone.abs().max())
        return torch.allclose(torch.cat(together), alone, rtol=0, atol=tolerance)

    def _last_hidden(self, layout: Layout) -> torch.Tensor:
        """(rows, width): the hidden state of each row's last token."""
        hidden = self.model.base_model(**layout.inputs, use_cache=False).last_hidden_state.flatten(0, 1)
        return hidden[[path[-1] for path in layout.paths]]
