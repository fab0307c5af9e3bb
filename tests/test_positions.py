"""Position schemes that look at the longest row of a pass: no row's numbers depend on what it passes with."""

from pathlib import Path

import numpy as np
import pytest
import torch
from architectures import VOCABULARY, tiny_config, tiny_model, write_tokenizer
from curricle.curate.embedding.encoder import Encoder
from curricle.curate.embedding.settings import EmbeddingSettings
from curricle.curate.proxy.backend import load
from curricle.curate.proxy.questions import GenerationRequest
from curricle.curate.proxy.sequences import Request
from curricle.curate.proxy.settings import GenerationSettings, ProxySettings
from curricle.curate.proxy.vllm_backend import check_positions
from curricle.curate.proxy.weights import Weights
from curricle.schemas.chat.generation import cut
from curricle.schemas.chat.positions import always_alike, rows_alike, telling_lengths
from curricle.schemas.common.errors import UsageError, UserError
from curricle.train.data.batching import micro_batches, shares
from curricle.train.data.encoding import Encoded
from curricle.train.distributed import Processes
from curricle.train.model.load import load_model
from curricle.train.model.probe import score
from curricle.train.model.student import Student
from curricle.train.settings import BatchSettings, DeviceSettings
from transformers import AutoConfig, AutoModel

ORIGINAL, MOST, CAPACITY = 32, 64, 256
ALONE = Processes(0, 1, torch.device("cpu"))
LONG = {
    "rope_type": "longrope",
    "rope_theta": 10000.0,
    "short_factor": [1.0] * 4,
    "long_factor": [1.0, 2.0, 4.0, 8.0],
    "original_max_position_embeddings": ORIGINAL,
}
DYNAMIC = {"rope_type": "dynamic", "rope_theta": 10000.0, "factor": 4.0}
PLAIN = {"rope_type": "default", "rope_theta": 10000.0}
MODELS = {
    "longrope": (
        "phi3",
        {"original_max_position_embeddings": ORIGINAL, "rope_parameters": LONG, "sliding_window": None},
    ),
    "longrope of another family": ("llama", {"rope_parameters": LONG}),
    "dynamic": ("llama", {"max_position_embeddings": ORIGINAL, "rope_parameters": DYNAMIC}),
    "of one kind of layer": (
        "gemma3_text",
        {
            "max_position_embeddings": ORIGINAL,
            "rope_parameters": {"full_attention": DYNAMIC, "sliding_attention": PLAIN},
            "sliding_window": 512,
            "layer_types": ["sliding_attention", "full_attention"],
        },
    ),
}
LENGTHS = [20, 60, 9, 33, 60, 32, 47, 5]


def rows() -> list[Encoded]:
    draw = np.random.default_rng(3)
    return [
        Encoded(row, draw.integers(3, VOCABULARY, length), np.arange(2, length)) for row, length in enumerate(LENGTHS)
    ]


@pytest.fixture(scope="module", params=MODELS)
def model(request, tmp_path_factory) -> Path:
    kind, options = MODELS[request.param]
    directory = tmp_path_factory.mktemp("positions")
    tiny_model(kind, **options).save_pretrained(directory)
    write_tokenizer(directory)
    return directory


def alone(directory: Path) -> list[float]:
    """The loss of each row by a model that has read no other."""
    losses = []
    for row in rows():
        own = load_model(str(directory), "auto")
        with torch.no_grad():
            logits = own(torch.from_numpy(row.ids)[None], use_cache=False).logits[0].double()
        losses.append(float(-logits.log_softmax(-1)[row.scored - 1, row.ids[row.scored]].sum()))
    return losses


@pytest.mark.parametrize("in_packs", [True, False])
def test_scores_are_those_of_rows_alone(model, in_packs):
    expected = pytest.approx(alone(model), abs=2e-3)
    backend = load(ProxySettings(max_length=MOST, batch_tokens=128), Weights(model, {}))
    backend.in_packs = backend.in_packs and in_packs
    requests = [Request(row.ids.tolist(), ((2, len(row)),)) for row in rows()]
    for _ in range(2):  # nothing is kept from the first time
        assert [-each.sum for each in backend.score(requests, lambda tokens: None)] == expected


@pytest.mark.parametrize("packing", [False, True])
def test_training_and_probes_see_rows_as_if_alone(model, packing):
    expected = alone(model)
    batch = BatchSettings(tokens=CAPACITY, packing=packing)
    student = Student(load_model(str(model), "auto"), DeviceSettings(), ALONE, batch, MOST)
    losses = [0.0] * len(LENGTHS)
    for micro in micro_batches(rows(), CAPACITY, 1, packing, student.alike)[0]:
        for index, nll in zip(micro.documents, student.nll(micro).split(list(micro.counts)), strict=True):
            losses[index] = float(nll.detach().double().sum())
    assert losses == pytest.approx(expected, abs=2e-3)
    assert score(student, [rows()], CAPACITY, ALONE).nll == pytest.approx(expected, abs=2e-3)


def test_rows_that_pass_together_would_have_other_losses(model):
    """Without the check that keeps them apart there is something to see: the tests above can fail."""
    student = Student(load_model(str(model), "auto"), DeviceSettings(), ALONE, BatchSettings(tokens=CAPACITY), MOST)
    (micro,) = micro_batches(rows(), 8 * MOST, 1, False)[0]
    with torch.no_grad():
        together = [float(nll.sum()) for nll in student.nll(micro).split(list(micro.counts))]
    losses = [loss for _, loss in sorted(zip(micro.documents, together, strict=True))]
    assert np.abs(np.array(losses) - alone(model)).max() > 2e-2


