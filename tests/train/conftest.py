"""A small signed table, and runs in processes that may be killed, for the tests of the trainer."""

import functools
import os
import random
import socket
import sys
import traceback
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from curricle.curate.proxy.weights import Weights
from curricle.schemas.columns import ScoreColumn
from curricle.schemas.fingerprint import example_id
from curricle.schemas.table import table_schema

# Runs are forked from the test process, to be killed; threads of its libraries would not survive that.
os.environ["TOKENIZERS_PARALLELISM"] = "false"
os.environ["OMP_NUM_THREADS"] = "1"

# fmt: off
WORDS = ["the", "cart", "rolls", "over", "a", "quiet", "bridge", "while", "two", "grey", "horses", "look", "for",
         "water", "and", "find", "old", "stones", "instead"]
# fmt: on

COLUMNS = [
    ScoreColumn("prompt_words", pa.int32(), "words", "words of the prompt", "high", "length", 1),
    ScoreColumn("response_tokens", pa.int32(), "tokens", "tokens of the response", "high", "length", 1),
    ScoreColumn("response_mtld", pa.float64(), "words", "lexical diversity", "high", "mtld", 1),
    ScoreColumn("loss", pa.float64(), "nats/token", "mean loss", "high", "loss", 1),
    ScoreColumn("kind", pa.string(), "", "a category", None, "kind", 1),
]


def conversations(rows: int, seed: int = 0) -> list[list[dict[str, str]]]:
    """Conversations of one or two rounds and very different lengths; the same for the same seed."""
    draw = random.Random(seed)

    def text(low: int, high: int) -> str:
        return " ".join(draw.choices(WORDS, k=draw.randint(low, high)))

    return [
        [
            {"role": role, "content": f"{index} {text(2, 20)}"}
            for _ in range(1 + (index % 7 == 0))
            for role in ("user", "assistant")
        ]
        for index in range(rows)
    ]


def _write_table(path: Path, rows: int = 64, seed: int = 0, fingerprint: str = "f" * 32) -> Path:
    """A table of one part, with content ids and scores; ``path`` is the Parquet file."""
    draw = random.Random(seed)
    records = [
        {
            "example_id": example_id((turn["role"], turn["content"]) for turn in messages),
            "source": "made.jsonl",
            "source_position": index,
            "messages": messages,
            "extra": None,
            "prompt_words": len(messages[0]["content"].split()),
            "response_tokens": len(messages[1]["content"].split()),
            "response_mtld": draw.uniform(10, 90) if index % 11 else None,
            "loss": draw.uniform(0.5, 4),
            "kind": "abc"[index % 3],
            "notes": [],
        }
        for index, messages in enumerate(conversations(rows, seed))
    ]
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.Table.from_pylist(records, table_schema(COLUMNS, fingerprint)), path, row_group_size=20)
    return path


@pytest.fixture(scope="session")
def tiny_model(smollm2: Weights, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A random Llama of two layers with the first of SmolLM2's tokens, and weights as small as training begins with."""
    from small_llama import write_small_llama, write_small_tokenizer

    directory = tmp_path_factory.mktemp("models") / "tiny"
    write_small_llama(directory, write_small_tokenizer(directory, smollm2.directory), num_key_value_heads=2)
    return directory


@pytest.fixture(scope="session")
def write_signed() -> Callable[..., Path]:
    return _write_table


@pytest.fixture
def table_file(tmp_path: Path) -> Path:
    return _write_table(tmp_path / "table" / "part.parquet")


@pytest.fixture
def command(tiny_model: Path, table_file: Path, tmp_path: Path) -> Callable[..., list[str]]:
    """Arguments of ``curricle-train run`` for a short run; further ones override."""

    def arguments(*more: str, output: str = "run", without: str = "") -> list[str]:
        base = {
            "--data": str(table_file),
            "--model": str(tiny_model),
            "--output": str(tmp_path / output),
            "--max-length": "128",
            "--batch.size": "8",
            "--batch.tokens": "256",
            "--optimizer.lr": "1e-3",
            "--log.every": "1",
            "--checkpoint.every": "3",
            "--curriculum.decisions": "6",
            "--curriculum.probe-cost": "0",
        }
        options = dict(zip(more[::2], more[1::2], strict=True))
        if options.get("--curriculum", "campus") != "campus":
            base = {name: value for name, value in base.items() if not name.startswith("--curriculum.")}
        return [
            "run",
            *(
                part
                for pair in {**base, **options}.items()
                if not (without and pair[0].startswith(without))
                for part in pair
            ),
        ]

    return arguments


@dataclass(frozen=True)
class Ended:
    """How a forked command ended: its exit code, negative for a signal, and what it printed."""

    code: int
    text: str


def fork(action: Callable[[], int], log: Path) -> int:
    """Start an action in a forked process, and return its pid. Patches that it makes stay there."""
    sys.stdout.flush()
    sys.stderr.flush()
    pid = os.fork()
    if pid == 0:
        code = 70
        try:
            with log.open("wb") as file:
                os.dup2(file.fileno(), 1)
                os.dup2(file.fileno(), 2)
            sys.stdout = os.fdopen(1, "w", closefd=False)
            sys.stderr = os.fdopen(2, "w", closefd=False)
            code = action()
        except BaseException:
            traceback.print_exc()
        finally:
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(code)
    return pid


def fork_together(action: Callable[[int], int], logs: Sequence[Path]) -> list[int]:
    """Start an action of each rank in a process with a log, several as torchrun would have them meet; their pids."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    common = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "WORLD_SIZE": str(len(logs))}

    def inside(rank: int) -> int:
        if len(logs) > 1:
            os.environ.update(common, RANK=str(rank), LOCAL_RANK=str(rank))
        return action(rank)

    return [fork(functools.partial(inside, rank), log) for rank, log in enumerate(logs)]


def wait(pid: int, log: Path) -> Ended:
    _, status = os.waitpid(pid, 0)
    return Ended(os.waitstatus_to_exitcode(status), log.read_text())


@pytest.fixture(scope="session")
def fork_process() -> Callable[[Callable[[], int], Path], int]:
    return fork


@pytest.fixture(scope="session")
def fork_processes() -> Callable[[Callable[[int], int], Sequence[Path]], list[int]]:
    return fork_together


@pytest.fixture(scope="session")
def wait_process() -> Callable[[int, Path], Ended]:
    return wait


@pytest.fixture
def train_in_fork(tmp_path: Path, tiny_model: Path) -> Callable[..., Ended]:
    """``curricle-train ARGUMENTS`` in a forked process, after ``patch()`` was called there."""
    import curricle.train.training.loop
    import torch
    from curricle.train.cli import main

    torch.set_num_threads(1)
    assert curricle.train.training.loop

    def run(arguments: list[str], patch: Callable[[], object] = lambda: None) -> Ended:
        log = tmp_path / "log.txt"
        return wait(fork(lambda: patch() or main(arguments), log), log)

    return run


@pytest.fixture
def train_in_forks(train_in_fork: object, tmp_path: Path) -> Callable[..., list[Ended]]:
    """The same in several processes that train together, as torchrun would start them."""
    from curricle.train.cli import main

    def run(count: int, arguments: list[str], patch: Callable[[], object] = lambda: None) -> list[Ended]:
        logs = [tmp_path / f"log-{rank}.txt" for rank in range(count)]
        pids = fork_together(lambda rank: patch() or main(arguments), logs)
        return [wait(pid, log) for pid, log in zip(pids, logs, strict=True)]

    return run
