"""What stops a run, and what it leaves behind."""

import json
import os
import re
import signal
from pathlib import Path

import pyarrow.parquet as pq
import pytest
import torch
from curricle import train
from curricle.train.data.holdout import split
from curricle.train.settings import EvalSettings, RunSettings


def lines(run: Path, kind: str) -> list[dict]:
    return [line for line in map(json.loads, (run / "metrics.jsonl").read_text().splitlines()) if line["kind"] == kind]


def test_sigterm_saves_and_the_same_command_goes_on(command, train_in_fork, tmp_path):
    def terminate() -> None:
        original, calls = torch.optim.AdamW.step, iter(range(100))

        def step(self, *args, **kwargs):  # type: ignore[no-untyped-def]
            if next(calls) == 3:
                os.kill(os.getpid(), signal.SIGTERM)
            return original(self, *args, **kwargs)

        torch.optim.AdamW.step = step

    arguments = command("--checkpoint.every", "0", "--curriculum", "random")
    ended = train_in_fork(arguments, terminate)
    assert ended.code == 1 and "the same command goes on" in ended.text, ended.text
    assert [path.name for path in (tmp_path / "run" / "checkpoints").glob("step-*")] == ["step-00000004"]
    assert train_in_fork(arguments).code == 0
    assert train_in_fork(command("--checkpoint.every", "0", "--curriculum", "random", output="whole")).code == 0
    one, other = (
        (tmp_path / run / "checkpoints" / "step-00000008" / "model.safetensors").read_bytes()
        for run in ("run", "whole")
    )
    assert one == other
    assert [line["step"] for line in lines(tmp_path / "run", "train")] == list(range(1, 9))


def test_sigterm_inside_a_probe_is_answered_before_the_probe_ends(command, train_in_fork, tmp_path):
    """In the second of many passes of the third probe; then the same probe is made again."""
    from curricle.train.model.student import Student

    def terminate() -> None:
        import curricle.train.training.loop
        from curricle.train.training.asking import Asking

        probes, ask = iter(range(100)), Asking.nll
        original, passes = Student.nll, iter(range(100))
        Student.probing = False

        def counted(*args):  # type: ignore[no-untyped-def]
            Student.probing = next(probes) == 2
            return ask(*args)

        def nll(self, micro):  # type: ignore[no-untyped-def]
            if self.probing:
                number = next(passes)
                assert number < 2, "the probe goes on after it was asked to stop"
                if number == 1:
                    os.kill(os.getpid(), signal.SIGTERM)
            return original(self, micro)

        Asking.nll, Student.nll = counted, nll
        curricle.train.training.loop.Loop._look_again = lambda self: None  # it asks for a loss, too

    arguments = command("--checkpoint.every", "0", "--batch.tokens", "128")
    ended = train_in_fork(arguments, terminate)
    assert ended.code == 1 and "the same command goes on" in ended.text, ended.text
    journal = (tmp_path / "run" / "journal.jsonl").read_text()
    assert journal.count('"decision"') == 2
    (saved,) = (tmp_path / "run" / "checkpoints").glob("step-*")
    assert train_in_fork(arguments).code == 0
    assert train_in_fork(command("--checkpoint.every", "0", "--batch.tokens", "128", output="whole")).code == 0
    whole = tmp_path / "whole"
    last = max((whole / "checkpoints").glob("step-*")).name
    assert saved.name < last
    for name in ("journal.jsonl", f"checkpoints/{last}/model.safetensors"):
        assert (tmp_path / "run" / name).read_bytes() == (whole / name).read_bytes()


def test_a_loss_that_is_not_finite_stops_before_the_step_and_names_the_rows(
    command, train_in_fork, tmp_path, table_file
):
    from curricle.train.model.student import Student

    def break_the_fourth_step() -> None:
        original, calls = Student.nll, iter(range(10**6))
        steps = torch.optim.AdamW.step

        def nll(self, micro):  # type: ignore[no-untyped-def]
            loss = original(self, micro)
            if torch.is_grad_enabled() and self.steps_taken == 3 and not next(calls):
                loss = torch.cat([loss[: micro.counts[0] - 1], loss[:1] * float("nan"), loss[micro.counts[0] :]])
            return loss

        def step(self, *args, **kwargs):  # type: ignore[no-untyped-def]
            Student.steps_taken += 1
            return steps(self, *args, **kwargs)

        Student.steps_taken, Student.nll, torch.optim.AdamW.step = 0, nll, step

    arguments = command("--checkpoint.every", "2", "--curriculum", "random", "--eval.rows", "20")
    ended = train_in_fork(arguments, break_the_fourth_step)
    assert ended.code == 5, ended.text
    assert (
        "is not finite in step 4" in ended.text and "the loss of rows [" in ended.text and "Traceback" not in ended.text
    )
    (row,) = json.loads(re.search(r"the loss of rows (\[\d+\])", ended.text)[1])
    settings = RunSettings(
        data=table_file, model="", output=tmp_path / "run", curriculum="random", eval=EvalSettings(rows=20)
    )
    table = split(settings, 0).train
    order = train.order(table, "random", batch_size=8)
    assert row in table.origin[order.batches[3]] and row not in order.batches[3]  # as it lies in the files
    assert [path.name for path in (tmp_path / "run" / "checkpoints").glob("step-*")] == ["step-00000002"]


