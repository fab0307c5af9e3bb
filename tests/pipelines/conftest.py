"""Fixtures of the pipeline's tests."""

import json
from collections.abc import Callable

import pytest


@pytest.fixture(scope="session")
def alpaca_rows(shared_data) -> Callable[[int], list[dict]]:
    """The first rows of real Alpaca data."""

    def first(count: int) -> list[dict]:
        with (shared_data / "alpaca" / "alpaca_46k.jsonl").open(encoding="utf-8") as file:
            return [json.loads(next(file)) for _ in range(count)]

    return first
