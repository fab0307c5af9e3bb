"""The proxy's own answers: the same whatever they are drawn with, as likely as the model says, null with a reason."""

import random
from collections import Counter

import pytest
import torch
from asking import run_passes, with_answers
from curricle.curate.batch import Batch
from curricle.curate.metrics.generated import METRIC
from curricle.curate.passes import GENERATION, RENDERING
from curricle.curate.proxy.backend import load
from curricle.curate.proxy.rendering import Renderer
from curricle.curate.proxy.settings import GenerationSettings, ProxySettings
from curricle.curate.proxy.vllm_backend import longest_sequence
from curricle.curate.proxy.weights import Weights
from curricle.schemas.chat.generation import Draw, draw_seed, with_answer
from proxy_examples import ROWS, SHORT, SINGLE, table, turns
from transformers import GenerationConfig, LlamaConfig

TOKENS = 6
SOME = [*SHORT, *ROWS[-3:]]


@pytest.fixture(scope="module")
def tiny(tiny_model):
    return Weights(tiny_model, {})


@pytest.fixture(scope="module")
def backend(tiny):
    return load(ProxySettings(), tiny)


@pytest.fixture
def generated(tiny, backend, monkeypatch):
    def ask(conversations, order=None, passed=lambda tokens: None, max_length=2048, batch_tokens=2048, **settings):
        """The answers, in the order of the conversations, asked in another order."""
        order = order or list(range(len(conversations)))
        monkeypatch.setattr(backend, "batch_tokens", batch_tokens)
        monkeypatch.setattr(backend.speech, "settings", GenerationSettings(TOKENS, **settings))
        examples = table(conversations).take(order)
        batch = run_passes(Batch(examples), Renderer(tiny, ProxySettings(max_length=max_length)), RENDERING)
        result = GENERATION.ask(batch, backend, passed)
        return [answer for _, answer in sorted(zip(order, result, strict=True), key=lambda pair: pair[0])]

    return ask


@pytest.mark.parametrize("temperature", [0.0, 1.0])
def test_no_answer_depends_on_the_batch_or_the_order(generated, temperature):
    alone = generated(SOME, batch_tokens=1, temperature=temperature)
    order = random.Random(0).sample(range(len(SOME)), len(SOME))
    passed = []
    assert generated(SOME, order, passed.append, batch_tokens=150, temperature=temperature) == alone
    assert 1 < len(passed) < len(SOME)
    assert len({each.text for each in alone}) > len(SOME) // 2


def test_the_seed_and_the_example_decide(generated):
    one, other = (generated(SHORT, seed=seed) for seed in (0, 1))
    assert sum(a.text != b.text for a, b in zip(one, other, strict=True)) > len(SHORT) // 2
    assert draw_seed(0, "a") != draw_seed(0, "b") != draw_seed(1, "b")


def test_temperature_0_is_what_transformers_takes(generated, tiny, backend):
    rendered = Renderer(tiny, ProxySettings()).render(table(SHORT))
    options = GenerationConfig(max_new_tokens=TOKENS, do_sample=False, eos_token_id=2, pad_token_id=0)
    for row, answer in enumerate(generated(SHORT[:6], temperature=0.0)):
        ids = torch.tensor([rendered[row].ids[: rendered[row].spans[-1][0]]])
        result = backend.model.generate(ids, attention_mask=torch.ones_like(ids), generation_config=options)
        tokens = result[0, ids.shape[1] :]
        assert answer.tokens == len(tokens)
        assert answer.text == backend.speech.tokenizer.decode(tokens, skip_special_tokens=True)
        assert answer.note == (None if tokens[-1] == 2 else f"cut after {TOKENS} tokens")
        assert answer.truncated == (tokens[-1] != 2)


def test_tokens_are_drawn_as_often_as_the_distribution_says():
    logits = torch.tensor([2.0, 1.0, 0.0, -1.0, -torch.inf, 1.5])
    for temperature in (1.0, 0.5):
        draw = Draw(range(8000), temperature)
        for _ in range(2):  # each step of an answer has numbers of its own
            chosen = draw(None, logits.expand(8000, -1)).argmax(-1)
            expected = (logits / temperature).softmax(0)
            counts = torch.bincount(chosen, minlength=6)
            deviations = (counts - 8000 * expected).abs() / (8000 * expected * (1 - expected)).sqrt()
            assert deviations[expected > 0].max() < 4 and counts[4] == 0


