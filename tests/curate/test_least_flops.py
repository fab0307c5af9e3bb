"""What a dry run holds to be the least of a model's operations, beside those that torch counts in a job."""

import pytest
from asking import run_passes
from curricle.curate.batch import Batch
from curricle.curate.passes import LOSS, RENDERING, UNCONDITIONAL_LOSS
from curricle.curate.passes.loss import LikelihoodPass
from curricle.curate.passes.models import Models
from curricle.curate.passes.preference import REJECTED_LOSS
from curricle.curate.proxy.backend import load
from curricle.curate.proxy.rendering import Renderer
from curricle.curate.proxy.settings import ProxySettings
from curricle.curate.proxy.weights import resolve
from curricle.schemas.chat.models import Matrices, matrices
from proxy_examples import ROWS, table, turns
from small_llama import CONFIG, TOKENS, write_small_llama
from torch.utils.flop_counter import FlopCounterMode
from transformers import AutoTokenizer, GPT2Config, GPT2LMHeadModel, MixtralConfig, MixtralForCausalLM

PASSES = (LOSS, UNCONDITIONAL_LOSS)
LONG = "Say what the word means that stands at the end of this long prompt, in a few words. " * 6
ALIKE = [turns(f"user: {LONG}", f"assistant: It means {what}.") for what in ("red", "red wine", "red", "a wall")]
LABELS = [turns(f"user: Is {n} even?", f"assistant: {('Yes', 'No')[n % 2]}, it is") for n in range(20)]


def job(model, conversations):
    """The batch, rendered, with the models that score it."""
    models = Models(ProxySettings(model=str(model)))
    weights = resolve(str(model))
    return run_passes(Batch(table(conversations)), Renderer(weights, models.proxy), RENDERING), models


def least(batch, models):
    return sum(sum(each.least_flops(models, RENDERING.of(batch))) for each in PASSES)


@pytest.mark.parametrize(
    "conversations", [ROWS, ALIKE, LABELS, ROWS[:1] * 9], ids=["rows", "prompts", "labels", "copies"]
)
@pytest.mark.parametrize("in_packs", [True, False])
def test_no_job_takes_less(tiny_model, conversations, in_packs):
    """Not even where prompts, answers or whole rows are the same; all parameters times all tokens are more."""
    batch, models = job(tiny_model, conversations)
    backend = load(models.proxy, resolve(str(tiny_model)))
    backend.in_packs = in_packs
    with FlopCounterMode(display=False) as counter:
        run_passes(batch, backend, *PASSES)
    bound, size = least(batch, models), matrices(tiny_model)
    assert 0 < bound <= counter.get_total_flops()
    if in_packs:
        scored = sum(end - start for row in RENDERING.of(batch) for start, end in row.spans)
        assert bound >= 2 * 2 * size.head * scored, "the head reads what is scored, and reads it twice"
        tokens = sum(len(row.ids) for row in RENDERING.of(batch))
        assert counter.get_total_flops() < 2 * sum(size) * 1.5 * tokens, "what was held to be a bound is none"


def test_the_least_by_hand(tiny_model):
    """Two answers to one prompt, which part at their third token: the last token of each predicts nothing."""
    answers = ["It means red.", "It means blue and green."]
    batch, models = job(tiny_model, [turns("user: A", f"assistant: {each}") for each in answers])
    one, other = (row.spans[0] for row in RENDERING.of(batch))
    ids = [row.ids for row in RENDERING.of(batch)]
    shared = next(at for at, (a, b) in enumerate(zip(*ids, strict=False)) if a != b)
    assert one[0] == other[0] < shared, "else the rows show nothing"
    first, _ = sorted([0, 1], key=lambda row: ids[row])
    size, spans = matrices(tiny_model), (one, other)
    expected = [
        2 * (size.body * (end - 1 - (start if row == first else shared)) + size.head * (end - start))
        for row, (start, end) in enumerate(spans)
    ]
    assert LOSS.least_flops(models, RENDERING.of(batch)) == expected
    heads = [2 * size.head * (end - start) for start, end in spans]
    assert UNCONDITIONAL_LOSS.least_flops(models, RENDERING.of(batch)) == heads


def test_what_is_not_known_is_nothing(tiny_model):
    batch, models = job(tiny_model, ROWS)
    rows = RENDERING.of(batch)
    own = LikelihoodPass("own", request=lambda rendered, special: None)
    assert {*own.least_flops(models, rows), *REJECTED_LOSS.least_flops(models, rows)} == {0.0}


def test_matrices_are_those_that_every_token_passes(tmp_path, tiny_model):
    """Neither embeddings nor norms, nor experts."""
    layers, width, inner = (CONFIG[name] for name in ("num_hidden_layers", "hidden_size", "intermediate_size"))
    tokenizer = AutoTokenizer.from_pretrained(tiny_model)
    vocabulary = len(tokenizer)
    assert vocabulary <= TOKENS
    expected = Matrices(layers * (4 * width * width + 3 * width * inner), vocabulary * width)
    assert matrices(tiny_model) == expected
    write_small_llama(tmp_path / "untied", tokenizer, tie_word_embeddings=False)
    assert matrices(tmp_path / "untied") == expected
    small = {"vocab_size": 50, "num_hidden_layers": 1, "num_attention_heads": 2}
    GPT2LMHeadModel(GPT2Config(vocab_size=50, n_embd=8, n_layer=1, n_head=2)).save_pretrained(tmp_path / "gpt2")
    assert matrices(tmp_path / "gpt2") == Matrices(12 * 8 * 8, 50 * 8), (
        "q, k, v, the projection, and twice four of them"
    )
    mixtral = MixtralConfig(**small, hidden_size=8, intermediate_size=16, num_key_value_heads=2, num_local_experts=4)
    MixtralForCausalLM(mixtral).save_pretrained(tmp_path / "mixtral")
    body, head = matrices(tmp_path / "mixtral")
    assert body in (4 * 8 * 8, 4 * 8 * 8 + 4 * 8) and head == 50 * 8, "attention, and perhaps the router"
