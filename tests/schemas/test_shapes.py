"""A template that was run once for a shape gives of every conversation what it gives of that alone."""

import copy

import chat_templates
import pytest
from curricle.schemas.chat import responses
from curricle.schemas.chat.responses import ChatTemplate, NotRendered
from hypothesis import given
from hypothesis import strategies as st
from proxy_examples import turns

ASSISTANT = "{% if m.role == 'assistant' %}<a>{{ m.content }}</a>{% else %}"
TEMPLATES = {
    **{name: getattr(chat_templates, name) for name in vars(chat_templates) if name.isupper() and name != "SPECIAL"},
    # Llama 3: what is trimmed is set first
    "SETS": "{% for m in messages %}"
    "{% set content = '<|head|>' + m['role'] + '\n\n' + m['content'] | trim + '<|eot|>' %}"
    "{% if loop.index0 == 0 %}{% set content = '<|begin|>' + content %}{% endif %}{{ content }}{% endfor %}",
    # Mistral and Gemma: roles have to alternate, and what is text is asked
    "ALTERNATES": "{{ '<|begin|>' }}{% for m in messages %}{% if (m.role == 'user') != (loop.index0 % 2 == 0) %}"
    "{{ raise_exception('roles must alternate') }}{% endif %}{% if m.content is string and m.content is not none %}"
    "{{ '<|turn|>' + m.role + '\n' + m.content.strip() + '<|/turn|>\n' }}{% endif %}{% endfor %}",
    "TRIMS_THE_LEFT": "{% for m in messages %}" + ASSISTANT.replace("m.content", "m.content.lstrip()")
    + "{{ m.content }}{% endif %}{% endfor %}",
    "TRIMS_THE_RIGHT": "{% for m in messages %}" + ASSISTANT.replace("m.content", "m.content.rstrip()")
    + " {{ m.content }}{% endif %}{% endfor %}",
    "TRIMS_THE_LAST": "{% for m in messages %}{{ ' ' + (m.content | trim if loop.last else m.content) }}{% endfor %}",
    "ASKS_WHETHER_EMPTY": "{% for m in messages %}{% if m.content %}{{ m.role + m.content }}{% else %}-{% endif %}"
    "{% endfor %}",
    "TWICE": "{% for m in messages %}{{ m.content }}{{ m.content }}{% endfor %}",
    "QUESTIONS_TWICE": "{% for m in messages %}" + ASSISTANT + "{{ m.content + m.content }}{% endif %}{% endfor %}",
    "TURNED_ROUND": "{% for m in messages | reverse %}{{ '<a>' + m.content + '</a>' }}{% endfor %}",
    "NO_SYSTEM_TURN": "{% for m in messages if m.role != 'system' %}" + ASSISTANT
    + "{{ m.content }}{% endif %}{% endfor %}",
    "INPUTS": "{% for m in messages %}{{ m.content }}{% if m.input %}{{ m.input }}{% endif %}{{ '\n' }}{% endfor %}",
}  # fmt: skip
PROVED = set(TEMPLATES) - {
    "KEEPS_THE_LAST_THOUGHT", "OPENS_A_THOUGHT", "TWICE", "TURNED_ROUND", "NO_SYSTEM_TURN"
}  # fmt: skip
ROUNDS = turns("user: Hi", "assistant: Hello", "user: Now?", "assistant: Noon.")


class Counting:
    """A tokenizer with another template that counts renderings."""

    def __init__(self, inner, template):
        self.inner, self.renderings = copy.copy(inner), 0
        self.inner.chat_template = template

    def __getattr__(self, name):
        return getattr(self.inner, name)

    def apply_chat_template(self, *arguments, **options):
        self.renderings += 1
        return self.inner.apply_chat_template(*arguments, **options)


class Slow(ChatTemplate):
    def _by_shape(self, conversation):
        return None


def read(template, conversation, context=()):
    try:
        return template.read(conversation, context)
    except NotRendered as refused:
        return str(refused)


