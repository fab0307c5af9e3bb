"""What computes attention and experts is named by us: a config.json cannot name code of the hub."""

import json
import os
from pathlib import Path

import curricle.curate
import curricle.train
import pytest
import torch
from architectures import tiny_model, write_tokenizer
from curricle.curate.proxy.backend import load
from curricle.curate.proxy.settings import ProxySettings
from curricle.curate.proxy.weights import Weights
from curricle.schemas.chat.models import implementations
from curricle.schemas.common.errors import UsageError
from curricle.train.model.load import load_model
from transformers import AutoModel, AutoModelForCausalLM

FOREIGN = "kernels-community/flash-attn2"
CONFIGS = {
    "attention": ("llama", {"attn_implementation": FOREIGN}),
    "experts": ("mixtral", {"experts_implementation": "sonicmoe"}),
}


@pytest.fixture(params=CONFIGS)
def directory(request, tmp_path) -> Path:
    kind, named = CONFIGS[request.param]
    tiny_model(kind).save_pretrained(tmp_path)
    write_tokenizer(tmp_path)
    path = tmp_path / "config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **named}))
    return tmp_path


def test_a_config_does_not_choose_the_code(directory):
    """What is loaded has our choice, whatever the config says; and a config that says so is refused before."""
    for auto in (AutoModel, AutoModelForCausalLM):
        config = auto.from_pretrained(directory, **implementations()).config
        assert config._attn_implementation == "sdpa"
        assert config._experts_implementation in (None, "grouped_mm", "eager")
    loads = (
        lambda: load_model(str(directory), "auto"),
        lambda: load(ProxySettings(max_length=32), Weights(directory, {})).model,  # type: ignore[attr-defined]
    )
    for loaded in loads:
        try:
            config = loaded().config
        except UsageError as error:
            assert FOREIGN in str(error)
        else:
            assert config._attn_implementation == "sdpa" and config._experts_implementation != "sonicmoe"


def test_without_a_name_it_would(directory):
    """The same directories, loaded as transformers loads them by default, ask for what the config names."""
    try:
        model = AutoModelForCausalLM.from_pretrained(directory)
    except ImportError as error:
        assert "kernels" in str(error)
    else:
        assert model.config._experts_implementation == "sonicmoe"


def test_no_code_comes_from_the_hub_by_itself():
    assert curricle.train and curricle.curate
    assert os.environ["USE_HUB_KERNELS"] == "NO"


@pytest.mark.parametrize("kind", ["bloom", "mpt", "gptj", "gpt_neo", "xglm", "gpt_oss", "rwkv", "mamba"])
def test_models_without_sdpa_take_what_they_have_unless_told_otherwise(kind, tmp_path):
    tiny_model(kind).save_pretrained(tmp_path)
    assert load_model(str(tmp_path), "auto").config._attn_implementation == "eager"
    with pytest.raises(UsageError, match=r"sdpa attention(.|\n)*leave out --device\.attention"):
        load_model(str(tmp_path), "sdpa")


def test_dtype_is_ours_too(tmp_path):
    tiny_model("llama").to(torch.bfloat16).save_pretrained(tmp_path)
    assert load_model(str(tmp_path), "auto").dtype == torch.float32
