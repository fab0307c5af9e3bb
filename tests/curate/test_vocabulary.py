"""A tokenizer with more tokens than the model has embeddings."""

import math

import pytest
from asking import nothing, run_passes
from curricle.curate.batch import Batch
from curricle.curate.passes import GENERATION, LOSS, RENDERING, UNCONDITIONAL_LOSS
from curricle.curate.proxy.backend import load
from curricle.curate.proxy.rendering import Renderer
from curricle.curate.proxy.settings import GenerationSettings, ProxySettings
from curricle.curate.proxy.weights import Weights
from curricle.schemas.chat.rendering import beyond
from proxy_examples import table, turns
from small_llama import TOKENS
from transformers import AutoTokenizer

ROWS = [
    turns("user: Name a river.", "assistant: The Po."),
    turns("user: Call it.", "assistant: <call>x"),
    turns("user: What does <call> say?", "assistant: Nothing."),
]
NOTE = f"token {TOKENS} is beyond the model's {TOKENS} embeddings"


@pytest.fixture(scope="module")
def added(tiny_model, tmp_path_factory):
    """The tokenizer got a token, and the model's embedding was not made larger."""
    directory = tmp_path_factory.mktemp("added")
    for path in tiny_model.iterdir():
        if "token" not in path.name:
            (directory / path.name).symlink_to(path)
    tokenizer = AutoTokenizer.from_pretrained(tiny_model)
    tokenizer.add_tokens(["<call>"])
    tokenizer.save_pretrained(directory)
    return Weights(directory, {})


def test_the_last_embedding_is_the_last_token():
    assert beyond([0, 7], 8) is None and beyond([], 8) is None
    assert beyond([8, 3], 8) == "token 8 is beyond the model's 8 embeddings"


def test_rows_with_an_unknown_token_are_null_and_the_others_are_what_they_were(added, tiny_model):
    settings = ProxySettings(template="chat")
    examples = table(ROWS)
    batch = run_passes(Batch(examples), Renderer(added, settings), RENDERING)
    scored = run_passes(batch, load(settings, added), LOSS, UNCONDITIONAL_LOSS)
    plain = Weights(tiny_model, {})
    reference = run_passes(Batch(examples), Renderer(plain, settings), RENDERING)
    expected = run_passes(reference, load(settings, plain), LOSS, UNCONDITIONAL_LOSS)
    for each in LOSS, UNCONDITIONAL_LOSS:
        got, want = each.of(scored), each.of(expected)
        assert got[0].sum == pytest.approx(want[0].sum, abs=1e-5)
        assert got[1].sum is None and got[1].note == NOTE
    assert LOSS.of(scored)[2].note == NOTE
    # without its prompt the third answer is readable, and is what it was
    assert UNCONDITIONAL_LOSS.of(scored)[2].sum == pytest.approx(UNCONDITIONAL_LOSS.of(expected)[2].sum, abs=1e-5)
    assert math.isfinite(LOSS.of(expected)[2].sum)


def test_a_prompt_with_an_unknown_token_is_not_answered(added):
    settings = ProxySettings(generation=GenerationSettings(max_new_tokens=8))
    examples = table(ROWS)
    batch = run_passes(Batch(examples), Renderer(added, settings), RENDERING)
    answers = GENERATION.ask(batch, load(settings, added), nothing)
    assert [answer.note == NOTE for answer in answers] == [False, False, True]
