"""Records that stand inside others: questions of articles (SQuAD), conversations of trees of replies (OASST)."""

import bz2
import gzip
import io
import json
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.feather as feather
import pyarrow.parquet as pq
import pytest
from curricle import curate
from curricle.curate.formats import Format, ReadingRules
from curricle.curate.formats.conversation import conversation
from curricle.curate.readers import Record, Slice, read, survey
from curricle.curate.readers.nested import assembly
from curricle.schemas.common.errors import UsageError
from test_formats_examples import check, rows_of

FOLDER = Path(__file__).parents[1] / "data" / "nested"
FILES = sorted(path for path in FOLDER.iterdir() if ".expected" not in path.name and path.suffix != ".md")
LIMIT, MOST = 1 << 20, 500

Rows = list[dict[str, Any]]


def expected_of(path: Path) -> list[dict[str, Any]]:
    return list(json.loads(path.with_suffix(".expected.json").read_text("utf-8")))


def positions(examples: pa.Table, rejects: pa.Table) -> list[int]:
    return sorted(examples["source_position"].to_pylist() + rejects["source_position"].to_pylist())


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_each_file_becomes_what_was_written_by_hand(path: Path) -> None:
    for expected in expected_of(path):
        read_ = curate.read(path, **expected["options"])
        check(rows_of(*read_), expected["rows"])
        assert positions(*read_) == [*range(len(expected["rows"]))]


def records_in(path: Path) -> Rows:
    text = path.read_text("utf-8")
    return [json.loads(line) for line in text.splitlines()] if path.suffix == ".jsonl" else json.loads(text)["data"]


def as_csv(rows: Rows) -> bytes:
    names = [*rows[0]]
    cells = [["" if row[name] is None else json.dumps(str(row[name])) for name in names] for row in rows]
    return "\n".join(",".join(line) for line in [names, *cells]).encode()


def written(rows: Rows, path: Path) -> Path:
    """The records as a file of the kind that its name says."""
    lines = "\n".join(json.dumps(row) for row in rows).encode()
    if path.suffix == ".parquet":
        pq.write_table(pa.Table.from_pylist(rows), path, row_group_size=2)
    elif path.suffix == ".arrow":
        feather.write_feather(pa.Table.from_pylist(rows), str(path), compression="uncompressed", chunksize=2)
    else:
        content = {
            ".csv": lambda: as_csv(rows),
            ".json": lambda: json.dumps(rows, indent=1).encode(),
            ".gz": lambda: gzip.compress(lines),
            ".bz2": lambda: bz2.compress(lines),
        }.get(path.suffix, lambda: b"\n\n" + lines)
        path.write_bytes(content())
    return path


KINDS = ("a.jsonl", "a.json", "a.jsonl.gz", "a.jsonl.bz2", "a.parquet", "a.arrow")


@pytest.mark.parametrize("name", KINDS)
@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_every_reader_reads_the_same(path: Path, name: str, tmp_path: Path) -> None:
    """But for the rejects of records that cannot be read, which say in which record of their own file they stand."""
    file = written(records_in(path), tmp_path / name)
    for expected in expected_of(path):
        if expected["options"].get("replies") == "best" and path.name.endswith("trees.jsonl") and "parquet" in name:
            continue  # the type of an empty list of replies
        examples, rejects = curate.read(file, **expected["options"])
        wanted = [row for row in expected["rows"] if "reject" not in row]
        assert [row["messages"] for row in rows_of(examples, rejects) if "reject" not in row] == [
            row["messages"] for row in wanted
        ]
        assert rejects.num_rows == len(expected["rows"]) - len(wanted)


def test_messages_of_csv_are_read_too(tmp_path: Path) -> None:
    path = FOLDER / "oasst.messages.jsonl"
    file = written(records_in(path), tmp_path / "a.csv")
    for expected in expected_of(path)[:2]:
        messages = [
            row["messages"] for row in rows_of(*curate.read(file, **expected["options"])) if "reject" not in row
        ]
        assert messages == [row["messages"] for row in expected["rows"] if "reject" not in row]


