"""Kill a run at any instant, start it again with the same command: the bits are those of an uninterrupted run."""

import json
import shutil
import signal
from pathlib import Path

import curricle.schemas.common.disk
import curricle.train.ordering.journal
import curricle.train.records.run_json
import curricle.train.training.loop
import curricle.train.training.progress
import drawn
import pytest
import torch
from kills import PROBING, WAITING, at_call, instants, outcome

CURRICULA = {
    "campus": [],
    "random": [],
    "competence": ["--curriculum.by", "loss"],
    "interleaved": ["--curriculum.category", "kind"],
}


def metrics(run: Path) -> list[dict]:
    return [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]


EXACT = ["--curriculum.probe", "exact", "--curriculum.resort-epochs", "0.001"]


@pytest.mark.parametrize("curriculum", CURRICULA)
def test_kill_and_resume_gives_the_same_bits(curriculum, command, train_in_fork, tmp_path):
    options = ["--curriculum", curriculum, *CURRICULA[curriculum], "--checkpoint.every", "2", "--budget.samples", "128"]
    whole = train_in_fork(command(*options, output="whole"))
    assert whole.code == 0, whole.text
    arguments = command(*options, output="killed")
    kills, chosen = 0, list(instants().items())
    if curriculum != "campus":  # which comes to every instant, on any day
        drawable = [each for each in chosen if each[0] not in (*PROBING, WAITING, "at random")]
        chosen = [*drawn.some(curriculum, drawable[:-1], 3), drawable[-1]]
    for name, patch in chosen:
        ended = train_in_fork(arguments, patch)
        assert ended.code in (0, -signal.SIGKILL), f"{name}: {ended.text}"
        kills += ended.code == -signal.SIGKILL
    last = train_in_fork(arguments)
    assert last.code == 0, last.text
    assert kills >= {"campus": 10}.get(curriculum, drawn.amount(1, 5))  # one at random may come when all is over
    killed, expected = outcome(tmp_path / "killed"), outcome(tmp_path / "whole")
    for key, value in expected.items():
        assert killed[key] == value, f"{key} differs"
    assert not list((tmp_path / "killed" / "checkpoints").glob(".*")), "something unfinished stayed"


def test_without_the_journal_a_resume_decides_again_and_differs(command, train_in_fork, tmp_path, monkeypatch):
    """The negative control: the decisions of a trained student are not those that were made."""
    from curricle.train.ordering.journal import read_journal
    from curricle.train.training.loop import Loop

    arguments = command("--budget.steps", "6", "--checkpoint.every", "6", "--optimizer.lr", "5e-2", *EXACT)
    assert train_in_fork(arguments).code == 0
    journal = tmp_path / "run" / "journal.jsonl"
    recorded = read_journal(journal)
    journal.unlink()
    (tmp_path / "run" / "run.json").unlink()  # it says that the run is finished
    refused = train_in_fork(arguments)
    assert refused.code == 1 and "journal does not have the decisions" in refused.text

    def forget() -> None:  # ask the student of step 6 what the student of step 0, 1, … was asked
        original = Loop._ask

        def ask_anyway(self, probe):  # type: ignore[no-untyped-def]
            self.cursor.step, step = 0, self.cursor.step
            try:
                return original(self, probe)
            finally:
                self.cursor.step = step

        Loop._ask = ask_anyway

    (tmp_path / "run" / "run.json").unlink()
    again = train_in_fork(arguments, forget)
    assert again.code == 1 and "not the order that the checkpoint was trained on" in again.text
    assert read_journal(journal).records != recorded.records


def test_checkpoint_of_other_settings_or_another_table_is_refused(
    command, train_in_fork, tmp_path, table_file, write_signed
):
    assert train_in_fork(command("--budget.steps", "2")).code == 0
    before = {path: path.read_bytes() for path in (tmp_path / "run").rglob("*") if path.is_file()}
    other = train_in_fork(command("--budget.steps", "2", "--optimizer.lr", "2e-3"))
    assert other.code == 2 and "settings.optimizer.lr: 0.001 there, 0.002 now" in other.text
    write_signed(table_file, fingerprint="e" * 32)
    other = train_in_fork(command("--budget.steps", "2"))
    assert other.code == 2 and "fingerprint" in other.text
    assert before == {path: path.read_bytes() for path in (tmp_path / "run").rglob("*") if path.is_file()}


