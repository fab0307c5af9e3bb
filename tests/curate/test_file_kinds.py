"""The same records give the same conversations, whichever kind of file they are in and whoever wrote it."""

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import drawn
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from curricle.curate.formats import FORMATS, FormatError, named, normalise
from curricle.curate.readers import read, survey
from curricle.schemas.common.errors import UsageError
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

LIMIT = 1 << 24
Records = Sequence[dict[str, Any]]


def write_lines(records: Records, path: Path) -> None:
    path.write_text("".join(json.dumps(record) + "\n" for record in records))


def write_arrow(records: Records, path: Path) -> None:
    names = dict.fromkeys(name for record in records for name in record)
    pq.write_table(pa.table({name: pa.array([record.get(name) for record in records]) for name in names}), path)


def write_datasets(records: Records, path: Path) -> None:
    import datasets

    datasets.Dataset.from_list(list(records)).to_parquet(path)


def write_polars(records: Records, path: Path) -> None:
    import polars

    polars.from_dicts(list(records), infer_schema_length=None).write_parquet(path)


def write_duckdb(records: Records, path: Path) -> None:
    import duckdb

    lines = path.with_suffix(".jsonl.tmp")
    write_lines(records, lines)
    duckdb.sql(f"copy (from read_json('{lines}', format='newline_delimited')) to '{path}' (format parquet)")


def conversations(path: Path, format: str | None = None) -> list[tuple[object, str, list[str]]]:
    """Messages, the text of ``extra``, and notes; or the reason why there are none."""
    try:
        result = survey(lambda: path.open("rb"), path.name, 1000, LIMIT, 500, named(format))
    except UsageError:  # no record of the format among them
        return []
    product: list[tuple[object, str, list[str]]] = []
    for _, records in read(lambda: path.open("rb"), path.name, result.slices, LIMIT):
        for record in records:
            try:
                conversation = normalise(record.value, named(format))
                product.append((conversation.messages, json.dumps(conversation.extra), conversation.notes))
            except FormatError as reason:
                product.append((str(reason), "", []))
    return product


def both(records: Records, directory: Path, write: Callable[[Records, Path], None] = write_arrow) -> tuple:
    """What is read of the records in lines, and in Parquet."""
    write_lines(records, directory / "a.jsonl")
    write(records, directory / "a.parquet")
    return conversations(directory / "a.jsonl"), conversations(directory / "a.parquet")


WORDS = st.text("ab \n<é>", max_size=5)
NAME = st.text("ab <é>", min_size=1, max_size=5)


def objects(**fields: st.SearchStrategy[Any]) -> st.SearchStrategy[dict[str, Any]]:
    """Objects with some of these keys, in any order, where a key that is there may be null."""
    values = {name: st.none() | value for name, value in fields.items()}
    return st.permutations(sorted(values)).flatmap(
        lambda order: st.fixed_dictionaries({}, optional={name: values[name] for name in order})
    )


NUMBERS = st.integers(-(2**40), 2**40) | st.sampled_from([0.5, 1.0, -3.25, 1e20])
DEEP = objects(x=NUMBERS, y=st.lists(WORDS, max_size=2), z=objects(flag=st.booleans(), many=st.lists(NUMBERS)))
ARGUMENTS = objects(city=WORDS, count=NUMBERS, deep=DEEP, list=st.lists(DEEP, max_size=2))
SCHEMA = objects(type=WORDS, description=WORDS, enum=st.lists(WORDS, max_size=2), default=WORDS)
TOOLS = st.lists(
    st.fixed_dictionaries(
        {
            "type": st.just("function"),
            "function": st.fixed_dictionaries(
                {
                    "name": NAME,
                    "parameters": st.fixed_dictionaries(
                        {"properties": objects(city=SCHEMA, count=SCHEMA), "required": st.lists(NAME, max_size=2)}
                    ),
                }
            ),
        }
    ),
    max_size=2,
)
CALL = st.fixed_dictionaries({"function": st.fixed_dictionaries({"name": NAME, "arguments": ARGUMENTS})})
USER_TURN = st.fixed_dictionaries({"role": st.just("user"), "content": WORDS}, optional={"name": st.none() | NAME})
ASSISTANT_TURN = st.fixed_dictionaries(
    {"role": st.just("assistant"), "content": WORDS},
    optional={
        "tool_calls": st.lists(CALL, max_size=2),
        "reasoning_content": st.none() | WORDS,
        "meta": objects(a=NUMBERS, b=WORDS),
    },
)
EXTRA = {"id": NUMBERS, "meta": DEEP, "tags": st.lists(WORDS, max_size=2)}
BESIDE = {"system": st.none() | WORDS, "system_prompt": st.none() | WORDS, "tools": st.none() | TOOLS, **EXTRA}
HISTORY = st.lists(st.lists(WORDS, min_size=2, max_size=2), max_size=2)
RECORDS = {
    "alpaca": st.fixed_dictionaries(
        {"instruction": NAME, "output": WORDS}, optional={"input": st.none() | WORDS, "history": HISTORY, **BESIDE}
    ),
    "pairs": st.fixed_dictionaries(
        {"prompt": WORDS, "completion": WORDS},
        optional={"response": st.none() | WORDS, "context": st.none() | WORDS, **BESIDE},
    ),
    "openai": st.fixed_dictionaries(
        {"messages": st.lists(USER_TURN | ASSISTANT_TURN, max_size=4)}, optional={"chosen": st.none() | WORDS, **BESIDE}
    ),
    "sharegpt": st.fixed_dictionaries(
        {
            "conversations": st.lists(
                st.fixed_dictionaries(
                    {"from": st.sampled_from(["human", "gpt", "function_call"]), "value": WORDS},
                    optional={"note": st.none() | WORDS},
                ),
                max_size=4,
            )
        },
        optional=BESIDE,
    ),
    "strings": st.fixed_dictionaries({"conversations": st.lists(WORDS, max_size=4)}, optional=BESIDE),
    "table": st.fixed_dictionaries(
        {
            "example_id": NAME,
            "source": NAME,
            "source_position": st.integers(0, 9),
            "messages": st.lists(
                st.fixed_dictionaries({"role": st.sampled_from(["user", "assistant"]), "content": WORDS}), max_size=3
            ),
        },
        optional={"extra": st.none() | st.just('{"a": {"b": 1.5}}')},
    ),
}


