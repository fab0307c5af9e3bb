"""What came of a stage: the losses of the training steps themselves, journalled, resumed and replayed to the bit.

The curriculum is the one of docs/extend.md.
"""

import json
import os
import random
import shutil
import signal
import threading
from collections.abc import Callable
from itertools import islice
from pathlib import Path

import numpy as np
import pytest
import torch
from curricle import train
from curricle.schemas.common.errors import UsageError, UserError
from curricle.train.curricula import build, origin
from curricle.train.curricula.base import Outcome
from curricle.train.curricula.course import Course
from curricle.train.data.encoding import ConversationTokenizer
from curricle.train.distributed import Processes
from curricle.train.model.load import load_model, load_tokenizer
from curricle.train.model.outcome import StageLosses
from curricle.train.model.probe import score
from curricle.train.model.student import Student
from curricle.train.ordering.journal import Header, Journal, open_journal, read_journal
from curricle.train.ordering.replay import JournaledCourse, follow
from curricle.train.settings import DeviceSettings
from kills import at_call, die, outcome
from pages import block
from train_tables import make_table

ALONE = Processes(0, 1, torch.device("cpu"))
BINS = {"bins": 3, "batches": 2}
ROWS = 20


@pytest.fixture(scope="module")
def name(tmp_path_factory) -> str:
    """The curriculum of the page, as ``--curriculum`` names it."""
    file, code = block("docs/extend.md", "outcome-curriculum")
    path = tmp_path_factory.mktemp("curriculum") / file
    path.write_text(code, "utf-8")
    return f"{path}:EasiestBin"


def student(rows: np.ndarray, stage: int) -> Outcome:
    """A scripted student, to which the rows in the middle are easy, and every third has no token."""
    tokens = np.asarray(rows) % 3
    return Outcome(tokens * (0.1 + abs(rows - 10)) * 0.9**stage, tokens, stage)


def drive(course: Course, journal: Journal, count: int) -> list[list[int]]:
    """The rows of some stages, whose outcomes the student reports unless the journal knows them."""
    replay, stages = JournaledCourse(course, journal), []
    while len(stages) < count:
        stage = replay.next()
        stages.append(stage.rows.tolist())
        if stage.outcome:
            replay.report(student(stage.rows, stage.index))
    return stages


@pytest.fixture
def table(tmp_path):
    return make_table(tmp_path, {"loss": np.arange(ROWS) / 4})


def course_of(table, name: str) -> tuple[Course, Header]:
    head = Header(table.digest, table.fingerprint, name, BINS, 0, 3, {"samples": 99}, origin(name))
    return Course(build(name, BINS), table, 0, 3), head


