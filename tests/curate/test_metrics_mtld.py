"""MTLD against its reference, lexicalrichness 0.5.1, to the last bit."""

import json
import random
from functools import cache
from pathlib import Path
from typing import Any

import drawn
import pyarrow as pa
import pytest
from curricle.curate.batch import Batch
from curricle.curate.compiled import compiled
from curricle.curate.metrics import REGISTRY, mtld_kernel
from curricle.curate.metrics import mtld as measure
from curricle.curate.metrics.mtld import mtld
from curricle.curate.words import hold_unspaced, tokens
from curricle.schemas.table import MESSAGES
from hypothesis import given, settings
from hypothesis import strategies as st

README = (
    "Measure of textual lexical diversity, computed as the mean length of sequential words in a text that maintains "
    "a minimum threshold TTR score. Iterates over words until TTR scores falls below a threshold, then increase factor "
    "counter by 1 and start over. McCarthy and Jarvis (2010, pg. 385) recommends a factor threshold in the range of "
    "[0.660, 0.750]. (McCarthy 2005, McCarthy and Jarvis 2010)"
)

PUBLISHED = {  # run with lexicalrichness 0.5.1, and checked by hand
    "TEST text with some text numbers 42, hyphen-here, and text punctuations.": (10, 8, 14.000000000000004),
    "only unique terms in this little string": (7, 7, 7),
    "hello": (1, 1, 1),
    "a a": (2, 1, 2.0),
    "a a a": (3, 1, 3.0),
    "a a a a a": (5, 1, 2.5),
    "a a b": (3, 2, 3.0),
    "b a a": (3, 2, 3.0),
    "the cat the cat": (4, 2, 4.0),
    "the quick brown fox jumps over the lazy dog " * 6: (54, 8, 13.5),
    README: (57, 39, 46.79226361031519),
}


@cache
def lexicalrichness() -> Any:
    return pytest.importorskip("lexicalrichness").LexicalRichness


def reference(text: str) -> float | None:
    """lexicalrichness on a text, or on our tokens where it would not find words; None where it raises."""
    if not text.isascii() and any(hold_unspaced([text])):
        return on_tokens(tokens(text))
    try:
        return lexicalrichness()(text).mtld()
    except ZeroDivisionError:
        return None


def on_tokens(words: list[str]) -> float | None:
    return lexicalrichness()(words, preprocessor=None, tokenizer=None).mtld() if words else None


@pytest.mark.parametrize(("text", "expected"), PUBLISHED.items(), ids=lambda value: str(value)[:20])
def test_reference_table(text: str, expected: tuple[int, int, float]) -> None:
    words = tokens(text)
    assert (len(words), len(set(words)), *mtld([text])) == expected


