"""A run belongs to the files of its model: a resume with others is refused, by name."""

import shutil
from pathlib import Path

import pytest
import torch
from curricle.schemas.common.errors import UsageError
from curricle.train.model.locate import identify
from safetensors.torch import load_file, save_file


@pytest.fixture
def own_model(tiny_model, tmp_path) -> Path:
    return shutil.copytree(tiny_model, tmp_path / "model")


def other_template(model: Path) -> None:
    path = model / "chat_template.jinja"
    path.write_text(path.read_text() + " ")


def other_tokenizer(model: Path) -> None:
    path = model / "tokenizer_config.json"
    path.write_text(path.read_text().replace("{", '{"clean_up_tokenization_spaces": true,', 1))


def other_weights(model: Path) -> None:
    path = model / "model.safetensors"
    save_file({name: weight + 1e-3 for name, weight in load_file(path).items()}, path, {"format": "pt"})


@pytest.mark.parametrize(
    ("change", "name"),
    [(other_template, "chat_template.jinja"), (other_tokenizer, "tokenizer_config.json"), (other_weights, "model.")],
)
def test_a_resume_with_another_model_is_refused(change, name, own_model, command, train_in_fork, tmp_path):
    more = ["--model", str(own_model), "--curriculum", "random", "--budget.steps", "2", "--checkpoint.every", "1"]
    arguments = command(*more, "--lora.rank", "2")
    assert train_in_fork(arguments).code == 0
    shutil.rmtree(tmp_path / "run" / "checkpoints" / "step-00000002")
    shutil.copytree(own_model, tmp_path / "before")
    change(own_model)
    ended = train_in_fork(arguments)
    assert ended.code == 2 and f"model.sha256.{name}" in ended.text, ended.text
    assert not (tmp_path / "run" / "checkpoints" / "step-00000002").exists()
    shutil.rmtree(own_model)
    (tmp_path / "before").rename(own_model)
    (own_model / "README.md").write_text("what no loader opens says nothing of a model")
    assert train_in_fork(arguments).code == 0


def test_what_a_model_is_known_by(own_model, tmp_path):
    expected = identify(str(own_model))["sha256"]
    assert {"config.json", "model.safetensors", "tokenizer.json", "chat_template.jinja"} <= {*expected}
    other_weights(own_model)
    again = identify(str(own_model))["sha256"]
    assert {name for name in expected if expected[name] != again[name]} == {"model.safetensors"}
    with pytest.raises(UsageError, match="it is no directory and no hub id"):
        identify(str(tmp_path / "absent"))


def test_a_hub_name_is_known_by_commit_and_content(own_model, tmp_path, monkeypatch):
    """As the hub's cache has it after a download; nothing is fetched here."""
    import huggingface_hub.constants

    repository = tmp_path / "hub" / "models--org--tiny"
    commit = "0123456789abcdef0123456789abcdef01234567"
    shutil.copytree(own_model, repository / "snapshots" / commit)
    (repository / "refs").mkdir()
    (repository / "refs" / "main").write_text(commit)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    result = identify("org/tiny")
    assert (result["hub"], result["commit"]) == ("org/tiny", commit)
    assert result["sha256"] == identify(str(own_model))["sha256"]
    from curricle.train.model.load import load_model

    weights = load_model("org/tiny", "eager").get_input_embeddings().weight
    assert torch.equal(weights, load_file(own_model / "model.safetensors")["model.embed_tokens.weight"])
