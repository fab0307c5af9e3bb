"""The responses in a template's text: by values, by construction, and as they were found before."""

import copy
import hashlib
import json

import chat_templates
import drawn
import pytest
from curricle.schemas.chat.rendering import IDENTITY, Rendering
from curricle.schemas.chat.responses import ChatTemplate, NotRendered
from curricle.schemas.common.errors import UsageError
from hypothesis import given, settings
from hypothesis import strategies as st
from proxy_examples import ROWS, turns

ROUNDS = turns("user: Hi", "assistant: Hello", "user: And now?", "assistant: Noon.")


@pytest.fixture
def of(tokenizer):
    """``of(template)``: a tokenizer with this chat template."""

    def make(template):
        result = copy.copy(tokenizer)
        result.chat_template = template
        return result

    return make


def read(tokenizer, conversation):
    """Text, and of each response that is found its header, itself, and what ends its turn."""
    result = ChatTemplate(tokenizer, "chat").read(conversation)
    text = result.text
    parts = [
        (text[each.header : each.start], text[each.start : each.content_end], text[each.content_end : each.end])
        for each in result.responses
    ]
    return text, parts, result.note


@pytest.mark.parametrize(
    ("template", "digest"),
    [
        (chat_templates.CHATML, "d62ba12a2d0f3d4c"),
        (chat_templates.TRIMS, "cdb2658025391f9a"),
        (chat_templates.FOLDS_THE_SYSTEM_TURN, "9aa228d09a70cf5c"),
        (None, "aa5244d40dac57f6"),
        ("alpaca", "389bd27123d45ab1"),
    ],
)
def test_ordinary_templates_give_the_tokens_that_they_gave(of, tokenizer, template, digest):
    """Digests of what the second version of the rendering gave, which compared rendered prefixes."""
    name = "alpaca" if template == "alpaca" else "chat"
    result = tokenizer if template in (None, "alpaca") else of(template)
    rendered = [
        [
            list(row.ids),
            list(map(list, row.spans)),
            list(map(list, row.headers)),
            row.prompt_tokens,
            row.response_tokens,
            row.truncated,
        ]
        for row in Rendering(result, name, 2048).render(ROWS, [None] * len(ROWS))
    ]
    assert hashlib.blake2b(json.dumps(rendered).encode(), digest_size=8).hexdigest() == digest


@pytest.mark.parametrize(
    ("template", "parts"),
    [
        ("CHATML", [("<|im_start|>assistant\n", "{}", "<|im_end|>")] * 2),
        ("TRIMS", [("<|head|>assistant<|/head|>\n\n", "{}", "<|eot|>")] * 2),
        ("FOLDS_THE_SYSTEM_TURN", [("<|turn|>model\n", "{}", "<|/turn|>")] * 2),
        ("BRACKETS", [(" ", "{}", "<|end|>")] * 2),
        (
            "ENDS_THE_TEXT",
            [("<|head|>assistant\n", "{}", "<|end|>"), ("<|head|>assistant\n", "{}", "<|end|>\n<|endoftext|>")],
        ),
        (
            "KEEPS_THE_LAST_THOUGHT",
            [
                ("<|im_start|>assistant\n", "{}", "<|im_end|>"),
                ("<|im_start|>assistant\n<think>\n\n</think>\n\n", "{}", "<|im_end|>"),
            ],
        ),
        ("OPENS_A_THOUGHT", [("<|head|>", "{}", "<|end|>")] * 2),
        (
            "RETURNS",
            [
                ("<|head|>assistant<|turn|>final<|/head|>", "{}", "<|end|>"),
                ("<|head|>assistant<|turn|>final<|/head|>", "{}", "<|return|>"),
            ],
        ),
        ("ALWAYS_OPENS", [("<|head|>assistant<|/head|>\n\n", "{}", "<|eot|>")] * 2),
        ("DATED", [("<|head|>assistant<|/head|>\n\n", "{}", "<|eot|>")] * 2),
    ],
)
def test_an_answer_is_what_was_said_and_the_end_of_its_turn(of, template, parts):
    _, result, note = read(of(getattr(chat_templates, template)), ROUNDS)
    content = [turn["content"] for turn in ROUNDS if turn["role"] == "assistant"]
    assert result == [(header, text, end) for (header, _, end), text in zip(parts, content, strict=True)]
    assert note is None


