"""The journal: replayed exactly, cut by a kill at any byte, and refused where it does not belong."""

import json
from itertools import islice

import numpy as np
import pytest
from curricle.schemas.common.errors import UsageError, UserError
from curricle.schemas.sealed import lines_of, sealed, unsealed
from curricle.train.curricula import build
from curricle.train.curricula.base import Decision, Outcome, Probe, ProbeResult
from curricle.train.curricula.course import Course
from curricle.train.ordering import journal
from curricle.train.ordering.journal import Header, StageRecord, open_journal, read_journal, read_recording
from curricle.train.ordering.replay import JournaledCourse, follow, recorded_course
from train_tables import make_table, stages_of

ROWS = 60
OPTIONS = {
    "perspectives": ["loss", "length"],
    "decisions": 8,
    "pointer": "own",
    "seen": "keep",
    "probe": "sparse",
    "probe_cost": 0.0,
    "resort_every": 2,
    "resort_epochs": 5.0,
    "temperature": 0.5,
}
FREE = {"perspectives": ["loss", "length"], "probe_cost": 0.2}


@pytest.fixture
def table(tmp_path):
    random = np.random.default_rng(0)
    return make_table(tmp_path, {"loss": random.random(ROWS) * 4, "length": random.integers(1, 9, ROWS)})


def header(table, name="campus", options=OPTIONS, seed=3):
    return Header(
        table.digest, table.fingerprint, name, options, seed, 4, {"samples": 100, "tokens": None, "steps": None}
    )


class Student:
    """A scripted student that finds every row easier each time it is asked; ``asked`` counts the probes."""

    def __init__(self, seed=0, patience=10**6):
        self.losses = np.random.default_rng(seed).random(ROWS) * 4
        self.probes, self.patience = 0, patience

    def __call__(self, probe: Probe) -> ProbeResult:
        if self.probes == self.patience:
            raise KeyboardInterrupt
        self.probes += 1
        tokens = tuple(each.rows % 5 for each in probe.candidates)
        nll = tuple(self.losses[each.rows] * (each.rows % 5) * 0.9**self.probes for each in probe.candidates)
        return ProbeResult(nll, tokens)

    def outcome(self, stage):
        return Outcome(self.losses[stage.rows] * (stage.rows % 5) * 0.9**stage.index, stage.rows % 5, stage.index)


def course(table, head):
    return Course(build(head.curriculum, head.options), table, head.seed, head.batch)


def run(table, path, student, count=12, **options):
    """The rows of the first stages, with a journal."""
    head = header(table, **options)
    return [
        stage.rows.tolist()
        for stage in islice(stages_of(course(table, head), open_journal(path, head), student, student.outcome), count)
    ]


NAMES = [
    ("campus", OPTIONS),
    ("campus", FREE),
    ("campus", {**FREE, "probe": "sampled", "pointer": "own", "seen": "keep"}),
    ("campus", {**FREE, "probe": "exact"}),
    ("random", {}),
    ("competence", {}),
    ("interleaved", {"category": "length"}),
]


@pytest.mark.parametrize(("name", "options"), NAMES)
def test_replay_gives_the_same_stages_without_a_student(table, tmp_path, name, options):
    path = tmp_path / "journal.jsonl"
    stages = run(table, path, Student(), name=name, options=options)
    recorded = read_journal(path)
    replayed = [stage.rows.tolist() for stage in follow(recorded_course(recorded, table), recorded)]
    assert replayed == stages
    assert len(stages) == 12


@pytest.mark.parametrize("patience", range(0, 14))
def test_a_run_killed_inside_any_probe_goes_on_to_the_same_journal(table, tmp_path, patience):
    whole, cut = tmp_path / "whole.jsonl", tmp_path / "cut.jsonl"
    stages = run(table, whole, Student(seed=5))
    first = Student(seed=5, patience=patience)
    with pytest.raises(KeyboardInterrupt):
        run(table, cut, first)
    second = Student(seed=5)
    second.probes = patience  # as much as it had learned at the last checkpoint, all of it replayed
    assert run(table, cut, second) == stages
    assert cut.read_bytes() == whole.read_bytes()


