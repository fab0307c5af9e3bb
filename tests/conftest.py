"""Fixtures that every test may use."""

import atexit
import gc
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import drawn
import forking
import leftovers
import pytest
from curricle.curate.proxy.backend import load
from curricle.curate.proxy.settings import ProxySettings
from curricle.curate.proxy.weights import Weights, resolve
from curricle.pipelines.processes import trainer
from curricle.schemas.common import secrets
from hypothesis import settings
from xdist.scheduler import LoadFileScheduling

atexit.register(gc.unfreeze)  # commands freeze what is loaded, and a process that is none would print that it leaks

REPOSITORY = Path(__file__).resolve().parents[1]

os.environ["OMP_NUM_THREADS"] = "1"  # there are as many tests at a time as cores
# Tests start a hundred interpreters, and each would compile torch again where bytecode is not to lie beside its source.
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
os.environ["PYTHONPYCACHEPREFIX"] = sys.pycache_prefix = str(REPOSITORY / "build" / "bytecode")
sys.dont_write_bytecode = False

# how long an example takes says more of the machine than of us
settings.register_profile("curricle", deadline=None, max_examples=drawn.amount(50, 2_000))
settings.load_profile("curricle")


def pytest_configure(config: pytest.Config) -> None:
    if not hasattr(config, "workerinput"):
        config.stash[MARK] = mark = leftovers.mark()
        leftovers.look_after(mark)


MARK = pytest.StashKey[str]()


@pytest.hookimpl(trylast=True)
def pytest_sessionfinish(session: pytest.Session, exitstatus: int) -> None:
    """Nothing that the tests started is left."""
    forking.end()
    if mark := session.config.stash.get(MARK, ""):
        interrupted = exitstatus == pytest.ExitCode.INTERRUPTED
        left = leftovers.end(mark, 1 if interrupted else leftovers.PATIENCE)
        if left and not interrupted:
            session.exitstatus = pytest.ExitCode.TESTS_FAILED
            session.config.stash[LEFT] = left


LEFT = pytest.StashKey[dict[int, str]]()


def pytest_report_header() -> str:
    how = "all of it" if drawn.SOAK else "a part, drawn anew every day; `make soak` takes all"
    return f"CURRICLE_SEED={drawn.SEED}: {how}"


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport() -> Iterator[None]:
    report = yield
    if report.failed:
        report.sections.append(("drawn", f"CURRICLE_SEED={drawn.SEED} CURRICLE_SOAK={int(drawn.SOAK)}"))
    return report


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    for pid, command in config.stash.get(LEFT, {}).items():
        terminalreporter.write_line(f"LEFT BEHIND by the tests, and ended: process {pid}: {command}", red=True)


FIRST = (
    *("test_operations", "test_evaluate", "test_lean", "test_proxy_scoring", "test_engines", "test_loop_processes"),
    *("test_faults", "test_compare", "test_pages", "test_outcome", "test_loop_resume", "test_leftovers"),
    *("test_gpu_checks", "test_evidence_transfer", "test_evidence_order", "test_loss", "test_kill"),
)
"""Files that take a minute or half of one, the longest first: whoever gets one last would let the others wait."""
APART = ("test_architectures",)
"""Files whose tests share nothing, and which fill what is left at the end."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    order = {**{name: index - len(FIRST) for index, name in enumerate(FIRST)}, **dict.fromkeys(APART, 1)}
    items.sort(key=lambda item: order.get(item.path.stem, 0))


def pytest_collection_finish() -> None:
    forking.environment = dict(os.environ)  # all of conftest.py has been read, and no test has run
    gc.collect()  # of what was imported: the next round over all of it comes when there is a quarter more


class Files(LoadFileScheduling):
    """A worker gets a file, with what its tests share; of a file whose tests share nothing, a test."""

    def _split_scope(self, nodeid: str) -> str:
        return nodeid if Path(nodeid.split("::")[0]).stem in APART else super()._split_scope(nodeid)


def pytest_xdist_make_scheduler(config: pytest.Config, log: object) -> Files | None:
    return Files(config, log) if config.getvalue("dist") == "loadfile" else None  # type: ignore[arg-type]


@pytest.fixture(scope="module", autouse=True)
def _environment_of_a_file() -> Iterator[None]:
    """What tests, and libraries that they load, set in the environment ends with their file: no command could be forked
    after it."""
    environment = dict(os.environ)
    yield
    os.environ.clear()
    os.environ.update(environment)


@pytest.fixture(autouse=True)
def _nothing_to_hide(monkeypatch: pytest.MonkeyPatch) -> None:
    """A command is a process of its own, and here many are one: what one hides would be hidden from the next."""
    monkeypatch.setattr(secrets, "_SECRETS", {})


@pytest.fixture(autouse=True)
def _trainer_is_forked(monkeypatch: pytest.MonkeyPatch) -> None:
    """A command that runs in this process starts the trainer as a process of its own, without its imports."""
    monkeypatch.setattr(trainer, "subprocess", SimpleNamespace(**{**vars(subprocess), "Popen": forking.Command}))


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
    """A random Llama of two layers with the first of SmolLM2's tokens and its chat template."""
    from small_llama import write_small_llama, write_small_tokenizer

    directory = tmp_path_factory.mktemp("tiny")
    # with smaller weights every token is as likely as any other, and no test could fail
    write_small_llama(directory, write_small_tokenizer(directory, smollm2.directory), initializer_range=0.2)
    return directory


@pytest.fixture(scope="module")
def vllm_engine(smollm2: Weights):
    """A vLLM engine, which takes a minute to start. It leaves nothing to the tests that come after it.

    With its gigabytes each process that they fork would take longer.
    """
    pytest.importorskip("vllm")
    import curricle.curate.metrics.mtld_kernel  # noqa: F401 - a job has numba loaded beside the engine

    engine = load(ProxySettings(backend="vllm", max_length=256), smollm2)
    yield engine
    from vllm.distributed import cleanup_dist_env_and_memory

    engine.llm.llm_engine.engine_core.shutdown()
    del engine
    cleanup_dist_env_and_memory()
