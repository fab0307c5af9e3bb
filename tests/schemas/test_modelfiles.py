"""What a model is known by: all that its loaders open, and nothing of elsewhere."""

import json
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from curricle.schemas.chat.modelfiles import gguf_files, model_files, tokenizer_files
from curricle.schemas.common.errors import UsageError
from curricle.schemas.sums import digests
from small_llama import TOKENS, write_small_llama, write_small_tokenizer


@pytest.fixture(scope="module")
def whole(smollm2, tmp_path_factory) -> Path:
    """A random Llama, small enough to be copied for every case."""
    directory = tmp_path_factory.mktemp("whole")
    tokenizer = write_small_tokenizer(directory, smollm2.directory)
    write_small_llama(directory, tokenizer, hidden_size=16, intermediate_size=16)
    return directory


@pytest.fixture
def model(whole, tmp_path) -> Path:
    return Path(shutil.copytree(whole, tmp_path / "model"))


def edit(path: Path, **changes: object) -> None:
    result = json.loads(path.read_text()) if path.exists() else {}
    path.write_text(json.dumps({**result, **changes}))


def index_into(model: Path, path: str) -> None:
    """Weights that an index names by this path, and that lie there."""
    from safetensors import safe_open

    weights = model / "model.safetensors"
    with safe_open(weights, "pt") as file:
        names = list(file.keys())
    edit(model / "model.safetensors.index.json", metadata={}, weight_map=dict.fromkeys(names, path))
    (model / path).parent.mkdir(exist_ok=True)
    weights.rename(model / path)


def plain(model: Path) -> None:
    edit(model / "generation_config.json", temperature=0.1)


def in_a_folder(model: Path) -> None:
    index_into(model, "shards/weights.safetensors")


def chosen_by_the_config(model: Path) -> None:
    edit(model / "config.json", transformers_weights="other/weights.safetensors")
    (model / "other").mkdir()
    shutil.copy(model / "model.safetensors", model / "other" / "weights.safetensors")


def another_tokenizer(model: Path) -> None:
    (model / "tokenizer.json").rename(model / "tokenizer.4.0.0.json")
    edit(model / "tokenizer_config.json", fast_tokenizer_files=["tokenizer.4.0.0.json"])


def another_config(model: Path) -> None:
    shutil.copy(model / "config.json", model / "config.4.0.0.json")
    edit(model / "config.json", configuration_files=["config.4.0.0.json"], rms_norm_eps=1.0)


def more_templates(model: Path) -> None:
    (model / "additional_chat_templates").mkdir()
    (model / "additional_chat_templates" / "tools.jinja").write_text("{{ messages }}")


def old_token_files(model: Path) -> None:
    (model / "added_tokens.json").write_text(json.dumps({"<|more|>": TOKENS}))
    (model / "special_tokens_map.json").write_text('{"eos_token": "<|im_end|>"}')


def links_to_blobs(model: Path) -> None:
    blobs = model.parent / "blobs"
    blobs.mkdir()
    for path in list(model.iterdir()):
        path.rename(blobs / path.name)
        path.symlink_to(blobs / path.name)


KINDS = [
    plain,
    in_a_folder,
    chosen_by_the_config,
    another_tokenizer,
    another_config,
    more_templates,
    old_token_files,
    links_to_blobs,
]

LOAD = """
import sys, torch
from curricle.curate.embedding.encoder import Encoder
from curricle.curate.embedding.settings import EmbeddingSettings
from curricle.curate.proxy.settings import ProxySettings
from curricle.curate.proxy.transformers_backend import TransformersBackend
from curricle.curate.proxy.weights import Weights, from_directory
from pathlib import Path
for model in sys.argv[1:]:
    weights = from_directory(Path(model))
    TransformersBackend(ProxySettings(model=model), weights)
    Encoder(EmbeddingSettings(model=model), weights)
"""


@pytest.mark.skipif(not shutil.which("strace"), reason="strace is not installed")
def test_all_that_loaders_open_is_in_the_identity(whole, tmp_path):
    """Both the proxy and the encoder, for every kind of directory, as the kernel sees it (libraries in Rust too)."""
    models = []
    for kind in KINDS:
        (tmp_path / kind.__name__).mkdir()
        models.append(Path(shutil.copytree(whole, tmp_path / kind.__name__ / "model")))
        kind(models[-1])
        for decoy in ("notes.txt", "training_args.bin", "pytorch_model.bin", "own.py"):
            (models[-1] / decoy).write_text("not to be read")
    log = tmp_path / "seen"
    trace = ["strace", "-f", "-qq", "-e", "trace=open,openat", "-e", "signal=none", "-o", str(log)]
    subprocess.run([*trace, sys.executable, "-c", LOAD, *map(str, models)], check=True, capture_output=True)
    opened = set(re.findall(rf'"({re.escape(str(tmp_path))}/[^"]+)", O_RDONLY[^)]*\) = \d', log.read_text()))
    for model in models:
        ours = {Path(name).relative_to(model).as_posix() for name in opened if Path(name).is_relative_to(model)}
        read = {name for name in ours if (model / name).is_file()}
        assert {"config.json"} < read <= set(model_files(model)), model
        assert {name for name in read if "token" in name or name.endswith(".jinja")} <= set(tokenizer_files(model))
    elsewhere = {Path(name) for name in opened if not any(Path(name).is_relative_to(model) for model in models)}
    assert not [path for path in elsewhere if path.is_file() and path != log]


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)
def test_a_byte_more_in_any_of_them_is_another_model(kind: Callable[[Path], None], model):
    kind(model)
    before = digests(model, model_files(model))
    for name in before:
        content = (model / name).read_bytes()
        (model / name).write_bytes(content + b"\n")
        assert digests(model, model_files(model)) != before, name
        (model / name).write_bytes(content)
    (model / "notes.txt").write_text("nobody reads this")
    assert digests(model, model_files(model)) == before


