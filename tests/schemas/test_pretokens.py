"""Tokens from the cache are the library's, whatever the text and the tokenizer."""

from itertools import product

import drawn
import pytest
from curricle.schemas.chat import pretokens
from curricle.schemas.chat.pretokens import PretokenCache, splitter
from hypothesis import given
from hypothesis import strategies as st
from pretoken_examples import ADDED, CUT, GPT2, UNCUT, differences, ids_of, texts, trained
from tokenizers import AddedToken, Tokenizer, models


@pytest.fixture(scope="module")
def tokenizers():
    return {name: make() for name, make in (CUT | UNCUT).items()}


@pytest.mark.parametrize("name", [*CUT, *UNCUT])
@given(st.lists(texts, min_size=1, max_size=8))
def test_tokens_of_any_text(tokenizers, name, some):
    assert not differences(tokenizers[name], some)


@pytest.mark.parametrize("name", list(CUT))
def test_texts_are_cut(tokenizers, name):
    assert len(splitter(tokenizers[name])("Is that the end of the other? naïve, if you ask <a>me")) > 10


@pytest.mark.parametrize("name", list(UNCUT))
def test_what_no_proof_is_for_is_read_whole(tokenizers, name):
    assert splitter(tokenizers[name]) is None


@pytest.mark.parametrize("option", ["lstrip", "rstrip", "single_word", "normalized"])
def test_added_tokens_that_look_around_are_read_whole(option):
    tokenizer = trained(GPT2)
    assert splitter(tokenizer)
    tokenizer.add_tokens([AddedToken("<look>", **{"normalized": False, option: True})])
    assert splitter(tokenizer) is None
    assert not differences(tokenizer, ["a <look> b", "a<look>b <look>"])


def test_draws_are_not_kept():
    tokenizer = trained(GPT2, models.BPE(dropout=0.5))
    assert splitter(tokenizer) is None


@pytest.mark.parametrize("name", [name for name in CUT if name not in ("Gemma", "trimmed", "trimmed apart")])
def test_every_short_text_of_every_class_of_ascii_is_split_as_the_library_does(tokenizers, name):
    """The patterns tell letters (some of them in contractions), digits, white space and a few marks from others."""
    tokenizer, split = tokenizers[name], splitter(tokenizers[name])
    letters = "".join(map("".join, product("slS1 \n\t'./", repeat=drawn.amount(4, 5))))
    every = "".join(f"{one}{two}" for one in map(chr, range(128)) for two in "a1 \n.")
    for text in letters, every, letters[1:], letters[2:], letters[3:]:
        while ADDED[-1] in text:
            text = text.replace(ADDED[-1], "\n ")
        pieces = [text[slice(*offsets)] for _, offsets in tokenizer.pre_tokenizer.pre_tokenize_str(text)]
        assert split(text) == pieces


@pytest.mark.parametrize("name", ["SmolLM2", "Llama 3", "gpt-oss"])
def test_the_library_splits_before_a_space_after_every_character_but_white_space(tokenizers, name):
    characters = [*range(0x80, 0x3100), *range(0x3100, 0x110000, drawn.amount(97, 1))]
    characters = [chr(each) for each in characters if not 0xD800 <= each < 0xE000 and not chr(each).isspace()]
    starts = {start for _, (start, _) in tokenizers[name].pre_tokenizer.pre_tokenize_str(" ".join(characters))}
    assert {*range(1, 2 * len(characters) - 1, 2)} <= starts


@pytest.mark.parametrize("name", [name for name in CUT if name not in ("Gemma", "trimmed", "trimmed apart")])
def test_the_model_alone_reads_printable_ascii_as_the_library_does(tokenizers, name):
    tokenizer = tokenizers[name]
    words = ["the", " the", " ", "  ", "12"[:1], " =", "zebra", " qqq"]
    ids = pretokens._model_reader(tokenizer, splitter(tokenizer))([*words, *ADDED, "\n", "é", "\x00"])
    assert ids == {word: tokenizer.encode(word, add_special_tokens=False).ids for word in ids}
    assert {*ids} == {*words} or name == "word pieces of bytes"  # which are written with a prefix


@pytest.mark.parametrize("name", ["Gemma", "trimmed", "trimmed apart"])
def test_what_does_more_to_pretokens_than_the_model_is_asked_for_them(tokenizers, name):
    assert pretokens._model_reader(tokenizers[name], splitter(tokenizers[name]))(["the", " the"]) == {}


