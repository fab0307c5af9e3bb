"""Curricula of others: trained by, known again by what they are from, and never run for a journal alone."""

import json
import shutil

import pytest
from curricle import train
from curricle.schemas.common.errors import UsageError
from curricle.train.cli import main

BACKWARDS = '''"""Rows from the last to the first, in portions."""

from dataclasses import dataclass

import numpy as np
from curricle.schemas.common.config import option
from curricle.train.curricula.base import Curriculum, Stage


@dataclass(frozen=True)
class Backwards(Curriculum):
    """From the last row to the first."""

    portion: int = option("rows in a stage", 16, at_least=1)

    def steps(self, table, seed, batch):
        rows = np.arange(len(table))[::-1]
        for start in range(0, len(rows), self.portion):
            yield Stage(rows[start : start + self.portion])
'''


@pytest.fixture
def plugin(tmp_path, monkeypatch):
    (tmp_path / "mine.py").write_text(BACKWARDS)
    monkeypatch.chdir(tmp_path)
    return "./mine.py:Backwards"


def install(site, version, code=BACKWARDS):
    shutil.rmtree(site, ignore_errors=True)
    info = site / f"backwards-{version}.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: backwards\nVersion: {version}\n")
    (info / "entry_points.txt").write_text("[curricle.curricula]\nbackwards = backwards_plugin:Backwards\n")
    (site / "backwards_plugin.py").write_text(code)


def header(run):
    return json.loads((run / "journal.jsonl").read_text().splitlines()[0])


def identity(run):
    return json.loads((run / "run.json").read_text())["identity"]


def test_a_file_is_trained_by_and_known_again(plugin, command, train_in_fork, tmp_path, table_file):
    options = ["--curriculum", plugin, "--curriculum.portion", "20", "--checkpoint.every", "2"]
    arguments = command(*options, "--budget.steps", "4")
    assert train_in_fork(arguments).code == 0
    expected = header(tmp_path / "run")["plugin"]
    assert expected["file"] == "mine.py" and len(expected["sha256"]) == 64
    assert identity(tmp_path / "run")["plugin"] == expected
    assert header(tmp_path / "run")["options"] == {"portion": 20}
    ours = command("--curriculum", "random", "--budget.steps", "1", output="ours")
    assert train_in_fork(ours).code == 0
    assert "plugin" not in header(tmp_path / "ours") and "plugin" not in identity(tmp_path / "ours")

    (tmp_path / "mine.py").write_text(BACKWARDS.replace("[::-1]", "[::-1] * 1"))
    (tmp_path / "other.py").write_text(BACKWARDS)
    shutil.rmtree(tmp_path / "run" / "checkpoints" / "step-00000004")
    elsewhere = command(*options[2:], "--curriculum", "./other.py:Backwards", "--budget.steps", "4")
    for again, words in ((arguments, "plugin.sha256: "), (elsewhere, "settings.curriculum: './mine.py:Backwards'")):
        ended = train_in_fork(again)
        assert ended.code == 2 and words in ended.text, ended.text
        assert not (tmp_path / "run" / "checkpoints" / "step-00000004").exists()
    (tmp_path / "mine.py").write_text(BACKWARDS)
    assert train_in_fork(command(*options, "--budget.steps", "4")).code == 0
    assert (tmp_path / "run" / "checkpoints" / "step-00000004").exists()
    report = train.report(tmp_path / "run").read_text()
    assert "the curriculum is a plug-in, whose code a report does not run" in report

    replayed = command("--replay", str(tmp_path / "run" / "journal.jsonl"), output="replayed", without="--curriculum")
    ended = train_in_fork(replayed)
    assert ended.code == 2 and f"add --curriculum {plugin}" in ended.text
    assert train_in_fork([*replayed, "--curriculum", plugin]).code == 0
    assert (tmp_path / "replayed" / "journal.jsonl").read_bytes() == (tmp_path / "run" / "journal.jsonl").read_bytes()


