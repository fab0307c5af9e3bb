"""Fixtures that every test may use."""

import atexit
import gc
import os
import sys
from pathlib import Path

import pytest
from curricle.curate.proxy.backend import load
from curricle.curate.proxy.settings import ProxySettings
from curricle.curate.proxy.weights import Weights, resolve
from curricle.schemas.common import secrets
from hypothesis import settings

atexit.register(gc.unfreeze)  # commands freeze what is loaded, and a process that is none would print that it leaks

REPOSITORY = Path(__file__).resolve().parents[1]

# Tests start a hundred interpreters, and each would compile torch again where bytecode is not to lie beside its source.
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
os.environ["PYTHONPYCACHEPREFIX"] = sys.pycache_prefix = str(REPOSITORY / "build" / "bytecode")
sys.dont_write_bytecode = False

settings.register_profile("curricle", deadline=None)  # how long an example takes says more of the machine than of us
settings.load_profile("curricle")


LONGEST = ("test_engines", "test_loop_processes", "test_faults", "test_kill", "test_proxy_scoring", "test_lean")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The files that take minutes begin, so that no worker waits for another at the end."""
    ranks = {name: rank for rank, name in enumerate(LONGEST)}
    items.sort(key=lambda item: ranks.get(item.path.stem, len(ranks)))


@pytest.fixture(autouse=True)
def _nothing_to_hide(monkeypatch: pytest.MonkeyPatch) -> None:
    """A command is a process of its own, and here many are one: what one hides would be hidden from the next."""
    monkeypatch.setattr(secrets, "_SECRETS", {})


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """Real data sets beside the repository; what needs them is skipped where they are absent."""
    directory = REPOSITORY.parent / "shared" / "data"
    if not directory.is_dir():
        pytest.skip(f"real data is not beside the repository ({directory.name} is absent)")
    return directory


@pytest.fixture(scope="session")
def smollm2() -> Weights:
    """The default proxy, converted once into the user's cache."""
    return resolve("smollm2-135m")


@pytest.fixture(scope="session")
def tiny_model(smollm2: Weights, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A random Llama of two layers with SmolLM2's tokenizer and chat template."""
    from small_llama import write_small_llama
    from transformers import AutoTokenizer

    directory = tmp_path_factory.mktemp("tiny")
    # with smaller weights every token is as likely as any other, and no test could fail
    write_small_llama(directory, AutoTokenizer.from_pretrained(smollm2.directory), initializer_range=0.2)
    return directory


@pytest.fixture(scope="module")
def vllm_engine(smollm2: Weights):
    """A vLLM engine, which takes a minute to start. It leaves no process group to the tests that come after it."""
    pytest.importorskip("vllm")
    import curricle.curate.metrics.mtld_kernel  # noqa: F401 - a job has numba loaded beside the engine

    yield load(ProxySettings(backend="vllm", max_length=256), smollm2)
    from vllm.distributed import cleanup_dist_env_and_memory

    cleanup_dist_env_and_memory()
