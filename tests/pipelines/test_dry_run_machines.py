"""``--dry-run --machines N --device H100``: what is measured or stated, and a bound where neither is; by hand."""

import gzip
import re

import pytest
import torch
from curricle.pipelines.commands import machines
from curricle.pipelines.settings.machines import MFU
from curricle.schemas.chat.cards import CARDS
from curricle.schemas.common.wording import bytes_in_words
from running import curricle, write_jsonl
from safetensors.torch import load_file

ROWS = 40
OPTIONS = ("--output", "out", "--metrics", "loss,ifd,mtld", "--shard-rows", 5, "--dry-run")


@pytest.fixture
def dry_run(alpaca_rows, tmp_path, tiny_model):
    """What the dry run says with more options, where nothing may load a model."""
    write_jsonl(tmp_path / "in.jsonl", alpaca_rows(ROWS))

    def run(*more: object, code: int = 0) -> str:
        lines = curricle("score", "in.jsonl", *OPTIONS, "--proxy.model", tiny_model, *more, cwd=tmp_path, code=code)
        assert not (tmp_path / "out").exists()
        return lines

    return run


@pytest.fixture
def no_model(monkeypatch):
    def load(*_):
        raise AssertionError("a model was loaded, for machines that are not here")

    monkeypatch.setattr("curricle.curate.proxy.backend.load", load)


def interval(pattern: str, lines: str) -> tuple[float, float]:
    number = r"([\d.,]+(?:e[+]\d+)?)"
    low, high = re.search(rf"{number}(?: \w+)? to {number}{pattern}", lines).groups()
    return float(low.replace(",", "")), float(high.replace(",", ""))


def parameters(model) -> int:
    return sum(tensor.numel() for tensor in load_file(model / "model.safetensors").values())


def test_a_stated_rate(dry_run, no_model):
    """Two machines of four GPUs have eight shards: one for each, so that all take as long as one."""
    lines = dry_run("--machines", 2, "--device", "h100", "--gpus-per-machine", 4, *("--tokens-per-second", 0.02))
    assert "machines: 2 with 4 x H100; 8 workers, one a GPU" in lines and "8 shards, 1 for each worker" in lines
    tokens, through = interval(" in the rows", lines), interval(" go through it", lines)
    assert through == pytest.approx([1.5 * each for each in tokens], rel=0.1), "loss reads each once, ifd half of them"
    expected = [each / 0.02 / 8 / 3600 for each in through]
    hours = interval(" hours, at 0.02 tokens a second and GPU, as was stated", lines)
    assert hours == pytest.approx(expected, rel=0.1)
    assert "cost" not in lines and "peak" not in lines and "memory" not in lines


def test_a_bound_is_said_to_be_one(dry_run, no_model, tiny_model):
    """2 operations a parameter and token, 1.5 passes, 8 GPUs of 989 TFLOP/s: at so small a share as to take hours.
    The bound is of fewer operations (tests/curate/test_least_flops.py), and of all of the peak.
    """
    share = 1e-11
    prices = ("--price-per-hour", 30, "--mfu", share, "--proxy.dtype", "bfloat16")
    lines = dry_run("--machines", 2, "--device", "H100", "--gpus-per-machine", 4, *prices)
    low, high = interval(" in the rows", lines)
    seconds = [1.5 * each * 2 * parameters(tiny_model) / (8 * 989e12 * share) for each in (low, high)]
    hours = interval(" hours\n", lines)
    assert hours == pytest.approx([each / 3600 for each in seconds], rel=0.1)
    assert "nothing was measured on H100" in lines and CARDS["H100"].source in lines
    assert "less than a second: a bound; at 1e-11 of that, as --mfu states, " in lines
    all_of_them, least = (interval(end, lines) for end in (", two for each parameter", ": responses through"))
    assert all_of_them == pytest.approx([each * 8 * 989e12 * share for each in seconds], rel=0.1)
    assert 0 < least[1] < all_of_them[0]
    assert interval(" if that is reached", lines) == pytest.approx([each * 2 * 30 for each in hours], rel=0.1)


def test_where_no_bound_is_known_none_is_stated(dry_run, no_model):
    lines = dry_run("--machines", 1, "--device", "H100", "--metrics", "generated")
    assert "no bound is known; at 0.4 of that" in lines and ": a bound" not in lines


def test_the_share_that_is_assumed_is_called_so(dry_run, no_model):
    lines = dry_run("--machines", 1, "--device", "A100")
    assert f"at {MFU} of that, an assumption, which --mfu changes" in lines and "--tokens-per-second" in lines


