"""Every format is read into the same conversation, and nothing that a record says is lost."""

import gzip
import json
from collections import Counter
from pathlib import Path
from typing import Any

import drawn
import pytest
from curricle.curate.formats import (
    FORMATS,
    Conversation,
    Format,
    FormatError,
    ReadingRules,
    _by_rules,
    named,
    normalise,
    recognise,
)
from curricle.curate.formats.question import ALPACA
from curricle.curate.formats.question import plain as plain_of
from curricle.curate.readers import read, survey
from curricle.schemas.common.errors import UsageError
from curricle.schemas.fingerprint import example_id
from curricle.schemas.inputs import MESSAGE_FIELDS, context_turns
from curricle.schemas.table import ROLES
from hypothesis import given, settings
from hypothesis import strategies as st

HELLO = [("user", "Hello"), ("assistant", "Hi")]


def conversations(path: Path) -> list[Conversation]:
    result = survey(lambda: path.open("rb"), path.name, 1000, 1 << 24, 500)
    slices = read(lambda: path.open("rb"), path.name, result.slices, 1 << 24)
    return [normalise(record.value) for _, records in slices for record in records]


@pytest.mark.parametrize(
    ("file", "rows", "turns"),
    [
        ("formats/alpaca_en_demo.json", 999, {"user": 999, "assistant": 999}),
        ("formats/alpaca_zh_demo.json", 1000, {"user": 1000, "assistant": 1000}),
        ("formats/identity.json", 91, {"user": 91, "assistant": 91}),
        ("formats/instruction_1100.json", 1100, {"user": 1100, "assistant": 1100}),
        ("formats/fastchat_dummy_conversation.json", 500, {"user": 1000, "assistant": 1000}),
        (
            "formats/glaive_toolcall_en_demo.json",
            300,
            {"system": 191, "user": 746, "assistant": 746 + 211, "tool": 211},
        ),
        ("formats/reason_tool_use_demo_50.jsonl", 50, {"system": 50, "user": 70, "assistant": 112, "tool": 42}),
        ("formats/v1_sft_demo.jsonl", 500, {"user": 500, "assistant": 500}),
        ("alpaca/code_alpaca_2k.json", 2017, {"user": 2017, "assistant": 2017}),
        ("gsm8k/train.jsonl", 7473, {"user": 7473, "assistant": 7473}),
    ],
)
def test_real_files_are_read_whole(shared_data: Path, file: str, rows: int, turns: dict[str, int]) -> None:
    read_ = conversations(shared_data / file)
    assert len(read_) == rows
    assert Counter(role for conversation in read_ for role, _ in conversation.messages) == turns


def test_real_files_of_prompt_and_completion(shared_data: Path) -> None:
    files = sorted((shared_data / "t0").glob("*.gz"))
    assert len(files) == 294
    for path in drawn.some("T0", files, 20):
        with gzip.open(path) as lines:
            assert len(conversations(path)) == sum(1 for _ in lines), path


def test_empty_inputs_and_outputs_of_real_alpaca(shared_data: Path) -> None:
    read_ = conversations(shared_data / "alpaca" / "alpaca_46k.jsonl")
    assert len(read_) == 46_846
    assert sum("input" not in conversation.extra for conversation in read_) == 28_646
    assert sum(not conversation.messages[-1][1] for conversation in read_) == 27
    assert sum("alpaca_index" in conversation.extra for conversation in read_) == 1_889


def test_real_reasoning_and_tool_calls_are_the_assistants(shared_data: Path) -> None:
    read_ = conversations(shared_data / "formats" / "reason_tool_use_demo_50.jsonl")
    texts = [text for conversation in read_ for role, text in conversation.messages if role == "assistant"]
    assert sum(text.count("<think>") for text in texts) == 112
    assert sum(text.count("<tool_call>\n{") for text in texts) == 68
    assert all("</think>\n\n" in text for text in texts)
    # 48 of the 50 have tools; the others say "[]"
    assert sum("\n\n<tools>\n[{" in conversation.messages[0][1] for conversation in read_) == 48