@pytest.fixture(scope="module")
def pairs(tokenizer):
    """By the name of a template: the one that proves and the one that does not."""
    templates = {
        name: [kind(Counting(tokenizer, TEMPLATES[name]), "chat") for kind in (ChatTemplate, Slow)]
        for name in TEMPLATES
    }
    named = {name: [kind(tokenizer, name) for kind in (ChatTemplate, Slow)] for name in ("chat", "alpaca", "plain")}
    return templates | named


CONTENTS = [
    "",
    " ",
    "\n",
    "a",
    " a",
    "a ",
    " a\n",
    "b",
    "a\n\nb",
    "</a>",
    "<a>",
    "<|im_end|>",
    "\ue000",
    "\ue001\u3000",
]
CONTENTS += ["{{ m }}", "<think>\nx\n</think>\n\ny", "assistant", "\x1c", "-", "é"]
roles = st.sampled_from(["user", "assistant", "assistant", "user", "system", "tool", "\n", "model"])
conversations = st.one_of(
    st.lists(st.fixed_dictionaries({"role": roles, "content": st.sampled_from(CONTENTS)}), min_size=1, max_size=6),
    st.lists(st.tuples(st.sampled_from(CONTENTS[3:]), st.sampled_from(CONTENTS[3:])), min_size=1, max_size=3).map(
        lambda rounds: [
            {"role": role, "content": content}
            for each in rounds
            for role, content in zip(("user", "assistant"), each, strict=True)
        ]
    ),
    st.fixed_dictionaries(
        {"role": st.just("user"), "content": st.sampled_from(CONTENTS), "input": st.sampled_from(CONTENTS)}
    ).map(lambda turn: [turn, {"role": "assistant", "content": "A"}]),
)


@pytest.mark.parametrize("name", [*TEMPLATES, "chat", "alpaca", "plain"])
@given(conversations, st.sets(st.integers(0, 5), max_size=2))
def test_a_shape_gives_what_the_template_gives(pairs, name, conversation, context):
    quick, slow = pairs[name]
    for some in ((), context):
        assert read(quick, conversation, some) == read(slow, conversation, some)


@pytest.mark.parametrize("name", list(TEMPLATES))
def test_which_templates_are_run_once_for_a_shape(tokenizer, name):
    counting = Counting(tokenizer, TEMPLATES[name])
    template = ChatTemplate(counting, "chat")
    conversation = turns("system: S", *[f"{turn['role']}: {turn['content']}" for turn in ROUNDS])
    conversation = ROUNDS if name == "ALTERNATES" else conversation
    read(template, conversation)
    before = counting.renderings
    for number in range(5):
        read(template, [{**turn, "content": f"{turn['content']} {number}"} for turn in conversation])
    assert (counting.renderings == before) == (name in PROVED)


