"""A checkpoint is a model that transformers loads, and one with its name is whole."""

import json
import os
import re
import resource
import shutil
import signal
import warnings
from pathlib import Path

import curricle.train.model.checkpoint
import curricle.train.training.loop
import pytest
import torch
from kills import at_call
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM, AutoTokenizer


def last(run: Path) -> Path:
    return sorted((run / "checkpoints").glob("step-*"))[-1]


def test_it_loads_in_transformers_and_generates(command, train_in_fork, tmp_path):
    assert train_in_fork(command("--budget.steps", "2")).code == 0
    path = last(tmp_path / "run")
    model, tokenizer = AutoModelForCausalLM.from_pretrained(path), AutoTokenizer.from_pretrained(path)
    prompt = tokenizer.apply_chat_template(
        [{"role": "user", "content": "Hello"}], add_generation_prompt=True, return_tensors="pt", return_dict=True
    )
    result = model.generate(**prompt, max_new_tokens=3, do_sample=False)
    assert result.shape[1] > prompt["input_ids"].shape[1]


def test_only_the_last_ones_stay(command, train_in_fork, tmp_path):
    assert train_in_fork(command("--budget.steps", "6", "--checkpoint.every", "1", "--checkpoint.keep", "2")).code == 0
    names = sorted(path.name for path in (tmp_path / "run" / "checkpoints").iterdir())
    assert names == ["latest", "step-00000005", "step-00000006"]


def test_a_stop_leaves_in_the_end_the_checkpoints_that_an_undisturbed_run_has(command, train_in_fork, tmp_path):
    """What it saved goes before any that was due."""

    def names() -> list[int]:
        return sorted(int(path.name[5:]) for path in (tmp_path / "run" / "checkpoints").glob("step-*"))

    arguments = command("--budget.steps", "6", "--checkpoint.every", "2", "--checkpoint.keep", "3")

    def terminate() -> None:
        os.kill(os.getpid(), signal.SIGTERM)

    stopped = train_in_fork(arguments, lambda: at_call(curricle.train.training.loop.Loop, "_step", 2, act=terminate))
    assert stopped.code == 1 and names() == [2, 3], stopped.text
    assert train_in_fork(arguments).code == 0
    assert names() == [2, 4, 6]


def test_latest_names_the_last_one_whatever_happens(command, train_in_fork, tmp_path):
    """Also after a kill between the checkpoint and the name, and where a user has removed one."""
    latest = tmp_path / "run" / "checkpoints" / "latest"
    arguments = command("--budget.steps", "6", "--checkpoint.every", "2", "--checkpoint.keep", "3")
    killed = train_in_fork(arguments, lambda: at_call(curricle.train.model.checkpoint, "point", 1))
    assert killed.code == -9, killed.text
    assert (latest.read_text(), last(tmp_path / "run").name) == ("step-00000002\n", "step-00000004")
    stopped = train_in_fork(arguments, lambda: at_call(curricle.train.training.loop.Loop, "_step", 0))
    assert stopped.code == -9 and latest.read_text() == "step-00000004\n"
    shutil.rmtree(last(tmp_path / "run"))
    assert train_in_fork(arguments, lambda: at_call(curricle.train.training.loop.Loop, "_step", 0)).code == -9
    assert latest.read_text() == "step-00000002\n"
    assert train_in_fork(arguments).code == 0
    assert latest.read_text() == "step-00000006\n" and latest.is_file() and not latest.is_symlink()


def test_one_process_is_nothing_to_warn_of(command, train_in_fork):
    def raised() -> None:
        warnings.filterwarnings("error", "torch.distributed is disabled")

    ended = train_in_fork(command("--budget.steps", "1"), raised)
    assert ended.code == 0, ended.text


def test_nothing_is_a_pickle(command, train_in_fork, tmp_path):
    assert train_in_fork(command("--budget.steps", "1")).code == 0
    files = {path.suffix for path in last(tmp_path / "run").rglob("*") if path.is_file()}
    assert files <= {".json", ".jsonl", ".jinja", ".safetensors"}


def test_a_full_disk_leaves_the_last_checkpoint(command, train_in_fork, tmp_path):
    """The limit on the size of a file stands for the disk: the first checkpoint fits, the second does not."""
    import curricle.train.model.checkpoint

    def full_from_the_second_on() -> None:
        original = curricle.train.model.checkpoint._write

        def write(directory, *rest):  # type: ignore[no-untyped-def]
            if directory.name != "step-00000002":
                resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 20, resource.RLIM_INFINITY))
            original(directory, *rest)

        curricle.train.model.checkpoint._write = write

    arguments = command("--budget.steps", "6", "--checkpoint.every", "2")
    ended = train_in_fork(arguments, full_from_the_second_on)
    assert ended.code == 1, ended.text
    assert "could not be written" in ended.text and "Traceback" not in ended.text
    assert [path.name for path in (tmp_path / "run" / "checkpoints").iterdir()] == ["latest", "step-00000002"]
    assert train_in_fork(arguments).code == 0
    assert last(tmp_path / "run").name == "step-00000006"


def test_a_damaged_state_is_a_clear_error(command, train_in_fork, tmp_path):
    arguments = command("--budget.steps", "2")
    assert train_in_fork(arguments).code == 0
    (tmp_path / "run" / "run.json").unlink()  # it says that the run is finished
    (moments,) = (last(tmp_path / "run") / "state" / "optimizer").iterdir()
    for path in (moments, last(tmp_path / "run") / "state" / "cursor.json"):
        path.write_bytes(path.read_bytes()[:20])
        ended = train_in_fork(arguments)
        assert ended.code == 1 and "its state cannot be read" in ended.text, ended.text


