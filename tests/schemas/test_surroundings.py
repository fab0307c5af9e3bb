"""Commands where a terminal shows little, where readers leave, and where nobody has a home."""

import json
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest
from curricle.schemas.common.command import DONE, FAILED, UNREAD, USAGE

PROGRAMS = {"curricle": ["-m", "curricle.pipelines.cli"], "curricle-train": ["-m", "curricle.train.cli"]}
HELP = {
    "curricle": ["score", "verify", "select", "lp", "reward", "cluster", "transfer", "report", "status", "workers"],
    "curricle-train": ["run", "plan", "compare", "reward", "report"],
}
REPOSITORY = Path(__file__).parents[2]
NOBODY = ["--reuid=12345", "--regid=12345", "--clear-groups"]
NOBODY += ["--inh-caps=+dac_read_search", "--ambient-caps=+dac_read_search"]


def run(*command: str, program: str = "curricle", nobody: bool = False, **options) -> subprocess.CompletedProcess:
    environment = {
        **os.environ,
        "PYTHONPATH": str(REPOSITORY),
        "OMP_NUM_THREADS": "1",
        "PYTHONUNBUFFERED": None,
        **options.pop("env", {}),
    }
    environment = {name: value for name, value in environment.items() if value is not None}
    python = [sys.executable, "-P", *PROGRAMS[program], *command]
    if nobody and os.geteuid() == 0:
        python = ["setpriv", *NOBODY, *python]
    arguments = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True, "env": environment, **options}
    return subprocess.run(python, **arguments)


@pytest.mark.parametrize("program", PROGRAMS)
def test_help_in_any_encoding(program):
    script = """
import io, sys
from {module} import main
for command in {commands}:
    sys.stdout = io.TextIOWrapper(io.BytesIO(), encoding=sys.argv[1])
    try:
        main([command, "--help"])
    except SystemExit as ended:
        assert ended.code == 0
    assert b"usage" in sys.stdout.buffer.getvalue()
"""
    code = script.format(module=PROGRAMS[program][1], commands=HELP[program])
    for encoding in ("ascii", "latin-1", "cp437"):
        subprocess.run([sys.executable, "-c", code, encoding], check=True)


def test_names_in_any_encoding(tmp_path):
    name = tmp_path / "données → \N{ROLLING ON THE FLOOR LAUGHING}.jsonl"
    name.write_text('{"prompt": "Add.", "response": "Two."}\n')
    ascii = {"PYTHONIOENCODING": "ascii", "LC_ALL": "C"}
    out = str(tmp_path / "café")
    result = run("score", str(name), "--output", out, "--metrics", "mtld", env=ascii)
    assert result.returncode == DONE, result.stderr
    for command in ("verify", "status", "report"):
        ended = run(command, out, env=ascii)
        assert ended.returncode == DONE and "caf\\xe9" in ended.stdout, ended.stderr


