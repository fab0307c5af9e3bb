"""The reader that docs/extend.md adds: whatever is in a PSV file, every record of it ends as a row or as a reject."""

import csv
import gzip
import io
import pickle
import random
from pathlib import Path

import pytest
from curricle.curate import read as read_inputs
from curricle.curate import score
from curricle.curate.readers import named_readers, read, survey
from curricle.pipelines.scoring.inputs import find_inputs
from curricle.pipelines.scoring.job import make_job
from curricle.pipelines.settings.score import ScoreSettings
from curricle.schemas.common.errors import UsageError, UserError
from curricle.schemas.fingerprint import file_sha256
from curricle.schemas.manifest import read_manifest
from curricle.schemas.table import EXAMPLES, read_file_metadata
from hypothesis import given
from hypothesis import strategies as st
from pages import block
from running import curricle, in_process_of_its_own, read_data, read_rejects, write_jsonl

NAMES = ("instruction", "output", "id")
TEXTS = ("plain", 'with "quotes"', "two\nlines", "two\r\nlines", "a| bar", "é😀", "", '"', "\n")


@pytest.fixture
def folder(tmp_path, monkeypatch):
    name, code = block("docs/extend.md", "reader")
    (tmp_path / name).write_text(code, "utf-8")
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture(scope="module")
def reader(tmp_path_factory):
    name, code = block("docs/extend.md", "reader")
    path = tmp_path_factory.mktemp("reader") / name
    path.write_text(code, "utf-8")
    (result,) = named_readers([f"{path}:PSV"])
    return result


def rows_of(count, seed=0):
    draw = random.Random(seed)
    return [(f"{draw.choice(TEXTS)} {index}", draw.choice(TEXTS) + "x", str(index)) for index in range(count)]


def written(rows, end="\r\n", names=NAMES):
    text = io.StringIO(newline="")
    csv.writer(text, delimiter="|", lineterminator=end).writerows([names, *rows])
    return text.getvalue().encode()


def records_of(reader, content, rows_per_slice):
    opener = lambda: io.BytesIO(content)  # noqa: E731
    surveyed = survey(opener, "a.psv", rows_per_slice, 1 << 20, 500, readers=[reader])
    return [record for _, part in read(opener, "a.psv", surveyed.slices, 1 << 20, [reader]) for record in part]


@pytest.mark.parametrize("end", ["\n", "\r\n"])
@pytest.mark.parametrize("rows_per_slice", [1, 3, 1000])
def test_records_depend_on_no_border_of_a_slice(reader, end, rows_per_slice):
    rows = rows_of(40)
    for content in (written(rows, end), b"\xef\xbb\xbf" + written(rows, end), written(rows, end).rstrip()):
        records = records_of(reader, content, rows_per_slice)
        assert [record.value for record in records] == [dict(zip(NAMES, row, strict=True)) for row in rows]
        assert [record.position for record in records] == list(range(1, 41))


@given(st.lists(st.sampled_from([b'"', b"|", b"\n", b"\r", b"a", "é".encode(), b"\xff"]), max_size=40).map(b"".join))
def test_whatever_follows_the_header_every_record_is_read_as_it_was_counted(reader, text):
    good = b"q|a|0\n"
    by_slice = [records_of(reader, written([]) + good + text, size) for size in (1, 2, 100)]
    assert by_slice[0] == by_slice[1] == by_slice[2] and by_slice[0][0].value
    for record in by_slice[0]:
        assert (record.value is None) == (record.reason is not None)


def test_the_same_examples_as_lines_of_json(folder):
    rows = rows_of(50)
    (folder / "in.psv").write_bytes(written(rows))
    (folder / "in.psv.gz").write_bytes(gzip.compress(written(rows)))
    write_jsonl(folder / "in.jsonl", [dict(zip(NAMES, row, strict=True)) for row in rows])
    names = ["example_id", "messages", "extra"]
    lines = read_inputs("in.jsonl").examples
    for name in ("in.psv", "in.psv.gz"):
        examples, rejects = read_inputs(name, readers=["./my_psv.py:PSV"])
        assert examples.select(names).equals(lines.select(names)) and rejects.num_rows == 0