def test_two_runs_do_not_share_a_directory(command, train_in_fork, tmp_path):
    import fcntl

    (tmp_path / "run").mkdir()
    with (tmp_path / "run" / ".lock").open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        ended = train_in_fork(command("--budget.steps", "1"))
    assert ended.code == 4 and "another process is training" in ended.text


def test_adapters_are_merged_and_resumed(command, train_in_fork, tmp_path, tiny_model):
    """With LoRA a checkpoint is a plain model, and a resume goes on with the adapters themselves."""
    pytest.importorskip("peft")
    lora = ["--lora.rank", "4", "--lora.dropout", "0.1", "--checkpoint.every", "2", "--curriculum", "random"]
    assert train_in_fork(command(*lora, "--budget.steps", "4", output="whole")).code == 0
    arguments = command(*lora, "--budget.steps", "4", output="killed")

    def kill() -> None:
        original = torch.optim.AdamW.step

        def step(self, *args, **kwargs):  # type: ignore[no-untyped-def]
            if any(entry.get("step", 0) >= 3 for entry in self.state.values()):
                os.kill(os.getpid(), 9)
            return original(self, *args, **kwargs)

        torch.optim.AdamW.step = step

    assert train_in_fork(arguments, kill).code == -9
    assert train_in_fork(arguments).code == 0
    for name in ("model.safetensors", "adapter/adapter_model.safetensors"):
        assert (last(tmp_path / "killed") / name).read_bytes() == (last(tmp_path / "whole") / name).read_bytes(), name
    before, after = (
        load_file(tiny_model / "model.safetensors"),
        load_file(last(tmp_path / "whole") / "model.safetensors"),
    )
    assert before.keys() == after.keys()
    changed = {name for name in before if not torch.equal(before[name], after[name])}
    assert changed and all("proj" in name for name in changed)
    assert AutoModelForCausalLM.from_pretrained(last(tmp_path / "whole"))
    assert json.loads((last(tmp_path / "whole") / "config.json").read_text())["architectures"] == ["LlamaForCausalLM"]


def test_adapters_that_an_earlier_version_wrote_are_gone_on_with(command, train_in_fork, tmp_path):
    """They lay in ``state/``, by the names of the model, and there were no digests at first."""
    pytest.importorskip("peft")
    lora = ["--lora.rank", "2", "--checkpoint.every", "2", "--curriculum", "random", "--budget.steps", "4"]
    assert train_in_fork(command(*lora, output="whole")).code == 0
    arguments = command(*lora)
    assert train_in_fork(arguments, lambda: at_call(curricle.train.training.loop.Loop, "_step", 3)).code == -9
    saved = last(tmp_path / "run")
    adapters = {
        re.sub(r"\.(lora_[AB])\.", r".\1.default.", name.removeprefix("base_model.model.")): weight
        for name, weight in load_file(saved / "adapter" / "adapter_model.safetensors").items()
    }
    assert "model.layers.0.self_attn.q_proj.lora_A.default.weight" in adapters
    save_file(adapters, saved / "state" / "adapters.safetensors")
    shutil.rmtree(saved / "adapter")
    (saved / "state" / "digests.json").unlink()
    assert train_in_fork(arguments).code == 0
    for name in ("model.safetensors", "adapter/adapter_model.safetensors"):
        assert (last(tmp_path / "run") / name).read_bytes() == (last(tmp_path / "whole") / name).read_bytes(), name


def test_peft_loads_the_adapters_onto_the_model_that_they_were_made_on(command, train_in_fork, tmp_path, tiny_model):
    peft = pytest.importorskip("peft")
    lora = ["--lora.rank", "4", "--lora.alpha", "32", "--budget.steps", "3", "--curriculum", "random"]
    assert train_in_fork(command(*lora)).code == 0
    adapter = last(tmp_path / "run") / "adapter"
    config = json.loads((adapter / "adapter_config.json").read_text())
    assert (config["peft_type"], config["task_type"], config["r"], config["lora_alpha"]) == ("LORA", "CAUSAL_LM", 4, 32)
    assert config["base_model_name_or_path"] == str(tiny_model) and config["inference_mode"]
    keys = {"base_model.model.model.layers.0.self_attn.q_proj.lora_A.weight"}
    assert keys < load_file(adapter / "adapter_model.safetensors").keys()

    ids = torch.arange(5, 45)[None]
    with torch.no_grad(), warnings.catch_warnings():
        warnings.simplefilter("error")  # of keys that are missing, or not expected
        base = AutoModelForCausalLM.from_pretrained(tiny_model, dtype=torch.float32)
        plain = base(ids).logits
        loaded = peft.PeftModel.from_pretrained(base, adapter)
        adapted = loaded(ids).logits
        merged = AutoModelForCausalLM.from_pretrained(last(tmp_path / "run"), dtype=torch.float32)(ids).logits
        again = peft.AutoPeftModelForCausalLM.from_pretrained(adapter, dtype=torch.float32)(ids).logits
    assert (plain - merged).abs().max() > 1e-3, "nothing was learned"
    assert torch.allclose(adapted, merged, atol=1e-5) and torch.equal(adapted, again)
