"""`curricle push`, with the real client, against a small hub of our own that keeps what it gets."""

import base64
import json
import re
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from curricle.pipelines.functions import verify
from running import in_process_of_its_own
from table_maker import make_table, random_scores

NAME = "somebody/difficulty"


class Hub(ThreadingHTTPServer):
    """One dataset: what it holds, and whether it is private; None before it is made."""

    def __init__(self) -> None:
        self.files: dict[str, bytes] = {}
        self.private: bool | None = None
        self.requests: list[str] = []
        self.token = "Bearer hf_right"
        super().__init__(("127.0.0.1", 0), _Handler)

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"


class _Handler(BaseHTTPRequestHandler):
    server: Hub

    def do_GET(self) -> None:
        self.server.requests.append(self.path)
        siblings = [{"rfilename": name} for name in self.server.files]
        if self.path.startswith(f"/api/datasets/{NAME}/tree"):
            return self._answer([{"type": "file", "path": n, "oid": "0", "size": 1} for n in self.server.files])
        self._answer({"id": NAME, "sha": "0" * 40, "siblings": siblings})

    def do_POST(self) -> None:
        self.server.requests.append(self.path)
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        if self.headers.get("Authorization") != self.server.token:
            return self._answer({"error": "Invalid credentials"}, 401)
        if self.path == "/api/repos/create":
            if self.server.private is not None:
                return self._answer({"error": "You already created this repo", "url": self._url()}, 409)
            options = json.loads(body)
            self.server.private = options.get("private") or options.get("visibility") == "private"
            return self._answer({"url": self._url()})
        if "/preupload/" in self.path:
            names = [file["path"] for file in json.loads(body)["files"]]
            ways = [{"path": name, "uploadMode": "regular", "shouldIgnore": False} for name in names]
            return self._answer({"files": ways})
        if "/commit/" in self.path:
            for line in map(json.loads, body.splitlines()):
                if line["key"] == "file":
                    self.server.files[line["value"]["path"]] = base64.b64decode(line["value"]["content"])
                elif line["key"] == "deletedFile":
                    del self.server.files[line["value"]["path"]]
            return self._answer({"commitUrl": f"{self._url()}/commit/1", "commitOid": "1" * 40, "success": True})
        return self._answer({"errors": [], "warnings": []})

    def _url(self) -> str:
        return f"{self.server.address}/datasets/{NAME}"

    def _answer(self, content: object, code: int = 200) -> None:
        text = json.dumps(content).encode()
        self.send_response(code)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(text)))
        self.end_headers()
        self.wfile.write(text)

    def log_message(self, *words: object) -> None:
        pass


@pytest.fixture
def hub(monkeypatch, tmp_path):
    with Hub() as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        monkeypatch.setenv("HF_ENDPOINT", server.address)
        monkeypatch.setenv("HF_TOKEN", "hf_right")
        monkeypatch.setenv("HF_HOME", str(tmp_path / "home"))
        yield server
        server.shutdown()


def table(directory: Path, parts: int) -> Path:
    make_table(directory, random_scores(90), rows=90, rejects=[("no response", "{}")], parts=parts)
    (directory / "_progress").mkdir()
    (directory / "_progress/plan.json").write_text("{}")
    return directory


def test_what_arrives_is_a_table_that_verifies_and_replaces_another(hub, tmp_path):
    in_process_of_its_own("push", table(tmp_path / "large", 3), NAME, "--upload")
    assert hub.private, "others do not see what is pushed for the first time"
    assert sum(name.startswith("data/") for name in hub.files) == 3
    output = in_process_of_its_own("push", table(tmp_path / "small", 2), NAME, "--upload")
    assert f"{hub.address}/datasets/{NAME}/commit/1" in output
    for name, content in hub.files.items():
        (tmp_path / "there" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "there" / name).write_bytes(content)
    assert not verify(tmp_path / "there").faults
    assert sorted(hub.files) == [
        "data/part-00000-of-00002.parquet",
        "data/part-00001-of-00002.parquet",
        "manifest.json",
        "rejects/part-00000-of-00001.parquet",
    ], "nothing of another table stays, and nothing of a job goes"


def test_without_upload_nobody_is_asked(hub, tmp_path):
    output = in_process_of_its_own("push", table(tmp_path / "table", 2), NAME)
    assert hub.requests == [] and hub.files == {}
    assert "nothing was uploaded: --upload does it" in output
    assert "rejects/ holds how 1 records began" in output and "no licence" in output
    size = sum(path.stat().st_size for path in (tmp_path / "table").rglob("*.*") if "_progress" not in path.parts)
    assert re.search(r"([\d,]+) bytes in all", output)[1] == f"{size:,}"


@pytest.mark.parametrize(
    ("token", "name", "code", "words"),
    [
        ("hf_wrong", NAME, 1, "the hub took nothing"),
        ("hf_right", "difficulty", 2, "name it OWNER/NAME"),
        ("hf_right", "../etc/x", 2, "name it OWNER/NAME"),
    ],
)
def test_what_the_hub_refuses_is_said_in_a_line(hub, monkeypatch, tmp_path, token, name, code, words):
    monkeypatch.setenv("HF_TOKEN", token)
    output = in_process_of_its_own("push", table(tmp_path / "table", 1), name, "--upload", code=code)
    assert words in output and "Traceback" not in output and token not in output
    assert hub.files == {}


@pytest.mark.parametrize(
    ("variable", "value", "code", "words"),
    [
        ("HF_ENDPOINT", "http://127.0.0.1:1", 1, "the hub took nothing: "),
        ("HF_HUB_OFFLINE", "1", 1, "offline mode"),
        ("HF_ENDPOINT", "hub.example", 2, "https://HOST"),
        ("HF_ENDPOINT", "http://[::1", 2, "https://HOST"),
        ("HF_ENDPOINT", "", 2, "https://HOST"),
    ],
)
def test_a_hub_that_is_not_reached_is_said_in_a_line(hub, monkeypatch, tmp_path, variable, value, code, words):
    monkeypatch.setenv(variable, value)
    output = in_process_of_its_own("push", table(tmp_path / "table", 1), NAME, "--upload", code=code)
    assert words in output and "Traceback" not in output


def test_a_damaged_table_is_not_pushed(hub, tmp_path):
    directory = table(tmp_path / "table", 1)
    part = directory / "data/part-00000-of-00001.parquet"
    part.write_bytes(part.read_bytes()[:-9] + b"x" + part.read_bytes()[-8:])
    in_process_of_its_own("push", directory, NAME, "--upload", code=1)
    assert hub.requests == []