@pytest.mark.parametrize("rows_per_slice", [1, 2, 1000])
@pytest.mark.parametrize("name", KINDS)
@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_any_slice_can_be_read_by_itself(path: Path, name: str, rows_per_slice: int, tmp_path: Path) -> None:
    file = written(records_in(path), tmp_path / name)
    for expected in expected_of(path)[: 1 + path.name.endswith("messages.jsonl")]:
        rules = ReadingRules(**expected["options"])
        opener: Callable[[], Any] = lambda: file.open("rb")  # noqa: E731
        whole = survey(opener, file.name, 1000, LIMIT, MOST, rules=rules)
        (everything,) = [[*records] for _, records in read(opener, file.name, whole.slices, LIMIT)]
        surveyed = survey(opener, file.name, rows_per_slice, LIMIT, MOST, rules=rules)
        slices = [Slice(*json.loads(json.dumps(part))) for part in surveyed.slices]
        assert slices == surveyed.slices and surveyed.records == whole.records == len(expected["rows"])
        together = [record for _, records in read(opener, file.name, slices, LIMIT) for record in records]
        assert together == everything
        skipping = [next(records) for _, records in read(opener, file.name, slices, LIMIT)]
        assert skipping == [everything[part.position] for part in slices]
        random.Random(0).shuffle(slices)
        for part in slices:
            (alone,) = [[*records] for _, records in read(opener, file.name, [part], LIMIT)]
            assert alone == everything[part.position : part.position + part.records]


def drawn_tree(seed: int) -> tuple[dict[str, Any], Rows]:
    """A tree of replies, and its messages in the order of the text."""
    draw = random.Random(seed)
    messages: Rows = []

    def message(parent: str | None, depth: int) -> dict[str, Any]:
        of = "assistant" if parent and draw.random() < 0.5 else "prompter"
        own = {"message_id": f"{seed}-{len(messages)}", "parent_id": parent, "text": str(draw.random()), "role": of}
        messages.append({**own, "message_tree_id": f"{seed}-0"})
        replies = draw.randint(0, 3) if depth < 5 else 0
        return {**own, "replies": [message(own["message_id"], depth + 1) for _ in range(replies)]}

    return {"message_tree_id": f"{seed}-0", "prompt": message(None, 0)}, messages


def ids_in(value: Any) -> list[str]:
    if isinstance(value, dict):
        own = [value["message_id"]] if "message_id" in value else []
        return own + [id_ for it in value.values() for id_ in ids_in(it)]
    return [id_ for it in value for id_ in ids_in(it)] if isinstance(value, list) else []


def test_trees_and_their_messages_in_any_order_hold_the_same_conversations(tmp_path: Path) -> None:
    drawn = [drawn_tree(seed) for seed in range(40)]
    trees, messages = [tree for tree, _ in drawn], [messages for _, messages in drawn]
    for group in messages:
        random.Random(len(group)).shuffle(group)
    written(trees, tmp_path / "trees.jsonl")
    written([message for group in messages for message in group], tmp_path / "messages.jsonl")
    of_trees, of_messages = (curate.read(tmp_path / f"{name}.jsonl", replies="paths") for name in ("trees", "messages"))
    texts = [sorted(map(str, read_.examples["messages"].to_pylist())) for read_ in (of_trees, of_messages)]
    answers = sum(message["role"] == "assistant" for group in messages for message in group)
    assert texts[0] == texts[1] and len(texts[0]) == answers > 100
    everything = {message["message_id"] for group in messages for message in group}
    for examples, rejects in (of_trees, of_messages):  # nothing is lost
        beside = [json.loads(extra) for extra in examples["extra"].to_pylist()]
        assert {*ids_in(beside)} | {*ids_in([json.loads(raw) for raw in rejects["raw"].to_pylist()])} == everything
        ends = [extra["message_fields"][-1]["message_id"] for extra in beside]
        assert len({*ends}) == len(ends)  # and nothing is there twice


