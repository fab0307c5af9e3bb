"""What of a benchmark is in a row, by hand, and against a search that compares everything with everything."""

import json
import random

import pytest
from curricle.curate.contamination.benchmark import Benchmark, BenchmarkText
from curricle.curate.contamination.search import search
from curricle.curate.words import unicode_words
from curricle.schemas.common.errors import UsageError

QUESTION = "Natalia sold clips to 48 of her friends in April, and then she sold half as many clips in May."
SHORT = "What is the sum of 12 and 30?"


def benchmark(*texts: str) -> Benchmark:
    return Benchmark([BenchmarkText("test.jsonl", index, text) for index, text in enumerate(texts)])


@pytest.mark.parametrize(
    ("turn", "kind", "overlap"),
    [
        (QUESTION, "exact", 1.0),
        (QUESTION.upper().replace(",", " --"), "exact", 1.0),
        (f"Think aloud. {QUESTION} How many in all?", "run of words", 1.0),
        # 20 words are 8 runs of 13; the first 14 words are two of them
        (" ".join(QUESTION.split()[:14]), "run of words", 2 / 8),
        (" ".join(QUESTION.split()[:12]), None, None),
        # one word in the middle: 3 of 18 runs of three are otherwise, and of 21 in all 15 are in common
        (QUESTION.replace("April", "June"), "near-duplicate", 0.0),
        ("A poem about the sea, and about nothing else at all.", None, None),
    ],
)
def test_what_a_turn_shares_with_a_text(turn, kind, overlap):
    match = search(benchmark(SHORT, QUESTION), ["Solve this.", turn], 0.7)
    assert (match and match.kind) == kind
    if match:
        assert match.text == 1 and match.overlap == pytest.approx(overlap)


def test_a_short_text_is_looked_for_whole_and_a_shorter_one_not_at_all():
    assert len(list(unicode_words(SHORT))) == 8
    one = benchmark(SHORT, "Yes, of course.", "The answer is 42.")
    assert len(one.texts) == 1 and one.short == {"test.jsonl": 2}
    assert search(one, [f"{SHORT} Think aloud."], 0.8).kind == "run of words"
    assert search(one, ["What is the sum of 12 and 31?"], 0.8) is None
    assert search(one, ["The answer is 42."], 0.8) is None


def test_texts_that_are_the_same_are_one_and_turns_are_not_joined():
    assert len(benchmark(QUESTION, QUESTION.lower()).texts) == 1
    halves = QUESTION.split(" ")
    assert search(benchmark(QUESTION), [" ".join(halves[:10]), " ".join(halves[10:])], 0.8) is None
    assert search(benchmark(QUESTION), ["", "…"], 0.8) is None


def words(text: str) -> list[str]:
    return [word.lower() for word in unicode_words(text)]


def grams(text: list[str], length: int) -> set[tuple[str, ...]]:
    return {tuple(text[index : index + length]) for index in range(len(text) - length + 1)}


def test_a_search_that_compares_everything_with_everything_finds_the_same():
    draw = random.Random(5)
    vocabulary = words("a an the sum of clips sold in may april 12 30 what is how many friends")
    texts = [" ".join(draw.choices(vocabulary, k=draw.randint(5, 30))) for _ in range(60)]
    rows = []
    for _ in range(300):
        text = words(draw.choice(texts))
        start, stop = sorted(draw.sample(range(len(text) + 1), 2))
        part = text[start:stop]
        for _ in range(draw.choice([0, 0, 1, 2])):
            part.insert(draw.randint(0, len(part)), draw.choice(vocabulary))
        rows.append(" ".join(part))
    one = benchmark(*texts)
    kinds = set()
    for row in rows:
        mine, wanted = words(row), None
        looked_for = [words(text.text) for text in one.texts]
        if mine in looked_for:
            wanted = "exact"
        elif any(grams(mine, min(13, len(text))) & grams(text, min(13, len(text))) for text in looked_for):
            wanted = "run of words"
        elif len(mine) >= 3 and any(
            len(grams(mine, 3) & grams(text, 3)) >= 0.6 * len(grams(mine, 3) | grams(text, 3)) for text in looked_for
        ):
            wanted = "near-duplicate"
        match = search(one, [row], 0.6)
        assert (match and match.kind) == wanted, row
        kinds.add(wanted)
    assert kinds == {None, "exact", "run of words", "near-duplicate"}, "each of them is tried"


def test_benchmarks_of_any_shape_are_read(tmp_path):
    (tmp_path / "a.jsonl").write_text(
        json.dumps({"question": QUESTION, "choices": [SHORT, "no"], "meta": {"id": 7}}) + "\n"
    )
    (tmp_path / "b.csv").write_text('q,a\n"A text that is of some nine words at least.",x\n')
    read = Benchmark.read([tmp_path / "a.jsonl", tmp_path / "b.csv"])
    assert [(text.source, text.position) for text in read.texts] == [("a.jsonl", 0), ("a.jsonl", 0), ("b.csv", 1)], (
        "of CSV, the line"
    )
    (tmp_path / "c.jsonl").write_text('{"label": 1}\n')
    with pytest.raises(UsageError, match="holds no text"):
        Benchmark.read([tmp_path / "c.jsonl"])
    (tmp_path / "d.jsonl").write_text('{"label": "yes"}\n')
    with pytest.raises(UsageError, match="no text of 8 words or more"):
        Benchmark.read([tmp_path / "d.jsonl"])
