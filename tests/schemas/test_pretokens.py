"""Tokens from the cache are the library's, whatever the text and the tokenizer."""

from itertools import product

import drawn
import numpy as np
import pytest
from curricle.schemas.chat import pretokens
from curricle.schemas.chat.pretokens import PretokenCache, Tokens, splitter
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import AddedToken, Regex, Tokenizer, models, normalizers, pre_tokenizers, processors, trainers

WORDS = (
    "It's the other's don't we'll they're I'd you've the then there. naïve café Привет, мир! 日本語 "
    "3.14 12,345 x = y + 1; if (a == b) { return; } HTML <p>word</p> The THE thing\n\n\tnext   line a/b//c\r\n"
) * 3
ADDED = ["<|im_start|>", "<|im_end|>", "<|im", "<a>", "<a><b>", "\n\n\n"]
BYTES = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)


def trained(pre_tokenizer, model=None, **parts):
    """A small tokenizer: BPE of bytes with merges, or another model."""
    model = model or models.BPE()
    options = {"vocab_size": 420, "show_progress": False}
    if isinstance(model, models.BPE):
        trainer = trainers.BpeTrainer(initial_alphabet=pre_tokenizers.ByteLevel.alphabet(), **options)
    elif isinstance(model, models.Unigram):
        trainer = trainers.UnigramTrainer(unk_token="<unk>", special_tokens=["<unk>"], **options)
    else:
        trainer = trainers.WordPieceTrainer(special_tokens=["[UNK]"], **options)
    tokenizer = Tokenizer(model)
    tokenizer.pre_tokenizer = pre_tokenizer
    for name, part in parts.items():
        setattr(tokenizer, name, part)
    tokenizer.train_from_iterator([WORDS], trainer)
    tokenizer.add_special_tokens([AddedToken(each, normalized=False, special=True) for each in ADDED])
    return tokenizer


def pattern_of(name):
    return pre_tokenizers.Sequence([pre_tokenizers.Split(Regex(pretokens._PATTERNS[name]), "isolated"), BYTES])


def gemma():
    """Merges over whole texts, spaces written as blocks; one merge goes from a word over a space, as one of Gemma's."""
    block = pretokens._BLOCK
    characters = sorted({*WORDS.replace(" ", block), block, *"<>/"})
    merges = [(">", block), (block, "t"), ("t", "h"), (block, "th"), ("th", "e"), (block, block), ("\n", "\n")]
    tokens = ["<unk>", *(f"<0x{byte:02X}>" for byte in range(256)), *characters, *map("".join, merges)]
    model = models.BPE(
        vocab={token: index for index, token in enumerate(dict.fromkeys(tokens))},
        merges=merges,
        unk_token="<unk>",
        byte_fallback=True,
        fuse_unk=True,
    )
    tokenizer = Tokenizer(model)
    tokenizer.normalizer = normalizers.Replace(" ", block)
    tokenizer.pre_tokenizer = pre_tokenizers.Split(" ", "merged_with_previous")
    tokenizer.add_special_tokens([AddedToken(each, normalized=False, special=True) for each in ADDED])
    return tokenizer