def test_too_few_shards_for_the_workers(dry_run, no_model):
    lines = dry_run("--machines", 5, "--device", "L4", "--gpus-per-machine", 2)
    assert "few for 10 workers: 2 of them without any; --shard-rows 1 gives each 4" in lines
    assert "few for 4 workers: uneven; --shard-rows 2 gives" in dry_run("--machines", 4, "--device", "L4")
    assert "few for" not in dry_run("--machines", 2, "--device", "L4")


def test_the_shards_of_a_job_that_has_begun_stay_as_they_are(alpaca_rows, tmp_path, score_first_shard):
    write_jsonl(tmp_path / "in.jsonl", alpaca_rows(ROWS))
    job = ("score", "in.jsonl", "--output", "out", "--metrics", "mtld", "--shard-rows", 5)
    score_first_shard(*job, cwd=tmp_path)
    lines = curricle(*job, "--dry-run", "--machines", 9, cwd=tmp_path)
    assert "1 of 8 shards are finished" in lines and "--shard-rows" not in lines
    assert "few for 9 workers: 2 of them without any; the job goes on with those that it began with" in lines


def test_the_portions_of_a_compressed_file(alpaca_rows, tmp_path):
    path = write_jsonl(tmp_path / "in.jsonl", alpaca_rows(ROWS))
    (tmp_path / "in.jsonl.gz").write_bytes(gzip.compress(path.read_bytes()))
    arguments = ("score", "in.jsonl.gz", *OPTIONS, "--metrics", "mtld", "--machines", 2)
    lines = curricle(*arguments, cwd=tmp_path)
    assert "in 1 portion: fewer than workers; --workers 2 cuts each file into as many" in lines


def test_what_no_model_does_is_measured_here(dry_run, no_model):
    lines = dry_run("--metrics", "mtld,length", "--machines", 3, "--workers", 2, "--price-per-hour", 100)
    assert "machines: 3 like this one; 6 workers" in lines and "mtld, length, measured here" not in lines
    assert re.search(r"time: .*: length, mtld, measured here with one process; no GPU", lines) and "cost: " in lines


def test_machines_like_this_one_are_measured_with_the_model(dry_run):
    lines = dry_run("--machines", 2)
    assert "measured here with one worker; 2 workers together" in lines and "peak" not in lines


def test_the_bound_is_of_the_arithmetic_of_the_job(dry_run, no_model):
    """An H100 has a fifteenth of its bfloat16 in float32, which is what a job has if nothing is said."""
    single = dry_run("--device", "H100", "--mfu", 1e-11)
    half = dry_run("--device", "H100", "--mfu", 1e-11, "--proxy.dtype", "bfloat16")
    assert "66.9 TFLOP/s of float32 (" in single
    assert "989.4 TFLOP/s of dense bfloat16 (" in half and "--proxy.dtype bfloat16 has a higher peak" in single
    slow, quick = (interval(" hours\n", lines) for lines in (single, half))
    assert slow == pytest.approx([each * 989.4 / 66.9 for each in quick], rel=0.1)
    refused = dry_run("--device", "T4", "--proxy.dtype", "bfloat16", code=2)
    assert "T4 has no arithmetic in bfloat16" in refused and "float16" in refused
    assert "65 TFLOP/s of dense float16" in dry_run("--device", "T4", "--proxy.dtype", "float16")


def test_a_model_over_several_gpus_of_a_machine(dry_run, no_model):
    parts = ("--proxy.backend", "vllm", "--proxy.tensor-parallel", 4, "--device", "H100")
    lines = dry_run("--machines", 2, "--gpus-per-machine", 8, *parts, "--tokens-per-second", 0.02)
    assert "machines: 2 with 8 x H100; 4 workers, one for 4 GPUs" in lines
    hours = interval(" hours, at 0.02 tokens a second and GPU, as was stated; 4 workers together", lines)
    through = interval(" go through it", lines)
    assert hours == pytest.approx([each / 0.02 / 16 / 3600 for each in through], rel=0.1)
    assert "on each of 4 GPUs" in dry_run("--gpus-per-machine", 4, *parts)
    message = dry_run(*parts, code=2)
    assert "--proxy.tensor-parallel is 4, and a machine has 1 GPU" in message and "--gpus-per-machine 4" in message


