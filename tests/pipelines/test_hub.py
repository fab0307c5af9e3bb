"""Data sets of a hub, read through the real client, from a local mirror of its API."""

import hashlib
import json
import os
import subprocess
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest
from curricle.curate import read
from curricle.curate.readers import hub
from curricle.schemas.common.errors import UsageError
from curricle.schemas.manifest import read_manifest
from huggingface_hub import constants
from running import command, read_data

COMMIT = "0123456789abcdef0123456789abcdef01234567"
LINES = "".join(json.dumps({"prompt": f"Hello {n}", "completion": "Hi"}) + "\n" for n in range(9)).encode()
FILES = {
    "README.md": b"# A data set\n",
    ".gitattributes": b"",
    "data/train.jsonl": LINES,
    "data/test.csv": b"question,answer\nHello,Hi\n",
}


class Mirror(BaseHTTPRequestHandler):
    """As much of the hub's API as its client asks for: what a revision is, the tree below it, and files."""

    def do_GET(self) -> None:
        path = unquote(urlsplit(self.path).path)
        self.server.requested.append(path)  # type: ignore[attr-defined]
        if path.removeprefix("/api/datasets/org/set/revision/") in ("main", COMMIT) or path == "/api/datasets/org/set":
            self._json(
                {"id": "org/set", "sha": COMMIT, "private": False, "siblings": [{"rfilename": n} for n in FILES]}
            )
        elif path.startswith(f"/api/datasets/org/set/tree/{COMMIT}"):
            below = path.removeprefix(f"/api/datasets/org/set/tree/{COMMIT}").strip("/")
            self._json([_entry(name) for name in [*FILES, "data"] if _is_below(name, below, "recursive=" in self.path)])
        elif (name := path.removeprefix(f"/datasets/org/set/resolve/{COMMIT}/")) in FILES:
            self._file(FILES[name])
        else:
            self._json({"error": "Repository not found"}, 404, {"X-Error-Code": "RepoNotFound"})

    do_HEAD = do_GET

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"])).decode()
        paths = json.loads(body)["paths"] if body.startswith("{") else [unquote(body.removeprefix("paths="))]
        self._json([_entry(name) for name in [*FILES, "data"] if name in paths])

    def log_message(self, *_: object) -> None:
        pass

    def _json(self, value: object, status: int = 200, headers: dict[str, str] | None = None) -> None:
        self._send(json.dumps(value).encode(), status, {"Content-Type": "application/json", **(headers or {})})

    def _file(self, content: bytes) -> None:
        self._send(content, 200, {"ETag": f'"{hashlib.sha1(content).hexdigest()}"', "X-Repo-Commit": COMMIT})

    def _send(self, content: bytes, status: int, headers: dict[str, str]) -> None:
        self.send_response(status)
        for name, value in {**headers, "Content-Length": str(len(content))}.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content)


def _entry(name: str) -> dict[str, object]:
    if name in FILES:
        return {"type": "file", "path": name, "size": len(FILES[name]), "oid": hashlib.sha1(FILES[name]).hexdigest()}
    return {"type": "directory", "path": name, "oid": "0" * 40}


def _is_below(name: str, folder: str, recursive: bool) -> bool:
    rest = name.removeprefix(f"{folder}/" if folder else "")
    return name != folder and name.startswith(f"{folder}/" if folder else "") and (recursive or "/" not in rest)


@pytest.fixture
def mirror() -> Iterator[ThreadingHTTPServer]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), Mirror)
    server.requested = []  # type: ignore[attr-defined]
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield server
    server.shutdown()
    server.server_close()


def run(mirror: ThreadingHTTPServer, folder: Path, *arguments: object) -> subprocess.CompletedProcess[str]:
    environment = {
        **{name: value for name, value in os.environ.items() if not name.startswith("HF_")},
        "HF_ENDPOINT": f"http://127.0.0.1:{mirror.server_address[1]}",
        "HF_HOME": str(folder / "hub"),
        "HF_HUB_DISABLE_TELEMETRY": "1",
    }
    return subprocess.run(command(*arguments), cwd=folder, env=environment, capture_output=True, text=True)


def test_a_data_set_of_the_hub_is_read_at_its_commit_and_fetched_once(
    mirror: ThreadingHTTPServer, tmp_path: Path
) -> None:
    arguments = ("score", "hf://datasets/org/set", "--output", "out", "--metrics", "mtld")
    done = run(mirror, tmp_path, *arguments, "--workers", 2, "--shard-rows", 2)
    assert done.returncode == 0, done.stderr
    manifest = read_manifest(tmp_path / "out")
    assert [source.source for source in manifest.sources] == [
        "hf://datasets/org/set/data/test.csv",
        "hf://datasets/org/set/data/train.jsonl",
    ]
    assert manifest.sources[1].sha256 == hashlib.sha256(LINES).hexdigest()
    assert sorted(other.path for other in manifest.not_read) == [
        "hf://datasets/org/set/.gitattributes",
        "hf://datasets/org/set/README.md",
    ]
    assert read_data(tmp_path / "out").num_rows == 10
    requested: list[str] = mirror.requested  # type: ignore[attr-defined]
    assert {path for path in requested if "/resolve/" in path} == {
        f"/datasets/org/set/resolve/{COMMIT}/{name}" for name in ("data/train.jsonl", "data/test.csv")
    }


def test_names_stand_for_files_at_the_commit(mirror: ThreadingHTTPServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(constants, "ENDPOINT", f"http://127.0.0.1:{mirror.server_address[1]}")
    for name, expected in {
        "hf://datasets/org/set@main/data/*.jsonl": (False, ["data/train.jsonl"]),
        "hf://datasets/org/set/data": (True, ["data/test.csv", "data/train.jsonl"]),
        "hf://datasets/org/set/data/test.csv": (False, ["data/test.csv"]),
        "hf://datasets/org/set/no.jsonl": (False, []),
    }.items():
        folder, files, _ = hub.expand(name)
        root = "hf://datasets/org/set@main" if "@main" in name else "hf://datasets/org/set"
        assert (folder, [file.name for file in files]) == (expected[0], [f"{root}/{file}" for file in expected[1]])
        assert [file.path for file in files] == [f"hf://datasets/org/set@{COMMIT}/{file}" for file in expected[1]]


def test_what_cannot_be_listed_is_refused_in_words(
    mirror: ThreadingHTTPServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(constants, "ENDPOINT", f"http://127.0.0.1:{mirror.server_address[1]}")
    for name in ("hf://datasets/org/other", "hf://org/model", "hf://datasets/org"):
        with pytest.raises(UsageError) as error:
            hub.expand(name)
        assert error.value.where == name and error.value.remedy
    with pytest.raises(UsageError, match="there is no such file"):
        read("hf://datasets/org/set/no.jsonl")
    monkeypatch.setattr(constants, "ENDPOINT", "http://127.0.0.1:9")
    with pytest.raises(UsageError, match="cannot be listed") as error:
        hub.expand("hf://datasets/org/set")
    assert "HF_ENDPOINT" in str(error.value)
