"""Fixtures of the pipeline's tests."""

import json
import uuid
from collections.abc import Callable, Iterator

import pytest


@pytest.fixture(scope="session")
def alpaca_rows(shared_data) -> Callable[[int], list[dict]]:
    """The first rows of real Alpaca data."""

    def first(count: int) -> list[dict]:
        with (shared_data / "alpaca" / "alpaca_46k.jsonl").open(encoding="utf-8") as file:
            return [json.loads(next(file)) for _ in range(count)]

    return first


@pytest.fixture
def s3(monkeypatch) -> Iterator[str]:
    """The name of an empty bucket at a real S3 endpoint on loopback, which the environment leads to."""
    import boto3
    from moto.server import ThreadedMotoServer

    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0)
    server.start()
    try:
        endpoint = "http://{}:{}".format(*server.get_host_and_port())
        keys = {"AWS_ACCESS_KEY_ID": "test", "AWS_SECRET_ACCESS_KEY": "test", "AWS_DEFAULT_REGION": "us-east-1"}
        for name, value in {**keys, "AWS_ENDPOINT_URL": endpoint}.items():
            monkeypatch.setenv(name, value)
        client = boto3.client("s3", endpoint_url=endpoint)
        bucket = f"chats-{uuid.uuid4().hex[:8]}"
        client.create_bucket(Bucket=bucket)
        yield bucket
    finally:
        server.stop()
