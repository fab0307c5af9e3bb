"""What a row becomes for each trainer, and which rows its loader would refuse or leave out.

What the loaders do was read in their sources; docs/export.md names the versions.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from curricle.schemas.chat.responses import RESPONSE_ROLE

ChatMessages = Sequence[Mapping[str, str]]
ExportRecord = dict[str, Any]
ID = "example_id"


@dataclass(frozen=True)
class ExportFormat:
    """``record``: a conversation as the trainer's fields. ``problem``: why its loader would not take a conversation.

    ``data``: the file that rows go into, or the folder. ``extra``: whether the other fields of the input go along, as
    JSON. ``templates``: the settings that keep the order, in the trainer's language. ``fields``: those that it writes.
    ``flag``: the key of a message that says, false, that nothing is learnt from it, where the trainer has one.
    """

    name: str
    trainer: str
    fields: tuple[str, ...]
    record: Callable[[ChatMessages], ExportRecord]
    problem: Callable[[ChatMessages], str | None]
    templates: tuple[str, ...] = ()
    data: str = "data/train.jsonl"
    file: Literal["jsonl", "parquet", "mds"] = "jsonl"
    extra: bool = False
    flag: str = ""


def _with_roles(
    roles: Mapping[str, str], role: str, content: str, field: str
) -> Callable[[ChatMessages], ExportRecord]:
    def record(turns: ChatMessages) -> ExportRecord:
        return {field: [{role: roles.get(turn["role"], turn["role"]), content: turn["content"]} for turn in turns]}

    return record


_messages = _with_roles({}, "role", "content", "messages")
_sharegpt = _with_roles({"user": "human", "assistant": "gpt", "tool": "observation"}, "from", "value", "conversations")


def _alpaca(turns: ChatMessages) -> ExportRecord:
    system, rest = _system_apart(turns)
    pairs = [[rest[at]["content"], rest[at + 1]["content"]] for at in range(0, len(rest), 2)]
    *history, (instruction, output) = pairs
    return {"instruction": instruction, "input": "", "output": output, "system": system, "history": history}


def _system_apart(turns: ChatMessages) -> tuple[str, ChatMessages]:
    first = bool(turns) and turns[0]["role"] == "system"
    return (turns[0]["content"], turns[1:]) if first else ("", turns)


def _anything(turns: ChatMessages) -> str | None:
    return None


def _answers(turns: ChatMessages) -> str | None:
    return None if any(turn["role"] == RESPONSE_ROLE for turn in turns) else "has no turn of the assistant"


def _says_something(turns: ChatMessages) -> str | None:
    answers = [turn["content"] for turn in turns if turn["role"] == RESPONSE_ROLE]
    return _answers(turns) or (None if any(map(str.strip, answers)) else "has empty answers alone")


def _in_turn(*questions: str) -> Callable[[ChatMessages], str | None]:
    """A system prompt, if any, and then a question and an answer in turn."""

    def problem(turns: ChatMessages) -> str | None:
        _, rest = _system_apart(turns)
        for index, turn in enumerate(rest):
            expected = questions if index % 2 == 0 else (RESPONSE_ROLE,)
            if turn["role"] not in expected:
                return f"has a turn of the {turn['role']} where one of the {' or '.join(expected)} is expected"
        return "ends before its answer" if not rest or len(rest) % 2 else None

    return problem


def _without(*roles: str, ends: bool = False) -> Callable[[ChatMessages], str | None]:
    """No turn of these roles, and the system's first; ``ends``: the last one is an answer."""

    def problem(turns: ChatMessages) -> str | None:
        others = [turn["role"] for turn in turns if turn["role"] in roles]
        if others:
            return f"has a turn of the {others[0]}"
        if any(turn["role"] == "system" for turn in turns[1:]):
            return "has a turn of the system that is not the first"
        if ends and turns and turns[-1]["role"] != RESPONSE_ROLE:
            return "ends before its answer"
        return _answers(turns)

    return problem


_MESSAGES = (("messages",), _messages)

FORMATS = {
    each.name: each
    for each in (
        ExportFormat("jsonl", "any", *_MESSAGES, _anything, extra=True),
        ExportFormat(
            "hf",
            "datasets, transformers and TRL",
            *_MESSAGES,
            _anything,
            ("training_arguments.py",),
            "data",
            "parquet",
            True,
        ),
        ExportFormat(
            "sharegpt",
            "LLaMA-Factory",
            ("conversations",),
            _sharegpt,
            _in_turn("user", "tool"),
            ("llama_factory.yaml", "dataset_info.json"),
        ),
        ExportFormat(
            "alpaca",
            "LLaMA-Factory",
            ("instruction", "input", "output", "system", "history"),
            _alpaca,
            _in_turn("user"),
            ("llama_factory.yaml", "dataset_info.json"),
        ),
        ExportFormat("axolotl", "axolotl", *_MESSAGES, _says_something, ("axolotl.yaml",), flag="train"),
        ExportFormat("ms-swift", "ms-swift", *_MESSAGES, _without(ends=True), ("ms_swift.yaml",), flag="loss"),
        ExportFormat("torchtune", "torchtune", *_MESSAGES, _in_turn("user"), ("torchtune.yaml",)),
        ExportFormat(
            "nemo",
            "NeMo (Megatron Bridge and AutoModel)",
            *_MESSAGES,
            _without("tool"),
            ("megatron_bridge.py", "automodel.yaml"),
            "data/training.jsonl",
        ),
        ExportFormat("megatron-jsonl", "Megatron-LM", *_MESSAGES, _without("tool"), ("megatron_lm.sh",)),
        ExportFormat(
            "mds", "MosaicML streaming", *_MESSAGES, _anything, ("streaming_dataset.py",), "data", "mds", True
        ),
    )
}