@pytest.mark.parametrize(
    ("name", "record"),
    [
        ("alpaca", {"instruction": "Hello", "output": "Hi"}),
        ("alpaca", {"instruction": "Hello", "input": "", "output": "Hi"}),
        ("alpaca", {"instruction": "Hello", "input": None, "output": "Hi", "system": None, "history": None}),
        ("alpaca", {"instruction": "Hello", "context": "", "response": "Hi"}),
        ("pairs", {"prompt": "Hello", "completion": "Hi"}),
        ("pairs", {"question": "Hello", "answer": "Hi"}),
        ("pairs", {"prompt": "Hello", "response": "Hi"}),
        ("pairs", {"system_prompt": "", "question": "Hello", "response": "Hi"}),
        ("pairs", {"prompt": "Hello", "completion": None, "response": "Hi"}),
        ("sharegpt", {"conversations": [{"from": "human", "value": "Hello"}, {"from": "gpt", "value": "Hi"}]}),
        ("sharegpt", {"conversations": [{"from": "User", "value": "Hello"}, {"from": "bard", "value": "Hi"}]}),
        ("sharegpt", {"messages": [{"from": "user", "value": "Hello"}, {"from": "chatgpt", "value": "Hi"}]}),
        ("openai", {"messages": [{"role": "user", "content": "Hello"}, {"role": "assistant", "content": "Hi"}]}),
        ("openai", {"conversation": [{"role": "user", "content": "Hello"}, {"role": "assistant", "content": "Hi"}]}),
        ("strings", {"conversations": ["Hello", "Hi"]}),
        ("strings", {"dialog": ["Hello", "Hi"], "tools": "[]"}),
    ],
)
def test_spellings_of_one_conversation(name: str, record: dict[str, Any]) -> None:
    recognised = recognise(record)
    assert recognised is FORMATS[name]
    result = normalise(record)
    assert result == normalise(record, recognised)
    assert result.messages == HELLO
    assert set(result.extra) <= {"completion"}


def test_other_fields_survive() -> None:
    fields = {"id": 3, "score": 0.0, "flag": False, "text": "", "tags": ["a", {"b": 1}, None]}
    for record in (
        {"prompt": "Hello", "completion": "Hi"},
        {"instruction": "Hello", "output": "Hi"},
        {"conversations": ["Hello", "Hi"]},
        {"messages": [{"role": "user", "content": "Hello"}, {"role": "assistant", "content": "Hi"}], "prompt": "x"},
    ):
        extra = normalise({**record, **fields, "absent": None, "object": {"a": [{"b": None}], "c": None}}).extra
        assert {name: extra[name] for name in fields} == fields
        assert "absent" not in extra, "null means absent, as in Parquet, where every row has every column"
        assert extra["object"] == {"a": [{}]}, "and every object every key"


def test_alpaca_keeps_the_input_apart_too() -> None:
    record = {"instruction": "Add.", "input": "1, 2", "output": "3", "system": "Be brief.", "history": [["a", "b"]]}
    result = normalise(record)
    assert result.messages == [
        ("system", "Be brief."),
        ("user", "a"),
        ("assistant", "b"),
        ("user", "Add.\n\n1, 2"),
        ("assistant", "3"),
    ]
    assert result.extra == {"input": "1, 2"}


def test_sharegpt_tools_and_calls() -> None:
    call, tool = '{"name": "add", "arguments": {"a": 1}}', {"name": "add"}
    record = {
        "system": "You add.",
        "tools": [tool, tool],
        "conversations": [
            {"from": "human", "value": "1?"},
            {"from": "function_call", "value": call},
            {"from": "observation", "value": "1"},
            {"from": "gpt", "value": "1.", "weight": 1, "note": None},
        ],
    }
    result = normalise(record)
    assert result.messages == [
        ("system", 'You add.\n\n<tools>\n{"name": "add"}\n{"name": "add"}\n</tools>'),
        ("user", "1?"),
        ("assistant", f"<tool_call>\n{call}\n</tool_call>"),
        ("tool", "1"),
        ("assistant", "1."),
    ]
    assert result.extra == {MESSAGE_FIELDS: [None, None, None, None, {"weight": 1}]}


def test_system_field_gives_way_to_a_system_turn() -> None:
    turns = [{"role": "system", "content": "A"}, {"role": "assistant", "content": "Hi"}]
    result = normalise({"messages": turns, "system": "B", "tools": "[]"})
    assert result.messages[0] == ("system", "A") and result.extra == {"system": "B"}