@pytest.mark.parametrize("format", FORMATS)
@settings(max_examples=drawn.amount(30, 1_000), suppress_health_check=[HealthCheck.too_slow])
@given(data=st.data())
def test_lines_and_parquet_give_the_same_table(format: str, data: Any, tmp_path_factory) -> None:
    directory = tmp_path_factory.mktemp("both")
    records = data.draw(st.lists(RECORDS[format], min_size=1, max_size=4))
    write_lines(records, directory / "a.jsonl")
    try:
        write_arrow(records, directory / "a.parquet")
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError):  # an object without a key, or a number beyond floats
        assume(False)
    assert conversations(directory / "a.jsonl", format) == conversations(directory / "a.parquet", format)


def calls(name: str, arguments: Any, **parameters: Any) -> dict[str, Any]:
    """A conversation of one call, and the tool that it calls."""
    function = {"name": name, "parameters": {"type": "object", "properties": parameters}}
    return {
        "messages": [
            {"role": "user", "content": "Please."},
            {"role": "assistant", "tool_calls": [{"function": {"name": name, "arguments": arguments}}]},
        ],
        "tools": [{"type": "function", "function": function}],
    }


CALLS = [
    calls("book", {"seats": 2, "at": {"day": "Monday", "hour": 19.5}}, seats={"type": "integer"}),
    calls("open", {"door": "left", "at": {"hour": 7}}, door={"type": "string", "enum": ["left", "right"]}),
    calls("stop", {"at": {"hour": 8, "day": None}}, at={"type": "object", "default": None}),
]
WRITERS = [write_arrow, write_datasets, write_polars, write_duckdb]


@pytest.mark.parametrize("write", WRITERS)
def test_a_tool_has_the_keys_of_no_other_row(write: Callable[[Records, Path], None], tmp_path: Path) -> None:
    lines, rows = both(CALLS, tmp_path, write)
    assert lines == rows
    assert [messages[-1][1].split("\n")[1] for messages, _, _ in rows] == [
        '{"name": "book", "arguments": {"at": {"day": "Monday", "hour": 19.5}, "seats": 2}}',
        '{"name": "open", "arguments": {"at": {"hour": 7}, "door": "left"}}',
        '{"name": "stop", "arguments": {"at": {"hour": 8}}}',
    ]
    opened = '{"type": "function", "function": {"name": "open", "parameters": {"type": "object", "properties": '
    tool = rows[1][0][0][1].split("\n")[1]
    assert tool == opened + '{"door": {"type": "string", "enum": ["left", "right"]}}}}}'
    padded = pq.read_table(tmp_path / "a.parquet")["messages"].to_pylist()[1][1]["tool_calls"][0]["function"]
    assert "seats" in padded["arguments"], "the file has the other rows' keys, or there was nothing to see"


def test_keys_that_are_null_in_every_row_are_nothing(tmp_path: Path) -> None:
    """Arrow has a type of its own for them, which it does not cast inside lists."""
    lines, rows = both([calls("f", {"all": [{}, {"x": None}], "city": None}, a={"type": "string"})], tmp_path)
    assert lines == rows
    assert '"arguments": {"all": [{}, {}]}' in rows[0][0][-1][1]