def test_a_finished_run_stays_as_it_is(command, train_in_fork, tmp_path):
    def files() -> list[tuple[int, int]]:
        result = [path.stat() for path in sorted((tmp_path / "run").rglob("*"))]
        return [(stat.st_ino, stat.st_mtime_ns) for stat in result]

    arguments = command("--budget.steps", "2", "--eval.rows", "8")
    description = curricle.train.records.run_json.Description
    killed = train_in_fork(arguments, lambda: at_call(description, "write", 1))
    assert killed.code == -signal.SIGKILL
    whole = outcome(tmp_path / "run")
    marked = train_in_fork(arguments)
    assert marked.code == 0 and outcome(tmp_path / "run") == whole
    before = files()
    again = train_in_fork(arguments, lambda: at_call(curricle.train.training.loop, "load_model", 0))
    assert again.code == 0 and "the run is finished" in again.text, again.text
    assert files() == before


@pytest.mark.parametrize("evaluated", [False, True])
def test_a_kill_at_the_end_keeps_the_last_evaluation(evaluated, command, train_in_fork, tmp_path):
    """Between the last checkpoint, which holds the last step, and the end: before the evaluation, and after it."""
    options = ["--curriculum", "random", "--budget.steps", "4", "--eval.rows", "8", "--checkpoint.every", "2"]
    assert train_in_fork(command(*options, output="whole")).code == 0
    ended = train_in_fork(
        command(*options), lambda: at_call(curricle.train.training.loop.Loop, "_evaluate", 0, after=evaluated)
    )
    assert ended.code == -signal.SIGKILL, ended.text
    assert (tmp_path / "run" / "checkpoints" / "step-00000004").is_dir()
    assert train_in_fork(command(*options)).code == 0

    def evaluations(run: str) -> list[tuple[int, float]]:
        return [(line["step"], line["loss"]) for line in metrics(tmp_path / run) if line["kind"] == "eval"]

    assert evaluations("run") == evaluations("whole") and len(evaluations("run")) == 1


@pytest.mark.parametrize(("every", "saved"), [("3", False), ("2", True)])
def test_a_kill_after_the_summary_leaves_one_summary(every, saved, command, train_in_fork, tmp_path):
    """Whether the last checkpoint holds the last step, so that the line stays, or not, so that it is dropped."""
    options = ["--budget.steps", "4", "--checkpoint.every", every]
    assert train_in_fork(command(*options, output="whole")).code == 0
    reporter = curricle.train.training.progress.Reporter
    ended = train_in_fork(command(*options), lambda: at_call(reporter, "summary", 0, after=True))
    assert ended.code == -signal.SIGKILL, ended.text
    assert (tmp_path / "run" / "checkpoints" / "step-00000004").is_dir() == saved
    assert train_in_fork(command(*options)).code == 0

    def lines(run: str) -> list[dict]:
        return [line for line in metrics(tmp_path / run) if line["kind"] in ("summary", "check")]

    assert [line["kind"] for line in lines("run")].count("summary") == 1
    assert [(line["kind"], line["step"]) for line in lines("run")] == [
        (line["kind"], line["step"]) for line in lines("whole")
    ]


def test_costs_since_the_last_line_are_in_the_totals_of_a_resume(command, train_in_fork, tmp_path):
    options = ["--curriculum", "random", "--log.every", "5", "--checkpoint.every", "3", "--batch.tokens", "128"]
    assert train_in_fork(command(*options, output="whole")).code == 0
    assert train_in_fork(command(*options), lambda: at_call(torch.optim.AdamW, "step", 4)).code == -signal.SIGKILL
    assert train_in_fork(command(*options)).code == 0

    def lines(run: str) -> list[dict]:
        costs = ("samples", "tokens", "scored", "flops")
        result = [line for line in metrics(tmp_path / run) if line["kind"] == "train"]
        return [
            {"step": line["step"], "loss": line["loss"], **{key: line["total"][key] for key in costs}}
            for line in result
        ]

    assert lines("run") == lines("whole")
    assert lines("run")[-1]["samples"] == 64
    seconds = [line["total"]["seconds"] for line in metrics(tmp_path / "run") if line["kind"] == "train"]
    assert seconds == sorted(seconds)


