"""Running the real command, in this process or in one of its own."""

import contextlib
import io
import json
import re
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path

import forking
import pyarrow as pa
import pyarrow.parquet as pq
from curricle.pipelines.cli import main
from curricle.schemas.manifest import read_manifest


def command(*arguments: object) -> list[str]:
    return [sys.executable, "-P", "-m", "curricle.pipelines.cli", *map(str, arguments)]


def start(*arguments: object, cwd: Path | None = None) -> subprocess.Popen:
    """Start `curricle` in a process group of its own, so that a test can kill it with all its workers."""
    return forking.Command(
        command(*arguments),
        cwd=cwd,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )


def curricle(*arguments: object, cwd: Path | None = None, code: int = 0) -> str:
    """Run `curricle` to its end in this process, check its exit code, and return what it printed.

    Importing the engine takes seconds: what is about processes uses ``start`` or ``in_process_of_its_own``.
    """
    printed = io.StringIO()
    with contextlib.chdir(cwd or Path.cwd()), contextlib.redirect_stdout(printed), contextlib.redirect_stderr(printed):
        got = main([str(argument) for argument in arguments])
    assert got == code, printed.getvalue()
    return printed.getvalue()


def in_process_of_its_own(*arguments: object, cwd: Path | None = None, code: int = 0) -> str:
    """The same as a person runs it, but for imports."""
    done = forking.run(command(*arguments), cwd=cwd, timeout=600)
    output = done.stdout + done.stderr
    assert done.returncode == code, output
    return output


def read_data(directory: Path) -> pa.Table:
    """All rows of a finished table, in order."""
    manifest = read_manifest(directory)
    return pa.concat_tables(pq.read_table(directory / part.path) for part in manifest.data)


def read_rejects(directory: Path) -> list[dict]:
    manifest = read_manifest(directory)
    return [row for part in manifest.rejects for row in pq.read_table(directory / part.path).to_pylist()]


def signed(directory: Path) -> dict:
    """The manifest without what an identical job may do differently."""
    manifest = json.loads((directory / "manifest.json").read_text())
    del manifest["cost"], manifest["provenance"]
    return manifest


def write_jsonl(path: Path, records: Iterable[dict]) -> Path:
    path.write_text("".join(json.dumps(record, ensure_ascii=False) + "\n" for record in records), "utf-8")
    return path


def catches(process: subprocess.Popen, number: int) -> bool:
    """Whether a process has a handler for a signal: from then on what it does is ours, and not the interpreter's."""
    status = Path(f"/proc/{process.pid}/status").read_text()
    mask = re.search(r"^SigCgt:\t(\w+)$", status, re.MULTILINE)
    return bool(mask and int(mask[1], 16) >> (number - 1) & 1)


def children_of_group(group: int) -> list[int]:
    """The processes that are left of a group, without those that have ended and wait to be asked how."""
    result = []
    for path in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(FileNotFoundError, ProcessLookupError):
            state, _, of = (path / "stat").read_text().rpartition(") ")[2].split()[:3]
            if int(of) == group and state != "Z":
                result.append(int(path.name))
    return result
