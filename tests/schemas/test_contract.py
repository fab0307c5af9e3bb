"""Records of later versions: keys that are not known are passed over, a newer ``min_reader`` is refused in words."""

import contextlib
import json
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from curricle.schemas.columns import METADATA_KEY
from curricle.schemas.common.errors import UserError
from curricle.schemas.contract import CONTRACT, FIRST, read_contract, tagged, untagged, without_new_keys
from curricle.schemas.sealed import sealed, unsealed
from curricle.train import cli
from running import curricle, write_jsonl

V1 = Path(__file__).resolve().parents[1] / "data" / "v1"
LATER = {"of_a_later_version": {"nested": [1, None]}}
NEWER = {"version": 9, "min_reader": 9}
SCORE = ("score", "in.jsonl", "--output", "table", "--metrics", "mtld")
SELECT = ("select", "table", "--output", "part", "--take", "hard", "--by", "response_mtld", "--count", "3")
RUN = (
    *("run", "--data", "table", "--model", "model", "--output", "run", "--max-length", "192", "--batch.size", "4"),
    *("--batch.tokens", "256", "--budget.steps", "4", "--checkpoint.every", "2", "--checkpoint.keep", "1"),
    *("--curriculum", "sorted", "--curriculum.by", "response_mtld", "--log.every", "1"),
)


def train(*arguments: str) -> int:
    return cli.main(arguments)


@pytest.fixture(scope="module")
def finished(tmp_path_factory) -> Path:
    """A table, a selection of it and a run over it."""
    folder = tmp_path_factory.mktemp("finished")
    shutil.copytree(V1 / "model", folder / "model")
    records = [{"prompt": f"Say {word}, please.", "completion": f"{word} is what I say."} for word in "abcdefgh"]
    write_jsonl(folder / "in.jsonl", [*records, {"prompt": "no answer"}])
    curricle(*SCORE, "--max-reject-fraction", "0.5", cwd=folder)
    curricle(*SELECT, cwd=folder)
    with contextlib.chdir(folder):
        assert train(*RUN) == 0
    return folder


@pytest.fixture
def there(finished, tmp_path, monkeypatch) -> Path:
    shutil.copytree(finished, tmp_path / "copy")
    monkeypatch.chdir(tmp_path / "copy")
    return tmp_path / "copy"


@dataclass(frozen=True)
class Written:
    """A record on disk: its name, whether a line of a file, whether it has a checksum, and what it says that it is."""

    name: str
    kind: str | None
    is_sealed: bool = True
    line: bool = False

    def edit(self, change: Callable[[dict[str, Any]], Any]) -> None:
        path = Path(self.name)
        first, _, rest = path.read_text().partition("\n") if self.line else (path.read_text(), "", "")
        record = unsealed(first.encode()) if self.is_sealed else json.loads(first)
        assert record["contract"]["min_reader"] == CONTRACT.min_reader and record.get("kind") == self.kind
        change(record)
        text = json.dumps(record) if self.line else json.dumps(record, indent=1)
        path.write_text((sealed(text) if self.is_sealed else text) + ("\n" + rest if self.line else ""))


PLAN = Written("table/_progress/plan.json", "curricle.plan")
CERTIFICATE = Written("part/certificate.json", "curricle.certificate", is_sealed=False)
MANIFEST = Written("table/manifest.json", None, is_sealed=False)
JOURNAL = Written("run/journal.jsonl", "curricle.journal", line=True)
CURSOR = Written("run/checkpoints/step-00000004/state/cursor.json", "curricle.cursor", is_sealed=False)
RUN_JSON = Written("run/run.json", "curricle.run")


def settle(name: str = "table") -> None:
    """Let the record of a table agree with a manifest that was edited."""
    path = Path(name, "_progress", "finished.json")
    finished = unsealed(path.read_bytes())
    finished["manifest"] = sha256(Path(name, "manifest.json").read_bytes()).hexdigest()
    path.write_text(sealed(json.dumps({**finished, **LATER}, indent=1)))


def sign_certificate() -> None:
    """Let a manifest agree with a certificate that was edited."""
    path = Path("part", "manifest.json")
    manifest = json.loads(path.read_text())
    manifest["selected_from"]["certificate_sha256"] = sha256(Path("part/certificate.json").read_bytes()).hexdigest()
    path.write_text(json.dumps(manifest))
    settle("part")


def add_later(record: dict[str, Any]) -> None:
    record |= {**LATER, "contract": {**CONTRACT.to_json(), "version": 9, **LATER}}


def be_newer(record: dict[str, Any]) -> None:
    record["contract"] = NEWER


def test_keys_of_a_later_version_are_passed_over_in_a_table(there):
    MANIFEST.edit(lambda it: (it | LATER, it["total"].update(LATER), it["data"][0].update(LATER), it.update(LATER)))
    settle()
    assert "whole" in curricle("verify", "table")
    assert "already scored" in curricle(*SCORE, "--max-reject-fraction", "0.5")
    curricle("select", "table", "--output", "other", "--take", "easy", "--by", "response_mtld", "--count", "2")