def test_a_path_that_libraries_would_read_in_another_encoding(tmp_path):
    other = {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
    ended = run("verify", "caf\xe9", env=other)
    assert ended.returncode == USAGE and "PYTHONUTF8=1" in ended.stderr, ended.stderr


@pytest.mark.parametrize("command", [("verify", "absent"), ("--help",), ("score", "--help"), ("ned",)])
def test_a_reader_that_has_gone(command):
    reading, writing = os.pipe()
    os.close(reading)
    ended = run(*command, stdout=writing)
    os.close(writing)
    quiet = command[0] not in ("verify", "ned")  # these say what is wrong on the other stream
    assert ended.returncode == (UNREAD if quiet else USAGE)
    assert bool(ended.stderr) != quiet and "Traceback" not in ended.stderr and "BrokenPipe" not in ended.stderr


def test_an_output_that_is_full_or_closed():
    with open("/dev/full", "w") as full:
        ended = run("--help", stdout=full)
    assert ended.returncode == FAILED
    assert ended.stderr == "curricle: standard output cannot be written: No space left on device\n"
    with open("/dev/full", "w") as full:
        ended = run("--help", stdout=full, env={"PYTHONUNBUFFERED": "1"})
    assert ended.returncode == FAILED and "standard output cannot be written: No space left" in ended.stderr
    assert "Traceback" not in ended.stderr
    closed = ["sh", "-c", '"$@" >&- 2>&- <&-', "-", sys.executable, "-P", *PROGRAMS["curricle"], "--help"]
    assert subprocess.run(closed, env={**os.environ, "PYTHONPATH": str(REPOSITORY)}).returncode == DONE
    settled = "import sys; from curricle.schemas.common.surroundings import settle; settle(); "
    code = settled + "[stream.flush() or stream.fileno() for stream in (sys.stdout, sys.stderr)] == [1, 2] or exit(7)"
    assert subprocess.run([*closed[:5], "-P", "-c", code], cwd=REPOSITORY).returncode == DONE


needs_nobody = pytest.mark.skipif(os.geteuid() == 0 and not shutil.which("setpriv"), reason="setpriv is not installed")


@pytest.fixture
def anyones():
    """A directory that anyone may reach and write to."""
    with tempfile.TemporaryDirectory() as name:
        Path(name).chmod(0o777)
        Path(name, "a.jsonl").write_text('{"prompt": "Add one and one.", "response": "That makes two."}\n')
        yield Path(name)


@needs_nobody
@pytest.mark.parametrize("home", [None, "/nonexistent"])
def test_no_directory_for_the_packaged_model(home, anyones):
    environment = {"HOME": home, "CURRICLE_CACHE": None, "XDG_CACHE_HOME": None}
    arguments = ["score", "a.jsonl", "--output", "out", "--metrics", "length"]
    ended = run(*arguments, nobody=True, cwd=anyones, env=environment)
    assert ended.returncode == USAGE, ended.stderr
    assert "there is no directory for the model" in ended.stderr and "set CURRICLE_CACHE to a directory" in ended.stderr
    assert {path.name for path in anyones.iterdir()} == {"a.jsonl"}


@needs_nobody
@pytest.mark.parametrize("home", [None, "/nonexistent"])
def test_what_needs_no_model_needs_no_home(home, anyones):
    environment = {"HOME": home, "CURRICLE_CACHE": None, "XDG_CACHE_HOME": None, "MPLCONFIGDIR": None}
    ended = run("score", "a.jsonl", "--output", "out", "--metrics", "mtld", nobody=True, cwd=anyones, env=environment)
    assert ended.returncode == DONE, ended.stderr
    assert "Matplotlib" not in ended.stderr
    assert {path.name for path in anyones.iterdir()} == {"a.jsonl", "out"}  # no folder called ~ either


def test_caches_lie_where_a_home_is_missing(tmp_path):
    script = "import json, os; from curricle.schemas.common.surroundings import CACHES, settle; settle(); "
    script += "print(json.dumps({name: os.environ.get(name) for name in CACHES}))"
    bare = {name: value for name, value in os.environ.items() if not name.endswith(("CACHE_DIR", "CONFIGDIR"))}

    def cache_paths(**environment: str) -> dict[str, str]:
        command = [sys.executable, "-c", script]
        ended = subprocess.run(command, env={**bare, **environment}, capture_output=True, check=True, text=True)
        return json.loads(ended.stdout)

    (tmp_path / "cache").mkdir()
    cache = str(tmp_path / "cache")
    assert cache_paths(HOME="/nonexistent", CURRICLE_CACHE=cache)["NUMBA_CACHE_DIR"] == f"{cache}/numba"
    assert cache_paths(HOME="/nonexistent", MPLCONFIGDIR="/mine")["MPLCONFIGDIR"] == "/mine"
    temporary = Path(cache_paths(HOME="/nonexistent", CURRICLE_CACHE="")["NUMBA_CACHE_DIR"]).parent
    assert temporary.is_absolute() and not temporary.exists()
    assert cache_paths(HOME=str(tmp_path))["NUMBA_CACHE_DIR"] is None
