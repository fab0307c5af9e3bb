"""Near-duplicates: a row is dropped for one that is kept, whose answer is like its own; counted, not estimated."""

import gzip
import json
from functools import cache
from itertools import islice

import numpy as np
import polars as pl
import pytest
from curricle.curate.selection import near_duplicates
from curricle.curate.selection.derive import Rules
from curricle.curate.selection.near_duplicates import contents
from curricle.curate.selection.recipe import Recipe
from curricle.curate.words import unicode_words
from curricle.schemas.inputs import by_response

VIEWS = {"both": ("conversation", "response"), "chains": ("conversation",)}


def turns(prompt: str, response: str) -> list[tuple[bool, str]]:
    return [(False, prompt), (True, response)]


def select(conversations: list[list[tuple[bool, str]]], threshold: float, of: str = "both", seed: int = 0) -> list[int]:
    """The numbers of the conversations that stay."""
    numbers = list(range(len(conversations)))
    columns = {"example_id": [f"{n:032x}" for n in numbers], "source": ["a"] * len(numbers), "source_position": numbers}
    recipe = Recipe(near_duplicates=threshold, near_duplicates_of=of, seed=seed)  # type: ignore[arg-type]
    table = pl.DataFrame(columns)
    rules = Rules(recipe, table.columns, {})
    return rules.derive(table, lambda rows: (conversations[row] for row in rows)).rows.tolist()


@cache
def runs(parts: tuple[str, ...]) -> set[tuple[str, ...]]:
    words = [word.lower() for part in parts for word in unicode_words(part)]
    return {tuple(words[index : index + 3]) for index in range(max(1, len(words) - 2))} if words else {parts}


def similarity(one: list[tuple[bool, str]], other: list[tuple[bool, str]], of: str) -> float:
    """The least Jaccard similarity of what has to be alike."""
    pairs = [(runs((*contents(view, one),)), runs((*contents(view, other),))) for view in VIEWS.get(of, (of,))]
    return min(len(a & b) / len(a | b) for a, b in pairs)


def nearest_stay(conversations, stays, of):
    """For each row that is dropped its similarity to the nearest row before it that is kept."""
    dropped = [row for row in range(len(conversations)) if row not in {*stays}]
    return [
        max((similarity(conversations[row], conversations[other], of) for other in stays if other < row), default=0)
        for row in dropped
    ]


LONG = " ".join(f"word{number}" for number in range(60))


def test_another_answer_to_the_same_prompt_stays():
    rows = [turns(LONG, "Yes"), turns(LONG, "No"), turns(LONG + " again", "yes!"), turns(LONG, "It is unknown.")]
    assert select(rows, 0.8) == [0, 1, 3]
    assert select(rows, 0.8, "conversation") == select(rows, 0.8, "prompt") == [0]
    assert select(rows, 0.8, "response") == [0, 1, 3]


def test_the_same_answer_to_another_prompt_stays():
    rows = [turns("How are you?", "I am fine."), turns(LONG, "I am fine.")]
    assert select(rows, 0.8) == select(rows, 0.8, "conversation") == select(rows, 0.8, "prompt") == [0, 1]
    assert select(rows, 0.8, "response") == [0]


def test_answers_without_words_are_alike_if_they_are_the_same():
    assert select([turns(LONG, answer) for answer in ("🙂", "🙁", " 🙂\n", "", " ")], 0.8) == [0, 1, 3]


def test_only_the_assistant_responds():
    def talk(answer: str, tool: str) -> list[tuple[bool, str]]:
        messages = [("system", LONG), ("user", "Hi"), ("assistant", "Hello"), ("tool", tool), ("assistant", answer)]
        return by_response(messages, None)

    assert select([talk("One two three", "a"), talk("One two three", "b"), talk("Four five six", "a")], 0.8) == [0, 2]


def test_an_answer_that_is_context_is_no_response():
    talk = [("user", LONG), ("assistant", "One two three"), ("user", "Again."), ("assistant", "Four five six")]
    first = by_response(talk, {"message_fields": [None, {"train": False}, None, None]})
    last = by_response(talk, {"message_fields": [None, None, None, {"train": False}]})
    assert select([first, last, first], 0.8) == [0, 1] and select([first, last], 0.8, "response") == [0, 1]
    assert select([first, last], 0.8, "conversation") == [0]