def test_a_journal_cut_at_any_byte_goes_on_to_the_same_bytes(table, tmp_path):
    whole, cut = tmp_path / "whole.jsonl", tmp_path / "cut.jsonl"
    stages = run(table, whole, Student(), 4)
    content = whole.read_bytes()
    for length in [*range(0, len(content), 37), len(content) - 1, len(content)]:
        cut.write_bytes(content[:length])
        student = Student()
        student.probes = content[:length].count(b'{"decision"') - (not content[:length].endswith(b"\n")) * content[
            content.rfind(b"\n", 0, length) + 1 : length
        ].count(b'{"decision"')
        assert run(table, cut, student, 4) == stages
        assert cut.read_bytes() == content


def test_without_the_journal_another_student_decides_otherwise(table, tmp_path):
    """The negative control of replay: it is the journal that keeps the order, not the options or the seed."""
    stages = run(table, tmp_path / "a.jsonl", Student(seed=1))
    assert run(table, tmp_path / "b.jsonl", Student(seed=2)) != stages
    assert run(table, tmp_path / "a.jsonl", Student(seed=2)) == stages


def test_a_recorded_order_is_trained_without_probing_and_journalled_again(table, tmp_path):
    stages = run(table, tmp_path / "old.jsonl", Student())
    old = read_journal(tmp_path / "old.jsonl")
    new = open_journal(tmp_path / "new.jsonl", old.header)
    replayed = JournaledCourse(recorded_course(old, table), new, old.records)
    assert [replayed.next().rows.tolist() for _ in stages] == stages
    assert (tmp_path / "new.jsonl").read_bytes() == (tmp_path / "old.jsonl").read_bytes()


def test_records_are_on_disk_before_their_stage_is_given_out(table, tmp_path):
    path, head = tmp_path / "journal.jsonl", header(table)
    for stage in islice(stages_of(course(table, head), open_journal(path, head), Student()), 5):
        last = json.loads(path.read_text().splitlines()[-1])["stage"]
        assert (last["index"], last["rows"], last["choice"]) == (stage.index, len(stage.rows), stage.choice)


def test_other_processes_read_and_never_write(table, tmp_path):
    path, head = tmp_path / "journal.jsonl", header(table)
    assert open_journal(path, head, write=False).records == []
    assert not path.exists()
    stages = run(table, path, Student())
    content = path.read_bytes() + b'{"decis'
    path.write_bytes(content)
    other = stages_of(course(table, head), open_journal(path, head, write=False), Student())
    assert [stage.rows.tolist() for stage in islice(other, 14)][:12] == stages
    assert path.read_bytes() == content


@pytest.mark.parametrize(
    ("change", "line"),
    [
        ({"seed": 4}, "seed: 3 there, 4 now"),
        ({"options": {**OPTIONS, "decisions": 9}}, "options.decisions: 8 there, 9 now"),
        ({"name": "random", "options": {}}, "curriculum: 'campus' there, 'random' now"),
    ],
)
def test_another_order_is_refused_with_the_difference(table, tmp_path, change, line):
    run(table, tmp_path / "journal.jsonl", Student())
    before = (tmp_path / "journal.jsonl").read_bytes()
    with pytest.raises(UsageError, match=line):
        run(table, tmp_path / "journal.jsonl", Student(), **change)
    assert (tmp_path / "journal.jsonl").read_bytes() == before


def test_a_default_that_is_spelt_out_is_the_same_order(table, tmp_path):
    stages = run(table, tmp_path / "journal.jsonl", Student())
    spelt = {**OPTIONS, "perspectives": "loss,length", "decisions": "8", "pointer": "own", "s1": "0.010"}
    assert run(table, tmp_path / "journal.jsonl", Student(seed=9), options=spelt) == stages