GPT2 = pre_tokenizers.ByteLevel(add_prefix_space=False)
DIGITS = pre_tokenizers.Sequence([pre_tokenizers.Digits(individual_digits=True), GPT2])
CUT = {
    "GPT-2": lambda: trained(GPT2),
    "trimmed": lambda: trained(GPT2, post_processor=processors.ByteLevel(trim_offsets=True)),
    "trimmed apart": lambda: trained(
        GPT2, post_processor=processors.ByteLevel(trim_offsets=True, add_prefix_space=False)
    ),
    "SmolLM2": lambda: trained(DIGITS),
    "word pieces of bytes": lambda: trained(GPT2, models.WordPiece(unk_token="[UNK]", max_input_chars_per_word=9)),
    "Llama 3": lambda: trained(pattern_of("Llama 3")),
    "Qwen 2": lambda: trained(pattern_of("Qwen 2"), normalizer=normalizers.NFC()),
    "Mistral": lambda: trained(pattern_of("Mistral")),
    "gpt-oss": lambda: trained(pattern_of("gpt-oss")),
    "Gemma": gemma,
}
UNCUT = {
    "word pieces": lambda: trained(
        pre_tokenizers.BertPreTokenizer(), models.WordPiece(unk_token="[UNK]"), normalizer=normalizers.BertNormalizer()
    ),
    "unigrams": lambda: trained(pre_tokenizers.Metaspace(), models.Unigram()),
    "a space before the text": lambda: trained(pre_tokenizers.ByteLevel(add_prefix_space=True)),
    "other letters": lambda: trained(GPT2, normalizer=normalizers.Lowercase()),
    "another pattern": lambda: trained(
        pre_tokenizers.Sequence([pre_tokenizers.Split(Regex("a b|.*"), "isolated"), BYTES])
    ),
}


@pytest.fixture(scope="module")
def tokenizers():
    return {name: make() for name, make in (CUT | UNCUT).items()}


def differences(tokenizer, texts):
    """Texts of which the tokens are others, or stand elsewhere."""
    whole = [Tokens(each.ids, each.offsets) for each in tokenizer.encode_batch(texts, add_special_tokens=False)]
    cache, differing = PretokenCache(tokenizer), []
    for _ in range(3):  # what was never met is read whole, then by pretokens, then not at all
        tokens = cache.encode(texts)
        for index, (text, one) in enumerate(zip(texts, whole, strict=True)):
            at = np.arange(len(text) + 1)
            ended, begun = (count(np.full_like(at, index), at).tolist() for count in (tokens.ended, tokens.begun))
            same = (tokens.ids(index), tokens.counts[index]) == (one.ids, len(one.ids))
            if not same or (ended, begun) != (list(map(one.ended, at)), list(map(one.begun, at))):
                differing.append(text)
    return differing


def ids_of(cache, texts):
    tokens = cache.encode(texts)
    return [tokens.ids(index) for index in range(len(texts))]


HOSTILE = [
    *ADDED,
    "the",
    " the",
    "The",
    "THE",
    "'s",
    "'S",
    "'ll",
    " ",
    "  ",
    "\n",
    "\r\n",
    "\t",
    "\x00",
    "\x1c",
    "\x85",
]
HOSTILE += [
    "\u00a0",
    "\u2028",
    "\u3000",
    "\u200d",
    "\ufeff",
    "👩\u200d👧",
    "é",
    "e\u0301",
    "\u0301",
    "ſ",
    "K",
    "１２",
    "Ⅷ",
]
HOSTILE += [
    "1",
    "12345",
    ".",
    "...",
    "/",
    "<",
    ">",
    "> ",
    "<|im_",
    "_",
    pretokens._BLOCK,
    "日本",
    "Привет ",
    "\u037e",
    "ß",
]
texts = st.one_of(
    st.lists(st.sampled_from(HOSTILE), max_size=12).map("".join),
    st.text(st.characters(exclude_categories=["Cs"]), max_size=20),
    st.text(st.sampled_from("aT1 \n\r'.é/"), max_size=12),
)


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


def test_a_merge_over_a_space_is_not_cut(tokenizers):
    assert splitter(tokenizers["Gemma"])("the> the the") == ["the> the", " the"]
    (ids,) = ids_of(PretokenCache(tokenizers["Gemma"]), ["the> the"])
    assert ">" + pretokens._BLOCK in map(tokenizers["Gemma"].id_to_token, ids)


def test_the_longest_added_token_comes_first(tokenizers):
    assert splitter(tokenizers["GPT-2"])("<a><b><a>\n\n\n\n<|im<|im_end|>") == [
        "<a><b>", "<a>", "\n\n\n", "\n", "<|im", "<|im_end|>"
    ]  # fmt: skip


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
