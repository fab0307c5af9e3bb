"""Every causal architecture: scored and trained as a plain pass over each row alone would, or refused in words."""

from collections.abc import Sequence
from pathlib import Path

import drawn
import numpy as np
import pytest
import torch
from architectures import KINDS, VOCABULARY, tiny_encoder, tiny_model, write_tokenizer
from curricle.curate.embedding.encoder import Encoder
from curricle.curate.embedding.settings import EmbeddingSettings
from curricle.curate.proxy.backend import load
from curricle.curate.proxy.questions import GenerationRequest
from curricle.curate.proxy.sequences import Request
from curricle.curate.proxy.settings import GenerationSettings, ProxySettings
from curricle.curate.proxy.weights import Weights
from curricle.schemas.chat.positions import rows_alike
from curricle.schemas.common.errors import UserError
from curricle.train.data.batching import micro_batches
from curricle.train.data.encoding import ConversationTokenizer, Encoded
from curricle.train.data.table import Example
from curricle.train.distributed import Processes
from curricle.train.model.checks import check_passes
from curricle.train.model.load import load_model, load_tokenizer
from curricle.train.model.student import Scorer, Student
from curricle.train.rewards.refresh import Refresher
from curricle.train.settings import BatchSettings, DeviceSettings
from transformers import PreTrainedModel

ALONE = Processes(0, 1, torch.device("cpu"))
MOST, CAPACITY = 64, 256
TOLERANCE = 1e-4
FAST = (
    "llama",
    "mistral",
    "qwen2",
    "qwen3",
    "gemma",
    "gemma3_text",
    "phi3",
    "olmo2",
    "smollm3",
    "stablelm",
    "starcoder2",
)
NOT_CAUSAL = ("cpmant", "deepseek_v32", "glm_moe_dsa", "prophetnet", "xlnet")
"""What stands after a token changes its loss; of the sparse ones, beyond as many tokens as their indexer picks."""


SPECIAL = ("gpt2", "opt", "bloom", "gemma2", "granite", "mixtral", "qwen3_moe", "deepseek_v3", "gpt_oss", "mamba2")
"""Other kinds of positions, of logits, of experts, and no attention at all."""
ALWAYS = {*FAST, *NOT_CAUSAL, *SPECIAL}
OTHERS = [kind for kind in KINDS if kind not in ALWAYS]


