"""From conversations to token ids and the tokens that are scored: the response, as in the table (DESIGN section 4)."""

import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jinja2 import TemplateError
from numpy.typing import NDArray
from transformers import PreTrainedTokenizerBase

from schemas.errors import UsageError
from train.table import Example

Span = tuple[int, int]

_TASK = "Below is an instruction that describes a task"
_ASK = "Write a response that appropriately completes the request."
_ALPACA = _TASK + ". " + _ASK + "\n\n### Instruction:\n{instruction}\n\n### Response:"
_ALPACA_INPUT = (
    _TASK
    + ", paired with an input that provides further context. "
    + _ASK
    + "\n\n### Instruction:\n{instruction}\n\n### Input:\n{input}\n\n### Response:"
)


@dataclass(frozen=True)
class Encoded:
    """One row as tokens. ``ids``: int64 (T,). ``scored``: places, from 1, of the tokens whose loss counts."""

    row: int
    ids: NDArray[np.int64]
    scored: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.ids)


class Unrenderable(ValueError):
    """The template cannot express this conversation."""


class Encoder:
    """Renders and tokenises rows of a table. ``notes`` counts why rows have nothing to learn from, or were cut."""

    def __init__(self, tokenizer: PreTrainedTokenizerBase, template: str, max_length: int) -> None:
        if not tokenizer.is_fast:
            raise UsageError("the tokenizer gives no offsets", remedy="use a model with a fast tokenizer")
        if template == "chat" and not tokenizer.chat_template:
            raise UsageError(
                "the tokenizer has no chat template", remedy="--template alpaca, or a model with a template"
            )
        self._tokenizer, self._template, self._max_length = tokenizer, template, max_length
        self.notes: Counter[str] = Counter()

    def encode(self, rows: Sequence[int], examples: Sequence[Example]) -> list[Encoded]:
        """One ``Encoded`` for each row. A row that cannot be rendered is empty: it is visited, and adds no loss."""
        rendered = [self._render(example) for example in examples]
        tokens = self._tokenizer(
            [text for text, _ in rendered], add_special_tokens=False, return_offsets_mapping=True, verbose=False
        )
        return [
            self._encoded(int(row), np.array(ids, np.int64), np.array(offsets, np.int64).reshape(-1, 2), spans)
            for row, ids, offsets, (_, spans) in zip(
                rows, tokens["input_ids"], tokens["offset_mapping"], rendered, strict=True
            )
        ]

    def _encoded(self, row: int, ids: NDArray[np.int64], offsets: NDArray[np.int64], spans: Sequence[Span]) -> Encoded:
        starts, ends = offsets[:, 0], offsets[:, 1]
        inside = np.zeros(len(ids), bool)
        for start, end in spans:
            inside |= (starts >= start) & (ends <= end) & (ends > starts)
        inside[:1] = False  # nothing stands before the first token to predict it from
        if len(ids) > self._max_length:
            self.notes["cut to --max-length"] += 1
        kept = np.flatnonzero(inside[: self._max_length])
        if not len(kept):
            self.notes["no response token to learn from"] += 1
        return Encoded(row, ids[: self._max_length], kept)

    def _render(self, example: Example) -> tuple[str, list[Span]]:
        try:
            if not example.messages or any(None in message.values() for message in example.messages):
                raise Unrenderable("a turn without role or content")
            return self._alpaca(example) if self._template == "alpaca" else self._chat(example.messages)
        except (Unrenderable, TemplateError) as error:
            self.notes[f"not rendered: {error}"[:200]] += 1
            return "", []

    def _chat(self, messages: Sequence[dict[str, str]]) -> tuple[str, list[Span]]:
        """The whole conversation, and the span of each assistant turn with its end-of-turn token.

        A turn begins where the conversation before it, with the generation prompt, ends; it ends where the
        conversation up to it ends. The text itself is never searched: it may hold anything.
        """
        whole = self._apply(messages, False)
        spans = []
        for index, message in enumerate(messages):
            if message["role"] != "assistant":
                continue
            before, upto = self._apply(messages[:index], True), self._apply(messages[: index + 1], False)
            if not (whole.startswith(before) and whole.startswith(upto) and len(before) <= len(upto)):
                raise Unrenderable("the chat template changes earlier turns when later ones follow")
            turn = upto[len(before) :].rstrip()  # what the template puts after the end-of-turn token
            ended = any(turn.endswith(special) for special in self._tokenizer.all_special_tokens)
            spans.append((len(before), len(before) + len(turn) if ended else len(upto)))
        return whole, spans

    def _apply(self, messages: Sequence[dict[str, str]], generation: bool) -> str:
        return str(
            self._tokenizer.apply_chat_template(list(messages), tokenize=False, add_generation_prompt=generation)
        )

    def _alpaca(self, example: Example) -> tuple[str, list[Span]]:
        if [message["role"] for message in example.messages] != ["user", "assistant"]:
            raise Unrenderable("the Alpaca template holds one instruction and one response")
        instruction, response = (message["content"] for message in example.messages)
        given = json.loads(example.extra).get("input") if example.extra else None
        if isinstance(given, str) and given and instruction.endswith("\n\n" + given):
            prompt = _ALPACA_INPUT.format(instruction=instruction.removesuffix("\n\n" + given), input=given)
        else:
            prompt = _ALPACA.format(instruction=instruction)
        text = prompt + response + str(self._tokenizer.eos_token or "")
        return text, [(len(prompt), len(text))]
