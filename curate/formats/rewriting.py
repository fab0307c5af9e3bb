"""Records that say in a form of their own what another one says too: each becomes a record that a format reads.

Every rule looks at fields by name and at what is in them, and leaves a record alone that it does not know. What a rule
makes of a field stands in the record instead of it; all other fields stay.
"""

import json
import re
from collections.abc import Callable, Mapping
from typing import Any

from curricle.curate.formats import strict
from curricle.curate.formats.beside import LIST_FIELDS, MANY_ANSWERS, answers_in
from curricle.curate.formats.conversation import Fields, FormatError, first_saying
from curricle.curate.formats.trees import NO_BEST, ReplyTree, is_tree, turn
from curricle.curate.formats.turns import ANSWER_FIELDS, are_objects, is_turns, tool_call
from curricle.curate.formats.values import as_text, kind, says
from curricle.schemas.chat.responses import RESPONSE_ROLE

QUESTIONS = ("prompt", "question", "query", "instruction")
ANSWERS = (*ANSWER_FIELDS, "solution", "target", "targets")
TRANSCRIPTS = ("text", "transcript")
EXCHANGES = (
    *(("human", "assistant"), ("user", "assistant"), ("user", "bot"), ("human", "gpt"), ("input", "output")),
    *(("instruction", "output"), ("prompt", "response"), ("question", "answer"), ("query", "response")),
)
"""Under which names one object has a question and its answer."""
REWRITTEN = (*TRANSCRIPTS, "answers", "chat", "meta_instruction", "reward_model", "data")
"""Names of fields that only rules here look at."""

_SPEAKER = re.compile(r"(?:\A\s*|\n\n)(Human|Assistant):")
_MOSS_TURN = re.compile(r"turn_(\d{1,4})")
_MOSS_MARKS = re.compile(r"\A\s*<\|[^|<>]{1,20}\|>:\s?|<eo[a-z]>\s*\Z")
_TEXTS_OF_AN_ANSWER = ("text", "content", "response", "answer", "completion", "output", "value")


def rewritten(record: Fields) -> Fields:
    """The record as formats read it. FormatError for a form that is known, and in which something is missing."""
    for names, rule in _RULES:
        if not names.isdisjoint(record):
            record = rule(record)
    return record


def exchange(item: Any) -> list[dict[str, Any]] | None:
    """The turns that one object is, which has a question and its answer under two names; None for anything else.

    What else it has goes with the answer, but for a system prompt, which comes first.
    """
    if not isinstance(item, dict) or "role" in item or "from" in item:
        return None
    names = next((each for each in EXCHANGES if all(as_text(item.get(name)) is not None for name in each)), None)
    if names is None:
        return None
    system = as_text(item.get("system")) or ""
    first = [{"role": "system", "content": system}] if says(system) else []
    rest = {name: value for name, value in item.items() if name not in (*names, *(("system",) if first else ()))}
    question = {"role": "user", "content": item[names[0]]}
    return [*first, question, {**rest, "role": RESPONSE_ROLE, "content": item[names[1]]}]


def transcript(value: Any) -> list[dict[str, Any]] | None:
    """The turns of a text that begins with ``Human:`` and goes on with ``Assistant:`` after an empty line."""
    string = as_text(value)
    if string is None or not re.match(r"\s*Human:", string) or "\n\nAssistant:" not in string:
        return None
    _, *parts = _SPEAKER.split(string)
    speakers = {"Human": "user", "Assistant": RESPONSE_ROLE}
    turns = [
        {"role": speakers[name], "content": text.strip()} for name, text in zip(parts[::2], parts[1::2], strict=True)
    ]
    return turns[:-1] if turns[-1] == {"role": RESPONSE_ROLE, "content": ""} else turns


def best_replies(record: Fields) -> Fields:
    """OASST: a tree of replies as the conversation that takes the best-ranked reply at each turn.

    FormatError if there is none.
    """
    message = record.get("prompt")
    if not is_tree(message):
        return record
    tree = ReplyTree.nested(message)
    if not (best := tree.best().messages):
        raise FormatError(NO_BEST)
    return {**record, "prompt": [turn(tree.messages[index]) for index in best]}


