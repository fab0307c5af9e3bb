"""Rejected answers have the numbers that they would have as the only answer of the conversation that they end."""

from pathlib import Path

import pytest
from curricle.curate import read, score

Q = "Name a river in Italy."
PAIRS = [
    {"prompt": Q, "chosen": "The Po.", "rejected": "Paris is a city in France."},
    {"prompt": "Count to four.", "chosen": "1 2 3 4", "rejected": ["4", "1 2 4"]},
    {"prompt": Q, "completion": "The Po."},
    {
        "prompt": [
            {"role": "user", "content": "Hi"},
            {"role": "assistant", "content": "Hello, what may I do for you?"},
            {"role": "user", "content": Q},
        ],
        "chosen": [{"role": "assistant", "content": "The Po."}],
        "rejected": [{"role": "assistant", "content": "Nile"}],
    },
]
REJECTED = ["Paris is a city in France.", "4", None, "Nile"]


def context_of(record: dict) -> list:
    return record["prompt"] if isinstance(record["prompt"], list) else [{"role": "user", "content": record["prompt"]}]


def alone(record: dict, answer: str) -> dict:
    """The conversation with this answer, in which earlier ones are context."""
    turns = [turn | ({"train": False} if turn["role"] == "assistant" else {}) for turn in context_of(record)]
    return {"messages": [*turns, {"role": "assistant", "content": answer}]}


def test_the_numbers_are_those_of_each_answer_alone(tiny_model: Path) -> None:
    options = {"proxy": str(tiny_model)}
    examples, rejects = read(PAIRS)
    assert rejects.num_rows == 0
    table = score(examples, ["rejected_length", "rejected_loss", "rejected_ifd"], **options).to_pylist()
    paired = [(record, answer) for record, answer in zip(PAIRS, REJECTED, strict=True) if answer]
    answers = [alone(record, answer) for record, answer in paired]
    chosen = [
        alone(record, {"Count to four.": "1 2 3 4"}.get(str(record["prompt"]), "The Po.")) for record, _ in paired
    ]
    metrics = ["length", "loss", "ifd"]
    expected = score(read(answers).examples, metrics, **options).to_pylist()
    first = score(read(chosen).examples, metrics, **options).to_pylist()
    rows = [row for row, answer in zip(table, REJECTED, strict=True) if answer]
    for row, other, mine in zip(rows, expected, first, strict=True):
        assert (row["rejected_words"], row["rejected_tokens"]) == (other["response_words"], other["response_tokens"])
        for name in ("loss", "loss_unconditional", "ifd_loss_ratio", "ifd_ppl_ratio"):
            assert row[f"rejected_{name}"] == pytest.approx(other[name], rel=1e-4)
        assert row["chosen_loss"] == pytest.approx(mine["loss"], rel=1e-4)
        assert row["margin"] == pytest.approx(other["loss"] - mine["loss"], abs=1e-3) and row["margin"] != 0
    assert rows[0]["chosen_loss"] != rows[0]["rejected_loss"] != rows[2]["rejected_loss"]
    assert [note for note in table[1]["notes"] if "rejected_loss" in note or "chosen_loss" in note] == [
        "chosen_loss: of the first of 2 rejected answers",
        "rejected_loss_unconditional: of the first of 2 rejected answers",
    ]
    assert table[2]["margin"] is None and "margin: there is no rejected answer" in table[2]["notes"]
    assert table[2]["rejected_words"] is None and len({row["example_id"] for row in table}) == 4
