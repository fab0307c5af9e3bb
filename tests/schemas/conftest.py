"""Fixtures of the contract's tests."""

from typing import Any

import chat_templates
import pytest


@pytest.fixture(scope="module")
def tokenizer(smollm2) -> Any:
    """SmolLM2's, which knows the special tokens of all templates of ``chat_templates``."""
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(smollm2.directory)
    tokenizer.add_special_tokens({"extra_special_tokens": chat_templates.SPECIAL})
    return tokenizer