def test_openai_content_in_every_shape() -> None:
    call = {"id": "c1", "type": "function", "function": {"name": "add", "arguments": '{"a": [1]}'}}
    record = {
        "tools": '[{"name": "add"}]',
        "messages": [
            {"role": "developer", "content": "D"},
            {"role": "user", "content": [{"type": "text", "text": "1"}, {"type": "text", "value": "?"}], "name": "N"},
            {"role": "assistant", "content": None, "tool_calls": [call, call], "reasoning_content": "Hm."},
            {"role": "tool", "content": "1", "tool_call_id": "c1"},
            {
                "role": "assistant",
                "content": [{"type": "reasoning", "value": "So."}, {"type": "text", "text": "1.", "value": None}],
                "loss_weight": 0.5,
            },
            {"role": "assistant", "content": "", "function_call": {"name": "end", "arguments": "not JSON"}},
        ],
    }
    result = normalise(record)
    called = '<tool_call>\n{"name": "add", "arguments": {"a": [1]}}\n</tool_call>'
    assert result.messages == [
        ("system", 'D\n\n<tools>\n[{"name": "add"}]\n</tools>'),
        ("user", "1?"),
        ("assistant", f"<think>\nHm.\n</think>\n\n{called}\n{called}"),
        ("tool", "1"),
        ("assistant", "<think>\nSo.\n</think>\n\n1."),
        ("assistant", '<tool_call>\n{"name": "end", "arguments": "not JSON"}\n</tool_call>'),
    ]
    left = {"id": "c1", "type": "function"}
    fields = [None, {"name": "N"}, {"tool_calls": [left, left]}, {"tool_call_id": "c1"}, {"loss_weight": 0.5}, None]
    assert result.extra == {MESSAGE_FIELDS: fields}


def test_message_fields_stay_beside_their_message_when_tools_add_a_turn() -> None:
    turns = [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b", "loss_weight": 1}]
    result = normalise({"messages": turns, "tools": [{"name": "add"}]})
    assert result.extra[MESSAGE_FIELDS] == [None, None, {"loss_weight": 1}]
    assert len(result.messages) == 3


def test_named_formats() -> None:
    assert named(None) is None
    assert named("openai") is FORMATS["openai"]
    own = named(None, "ask", "tell")
    assert own is not None and own.matches({"ask": 1, "tell": 2}) and not own.matches({"ask": 1})
    assert normalise({"ask": "Hello", "tell": "Hi", "x": 1}, own) == Conversation(HELLO, {"x": 1})
    with pytest.raises(FormatError, match="no field 'tell'; found 'ask'"):
        normalise({"ask": "Hello"}, own)
    with pytest.raises(UsageError, match="did you mean 'sharegpt'") as error:
        named("sharegtp")
    assert all(name in str(error.value) for name in FORMATS)
    with pytest.raises(UsageError, match="--response-field is missing"):
        named(None, "ask")
    with pytest.raises(UsageError, match="has its own fields"):
        named("alpaca", "ask", "tell")


def test_a_named_format_is_not_guessed_around() -> None:
    with pytest.raises(FormatError, match="no field 'instruction'"):
        normalise({"prompt": "Hello", "completion": "Hi"}, named("alpaca"))


MEMBERS = ("messages", "conversations", "role", "from", "value", "content", "type", "text", "tools", "tool_calls")
MORE = ("function", "name", "arguments", "system", "prompt", "completion", "instruction", "output", "history")
NAMES = st.sampled_from((*MEMBERS, *MORE, "assistant", "user", "gpt", "tool_call", "reasoning"))
ANYTHING = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | NAMES | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(NAMES, inner, max_size=5),
    max_leaves=20,
)


SAYING = ("Say hello", "Hello", "a\n", "b\x1cc", "no")
SIDES = (
    *SAYING,
    "",
    " \n",
    "é",
    "\x85",
    "\ud800",
    "<image> what?",
    "a < b",
    "Human: a\n\nAssistant: b",
    None,
    1,
    ["a"],
)
FILLED = st.fixed_dictionaries(
    {"instruction": st.sampled_from(SAYING), "output": st.sampled_from(SAYING)},
    optional={"input": st.sampled_from(SIDES)},
)
ANY_SIDES = st.dictionaries(
    st.sampled_from(["instruction", "input", "output", "Input", "system"]), st.sampled_from(SIDES)
)


@settings(max_examples=drawn.amount(500, 20_000))
@given(st.one_of(FILLED, ANY_SIDES), st.sampled_from([None, ALPACA]))
def test_a_plain_record_is_what_all_rules_make_of_it(record: dict[str, Any], format: Format | None) -> None:
    if (conversation := plain_of(record)) is not None:
        assert conversation == _by_rules(record, format, ReadingRules())