def test_messages_without_the_id_of_their_tree_belong_to_the_first_one_before_them() -> None:
    rows = records_in(FOLDER / "oasst.messages.jsonl")[:11]
    bare = [{name: it for name, it in row.items() if it is not None and "tree" not in name} for row in rows]
    examples, rejects = curate.read(bare, replies="paths")
    assert examples["messages"].to_pylist() == curate.read(rows, replies="paths").examples["messages"].to_pylist()
    assert rejects["source_position"].to_pylist() == [3]


def test_what_is_wrong_with_a_message_is_said_of_it() -> None:
    first, answer = records_in(FOLDER / "oasst.messages.jsonl")[:2]
    circle = [{**answer, "message_id": "x", "parent_id": "y"}, {**answer, "message_id": "y", "parent_id": "x"}]
    rows = [first, answer, answer, *circle, {"text": "no message"}, {**answer, "message_id": "9", "role": "referee"}]
    examples, rejects = curate.read(rows, replies="paths")
    assert examples.num_rows == 1
    assert [reason.split(";")[-1].strip() for reason in rejects["reason"].to_pylist()] == [
        "another one before it has its 'message_id' (record 2)",
        "no way leads to it: its parent, or one above, does not stand with it (record 3)",
        "no way leads to it: its parent, or one above, does not stand with it (record 4)",
        "found 'text' (record 5)",
        "messages 1: unknown role 'referee' (record 6)",
    ]


def test_a_line_that_cannot_be_read_is_a_reject_among_the_others(tmp_path: Path) -> None:
    lines = (FOLDER / "oasst.messages.jsonl").read_text().splitlines()
    (tmp_path / "a.jsonl").write_text("\n".join([lines[0], "{", *lines[1:3]]))
    examples, rejects = curate.read(tmp_path / "a.jsonl", replies="paths")
    assert examples.num_rows == 1 and rejects["raw"].to_pylist() == ["{"]
    assert rejects["reason"].to_pylist()[0].endswith("(record 1)")


def test_messages_that_do_not_stand_together_are_refused_each_with_the_reason() -> None:
    rows = [message for pair in zip(*(drawn_tree(seed)[1][:5] for seed in (0, 1)), strict=False) for message in pair]
    examples, rejects = curate.read(rows, replies="paths")
    assert not examples.num_rows and rejects.num_rows == len(rows)
    assert sum("does not stand with it" in reason for reason in rejects["reason"].to_pylist()) == len(rows) - 2


def test_reasons_of_messages_with_ids_of_letters_are_of_one_kind() -> None:
    rows = [
        {
            "message_id": f"{letter}-{letter}",
            "parent_id": letter,
            "text": "t",
            "role": "assistant",
            "message_tree_id": "t",
        }
        for letter in "abcabc"
    ]
    reasons = {reason.split(" (")[0] for reason in curate.read(rows, replies="paths").rejects["reason"].to_pylist()}
    assert len(reasons) == 2  # without a way to them, and twice


def test_the_messages_of_one_tree_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(assembly, "MOST_MESSAGES", 3)
    rows = records_in(FOLDER / "oasst.messages.jsonl")[:7]
    examples, rejects = curate.read(rows, replies="paths")
    assert examples.num_rows == 1 and positions(examples, rejects)[-1] == 4
    assert curate.read(rows, replies="paths", max_record_bytes=800).examples.num_rows == 1