@pytest.mark.parametrize(("dtype", "each"), [("float32", 4), ("bfloat16", 2)])
def test_a_model_that_does_not_fit_into_the_card(dry_run, no_model, monkeypatch, tiny_model, dtype, each):
    """Every weight takes 4 bytes or 2; a card that has as many bytes holds them, and with one byte less it does not."""
    weights = parameters(tiny_model) * each
    options = ("--device", "L4", "--proxy.dtype", dtype)

    def lines(memory: int, *more: object) -> str:
        monkeypatch.setitem(CARDS, "L4", CARDS["L4"]._replace(memory=memory))
        return dry_run(*options, *more)

    assert "does not fit" not in lines(weights)
    refused = lines(weights - 1)
    assert f"the model does not fit: its weights take {bytes_in_words(weights)} in {dtype}, and the L4 has" in refused
    assert "--proxy.tensor-parallel 2 or more" in refused and ("take half" in refused) == (dtype == "float32")
    assert "does not fit" not in lines(weights - 1, "--metrics", "length,mtld")
    parts = ("--proxy.backend", "vllm", "--gpus-per-machine", 2, "--proxy.tensor-parallel", 2)
    assert "does not fit" not in lines(weights // 2, *parts)
    assert "2 x L4 have" in lines(weights // 4, *parts) and "--proxy.tensor-parallel 4" in lines(weights // 4, *parts)


def test_heads_that_cannot_be_dealt_out_are_found_before_anything_is_written(dry_run, no_model, tmp_path, tiny_model):
    parts = ("--proxy.model", tiny_model, "--proxy.backend", "vllm", "--proxy.tensor-parallel", 64)
    lines = dry_run(*parts, "--device", "H100", "--gpus-per-machine", 64, code=2)
    assert "attention heads, which cannot be spread evenly over 64 GPUs" in lines and "give one of 1, 2" in lines
    job = ("score", "in.jsonl", "--output", "out", "--metrics", "loss", *parts)
    assert "attention heads" in curricle(*job, cwd=tmp_path, code=2) and not (tmp_path / "out").exists()


def test_the_cost_is_of_the_longer_of_model_and_cores(dry_run, no_model, monkeypatch):
    """Where the cores take an hour and the model no time, an hour is paid."""

    class Slow:
        seconds = machines.Interval(3600, 3600)

    monkeypatch.setattr(machines, "estimate", lambda *_: Slow)
    options = ("--device", "B200", "--tokens-per-second", 1e12, "--price-per-hour", 7)
    assert "cost: 7.00, at 7 an hour" in dry_run(*options)


def test_fewer_records_than_workers_want(dry_run, no_model):
    lines = dry_run("--machines", 100, "--device", "L4")
    assert "few for 100 workers: 92 of them without any; there are too few records for so many" in lines


def test_the_cores_beside_the_model(dry_run, no_model):
    quick = dry_run("--machines", 1, "--device", "B200", "--tokens-per-second", 1e12)
    slow = dry_run("--machines", 1, "--device", "B200", "--tokens-per-second", 1)
    assert "of a core here: more than its model does" in quick and "of a core here: beside that" in slow


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--machines", 2, "--device", "H10"], "did you mean 'H100'?"),
        (["--machines", 0], "--machines is 0"),
        (["--device", "H100", "--mfu", 1.5], "--mfu is 1.5"),
        (["--mfu", 0.5], "where no rate is stated"),
        (["--device", "H100", "--mfu", 0.5, "--tokens-per-second", 9], "where no rate is stated"),
        (["--device", ""], "of which no peak is known"),
        (["--gpus-per-machine", 2], "--gpus-per-machine without --device"),
    ],
)
def test_options_that_say_nothing(dry_run, options, words):
    assert words in dry_run(*options, code=2)


def test_a_card_of_no_known_peak_needs_a_rate(dry_run, no_model):
    assert "of which no peak is known" in dry_run("--device", "Gaudi", code=2)
    assert "1 with 1 x Gaudi" in dry_run("--device", "Gaudi", "--tokens-per-second", 9)


def test_without_a_dry_run_no_machine_is_meant(tmp_path):
    (tmp_path / "in.jsonl").write_text('{"prompt": "a", "completion": "b c"}\n')
    message = curricle("score", "in.jsonl", "--output", "out", "--machines", 8, cwd=tmp_path, code=2)
    assert "--machines is for --dry-run alone" in message and not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("name", "device", "is_here"),
    [
        ("NVIDIA A100-SXM4-80GB", "A100", True),
        ("NVIDIA H100 80GB HBM3", "H100", True),
        ("NVIDIA H100 PCIe", "H100", False),
        ("NVIDIA H100 PCIe", "H100-PCIe", True),
        ("NVIDIA GeForce RTX 4090", "RTX-4090", True),
        ("NVIDIA L40S", "L4", False),
        ("NVIDIA A100-SXM4-80GB", "H100", False),
    ],
)
def test_whether_the_card_is_in_this_machine(name, device, is_here, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda: name)
    assert machines._is_here(device) is is_here