def test_which_lengths_are_alike():
    key = rows_alike(tiny_config(*MODELS["longrope"][:1], **MODELS["longrope"][1]))
    assert [key(length) for length in (1, 32, 33, 500)] == [0, 0, 1, 1]
    key = rows_alike(tiny_config("llama", **MODELS["dynamic"][1]))
    assert [key(length) for length in (1, 32, 33, 500)] == [0, 0, 33, 500]
    assert {rows_alike(tiny_config("llama"))(length) for length in range(1, 2000, 7)} == {0}
    assert telling_lengths(tiny_config("mistral", sliding_window=16), 64) == [16]
    assert telling_lengths(tiny_config("mistral", sliding_window=64), 64) == []


@pytest.mark.parametrize("world", [1, 3])
@pytest.mark.parametrize("packing", [False, True])
def test_shares_hold_every_document_once_and_only_those_alike(packing, world):
    lengths = [5, 40, 7, 33, 9, 64, 1, 0]
    result = shares(lengths, 64, world, packing, lambda length: int(length > 32))
    groups = [group.tolist() for share in result for group in share]
    assert sorted(index for group in groups for index in group) == list(range(7))
    assert all(len({lengths[index] > 32 for index in group}) <= 1 for group in groups)
    assert len({len(share) for share in result}) == 1


def answers(directory: Path, together: bool, spoil: bool = False) -> tuple[list, bool]:
    """What a proxy answers to prompts of unlike lengths, and whether such prompts go on together."""
    settings = GenerationSettings(max_new_tokens=8, temperature=1.0)
    backend = load(ProxySettings(max_length=MOST, generation=settings), Weights(directory, {}))
    questions = [GenerationRequest(row.ids.tolist(), row.row) for row in rows()]
    if not together:
        return [cut(backend.answer([each], lambda tokens: None)[0], [2]) for each in questions], False
    backend.answer(questions[:1], lambda tokens: None)
    if spoil:
        backend._answers_alike = always_alike
    result = [cut(each, [2]) for each in backend.answer(questions, lambda tokens: None)]
    return result, backend._answers_alike(5) == backend._answers_alike(9)


@pytest.mark.parametrize("kind", ["recurrent_gemma", "mamba2", "bloom", "llama"])
def test_answers_do_not_depend_on_each_other(kind, tmp_path):
    """Some models with states read the padding of prompts: those go on in batches of one length."""
    tiny_model(kind).save_pretrained(tmp_path)
    write_tokenizer(tmp_path)
    alone, _ = answers(tmp_path, together=False)
    result, unlike = answers(tmp_path, together=True)
    assert result == alone
    assert unlike == (kind in ("mamba2", "bloom", "llama"))
    assert (answers(tmp_path, together=True, spoil=True)[0] == alone) == unlike


def test_a_model_that_mixes_answers_is_refused(tmp_path):
    """The states of RWKV do not keep rows apart once they are cached."""
    tiny_model("rwkv").save_pretrained(tmp_path)
    write_tokenizer(tmp_path)
    with pytest.raises(UserError, match="answers to two prompts differ"):
        answers(tmp_path, together=True)


def test_answers_that_outgrow_the_original_length_do_not_depend_on_each_other(model):
    assert answers(model, together=True)[0] == answers(model, together=False)[0]


@pytest.mark.parametrize("kind", ["longrope", "dynamic"])
def test_vectors_of_texts_are_those_of_the_text_alone(kind, tmp_path):
    """Whatever was embedded before or beside it, and however far its neighbours are padded."""
    family, options = MODELS[kind]
    tiny_model(family, **options).save_pretrained(tmp_path)
    write_tokenizer(tmp_path)
    texts = [" ".join(f"w{3 + (7 * row + 5 * index) % 120}" for index in range(n)) for row, n in enumerate(LENGTHS)]

    def vectors(some: list[str]) -> np.ndarray:
        encoder = Encoder(EmbeddingSettings(str(tmp_path), ORIGINAL), Weights(tmp_path, {}))
        encoder.max_length = MOST  # as of a config that leaves the length out, where it is the default of its class
        encoder.tokenizer.enable_truncation(MOST)
        return encoder.embed(some, lambda rows: None).vectors

    together = vectors(texts)
    assert np.array_equal(vectors(texts[::-1])[::-1], together)
    for text, vector in zip(texts, together, strict=True):
        own = AutoModel.from_pretrained(tmp_path).eval()
        ids = torch.tensor([[int(word[1:]) for word in text.split()]])
        with torch.no_grad():
            mean = own(ids, use_cache=False).last_hidden_state[0].mean(0)
        assert vector == pytest.approx((mean / mean.norm()).numpy(), abs=1e-5)


def test_the_engine_with_one_choice_for_all_rows_is_refused_where_lengths_would_choose(model):
    """vLLM's own room counts: it is that by which it chooses."""
    config = AutoConfig.from_pretrained(model)
    short = GenerationSettings(max_new_tokens=4)
    check_positions(ProxySettings(backend="vllm", max_length=ORIGINAL - 5, generation=short), config)
    for most in (ORIGINAL + 1, MOST):
        with pytest.raises(UsageError, match=r"--proxy\.backend transformers"):
            check_positions(ProxySettings(backend="vllm", max_length=most, generation=short), config)
    plain = tiny_config("llama", max_position_embeddings=ORIGINAL)
    check_positions(ProxySettings(backend="vllm", max_length=ORIGINAL), plain)
    with pytest.raises(UsageError, match="has positions for 32 tokens"):
        check_positions(ProxySettings(backend="vllm", max_length=ORIGINAL + 1), plain)
