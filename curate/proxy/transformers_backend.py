"""The proxy on plain PyTorch: right-padded batches of rows of like length, logits only where a token is scored."""

import math
from collections import deque
from collections.abc import Callable, Iterator, Sequence

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer
from transformers.utils import logging

from curate.batch import LogLikelihood
from curate.proxy.sequences import Request, SpecialTokens
from curate.proxy.settings import ProxySettings
from curate.proxy.weights import Weights

BATCH_TOKENS = {"cpu": 2048, "cuda": 16384}
LOGIT_BYTES = {"cpu": 2**26, "cuda": 2**30}


class TransformersBackend:
    def __init__(self, settings: ProxySettings, weights: Weights) -> None:
        logging.disable_progress_bar()  # the job has a bar of its own
        self.device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        self.model = AutoModelForCausalLM.from_pretrained(
            weights.directory, dtype=getattr(torch, settings.dtype), use_safetensors=True, trust_remote_code=False
        )
        self.model.eval().to(self.device)
        self.batch_tokens = settings.batch_tokens or BATCH_TOKENS[self.device.type]
        tokenizer = AutoTokenizer.from_pretrained(weights.directory, trust_remote_code=False)
        self.special = SpecialTokens(tokenizer.bos_token_id, tokenizer.eos_token_id)
        self._logit_rows = max(1, LOGIT_BYTES[self.device.type] // (4 * self.model.config.get_text_config().vocab_size))
        self._head_is_plain = self._check_head()

    def score(self, requests: Sequence[Request], on_progress: Callable[[int], None]) -> list[LogLikelihood]:
        """See ``Backend.score``. A row that does not fit into memory alone is null with a note."""
        scores: list[LogLikelihood] = [LogLikelihood()] * len(requests)
        # Longest first: rows of a batch need little padding, and a lack of memory shows at once.
        waiting = deque(sorted(range(len(requests)), key=lambda place: -len(requests[place].ids)))
        budget = self.batch_tokens
        while waiting:
            batch = _take(waiting, requests, budget)
            chosen = [requests[place] for place in batch]
            try:
                sums = self._sums(chosen)
            except torch.OutOfMemoryError:
                if len(batch) == 1:
                    scores[batch[0]] = LogLikelihood(note=f"out of memory for {len(chosen[0].ids)} tokens")
                else:
                    budget = len(batch) * len(chosen[0].ids) // 2
                    waiting.extendleft(reversed(batch))
                torch.cuda.empty_cache()
                continue
            for place, request, total in zip(batch, chosen, sums, strict=True):
                scores[place] = (
                    LogLikelihood(total, request.count)
                    if math.isfinite(total)
                    else LogLikelihood(note=f"the model gives a log-likelihood of {total}")
                )
            on_progress(sum(len(request.ids) for request in chosen))
        return scores

    @torch.inference_mode()
    def _sums(self, batch: Sequence[Request]) -> list[float]:
        """Σ log p over each request's spans, in nats."""
        longest = max(len(request.ids) for request in batch)
        ids = torch.zeros(len(batch), longest, dtype=torch.long)
        for row, request in enumerate(batch):
            ids[row, : len(request.ids)] = torch.tensor(request.ids)
        # Logits at a position predict the next token.
        scored = [
            (row, position) for row, request in enumerate(batch) for span in request.spans for position in range(*span)
        ]
        rows, positions = torch.tensor(scored).unbind(1)
        targets = ids[rows, positions].to(self.device)
        # The padding is on the right and attention is causal, so no real token sees it: a mask would change nothing
        # and cost the fast attention kernels.
        logits = self._logits_at(ids.to(self.device), rows.to(self.device), positions.to(self.device) - 1)
        nats = [
            # Not log_softmax: in float32 on a CPU it is off by 2e-5 over a vocabulary of 50k, always to one side.
            (chunk.gather(1, wanted[:, None])[:, 0] - chunk.logsumexp(1)).cpu()
            for chunk, wanted in zip(logits, targets.split(self._logit_rows), strict=True)
        ]
        sums = torch.zeros(len(batch), dtype=torch.float64)
        return sums.index_add_(0, rows, torch.cat(nats).double()).tolist()

    def _logits_at(self, ids: torch.Tensor, rows: torch.Tensor, positions: torch.Tensor) -> Iterator[torch.Tensor]:
        """Float32 logits at these places, ``self._logit_rows`` at a time: shape (≤ logit rows, vocabulary)."""
        if not self._head_is_plain:
            yield from self.model(ids, use_cache=False).logits[rows, positions].float().split(self._logit_rows)
            return
        hidden = self.model.base_model(ids, use_cache=False).last_hidden_state[rows, positions]
        for chunk in hidden.split(self._logit_rows):
            yield self.model.get_output_embeddings()(chunk).float()

    @torch.inference_mode()
    def _check_head(self) -> bool:
        """Whether logits are the output embedding of the last hidden state and nothing more.

        Some models scale them or cap them; those pay for logits at every position.
        """
        ids = torch.arange(8, device=self.device)[None]
        hidden = self.model.base_model(ids, use_cache=False).last_hidden_state
        return torch.equal(self.model.get_output_embeddings()(hidden), self.model(ids, use_cache=False).logits)


def _take(waiting: deque[int], requests: Sequence[Request], budget: int) -> list[int]:
    """The next rows whose padded tokens fit the budget; always at least one."""
    batch = [waiting.popleft()]
    longest = len(requests[batch[0]].ids)
    while waiting and (len(batch) + 1) * longest <= budget:
        batch.append(waiting.popleft())
    return batch
