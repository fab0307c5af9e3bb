"""``--dry-run`` of the trainer: what a run would do and take, its errors, and not a byte below its output."""

import re

import pytest


def files(directory):
    return {str(path): path.stat().st_mtime_ns for path in sorted(directory.rglob("*")) if path.name != "log.txt"}


def test_a_run_that_is_not_begun_and_one_that_is(command, train_in_fork, tmp_path):
    arguments = command(
        "--budget.samples", "40", "--checkpoint.every", "2", "--eval.rows", "8", "--eval.generations", "2"
    )
    before = files(tmp_path)
    ended = train_in_fork([*arguments, "--dry-run"])
    assert ended.code == 0 and files(tmp_path) == before
    assert "8 held out" in ended.text and "optimizer steps: 5 of 8 rows" in ended.text
    assert re.search(r"tokens: [\d,]+ to [\d,]+ in the rows to train on, by a sample of \d+ rows", ended.text)
    assert "answers: to 2 held-out prompts at each evaluation, of at most 64 tokens" in ended.text
    assert "time: " in ended.text and re.search(r"memory: about [\d.]+ [MG]B", ended.text)
    assert train_in_fork(arguments).code == 0
    before = files(tmp_path)
    assert "there is nothing left to do after step 5" in train_in_fork([*arguments, "--dry-run"]).text
    assert files(tmp_path) == before
    longer = train_in_fork([*arguments, "--budget.samples", "64", "--dry-run"]).text
    assert "optimizer steps: 8 of 8 rows" in longer and "5 steps are in the last checkpoint, 3 are left" in longer


def test_a_run_that_was_stopped_goes_on(command, train_in_fork, tmp_path):
    from curricle.train.training.loop import Loop

    def stop_after_three_steps():
        look = Loop._look

        def stopping(self):
            look(self)
            if self.step == 3:
                raise KeyboardInterrupt

        Loop._look = stopping

    arguments = command("--budget.samples", "40", "--checkpoint.every", "2")
    assert train_in_fork(arguments, stop_after_three_steps).code == 1
    output = train_in_fork([*arguments, "--dry-run"]).text
    assert "resumed: 2 steps are in the last checkpoint, 3 are left" in output


@pytest.mark.parametrize(
    ("more", "words"),
    [(("--curriculum", "sortd"), "sorted"), (("--data", "nowhere"), "nowhere"), (("--lr", "1"), "lr")],
)
def test_errors_are_those_of_the_run(command, train_in_fork, more, words):
    ended = [train_in_fork([*command(), *more, *dry]) for dry in ((), ("--dry-run",))]
    assert [each.code for each in ended] == [2, 2] and ended[0].text == ended[1].text and words in ended[0].text


def test_a_comparison(command, train_in_fork, tmp_path):
    base = ("--eval.rows", "8", "--budget.samples", "24", "--seeds", "2", "--learning-rates", "1e-3,1e-4")
    more = ("--tuning-seeds", "1", "--arms", "random,sorted?by=loss")
    arguments = ["compare", *command(*base, *more, output="compared", without="--curriculum.")[1:]]
    before = files(tmp_path)
    ended = train_in_fork([*arguments, "--dry-run"])
    assert ended.code == 0, ended.text
    assert files(tmp_path) == before
    for arm in ("random", "sorted?by=loss"):  # two rates with one seed, and the best one with the other
        assert f"{arm}: 3 runs of 3 optimizer steps" in ended.text
    assert "finished before" not in ended.text
    assert train_in_fork(arguments).code == 0
    assert "finished before: 6 of 6 runs" in train_in_fork([*arguments, "--dry-run"]).text