def test_a_job_in_two_processes_reads_shards_of_a_file(folder):
    rows = [*rows_of(30), ("too", "few"), *rows_of(9, seed=1), ("a", "b", "c", "d")]
    (folder / "in.psv").write_bytes(written(rows) + b'bad|"quote"s|1\n\xff|b|2\n')
    arguments = ("score", "in.psv", "--output", "out", "--metrics", "mtld", "--readers", "./my_psv.py:PSV")
    in_process_of_its_own(*arguments, "--workers", 2, "--shard-rows", 4, cwd=folder)
    examples, rejects = read_inputs("in.psv", readers=["./my_psv.py:PSV"])
    table = read_data(folder / "out")
    assert table.select(EXAMPLES.names).equals(examples.select(EXAMPLES.names))
    assert read_rejects(folder / "out") == rejects.to_pylist()
    assert [reason[:7] for reason in rejects["reason"].to_pylist()] == ["2 field", "4 field", "not PSV", "not PSV"]
    assert table.num_rows + rejects.num_rows == len(rows) + 2 and "whole" in curricle("verify", "out")
    manifest, sha256 = read_manifest(Path("out")), file_sha256(io.BytesIO((folder / "my_psv.py").read_bytes()))
    assert manifest.identity["reading"]["readers"] == {"psv": {"name": "PSV", "file": "my_psv.py", "sha256": sha256}}
    write_jsonl(folder / "in.jsonl", [dict(zip(NAMES, row, strict=True)) for row in rows_of(2)])
    curricle("score", "in.jsonl", "--output", "ours", "--metrics", "mtld", "--readers", "./my_psv.py:PSV")
    ours = read_manifest(Path("ours"))
    for table, manifest_of in ((examples, manifest), (read_inputs("in.jsonl").examples, ours)):
        assert read_file_metadata(score(table, ["mtld"]).schema)["fingerprint"] == manifest_of.fingerprint
    assert "readers" not in ours.identity["reading"], "it read nothing"
    assert ours.fingerprint != manifest.fingerprint and ours.columns == manifest.columns
    (folder / "my_psv.py").write_text((folder / "my_psv.py").read_text("utf-8") + "# changed\n", "utf-8")
    assert "reading.readers.psv.sha256" in curricle(*arguments, "--shard-rows", 4, code=2)


def test_without_the_reader_the_file_is_not_read(folder):
    (folder / "in.psv").write_bytes(written(rows_of(3)))
    with pytest.raises(UsageError, match=r"files that end in \.psv are not read"):
        read_inputs("in.psv")


def test_no_reader_takes_a_kind_of_file_that_has_one(folder):
    text = (folder / "my_psv.py").read_text("utf-8").replace('(".psv",)', '(".psv", ".json")')
    (folder / "my_psv.py").write_text(text, "utf-8")
    with pytest.raises(UsageError, match=r"files that end in \.json have a reader"):
        named_readers(["./my_psv.py:PSV"])


def test_a_worker_has_to_have_the_same_installed_reader(folder, monkeypatch):
    code = (folder / "my_psv.py").read_text("utf-8").replace('(".psv",)', '(".installed",)')
    (folder / "installed_psv.py").write_text(code, "utf-8")
    info = folder / "installed_psv-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: installed-psv\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("[curricle.readers]\ninstalled = installed_psv:PSV\n")
    monkeypatch.syspath_prepend(folder)
    (folder / "in.installed").write_bytes(written(rows_of(3)))
    settings = ScoreSettings(inputs=("in.installed",), output="out", metrics=("mtld",))
    job = make_job(settings, find_inputs(settings.inputs)[0])
    assert job.identity["reading"]["readers"]["installed"]["version"] == "1.0"
    sent = pickle.dumps(job)
    assert pickle.loads(sent).fingerprint == job.fingerprint
    info.rename(folder / "installed_psv-1.1.dist-info")
    metadata = folder / "installed_psv-1.1.dist-info" / "METADATA"
    metadata.write_text(metadata.read_text().replace("1.0", "1.1"))
    with pytest.raises(UserError, match="another reader there than the driver"):
        pickle.loads(sent)
