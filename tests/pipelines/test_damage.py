"""A bit flips in a file of a table: it is noticed, or it can change no number, and what the message says helps.

The bits are drawn, see ``drawn``: three in every kind of file, and 50 in a soak.
"""

import json
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import drawn
import operations
import pytest
from curricle.schemas.fingerprint import digest
from curricle.schemas.manifest import MANIFEST, read_manifest
from curricle.schemas.sealed import is_sealed, seal, unsealed
from curricle.schemas.verify import verify
from running import curricle, read_data, signed, write_jsonl

ROWS = 30
SCORE = ["score", "in.jsonl", "--metrics", "mtld", "--shard-rows", "8", "--output", "out"]
SELECT = ["select", "out", "--take", "low", "--by", "response_mtld", "--count", "9", "--output", "some"]


@pytest.fixture(scope="module")
def directory(tmp_path_factory) -> Path:
    """A job killed when all its shards were finished, a finished table of it, and a selection from that."""
    path = tmp_path_factory.mktemp("table")
    rows = [{"prompt": f"Say {n}.", "completion": f"It is {n}, and no other. " * (1 + n % 7)} for n in range(ROWS)]
    write_jsonl(path / "in.jsonl", [*rows, {"no": "format"}])
    assert operations.run(*SCORE, cwd=path, below=path / "out", kill=0, when="_progress/next").code is None
    (path / "out").rename(path / "begun")
    for command in (SCORE, SELECT):
        assert operations.run(*command, cwd=path, below=path / "out").code == 0
    return path


@pytest.fixture
def work(directory: Path, tmp_path: Path) -> Path:
    shutil.copytree(directory, tmp_path / "work")
    shutil.copytree(directory, tmp_path / "work" / "kept")
    return tmp_path / "work"