def test_another_table_is_refused(table, tmp_path):
    run(table, tmp_path / "journal.jsonl", Student())
    (tmp_path / "other").mkdir()
    other = make_table(tmp_path / "other", {"loss": np.arange(9.0), "length": np.arange(9)})
    with pytest.raises(UsageError, match="another table"):
        recorded_course(read_journal(tmp_path / "journal.jsonl"), other)
    with pytest.raises(UsageError, match="table: "):
        run(other, tmp_path / "journal.jsonl", Student())


def test_scores_that_changed_without_a_fingerprint_are_noticed(table, tmp_path):
    run(table, tmp_path / "journal.jsonl", Student())
    (tmp_path / "other").mkdir()
    changed = make_table(tmp_path / "other", {"loss": np.arange(float(ROWS)), "length": np.arange(ROWS)})
    assert changed.digest == table.digest
    with pytest.raises(UserError, match="answers another question"):
        run(changed, tmp_path / "journal.jsonl", Student())


@pytest.mark.parametrize(
    "line", [b"{}", b"[]", b'{"stage":{"index":0}}', b"\xff", b'{"decision":{"scores":"!"}}', b"[" * 9999]
)
def test_a_journal_that_is_not_one_is_refused(table, tmp_path, line):
    path = tmp_path / "journal.jsonl"
    run(table, path, Student())
    path.write_bytes(path.read_bytes() + line + b"\n")
    with pytest.raises(UsageError, match="not a journal"):
        read_journal(path)


def test_an_absent_journal(tmp_path):
    with pytest.raises(UsageError, match="absent or empty"):
        read_journal(tmp_path / "journal.jsonl")


def test_scores_of_a_resort_survive_to_the_bit(table, tmp_path):
    path, head = tmp_path / "journal.jsonl", header(table)
    journal = open_journal(path, head)
    list(islice(stages_of(course(table, head), journal, Student()), 12))
    before = [record.scores for record in read_journal(path).records if getattr(record, "scores", None) is not None]
    result = [record.scores for record in journal.records if getattr(record, "scores", None) is not None]
    assert len(before) == len(result) > 1
    for one, other in zip(before, result, strict=True):
        assert one.tobytes() == other.tobytes()
        assert np.isnan(one).any()  # rows without a token


def test_decisions_of_earlier_versions_say_for_what_they_asked(table, tmp_path):
    """They named a purpose, from which the kind of the question followed."""
    path = tmp_path / "journal.jsonl"
    stages = run(table, path, Student())
    lines = [unsealed(line) for line in path.read_bytes().splitlines()]
    kinds = [line["decision"].pop("what") for line in lines if "decision" in line]
    assert kinds and set(kinds) == {"nll"}
    path.write_text("".join(sealed(json.dumps(line)) + "\n" for line in lines))
    assert run(table, path, Student(seed=9)) == stages
    assert [it.what for it in read_journal(path).records if isinstance(it, Decision)] == kinds

    old = {"decision": {"purpose": "refresh", "candidates": ["a"], "digest": "", "rows": [1], "nll": [0.0]}}
    old["decision"] |= {"tokens": [0], "log_perplexity": [None], "choice": None}
    path.write_text(path.read_text() + sealed(json.dumps(old)) + "\n")
    assert read_journal(path).records[-1].what == "reward_gap"


def test_a_journal_that_was_read_before_is_read_again_where_it_has_grown_and_only_there(table, tmp_path, monkeypatch):
    """Between a look at it and the lock another process may have gone on: none of its lines is lost."""
    path, head = tmp_path / "journal.jsonl", header(table)
    stages = [StageRecord(index, None, {}, 1, "0" * 32) for index in range(3)]
    first = open_journal(path, head)
    first.append(stages[0])
    early = read_recording(path)
    reads = []
    monkeypatch.setattr(journal, "lines_of", lambda path: reads.append(path) or lines_of(path))
    assert open_journal(path, head, recording=early).records == stages[:1] and reads == []
    first.append(stages[1])
    grown = open_journal(path, head, recording=early)
    assert grown.records == stages[:2] and reads == [path]
    grown.append(stages[2])
    assert read_journal(path).records == stages