def test_the_bins_follow_what_the_student_finds_easy(name, table, tmp_path):
    """By hand: each bin of 7, 7 and 6 rows is looked at once, with 6 rows; then the middle one is the easiest."""
    course, head = course_of(table, name)
    stages = drive(course, open_journal(tmp_path / "journal.jsonl", head), 10)
    assert [len(rows) for rows in stages] == [6, 6, 6, 1, 1, 6, 1, 6, 6, 1]
    for start in 0, 5:
        assert sorted(np.concatenate(stages[start : start + 5])) == list(range(ROWS))  # every row once in an epoch
    bins = [min(rows) // 7 for rows in stages]
    assert bins[:5] == [0, 1, 2, 1, 0] and bins[5] == 1
    choices = [
        record.choice for record in read_journal(tmp_path / "journal.jsonl").records if hasattr(record, "choice")
    ]
    assert choices == [f"bin {number}" for number in bins]


def test_an_outcome_is_kept_to_the_bit_in_eight_bytes_a_row(name, table, tmp_path):
    path = tmp_path / "journal.jsonl"
    course, head = course_of(table, name)
    journal = open_journal(path, head)
    stages = drive(course, journal, 6)
    reported, read = (
        [record for record in records if isinstance(record, Outcome)]
        for records in (journal.records, read_journal(path).records)
    )
    assert len(reported) == len(read) == 6
    for one, other in zip(reported, read, strict=True):
        assert (one.nll.tobytes(), one.tokens.tobytes()) == (other.nll.tobytes(), other.tokens.tobytes())
        assert (one.nll == one.nll.astype(np.float32)).all() and one.index == other.index
    line = next(line for line in path.read_text().splitlines() if '"outcome"' in line)
    assert len(line) < 100 + 6 * 8 * 4 / 3
    again = [stage.rows.tolist() for stage in follow(course_of(table, name)[0], read_journal(path))]
    assert again == stages


def test_a_journal_cut_anywhere_goes_on_to_the_same_bytes(name, table, tmp_path):
    whole, cut = tmp_path / "whole.jsonl", tmp_path / "cut.jsonl"
    course, head = course_of(table, name)
    stages = drive(course, open_journal(whole, head), 6)
    content = whole.read_bytes()
    for length in [*range(0, len(content), 97), len(content)]:
        cut.write_bytes(content[:length])
        assert drive(course_of(table, name)[0], open_journal(cut, head), 6) == stages
        assert cut.read_bytes() == content


def test_a_journal_that_knows_other_outcomes_decides_otherwise(name, table, tmp_path):
    """The negative control: what is replayed are the losses of the journal, not those of the student."""
    course, head = course_of(table, name)
    journal = open_journal(tmp_path / "journal.jsonl", head)
    stages = drive(course, journal, 6)
    changed = [
        Outcome(-record.nll, record.tokens, record.index) if isinstance(record, Outcome) else record
        for record in journal.records
    ]
    with pytest.raises(UserError, match="record 6 of the journal is not what the curriculum derives"):
        drive(course_of(table, name)[0], Journal(head, changed), 6)
    assert drive(course_of(table, name)[0], Journal(head, changed[:6]), 6) != stages


def test_the_outcome_of_another_stage_is_refused(name, table):
    course, _ = course_of(table, name)
    stage = course.next()
    for wrong in student(stage.rows[1:], 0), student(stage.rows, 1):
        with pytest.raises(UserError, match="is not that of stage 0, which has 6"):
            course.report(wrong)


def test_an_order_that_waits_for_losses_is_not_known_before_training(name, table):
    with pytest.raises(UsageError, match="its order is not known before training"):
        train.order(table, name, batch_size=3, **BINS)
    assert len(train.order(table, name, batch_size=3, budget={"samples": 6}, **BINS)) == 6  # one stage


def test_the_loop_of_the_page(name, tmp_path):
    """A notebook with a student of its own orders its rows by CAMPUS, and by a curriculum that asks for outcomes."""
    _, code = block("docs/extend.md", "course-by-hand")
    campus = '{"decisions": 10, "perspectives": "loss,length"}'
    small = make_table(tmp_path, {"loss": np.arange(60.0), "length": np.arange(60)[::-1]})
    for call in f'build("campus", {campus})', f'build("{name}", {BINS})':
        visits: list[np.ndarray] = []

        def train_on(rows: np.ndarray, visits: list[np.ndarray] = visits) -> tuple[np.ndarray, np.ndarray]:
            visits.append(rows)
            return rows * 1.0, np.ones(len(rows), np.int64)

        names = {"losses": lambda rows: (rows * 1.0, np.ones(len(rows), np.int64)), "train_on": train_on}
        body = code.replace('build("campus", {"decisions": 10})', call).replace('"scored"', repr(small.where))
        assert call in body and small.where in body
        exec(body, names)
        assert set(np.concatenate(visits)) <= set(range(60)) and len(visits) > 10


@pytest.fixture
def easiest(name: str, command: Callable[..., list[str]]) -> Callable[..., list[str]]:
    """Arguments of a run over 64 rows in stages of 16, two steps each."""
    options = ["--curriculum", name, "--curriculum.bins", "4", "--curriculum.batches", "2"]
    return lambda *more, output="run": command(*options, *more, output=output)


def lines(run: Path, kind: str) -> list[dict]:
    return [line for line in map(json.loads, (run / "metrics.jsonl").read_text().splitlines()) if line["kind"] == kind]


def outcomes(run: Path) -> list[Outcome]:
    return [it for it in read_journal(run / "journal.jsonl").records if isinstance(it, Outcome)]


@pytest.mark.parametrize("how", [["--no-batch.packing"], ["--batch.packing"], ["--lora.rank", "2"]], ids=str)
def test_the_losses_are_those_of_the_model_that_is_trained(
    how, easiest, name, train_in_fork, tiny_model, table_file, tmp_path
):
    """With a learning rate at which no weight moves, a forward pass of its own gives the same; and none was made."""

    def count() -> None:
        original = Student.nll

        def nll(self, micro):  # type: ignore[no-untyped-def]
            print("PASS", torch.is_grad_enabled(), len(micro.documents))
            return original(self, micro)

        Student.nll = nll

    still = ["--optimizer.lr", "1e-38", "--checkpoint.every", "0", "--log.every", "4"]
    arguments = easiest(*still, "--batch.tokens", "128", "--budget.samples", "64")
    ended = train_in_fork([*arguments, *how], count)
    assert ended.code == 0, ended.text
    passes = [line.split()[1:] for line in ended.text.splitlines() if line.startswith("PASS")]
    assert sum(int(documents) for grad, documents in passes if grad == "True") == 64
    assert [grad for grad, _ in passes].count("False") == 1  # the last checkpoint looks again whether it is finite
    assert not lines(tmp_path / "run", "probe") and lines(tmp_path / "run", "train")[-1]["probes"]["flops"] == 0

    model = Student(load_model(str(tiny_model), "sdpa"), DeviceSettings(), ALONE)
    encoder, table = ConversationTokenizer(load_tokenizer(str(tiny_model)), "chat", 128), train.open_table(table_file)
    everyone = np.arange(64)
    expected = score(model, [encoder.encode(everyone.tolist(), table.examples(everyone))], 512, ALONE)
    journal = read_journal(tmp_path / "run" / "journal.jsonl")
    reported = outcomes(tmp_path / "run")
    assert len(reported) == 3  # the budget ends with the fourth stage, and nobody waits for it
    course = Course(build(name, {"bins": 4, "batches": 2}), table, 0, 8)
    for stage, each in zip(islice(follow(course, journal), 3), reported, strict=True):
        assert each.nll == pytest.approx(expected.nll[stage.rows], rel=1e-5)
        assert each.tokens.tolist() == expected.tokens[stage.rows].tolist()


def test_kills_do_not_change_what_is_decided(easiest, name, command, train_in_fork, tmp_path):
    """In the middle of stages, between the last step of one and its outcome, and at random."""
    options = ["--batch.size", "16", "--curriculum.bins", "2", "--budget.samples", "144", "--checkpoint.every", "1"]
    whole = train_in_fork(easiest(*options, output="whole"))
    assert whole.code == 0, whole.text
    assert len({record.choice for record in read_journal(tmp_path / "whole" / "journal.jsonl").records[::2]}) == 2

    def is_outcome(_: object, record: object) -> bool:
        return isinstance(record, Outcome)

    draw = random.Random(seed := random.randrange(10**6))
    instants: list[Callable[[], object]] = [
        lambda: at_call(Journal, "append", 0, is_outcome),  # all steps are saved, the outcome is not
        lambda: at_call(torch.optim.AdamW, "step", 1),  # a stage is half trained
        lambda: at_call(Journal, "append", 1, is_outcome, after=True),
        lambda: at_call(torch.optim.AdamW, "step", 0),
        lambda: threading.Timer(draw.uniform(0.05, 1.5), die).start(),
    ]
    kills = 0
    for patch in instants:
        ended = train_in_fork(easiest(*options, output="killed"), patch)
        assert ended.code in (0, -signal.SIGKILL), f"seed {seed}: {ended.text}"
        kills += ended.code == -signal.SIGKILL
    assert kills >= 4
    last = train_in_fork(easiest(*options, output="killed"))
    assert last.code == 0, last.text
    killed, expected = outcome(tmp_path / "killed"), outcome(tmp_path / "whole")
    for key, value in expected.items():
        assert killed[key] == value, f"seed {seed}: {key} differs"

    def deny() -> None:
        original = StageLosses.read

        def read(self):  # type: ignore[no-untyped-def]
            return {**original(self), "nll": -original(self)["nll"]}

        StageLosses.read = read

    assert train_in_fork(easiest(*options, output="other"), deny).code == 0
    assert outcome(tmp_path / "other")["order"] != expected["order"]  # the control: losses decide

    rest = shutil.copy(tmp_path / "whole" / "journal.jsonl", tmp_path / "kept.jsonl")
    replay = command("--replay", str(rest), "--curriculum", name, "--checkpoint.every", "1", output="again")

    def count() -> None:
        original = StageLosses.__init__

        def init(self, *arguments):  # type: ignore[no-untyped-def]
            print("COLLECTED")
            original(self, *arguments)

        StageLosses.__init__ = init

    again = train_in_fork(replay, count)
    assert again.code == 0, again.text
    assert again.text.count("COLLECTED") == 1  # of the stage in which the budget ends: the journal knows the others
    assert outcome(tmp_path / "again") == expected
    page = train_in_fork(["report", str(tmp_path / "whole")])
    assert page.code == 0 and "bin 1" in (tmp_path / "whole" / "report.html").read_text()


def test_what_a_checkpoint_inside_a_stage_has_not_is_missed(easiest, name, command, train_in_fork, tmp_path):
    """Neither the losses of the first half of a stage, nor a journal that knows the outcome."""
    options = ["--checkpoint.every", "1", "--budget.samples", "48"]
    killed = train_in_fork(easiest(*options), lambda: at_call(torch.optim.AdamW, "step", 3))
    assert killed.code == -signal.SIGKILL
    saved = tmp_path / "run" / "checkpoints" / "step-00000003" / "state"
    digests = json.loads((saved / "digests.json").read_text())
    del digests["state/outcome.safetensors"], digests["crc32"]
    (saved / "outcome.safetensors").unlink()
    (saved / "digests.json").write_text(json.dumps(digests))
    refused = train_in_fork(easiest(*options))
    assert refused.code == 1 and "journal does not have the decisions" in refused.text, refused.text
    assert "Traceback" not in refused.text

    short = tmp_path / "short.jsonl"
    short.write_bytes(b"".join((tmp_path / "run" / "journal.jsonl").read_bytes().splitlines(keepends=True)[:2]))
    replay = command("--replay", str(short), "--curriculum", name, output="again")
    for _ in range(2):
        replayed = train_in_fork(replay)
        assert replayed.code == 1 and "the journal ends at the outcome of stage 0, after 2 steps" in replayed.text
    assert [path.name for path in (tmp_path / "again" / "checkpoints").glob("step-*")] == ["step-00000002"]


def test_two_processes_decide_as_one_and_go_on_to_the_bit(easiest, train_in_fork, train_in_forks, tmp_path):
    options = ["--budget.samples", "96", "--checkpoint.every", "3"]
    assert train_in_fork(easiest(*options, output="one")).code == 0
    for parallel in "ddp", "fsdp":
        ended = train_in_forks(2, easiest(*options, "--device.parallel", parallel, output=parallel))
        assert [each.code for each in ended] == [0, 0], ended
        assert outcome(tmp_path / parallel)["order"] == outcome(tmp_path / "one")["order"]
        for one, two in zip(outcomes(tmp_path / "one"), outcomes(tmp_path / parallel), strict=True):
            assert two.nll == pytest.approx(one.nll, rel=1e-4)
            assert two.tokens.tolist() == one.tokens.tolist()

    def second_is_killed() -> None:
        if os.environ["RANK"] == "1":  # in the last step of a stage, of whose first one there is a checkpoint
            at_call(torch.optim.AdamW, "step", 3)

    ended = train_in_forks(2, easiest(*options, output="killed"), second_is_killed)
    assert [each.code for each in ended] == [1, -signal.SIGKILL], ended
    assert [path.name for path in (tmp_path / "killed").glob("checkpoints/step-*")] == ["step-00000003"]
    ended = train_in_forks(2, easiest(*options, output="killed"))
    assert [each.code for each in ended] == [0, 0] and "going on after step 3" in ended[0].text, ended
    killed, expected = outcome(tmp_path / "killed"), outcome(tmp_path / "ddp")
    for key in ("order", "journal", "weights"):
        assert killed[key] == expected[key], f"{key} differs"