def test_alpaca_responses_equal_the_reference(shared_data: Path) -> None:
    """One of ten, others every day; in a soak all."""
    with (shared_data / "alpaca" / "alpaca_46k.jsonl").open(encoding="utf-8") as lines:
        texts = [json.loads(line)["output"] for line in lines]
    ours = mtld(texts)
    assert len(ours) == 46_846
    rows = drawn.some("Alpaca", range(len(texts)), len(texts) // 10)
    assert [row for row in rows if ours[row] != reference(texts[row])] == []
    assert sum(value is None for value in ours) >= sum(text == "" for text in texts) == 27
    assert sum(hold_unspaced(texts)) == SEGMENTED_IN_ALPACA


SEGMENTED_IN_ALPACA = 14  # texts with a few Chinese, Japanese or Thai words: compared on our tokens

text_of_any_kind = st.text(
    st.one_of(
        st.sampled_from("aA bB-–—'.,;_9\n\t\x1c\x1f\x85\xa0\u2003\u2028\u3000\x00İẞßΣςσǅK’“é"),
        st.characters(exclude_categories=["Cs"]),
    ),
    max_size=60,
)
few_words = st.lists(st.sampled_from(["a", "b", "c", "the", "same", "internationalization", "internationalisation"]))


@settings(max_examples=drawn.amount(300, 10_000))
@given(text_of_any_kind)
def test_any_text_equals_the_reference(text: str) -> None:
    assert mtld([text]) == [reference(text)]


@settings(max_examples=drawn.amount(100, 5_000))
@given(few_words)
def test_repetitions_equal_the_reference(words: list[str]) -> None:
    assert mtld([" ".join(words)]) == [on_tokens(words)]


def test_tokens_of_spaced_scripts_are_the_references() -> None:
    everything = [chr(code) for code in range(0x110000) if not 0xD800 <= code < 0xE000]
    spaced = [c for c, unspaced in zip(everything, hold_unspaced(everything), strict=True) if not unspaced]
    assert len(spaced) > 1_000_000
    text = "".join(f"x{c}Σ{c}y" for c in spaced if ord(c) < 0x20000)
    assert tokens(text) == lexicalrichness()(text).wordlist
    assert mtld([text]) == [reference(text)]


def test_no_character_of_later_planes_is_lower_cased() -> None:
    """Texts with nothing but such characters go to the kernel as they are."""
    assert [c for c in map(chr, range(0x20000, 0x110000)) if c.lower() != c] == []


@pytest.mark.parametrize("other", ["1", "-", " ", "'", "\n", "\x00", "\x7f", "é", "\U0001f600", "Z"])
def test_a_letter_of_any_kind_at_any_position_of_a_word(other: str) -> None:
    texts = [
        f"{'a' * before}{other}{'B' * after} aab" for before in range(18) for after in range(0, 18, 3) if before + after
    ]
    assert mtld(texts) == [reference(text) for text in texts]


def test_bytes_after_the_eighth_distinguish_tokens() -> None:
    words = [f"{chr(97 + i)}{'m' * length}{chr(97 + j)}" for length in range(20) for i in range(4) for j in range(4)]
    random.Random(0).shuffle(words)
    assert mtld([" ".join(words)]) == [float(len(words))]
    assert mtld([" ".join(words + words[:99])]) == [on_tokens(words + words[:99])]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("我喜欢学习，也喜欢音乐。", ["我", "喜欢", "学习", "也", "喜欢", "音乐"]),
        ("猫が好き、犬が好き", ["猫", "が", "好き", "犬", "が", "好き"]),
        ("ฉันชอบเรียนภาษาไทย", ["ฉัน", "ชอบ", "เรียน", "ภาษา", "ไทย"]),
        ("Use 喜欢学习 today", ["use", "喜欢", "学习", "today"]),
        ("⺀", ["⺀"]),  # a radical is a sign, not a letter: it stays a token, as in the reference
    ],
)
def test_scripts_without_spaces_are_segmented(text: str, words: list[str]) -> None:
    assert tokens(text) == words
    assert mtld([text]) == [on_tokens(words)]


@pytest.mark.parametrize("text", ["", " \n\t", "12 34", "... -- !?", "—", "\u3000\xa0"])
def test_no_words_is_null_with_a_note(text: str) -> None:
    scores = REGISTRY["mtld"].compute(batch_of([("one two", text), ("", "one two")]))
    assert scores.columns["response_mtld"].to_pylist() == [None, 2.0]
    assert scores.columns["prompt_mtld"].to_pylist() == [2.0, None]
    assert scores.notes == {0: ["response_mtld: no words"], 1: ["prompt_mtld: no words"]}


@settings(max_examples=drawn.amount(40, 2_000))
@given(st.lists(st.one_of(text_of_any_kind, few_words.map(" ".join)), max_size=12), st.data())
def test_any_split_of_a_batch_gives_the_same_numbers(texts: list[str], data: st.DataObject) -> None:
    cut = data.draw(st.integers(0, len(texts)))
    assert mtld(texts[:cut]) + mtld(texts[cut:]) == mtld(texts)
    assert mtld(texts[::-1]) == mtld(texts)[::-1]


@settings(max_examples=drawn.amount(100, 5_000))
@given(st.lists(st.one_of(text_of_any_kind, few_words.map(" ".join)), max_size=12))
def test_a_few_texts_in_plain_python_have_the_same_numbers(texts: list[str]) -> None:
    assert [measure._by_words(tokens(text)) for text in texts] == mtld(texts)


def test_a_process_that_measures_much_takes_the_compiled_loops(monkeypatch: pytest.MonkeyPatch) -> None:
    calls = []
    monkeypatch.setattr(mtld_kernel, "mtld", lambda texts, _: calls.append(texts) or [7.0] * len(texts))
    monkeypatch.setattr(measure, "_KERNEL", "nothing is loaded yet")
    monkeypatch.setattr(measure, "FEW", 10)
    monkeypatch.setattr(measure, "_measured", 0)
    assert mtld(["a a b", "a b"]) == [3.0, 2.0] and not calls
    assert mtld(["a a b"]) == [7.0] and calls == [["a a b"]]


def test_compiles_where_nothing_can_be_cached() -> None:
    namespace: dict[str, Any] = {}
    exec("def successor(number):\n    return number + 1", namespace)  # without a file, numba has nowhere to cache it
    assert compiled(namespace["successor"])(1) == 2


def batch_of(pairs: list[tuple[str, str]]) -> Batch:
    messages = [
        [{"role": "user", "content": prompt}, {"role": "assistant", "content": response}] for prompt, response in pairs
    ]
    return Batch(pa.table({"messages": pa.array(messages, MESSAGES)}))
