"""What the IFD and the perplexity of other programs are, token by token, read in their code and computed apart from it.

They score a row with the tokenizer's ``model`` and with plain texts, no chat template: ``prompt`` and ``response``.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from transformers import PreTrainedModel, PreTrainedTokenizerBase


@dataclass(frozen=True)
class Reader:
    """A model that is asked one text at a time."""

    tokenizer: PreTrainedTokenizerBase
    model: PreTrainedModel

    def ids(self, text: str) -> list[int]:
        return self.tokenizer(text).input_ids

    def nll(self, ids: Sequence[int], start: int) -> list[float]:
        """-log p of each token from ``start`` on; the first token of all has nothing before it, and none."""
        if len(ids) < 2:
            return []
        with torch.inference_mode():
            logits = self.model(torch.tensor([ids])).logits[0, :-1]
            each = torch.nn.functional.cross_entropy(logits, torch.tensor(ids[1:]), reduction="none")
        return each[max(start, 1) - 1 :].tolist()


def data_juicer_ifd(reader: Reader, prompt: str, response: str) -> float:
    """data-juicer 1.6.1, instruction_following_difficulty_filter: a ratio of mean losses over the last k tokens.

    k = n - 1 of the n tokens of the response, as if the tokenizer had put a BOS before them. With k = 0 its slice
    [:-k] is empty, and nothing is left out: the prompt is scored.
    """
    k = _scored(reader, response)
    joined, alone = reader.ids(f"{prompt} {response}".strip()), reader.ids(response.strip())
    losses = [_mean(reader.nll(ids, len(ids) - k if k else 0)) for ids in (joined, alone)]
    return losses[0] / losses[1]


def data_juicer_perplexity(reader: Reader, prompt: str, response: str) -> float:
    """data-juicer 1.6.1, llm_perplexity_filter: of the same k tokens after the prompt."""
    k, joined = _scored(reader, response), reader.ids(f"{prompt} {response}".strip())
    return math.exp(_mean(reader.nll(joined, len(joined) - k if k else 0)))


def dataflow_ifd(reader: Reader, prompt: str, response: str, max_length: int = 512) -> float:
    """DataFlow 1.0.13, SuperfilteringSampleEvaluator: exp(a - b), where a and b are means over different tokens.

    a: all n tokens of the response after the prompt, as many as fit into ``max_length``; b: tokens 2 to n of the
    response alone, as many as fit into ``max_length`` less the tokens of the prompt, plus 1. NaN where b has none.
    """
    before = f"{prompt}\n"
    whole, alone = reader.ids(before + response)[:max_length], reader.ids(response)
    room = max_length - len(reader.ids(before)[:max_length]) + 1
    conditional = reader.nll(whole, len(reader.ids(before)))
    return math.exp(_mean(conditional) - _mean(reader.nll(alone[:room], 1)))


def dataflow_perplexity(reader: Reader, prompt: str, response: str) -> float:
    """DataFlow 1.0.13, PerplexitySampleEvaluator: of a text alone, without its first token."""
    return math.exp(_mean(reader.nll(reader.ids(response), 1)))


def _scored(reader: Reader, response: str) -> int:
    return len(reader.ids(response.strip())) - int(reader.tokenizer.bos_token_id is not None)


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values) if values else math.nan