def _one_conversation(record: Fields) -> Fields:
    """The record. FormatError for those that are known to hold several conversations, or a part of one."""
    if is_tree(record.get("prompt")):
        raise FormatError("'prompt' is a tree of replies; give --replies best, or paths if the file begins with one")
    if says(record.get("message_id")) and "parent_id" in record and "text" in record and not _has_turns(record):
        raise FormatError(
            "one message of a tree of replies; give --replies best or paths for files that begin with one"
        )
    paragraphs = record.get("paragraphs")
    if isinstance(paragraphs, list) and any(isinstance(each, dict) and "qas" in each for each in paragraphs):
        raise FormatError("'paragraphs' holds many questions, which are read from files that begin with such a record")
    if record.get("is_impossible") is True and not answers_in(record.get("answers")):
        raise FormatError("'is_impossible' is true: the context has no answer to the question")
    return record


def _with_turns(record: Fields, turns: list[Any], without: tuple[str, ...] = ()) -> Fields:
    """The record with these turns in the first field of turns that is free."""
    name = next((name for name in LIST_FIELDS if name in without or not says(record.get(name))), None)
    if name is None:
        return record
    return {name: turns, **{other: value for other, value in record.items() if other not in (name, *without)}}


def _has_turns(record: Fields) -> bool:
    return any(is_turns(record.get(name)) for name in LIST_FIELDS)


def json_turns(record: Fields) -> Fields:
    """Turns that stand as JSON text, as in columns of CSV."""
    parsed = {}
    for name in (*LIST_FIELDS, "chosen", "rejected"):
        string = as_text(record.get(name))
        if string is not None and string.lstrip().startswith("[") and string.rstrip().endswith("]"):
            try:
                value = strict.loads(string)
            except (json.JSONDecodeError, strict.Refused):
                continue
            if is_turns(value):
                parsed[name] = value
    return {**record, **parsed} if parsed else record


def _transcripts(record: Fields) -> Fields:
    """Anthropic's ``Human:`` and ``Assistant:``, each after an empty line."""
    if _has_turns(record):
        return record
    pair = [transcript(record.get(name)) for name in ("chosen", "rejected")]
    if pair[0] and pair[1]:
        return {**record, "chosen": pair[0], "rejected": pair[1]}
    if turns := transcript(record.get("prompt")):
        return {**record, "prompt": turns}
    for name in TRANSCRIPTS:
        if turns := transcript(record.get(name)):
            return _with_turns(record, turns, (name,))
    return record


def _moss(record: Fields) -> Fields:
    """MOSS: an object of turns, each with what the user, the thoughts, the commands, their results and MOSS say."""
    chat = record.get("chat")
    if _has_turns(record) or not isinstance(chat, dict) or not chat:
        return record
    numbers = [_MOSS_TURN.fullmatch(str(name)) for name in chat]
    if not all(numbers) or not all(isinstance(turn, dict) for turn in chat.values()):
        return record
    numbered = {int(match[1]): turn for match, turn in zip(numbers, chat.values(), strict=True) if match}
    turns = [turn for number in sorted(numbered) for turn in _moss_turn(numbered[number], f"'chat' turn_{number}: ")]
    system = record.get("meta_instruction")
    first = [{"role": "system", "content": system}] if says(system) else []
    return _with_turns(record, [*first, *turns], ("chat", "meta_instruction"))


def _moss_turn(fields: Mapping[str, Any], where: str) -> list[dict[str, Any]]:
    if "Human" not in fields or "MOSS" not in fields:
        raise FormatError(f"{where}it has not both 'Human' and 'MOSS'")
    texts = {}
    for name in ("Human", "Inner Thoughts", "Commands", "Tool Responses", "MOSS"):
        string = as_text(fields.get(name) or "")
        if string is None:
            raise FormatError(f"{where}{name!r} is {kind(fields[name])}, not text")
        bare = _MOSS_MARKS.sub("", string).strip()
        texts[name] = "" if bare == "None" and name not in ("Human", "MOSS") else bare
    thought = {"reasoning_content": texts["Inner Thoughts"]}
    turns: list[dict[str, Any]] = [{"role": "user", "content": texts["Human"]}]
    if texts["Commands"]:
        turns.append({"role": RESPONSE_ROLE, "content": tool_call(texts["Commands"]), **thought})
        thought = {}
    if texts["Tool Responses"]:
        turns.append({"role": "tool", "content": texts["Tool Responses"]})
    return [*turns, {"role": RESPONSE_ROLE, "content": texts["MOSS"], **thought}]


