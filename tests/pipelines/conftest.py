"""Fixtures of the pipeline's tests."""

import json
import shutil
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from running import curricle, write_jsonl


@pytest.fixture(scope="session")
def alpaca_rows(shared_data) -> Callable[[int], list[dict]]:
    """The first rows of real Alpaca data."""

    def first(count: int) -> list[dict]:
        with (shared_data / "alpaca" / "alpaca_46k.jsonl").open(encoding="utf-8") as file:
            return [json.loads(next(file)) for _ in range(count)]

    return first


@pytest.fixture(scope="module")
def whole(request, alpaca_rows, tmp_path_factory) -> Path:
    """The table of a job that nothing happened to, beside its input: with ``ROWS`` and ``OPTIONS`` of the module."""
    root = tmp_path_factory.mktemp("whole")
    write_jsonl(root / "in.jsonl", alpaca_rows(request.module.ROWS))
    curricle("score", "in.jsonl", "--output", "out", *request.module.OPTIONS, cwd=root)
    return root / "out"


@pytest.fixture
def directory(whole: Path, tmp_path: Path) -> Path:
    """Where the same job may run: it holds the input."""
    shutil.copy2(whole.parent / "in.jsonl", tmp_path)
    return tmp_path


@pytest.fixture
def score_first_shard(monkeypatch) -> Callable[..., None]:
    """``curricle ARGUMENTS``, of a job that ends with an error when its first shard is done."""
    from curricle.pipelines import engines
    from curricle.schemas.common.errors import UserError

    run = engines.run

    def of_the_first_shard(work: engines.Work) -> None:
        run(engines.Work(work.directory, work.job, work.pending[:1], work.run, work.check))
        raise UserError("the engine has gone")

    def score(*arguments: object, cwd: Path) -> None:
        with monkeypatch.context() as patched:
            patched.setattr(engines, "run", of_the_first_shard)
            curricle(*arguments, cwd=cwd, code=1)

    return score


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
