"""The compiled loop cuts and numbers as the splitter and the dictionary do, to the last number."""

import re
from itertools import product

import drawn
import pytest
from curricle.curate.proxy import pretokens as of_many
from curricle.curate.proxy.pretokens import NumbersOfMany
from curricle.curate.proxy.pretokens.automaton import END, automaton
from curricle.curate.proxy.pretokens.kernel import NumbersByBytes
from curricle.schemas.chat import pretokens
from curricle.schemas.chat.pretokens import NumbersByDict, PretokenCache, splitter
from hypothesis import given
from hypothesis import strategies as st
from pretoken_examples import ADDED, CUT, HOSTILE, differences, ids_of
from pretoken_examples import WORDS as EVERYDAY
from tokenizers import AddedToken, Tokenizer

CUT = {name: CUT[name] for name in ("GPT-2", "SmolLM2", "Llama 3", "Qwen 2", "Mistral", "gpt-oss")}


@pytest.fixture(scope="module")
def tokenizers():
    return {name: make() for name, make in CUT.items()}


@pytest.fixture(scope="module")
def splitters(tokenizers):
    return {name: splitter(tokenizer) for name, tokenizer in tokenizers.items()}


@pytest.fixture(scope="module")
def tables(splitters):
    return [(each.pretokens, automaton(each.pretokens.pattern).tolist()) for each in splitters.values()]


def matches(table, text):
    """What ``re.findall`` gives, from a table."""
    at, pieces = 0, []
    while at < len(text):
        row, stop = 1, at
        for position, character in enumerate([*map(ord, text[at:]), END], at):
            row, ends = divmod(int(table[row][character]), 2)
            stop = position if ends else stop
            if not row:
                break
        if stop > at:
            pieces.append(text[at:stop])
        at = max(stop, at + 1)
    return pieces


@pytest.mark.parametrize("name", CUT)
def test_a_table_matches_what_its_pattern_does(splitters, name):
    """The patterns tell letters (some of them in contractions), digits, white space and a few marks from others."""
    expression = splitters[name].pretokens
    table = automaton(expression.pattern).tolist()
    short = ("".join(some) for length in range(drawn.amount(3, 6)) for some in product("slS1 \n\t'./", repeat=length))
    pairs = (f"{one}{two}" for one in map(chr, range(128)) for two in map(chr, range(128)))
    for text in (*short, *pairs):
        assert matches(table, text) == expression.findall(text)


@given(st.text(st.characters(max_codepoint=127), max_size=40))
def test_a_table_matches_what_its_pattern_does_in_any_ascii(tables, text):
    for expression, table in tables:
        assert matches(table, text) == expression.findall(text)


@pytest.mark.parametrize(
    "pattern",
    ["", "(?!)", "a", "ab|a|abc", "(?:a|ab)(?:c|bcd)", "a{2,4}b?", "(?i:ab)+c", "a(?!b)|ab", "[^a-c]*b", r"(x)\s", "."],
)
def test_a_table_prefers_what_re_does(pattern):
    table, expression = automaton(pattern), re.compile(pattern, re.ASCII)
    for length in range(6):
        for text in map("".join, product("abcd B\n", repeat=length)):
            assert matches(table, text) == [each.group() for each in expression.finditer(text) if each.group()]


@pytest.mark.parametrize("pattern", ["a*?", r"(a)\1", "(?=a)", "(?<!a)b", "(?:a*)*", "^a", "(?!ab)"])
def test_what_has_no_table_is_refused(pattern):
    with pytest.raises(NotImplementedError):
        automaton(pattern)


def test_tokens_are_the_library_s(tokenizers):
    some = ["".join(HOSTILE), " ".join(HOSTILE), "".join(HOSTILE[::-1]), EVERYDAY]
    for tokenizer in tokenizers.values():
        assert not differences(tokenizer, some, NumbersByBytes)


LETTERS = str.maketrans("0123456789", "jklmnopqrs")
WORDS = st.sampled_from([*ADDED, *"aZ1 \n\t\0'.é日\u00a0\u2003", "\ud83d", "\udc00", " the", "word", "<|im_", "x" * 60])


@pytest.mark.parametrize("name", CUT)
@given(st.lists(st.lists(st.lists(WORDS, max_size=30).map("".join), max_size=5), max_size=6))
def test_numbers_are_those_of_the_dictionary(splitters, name, batches):
    """With those that were only met, and half surrogates."""
    by_bytes, by_dict = NumbersByBytes(splitters[name]), NumbersByDict(splitters[name])
    for batch in batches:
        for one, other in zip(by_bytes.of(batch), by_dict.of(batch), strict=True):
            assert one.tolist() == other.tolist()
        assert (by_bytes.take_new(), by_bytes.size) == (by_dict.take_new(), by_dict.size)