def test_a_file_runs_for_nobody_who_does_not_name_it(plugin, command, train_in_fork, tmp_path, table_file):
    assert train_in_fork(command("--curriculum", plugin, "--budget.steps", "2")).code == 0
    journal = tmp_path / "run" / "journal.jsonl"
    mark = tmp_path / "mark"
    (tmp_path / "mine.py").write_text(f"open({str(mark)!r}, 'w')\n" + BACKWARDS)
    table = train.open_table(table_file)
    plan = ["plan", "--data", str(table_file), "--output", str(tmp_path / "plan"), "--journal", str(journal)]
    with pytest.raises(UsageError, match="not run for a journal alone"):
        train.order(table, journal=journal)
    assert main(plan) == 2
    assert main(["report", str(tmp_path / "run")]) == 0 and main(["verify", str(tmp_path / "run")]) == 0
    assert train_in_fork(command("--curriculum", "random", "--budget.steps", "2")).code == 2
    assert not mark.exists() and not (tmp_path / "plan").exists()
    with pytest.raises(UsageError, match="another version of curriculum"):
        train.order(table, plugin, journal=journal)
    (tmp_path / "mine.py").write_text(BACKWARDS)
    assert main([*plan, "--curriculum", plugin]) == 0
    order = train.order(table, plugin, journal=journal)
    assert order.rows.tolist() == list(range(63, 47, -1))
    assert order.digest == train.order(table, plugin, batch_size=8, budget={"steps": 2}).digest


def test_an_installed_one_is_known_by_its_version(command, train_in_fork, tmp_path, monkeypatch):
    site = tmp_path / "site"
    monkeypatch.syspath_prepend(site)
    install(site, "1.0")
    arguments = command("--curriculum", "backwards", "--budget.steps", "2", "--checkpoint.every", "1")
    assert train_in_fork(arguments).code == 0
    assert header(tmp_path / "run")["plugin"] == {"distribution": "backwards", "version": "1.0"}
    shutil.rmtree(tmp_path / "run" / "checkpoints" / "step-00000002")
    install(site, "1.1")
    ended = train_in_fork(arguments)
    assert ended.code == 2 and "plugin.version: '1.0' there, '1.1' now" in ended.text, ended.text
    shutil.rmtree(site)
    ended = train_in_fork(arguments)
    assert ended.code == 2 and "unknown curriculum 'backwards'" in ended.text
    install(site, "1.0")
    assert train_in_fork(arguments).code == 0


def test_options_of_a_plugin_are_flags(plugin, capsys, tmp_path, table_file):
    with pytest.raises(SystemExit):
        main(["plan", "--curriculum", plugin, "--help"])
    assert "--curriculum.portion N" in capsys.readouterr().out
    plan = ["plan", "--data", str(table_file), "--output", str(tmp_path / "plan"), "--curriculum", plugin]
    assert main([*plan, "--curriculum.portoin", "3"]) == 2
    assert "did you mean 'portion'" in capsys.readouterr().err
    assert main([*plan, "--curriculum.portion", "0"]) == 2
    assert "--curriculum.portion is 0" in capsys.readouterr().err
    (tmp_path / "mine.py").write_text("def Backwards(): pass\n")
    assert main(plan) == 2
    assert "has to be a subclass of curricle.train.curricula.base.Curriculum" in capsys.readouterr().err


def test_help_imports_no_plugin(tmp_path, monkeypatch, capsys):
    install(tmp_path / "site", "1.0", "raise SystemExit('imported')")
    monkeypatch.syspath_prepend(tmp_path / "site")
    with pytest.raises(SystemExit) as ended:
        main(["run", "--help"])
    assert ended.value.code == 0
    assert main(["plan", "--data", "x", "--output", str(tmp_path / "plan"), "--curriculum", "backward"]) == 2
    error = capsys.readouterr().err
    assert "no such file" in error or "backwards" in error