def test_a_merge_over_a_space_is_not_cut(tokenizers):
    assert splitter(tokenizers["Gemma"])("the> the the") == ["the> the", " the"]
    (ids,) = ids_of(PretokenCache(tokenizers["Gemma"]), ["the> the"])
    assert ">" + pretokens._BLOCK in map(tokenizers["Gemma"].id_to_token, ids)


def test_the_longest_added_token_comes_first(tokenizers):
    assert splitter(tokenizers["GPT-2"])("<a><b><a>\n\n\n\n<|im<|im_end|>") == [
        "<a><b>", "<a>", "\n\n\n", "\n", "<|im", "<|im_end|>"
    ]  # fmt: skip


def test_an_added_token_may_be_long(tokenizers):
    """And begin as others do for long; the library takes them, too."""
    tokenizer = Tokenizer.from_str(tokenizers["GPT-2"].to_str())
    tokenizer.add_tokens([AddedToken("x" * length, normalized=False) for length in (3, 4, 1500)])
    some = ["an " + "x" * count + " and more" for count in (2, 3, 7, 1499, 1500, 3100)]
    assert not differences(tokenizer, some)


def test_a_cache_is_bounded(tokenizers, monkeypatch):
    monkeypatch.setattr(pretokens, "CACHE_UNITS", 200)
    cache, most = PretokenCache(tokenizers["SmolLM2"]), 0
    for number in range(0, 200, 10):
        words = [f" w{chr(97 + each % 26)}{chr(97 + each // 26)}" for each in range(number, number + 10)]
        cache.encode(words)
        cache.encode(words)
        most = max(most, cache._numbers.size)
    assert 10 < most < 60
    for _ in range(2):
        cache.encode(["é" * (pretokens.LONGEST + 1), "é" * pretokens.LONGEST])
    assert max(map(len, cache._numbers)) == max(map(len, cache._numbers._met), default=pretokens.LONGEST)


def test_a_text_is_read_whole_where_most_of_it_is_new_and_cut_where_it_comes_again(tokenizers, monkeypatch):
    read = []

    class Recording(PretokenCache):
        def _whole(self, texts):
            read.extend(texts)
            return super()._whole(texts)

    cache = Recording(tokenizers["SmolLM2"])
    usual = "the same text, many times over, and much longer than what is new in it at its end " * 3
    for expected in [usual], [], [], []:
        cache.encode([usual])
        assert read == expected
        read.clear()
    assert ids_of(cache, [usual + "unheard"]) == [tokenizers["SmolLM2"].encode(usual + "unheard").ids]
    assert read == []
    strange = " ".join("qzxvkjw"[at:] + "bgfpyumc"[:at] for at in range(1, 7))
    cache.encode([strange, usual, strange])  # met once, and known from then on
    assert read == [strange]
    assert {*splitter(tokenizers["SmolLM2"])(strange)} <= {*cache._numbers}
    cache.encode([strange + "é" * (pretokens.LONGEST + 1)])
    assert len(read) == 2 and not cache._numbers._met


def test_what_cannot_be_read_leaves_nothing_behind(tokenizers):
    cache = PretokenCache(tokenizers["SmolLM2"])
    for _ in range(3):  # it is read whole, then by pretokens
        with pytest.raises((TypeError, UnicodeError)):
            cache.encode(["a word", "half a pair: \ud83d"])
    texts = ["a word", "another word", "", "a pair: \U0001f600"]
    whole = [each.ids for each in tokenizers["SmolLM2"].encode_batch(texts, add_special_tokens=False)]
    assert ids_of(cache, texts) == whole


def test_real_instructions(smollm2, shared_data):
    """In a soak all 46,846 of Alpaca."""
    path = shared_data / "alpaca" / "alpaca_46k.jsonl"
    if not path.exists():
        pytest.skip("Alpaca is not there")
    tokenizer = Tokenizer.from_file(str(smollm2.directory / "tokenizer.json"))
    lines = path.read_text("utf-8").splitlines()[: drawn.amount(500, 1 << 20)]
    cache = PretokenCache(tokenizer)
    cut = ids_of(cache, lines)
    assert cut == [each.ids for each in tokenizer.encode_batch(lines, add_special_tokens=False)]
    assert len(cache._numbers) < sum(map(len, cut)) / 4
