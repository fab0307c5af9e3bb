"""The student's own answers to prompts, drawn by all processes together."""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from curricle.schemas.chat.generation import Draw, no_room, prompt_of, reference, with_answer
from curricle.schemas.chat.responses import RESPONSE_ROLE
from curricle.schemas.inputs import Turn
from curricle.train.data.batching import Size, shares
from curricle.train.data.encoding import ConversationTokenizer
from curricle.train.data.table import Example
from curricle.train.distributed import Processes
from curricle.train.model.student import Student


@dataclass(frozen=True)
class StudentAnswer:
    """What the student says to a prompt. ``text``: None where it says nothing, and ``note`` why.

    ``truncated``: it was given up at the limit, and the student did not end it. ``size``: what it took.
    """

    text: str | None = None
    truncated: bool = False
    note: str | None = None
    size: Size = field(default=Size())


def draw_answers(
    student: Student,
    encoder: ConversationTokenizer,
    examples: Sequence[Example],
    seeds: Sequence[int],
    temperature: float,
    limit: int,
    capacity: int,
    processes: Processes,
    between: Callable[[], None] = lambda: None,
) -> list[StudentAnswer]:
    """The student's answer to what comes before the last response of each example, of at most ``limit`` tokens.

    ``seeds``: one for each, of no use at temperature 0. ``capacity``: tokens of prompts and answers in a pass of one
    process. Each process answers its share, all make as many passes, and call ``between`` after each; zeros elsewhere
    make the one sum at the end exact. No dropout, no gradients, and no random number of torch's.
    """
    rendered = encoder.render(examples)
    prompts = [prompt_of(example.messages, each) for example, each in zip(examples, rendered, strict=True)]
    config = student.model.config
    prompts = [
        prompt if isinstance(prompt, str) else no_room(config, len(prompt), limit) or prompt for prompt in prompts
    ]
    lengths = [0 if isinstance(prompt, str) else len(prompt) + limit for prompt in prompts]
    stops = encoder.stops(config)
    tokens = np.zeros((len(examples), limit), np.int64)  # each one more than it is; 0 is none
    with student.answering():
        passes = shares(lengths, max([capacity, *lengths]), processes.world, False, student.answers_alike)
        for indices in passes[processes.rank]:
            if len(indices):
                draw = Draw([seeds[index] for index in indices], temperature)
                outputs = student.generate([prompts[index] for index in indices], draw, limit, stops)
                failed = [False] * len(indices) if draw.failed is None else draw.failed.tolist()
                for index, answer, bad in zip(indices, outputs, failed, strict=True):
                    tokens[index, : len(answer)] = 0 if bad else np.array(answer) + 1
            else:
                student.generate([[0]], Draw([0], 0.0), 1, stops)
            between()
    return [
        StudentAnswer(note=prompt)
        if isinstance(prompt, str)
        else _answer(encoder, len(prompt), (row[row > 0] - 1).tolist(), stops)
        for prompt, row in zip(prompts, processes.sum(tokens), strict=True)
    ]


def _answer(encoder: ConversationTokenizer, prompt: int, drawn: list[int], stops: Sequence[int]) -> StudentAnswer:
    if not drawn:
        return StudentAnswer(note="the model's logits are not numbers")
    length = prompt + len(drawn)
    size = Size(length, len(drawn), length * length)
    return StudentAnswer(encoder.decode(drawn), truncated=drawn[-1] not in stops, size=size)


class HeldOutAnswers:
    """What the student says, at each evaluation, to the first prompts of a held-out set: the most likely tokens."""

    def __init__(
        self,
        student: Student,
        encoder: ConversationTokenizer,
        name: str,
        examples: Mapping[str, Example],
        limit: int,
        capacity: int,
        processes: Processes,
        reported: Sequence[Mapping[str, Any]] = (),
    ) -> None:
        """``examples`` of the set ``name``, by their ids. ``reported``: evaluations of before, as ``record`` gave them.

        UserError for a model that answers several prompts otherwise than each alone.
        """
        self._student, self._encoder, self._name, self._examples = student, encoder, name, examples
        self._limit, self._capacity, self._processes = limit, capacity, processes
        self._written = {prompt["example_id"] for record in reported for prompt in record.get("prompts", ())}
        with student.answering():
            _ = student.answers_alike  # tried here, where a refusal comes before anything is written

    def record(self) -> dict[str, Any]:
        """The answers for the metrics, and the prompts that no record has yet. Every process holds the same."""
        began = time.perf_counter()
        examples = [*self._examples.values()]
        drawn = draw_answers(
            *(self._student, self._encoder, examples, [0] * len(examples), 0.0, self._limit),
            *(self._capacity, self._processes),
        )
        answers = [
            {"example_id": example_id, "text": answer.text, "truncated": answer.truncated, "note": answer.note}
            for example_id, answer in zip(self._examples, drawn, strict=True)
        ]
        prompts = [
            {"example_id": example_id, **_prompt(example.messages)}
            for example_id, example in self._examples.items()
            if example_id not in self._written
        ]
        self._written |= self._examples.keys()
        return {
            "set": self._name,
            "tokens": self._limit,
            "seconds": time.perf_counter() - began,
            "answers": answers,
            **({"prompts": prompts} if prompts else {}),
        }


def _prompt(conversation: Sequence[Turn]) -> dict[str, Any]:
    """What comes before the last response, and that; all of it, and None, where there is no response."""
    if not any(turn["role"] == RESPONSE_ROLE for turn in conversation):
        return {"messages": [*conversation], "reference": None}
    return {"messages": with_answer(conversation, "")[:-1], "reference": reference(conversation)}