@pytest.mark.parametrize("of", ["both", "conversation", "response"])
def test_a_chain_drops_no_row_that_is_unlike_the_one_kept(of):
    """Each text shares nine tenths with the one before it, and little with the first."""
    words = [f"word{number}" for number in range(400)]
    rows = [turns("", " ".join(words[start : start + 100])) for start in range(0, 50, 5)]
    assert similarity(rows[0], rows[1], of) > 0.85 and similarity(rows[0], rows[-1], of) < 0.5
    stays = select(rows, 0.8, of)
    assert stays == [0, 3, 6, 9]
    assert min(nearest_stay(rows, stays, of)) >= 0.8
    assert select(rows, 0.8, "chains") == [0]  # what it was before


def test_the_threshold_is_counted_not_estimated():
    """8 of 10 three-word runs in common are 0.8 exactly, and 8 of 11 are not."""
    first = [f"w{number}" for number in range(12)]  # ten runs
    rows = [turns("", " ".join(text)) for text in (first, first[2:], ["x", *first[:-2]])]
    assert [similarity(rows[0], row, "both") for row in rows[1:]] == [0.8, 8 / 11]
    assert similarity(rows[1], rows[2], "both") < 0.6
    stay = [select(rows, 0.8, seed=seed) for seed in range(40)]  # whichever hashes it has
    assert stay.count([0, 2]) >= 36 and stay.count([0, 2]) + stay.count([0, 1, 2]) == 40


@pytest.mark.parametrize("of", ["both", "conversation", "prompt"])
@pytest.mark.parametrize("threshold", [0.5, 0.7, 0.85])
def test_what_is_dropped_is_like_what_is_kept_and_what_is_kept_is_unlike(of, threshold):
    draw = np.random.default_rng(round(100 * threshold))
    texts = [[f"w{word}" for word in draw.integers(0, 9999, 40)] for _ in range(3)]
    rows = []
    for _ in range(200):
        prompt, response = ([*texts[draw.integers(3)]] for _ in range(2))
        for side in (prompt, response):
            for index in draw.integers(0, 40, draw.integers(0, 5)):
                side[index] = f"other{draw.integers(0, 3)}"
        rows.append(turns(" ".join(prompt), " ".join(response)))
    stays = select(rows, threshold, of)
    result = nearest_stay(rows, stays, of)
    assert len(result) > 10 and min(result) >= threshold
    pairs = [(one, other) for index, one in enumerate(stays) for other in stays[:index]]
    missed = [pair for pair in pairs if similarity(rows[pair[0]], rows[pair[1]], of) >= threshold]
    assert len(missed) <= 0.05 * len(result)  # locality-sensitive hashing misses 2 % of the pairs at the threshold


def test_a_crowded_bucket_does_not_hide_what_is_the_same(monkeypatch):
    monkeypatch.setattr(near_duplicates, "MOST_COMPARED", 1)
    rows = [turns(LONG, f"Answer {number} of it") for number in range(30)]
    assert select([*rows, *rows], 0.8) == list(range(30))


def test_of_real_rows_none_is_dropped_for_another_answer(shared_data):
    conversations = []
    for name in ("ropes_plain_bottom_hint", "ropes_prompt_beginning", "wiki_qa_exercise"):
        with gzip.open(shared_data / "t0" / f"{name}.jsonl.gz", "rt") as lines:
            conversations += [turns(row["prompt"], row["completion"]) for row in map(json.loads, islice(lines, 120))]
    stays, before = select(conversations, 0.8), select(conversations, 0.8, "chains")
    result = nearest_stay(conversations, stays, "both")
    assert len(result) > 10 and min(result) >= 0.8
    other_answers = nearest_stay(conversations, before, "response")
    assert np.mean(np.array(other_answers) < 0.8) > 0.2 and len(before) < len(stays)
