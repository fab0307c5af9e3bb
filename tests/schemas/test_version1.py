"""What contract 1 wrote is verified, checked, selected from, resumed and reported on; see tests/data/v1."""

import contextlib
import importlib.util
import json
import shutil
from pathlib import Path
from types import ModuleType

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from curricle.curate.formats import VERSION as FORMATS_VERSION
from curricle.pipelines.tables.reader import TableReader
from curricle.schemas.manifest import read_manifest
from curricle.train import cli
from curricle.train.ordering.journal import read_journal
from running import curricle, read_data, read_rejects
from safetensors.torch import load_file

V1 = Path(__file__).resolve().parents[1] / "data" / "v1"
ORDER = "ae27b0754cfbf3f5d4a7e1718f326778"
TABLES = ["scored", "clustered", "selected"]


@pytest.fixture
def there(tmp_path: Path) -> Path:
    """A copy to work in: the names in these files are relative to it."""
    shutil.copytree(V1, tmp_path / "v1")
    return tmp_path / "v1"


@pytest.fixture(scope="module")
def maker() -> ModuleType:
    """The commands that wrote them."""
    spec = importlib.util.spec_from_file_location("make", V1 / "make.py")
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def train(*arguments: str, cwd: Path) -> int:
    with contextlib.chdir(cwd):
        return cli.main(arguments)


def flip(path: Path, offset: int) -> None:
    data = bytearray(path.read_bytes())
    data[offset] ^= 1
    path.write_bytes(data)


@pytest.mark.parametrize("name", TABLES)
def test_a_table_is_whole_and_reported_on(name, there):
    assert "whole" in curricle("verify", there / name)
    curricle("report", there / name)
    assert (there / name / "report.html").read_text("utf-8").rstrip().endswith("</html>")


@pytest.mark.parametrize("file", ["manifest.json", "data/part-00000-of-00001.parquet"])
def test_a_flipped_byte_of_a_table_is_found(file, there):
    for share in (0.2, 0.5, 0.9):
        path = there / "scored" / file
        offset = int(share * path.stat().st_size)
        flip(path, offset)
        curricle("verify", there / "scored", code=1)
        flip(path, offset)


def test_a_certificate_is_checked_and_another_selection_made(there):
    joined = ("--join", "grades.parquet")
    assert "the same to the last value" in curricle("select", "clustered", "--check", "selected", *joined, cwd=there)
    curricle("select", "scored", "--output", "easy", "--by", "loss", "--take", "easy", "--count", "5", cwd=there)
    assert "whole" in curricle("verify", "easy", cwd=there)
    scored, easy = read_data(there / "scored"), read_data(there / "easy")
    least = sorted(value for value in scored["loss"].to_pylist() if value is not None)[:5]
    assert sorted(easy["loss"].to_pylist()) == least


def test_a_value_that_was_changed_is_no_longer_what_the_certificate_says(there):
    """A negative control: with a part and a manifest that agree, the rows alone tell."""
    grades = pq.read_table(there / "grades.parquet")
    pq.write_table(grades.set_column(1, "grade", pa.array(range(1, len(grades) + 1))), there / "grades.parquet")
    message = curricle("select", "clustered", "--check", "selected", "--join", "grades.parquet", cwd=there, code=1)
    assert "WRONG" in message


def test_a_column_of_clusters_is_added(there):
    curricle("cluster", "scored", "--output", "again", "--k", "4", cwd=there)
    assert "whole" in curricle("verify", "again", cwd=there)
    before, after = read_data(there / "clustered"), read_data(there / "again")
    assert after.select(before.column_names).equals(before)


def test_a_job_that_was_killed_goes_on_with_the_shards_that_it_had(there, maker, monkeypatch):
    """Records are read otherwise today, so that it is refused; with what read them then, it goes on."""
    command = ("score", "in.jsonl", "--output", "killed", "--shard-rows", "8", *maker.KILLED)
    refused = curricle(*command, cwd=there, code=2)
    assert f"formats_version: 4 there, {FORMATS_VERSION} now" in refused and "--overwrite" in refused
    for module in ("curricle.curate.reading", "curricle.pipelines.scoring.job"):
        monkeypatch.setattr(f"{module}.FORMATS_VERSION", 4)
    receipts = {path.name: path.read_bytes() for path in (there / "killed/_progress/receipts").iterdir()}
    assert len(receipts) == 2
    curricle(*command, cwd=there)
    assert "whole" in curricle("verify", "killed", cwd=there)
    for name, receipt in receipts.items():
        assert (there / "killed/_progress/receipts" / name).read_bytes() == receipt
    scored, killed = read_data(there / "scored"), read_data(there / "killed")
    assert killed["example_id"].equals(scored["example_id"])
    for name in ("loss", "ifd_ppl_ratio"):
        assert killed[name].null_count == scored[name].null_count
        expected = scored[name].drop_null().to_pylist()
        assert killed[name].drop_null().to_pylist() == pytest.approx(expected, rel=1e-5)
    assert read_rejects(there / "killed") == read_rejects(there / "scored") != []
    assert not (there / "killed/_progress/shards").exists()
    before = TableReader(str(there / "scored")).scores
    columns = read_manifest(there / "killed").columns
    assert len(columns) == 7 and columns == {name: before[name].fingerprint for name in columns}
    curricle(*command, cwd=there)
    refused = curricle(*command, "--proxy.end-of-turn", "no", cwd=there, code=2)
    assert "rendering.end_of_turn: 'yes' there, 'no' now" in refused and "--overwrite" in refused


def test_a_run_is_verified_and_resumed_to_the_end(there, maker):
    assert train("verify", "run", cwd=there) == 0
    assert train(*maker.RUN, cwd=there) == 0
    assert train("verify", "run", cwd=there) == 0
    assert train("report", "run", cwd=there) == 0
    (last,) = (there / "run" / "checkpoints").glob("step-*")
    cursor = json.loads((last / "state" / "cursor.json").read_text())
    assert (cursor["step"], cursor["order"]) == (12, ORDER)
    expected, journal = read_journal(there / "trained.jsonl"), read_journal(there / "run" / "journal.jsonl")
    assert journal.header == expected.header and len(journal.records) == cursor["records"] == 20
    choices = [getattr(record, "choice", None) for record in expected.records]
    assert [getattr(record, "choice", None) for record in journal.records] == choices
    torch.testing.assert_close(load_file(last / "model.safetensors"), load_file(there / "trained.safetensors"))


@pytest.mark.parametrize(
    "name", ["journal.jsonl", "run.json", "metrics.jsonl", "checkpoints/step-00000006/state/cursor.json"]
)
def test_a_flipped_byte_of_a_run_is_found(name, there):
    path = there / "run" / name
    flip(path, path.stat().st_size // 2)
    assert train("verify", "run", cwd=there) == 1