def test_arguments_that_are_text_stay_the_authors(tmp_path: Path) -> None:
    written = '{"b": null, "a": 1.0, "c": "<tool_call>"}'
    lines, rows = both(
        [calls("f", written, b={"type": "string"}), calls("g", '{"z": 2}', z={"type": "string"})], tmp_path
    )
    assert lines == rows
    assert rows[0][0][-1][1] == f'<tool_call>\n{{"name": "f", "arguments": {written}}}\n</tool_call>'


def test_maps_are_objects(tmp_path: Path) -> None:
    """Spark and DuckDB write objects whose keys differ as maps."""
    arguments = pa.array([{"a": "1"}, {"b": "2"}], pa.map_(pa.string(), pa.string()))
    functions = pa.StructArray.from_arrays([pa.array(["f", "g"]), arguments], ["name", "arguments"])
    calls = pa.StructArray.from_arrays([functions], ["function"])
    turns = pa.StructArray.from_arrays(
        [pa.array(["assistant"] * 2), pa.ListArray.from_arrays([0, 1, 2], calls)], ["role", "tool_calls"]
    )
    counts = pa.array([[("x", 1)], [("y", None)]], pa.map_(pa.string(), pa.int64()))
    table = pa.table({"messages": pa.ListArray.from_arrays([0, 1, 2], turns), "counts": counts})
    pq.write_table(table, tmp_path / "a.parquet")
    first, second = conversations(tmp_path / "a.parquet")
    assert first[0] == [("assistant", '<tool_call>\n{"name": "f", "arguments": {"a": "1"}}\n</tool_call>')]
    assert second[0] == [("assistant", '<tool_call>\n{"name": "g", "arguments": {"b": "2"}}\n</tool_call>')]
    assert (first[1], second[1]) == ('{"counts": {"x": 1}}', '{"counts": {}}')


def test_a_map_with_a_key_twice_is_refused_where_it_is_content(tmp_path: Path) -> None:
    twice = pa.array([[("a", 1), ("a", 2)], [("a", 1)]], pa.map_(pa.string(), pa.int64()))
    pq.write_table(pa.table({"prompt": ["p", "q"], "completion": ["c", "d"], "tools": twice}), tmp_path / "a.parquet")
    first, second = conversations(tmp_path / "a.parquet")
    assert "'tools' is unreadable" in str(first[0]) and "duplicate key was 'a'" in str(first[0])
    assert second[0] == "'tools' is an object, neither a list nor text"


@pytest.mark.parametrize("kind", [pa.binary(), pa.large_binary(), pa.binary_view()])
def test_text_without_its_annotation_is_text(kind: pa.DataType, tmp_path: Path) -> None:
    turn = pa.struct([("role", kind), ("content", kind)])
    chat = [[{"role": b"user", "content": "Où ?".encode()}, {"role": b"assistant", "content": b"Here."}]]
    pq.write_table(
        pa.table({"messages": pa.array(chat, pa.list_(turn)), "system": pa.array([b"Be brief."], kind)}),
        tmp_path / "a.parquet",
    )
    (messages, extra, _), *_ = conversations(tmp_path / "a.parquet")
    assert messages == [("system", "Be brief."), ("user", "Où ?"), ("assistant", "Here.")] and extra == "{}"


def test_what_is_no_text_is_never_content(tmp_path: Path) -> None:
    from datetime import UTC, datetime, timedelta
    from decimal import Decimal

    values = {
        "bytes, not text": pa.array([b"\xff\xfe"]),
        "a decimal number": pa.array([Decimal("1.10")]),
        "a date or time": pa.array([datetime(2020, 1, 1, tzinfo=UTC)]),
        "a duration": pa.array([timedelta(1)]),
        "a number, not text": pa.array([float("nan")]),
        "an object": pa.array([[(1, "a")]], pa.map_(pa.int8(), pa.string())),
    }
    for message, value in values.items():
        pq.write_table(pa.table({"prompt": value, "completion": ["a"]}), tmp_path / "a.parquet")
        assert message in str(conversations(tmp_path / "a.parquet")[0][0]), message
        call = pa.StructArray.from_arrays(
            [pa.array(["f"]), pa.StructArray.from_arrays([value], ["x"])], ["name", "arguments"]
        )
        turn = pa.StructArray.from_arrays([pa.array(["assistant"]), call], ["role", "function_call"])
        pq.write_table(pa.table({"messages": pa.ListArray.from_arrays([0, 1], turn)}), tmp_path / "a.parquet")
        reason = str(conversations(tmp_path / "a.parquet")[0][0])
        if message != "an object":
            assert "'arguments' holds" in reason and reason.endswith("which JSON has not"), reason
