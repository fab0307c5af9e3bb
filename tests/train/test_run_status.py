"""What `curricle-train status` says of a run that runs, stops, dies and ends."""

import json
import os
import signal
from dataclasses import asdict

import pytest
import torch
from curricle import train
from curricle.train.cli import main
from curricle.train.training.progress import TimeLeft

CODES = {"done": 0, "running": 10, "stopped": 11, "dead": 12}


def look(run, state: str, capsys) -> dict:
    assert main(["status", str(run), "--json"]) == CODES[state]
    (line,) = capsys.readouterr().out.splitlines()
    status = json.loads(line)
    assert asdict(train.status(run)).keys() == status.keys() and train.status(run).state == state
    assert status["state"] == state
    return status


def test_a_run_is_followed_from_its_start_to_its_end(command, train_in_fork, tmp_path, capsys):
    def in_step(number: int, act) -> None:  # type: ignore[no-untyped-def]
        original, calls = torch.optim.AdamW.step, iter(range(1000))

        def step(self, *args, **kwargs):  # type: ignore[no-untyped-def]
            if next(calls) == number:
                act()
            return original(self, *args, **kwargs)

        torch.optim.AdamW.step = step

    run, arguments = (
        tmp_path / "run",
        command("--curriculum", "random", "--checkpoint.every", "0", "--log.format", "json"),
    )
    assert main(["status", str(run), "--json"]) == 2

    def ask() -> None:
        os._exit(main(["status", str(run), "--json"]))

    ended = train_in_fork(arguments, lambda: in_step(2, ask))
    assert ended.code == CODES["running"], ended.text
    *lines, status = map(json.loads, ended.text.splitlines())
    assert (
        status["step"] == 2
        and status["budget_share"] == 0.25
        and status["saved"] == 0
        and status["tokens_per_second"] > 0
    )
    assert [line["phase"] for line in lines if "phase" in line] == ["loading the model"]
    assert [line["step"] for line in lines if "tokens_per_second" in line] == [1, 2]
    dead = look(run, "dead", capsys)
    assert dead["step"] == 2 and dead["seconds_left"] is None
    assert train_in_fork(arguments, lambda: in_step(3, lambda: os.kill(os.getpid(), signal.SIGTERM))).code == 1
    assert look(run, "stopped", capsys)["saved"] == 4
    assert main(["status", str(run)]) == 0
    assert "stopped, step 4" in (words := capsys.readouterr().out) and "goes on from step 4" in words
    assert train_in_fork(arguments).code == 0
    assert look(run, "done", capsys)["step"] == 8


def test_time_left_goes_by_the_last_steps():
    pace = TimeLeft()
    assert pace.seconds_left(600, 0.01) is None, "a start-up of ten minutes is no step"
    assert pace.seconds_left(610, 0.02) == pytest.approx(980)
    for step in range(10):  # ten times as fast from here on
        left = pace.seconds_left(611 + step, 0.03 + step * 0.01)
    assert left == pytest.approx(88)


def test_of_a_comparison_a_run_is_named(tmp_path, capsys):
    run = tmp_path / "random" / "lr-2e-05" / "seed-0"
    run.mkdir(parents=True)
    (run / "run.json").touch()
    assert main(["report", str(tmp_path)]) == 2
    message = capsys.readouterr().err
    assert "is a comparison, and no run" in message and f"name one of its runs, such as {run}" in message