def test_keys_of_a_later_version_are_passed_over_in_a_plan(there):
    before = unsealed(Path(PLAN.name).read_bytes())
    PLAN.edit(lambda it: (add_later(it), it["sources"][0]["file"].update(LATER), it["sources"][0].update(LATER)))
    Path("table/manifest.json").unlink()
    curricle(*SCORE, "--max-reject-fraction", "0.5")
    assert "whole" in curricle("verify", "table")
    assert before["fingerprint"] == json.loads(Path("table/manifest.json").read_text())["fingerprint"]


def test_keys_of_a_later_version_are_passed_over_in_a_certificate(there):
    CERTIFICATE.edit(lambda it: (add_later(it), it["recipe"].update(LATER), it["steps"][0].update(LATER)))
    sign_certificate()
    assert "the same to the last value" in curricle("select", "--check", "part")
    CERTIFICATE.edit(lambda it: it.update(ids="0" * 64))
    sign_certificate()
    assert "WRONG  ids" in curricle("select", "--check", "part", code=1)


def test_keys_of_a_later_version_are_passed_over_in_the_columns_of_parquet(there):
    (part,) = json.loads(Path("table/manifest.json").read_text())["data"]
    table = pq.read_table(f"table/{part['path']}")
    for name in table.column_names:
        index = table.schema.get_field_index(name)
        field = table.schema.field(name)
        about = json.loads(field.metadata[METADATA_KEY]) | LATER
        table = table.set_column(index, field.with_metadata({METADATA_KEY: json.dumps(about)}), table[name])
    signed = json.loads(table.schema.metadata[METADATA_KEY]) | LATER
    Path("loose").mkdir()
    pq.write_table(table.replace_schema_metadata({METADATA_KEY: json.dumps(signed)}), "loose/part.parquet")
    assert train(*RUN[:2], "loose", *RUN[3:6], "other", *RUN[7:]) == 0
    signed["contract"] = NEWER
    pq.write_table(table.replace_schema_metadata({METADATA_KEY: json.dumps(signed)}), "loose/part.parquet")
    assert train(*RUN[:2], "loose", *RUN[3:6], "third", *RUN[7:]) == 2


def test_keys_of_a_later_version_are_passed_over_in_a_run(there):
    for written in (JOURNAL, RUN_JSON):
        written.edit(add_later)
    journal = Path(JOURNAL.name)
    header, *lines = journal.read_text().splitlines()
    stages = [unsealed(line.encode()) for line in lines]
    for stage in stages:
        stage["stage"] |= LATER
    journal.write_text(
        "".join(f"{line}\n" for line in [header, *(sealed(json.dumps({**it, **LATER})) for it in stages)])
    )
    metrics = Path("run/metrics.jsonl")
    rest = [unsealed(line.encode()) | LATER for line in metrics.read_text().splitlines()]
    metrics.write_text("".join(sealed(json.dumps(line)) + "\n" for line in rest))
    assert train(*RUN) == 0 and train("report", "run") == 0
    CURSOR.edit(add_later)
    shutil.rmtree("run/checkpoints/step-00000004/state/optimizer")
    Path("run/checkpoints/step-00000004/state/digests.json").unlink()
    from curricle.train.records.checkpoints import read_cursor

    assert read_cursor(Path("run/checkpoints/step-00000004")).step == 4


@pytest.mark.parametrize("written", [MANIFEST, PLAN, CERTIFICATE, JOURNAL, CURSOR, RUN_JSON], ids=lambda it: it.name)
def test_a_record_for_newer_readers_is_refused_in_words(written, there, capfd):
    written.edit(be_newer)
    Path("run/checkpoints/step-00000004/state/digests.json").unlink()
    if written is CERTIFICATE:
        sign_certificate()
    command = {
        MANIFEST: ("verify", "table"),
        PLAN: (*SCORE, "--max-reject-fraction", "0.5"),
        CERTIFICATE: ("select", "--check", "part"),
    }.get(written)
    refused = curricle(*command, code=2) if command else ""
    if not command:
        assert train(*(("report", "run") if written is JOURNAL else RUN)) == 2
    refused += capfd.readouterr().err
    assert "was written for curricle contract 9, and this version reads 2" in refused and "update curricle" in refused
    assert str(written.name) in refused


def test_a_record_that_is_another_is_refused(there):
    PLAN.edit(lambda it: it.update(kind="curricle.journal"))
    assert "curricle.journal" in curricle(*SCORE, "--max-reject-fraction", "0.5", code=2)


def test_contracts_by_hand():
    assert read_contract(None) == read_contract(1) == FIRST
    assert read_contract({"version": 7, "min_reader": 2, "more": 0}).version == 7
    for wrong in ("2", True, 0, {}, {"version": 2}, {"version": 2, "min_reader": 1.0}, [2]):
        with pytest.raises(ValueError, match="contract is"):
            read_contract(wrong)
    with pytest.raises(UserError, match="contract 3"):
        read_contract({"version": 3, "min_reader": 3}, "here")
    assert untagged("plan", tagged("plan", {"a": 1})) == untagged("plan", {"a": 1}) == {"a": 1}
    assert without_new_keys({"a": [{"b": 1, "c": 2}], "d": 3}, {"a": [{"b": 0}]}) == {"a": [{"b": 1}]}
    assert without_new_keys({"a": [1, 2]}, {"a": [1]}) == {"a": [1, 2]}
