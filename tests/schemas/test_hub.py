"""Models of a hub that cannot be reached, or is down: said at once, or read from its cache."""

import http.server
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

ASK = (
    "import logging; logging.basicConfig(level=20, format='%(message)s'); logging.getLogger('httpx').disabled = True\n"
)
ASK += "from curricle.schemas.chat.hub import snapshot; print(snapshot('org/tiny'))"


def snapshot(home: Path, hub: str) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "HF_HOME": str(home), "HF_ENDPOINT": hub}
    return subprocess.run([sys.executable, "-c", ASK], env=environment, capture_output=True, text=True, timeout=300)


@pytest.fixture
def down() -> Iterator[tuple[str, list[str]]]:
    """A hub that answers every request with 503, and the requests for the model."""
    requests: list[str] = []

    class Down(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            if "tiny" in self.path:
                requests.append(self.path)
            self.send_response(503)
            self.end_headers()

        do_HEAD = do_GET

        def log_message(self, *_: object) -> None:
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Down)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}", requests
    server.shutdown()
    server.server_close()


def test_a_hub_that_is_down_is_asked_once(tmp_path, down):
    hub, requests = down
    done = snapshot(tmp_path, hub)
    assert done.returncode == 1 and "org/tiny: cannot be fetched from the hub: " in done.stderr
    assert "check the name, the revision and the network, or give a local directory" in done.stderr
    assert len(requests) == 1  # and not again and again, with waits in between


def test_what_the_cache_has_is_used_and_named(tmp_path, down):
    cached = tmp_path / "hub" / "models--org--tiny"
    commit = cached / "snapshots" / ("a" * 40)
    commit.mkdir(parents=True)
    (cached / "refs").mkdir()
    (cached / "refs" / "main").write_text("a" * 40)
    (commit / "config.json").write_text("{}")
    for hub in (down[0], "http://127.0.0.1:9"):  # where nobody listens
        done = snapshot(tmp_path, hub)
        assert done.stdout.strip() == str(commit), done.stderr
        assert f"the model org/tiny is in {commit}" in done.stderr