def test_most_records_of_alpaca_are_plain(shared_data: Path) -> None:
    lines = (shared_data / "alpaca" / "alpaca_46k.jsonl").read_text(encoding="utf-8").splitlines()
    records = [json.loads(line) for line in drawn.some("plain records of Alpaca", lines, 3_000)]
    plain = [(record, conversation) for record in records if (conversation := plain_of(record)) is not None]
    assert len(plain) > 0.8 * len(records)
    assert all(conversation == _by_rules(record, None, ReadingRules()) for record, conversation in plain)


@given(ANYTHING, st.sampled_from([None, *FORMATS.values()]))
def test_whatever_is_read_is_a_conversation_or_a_reason(record: Any, format: Any) -> None:
    try:
        result = normalise(record, format)
    except FormatError as reason:
        assert str(reason)
        return
    assert {role for role, _ in result.messages} <= set(ROLES)
    assert all(isinstance(text, str) for _, text in result.messages)
    json.dumps(result.extra, allow_nan=False).encode()
    assert len(result.extra.get(MESSAGE_FIELDS, result.messages)) == len(result.messages)


USER, ASSISTANT = {"role": "user", "content": "Hello"}, {"role": "assistant", "content": "Hi"}


@pytest.mark.parametrize(
    ("record", "messages"),
    [
        ({"instruction": "Hello", "output": "", "response": "Hi", "input": " "}, HELLO),
        ({"instruction": "Hello", "output": "", "completion": "Hi"}, HELLO),
        ({"instruction": "Hello", "output": ""}, [("user", "Hello"), ("assistant", "")]),
        ({"prompt": "Hello", "completion": "\n", "response": "Hi"}, HELLO),
        ({"prompt": "", "completion": "", "question": "Hello", "answer": "Hi"}, HELLO),
        ({"prompt": "Hello", "completion": "", "question": "", "answer": "Hi"}, HELLO),
        ({"prompt": "", "completion": "Hi"}, [("user", ""), ("assistant", "Hi")]),
        ({"messages": [], "conversations": ["Hello", "Hi"]}, HELLO),
        ({"messages": "", "conversations": [], "dialog": None, "instruction": "Hello", "output": "Hi"}, HELLO),
        ({"messages": [USER, ASSISTANT], "system": "", "system_prompt": None, "tools": "", "history": []}, HELLO),
        ({"messages": [USER | {"from": "", "value": ""}, ASSISTANT | {"from": "", "value": ""}]}, HELLO),
        ({"messages": [USER, {"role": "assistant", "content": [{"type": "text", "value": "", "text": "Hi"}]}]}, HELLO),
        (
            {"messages": [USER, ASSISTANT | {"reasoning_content": "", "thinking": "So."}]},
            [HELLO[0], ("assistant", "<think>\nSo.\n</think>\n\nHi")],
        ),
        # a field's name alone makes no conversation of it
        ({"messages": 12, "prompt": "Hello", "completion": "Hi"}, HELLO),
        ({"messages": "12", "instruction": "Hello", "output": "Hi"}, HELLO),
        ({"messages": [3, 4], "question": "Hello", "answer": "Hi"}, HELLO),
        ({"instruction": 4, "output": [], "prompt": "Hello", "completion": "Hi"}, HELLO),
        ({"question": "Hello", "answer": "Hi", "history": 0.7}, HELLO),
    ],
)
def test_the_field_that_says_something_is_read(record: dict[str, Any], messages: list[tuple[str, str]]) -> None:
    result = normalise(record)
    assert result.messages == messages and result.notes == []


GREETING = [("system", "Be brief."), *HELLO]


@pytest.mark.parametrize(
    "field", ["system", "system_prompt", "system_message", "systemPrompt", "System", "system-instruction"]
)
@pytest.mark.parametrize(
    "record",
    [
        {"prompt": "Hello", "completion": "Hi"},
        {"instruction": "Hello", "output": "Hi"},
        {"messages": [USER, ASSISTANT]},
        {"messages": [{"role": "system", "content": ""}, USER, ASSISTANT]},
        {"conversations": [{"from": "human", "value": "Hello"}, {"from": "gpt", "value": "Hi"}]},
        {"conversations": ["Hello", "Hi"]},
    ],
)
def test_a_system_prompt_is_followed_in_every_format(field: str, record: dict[str, Any]) -> None:
    result = normalise({**record, field: "Be brief."})
    assert result == Conversation(GREETING, {})
    both = normalise({**record, field: "Be brief.", "tools": [{"name": "f"}]})
    assert both.messages == [("system", 'Be brief.\n\n<tools>\n{"name": "f"}\n</tools>'), *HELLO]
    assert normalise({**record, "functions": [{"name": "f"}]}).messages[0][1] == '<tools>\n{"name": "f"}\n</tools>'


