"""A tokenizer with more tokens than the model has embeddings."""

import math

import pytest
from curricle.curate.batch import Batch
from curricle.curate.proxy.backend import load
from curricle.curate.proxy.generation import generate_batch
from curricle.curate.proxy.rendering import Renderer
from curricle.curate.proxy.scoring import score_batch
from curricle.curate.proxy.settings import ProxySettings
from curricle.curate.proxy.weights import Weights
from curricle.schemas.chat.rendering import beyond
from proxy_examples import table, turns
from transformers import AutoTokenizer

ROWS = [
    turns("user: Name a river.", "assistant: The Po."),
    turns("user: Call it.", "assistant: <call>x"),
    turns("user: What does <call> say?", "assistant: Nothing."),
]
NOTE = "token 49152 is beyond the model's 49152 embeddings"


def nothing(_):
    pass


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
    batch = Batch(examples, Renderer(added, settings).render(examples))
    scored = score_batch(batch, load(settings, added), True, nothing)
    plain = Weights(tiny_model, {})
    known = Batch(examples, Renderer(plain, settings).render(examples))
    expected = score_batch(known, load(settings, plain), True, nothing)
    for got, want in ((scored.conditional, expected.conditional), (scored.unconditional, expected.unconditional)):
        assert got[0].sum == pytest.approx(want[0].sum, abs=1e-5)
        assert got[1].sum is None and got[1].note == NOTE
    assert scored.conditional[2].note == NOTE
    # without its prompt the third answer is readable, and is what it was
    assert scored.unconditional[2].sum == pytest.approx(expected.unconditional[2].sum, abs=1e-5)
    assert math.isfinite(expected.conditional[2].sum)


def test_a_prompt_with_an_unknown_token_is_not_answered(added):
    settings = ProxySettings()
    examples = table(ROWS)
    batch = Batch(examples, Renderer(added, settings).render(examples))
    answers = generate_batch(batch, load(settings, added), nothing).generated
    assert [answer.note == NOTE for answer in answers] == [False, False, True]
