"""A model's own answer to the last question of a conversation: what it reads, how it draws, what the answer replaces.

The same for the proxy, which answers every prompt once, and for the student, which answers again while it learns.
"""

import sys
from collections.abc import Callable, Sequence
from hashlib import blake2b
from typing import Any

from curricle.schemas.chat.models import embeddings
from curricle.schemas.chat.positions import Alike, rows_alike
from curricle.schemas.chat.rendering import Rendered
from curricle.schemas.chat.responses import RESPONSE_ROLE
from curricle.schemas.common.errors import UserError
from curricle.schemas.inputs import Turn, answer_turns


def prompt_of(conversation: Sequence[Turn], rendered: Rendered) -> Sequence[int] | str:
    """The tokens that the last response follows, its header among them; or the reason why there is no such prompt."""
    if rendered.note:
        return rendered.note
    responses = answer_turns(conversation)
    if not responses or rendered.response_tokens == 0:
        return "there is no response"
    if responses[-1] == 0:
        return "nothing comes before the response"
    if not rendered.answers or rendered.answers[-1] != len(responses) - 1:
        if rendered.truncated:
            return f"the prompt fills the maximum length of {len(rendered.ids)} tokens"
        return "the last answer is context, or the chat template leaves it out or alters it"
    return rendered.ids[: rendered.spans[-1][0]]


def no_room(config: Any, prompt: int, limit: int) -> str | None:
    """Why a model of this config gives no answer of up to ``limit`` tokens to a prompt of so many; None if it does.

    Learned positions end there. Where others could go on, some engines of generation do and some do not; nobody does.
    """
    positions = _positions(config)
    if positions is not None and prompt + limit > positions:
        return f"after {prompt} tokens the model cannot read {limit} more"
    return None


def _positions(config: Any) -> int | None:
    """How many tokens the model was made to read; None where its config does not say."""
    positions = getattr(config.get_text_config(), "max_position_embeddings", None)
    return positions if isinstance(positions, int) and positions > 0 else None


def reference(conversation: Sequence[Turn]) -> str:
    """The last response, in a conversation that has one."""
    return conversation[_last(conversation)]["content"]


def with_answer(conversation: Sequence[Turn], text: str) -> list[Turn]:
    """The conversation with this text as its last response, and nothing after it."""
    return [*conversation[: _last(conversation)], {"role": RESPONSE_ROLE, "content": text}]


def _last(conversation: Sequence[Turn]) -> int:
    return max(index for index, turn in enumerate(conversation) if turn["role"] == RESPONSE_ROLE)


def draw_seed(*of: int | str) -> int:
    """63 bits for everything that is drawn for one answer, which depend on a seed and an id, and on nothing else."""
    return int.from_bytes(blake2b(" ".join(map(str, of)).encode(), digest_size=8).digest()) >> 1


def uniform(seed: int, step: int) -> float:
    """The number in [0, 1) that decides on the token at this step of an answer."""
    return (int.from_bytes(blake2b(f"{seed} {step}".encode(), digest_size=8).digest()) >> 11) * 2.0**-53


class Draw:
    """Draws the next token of each row of a batch, as a logits processor of transformers: all others get -inf.

    Each token is the inverse of the distribution at a number that depends on the row's own seed and on the step in
    the answer, so that an answer does not depend on the batch (but for ties of floats). Temperature 0 takes the most
    likely token. ``failed``: rows whose logits were not numbers.
    """

    def __init__(self, seeds: Sequence[int], temperature: float) -> None:
        self._seeds, self._temperature, self._step = seeds, temperature, 0
        self.failed: Any = None

    def __call__(self, input_ids: Any, scores: Any) -> Any:
        """``scores`` (rows, vocabulary): logits in, 0 at the token drawn and -inf elsewhere out."""
        failed = scores.isnan().any(-1)
        self.failed = failed if self.failed is None else self.failed | failed
        if self._temperature:
            cumulative = (scores.double() / self._temperature).softmax(-1).cumsum(-1)
            drawn = cumulative.new_tensor([[uniform(seed, self._step)] for seed in self._seeds])
            below = (cumulative <= drawn * cumulative[:, -1:]).sum(-1, keepdim=True)
            chosen = below.clamp(max=scores.shape[1] - 1)
        else:
            chosen = scores.argmax(-1, keepdim=True)
        self._step += 1
        return scores.new_full(scores.shape, float("-inf")).scatter(1, chosen, 0.0)


