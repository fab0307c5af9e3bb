"""The sample that `make demo` scores keeps the variety that makes it worth scoring."""

import json
import re
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

SAMPLE = Path(__file__).resolve().parents[1] / "data" / "sample.jsonl"
FORMATS = {
    "alpaca": {"instruction", "output"},
    "prompt/completion": {"prompt", "completion"},
    "question/answer": {"question", "answer"},
    "sharegpt": {"conversations"},
    "openai": {"messages"},
}
SCRIPTS = {
    "Cyrillic": "\u0400-\u04ff",
    "Arabic": "\u0600-\u06ff",
    "Thai": "\u0e00-\u0e7f",
    "Hiragana": "\u3040-\u309f",
    "CJK ideographs": "\u4e00-\u9fff",
    "Spanish letters": "¿áéíóúñ",
    "emoji": "\U0001f300-\U0001faff",
}


@pytest.fixture(scope="module")
def lines() -> list[str]:
    text = SAMPLE.read_bytes().decode("utf-8")
    assert text.endswith("\n") and "\r" not in text
    return text[:-1].split("\n")


@pytest.fixture(scope="module")
def records(lines: list[str]) -> list[dict[str, Any]]:
    return [json.loads(line) for line in lines if _is_json(line)]


def _is_json(line: str) -> bool:
    try:
        json.loads(line)
    except json.JSONDecodeError:
        return False
    return True


def _formats(record: dict[str, Any]) -> list[str]:
    return [name for name, keys in FORMATS.items() if keys <= record.keys()]


def _turns(record: dict[str, Any]) -> list[tuple[str, Any]]:
    if "conversations" in record:
        return [(turn["from"], turn["value"]) for turn in record["conversations"]]
    return [(turn["role"], turn["content"]) for turn in record.get("messages", [])]


def _answers(records: list[dict[str, Any]]) -> list[str]:
    keys = ("output", "completion", "answer")
    return [record[key] for record in records for key in keys if key in record]


def test_the_ledger_is_80_lines_of_which_one_is_not_json(lines: list[str]) -> None:
    broken = [number for number, line in enumerate(lines) if not _is_json(line)]
    assert len(lines) == 80
    assert broken == [35]


def test_each_record_has_one_format(records: list[dict[str, Any]]) -> None:
    assert all(len(_formats(record)) == 1 for record in records)
    assert Counter(_formats(record)[0] for record in records) == {
        "alpaca": 55,
        "question/answer": 7,
        "sharegpt": 7,
        "prompt/completion": 5,
        "openai": 5,
    }


def test_no_pair_occurs_twice(records: list[dict[str, Any]]) -> None:
    formatted = {key for keys in FORMATS.values() for key in keys} | {"input"}
    pairs = {json.dumps({key: record[key] for key in record if key in formatted}, sort_keys=True) for record in records}
    assert len(pairs) == len(records) == 79


def test_answers_reach_the_edge_cases(records: list[dict[str, Any]]) -> None:
    answers = _answers(records)
    lengths = Counter(len(answer.split()) for answer in answers)
    assert lengths[0] == 1, "one empty answer"
    assert [length for length in lengths if length > 120] == [5279], "one answer of at least 5,000 words"
    assert {"Sodium", "mixed", "Blue."} <= set(answers), "answers of a single word"
    assert [answer for answer in answers if len(answer.split()) > 50 and len(set(answer.split())) == 1], "one word only"
    assert any("<script>" in answer for answer in answers), "markup that a report has to escape"


def test_the_long_answer_counts_without_a_gap(records: list[dict[str, Any]]) -> None:
    long = max(_answers(records), key=len).removesuffix(".").lower().split(", ")
    assert len(long) == len(set(long)) == 1300
    assert (long[0], long[20], long[999], long[-1]) == (
        "one",
        "twenty-one",
        "one thousand",
        "one thousand three hundred",
    )


def test_conversations_have_systems_tools_parts_and_several_turns(records: list[dict[str, Any]]) -> None:
    roles = Counter(role for record in records for role, _ in _turns(record))
    assert roles["system"] == 4
    assert roles["function_call"] == roles["observation"] == 2
    assert sum("tools" in record for record in records) == 2
    contents = [content for record in records for _, content in _turns(record)]
    assert any(isinstance(content, list) for content in contents), "typed content parts"
    questions = [sum(role in {"human", "user"} for role, _ in _turns(record)) for record in records]
    assert sum(count > 1 for count in questions) >= 6


def test_other_fields_vary_and_the_first_row_holds_a_null(records: list[dict[str, Any]]) -> None:
    assert records[0]["category"] is None
    kinds = {type(record["id"]) for record in records if "id" in record}
    assert kinds == {int, str}
    assert any("category" not in record for record in records)
    assert any(isinstance(record.get("meta"), dict) for record in records)


@pytest.mark.parametrize("script", SCRIPTS)
def test_scripts(lines: list[str], script: str) -> None:
    assert any(len(re.findall(f"[{SCRIPTS[script]}]", line)) >= 3 for line in lines)


def test_several_records_are_chinese_and_arabic(lines: list[str]) -> None:
    chinese = [
        line for line in lines if re.search("[\u4e00-\u9fff]{4}", line) and not re.search("[\u3040-\u30ff]", line)
    ]
    arabic = [line for line in lines if re.search(f"[{SCRIPTS['Arabic']}]{{4}}", line)]
    assert len(chinese) >= 3
    assert len(arabic) >= 2
