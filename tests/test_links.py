"""Links that somebody put into a directory that is written to: nothing is written through them."""

import shutil
import stat
from pathlib import Path

import pytest
from curricle.pipelines import cli
from curricle.pipelines.processes.log import output_of_children
from curricle.pipelines.tables.directory import OutputDirectory
from curricle.schemas.common.command import DONE, USAGE
from curricle.schemas.common.disk import write_whole
from curricle.schemas.common.errors import UsageError
from curricle.train import cli as train_cli
from curricle.train.records.checkpoints import locked
from train_tables import write_table


@pytest.fixture(scope="module")
def table(tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("links")
    (path / "in.jsonl").write_text('{"prompt": "Add one and one.", "response": "That makes two."}\n')
    assert cli.main(["score", str(path / "in.jsonl"), "--output", str(path / "out"), "--metrics", "mtld"]) == DONE
    return path


@pytest.fixture
def out(table, tmp_path) -> Path:
    """A copy of the finished table, beside a folder that nobody may touch."""
    shutil.copytree(table / "out", tmp_path / "out")
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / "kept").write_text("kept")
    return tmp_path / "out"


def plant(out: Path, name: str) -> None:
    """Put a link, to a folder or to a file of elsewhere, where the job has something, or would."""
    path = out / name
    folder = path.is_dir()
    if folder:
        shutil.rmtree(path)
    path.unlink(missing_ok=True)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.symlink_to(out.parent / "elsewhere" / ("" if folder else "kept"))


def untouched(out: Path) -> bool:
    elsewhere = out.parent / "elsewhere"
    return [path.name for path in elsewhere.iterdir()] == ["kept"] and (elsewhere / "kept").read_text() == "kept"


PLANTED = ["data", "rejects", "_progress/receipts", "_progress/lock", "report.html", "README.md", "data/part-0.parquet"]


@pytest.mark.parametrize("name", PLANTED)
def test_a_table_is_not_written_through_a_link(name, out, table, capsys):
    plant(out, name)
    again = ["score", str(table / "in.jsonl"), "--output", str(out), "--metrics", "mattr", "--overwrite"]
    assert cli.main(again) == USAGE
    message = capsys.readouterr().err
    assert "is a link to" in message and str(out / name) in message and "remove the link" in message
    assert untouched(out)


@pytest.mark.parametrize("name", ["_progress", "report.html"])
def test_nor_is_a_report(name, out, capsys):
    plant(out, name)
    assert cli.main(["report", str(out)]) == USAGE
    assert "is a link to" in capsys.readouterr().err and untouched(out)


def test_an_output_that_is_itself_a_link_is_the_users_own(out, table):
    (out.parent / "named").symlink_to(out)
    again = ["score", str(table / "in.jsonl"), "--output", str(out.parent / "named"), "--metrics", "mattr"]
    assert cli.main([*again, "--overwrite"]) == DONE
    assert cli.main(["verify", str(out)]) == DONE


@pytest.mark.parametrize("name", [".lock", "run.json", "journal.jsonl", "checkpoints/.step-00000001.partial"])
def test_a_run_is_not_written_through_a_link(name, tmp_path):
    run = tmp_path / "run"
    (run / "checkpoints").mkdir(parents=True)
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / "kept").write_text("kept")
    plant(run, name)
    with pytest.raises(UsageError, match="is a link to"), locked(run):
        pass
    assert untouched(run)


def test_nor_is_a_plan(tmp_path, capsys):
    data = write_table(tmp_path / "table.parquet", {"loss": [1.0, 2.0]})
    out = tmp_path / "plan"
    out.mkdir()
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / "kept").write_text("kept")
    plan = ["plan", "--data", str(data), "--curriculum", "sorted", "--curriculum.by", "loss", "--output", str(out)]
    assert train_cli.main(plan) == DONE
    plant(out, "plan.png")
    assert train_cli.main(plan) == USAGE
    assert "is a link to" in capsys.readouterr().err and untouched(out)


def test_what_is_written_beside_its_path_follows_no_link_either(tmp_path):
    (tmp_path / "kept").write_text("kept")
    (tmp_path / ".report.html.partial").symlink_to(tmp_path / "kept")
    write_whole(tmp_path / "report.html", "new")
    assert (tmp_path / "report.html").read_text() == "new" and (tmp_path / "kept").read_text() == "kept"


def test_what_workers_print_goes_to_a_file_that_nobody_can_guess(tmp_path, monkeypatch):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    directory = OutputDirectory("s3://bucket/table")
    with directory.worker_log() as one, directory.worker_log() as other:
        assert one != other and one.parent == tmp_path and stat.S_IMODE(one.stat().st_mode) == 0o600
    assert not list(tmp_path.iterdir())
    with pytest.raises(RuntimeError), directory.worker_log() as one:
        raise RuntimeError
    assert one.exists()  # a message names it
    (tmp_path / "planted").symlink_to(tmp_path / "target")
    with pytest.raises(OSError, match="symbolic link"), output_of_children(tmp_path / "planted"):
        pass
    assert not (tmp_path / "target").exists()