def test_where_a_bounded_tree_is_cut_does_not_depend_on_where_a_slice_begins(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(assembly, "MOST_MESSAGES", 3)
    rows = [
        {"message_id": str(number), "parent_id": parent, "text": "t", "role": role, "message_tree_id": "t"}
        for number, parent in enumerate([None, "0", "0", None, "3", "3", "5"])
        for role in ["assistant" if parent else "prompter"]
    ]
    lines = [json.dumps(row) for row in rows]
    content = "\n".join([*lines[:3], "{", *lines[3:]]).encode()  # the second part of the tree begins with a broken line
    rules = ReadingRules(replies="paths")

    def read_in(rows_per_slice: int) -> list[Record]:
        opener = lambda: io.BytesIO(content)  # noqa: E731
        slices = survey(opener, "a.jsonl", rows_per_slice, LIMIT, MOST, rules=rules).slices
        alone = (records for part in slices for _, records in read(opener, "a.jsonl", [part], LIMIT))
        return [record for records in alone for record in records]

    assert read_in(1) == read_in(2) == read_in(3) == read_in(1000)


def test_a_role_of_any_type_is_a_reject() -> None:
    odd = [{"message_id": str(number), "text": "t", "role": role} for number, role in enumerate([["assistant"], {}])]
    plain = {"prompt": "Hello", "completion": "Hi"}
    first = {"message_id": "9", "parent_id": None, "text": "t", "role": "prompter"}
    for rows in ([*odd, plain], [first, *odd, plain]):
        for replies in ("best", "paths"):
            examples, rejects = curate.read(rows, replies=replies)
            assert examples.num_rows == 1 and positions(examples, rejects) == [*range(len(rows))]


@pytest.mark.parametrize("rank", ["--1", "- 1", "", 10**400, -(10**400), float("nan"), [1], {}, True, None])
@pytest.mark.parametrize("replies", ["best", "paths"])
def test_a_rank_of_any_value_is_read_or_is_none(rank: Any, replies: Any) -> None:
    first = {"message_id": "0", "parent_id": None, "text": "t", "role": "prompter"}
    answers = [{**first, "message_id": str(number), "parent_id": "0", "role": "assistant"} for number in (1, 2)]
    ranked = [{**each, "rank": at} for each, at in zip(answers, (rank, 2), strict=True)]
    tree = {"prompt": {**first, "replies": [{**each, "replies": []} for each in ranked]}}
    messages = [first, *ranked]
    for rows in ([tree], messages):
        examples, rejects = curate.read(rows, replies=replies)
        assert examples.num_rows + rejects.num_rows == (1 if replies == "best" else 2)
        assert examples.num_rows == (2 if replies == "paths" else rank in (10**400, -(10**400)))


@pytest.mark.parametrize(
    "beside",
    [
        {"context": "c", "qas": []},
        {"paragraphs": [{"context": "c", "qas": [{"question": "?", "answers": ["!"]}] * 2}]},
        {"message_id": "1", "parent_id": None, "text": "t", "role": "assistant"},
    ],
)
def test_fields_that_a_user_names_are_read_from_the_record_that_has_them(beside: dict[str, Any]) -> None:
    row = {"frage": "Hello", "antwort": "Hi", **beside}
    examples, _ = curate.read([row], prompt_field="frage", response_field="antwort", replies="best")
    assert [turn["content"].split("\n")[0] for turn in examples["messages"][0].as_py()] == ["Hello", "Hi"]
    assert examples.num_rows == 1


def test_questions_that_share_a_long_context_are_no_bomb() -> None:
    article = {"paragraphs": [{"context": "long " * 50_000, "qas": [{"question": "?", "answers": ["!"]}] * 1000}]}
    content = json.dumps(article).encode()
    with pytest.raises(UsageError, match="over 100 times as many"):
        survey(lambda: io.BytesIO(content), "a.jsonl", 1000, LIMIT, 100)
    few = survey(lambda: io.BytesIO(content), "a.jsonl", 1000, LIMIT, 100_000)
    assert few.records == 1000 and len(few.slices) > 5  # of 32 MiB each, whatever is asked for
    parts = read(lambda: io.BytesIO(content), "a.jsonl", few.slices, LIMIT)
    assert [record.position for _, records in parts for record in records] == [*range(1000)]


@pytest.mark.parametrize(
    ("paragraph", "reason"),
    [
        ({"context": "c", "qas": []}, "the paragraph has no question: 'qas' is empty (record 0, paragraph 1)"),
        ({"context": "c"}, "the paragraph has no question: 'qas' is not there (record 0, paragraph 1)"),
        ({"context": "c", "qas": "?"}, "the paragraph has no question: 'qas' is no list (record 0, paragraph 1)"),
        ("text", "the paragraph is no object (record 0, paragraph 1)"),
        ({"context": "c", "qas": ["?"]}, "the question is no object (record 0, paragraph 1, question 0)"),
    ],
)
def test_what_is_no_question_is_a_reject(paragraph: Any, reason: str) -> None:
    good = {"context": "c", "qas": [{"question": "?", "answers": [{"text": "!"}]}]}
    examples, rejects = curate.read([{"title": "t", "paragraphs": [good, paragraph]}])
    assert examples.num_rows == 1 and rejects["reason"].to_pylist() == [reason]


def test_one_name_of_two_things_stands_for_both() -> None:
    question = {"id": 1, "question": "?", "answers": ["!"], "title": "t"}
    article = {"id": 3, "title": "t", "paragraphs": [{"id": 2, "context": "c", "qas": [question]}]}
    (extra,) = curate.read([article]).examples["extra"].to_pylist()
    fields = {name: it for name, it in json.loads(extra).items() if name not in ("answers", "input")}
    assert fields == {"id": 1, "paragraph.id": 2, "article.id": 3, "title": "t"}


def test_the_first_object_decides_and_what_it_holds_is_said(tmp_path: Path, caplog) -> None:
    article, plain = records_in(FOLDER / "squad.json")[0], {"prompt": "Hello", "completion": "Hi"}
    assert curate.read([plain, article]).rejects["reason"].to_pylist() == [
        "'paragraphs' holds many questions, which are read from files that begin with such a record"
    ]
    examples, rejects = curate.read([article, plain])
    assert examples.num_rows == 4 and not rejects.num_rows
    caplog.set_level("INFO", "curricle")
    curate.read(written([article], tmp_path / "a.jsonl"))
    assert "a record is each question of a paragraph" in caplog.text


def test_a_paragraph_alone_and_a_record_that_has_a_conversation_too() -> None:
    paragraph = {"context": "c", "qas": [{"question": "?", "answers": ["!"]}, {"question": "2?", "answers": ["2"]}]}
    assert curate.read([paragraph]).examples.num_rows == 2
    chat = {"messages": [{"role": "user", "content": "?"}, {"role": "assistant", "content": "!"}]}
    assert curate.read([{**paragraph, **chat}]).examples.num_rows == 1


def test_a_format_of_others_reads_records_as_they_stand() -> None:
    def whole(record: Any) -> Any:
        return conversation(
            [("user", record["title"]), ("assistant", str(len(record["paragraphs"])))], record, [*record]
        )

    own = Format("articles", "title", lambda record: "title" in record, whole)
    examples, _ = curate.read(records_in(FOLDER / "squad.json"), format=own)
    assert [turns[1]["content"] for turns in examples["messages"].to_pylist()] == ["2", "2"]


def test_a_record_says_where_it_stands() -> None:
    content = (FOLDER / "squad.json").read_bytes()
    surveyed = survey(lambda: io.BytesIO(content), "a.json", 2, LIMIT, MOST)
    records: list[Record] = [
        record for _, some in read(lambda: io.BytesIO(content), "a.json", surveyed.slices[1:], LIMIT) for record in some
    ]
    assert [record.position for record in records] == [2, 3, 4, 5]
    assert records[0].where == "record 0, paragraph 1, question 0"
    assert records[1].where == "record 1, paragraph 0, question 0"