@pytest.mark.parametrize(
    ("record", "messages"),
    [
        ({"question": "Hello", "context": "It is noon.", "answer": "Hi"}, [("user", "Hello\n\nIt is noon."), HELLO[1]]),
        (
            {"query": "Hello", "response": "Hi", "history": [["a", "b"], ["c", "d"]]},
            [("user", "a"), ("assistant", "b"), ("user", "c"), ("assistant", "d"), *HELLO],
        ),
        ({"messages": [USER], "chosen": "Hi", "rejected": "Go."}, HELLO),
        ({"messages": [USER], "chosen": ASSISTANT, "rejected": ASSISTANT | {"content": "Go."}}, HELLO),
        ({"messages": [USER], "chosen": [ASSISTANT]}, HELLO),
        ({"messages": [USER], "chosen": [USER, ASSISTANT]}, HELLO),
        ({"messages": [USER, ASSISTANT, USER], "response": "Hi"}, HELLO * 2),
        ({"conversations": [{"from": "human", "value": "Hello"}], "chosen": {"from": "gpt", "value": "Hi"}}, HELLO),
        ({"conversations": ["Hello"], "chosen": "Hi"}, HELLO),
    ],
)
def test_what_stands_beside_is_followed(record: dict[str, Any], messages: list[tuple[str, str]]) -> None:
    result = normalise(record)
    assert result.messages == messages and result.notes == []
    assert set(result.extra) <= {"rejected", "input"}


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        ({"images": ["a.png"]}, "'images' belongs to the text"),
        ({"image": {"bytes": "/w=="}}, "'image' belongs to the text"),
        ({"audio": "a.wav"}, "'audio' belongs to the text"),
        ({"img": "a.png"}, "'img' belongs to the text"),
        ({"ImagePath": "a.png"}, "'ImagePath' belongs to the text"),
        ({"audio_paths": ["a.wav"]}, "'audio_paths' belongs to the text"),
        ({"image_id": 7}, "'image_id' belongs to the text"),
        ({"System": "Be brief.", "systemPrompt": "Be long.", "SYSTEM": "Be loud."}, "are one field, and differ"),
        ({"loss_mask": [0, 0, 0, 1, 1]}, "'loss_mask' says which parts of the record"),
        ({"mask": {"begin": 0}}, "'mask' says which parts"),
        ({"tools": '[{"name": "a", "name": "b"}]'}, "'tools': duplicate key 'name'"),
        ({"tools": ['{"max": Infinity}']}, "'tools' 0: Infinity is not JSON"),
        ({"tools": '{"max": 1e999}'}, "'tools': the number 1e999 is out of range"),
        ({"tools": r'{"a": "\ud800"}'}, r"'tools': a lone surrogate, \ud800"),
        ({"tools": "[" * 200 + "]" * 200}, "'tools': nested more than 100 deep"),
        ({"system": ["Be brief."]}, "'system' is a list, not text"),
    ],
)
def test_what_cannot_be_followed_is_refused(fields: dict[str, Any], reason: str) -> None:
    for record in ({"messages": [USER, ASSISTANT]}, {"prompt": "Hello", "completion": "Hi"}):
        with pytest.raises(FormatError) as error:
            normalise({**record, **fields})
        assert reason in str(error.value)