def test_training_on_another_row_than_planned_stops_the_run(command, train_in_fork):
    """The audit compares what went through the model with the plan; here the loader hands out a neighbour."""
    from curricle.train.data.documents import DocumentReader
    from curricle.train.data.encoding import Encoded

    def swap_a_row() -> None:
        original = DocumentReader.encode

        def encode(self, table, rows):  # type: ignore[no-untyped-def]
            first, *rest = original(self, table, rows)
            return [Encoded((first.row + 1) % len(table), first.ids, first.scored), *rest]

        DocumentReader.encode = encode

    ended = train_in_fork(command("--curriculum", "random"), swap_a_row)
    assert ended.code == 1 and "are not the rows that were planned" in ended.text


def test_a_text_that_was_changed_after_scoring_stops_the_run(command, train_in_fork, table_file):
    table = pq.read_table(table_file)
    messages = table.column("messages").to_pylist()
    messages[5][1]["content"] += "!"
    tensor = table.schema.get_field_index("messages")
    import pyarrow as pa

    changed = table.set_column(tensor, table.schema.field(tensor), pa.array(messages, table.schema.field(tensor).type))
    pq.write_table(changed, table_file)
    ended = train_in_fork(command("--curriculum", "random"))
    assert ended.code == 1 and "the text of row 5 is not the text" in ended.text


def test_mfu_is_reported_where_the_peak_is_known(command, train_in_fork, tmp_path):
    options = ["--budget.steps", "1", "--curriculum", "random"]
    unknown = train_in_fork(command(*options))
    expected = train_in_fork(command(*options, "--device.peak-tflops", "0.5", output="known"))
    assert unknown.code == expected.code == 0
    assert "MFU" not in unknown.text and "MFU" in expected.text
    assert lines(tmp_path / "run", "train")[0]["mfu"] is None
    (line,) = lines(tmp_path / "known", "train")
    assert line["mfu"] == pytest.approx(line["total"]["flops"] / line["total"]["seconds"] / 0.5e12)


def test_metrics_say_what_was_done_and_what_probes_cost(command, train_in_fork, tmp_path):
    assert train_in_fork(command("--eval.rows", "8", "--eval.every", "2")).code == 0
    run = tmp_path / "run"
    steps, probes, held_out = lines(run, "train"), lines(run, "probe"), lines(run, "eval")
    assert [line["step"] for line in steps] == list(range(1, len(steps) + 1))
    assert all(line["loss"] > 0 and line["tokens_per_second"] > 0 for line in steps)
    assert steps[-1]["total"]["samples"] == 56 and steps[-1]["budget"] == 1
    assert steps[-1]["probes"]["tokens"] == sum(line["tokens"] for line in probes) > 0
    assert steps[-1]["probes"]["flops"] == sum(line["flops"] for line in probes)
    assert held_out[-1]["loss"] < held_out[0]["loss"]
    assert len({line["tokens"] for line in held_out}) == 1


def test_weights_that_give_no_loss_are_no_checkpoint(command, train_in_fork, tmp_path):
    """The first step makes weights infinite; the loss that it was made from was fine."""
    options = ["--optimizer.warmup", "0", "--optimizer.lr", "1e38", "--checkpoint.every", "1", "--curriculum", "random"]
    for _ in range(2):
        ended = train_in_fork(command(*options))
        assert ended.code == 5 and "Traceback" not in ended.text, ended.text
        assert "not finite after step 1" in ended.text
        assert not list((tmp_path / "run").glob("checkpoints/*"))


def test_infinite_weights_and_moments_are_looked_for(command, train_in_fork, tmp_path):
    """Those that the loss does not show: a moment; and a weight, where nobody looks at the loss."""
    import curricle.train.training.loop

    for broken in ("weight", "exp_avg_sq"):

        def overflow(broken: str = broken) -> None:
            original = torch.optim.AdamW.step

            def step(self, *args, **kwargs):  # type: ignore[no-untyped-def]
                original(self, *args, **kwargs)
                embedding = self.param_groups[0]["params"][0]
                tensor = embedding if broken == "weight" else self.state[embedding][broken]
                with torch.no_grad():
                    tensor.view(-1)[-1] = float("inf")

            torch.optim.AdamW.step, curricle.train.training.loop.Loop._look_again = step, lambda self: None

        ended = train_in_fork(command("--budget.steps", "1", "--curriculum", "random", output=broken), overflow)
        assert ended.code == 5 and "Traceback" not in ended.text, ended.text
        assert "not finite after step 1 (" in ended.text and "embed_tokens.weight" in ended.text, ended.text
        assert not list((tmp_path / broken).glob("checkpoints/*"))