@pytest.mark.parametrize(
    "content",
    [
        "<think>\nTwelve?\n</think>\n\nNoon.",
        "<think>Twelve?</think>Noon.",  # the template puts line breaks in
        "<think>\n\n</think>\n\nNoon.",  # what the template would have put itself
        "<think>\nHello\n</think>\n\nHello\n",
    ],
)
def test_a_thought_that_is_in_the_answer_is_part_of_it(of, content):
    tokenizer = of(chat_templates.KEEPS_THE_LAST_THOUGHT)
    conversation = [*ROUNDS[:3], {"role": "assistant", "content": content}]
    _, (_, last), note = read(tokenizer, conversation)
    assert last[0] == "<|im_start|>assistant\n" and "".join(last[1].split()) == "".join(content.split())
    assert last[2] == "<|im_end|>" and note is None


def test_an_answer_that_is_altered_is_context_and_the_others_are_scored(of):
    thinking = turns("user: Hi", "assistant: <think>\nA guest.\n</think>\n\nHello", "user: Now?", "assistant: Noon.")
    text, result, note = read(of(chat_templates.KEEPS_THE_LAST_THOUGHT), thinking)
    assert "A guest." not in text and [content for _, content, _ in result] == ["Noon."]
    assert note == "1 of 2 answers are context: the chat template leaves out or alters them"
    last = [*ROUNDS[:3], thinking[1]]
    _, result, note = read(of(chat_templates.OPENS_A_THOUGHT), last)
    assert [content for _, content, _ in result] == ["Hello"] and "1 of 2" in note
    with pytest.raises(NotRendered, match="every answer"):
        read(of(chat_templates.OPENS_A_THOUGHT), thinking[:2])
    (rendered,) = Rendering(of(chat_templates.KEEPS_THE_LAST_THOUGHT), "chat", 2048).render([thinking], [None])
    assert (
        rendered.answers == (1,)
        and len(rendered.spans) == 1
        and rendered.remark == ("1 of 2 answers are context: the chat template leaves out or alters them")
    )


def test_a_dropped_answer_is_not_found_in_a_question_with_the_same_words(of):
    """The template leaves out answers of one word, but not a sentinel."""
    template = (
        "{% for m in messages %}{% if m.role == 'user' or m.content != 'yes' %}"
        "{{ '<|head|>' + m.role + '\n' + m.content + '<|end|>' }}{% endif %}{% endfor %}"
        "{% if add_generation_prompt %}{{ '<|head|>assistant\n' }}{% endif %}"
    )
    conversation = turns("user: Well?", "assistant: It is.", "user: yes", "assistant: yes")
    _, result, note = read(of(template), conversation)
    assert [content for _, content, _ in result] == ["It is."] and "1 of 2" in note


def test_white_space_that_a_template_keeps_is_part_of_what_was_said(of):
    conversation = turns("user: Q", "assistant:  \n a \n", "user: R", "assistant: b\t")
    assert [content for _, content, _ in read(of(chat_templates.CHATML), conversation)[1]] == [" \n a \n", "b\t"]
    assert [content for _, content, _ in read(of(chat_templates.TRIMS), conversation)[1]] == ["a", "b"]
    # the last answer alone loses its line breaks here, so that every answer is looked at by itself
    rest = turns("user: Q", "assistant: \na", "user: R", "assistant: \n b ")
    assert [content for _, content, _ in read(of(chat_templates.KEEPS_THE_LAST_THOUGHT), rest)[1]] == ["\na", " b "]


MARKS = [
    "<a>",
    "</a>",
    "\n",
    " ",
    "assistant",
    "\ue000",
    "\ue001",
    "</think>",
    "<|im_end|>",
    "x",
    "y",
    "",
]
TRIMS = {"{}": str, "{}.strip()": str.strip, "{}.lstrip()": str.lstrip, "{}.rstrip()": str.rstrip}
texts_with_marks = st.lists(st.sampled_from(MARKS), max_size=5).map("".join)
markup_texts = st.lists(st.sampled_from([mark for mark in MARKS if mark < "\ue000"]), max_size=3).map("".join)