def _exchanges(record: Fields) -> Fields:
    """Lists of objects that each hold a question and its answer."""
    for name in LIST_FIELDS:
        value = record.get(name)
        if isinstance(value, list) and value and all(turns := [exchange(item) for item in value]):
            return {**record, name: [turn for each in turns for turn in each or ()]}
    return record


def _texts_in_turn(record: Fields) -> Fields:
    """UltraChat: ``data`` is the texts of user and assistant in turn."""
    data = record.get("data")
    if _has_turns(record) or not isinstance(data, list) or len(data) < 2 or any(as_text(text) is None for text in data):
        return record
    return _with_turns(record, data, ("data",))


def _prompt_turns(record: Fields) -> Fields:
    """A conversation in ``prompt`` or in ``chosen``, and verl's answer to it."""
    chosen, prompt = record.get("chosen"), record.get("prompt")
    chosen = chosen if are_objects(chosen) and says(record.get("rejected")) else None
    if chosen and (same := next((name for name in LIST_FIELDS if record.get(name) == chosen), None)):
        record = {name: value for name, value in record.items() if name != same}
    if _has_turns(record):
        return record
    if are_objects(prompt):
        answer = record.get("reward_model")
        truth = answer.get("ground_truth") if isinstance(answer, dict) else None
        if says(truth) and first_saying(record, ANSWERS) is None:
            if as_text(truth) is None:
                raise FormatError(f"'reward_model' has {kind(truth)} as its ground truth, not text")
            record = {**record, "response": truth}
        return _with_turns(record, prompt, ("prompt",))
    if not chosen:
        return record
    question = first_saying(record, QUESTIONS)
    first = "from" if "from" in chosen[0] else "role"
    if question and as_text(record[question]) is not None and chosen[0].get(first) in ("assistant", "gpt"):
        content, user = ("value", "human") if first == "from" else ("content", "user")
        return _with_turns(record, [{first: user, content: record[question]}], (question,))
    texts = [turn.get("content", turn.get("value")) for turn in chosen if isinstance(turn, dict)]
    repeated = question is not None and record[question] in texts
    return _with_turns(record, chosen, ("chosen", *((question,) if question and repeated else ())))


def _many_answers(record: Fields) -> Fields:
    """Several answers to one question: the first is read."""
    if _has_turns(record) or first_saying(record, ANSWERS):
        return record
    for name in MANY_ANSWERS:
        value = record.get(name)
        many = answers_in(value)
        if many and (answer := _answer(many[0])) is not None:
            without = (name,) if len(many) == 1 and many is value and not isinstance(many[0], dict) else ()
            others = {other: it for other, it in record.items() if other not in ("response", *without)}
            return {"response": answer, **others}
    return record


def _answer(value: Any) -> Any:
    if is_turns(value) or as_text(value) is not None:
        return value
    if not isinstance(value, dict):
        return None
    name = first_saying(value, _TEXTS_OF_AN_ANSWER)
    return value[name] if name and as_text(value[name]) is not None else None


_RULES: tuple[tuple[frozenset[str], Callable[[Fields], Fields]], ...] = (
    (frozenset(("prompt", "message_id", "paragraphs", "is_impossible")), _one_conversation),
    (frozenset((*LIST_FIELDS, "chosen", "rejected")), json_turns),
    (frozenset(("chosen", "rejected", "prompt", *TRANSCRIPTS)), _transcripts),
    (frozenset(("chat",)), _moss),
    (frozenset(LIST_FIELDS), _exchanges),
    (frozenset(("data",)), _texts_in_turn),
    (frozenset(MANY_ANSWERS), _many_answers),
    (frozenset((*LIST_FIELDS, "chosen", "prompt")), _prompt_turns),
)
"""In their order: each looks at records that have one of these fields, and leaves others as they are."""