def test_what_cannot_be_answered_is_null_and_says_why(generated):
    rows = [
        SINGLE,
        turns("user: Q"),
        turns("user: Q", "assistant:  "),
        turns("assistant: I speak first."),
        turns("user: " + "long " * 100, "assistant: A"),
        turns("user: Q", "assistant: A", "user: " + "long " * 100, "assistant: A"),
    ]
    result = generated(rows, max_length=60)
    assert result[0].text and result[0].tokens
    notes = ["there is no response"] * 2 + ["nothing comes before the response"]
    notes += ["the prompt fills the maximum length of 60 tokens"] * 2
    assert [(each.text, each.tokens, each.note) for each in result[1:]] == [(None, None, note) for note in notes]
    scores = METRIC.compute(with_answers(Batch(table(rows)), {GENERATION: result}))
    assert [scores.columns[name].null_count for name in ("generated", "generated_tokens", "generated_truncated")] == [
        5
    ] * 3
    assert scores.notes[1] == ["generated: there is no response"]


def test_the_last_response_is_the_one_that_is_answered(generated):
    first, both = turns("user: Q", "assistant: A"), turns("user: Q", "assistant: A", "user: R", "assistant: B")
    result = generated([first, turns("user: Q", "assistant: other"), both, both[:-1]], temperature=0.0)
    assert result[0] == result[1] == result[3] != result[2]
    assert with_answer([*both, {"role": "user", "content": "after"}], "mine") == [*both[:-1], *turns("assistant: mine")]


def test_logits_that_are_not_numbers_are_null_with_a_note(generated, backend, monkeypatch):
    roomy = backend.model.forward

    def broken(*arguments, **options):
        result = roomy(*arguments, **options)
        result.logits[1] = torch.nan
        return result

    monkeypatch.setattr(backend.model, "forward", broken)
    fine, bad = generated([turns("user: " + "long " * 20, "assistant: A"), SINGLE])
    assert fine.text and bad.text is None and bad.note == "the model's logits are not numbers"


def test_a_prompt_without_room_for_an_answer_is_null(generated, backend, monkeypatch):
    monkeypatch.setattr(backend.model.config, "max_position_embeddings", 80)
    fine, full = generated([SINGLE, turns("user: " + "long " * 50, "assistant: A")])
    assert fine.text and full.text is None and full.note.endswith(f"tokens the model cannot read {TOKENS} more")


def test_what_does_not_fit_into_memory_is_tried_in_halves(generated, backend, monkeypatch):
    expected, sizes, roomy = generated(SOME), [], backend._drawn

    def cramped(batch):
        sizes.append((len(batch), len(batch[0].ids)))
        if len(batch) > 4 or sizes[-1][1] == sizes[0][1]:  # the longest
            raise torch.OutOfMemoryError
        return roomy(batch)

    monkeypatch.setattr(backend, "_drawn", cramped)
    result = generated(SOME)
    notes = Counter(each.note for each in result if each.text is None)
    assert sum(notes.values()) == 1 and next(iter(notes)).startswith("out of memory for ")
    assert sizes[0][0] > 4
    assert all(b.text is None or a == b for a, b in zip(expected, result, strict=True))


@pytest.mark.parametrize(
    ("positions", "longest"),
    [
        (4096, 1900 + 1 + 256),
        (2048, 2048),  # a longer answer is refused by row, not by the engine
        (1024, 1900 + 2),  # the scored token needs no position, and vLLM itself refuses what the model cannot read
    ],
)
def test_the_engine_has_room_for_answers_as_far_as_the_model_has(positions, longest):
    settings = ProxySettings(max_length=1900, generation=GenerationSettings(max_new_tokens=256))
    assert longest_sequence(settings, LlamaConfig(max_position_embeddings=positions)) == longest
