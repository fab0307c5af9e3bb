"""Workers are forked from a process that has imported their libraries, and end as processes do."""

import os
import signal
from collections.abc import Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from threading import Thread
from types import MappingProxyType

import pytest
from clusters import until_true
from curricle.pipelines.processes.fork_server import ForkServer
from curricle.pipelines.processes.log import output_of_children

WORKER = """
import atexit, os, sys, signal, pathlib

def main(arguments):
    print("printed by a worker")
    folder, end = pathlib.Path(os.environ["FOLDER"]), os.environ["END"]
    (folder / "ends" / f"{os.getpid()} {os.getppid()}").touch()
    assert not sys.stdin.read()
    atexit.register((folder / f"left {os.getpid()}").touch)
    if end == "returns":
        return
    if end == "waits":
        signal.pause()
    if end == "ignores":
        assert signal.getsignal(signal.SIGINT) is signal.SIG_IGN
        return
    if end == "signal":
        os.kill(os.getpid(), signal.SIGKILL)
    sys.exit(int(end))
"""
LIBRARY = """
import os, pathlib
(pathlib.Path(os.environ["FOLDER"]) / "imports" / str(os.getpid())).touch()
"""


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where a worker and a library lie that leave a file for each worker, and for each import."""
    for name, text in (("its_worker", WORKER), ("its_library", LIBRARY)):
        (tmp_path / f"{name}.py").write_text(text)
    for name in ("ends", "imports"):
        (tmp_path / name).mkdir()
    monkeypatch.delenv("PYTHONUNBUFFERED", raising=False)  # what waits to be printed is copied by a fork
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    monkeypatch.setenv("FOLDER", str(tmp_path))
    return tmp_path


@pytest.fixture
def server(folder: Path) -> Iterator[ForkServer]:
    server = ForkServer("its_worker", ["its_library"], os.environ)
    yield server
    server.close()


def test_workers_end_as_they_do_and_their_libraries_are_imported_once(server: ForkServer, folder: Path) -> None:
    with ThreadPoolExecutor(4) as threads:
        ends = list(threads.map(lambda end: server.run(os.environ | {"END": end}), ["returns", "3", "signal", "0"]))
    assert ends == [0, 3, -signal.SIGKILL, 0]
    assert len([*folder.glob("left *")]) == 3, "all but the one that was killed do what is registered for the end"
    workers, parents = zip(*(path.name.split() for path in (folder / "ends").iterdir()), strict=True)
    assert len(set(workers)) == 4
    assert [*set(parents)] == [path.name for path in (folder / "imports").iterdir()]
    assert not {str(os.getpid()), *parents} & {*workers}


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_signals_are_for_the_workers(server: ForkServer, folder: Path, number: int) -> None:
    """A terminal, and many schedulers, send them to all processes of a job."""
    with ThreadPoolExecutor(1) as thread:
        waits = thread.submit(server.run, os.environ | {"END": "waits"})
        until_true(lambda: [*(folder / "ends").iterdir()], "a worker waits")
        (ended,) = (folder / "ends").iterdir()
        worker, parent = map(int, ended.name.split())
        os.kill(parent, number)
        os.kill(worker, number)
        assert waits.result(timeout=60) == -number
        assert server.run(os.environ | {"END": "0"}) == 0


def test_a_server_that_is_killed_ends_its_workers_for_who_waits_for_them(server: ForkServer, folder: Path) -> None:
    with ThreadPoolExecutor(1) as thread:
        waits = thread.submit(server.run, os.environ | {"END": "waits"})
        until_true(lambda: [*(folder / "ends").iterdir()], "a worker waits")
        (ended,) = (folder / "ends").iterdir()
        worker, parent = map(int, ended.name.split())
        os.kill(parent, signal.SIGKILL)
        assert waits.result(timeout=60) == -signal.SIGKILL
        os.kill(worker, signal.SIGKILL)
        assert server.run(os.environ | {"END": "0"}) == -signal.SIGKILL


def test_what_cannot_be_imported_ends_every_worker(folder: Path, capfd: pytest.CaptureFixture[str]) -> None:
    server = ForkServer("its_worker", ["no_such_library"], os.environ)
    assert server.run(os.environ | {"END": "0"}) == 1
    assert server.run(os.environ | {"END": "0"}) == 1
    server.close()
    assert "no_such_library" in capfd.readouterr().err


def within_a_minute(server: ForkServer, end: str, more: Mapping[str, str] = MappingProxyType({})) -> int:
    """A worker that is waited for for ever is a failure, and nothing to wait for."""
    result: Future[int] = Future()
    Thread(target=lambda: result.set_result(server.run({**os.environ, **more, "END": end})), daemon=True).start()
    return result.result(timeout=60)


def test_what_is_printed_before_a_worker_is_there_is_no_answer(folder: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """It goes into the log of the workers, which was not there when it was printed."""
    (folder / "sitecustomize.py").write_text("print('printed at once', flush=True)")
    (folder / "its_library.py").write_text("print('printed in time')")
    server = ForkServer("its_worker", ["its_library"], os.environ)
    with output_of_children(folder / "workers.log"):
        assert [within_a_minute(server, end) for end in ("returns", "3")] == [0, 3]
        server.close()
    log = (folder / "workers.log").read_text()
    assert [log.count(f"printed {how}") for how in ("at once", "in time", "by a worker")] == [1, 1, 2]
    assert capfd.readouterr() == ("", "")


def test_variables_may_be_longer_than_a_message_between_processes(server: ForkServer) -> None:
    """Which is 200 kB long at most; the kernel takes 2 MB of variables."""
    many = {f"VARIABLE_{number}": "\udcff" * 100_000 for number in range(10)}
    assert [within_a_minute(server, end, many) for end in ("0", "3")] == [0, 3]


def test_workers_draw_different_numbers(folder: Path) -> None:
    """From the generators that libraries share, too, which were there before the fork."""
    (folder / "draws.py").write_text(
        "import os, pathlib, random\nimport numpy.random as np\n"
        "def main(arguments):\n"
        "    file = pathlib.Path(os.environ['FOLDER'], os.environ['END'])\n"
        "    file.write_text(f'{random.random()} {np.random()}')\n"
    )
    server = ForkServer("draws", [], os.environ)
    assert [server.run(os.environ | {"END": end}) for end in ("one", "other")] == [0, 0]
    server.close()
    one, other = ((folder / end).read_text().split() for end in ("one", "other"))
    assert all(a != b for a, b in zip(one, other, strict=True))


def test_signals_are_ignored_as_by_who_starts_workers(folder: Path) -> None:
    """A shell starts jobs in the background so, and some daemons do not ask how their children end."""
    numbers = signal.SIGINT, signal.SIGCHLD
    before = {number: signal.signal(number, signal.SIG_IGN) for number in numbers}
    try:
        server = ForkServer("its_worker", [], os.environ)
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
    assert [within_a_minute(server, end) for end in ("ignores", "3")] == [0, 3]
    server.close()


def test_what_workers_print_is_seen(folder: Path, capfd: pytest.CaptureFixture[str]) -> None:
    server = ForkServer("its_worker", [], os.environ)
    assert server.run(os.environ | {"END": "0"}) == 0
    server.close()
    assert "printed by a worker" in capfd.readouterr().err


def test_a_server_that_was_asked_for_no_worker_ends_at_once(folder: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """Whatever it imports: as where a job finds that there is nothing to do."""
    (folder / "its_library.py").write_text(f"print('begun', flush=True)\n{LIBRARY}\nimport signal\nsignal.pause()")
    server = ForkServer("its_worker", ["its_library"], os.environ)
    until_true(lambda: [*(folder / "imports").iterdir()], "the library is imported")
    (importer,) = (folder / "imports").iterdir()
    server.close()
    until_true(lambda: not Path("/proc", importer.name).exists(), "the server has ended")
    assert "begun" not in capfd.readouterr().err