def test_an_added_token_is_as_long_as_it_has_characters():
    """And not bytes, behind text in ASCII as well."""
    tokenizer, added = CUT["SmolLM2"](), "日" * 50
    tokenizer.add_tokens([AddedToken(added, normalized=False)])
    by_bytes, by_dict = (numbers(splitter(tokenizer)) for numbers in (NumbersByBytes, NumbersByDict))
    for _ in range(2):
        numbers, counts = by_bytes.of([f"a a {added} a a", f"{added} a"])
        same = by_dict.of([f"a a {added} a a", f"{added} a"])
        assert (numbers.tolist(), counts.tolist()) == tuple(map(list, same))
    assert len(numbers)


@pytest.mark.parametrize("numbers", [NumbersByBytes, NumbersByDict])
def test_an_interruption_leaves_no_numbers_without_tokens(tokenizers, numbers, monkeypatch):
    """Whoever works in a notebook interrupts it anywhere, and goes on."""
    cache, (first, second) = PretokenCache(tokenizers["SmolLM2"], numbers), ("ab cd" * 30, "ef gh ab" * 30)

    def interrupted(self):
        monkeypatch.undo()
        self.take_new()
        raise KeyboardInterrupt

    monkeypatch.setattr(numbers, "take_new", interrupted)
    with pytest.raises(KeyboardInterrupt):
        cache.encode([first] * 3)
    texts = [second, first] * 3
    assert ids_of(cache, texts) == ids_of(PretokenCache(tokenizers["SmolLM2"]), texts)


def test_numbers_of_more_than_there_was_room_for(splitters):
    by_bytes, by_dict = NumbersByBytes(splitters["SmolLM2"]), NumbersByDict(splitters["SmolLM2"])
    for batch in range(3):
        rows = [" ".join(f"{row:x}g{batch}".translate(LETTERS) for _ in range(9)) for row in range(20_000)]
        for one, other in zip(by_bytes.of(rows * 2), by_dict.of(rows * 2), strict=True):
            assert one.tolist() == other.tolist()
        assert by_bytes.take_new() == by_dict.take_new()
    assert by_bytes.size > 50_000


@pytest.mark.parametrize("few", [0, 100, 10_000])
def test_many_texts_are_numbered_in_a_compiled_loop_and_few_from_a_dictionary(splitters, few, monkeypatch):
    monkeypatch.setattr(of_many, "FEW", few)
    monkeypatch.setattr(of_many, "_COMPILED", "no.such.module")
    some = [" the word is the word, as ever it was" * 3, "the naïve word is as it was"] * 3
    numbers, by_dict = NumbersOfMany(splitters["GPT-2"]), NumbersByDict(splitters["GPT-2"])
    for _ in range(3):
        assert [each.tolist() for each in numbers.of(some)] == [each.tolist() for each in by_dict.of(some)]
        assert numbers.take_new() == by_dict.take_new()
    assert isinstance(numbers._numbers, NumbersByDict) == (few == 10_000)


def test_loops_that_are_loaded_anyway_are_used_at_once(splitters):
    numbers = NumbersOfMany(splitters["GPT-2"])
    numbers.of(["a"])
    assert isinstance(numbers._numbers, NumbersByBytes)


def test_what_cannot_be_read_leaves_nothing_behind(tokenizers):
    cache = PretokenCache(tokenizers["SmolLM2"], NumbersByBytes)
    for _ in range(3):  # it is read whole, then by pretokens
        with pytest.raises((TypeError, UnicodeError)):
            cache.encode(["a word", "half a pair: \ud83d"])
    some = ["a word", "another word", "", "a pair: \U0001f600"]
    assert ids_of(cache, some) == [tokenizers["SmolLM2"].encode(text).ids for text in some]


def test_a_cache_is_bounded(tokenizers, monkeypatch):
    monkeypatch.setattr(pretokens, "CACHE_UNITS", 200)
    cache, most = PretokenCache(tokenizers["SmolLM2"], NumbersByBytes), 0
    for number in range(0, 200, 10):
        words = [f" w{chr(97 + each % 26)}{chr(97 + each // 26)}" for each in range(number, number + 10)]
        for _ in range(2):
            cache.encode(words)
        most = max(most, cache._numbers.size)
    assert 10 < most < 60


def test_real_instructions(smollm2, shared_data):
    """In a soak all 46,846 of Alpaca."""
    path = shared_data / "alpaca" / "alpaca_46k.jsonl"
    if not path.exists():
        pytest.skip("Alpaca is not there")
    split = splitter(Tokenizer.from_file(str(smollm2.directory / "tokenizer.json")))
    lines = path.read_text("utf-8").splitlines()[: drawn.amount(2000, 1 << 20)]
    by_bytes, by_dict = NumbersByBytes(split), NumbersByDict(split)
    for _ in range(2):
        for one, other in zip(by_bytes.of(lines), by_dict.of(lines), strict=True):
            assert one.tolist() == other.tolist()
        assert by_bytes.take_new() == by_dict.take_new()