@settings(max_examples=drawn.amount(100, 5_000))
@given(
    st.lists(st.tuples(texts_with_marks, texts_with_marks), min_size=1, max_size=4),
    st.tuples(markup_texts, markup_texts, markup_texts, markup_texts),
    st.sampled_from(sorted(TRIMS)),
    st.sampled_from(["", "<think>\n\n</think>\n\n"]),
    st.booleans(),
)
def test_answers_are_found_where_a_template_of_known_parts_puts_them(tokenizer, rounds, markup, trim, thought, drops):
    """Contents that repeat the markup, the sentinels and each other, through templates whose text is known."""
    asks, question_end, opens, closes = markup
    content = trim.format("m.content") if not drops else f"(m.content.split('</think>') | last){trim[2:]}"
    product = copy.copy(tokenizer)
    product.chat_template = (
        "{% for m in messages %}{% if m.role == 'user' %}{{ "
        + repr(asks)
        + " + m.content + "
        + repr(question_end)
        + " }}"
        "{% else %}{{ " + repr(opens) + " + (" + repr(thought) + " if loop.last else '') }}"
        "{{ " + content + " + " + repr(closes) + " }}{% endif %}{% endfor %}"
    )
    conversation, text, expected = [], "", {}
    for number, (question, answer) in enumerate(rounds):
        conversation += [{"role": "user", "content": question}, {"role": "assistant", "content": answer}]
        text += asks + question + question_end + opens + (thought if number == len(rounds) - 1 else "")
        rest = answer.split("</think>")[-1] if drops else answer
        rest = TRIMS[trim](rest)
        if rest.strip() == answer.strip():
            expected[number] = (len(text), len(text) + len(rest))
        text += rest + closes
    try:
        result = ChatTemplate(product, "chat").read(conversation)
    except NotRendered:
        assert not any(rounds[number][1].strip() for number in expected)
        assert any(answer.strip() for _, answer in rounds)
        return
    assert result.text == text
    spans = {each.number: (each.start, each.content_end) for each in result.responses}
    # an answer that lost its beginning may stand whole in the text after all, by what the template puts before it
    assert {number: span for number, span in spans.items() if number in expected} == expected
    for number in spans.keys() - expected.keys():
        start, end = spans[number]
        assert "".join(text[start:end].split()) == "".join(rounds[number][1].split())


class Counting:
    """A tokenizer that counts renderings."""

    def __init__(self, inner):
        self.inner, self.renderings = inner, 0

    def __getattr__(self, name):
        return getattr(self.inner, name)

    def apply_chat_template(self, *arguments, **options):
        self.renderings += 1
        return self.inner.apply_chat_template(*arguments, **options)


SYSTEM, TOOL = turns("system: Be brief.", "tool: 12:00")
ALL = "{{ '<|head|>' + m.role + '\n' + m.content + '<|end|>' }}"


@pytest.mark.parametrize(
    ("template", "conversation", "note"),
    [
        ("{% for m in messages if m.role != 'system' %}" + ALL + "{% endfor %}", [SYSTEM, *ROUNDS], "1 of 3 (system)"),
        (
            "{% for m in messages if m.role in ('user', 'assistant') %}" + ALL + "{% endfor %}",
            [SYSTEM, *ROUNDS[:3], TOOL, ROUNDS[3]],
            "2 of 4 (system, tool)",
        ),
        ("{% for m in messages[-2:] %}" + ALL + "{% endfor %}", [SYSTEM, *ROUNDS], "2 of 3 (system, user)"),
        # by what a turn says: the sentinel is shown and the words are not, or the other way round
        (
            "{% for m in messages if 'brief' not in m.content %}" + ALL + "{% endfor %}",
            [SYSTEM, *ROUNDS],
            "1 of 3 (system)",
        ),
        (
            "{% for m in messages if m.role != 'system' or m.content | length > 4 %}" + ALL + "{% endfor %}",
            [SYSTEM, *ROUNDS],
            None,
        ),
        # cut
        (
            "{% for m in messages %}" + ALL.replace("m.content", "m.content[:20]") + "{% endfor %}",
            turns(f"system: {'Be brief. ' * 4}", "user: Hi", "assistant: Hello"),
            "1 of 2 (system)",
        ),
        # left out, and its words stand elsewhere
        (
            "{% for m in messages if m.role != 'system' %}" + ALL + "{% endfor %}",
            turns("system: Hi", "user: Hi", "assistant: Hello"),
            "1 of 2 (system)",
        ),
        # put in other words, elsewhere, or after the last answer
        (
            "{% for m in messages %}" + ALL.replace("m.content", "m.content | tojson") + "{% endfor %}",
            [SYSTEM, TOOL, *ROUNDS],
            None,
        ),
        (
            "{% for m in messages %}" + ALL.replace("m.content", "m.content | upper") + "{% endfor %}",
            turns("user: hi", "assistant: A"),
            None,
        ),
        ("{% for m in messages | reverse if m.role != 'tool' %}" + ALL + "{% endfor %}", [*ROUNDS[:2], TOOL], None),
        # a template that refuses what is not a number
        (
            "{% for m in messages %}{% if m.role == 'tool' and not m.content[0].isdigit() %}{{ raise_exception('no') }}"
            "{% endif %}" + ALL + "{% endfor %}",
            [*ROUNDS[:3], TOOL, ROUNDS[3]],
            None,
        ),
    ],
)
def test_turns_of_the_prompt_that_a_template_leaves_out_are_named(of, template, conversation, note):
    result = ChatTemplate(of(template), "chat").read(conversation).note
    of_prompt = [part for part in (result or "").split("; ") if "of the prompt" in part]
    content = note and note.replace(" (", " turns of the prompt (")
    assert of_prompt == ([f"the chat template leaves out or alters {content}"] if note else [])


