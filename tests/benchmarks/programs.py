"""Other programs, and our own at an earlier commit, each in an environment of its own below the benchmark's output."""

import hashlib
import json
import os
import shutil
import subprocess
import sys
import tarfile
from collections.abc import Sequence
from io import BytesIO
from pathlib import Path

from harness import Cost
from machine import REPOSITORY

HERE = Path(__file__).resolve().parent
PEER_FILES = HERE / "peers"
READY = ".made-of"
"""In an environment that is whole: the hash of what it was made of."""


class NotInstalled(Exception):
    """Why a program cannot be had here, in a line."""


def peer_python(name: str, output: Path) -> Path:
    """The Python of the program whose requirements are peers/NAME.txt; NotInstalled if they cannot be had.

    peers/NAME.overrides.txt replaces what it asks for itself.
    """
    requirements, overrides = PEER_FILES / f"{name}.txt", PEER_FILES / f"{name}.overrides.txt"
    wanted, identity = ["--requirements", str(requirements)], requirements.read_bytes()
    if overrides.exists():
        wanted, identity = [*wanted, "--overrides", str(overrides)], identity + overrides.read_bytes()
    return _environment(output / "peers" / name, wanted, identity)


def earlier_curricle(commit: str, output: Path) -> Path:
    """The command `curricle` of an earlier commit, with the versions that it asks for.

    NotInstalled in a copy without history.
    """
    directory = output / "commits" / commit
    source, environment = directory / "source", directory / "environment"
    archive = subprocess.run(["git", "-C", str(REPOSITORY), "archive", commit], capture_output=True)
    if archive.returncode:
        raise NotInstalled(f"this copy has no commit {commit}: {_last_line(archive.stderr.decode())}")
    if not source.exists():
        with tarfile.open(fileobj=BytesIO(archive.stdout)) as files:
            files.extractall(directory / "incomplete", filter="data")
        (directory / "incomplete").rename(source)
    makefile = (source / "Makefile").read_text("utf-8")
    proxy = next(line for line in makefile.splitlines() if line.startswith("PROXY = ")).removeprefix("PROXY = ")
    wanted = ["--constraints", str(source / "constraints.txt"), "--editable", f"{source}[curate]"]
    # the package of the proxy names an inference engine that is not needed
    python = _environment(environment, wanted, commit.encode(), ["--no-deps", proxy])
    return python.with_name("curricle")


def _environment(directory: Path, wanted: Sequence[str], identity: bytes, *more: Sequence[str]) -> Path:
    python, ready = directory / "bin" / "python", directory / READY
    digest = hashlib.sha256(identity).hexdigest()
    if ready.exists() and ready.read_text() == digest:
        return python
    ready.unlink(missing_ok=True)
    print(f"  making {directory}", flush=True)
    links = {"UV_FIND_LINKS": os.environ["PIP_FIND_LINKS"]} if "PIP_FIND_LINKS" in os.environ else {}
    uv = _uv()
    commands = [
        ["venv", "--quiet", "--allow-existing", "--python", sys.executable, str(directory)],
        *(["pip", "install", "--quiet", "--python", str(python), *each] for each in (wanted, *more)),
    ]
    for command in commands:
        done = subprocess.run([uv, *command], capture_output=True, text=True, env={**os.environ, **links})
        if done.returncode:
            raise NotInstalled(_last_line(done.stderr))
    ready.write_text(digest)
    return python


def _uv() -> str:
    beside = REPOSITORY / ".venv" / "bin" / "uv"
    if beside.exists():
        return str(beside)
    if (path := shutil.which("uv")) is None:
        raise NotInstalled("uv is not here, which makes environments: run `make bench`")
    return path


def _last_line(text: str) -> str:
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return lines[-1] if lines else "no message"


class Program:
    """A script of peers/ in its own environment: it loads its model once, and answers one question at a time."""

    def __init__(self, python: Path, script: str, *arguments: object, directory: Path) -> None:
        self.log = directory / f"{script}.log"
        environment = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}
        offline = {"HF_HUB_OFFLINE": "1", "TOKENIZERS_PARALLELISM": "true"}
        self.process = subprocess.Popen(
            [str(python), str(PEER_FILES / script), *map(str, arguments)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self.log.open("w"),
            text=True,
            cwd=directory,
            env={**environment, **offline},
        )

    def ask(self, question: object) -> tuple[list, Cost]:
        """Its values and what they cost: seconds of the work alone."""
        assert self.process.stdin and self.process.stdout
        self.process.stdin.write(json.dumps(question) + "\n")
        self.process.stdin.flush()
        answer = self.process.stdout.readline()
        if not answer:
            raise NotInstalled(f"it stopped: {_last_line(self.log.read_text())}")
        values = json.loads(answer)
        return values["values"], Cost(values["seconds"], values["processor"])

    def close(self) -> None:
        assert self.process.stdin and self.process.stdout
        self.process.stdin.close()
        self.process.stdout.close()
        self.process.wait()