def test_every_vocabulary_of_transformers_counts(model):
    import transformers

    package = Path(transformers.__file__).parent
    source = "\n".join(path.read_text() for path in package.glob("models/*/tokenization*.py"))
    names = set(re.findall(r'"\w*(?:file|spm)\w*":\s*"([\w.-]+\.\w+)"', source))
    assert len(names) > 15
    for name in names:
        (model / name).touch()
    assert names <= set(tokenizer_files(model))


def leads_out(model: Path) -> None:
    index_into(model, "../weights.safetensors")


def leads_out_absolutely(model: Path) -> None:
    index_into(model, str(model.parent / "weights.safetensors"))


def chosen_elsewhere(model: Path) -> None:
    edit(model / "config.json", transformers_weights="../weights.safetensors")


def a_pickle_in_the_index(model: Path) -> None:
    index_into(model, "weights.bin")


def a_missing_shard(model: Path) -> None:
    index_into(model, "weights.safetensors")
    (model / "weights.safetensors").unlink()


def another_tokenizer_elsewhere(model: Path) -> None:
    edit(model / "tokenizer_config.json", fast_tokenizer_files=["../tokenizer.4.0.0.json"])


def an_adapter(model: Path) -> None:
    edit(model / "adapter_config.json", base_model_name_or_path="../base", peft_type="LORA")


def kernels(model: Path) -> None:
    edit(model / "config.json", attn_implementation={"text_config": "kernels-community/flash-attn2"})


def kernels_in_another_config(model: Path) -> None:
    edit(model / "config.4.0.0.json", _experts_implementation="someone/kernels@v1")
    edit(model / "config.json", configuration_files=["config.4.0.0.json"])


def a_verifier(model: Path) -> None:
    edit(model / "config.json", speculators_config={"verifier": {"name_or_path": "/elsewhere"}})


REFUSED = {
    leads_out: "names '../weights.safetensors', which is not in this directory",
    leads_out_absolutely: "which is not in this directory",
    chosen_elsewhere: "names '../weights.safetensors', which is not in this directory",
    a_pickle_in_the_index: "only safetensors are read",
    a_missing_shard: "names 'weights.safetensors', which is not there",
    another_tokenizer_elsewhere: "names '../tokenizer.4.0.0.json', which is not in this directory",
    an_adapter: "is an adapter",
    kernels: "code of elsewhere",
    kernels_in_another_config: "code of elsewhere",
    a_verifier: "speculators_config",
}


@pytest.mark.parametrize("kind", REFUSED, ids=lambda kind: kind.__name__)
def test_what_lies_elsewhere_is_refused(kind: Callable[[Path], None], model):
    kind(model)
    with pytest.raises(UsageError, match=re.escape(REFUSED[kind])) as refused:
        model_files(model)
    assert refused.value.remedy


def test_a_gguf_file_is_read_with_the_tokenizer_beside_it(model):
    (model / "model.gguf").write_bytes(b"GGUF")
    names = gguf_files(model / "model.gguf")
    assert {"model.gguf", "tokenizer.json", "tokenizer_config.json"} <= set(names)
    assert not {"config.json", "model.safetensors"} & set(names)
    an_adapter(model)
    with pytest.raises(UsageError, match="is an adapter"):
        gguf_files(model / "model.gguf")


def test_a_config_does_not_say_how_attention_is_computed(model):
    """An encoder's neither, where the name is one that transformers knows."""
    from curricle.curate.embedding.encoder import Encoder
    from curricle.curate.embedding.settings import EmbeddingSettings
    from curricle.curate.proxy.weights import from_directory

    edit(model / "config.json", attn_implementation="eager")
    encoder = Encoder(EmbeddingSettings(model=str(model)), from_directory(model))
    assert encoder.model.config._attn_implementation == "sdpa"


def test_a_run_knows_a_gguf_file_with_the_tokenizer_beside_it(model):
    from curricle.train.model.locate import identify

    (model / "model.gguf").write_bytes(b"GGUF")
    before = identify(str(model / "model.gguf"))
    edit(model / "tokenizer_config.json", add_bos_token=True)
    assert identify(str(model / "model.gguf")) != before
    an_adapter(model)
    with pytest.raises(UsageError, match="is an adapter"):
        identify(str(model / "model.gguf"))