def test_a_left_out_turn_is_a_remark_and_the_answer_is_scored(of):
    template = "{% for m in messages if m.role != 'system' %}" + ALL + "{% endfor %}"
    with_, without = Rendering(of(template), "chat", 2048).render([[SYSTEM, *ROUNDS], ROUNDS], [None, None])
    assert (with_.ids, with_.spans, with_.note) == (without.ids, without.spans, None) and without.remark is None
    assert with_.remark == "the chat template leaves out or alters 1 of 3 turns of the prompt (system)"


def test_renderings_of_a_prompt_are_bounded(of):
    """Tools' results that stand in the text whole, with an end that the template takes for its own."""
    template = (
        "{% for m in messages %}{% if m.role != 'tool' %}"
        + ALL
        + "{% else %}{{ m.content[:8] }}{% endif %}{% endfor %}"
    )
    counting = Counting(of(template))
    chat = ChatTemplate(counting, "chat")
    results = turns(*(f"tool: {n:08}" for n in range(500)))
    note = chat.read([*ROUNDS[:1], *results, ROUNDS[1]]).note
    assert counting.renderings < 100
    assert note.startswith("the chat template leaves out or alters 0 of 501 turns of the prompt, and perhaps some of ")


def test_three_renderings_for_a_conversation_of_any_length(of):
    counting = Counting(of(chat_templates.KEEPS_THE_LAST_THOUGHT))
    template = ChatTemplate(counting, "chat")
    template.read(ROUNDS)
    for conversation in ROUNDS[:2], ROUNDS * 600:
        before = counting.renderings
        assert len(template.read(conversation).responses) == len(conversation) // 2
        assert counting.renderings == before + 3


def test_many_turns_that_are_altered_are_refused(of):
    altered = turns("user: Hi", "assistant: <think>\nA guest.\n</think>\n\nHello")
    template = ChatTemplate(of(chat_templates.KEEPS_THE_LAST_THOUGHT), "chat")
    assert len(template.read(altered * 3).responses) == 1
    with pytest.raises(NotRendered, match="more than 1000 turns"):
        template.read(altered * 501)


def test_the_clock_stands_still(of):
    text, _, _ = read(of(chat_templates.DATED), ROUNDS)
    assert "Today Date: 26 Jul 2024" in text and IDENTITY["date"] == "2024-07-26"
    assert "Today is 2024-07-26" in read(of(chat_templates.RETURNS), ROUNDS)[0]


@pytest.mark.parametrize("draw", ["{{ lipsum(1) }}", "{{ [1, 2] | random }}", "{{ [[1, 2]] | map('random') | first }}"])
def test_a_template_that_draws_lots_is_refused(of, draw):
    with pytest.raises(UsageError, match="random"):
        ChatTemplate(of(chat_templates.CHATML + draw), "chat")


@pytest.mark.parametrize(
    ("conversation", "note"),
    [
        (None, "no conversation"),
        ([], "no conversation"),
        ([None], "a turn"),
        ([{"role": "user", "content": None}], "a turn"),
    ],
)
def test_a_null_in_a_conversation_is_a_note(tokenizer, conversation, note):
    null, fine = Rendering(tokenizer, "chat", 2048).render([conversation, ROUNDS], [None, "no JSON"])
    assert note in null.note and null.ids == () and len(fine.spans) == 2


def test_every_published_conversation_has_all_its_answers_with_a_thinking_template(of, shared_data):
    written = json.loads((shared_data / "formats" / "fastchat_dummy_conversation.json").read_text())
    roles = {"human": "user", "gpt": "assistant"}
    conversations = [
        [{"role": roles[turn["from"]], "content": turn["value"]} for turn in row["conversations"]] for row in written
    ]
    rendering = Rendering(of(chat_templates.KEEPS_THE_LAST_THOUGHT), "chat", 2048)
    rendered = rendering.render(conversations, [None] * len(conversations))
    assert len(rendered) == 500 and not any(row.note or row.remark for row in rendered)
    for conversation, row in zip(conversations, rendered, strict=True):
        assert len(row.spans) == sum(turn["role"] == "assistant" for turn in conversation)