def left_padded(prompts: Sequence[Sequence[int]]) -> tuple[list[list[int]], list[list[int]]]:
    """Prompts of one length, and the mask of what is no padding: a generation goes on at the right."""
    width = max(map(len, prompts))
    return (
        [[0] * (width - len(prompt)) + list(prompt) for prompt in prompts],
        [[0] * (width - len(prompt)) + [1] * len(prompt) for prompt in prompts],
    )


class Heard:
    """A logits processor that draws given tokens, and keeps the last logits: (rows, vocabulary)."""

    logits: Any = None
    steps = 3

    def __init__(self, vocabulary: int) -> None:
        self._vocabulary, self._step = vocabulary, 0

    def __call__(self, input_ids: Any, scores: Any) -> Any:
        self.logits, self._step = scores.float(), self._step + 1
        drawn = scores.new_full(scores.shape, float("-inf"))
        drawn[:, (11 * self._step + 3) % self._vocabulary] = 0.0
        return drawn


def answers_alike(go_on: Callable[[Sequence[Sequence[int]], Heard], Any], model: Any, bound: float) -> Alike:
    """Which lengths of prompt and answer may be drawn together: a key for each, see ``schemas.chat.positions``.

    ``go_on`` has the model of transformers draw ``Heard.steps`` tokens after each prompt. Where the padding of prompts
    is read (some models with states have no use for a mask), or positions depend on the longest row, only prompts of
    one length go on together.
    UserError if not even those go on as each does alone: to ``bound`` nats, on average over the vocabulary.
    """
    vocabulary, alike = embeddings(model), rows_alike(model.config)
    longest = max(1, (_positions(model.config) or sys.maxsize) - Heard.steps)

    def apart(lengths: Sequence[int]) -> bool:
        prompts = [
            [(7 * index + 5 * row + length) % vocabulary for index in range(length)]
            for row, length in enumerate(min(length, longest) for length in lengths)
        ]
        go_on(prompts, together := Heard(vocabulary))
        for row, prompt in enumerate(prompts):
            go_on([prompt], alone := Heard(vocabulary))
            off = alone.logits[0].log_softmax(-1) - together.logits[row].log_softmax(-1)
            if not float(off.abs().mean()) <= bound:
                return False
        return True

    if apart([5, 17, 30]):
        return lambda length: length if alike(length) else 0
    if apart([17, 17]):
        return lambda length: length
    raise UserError(
        "the model's answers to two prompts differ from its answers to each alone",
        remedy="choose another architecture to answer",
    )


def go_on(
    generate: Callable[..., Any],
    prompts: Sequence[Sequence[int]],
    draw: "Draw | Heard",
    limit: int,
    stops: Sequence[int],
    device: Any,
    **options: Any,
) -> list[list[int]]:
    """At most ``limit`` tokens after each prompt, through the one that ends the answer.

    ``generate``: that of a model of transformers, and further ``options`` of it.
    """
    import torch
    from transformers import GenerationConfig

    ids, mask = (torch.tensor(lists, device=device) for lists in left_padded(prompts))
    rows = generate(
        ids,
        attention_mask=mask,
        generation_config=GenerationConfig(
            max_new_tokens=limit, eos_token_id=list(stops) or None, pad_token_id=0, do_sample=False
        ),
        logits_processor=[draw],
        **options,
    )
    return [cut(row, stops) for row in rows[:, ids.shape[1] :].tolist()]


def cut(tokens: Sequence[int], stops: Sequence[int]) -> list[int]:
    """An answer through the token that ends it, if one does."""
    end = next((index for index, token in enumerate(tokens) if token in stops), len(tokens))
    return list(tokens[: end + 1])