@pytest.mark.parametrize(
    ("fields", "note"),
    [
        ({"label": False}, "'label' is false"),
        ({"kto_tag": False}, "'kto_tag' is false"),
        ({"kto_tag": 0}, "'kto_tag' is 0"),
        ({"is_correct": False}, "'is_correct' is false"),
        ({"desirable": "False"}, "'desirable' is false"),
        ({"label": "bad"}, "'label' is bad"),
        ({"accepted": " Rejected"}, "'accepted' is rejected"),
        ({"label": "False"}, "'label' is false"),
        ({"Label": "no"}, "'label' is no"),
        ({"isChosen": False}, "'is_chosen' is false"),
        ({"kto-tag": -1}, "'kto_tag' is -1"),
        ({"desirable": "no"}, "'desirable' is no"),
        ({"is_bad": "true"}, "'is_bad' is true"),
        ({"chosen": False}, "'chosen' is false"),
        ({"rejected": True}, "'rejected' is true"),
        ({"weight": "0"}, "'weight' is 0"),
        ({"Train": "false"}, "'train' is false"),
        ({"ignore": True}, "'ignore' is true"),
        ({"weights": [1, "0"]}, "'weights' is 0"),
        ({"lossMask": [0, False]}, "'loss_mask' is false"),
        ({"ignore": [0, 1]}, "'ignore' is 1"),
        ({"weight": 0}, "'weight' is 0"),
        ({"weight": "0.0"}, "'weight' is 0.0"),
        ({"weights": [0, 0]}, "'weights' is 0"),
        ({"train": "no"}, "'train' is no"),
        ({"train": False}, "'train' is false"),
        ({"loss": False}, "'loss' is false"),
        ({"loss_mask": [0, 0]}, "'loss_mask' is 0"),
        ({"weight": [1, 0.0]}, "'weight' is 0"),
    ],
)
def test_answers_that_are_marked_as_bad_or_not_to_be_learnt_are_context(fields: dict[str, Any], note: str) -> None:
    for record in ({"messages": [USER, ASSISTANT]}, {"prompt": "Hello", "completion": "Hi"}):
        result = normalise({**record, **fields})
        assert result.messages == HELLO and result.extra[MESSAGE_FIELDS] == [None, {"train": False}]
        verdicts = [each for each in result.notes if "so the answer is one not to give" in each]
        learning = ("weight", "train", "ignore", "loss")
        assert [note.partition(" is ")[0] in each for each in verdicts] == (
            [] if note.strip("'").startswith(learning) else [True]
        )
        assert {*fields} < {*result.extra}, "the mark stays"
        again = {"example_id": "a", "source": "b", "source_position": 0, "messages": [USER, ASSISTANT]}
        read = normalise({**again, "extra": json.dumps(result.extra)})
        assert read.messages == result.messages and read.extra == result.extra


@pytest.mark.parametrize(
    "fields",
    [
        *({"weight": 0}, {"weight": 0.0}, {"loss_weight": 0}, {"loss_mask": 0}, {"train": False}, {"loss": False}),
        *({"label": False}, {"weight": "0.0"}, {"train": "False"}, {"ignore": True}, {"masked": "yes"}, {"is_bad": 1}),
    ],
)
def test_turns_that_are_not_to_be_learnt_are_context(fields: dict[str, Any]) -> None:
    (name,) = fields
    for turns in (
        [USER, ASSISTANT | fields, USER, ASSISTANT],
        [{"from": "human", "value": "Hello"}, {"from": "gpt", "value": "Hi"} | fields] * 2,
    ):
        result = normalise({"messages": turns, "system": "Be brief."})
        marked = [index for index, each in enumerate(result.extra[MESSAGE_FIELDS]) if each and each["train"] is False]
        assert (
            marked
            == ([2] if turns[3] is ASSISTANT else [2, 4])
            == sorted(context_turns([role for role, _ in result.messages], result.extra))
        )
        assert [f"'{name}'" in note for note in result.notes] == ([True] if name in ("label", "is_bad") else [])
        plain = normalise({"messages": [USER, ASSISTANT] * 2, "system": "Be brief."})
        assert result.messages == plain.messages
        assert example_id(result.messages, result.extra) != example_id(plain.messages, plain.extra)
    learnt = {name: int(name not in ("ignore", "masked", "is_bad"))}
    assert normalise({"messages": [USER | fields, ASSISTANT | learnt]}).notes == []


def test_a_mask_of_which_nobody_knows_what_it_masks_is_refused() -> None:
    for fields, reason in (
        ({"mask": 0}, "'mask' is 0, which may mean learnt or left out"),
        ({"mask": [0, 1]}, "'mask' says which parts"),
        ({"train_detail": [{}]}, "'train_detail' says which parts"),
    ):
        with pytest.raises(FormatError, match=f"messages 1: {reason}"):
            normalise({"messages": [USER, ASSISTANT | fields]})


def test_answers_that_are_marked_as_bad_are_scored_where_that_is_asked_for() -> None:
    for fields in ({"label": False}, {"rejected": True}, {"is_bad": 1}):
        result = normalise({"prompt": "Hello", "completion": "Hi", **fields}, rules=ReadingRules(bad_answers="score"))
        assert result.extra == fields and ["and the answer is scored" in note for note in result.notes] == [True]
    weight = normalise({"prompt": "Hello", "completion": "Hi", "weight": 0}, rules=ReadingRules(bad_answers="score"))
    assert context_turns(["user", "assistant"], weight.extra) == {1}, "that it is not to be learnt is no verdict"