def rows_of(lengths: Sequence[int], seed: int = 1) -> list[Encoded]:
    draw = np.random.default_rng(seed)
    return [
        Encoded(row, draw.integers(3, VOCABULARY, length), np.arange(length // 3 + 1, length))
        for row, length in enumerate(lengths)
    ]


ROWS = rows_of([23, 6, 58, 41, 9, 33])


def plain(model: PreTrainedModel, row: Encoded) -> float:
    """The loss of a row in nats a token, by nothing but the model's own logits."""
    with torch.no_grad():
        logits = model(torch.from_numpy(row.ids)[None]).logits[0].double()
    return float(-logits.log_softmax(-1)[row.scored - 1, row.ids[row.scored]].mean())


def trained(student: Student, packing: bool) -> list[float]:
    """The losses that training would have, as the passes of one batch give them."""
    losses = [0.0] * len(ROWS)
    with student.answering():
        for micro in micro_batches(ROWS, CAPACITY, 1, packing, student.alike)[0]:
            nll = student.nll(micro).double().split(list(micro.counts))
            for index, part in zip(micro.documents, nll, strict=True):
                losses[index] = float(part.mean())
    return losses


def student_of(model: PreTrainedModel, packing: bool) -> Student | str:
    """A student for such passes; or the words in which it is refused."""
    try:
        return Student(model, DeviceSettings(), ALONE, BatchSettings(tokens=CAPACITY, packing=packing), MOST)
    except UserError as refused:
        assert refused.remedy and type(model).__name__ in str(refused)
        return str(refused)


@pytest.mark.parametrize("kind", [*sorted(ALWAYS), *drawn.some("architectures", OTHERS, 10)])
def test_rows_have_the_losses_of_a_plain_pass_or_are_refused(kind: str, tmp_path: Path) -> None:
    own = tiny_model(kind)
    own.save_pretrained(tmp_path)
    write_tokenizer(tmp_path)
    own.config.get_text_config().use_cache = False
    expected = pytest.approx([plain(own, row) for row in ROWS], abs=TOLERANCE)
    try:
        proxy = load(ProxySettings(max_length=MOST), Weights(tmp_path, {}))
    except UserError as refused:
        assert kind in NOT_CAUSAL, refused
    else:
        requests = [Request(row.ids.tolist(), ((int(row.scored[0]), len(row)),)) for row in ROWS]
        result = proxy.score(requests, lambda tokens: None)
        assert [-score.sum / score.count for score in result] == expected
    model = load_model(str(tmp_path), "auto")
    padding = student_of(model, packing=False)
    if isinstance(padding, str):
        assert kind in NOT_CAUSAL, padding
        return
    assert trained(padding, packing=False) == expected
    packing = student_of(model, packing=True)
    if isinstance(packing, str):
        assert "leave out --batch.packing" in packing
        assert kind not in FAST
        if "apart" in packing:  # what is refused would have been wrong
            assert trained(padding, packing=True) != expected
    else:
        assert trained(packing, packing=True) == expected


@pytest.mark.parametrize("kind", FAST)
def test_models_like_llama_keep_the_fast_ways(kind: str, tmp_path: Path) -> None:
    """The head reads scored positions alone; the proxy packs, where no window is shorter than rows may be."""
    tiny_model(kind, sliding_window=512).save_pretrained(tmp_path)
    write_tokenizer(tmp_path)
    proxy = load(ProxySettings(max_length=MOST), Weights(tmp_path, {}))
    # StableLM's layers hand nothing on to their attention
    assert (proxy.plain_head, proxy.in_packs) == (True, kind != "stablelm")  # type: ignore[attr-defined]
    student = student_of(load_model(str(tmp_path), "auto"), packing=True)
    assert isinstance(student, Student) and student.scorer.plain_head


@pytest.mark.parametrize("kind", ["granite", "cohere", "gemma2", "recurrent_gemma", "nanochat", "minicpm3"])
def test_models_that_change_their_logits_are_asked_for_them(kind: str) -> None:
    student = student_of(tiny_model(kind), packing=False)
    assert isinstance(student, Student) and not student.scorer.plain_head


@pytest.mark.parametrize("kind", ["mixtral", "qwen3_moe", "gemma2", "bloom", "mamba2", "phi3"])
def test_gradients_are_those_of_rows_alone(kind: str) -> None:
    """Whichever rows share a pass, and with no loss beside the cross-entropy, such as a router's."""
    more = {"output_router_logits": True} if kind in ("mixtral", "qwen3_moe") else {}
    model = tiny_model(kind, **more)
    student = student_of(model, packing=True)
    ways = [False] if isinstance(student, str) else [False, True]
    student = student_of(model, packing=len(ways) == 2)
    assert isinstance(student, Student)

    def gradients() -> list[torch.Tensor]:
        product = [torch.zeros_like(each) if each.grad is None else each.grad.clone() for each in model.parameters()]
        model.zero_grad()
        return product

    for row in ROWS:
        logits = model(torch.from_numpy(row.ids)[None], use_cache=False).logits[0]
        scored = torch.from_numpy(row.scored)
        torch.nn.functional.cross_entropy(
            logits[scored - 1], torch.from_numpy(row.ids)[scored], reduction="sum"
        ).backward()
    expected = gradients()
    largest = max(float(each.abs().max()) for each in expected)
    for packing in ways:
        for micro in micro_batches(ROWS, CAPACITY, 1, packing, student.alike)[0]:
            student.nll(micro).sum().backward()
        result = gradients()
        off = max(float((one - other).abs().max()) for one, other in zip(result, expected, strict=True))
        assert off < 1e-4 * largest


@pytest.mark.parametrize("kind", ["gpt2", "opt", "gptj"])
def test_rows_longer_than_a_model_has_positions_for_are_refused(kind: str, tmp_path: Path) -> None:
    tiny_model(kind).save_pretrained(tmp_path)
    write_tokenizer(tmp_path)
    with pytest.raises(UserError, match="positions for 512 tokens, and --max-length is 600"):
        Student(load_model(str(tmp_path), "auto"), DeviceSettings(), ALONE, BatchSettings(tokens=600), 600)
    with pytest.raises(UserError, match=r"give --proxy\.max-length 512"):
        load(ProxySettings(max_length=600), Weights(tmp_path, {}))
    Student(tiny_model("llama"), DeviceSettings(), ALONE, BatchSettings(tokens=600), 600)


@pytest.mark.parametrize("positions", [64, 24])
@pytest.mark.parametrize("kind", ["gpt2", "opt", "llama"])
def test_an_answer_for_which_a_model_has_no_positions_is_not_begun(kind: str, positions: int, tmp_path: Path) -> None:
    """By the proxy and by the student alike, whatever kind of positions; shorter prompts beside it are answered."""
    tiny_model(kind, max_position_embeddings=positions).save_pretrained(tmp_path)
    write_tokenizer(tmp_path)
    settings = GenerationSettings(max_new_tokens=16)
    proxy = load(ProxySettings(max_length=positions, generation=settings), Weights(tmp_path, {}))
    words = [" ".join(["w7"] * length) for length in (positions - 4, positions - 16, 5)]
    prompts = [[7] * len(message.split()) for message in words]
    questions = [proxy.speech.question(prompt, "0a") for prompt in prompts]
    assert questions[0] == f"after {positions - 4} tokens the model cannot read 16 more"
    answers = proxy.answer([each for each in questions if isinstance(each, GenerationRequest)], lambda tokens: None)
    assert [0 < len(answer) <= 16 for answer in answers] == [True, True]

    student = Student(load_model(str(tmp_path), "auto"), DeviceSettings(), ALONE, BatchSettings(), positions)
    turns = [[{"role": "user", "content": message}, {"role": "assistant", "content": "w3"}] for message in words]
    examples = [Example(each, None) for each in turns]
    encoder = ConversationTokenizer(load_tokenizer(str(tmp_path)), "plain", positions)
    refresher = Refresher(student, encoder, None, None, 0, 512, ALONE, lambda: None)  # type: ignore[arg-type]
    result, _ = refresher.generate(examples, range(3), 16)
    assert [answer is None for answer in result] == [True, False, False]


@pytest.mark.parametrize("kind", ["llama", "gemma2", "phi3", "falcon_h1", "lfm2", "opt"])
def test_half_precision_does_not_hide_what_float32_shows(kind: str) -> None:
    """As under flash attention, for which bfloat16 with another attention stands here: the head is told apart, and
    packing refused, by losses in float32. In bfloat16 alone Gemma-2's cap and Falcon-H1's states would pass."""
    model, batch = tiny_model(kind), BatchSettings(tokens=CAPACITY, packing=True)
    alike = rows_alike(model.config)
    plain_heads, refusals = [], []
    for half in (False, True):
        scorer = Scorer(model)
        refused = None
        try:
            check_passes(scorer, alike, batch, MOST, ALONE.device, half)
        except UserError as error:
            refused = str(error)
        plain_heads.append(scorer.plain_head)
        refusals.append(refused)
    assert refusals[0] == refusals[1]
    assert plain_heads[0] == plain_heads[1] == (kind != "gemma2")
    assert (refusals[0] is None) == (kind in ("llama", "gemma2", "phi3"))


@pytest.mark.parametrize(
    "kind", ["bert", "mpnet", "modernbert", "qwen3", "mistral", "convbert", "fnet", "nystromformer"]
)
def test_vectors_are_those_of_a_plain_pass_over_each_text(kind: str, tmp_path: Path) -> None:
    """Of encoders that mask padding and of those that cannot, whatever the order of the texts."""
    own = tiny_encoder(kind)
    own.save_pretrained(tmp_path)
    write_tokenizer(tmp_path)
    encoder = Encoder(EmbeddingSettings(str(tmp_path), MOST), Weights(tmp_path, {}))
    texts = [" ".join(f"w{token}" for token in row.ids) for row in ROWS]
    vectors = encoder.embed(texts, lambda rows: None).vectors
    assert np.array_equal(encoder.embed(texts[::-1], lambda rows: None).vectors[::-1], vectors)
    for row, vector in zip(ROWS, vectors, strict=True):
        with torch.no_grad():
            mean = own(torch.from_numpy(row.ids)[None]).last_hidden_state[0].mean(0)
        assert vector == pytest.approx((mean / mean.norm()).numpy(), abs=1e-5)
