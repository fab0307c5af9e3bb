"""One rendering, and where the responses are in it."""

import dataclasses
import json
import pickle

import pytest
from curricle.curate.proxy.rendering import Renderer
from curricle.curate.proxy.settings import ProxySettings
from curricle.curate.proxy.weights import Weights
from curricle.schemas.chat import rendering
from curricle.schemas.chat.pretokens import PretokenCache
from curricle.schemas.common.errors import UsageError
from proxy_examples import ROWS, SHORT, SINGLE, table, turns
from transformers import AutoTokenizer

BELOW = "Below is an instruction that describes a task"
REQUEST = "Write a response that appropriately completes the request.\n\n### Instruction:\n"


@pytest.fixture(scope="module")
def tokenizer(smollm2):
    return AutoTokenizer.from_pretrained(smollm2.directory)


def test_the_tokenizer_of_a_packaged_model_is_the_one_that_transformers_chooses(smollm2, tokenizer):
    ours = Renderer(smollm2, ProxySettings())._tokenizer
    assert type(ours) is type(tokenizer) and ours.init_kwargs == tokenizer.init_kwargs
    assert ours.backend_tokenizer.to_str() == tokenizer.backend_tokenizer.to_str()
    assert ours.special_tokens_map == tokenizer.special_tokens_map and ours.chat_template == tokenizer.chat_template


def render(weights, conversations, extra=None, **settings):
    return Renderer(weights, ProxySettings(**settings)).render(table(conversations, extra))


def responses(tokenizer, rendered):
    return [tokenizer.decode(rendered.ids[start:end]) for start, end in rendered.spans]


def headers(tokenizer, rendered):
    return [tokenizer.decode(rendered.ids[start:end]) for start, end in rendered.headers]


@pytest.mark.parametrize("conversation", SHORT)
def test_the_tokens_are_those_of_transformers_up_to_the_last_response(smollm2, tokenizer, conversation):
    rendered = render(smollm2, [conversation])[0]
    whole = tokenizer.apply_chat_template(conversation, return_dict=False)
    assert list(rendered.ids) == whole[: len(rendered.ids)]
    assert tokenizer.decode(whole[len(rendered.ids) :]) == "\n"


@pytest.mark.parametrize("conversation", SHORT)
def test_every_response_is_one_span_with_its_end_of_turn_token(smollm2, tokenizer, conversation):
    rendered = render(smollm2, [conversation])[0]
    answers = [turn["content"] for turn in conversation if turn["role"] == "assistant"]
    assert responses(tokenizer, rendered) == [text + "<|im_end|>" for text in answers]
    assert headers(tokenizer, rendered) == ["<|im_start|>assistant\n"] * len(answers)
    assert rendered.response_tokens == sum(end - start for start, end in rendered.spans)
    assert rendered.prompt_tokens + rendered.response_tokens == len(rendered.ids)


def test_numbers_are_split_into_digits_before_all_else(smollm2, tokenizer):
    rendered = render(smollm2, [turns("user: x", "assistant: a\n\n12  3")])[0]
    start, end = rendered.spans[0]
    assert tokenizer.convert_ids_to_tokens(rendered.ids[start:end]) == ["a", "ĊĊ", "1", "2", "ĠĠ", "3", "<|im_end|>"]


def test_alpaca_is_the_published_prompt(smollm2, tokenizer):
    plain, with_input = render(
        smollm2,
        [turns("user: Sum up.", "assistant: Done."), turns("user: Sum up.\n\nA\n\nB", "assistant: Done.")],
        [None, json.dumps({"input": "A\n\nB"})],
        template="alpaca",
    )
    end = "\n\n### Response:Done.<|im_end|>"
    assert tokenizer.decode(plain.ids) == f"{BELOW}. {REQUEST}Sum up.{end}"
    assert tokenizer.decode(with_input.ids) == (
        f"{BELOW}, paired with an input that provides further context. {REQUEST}Sum up.\n\n### Input:\nA\n\nB{end}"
    )
    for rendered in plain, with_input:
        assert responses(tokenizer, rendered) == ["Done.<|im_end|>"]
        assert headers(tokenizer, rendered) == ["### Response:"]


def test_alpaca_with_a_system_turn_a_tool_and_more_turns(smollm2, tokenizer):
    conversation = turns(
        "system: Be kind.", "user: Q", "assistant: call", "tool: 7", "assistant: A", "user: R", "assistant: B"
    )
    rendered = render(smollm2, [conversation], template="alpaca")[0]
    assert tokenizer.decode(rendered.ids) == (
        "Be kind.\n\n### Instruction:\nQ\n\n### Response:call<|im_end|>\n\n### Input:\n7\n\n### Response:A<|im_end|>"
        "\n\n### Instruction:\nR\n\n### Response:B<|im_end|>"
    )
    assert responses(tokenizer, rendered) == ["call<|im_end|>", "A<|im_end|>", "B<|im_end|>"]


