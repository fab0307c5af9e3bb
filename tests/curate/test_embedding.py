"""Sentence embeddings: published values, and that a vector depends on its text and on nothing else."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from asking import with_answers
from curricle.curate.batch import Batch, Embedded
from curricle.curate.embedding.encoder import Encoder
from curricle.curate.embedding.settings import EmbeddingSettings
from curricle.curate.embedding.text import text_of
from curricle.curate.embedding.weights import find, parameters
from curricle.curate.formats import normalise
from curricle.curate.metrics.embedding import metric
from curricle.curate.passes import EMBEDDING
from curricle.schemas.common.errors import UsageError, UserError
from curricle.schemas.table import EXAMPLES
from transformers import AutoModel, AutoTokenizer


def silent(rows: int) -> None:
    pass


@pytest.fixture(scope="module")
def minilm() -> Encoder:
    return Encoder(EmbeddingSettings(max_length=64), find("minilm"))


def test_similarities_are_those_that_sentence_transformers_publishes(minilm):
    """The example of its documentation for all-MiniLM-L6-v2."""
    texts = ["The weather is lovely today.", "It's so sunny outside!", "He drove to the stadium."]
    vectors = minilm.embed(texts, silent).vectors
    published = [[1.0000, 0.6660, 0.1046], [0.6660, 1.0000, 0.1411], [0.1046, 0.1411, 1.0000]]
    assert vectors @ vectors.T == pytest.approx(np.array(published), abs=6e-5)


def test_company_and_order_do_not_show(minilm):
    """To the last bit: see ``Encoder``."""
    words = ["river", "stone", "of", "light", "Zürich", "量子"]
    texts = [" ".join(words[: i % 6 + 1] * (i % 4 + 1)) for i in range(30)]
    progress: list[int] = []
    together = minilm.embed(texts, progress.append).vectors
    assert sum(progress) == len(texts)
    assert np.linalg.norm(together, axis=1) == pytest.approx(1, abs=1e-6)
    order = np.random.default_rng(0).permutation(len(texts))
    assert np.array_equal(minilm.embed([texts[i] for i in order], silent).vectors, together[order])
    for row in (0, 7, 23):
        assert np.array_equal(minilm.embed([texts[row]], silent).vectors[0], together[row])


def test_what_does_not_fit_into_memory_is_tried_in_halves(monkeypatch, caplog):
    """As torch refuses on a GPU, above 60 tokens in a pass: no more than one text of the longest, and then none."""
    encoder = Encoder(EmbeddingSettings(max_length=64), find("minilm"))
    texts, order = ["river " * (7 * index % 60 + 1) for index in range(20)], []
    expected, roomy = encoder.embed(texts, silent), encoder.model.forward

    def cramped(input_ids, **others):
        order.append(input_ids.shape)
        if input_ids.numel() > 60:
            raise torch.OutOfMemoryError
        return roomy(input_ids=input_ids, **others)

    monkeypatch.setattr(encoder.model, "forward", cramped)
    progress: list[int] = []
    halved = encoder.embed(texts, progress.append)
    assert sum(progress) == len(texts)
    missing = {row for row, note in halved.notes.items() if note == "out of memory for 64 tokens"}
    there = [row for row in range(len(texts)) if row not in missing]
    assert missing and len(there) > 10 and np.isnan(halved.vectors[[*missing]]).all()
    assert halved.vectors[there] == pytest.approx(expected.vectors[there], abs=1e-6)
    assert "out of memory with 32 texts of 16 tokens in a pass of the encoder: it is made again with 16" in caplog.text
    refused = len(order)
    encoder.embed(texts, silent)
    assert len(order) - refused < refused, "what did not fit is not tried again"

    def broken(**_):
        raise RuntimeError("shapes")

    monkeypatch.setattr(encoder.model, "forward", broken)
    with pytest.raises(RuntimeError, match="shapes"):
        encoder.embed(texts, silent)


def test_what_is_cut_and_what_is_empty_is_said(minilm):
    result = minilm.embed(["", "a " * 63, "a " * 62], silent)
    assert result.notes == {0: "there is no text", 1: "of the first 64 tokens"}  # two are for [CLS] and [SEP]
    assert np.isnan(result.vectors[0]).all() and np.isfinite(result.vectors[1:]).all()
    scores = metric("mean", 64, 384).compute(with_answers(Batch(EXAMPLES.empty_table()), {EMBEDDING: result}))
    column = scores.columns["embedding"]
    assert column.is_valid().to_pylist() == [False, True, True]
    assert np.array_equal(column[1].as_py(), result.vectors[1])
    assert scores.notes == {0: ["embedding: there is no text"], 1: ["embedding: of the first 64 tokens"]}


def test_a_text_reads_as_in_small2large(shared_data, minilm):
    """The same tokens as "Instruction: {instruction + ' ' + input} Response: {output}"."""
    rows = json.loads((shared_data / "formats" / "alpaca_en_demo.json").read_text("utf-8"))[:200]
    assert any(row["input"] for row in rows)
    theirs = [f"Instruction: {row['instruction'] + ' ' + row['input']} Response: {row['output']}" for row in rows]
    ours = [text_of(normalise(row).messages) for row in rows]
    tokens = [[encoding.ids for encoding in minilm.tokenizer.encode_batch(texts)] for texts in (theirs, ours)]
    assert tokens[0] == tokens[1]


def test_a_longer_conversation_names_each_exchange():
    turns = [("system", "Be brief."), ("user", "2+2?"), ("assistant", "4"), ("tool", "4"), ("assistant", "Right")]
    assert text_of(turns) == "Instruction: Be brief. 2+2? Response: 4 Instruction: 4 Response: Right"
    assert text_of([("user", " "), ("assistant", "\n")]) == ""


@pytest.fixture(scope="module")
def tiny_encoder(tiny_model) -> Encoder:
    return Encoder(EmbeddingSettings(str(tiny_model), max_length=32), find(str(tiny_model)))


def test_the_proxy_is_its_mean_last_hidden_state(tiny_model, tiny_encoder):
    texts = ["One apple a day", "The river runs " * 30, "x"]
    tokenizer, model = AutoTokenizer.from_pretrained(tiny_model), AutoModel.from_pretrained(tiny_model)
    for text, vector in zip(texts, tiny_encoder.embed(texts, silent).vectors, strict=True):
        with torch.inference_mode():
            hidden = model(torch.tensor([tokenizer(text)["input_ids"][:32]])).last_hidden_state[0].mean(0)
        assert vector == pytest.approx((hidden / hidden.norm()).numpy(), abs=1e-5)


def test_a_vector_that_is_not_finite_is_null(tiny_encoder, monkeypatch):
    monkeypatch.setattr(tiny_encoder, "_forward", lambda batch, width: np.full((len(batch), 64), np.inf, np.float32))
    monkeypatch.setattr(tiny_encoder, "dimensions", 64)
    result = tiny_encoder.embed(["a", ""], silent)
    assert np.isnan(result.vectors).all()
    assert result.notes == {0: "the encoder's vector is not finite", 1: "there is no text"}


def model_with(tiny_model: Path, path: Path, modules: list[str], pooling: dict | None) -> Path:
    shutil.copytree(tiny_model, path)
    types = [{"type": f"sentence_transformers.models.{name}"} for name in modules]
    (path / "modules.json").write_text(json.dumps(types))
    if pooling is not None:
        (path / "1_Pooling").mkdir()
        (path / "1_Pooling" / "config.json").write_text(json.dumps(pooling))
    return path


def test_pooling_is_what_the_model_says(tiny_model, tmp_path):
    old = {"pooling_mode_cls_token": True, "pooling_mode_mean_tokens": False}
    path = model_with(tiny_model, tmp_path / "cls", ["Transformer", "Pooling"], old)
    weights = find(str(path))
    settings = EmbeddingSettings(str(path), max_length=32)
    assert parameters(weights, settings)["pooling"] == "cls"
    assert "1_Pooling/config.json" in weights.identity["sha256"]
    encoder = Encoder(settings, weights)
    one, other = encoder.embed(["apple", "apple pie with cream"], silent).vectors
    assert one == pytest.approx(other, abs=1e-5)  # the first token of a causal model knows nothing of the next
    (path / "1_Pooling" / "config.json").write_text('{"pooling_mode": "mean"}')
    assert parameters(find(str(path)), settings)["pooling"] == "mean"


@pytest.mark.parametrize(
    ("modules", "pooling", "message"),
    [
        (["Transformer", "Pooling"], {"pooling_mode_max_tokens": True}, "pools by max_tokens"),
        (["Transformer"], {"pooling_mode_mean_tokens": True, "pooling_mode_cls_token": True}, "cls_token and mean"),
        (["Transformer", "Pooling"], {"pooling_mode": "lasttoken"}, "pools by lasttoken"),
        (["Transformer", "Pooling", "Dense"], {"pooling_mode_mean_tokens": True}, "has a Dense layer"),
    ],
)
def test_other_encoders_are_refused(tiny_model, tmp_path, modules, pooling, message):
    path = model_with(tiny_model, tmp_path / "other", modules, pooling)
    with pytest.raises(UsageError, match=message):
        parameters(find(str(path)), EmbeddingSettings(max_length=32))


def test_what_cannot_be_an_encoder(tiny_model, tmp_path):
    with pytest.raises(UsageError, match="at most 512 tokens"):
        parameters(find("minilm"), EmbeddingSettings(max_length=513))
    with pytest.raises(UsageError, match="from 8 to"):
        EmbeddingSettings(max_length=7)
    with pytest.raises(UsageError, match=r"--embedding\.model"):
        find("no such thing")
    (tmp_path / "config.json").write_text("{}")
    (tmp_path / "pytorch_model.bin").touch()
    with pytest.raises(UsageError, match="a pickle, which can run code"):
        find(str(tmp_path))
    (tmp_path / "model.safetensors").touch()
    with pytest.raises(UsageError, match="how wide"):
        parameters(find(str(tmp_path)), EmbeddingSettings())
    (tmp_path / "config.json").write_text('{"hidden_size": 4, "auto_map": {"AutoModel": "evil.Model"}}')
    (tmp_path / "evil.py").write_text("raise SystemExit('a model ran its code')")
    with pytest.raises(UserError, match="cannot be loaded"):
        Encoder(EmbeddingSettings(str(tmp_path)), find(str(tmp_path)))


def test_a_batch_without_rows_has_a_column():
    nothing = Embedded(np.empty((0, 3), np.float32), {})
    scores = metric("mean", 64, 3).compute(with_answers(Batch(EXAMPLES.empty_table()), {EMBEDDING: nothing}))
    assert len(scores.columns["embedding"]) == 0