@pytest.mark.parametrize(
    ("record", "note"),
    [
        ({"messages": [USER, ASSISTANT | {"loss_weight": 0.5}]}, "'loss_weight' of an assistant's turn"),
        ({"messages": [USER | {"train": True}, ASSISTANT]}, "'train' of a turn of the role user"),
        ({"messages": [{"role": "system", "content": "A"}, USER, ASSISTANT], "system": "B"}, "'system' is not read"),
        ({"messages": [USER, ASSISTANT], "system": "A", "system_prompt": "B"}, "'system_prompt' is not read"),
        ({"messages": [USER, ASSISTANT], "context": "It is noon."}, "'context' is in no turn"),
        ({"messages": [USER, ASSISTANT], "history": [["a", "b"]]}, "'history' is in no turn"),
        ({"messages": [USER, ASSISTANT], "chosen": "Hey"}, "'chosen' is another answer"),
        ({"instruction": "Hello", "output": "Hi", "response": "Hey"}, "'response' is another answer"),
        ({"prompt": "Hello", "completion": "Hi", "completions": ["Hi", "Hey"]}, "'completions' has other answers"),
        ({"messages": [USER, ASSISTANT], "conversations": ["Hello", "Hey"]}, "'conversations' has other turns"),
        ({"prompt": "Hello", "completion": "Hi", "label": 0}, "'label' is 0, and the answer is scored"),
        ({"prompt": "Hello", "completion": "Hi", "label": "0"}, "'label' is 0, and the answer is scored"),
        ({"prompt": "Hello", "completion": "Hi", "label": -1}, "'label' is -1, and the answer is scored"),
        ({"prompt": "Hello", "completion": "Hi", "Label": 0.0}, "'label' is 0, and the answer is scored"),
        ({"messages": [USER, ASSISTANT | {"mask": True}]}, "'mask' is true, which may mean learnt or left out"),
        ({"prompt": "Hello", "completion": "Hi", "mask": 1}, "'mask' is true, which may mean learnt or left out"),
        ({"messages": [USER, ASSISTANT], "passages": ["It is noon."]}, "'passages' is in no turn"),
        ({"question": "Hello", "answer": "Hi", "documents": ["It is noon."]}, "'documents' is in no turn"),
        ({"question": "Hello", "answer": "Hi", "Article": "It is noon."}, "'article' is in no turn"),
        ({"prompt": "Hello", "completion": "Hi", "is_correct": "wrong"}, "'is_correct' is wrong"),
        ({"prompt": "Hello", "completion": "Hi", "weight": 0.5}, "'weight' of the record is not followed"),
        ({"messages": [USER, ASSISTANT], "mask": [True, True]}, "'mask' of a turn of the role user"),
        ({"messages": [USER, ASSISTANT], "mask": "Assistant"}, "'mask' of the record is not followed"),
        ({"instruction": "<image>\nHello", "output": "Hi", "id": 1}, "the text has '<image>'"),
        ({"instruction": "Hello", "input": "<|video_pad|>", "output": "Hi"}, "the text has '<|video_pad|>'"),
    ],
)
def test_what_is_not_followed_is_said_and_kept(record: dict[str, Any], note: str) -> None:
    result = normalise(record)
    assert len(result.notes) == 1 and note in result.notes[0]
    assert result.extra
    without = normalise(
        {**record, "context": None, "chosen": None, "response": None, "label": 1, "Label": 1, "is_correct": True}
    )
    assert result.messages == without.messages


def test_fields_that_repeat_what_is_read_are_no_news() -> None:
    chat = [USER, ASSISTANT]
    record = {"messages": chat, "chosen": chat, "response": "Hi", "instruction": "Hello", "system": "", "images": []}
    record |= {"conversations": [{"from": "human", "value": "Hello"}, {"from": "gpt", "value": "Hi"}]}
    record |= {"image": {"bytes": None}, "videos": [None, ""]}
    record |= {"weight": 1, "loss": 0.0, "loss_mask": [0, 1], "training": [1.0, 1.0, 1.0], "mask": "User"}
    record |= {
        "train": "True",
        "weights": ["0", 1.0],
        "ignore": [1, 0],
        "masked": "The [MASK] barks.",
        "skip": False,
        "Image Size": 3,
    }
    record |= {"kto_tag": 1, "is_bad": 0, "label": 2, "correct": "yes", "is_correct": None}
    assert normalise({**record, "rejected": [USER], "score": 0.1, "label": True}).notes == []
    assert normalise({"prompt": "Hello", "completion": "An <image> is drawn.", "weight": [1]}).notes == []