def test_alpaca_begins_with_the_bos_that_the_tokenizer_adds(tiny_model, tmp_path):
    from tokenizers import Tokenizer
    from tokenizers.processors import TemplateProcessing

    for path in tiny_model.iterdir():
        (tmp_path / path.name).symlink_to(path)
    tokenizer = Tokenizer.from_file(str(tiny_model / "tokenizer.json"))
    bos = ("<|endoftext|>", tokenizer.token_to_id("<|endoftext|>"))
    tokenizer.post_processor = TemplateProcessing(single="<|endoftext|> $A", special_tokens=[bos])
    (tmp_path / "tokenizer.json").unlink()
    tokenizer.save(str(tmp_path / "tokenizer.json"))
    whole = Weights(tiny_model, {})
    without = render(whole, [SINGLE], template="alpaca")[0]
    added = render(Weights(tmp_path, {}), [SINGLE], template="alpaca")[0]
    assert added.ids == (bos[1], *without.ids)
    assert added.spans == tuple((start + 1, end + 1) for start, end in without.spans)
    assert render(Weights(tmp_path, {}), [SINGLE])[0] == render(whole, [SINGLE])[0]  # a chat template writes its own


@pytest.mark.parametrize("answer", ["", " \n"])
def test_an_answer_without_text_has_no_response_token(smollm2, answer):
    rendered = render(smollm2, [[*SINGLE[:1], {"role": "assistant", "content": answer}]])[0]
    assert (rendered.spans, rendered.response_tokens, rendered.note) == ((), 0, None)
    assert rendered.prompt_tokens > 0


@pytest.mark.parametrize("conversation", SHORT[:2])
def test_cut_wherever_something_begins_or_ends(smollm2, conversation):
    full = render(smollm2, [conversation])[0]
    edges = {1, len(full.ids), *(edge for part in (*full.spans, *full.headers) for edge in part)}
    for length in sorted({edge + by for edge in edges for by in (-1, 0, 1)} - {0}):
        cut = render(smollm2, [conversation], max_length=length)[0]
        assert cut.ids == full.ids[:length]
        inside = {index for span in full.spans for index in range(*span) if index < length}
        assert {index for span in cut.spans for index in range(*span)} == inside
        assert len(cut.headers) == len(cut.spans)
        assert cut.truncated == (length < len(full.ids))
        assert (cut.prompt_tokens, cut.response_tokens) == (full.prompt_tokens, full.response_tokens)


def test_a_template_that_refuses_leaves_a_note(smollm2, tmp_path):
    for path in smollm2.directory.iterdir():
        (tmp_path / path.name).symlink_to(path)
    strict = "{% if messages[0].role == 'system' %}{{ raise_exception('no system turn') }}{% endif %}"
    (tmp_path / "chat_template.jinja").unlink()
    (tmp_path / "chat_template.jinja").write_text(strict + (smollm2.directory / "chat_template.jinja").read_text())
    refused, rendered = render(Weights(tmp_path, {}), [SHORT[1], SINGLE])
    assert "no system turn" in refused.note and refused.ids == () and refused.response_tokens is None
    assert rendered == render(smollm2, [SINGLE])[0]


def test_texts_are_tokenised_a_few_at_a_time(smollm2, tokenizer, monkeypatch):
    characters = []

    class Recording(PretokenCache):
        def encode(self, texts):
            characters.append(sum(map(len, texts)))
            return super().encode(texts)

    monkeypatch.setattr(rendering, "PretokenCache", Recording)
    monkeypatch.setattr(rendering, "ENCODED_AT_ONCE", 1000)
    few = rendering.Rendering(tokenizer, "chat", 2048).render(ROWS, [None] * len(ROWS))
    longest = max(len(tokenizer.apply_chat_template(row, tokenize=False)) for row in ROWS)
    assert len(characters) > 3 and max(characters) < 1000 + longest
    monkeypatch.undo()
    assert few == render(smollm2, ROWS)


def test_a_row_of_which_the_tokens_come_later_is_as_any_other(smollm2):
    first, other, *later = render(smollm2, [SINGLE, SINGLE[:-1], *[SINGLE] * 7])
    now = rendering.Rendered(**{each.name: getattr(first, each.name) for each in dataclasses.fields(first)})
    uses = (
        lambda row: row,
        lambda row: pickle.loads(pickle.dumps(row)),
        lambda row: dataclasses.replace(row, note=None),
        lambda row: rendering.Rendered(*dataclasses.astuple(row)),
        lambda row: {row: row}[now],
        lambda row: row if f"ids={now.ids}" in repr(row) else None,
        lambda row: row if row.ids is row.ids and type(row.ids) is tuple else None,
    )
    for row, use in zip(later, uses, strict=True):
        assert use(row) == now and row != other and not hasattr(row, "tokens")


def test_a_base_model_needs_a_named_template(tiny_model, tmp_path):
    for path in tiny_model.iterdir():
        if path.name != "chat_template.jinja":
            (tmp_path / path.name).symlink_to(path)
    with pytest.raises(UsageError, match="alpaca"):
        Renderer(Weights(tmp_path, {}), ProxySettings())
    assert render(Weights(tmp_path, {}), [SINGLE], template="alpaca")[0].spans


def test_no_more_tokens_than_the_model_has_positions(tiny_model):
    with pytest.raises(UsageError, match="4096"):
        Renderer(Weights(tiny_model, {}), ProxySettings(max_length=4097))


def test_the_identity_changes_with_what_the_tokens_depend_on(smollm2):
    settings = [{}, {"template": "alpaca"}, {"max_length": 7}]
    identities = [json.dumps(Renderer(smollm2, ProxySettings(**one)).identity()) for one in settings]
    assert len(set(identities)) == 3
    assert identities[0] == json.dumps(Renderer(smollm2, ProxySettings()).identity())