def test_replay_trains_a_recorded_order_without_probing(command, train_in_fork, tmp_path):
    assert train_in_fork(command("--budget.steps", "5")).code == 0
    journal = tmp_path / "run" / "journal.jsonl"
    copy = shutil.copy(journal, tmp_path / "kept.jsonl")
    replayed = train_in_fork(command("--replay", str(copy), output="again", without="--batch.size"))
    assert replayed.code == 0, replayed.text
    assert outcome(tmp_path / "again") == outcome(tmp_path / "run")
    assert '"kind": "probe"' not in (tmp_path / "again" / "metrics.jsonl").read_text()


def test_replay_of_a_journal_that_ends_too_soon_trains_what_it_has_and_says_so(command, train_in_fork, tmp_path):
    assert train_in_fork(command("--budget.steps", "8", *EXACT)).code == 0
    lines = (tmp_path / "run" / "journal.jsonl").read_bytes().splitlines(keepends=True)
    stages = [index for index, line in enumerate(lines) if line.startswith(b'{"stage"')]
    short = tmp_path / "short.jsonl"
    short.write_bytes(b"".join(lines[: stages[1] + 1]))
    steps = sum(-(-json.loads(lines[index])["stage"]["rows"] // 8) for index in stages[:2])
    decisions = sum(line.startswith(b'{"decision"') for line in lines[: stages[1]])
    for _ in range(2):  # the same command says the same
        replayed = train_in_fork(command("--replay", str(short), output="again"))
        assert replayed.code == 1, replayed.text
        assert f"the journal ends at decision {decisions}, after {steps} steps" in replayed.text
        assert "Traceback" not in replayed.text
    saved = [path.name for path in (tmp_path / "again" / "checkpoints").glob("step-*")]
    assert max(saved) == f"step-{steps:08d}"


def test_a_run_that_was_begun_with_rows_that_it_is_judged_by_goes_on_as_it_was_begun(
    command, train_in_fork, write_signed, tmp_path
):
    """As earlier versions began runs: to the bit as they would have ended. A new run leaves these rows out."""
    import curricle.train.data.holdout as holdout

    judged = write_signed(tmp_path / "judged" / "part.parquet", rows=70)  # of which 64 are trained on
    write_signed(tmp_path / "few" / "part.parquet", rows=20)
    parted = holdout._parted

    def as_before() -> None:
        holdout._parted = lambda settings, seed, leave_out: parted(settings, seed, False)

    options = ["--curriculum", "random", "--checkpoint.every", "2", "--budget.samples", "64", "--eval.data"]
    arguments = [command(*options, str(judged), output=name) for name in ("whole", "killed")]
    assert train_in_fork(arguments[0], as_before).code == 0

    def killed_as_before() -> None:
        as_before()
        at_call(torch.optim.AdamW, "step", 4)

    killed = train_in_fork(arguments[1], killed_as_before)
    assert killed.code == -signal.SIGKILL
    ended = train_in_fork(arguments[1])
    assert (
        ended.code == 0 and "64 of 64 rows to train on stand in --eval.data as well: the run was begun so" in ended.text
    )
    whole, resumed = outcome(tmp_path / "whole"), outcome(tmp_path / "killed")
    assert resumed == whole
    assert "leaves none of 64 rows" in train_in_fork(command(*options, str(judged), output="new")).text

    few = command(*options, str(tmp_path / "few"), output="few")
    ended = train_in_fork(few)
    assert ended.code == 0, ended.text
    assert "20 of 64 rows are not trained on: they stand in --eval.data as well" in ended.text
    described = json.loads((tmp_path / "few" / "run.json").read_text())
    assert described["left_out"] == {"--eval.data": 20}
    assert (
        described["identity"]["table"] != json.loads((tmp_path / "whole" / "run.json").read_text())["identity"]["table"]
    )
    refused = train_in_fork([*few, "--leave-out", str(tmp_path / "few")])
    assert refused.code == 0, "the same rows are left out by either"
