"""`make gpu` with the device swapped: the checks on a CPU, with a tiny model; and what carries them to a machine."""

import argparse
import json
import math
import os
import runpy
import subprocess
import sys
import weakref
from pathlib import Path

import drawn
import pytest
import torch

HERE = Path(__file__).resolve().parent
sys.path.append(str(HERE))

import checks  # noqa: E402
import install  # noqa: E402
import prepare  # noqa: E402
import verdicts  # noqa: E402

runner = runpy.run_path(str(HERE))  # which only runs by its own name
VLLM = ("vllm", "vllm-speed")


def lines_of(name: str, path: Path) -> list[checks.Line]:
    check = checks.CHECKS[name]
    return list(checks.function_of(check)(checks.Context("cpu", checks.SCALES["tiny"], path, name)))


@pytest.mark.parametrize("name", [name for name in checks.CHECKS if name not in (*VLLM, "resume")])
def test_every_check_holds_on_a_cpu(name, tmp_path):
    lines = lines_of(name, tmp_path)
    assert lines and not [line for line in lines if line.met is False]
    assert json.dumps([line.figures for line in lines])


@pytest.mark.skipif(not drawn.SOAK, reason="vLLM takes minutes to start")
@pytest.mark.parametrize("name", VLLM)
def test_the_other_backend_holds_on_a_cpu(name, tmp_path):
    """In a process of its own: an engine stays in a process for good."""
    pytest.importorskip("vllm")
    options = argparse.Namespace(output=tmp_path, device="cpu", scale="tiny")
    lines = runner["run_apart"](name, options, math.inf)
    assert len(lines) > (name == "vllm-speed") * 5 and not [line for line in lines if line["met"] is False], lines


def test_a_resume_on_a_cpu_is_equal_to_the_bit(tmp_path):
    last = lines_of("resume", tmp_path)[-1]
    assert (last.value, last.bound, last.note, last.met) == (0, "equal to the bit", "equal to the bit", True)


def test_a_backend_that_gives_another_number_does_not_hold(tmp_path, monkeypatch):
    from curricle.curate.proxy.transformers_backend import TransformersBackend

    right = TransformersBackend.nats
    monkeypatch.setattr(TransformersBackend, "nats", lambda *given: right(*given) - 1e-3)
    bad = [line for line in lines_of("scores", tmp_path) if line.met is False]
    assert [line.what.partition(":")[2][:9] for line in bad] == [" a row at", " on a CPU"]


@pytest.mark.parametrize("name", VLLM)
def test_models_are_gone_from_the_device_when_vllm_takes_its_share(name, tmp_path, monkeypatch):
    pytest.importorskip("vllm")
    import scores

    load, loaded = scores.load, []

    class VllmStarts(Exception):
        pass

    def load_and_keep(settings, weights):
        if settings.backend == "vllm":
            raise VllmStarts([each() for each in loaded])
        backend = load(settings, weights)
        loaded.append(weakref.ref(backend.model))
        return backend

    monkeypatch.setattr(scores, "load", load_and_keep)
    with pytest.raises(VllmStarts) as started:
        lines_of(name, tmp_path)
    (there,) = started.value.args
    assert there and not any(there)


def test_what_fails_and_what_lasts_is_a_line_of_the_table(tmp_path):
    options = argparse.Namespace(output=tmp_path, device="cpu", scale="tiny")
    (broken,) = runner["run_apart"]("no such check", options, 60)
    assert (broken["what"], broken["met"]) == ("the check ended with 1", False)
    assert broken["note"].endswith("KeyError: 'no such check' (no such check.log)")
    (endless,) = runner["run_apart"]("limits", options, 0)
    assert (endless["what"], endless["met"]) == ("the check took longer than it may", False)


def test_one_table_json_and_an_exit_code(tmp_path):
    command = [sys.executable, HERE, "--device", "cpu", "--output", tmp_path]
    done = subprocess.run([*map(str, command), "--checks", "limits"], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    written = json.loads((tmp_path / "gpu.json").read_text())
    assert set(written) == {"machine", "checks"} and {"torch", "python", "gpus", "commit"} <= set(written["machine"])
    assert [line["unit"] for line in written["checks"]["limits"]] == ["TFLOP/s"] * 3 + ["GB/s"]
    assert (tmp_path / "table.md").read_text() in done.stdout
    done = subprocess.run([*map(str, command), "--seconds", "0"], capture_output=True, text=True)
    assert done.returncode == 1 and f"failed: {', '.join(checks.CHECKS)}" in done.stdout
    done = subprocess.run([sys.executable, HERE, "--output", tmp_path], capture_output=True, text=True)
    assert torch.cuda.is_available() or (done.returncode == 2 and "torch has no GPU here" in done.stderr)


def test_a_line_that_is_not_met_fails_its_check():
    results = {
        name: [vars(checks.Line("what", 1.0, met=met))] for name, met in (("a", None), ("b", False), ("c", True))
    }
    assert verdicts.failed(results) == ["b"]
    assert "| b | what | 1 |  | **not met** |  |" in verdicts.table(results)


def test_what_is_cut_into_parts_is_joined_again_and_no_part_may_be_missing_or_another(tmp_path):
    whole = tmp_path / "whole"
    whole.write_bytes(os.urandom(1000))
    parts = prepare.cut(whole, tmp_path, 300)
    assert [part.stat().st_size for part in parts] == [300, 300, 300, 100]
    install.join(tmp_path, tmp_path / "joined")
    assert (tmp_path / "joined").read_bytes() == whole.read_bytes()
    parts[1].write_bytes(b"another")
    with pytest.raises(SystemExit, match="part-001 is not as it was packed"):
        install.join(tmp_path, tmp_path / "joined")
    parts[1].unlink()
    with pytest.raises(SystemExit, match="part-001 is missing"):
        install.join(tmp_path, tmp_path / "joined")


def test_the_environment_sees_what_this_one_has_and_leaves_it_alone(tmp_path):
    """This Python is one of an environment itself, of which one that is made in it would see nothing."""
    install.make_environment(tmp_path / "env")
    code = "import torch, curricle.train; print(torch.__file__)"
    done = subprocess.run([tmp_path / "env" / "bin" / "python", "-c", code], capture_output=True, text=True)
    assert done.stdout.strip() == torch.__file__, done.stderr
    assert install.is_here(Path("torch-1.0-py3-none-any.whl"))
    assert install.is_here(Path("typing_inspection-1.0-py3-none-any.whl"))
    assert not install.is_here(Path("no_such_thing-1.0-py3-none-any.whl"))
    assert not install.is_here(Path("curricle-0.1.0-py3-none-any.whl"))


def test_flops_are_those_that_the_trainer_reports(tiny_model):
    from curricle.train.data.batching import Size
    from curricle.train.distributed import connect
    from curricle.train.model.load import load_model
    from curricle.train.model.student import Student
    from curricle.train.settings import DeviceSettings
    from flops import forward_flops

    model = load_model(str(tiny_model), "auto")
    student = Student(model, DeviceSettings(), connect())
    lengths, scored = [30, 50], 40
    norms = sum(each.numel() for each in model.parameters() if each.dim() == 1)
    ours = student.flops(Size(sum(lengths), scored, sum(length**2 for length in lengths)), backward=False)
    assert forward_flops(model, lengths, scored) + 2 * norms * sum(lengths) == ours
    assert ours - forward_flops(model, lengths, scored, causal=True) > norms