@pytest.mark.parametrize(
    "record",
    [
        {"Instruction": "Hello", "Output": "Hi", "Id": 3},
        {"PROMPT": "Hello", "Completion": "Hi", "Id": 3},
        {"Messages": [{"Role": "user", "Content": "Hello"}, {"Role": "assistant", "Content": "Hi"}], "Id": 3},
        {"conversations": [{"From": "human", "Value": "Hello"}, {"from": "gpt", "value": "Hi"}], "Id": 3},
        {"prompt": "Hello", "Prompt": "", "completion": None, "Completion": "Hi", "Id": 3},
    ],
)
def test_a_field_in_another_spelling_is_that_field(record: dict[str, Any]) -> None:
    assert recognise(record) is not None
    assert normalise(record) == Conversation(HELLO, {"Id": 3})
    questions = [turn for turn in normalise({**record, "Context": "It is noon."}).messages if turn[0] == "user"]
    assert questions == [
        ("user", "Hello" if "essages" in str(record) or "conv" in str(record) else "Hello\n\nIt is noon.")
    ]


def test_what_is_kept_keeps_its_spelling() -> None:
    result = normalise({"prompt": "Hello", "completion": "Hi", "Label": 1, "kto-tag": True, "Passage": "It is noon."})
    assert result.messages[0] == ("user", "Hello\n\nIt is noon.")
    assert result.extra == {"Label": 1, "kto-tag": True, "input": "It is noon."}
    own = named(None, "Prompt", "Tell")
    assert normalise({"Prompt": "Hello", "Tell": "Hi", "prompt": "Hey"}, own) == Conversation(HELLO, {"prompt": "Hey"})
    table = {"example_id": "a", "source": "b", "source_position": 0, "messages": [ASSISTANT], "extra": {"Tags": 1}}
    assert normalise(table).extra == {"Tags": 1}


@pytest.mark.parametrize(
    "thought", ["Is <think> it?", "No </think> here", "<think> opens", "closes </think>", "<tool_call>", " \nSo.\n"]
)
def test_thoughts_and_calls_are_wrapped_by_where_they_come_from(thought: str) -> None:
    wrapped = f"<think>\n{thought.strip()}\n</think>\n\nHi"
    part = [{"type": "thinking", "thinking": thought}, {"type": "text", "text": "Hi"}]
    for message in (
        {"content": "Hi", "reasoning_content": thought},
        {"content": part},
        {"content": wrapped, "reasoning_content": thought},
        {"content": wrapped, "reasoning_content": f"<think>{thought}</think>"},
        {"content": f"<think>{thought}</think>\n\nHi".replace(thought, f"\n{thought.strip()}\n"), "thinking": thought},
    ):
        assert normalise({"messages": [USER, {"role": "assistant", **message}]}).messages[-1][1] == wrapped
    call = json.dumps({"name": "say", "arguments": {"text": thought}})
    called = f"<tool_call>\n{call}\n</tool_call>"
    turn = {"role": "assistant", "content": thought, "function_call": json.loads(call)}
    joined = normalise({"messages": [USER, turn]}).messages[-1][1]
    assert joined == f"{thought}{'' if thought.endswith(chr(10)) else chr(10)}{called}"
    for value in (call, called):
        turns = [{"from": "human", "value": "Hello"}, {"from": "function_call", "value": value}]
        assert normalise({"conversations": turns}).messages[-1][1] == called


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        ('{"a": 1, "a": 2}', "duplicate key 'a'"),
        ('{"a": NaN}', "NaN is not JSON"),
        ('{"a": -1e400}', "the number -1e400 is out of range"),
        ('{"a": ' + "9" * 5000 + "}", "too many digits"),
        (r'{"a": "\udfff"}', r"a lone surrogate, \udfff"),
    ],
)
def test_json_inside_text_is_read_as_strictly_as_the_record(arguments: str, reason: str) -> None:
    call = {"role": "assistant", "tool_calls": [{"function": {"name": "f", "arguments": arguments}}]}
    part = {"role": "assistant", "content": [{"type": "tool_call", "tool_call": f'{{"arguments": {arguments}}}'}]}
    for record in (
        {"messages": [USER, call]},
        {"messages": [USER, part]},
        {"conversations": [{"from": "human", "value": "a"}, {"from": "function_call", "value": arguments}]},
        {"example_id": "a", "source": "b", "source_position": 0, "messages": [ASSISTANT], "extra": arguments},
    ):
        with pytest.raises(FormatError) as error:
            normalise(record)
        assert reason in str(error.value)