LOOKS = {
    "{{ m.content | length }}", "{% if 'x' in m.content %}-{% endif %}", "{% if m.content == 'x' %}-{% endif %}",
    "{% if m.content != 'x' %}-{% endif %}", "{% if m.content < 'x' %}-{% endif %}", "{{ m.content[:20] }}",
    "{{ m.content[0] }}", "{{ m.content | upper }}", "{{ m.content ~ 'x' }}", "{{ m.content | tojson }}",
    "{{ m | tojson }}", "{{ m.content | int }}", "{{ m.content | int(0, 16) }}", "{{ m.content | float }}",
    "{{ m.content | round }}", "{{ m.content.startswith('x') }}", "{{ m.content.split('x') | last }}",
    "{{ [m.content] | join }}", "{{ ''.join([m.content]) }}", "{{ m.content | replace('x', 'y') }}",
    "{{ m.content | string | length }}", "{{ m.content.strip('x') }}", "{{ m.content | trim('x') }}",
    "{{ ('x' + m.content) | trim }}", "{{ '%s' % m.content }}", "{{ '%s' | format(m.content) }}",
    "{{ '{}'.format(m.content) }}", "{{ m.content | first }}", "{{ m.content | last }}", "{{ m.content | list }}",
    "{{ m.content | reverse }}", "{{ m.content | e }}", "{{ m.content | safe }}", "{{ m.content | wordcount }}",
    "{{ m.content | indent }}", "{{ m.content | default('x') | title }}", "{{ {m.content: 1} }}", "{{ [m.content] }}",
    "{{ [1, 2][m.content] }}", "{{ {'x': 1}[m.content] }}", "{{ messages[m.content] }}", "{{ m.content.x }}",
    "{% if m.content is sequence %}-{% endif %}", "{% if m.content is iterable %}-{% endif %}",
    "{% if m.content is in ['x'] %}-{% endif %}", "{% if m.content in 'x' %}-{% endif %}",
    "{% if loop.changed(m.content) %}-{% endif %}", "{{ messages | map(attribute='content') | unique | list }}",
    "{{ messages | sort(attribute='content') | length }}", "{{ messages | groupby('content') | length }}",
    "{{ messages | selectattr('content', 'equalto', 'x') | list }}", "{% for c in m.content %}-{% endfor %}",
    "{% set x %}{{ m.content }}{% endset %}{% if x | length > 3 %}-{% endif %}",
    "{% filter upper %}{{ m.content }}{% endfilter %}", "{% generation %}{{ m.content }}{% endgeneration %}",
    "{% macro f(x) %}{{ x }}{% endmacro %}{{ f(m.content) | length }}", "{{ m.content * 2 }}", "{{ -m.content }}",
    "{% call(x) f() %}{% endcall %}", "{{ m.content.isdigit() }}", "{{ m.content | urlencode }}",
    "{{ m.content | attr('upper') }}", "{{ range(m.content) }}", "{{ strftime_now(m.content) }}",
    "{{ raise_exception(m.content) }}", "{{ m.content + 1 }}", "{{ m.content + x }}", "{{ m.content() }}",
    "{% if m.content is sameas messages[0].content %}-{% endif %}",
    "{{ messages | selectattr('content', 'sameas', messages[0].content) | list | length }}",
}  # fmt: skip


@pytest.mark.parametrize("look", sorted(LOOKS))
def test_a_template_that_looks_at_what_is_said_is_asked_each_time(tokenizer, look):
    """The negative control: it writes every content as well, and only the look keeps it from being proved."""
    template = "{% for m in messages %}{{ '<a>' + m.content + '</a>' }}LOOK{% endfor %}"
    assert ChatTemplate(Counting(tokenizer, template.replace("LOOK", "")), "chat")._prover.prove(ROUNDS)
    assert not ChatTemplate(Counting(tokenizer, template.replace("LOOK", look)), "chat")._prover.prove(ROUNDS)


@pytest.mark.parametrize("broken", ["{% do x %}", "{{ x | nosuch }}", "{% if %}", {"tool_use": "-"}])
def test_a_template_that_cannot_be_compiled_refuses_each_conversation(tokenizer, broken):
    counting = Counting(tokenizer, broken)
    refused = [read(kind(counting, "chat"), ROUNDS) for kind in (ChatTemplate, Slow)]
    assert refused[0] == refused[1] and refused[0].startswith("the chat template refused the conversation")


def test_proofs_are_bounded(tokenizer, monkeypatch):
    monkeypatch.setattr(responses, "MOST_SHAPES", 3)
    template = ChatTemplate(tokenizer, "chat")
    slow = Slow(tokenizer, "chat")
    for count in range(1, 8):
        assert template.read(ROUNDS[:2] * count) == slow.read(ROUNDS[:2] * count)
    assert len(template._shapes) == 3
    assert template.read(ROUNDS[:2] * responses.LARGEST_SHAPE).responses
    assert len(template._shapes) == 3