def flips(work: Path, name: str, pattern: str, source: str = "") -> Iterator[str]:
    """Flip a bit in a file of a kind, one after the other, each in a fresh copy of a directory that was whole."""
    draw = drawn.draw(pattern)
    for _ in range(drawn.amount(3, 50)):
        shutil.rmtree(work / name, ignore_errors=True)
        shutil.copytree(work / "kept" / (source or name), work / name)
        path = draw.choice(sorted((work / name).glob(pattern)))
        content = bytearray(path.read_bytes())
        bit = draw.randrange(8 * len(content))
        content[bit // 8] ^= 1 << bit % 8
        path.write_bytes(content)
        yield f"seed {drawn.SEED}: bit {bit} of {path.name}"


def in_words(text: str, flip: str = "") -> None:
    assert "Traceback" not in text and "should not have happened" not in text, f"{flip}: {text}"


IN_PROGRESS = [
    "_progress/plan.json",
    "_progress/receipts/*.json",
    "_progress/shards/*[0-9].arrow",
    "_progress/shards/*.rejects.arrow",
    "_progress/holder.json",
]


@pytest.mark.parametrize("pattern", IN_PROGRESS)
def test_in_a_table_in_progress(work: Path, pattern: str):
    expected = signed(work / "out"), read_data(work / "out")
    for flip in flips(work, "out", pattern, "begun"):
        in_words(curricle_whatever("status", "out", cwd=work), flip)
        ended = operations.run(*SCORE, cwd=work, below=work / "out")
        in_words(ended.output, flip)
        if ended.code:
            assert "What to do" in ended.output, f"{flip}: {ended.output}"
            more = ["--overwrite"] if "--overwrite" in ended.output else []
            ended = operations.run(*SCORE, *more, cwd=work, below=work / "out")
        assert ended.code == 0, f"{flip}: {ended.output}"
        assert verify(work / "out").faults == [], flip
        assert (signed(work / "out"), read_data(work / "out")) == expected, flip


def curricle_whatever(*arguments: object, cwd: Path) -> str:
    """What a command says that may end well or not."""
    try:
        return curricle(*arguments, cwd=cwd)
    except AssertionError as error:
        return str(error)


@pytest.mark.parametrize("pattern", ["manifest.json", "data/*", "rejects/*", "_progress/finished.json"])
def test_in_a_finished_table(work: Path, pattern: str):
    expected = signed(work / "out"), read_data(work / "out")
    for flip in flips(work, "out", pattern):
        in_words(message := curricle("verify", "out", cwd=work, code=1), flip)
        in_words(curricle_whatever("report", "out", cwd=work), flip)
        shutil.rmtree(work / "some", ignore_errors=True)
        result = operations.run(*SELECT, cwd=work, below=work / "some")
        in_words(result.output, flip)
        assert result.code in (1, 2), f"{flip}: {result.output}"
        assert not (work / "some" / MANIFEST).exists(), flip
        ended = operations.run(*SCORE, cwd=work, below=work / "out")
        in_words(ended.output, flip)
        if pattern in ("data/*", "rejects/*"):  # digests are looked at when it is asked for; what is read, is noticed
            assert "already scored" in ended.output and ended.code in (0, 1), f"{flip}: {ended.output}"
        else:
            assert ended.code == 2 and "--overwrite" in ended.output, f"{flip}: {ended.output}"
        ended = operations.run(*SCORE, "--overwrite", cwd=work, below=work / "out")
        assert ended.code == 0 and "is made again" in ended.output, f"{flip}: {message} {ended.output}"
        assert verify(work / "out").faults == [], flip
        assert (signed(work / "out"), read_data(work / "out")) == expected, flip


def test_in_a_certificate(work: Path):
    expected = read_data(work / "some")
    for flip in flips(work, "some", "certificate.json"):
        assert "certificate.json" in curricle("verify", "some", cwd=work, code=1), flip
        assert "certificate.json" in curricle("select", "--check", "some", cwd=work, code=1), flip
        ended = operations.run(*SELECT, cwd=work, below=work / "some")
        assert ended.code == 2 and "--overwrite" in ended.output, f"{flip}: {ended.output}"
        ended = operations.run(*SELECT, "--overwrite", cwd=work, below=work / "some")
        assert ended.code == 0 and read_data(work / "some") == expected, f"{flip}: {ended.output}"
        curricle("select", "--check", "some", cwd=work)


@pytest.mark.parametrize("name", ["README.md", "report.html"])
def test_what_is_not_covered_holds_no_number_of_the_table(work: Path, name: str):
    """The list of docs/integrity.md: these are for the eye, and can be written again."""
    for _ in flips(work, "out", name):
        curricle("verify", "out", cwd=work)
    assert f"`{name}`" in (Path(__file__).parents[2] / "docs" / "integrity.md").read_text()


HARM = {
    "a part is gone": lambda out: next((out / "data").iterdir()).unlink(),
    "a part was cut": lambda out: os.truncate(next((out / "data").iterdir()), 100),
    "rejects are gone": lambda out: shutil.rmtree(out / "rejects"),
    "a part too many": lambda out: shutil.copy(next((out / "data").iterdir()), out / "data" / "more.parquet"),
    "the manifest is empty": lambda out: (out / MANIFEST).write_bytes(b""),
    "the manifest is of another table": lambda out: shutil.copy(out.parent / "some" / MANIFEST, out),
}


@pytest.mark.parametrize("harm", HARM)
def test_a_table_that_is_there_but_not_whole(work: Path, harm: str):
    """Presence is not wholeness: names and sizes are looked at every time."""
    expected = signed(work / "out")
    HARM[harm](work / "out")
    ended = operations.run(*SCORE, cwd=work, below=work / "out")
    assert ended.code == 2 and "not as it was written" in ended.output and "--overwrite" in ended.output
    assert operations.run(*SCORE, "--overwrite", cwd=work, below=work / "out").code == 0
    assert signed(work / "out") == expected and verify(work / "out").faults == []


def test_a_damaged_table_that_is_being_made_again_is_not_taken_for_whole_or_finished(work: Path):
    """Killed on the way, the job goes on without being told again that it may overwrite."""
    out, expected = work / "out", signed(work / "out")
    HARM["a part was cut"](out)
    killed = operations.run(*SCORE, "--overwrite", cwd=work, below=out, kill=0, when="_progress/next")
    assert killed.code is None and "4 of 4 shards are finished" in curricle("status", "out", cwd=work)
    assert operations.run(*SCORE, cwd=work, below=out).code == 0
    assert signed(out) == expected and verify(out).faults == []


def test_a_whole_table_is_not_made_again(work: Path):
    before = (work / "out" / MANIFEST).stat().st_mtime_ns
    ended = operations.run(*SCORE, "--overwrite", cwd=work, below=work / "out")
    assert ended.code == 0 and "already scored" in ended.output
    assert (work / "out" / MANIFEST).stat().st_mtime_ns == before


def test_a_table_from_before_there_were_records(work: Path):
    """No checksum in the plan and no record of the table: it is found, and can be replaced."""
    out = work / "out"
    plan = unsealed((out / "_progress" / "plan.json").read_bytes())
    (out / "_progress" / "plan.json").write_text(json.dumps(plan))
    (out / "_progress" / "finished.json").unlink()
    assert "already scored" in operations.run(*SCORE, cwd=work, below=out).output
    over = [*SCORE, "--max-record-bytes", "9000", "--overwrite"]
    killed = operations.run(*over, cwd=work, below=out, kill=0, when="_progress/next")
    assert killed.code is None and verify(out).faults == []
    assert operations.run(*over, cwd=work, below=out).code == 0
    assert verify(out).faults == [] and read_manifest(out).total.scored == ROWS


@pytest.mark.parametrize("left", [["../victim"], ["checkpoints", ".."], "victim"])
def test_a_plan_removes_nothing_outside(work: Path, left: object):
    """Whoever can write a plan can seal it."""
    (work / "victim").mkdir()
    (work / "out" / "_progress" / "plan.json").write_bytes(seal({"extends": "1", "leaves": left}))
    ended = operations.run(*SCORE, cwd=work, below=work)
    assert ended.code == 2 and "plan of the job is damaged" in ended.output and "--overwrite" in ended.output, (
        ended.output
    )
    ended = operations.run(*SCORE, "--overwrite", cwd=work, below=work)
    assert ended.code == 0 and (work / "victim").is_dir() and verify(work / "out").faults == [], ended.output


def test_a_job_that_the_version_before_began_goes_on(work: Path):
    """Its plan, its receipts and its record of a table hold a digest of their value instead of a checksum."""
    expected = signed(work / "out"), read_data(work / "out")
    for directory in ("out", "begun"):
        for path in (work / directory / "_progress").rglob("*.json"):
            if is_sealed(path.read_bytes()):
                value = unsealed(path.read_bytes())
                path.write_text(json.dumps({**value, "digest": digest(value)}, ensure_ascii=False, indent=1) + "\n")
    assert verify(work / "out").faults == []
    assert "already scored" in operations.run(*SCORE, cwd=work, below=work / "out").output
    shutil.rmtree(work / "out")
    (work / "begun").rename(work / "out")
    ended = operations.run(*SCORE, cwd=work, below=work / "out")
    assert ended.code == 0 and "withdrawn" not in ended.output, ended.output
    assert (signed(work / "out"), read_data(work / "out")) == expected


def test_what_the_messages_advise_works(work: Path):
    """The input was changed, a plan is of another command, a table has lost its progress."""
    out = work / "out"

    def refused(*command: str) -> str:
        ended = operations.run(*command, cwd=work, below=out)
        in_words(ended.output)
        assert ended.code in (1, 2) and "--overwrite" in ended.output, ended.output
        again = operations.run(*command, "--overwrite", cwd=work, below=out)
        assert again.code == 0 and verify(out).faults == [], again.output
        return ended.output

    shutil.rmtree(out)
    shutil.copytree(work / "begun", out)
    with (work / "in.jsonl").open("a") as file:
        file.write('{"prompt": "one", "completion": "more of them"}\n')
    assert "was changed" in refused(*SCORE)
    assert "prompt_mattr" in refused(*[part.replace("mtld", "mtld,mattr") for part in SCORE])
    by = ["select", "some", "--take", "low", "--by", "response_mtld", "--count", "3", "--output", "out"]
    assert "differ" in refused(*by)
    assert "holds a selection" in refused(*SCORE)
    shutil.rmtree(out / "_progress")
    assert "without _progress/plan.json" in refused(*SCORE)
    (out / "_progress" / "plan.json").write_text("{}")
    assert "plan of the job is damaged" in refused(*SCORE)
    shutil.copytree(out, work / "copy")
    (work / "copy" / "data" / "part-00000-of-00001.parquet").write_bytes(b"")
    ended = operations.run(*["copy" if part == "some" else part for part in by], cwd=work, below=out)
    assert ended.code == 1 and "copy the table again" in ended.output
