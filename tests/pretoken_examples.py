"""Tokenizers of every kind, texts that are hard to cut, and what tells tokens from the library's."""

import numpy as np
from curricle.schemas.chat import pretokens
from curricle.schemas.chat.pretokens import NumbersByDict, PretokenCache, Tokens
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


def differences(tokenizer, texts, numbers=NumbersByDict):
    """Texts of which the tokens are others, or stand elsewhere."""
    whole = [Tokens(each.ids, each.offsets) for each in tokenizer.encode_batch(texts, add_special_tokens=False)]
    cache, differing = PretokenCache(tokenizer, numbers), []
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
