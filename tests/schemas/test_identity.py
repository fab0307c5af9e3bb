"""Fingerprints of columns and of tables: by hand, from the files alone, and who is told which column differs."""

import hashlib
import json
import shutil
from dataclasses import replace
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from curricle.pipelines.tables.reader import TableReader
from curricle.schemas.columns import METADATA_KEY, ScoreColumn
from curricle.schemas.common.errors import UsageError
from curricle.schemas.identity import (
    as_first,
    changes,
    column_fingerprints,
    of_first,
    table_fingerprint,
    table_identity,
)
from curricle.schemas.manifest import read_manifest
from curricle.schemas.table import file_metadata
from curricle.train.data.table import open_table
from running import curricle, write_jsonl

V1 = Path(__file__).resolve().parents[1] / "data" / "v1"
PROXY = {"dtype": "float32", "weights": {"sha256": {"model.safetensors": "0" * 64}}}


def column(name: str = "loss", **more) -> ScoreColumn:
    described = ScoreColumn(name, pa.float64(), "nats", "prose", "high")
    return described.of_metric(
        **{"metric": "loss", "version": 2, "params": {"a": 1}, "rests_on": {"proxy": PROXY}, **more}
    )


def blake(value: object) -> str:
    text = json.dumps(value, sort_keys=True, ensure_ascii=False, separators=(",", ":"))
    return hashlib.blake2b(text.encode(), digest_size=16).hexdigest()


def test_a_column_by_hand():
    identity = {"column": "loss", "metrics": {"loss": {"version": 2, "params": {"a": 1}}}, "proxy": PROXY}
    assert column().identity == identity and column().fingerprint == blake(identity)
    assert ScoreColumn.from_field(column().to_field()) == column()
    assert json.loads(column().to_field().metadata[METADATA_KEY])["fingerprint"] == blake(identity)


@pytest.mark.parametrize(
    "other",
    [
        column("mean_loss"),
        column(metric="other"),
        column(version=3),
        column(params={"a": 2}),
        column(rests_on={"proxy": {**PROXY, "dtype": "bfloat16"}}),
        column(rests_on={"proxy": PROXY, "rendering": {"template": "chat"}}),
    ],
    ids=lambda it: it.fingerprint[:6],
)
def test_whatever_decides_a_number_is_in_the_fingerprint(other):
    assert other.fingerprint != column().fingerprint
    assert table_fingerprint(table_identity([other])) != table_fingerprint(table_identity([column()]))
    assert column().changes(other) and other.changes(column())
    prose = ScoreColumn(other.name, pa.float64(), "bits", "other prose", "low")
    assert prose.of_metric(other.metric, other.version, other.params, other.rests_on).fingerprint == other.fingerprint


def test_what_changed_in_a_column_is_said_in_words():
    bf16 = column(rests_on={"proxy": {**PROXY, "dtype": "bfloat16"}})
    assert column().changes(bf16) == ["proxy.dtype: 'float32' there, 'bfloat16' now"]
    assert column().changes(replace(bf16, type=pa.float32()))[0] == "type: 'double' there, 'float' now"
    assert column().changes(replace(column(), unit="bits", description="other prose", hard="low")) == []
    same_number = column(params={"a": 1.0})
    assert column().changes(same_number) == [
        f"fingerprint: {column().fingerprint!r} there, {same_number.fingerprint!r} now"
    ]


def test_a_column_more_leaves_the_others_alone_and_how_records_are_read_counts():
    one, two = (
        table_identity([column()], {"formats_version": 1}),
        table_identity([column(), column("b")], {"formats_version": 1}),
    )
    assert column_fingerprints(two).items() > column_fingerprints(one).items()
    assert table_fingerprint(one) == blake(
        {"contract": 2, "reading": {"formats_version": 1}, "columns": {"loss": column().fingerprint}}
    )
    others = [two, table_identity([column()], {"formats_version": 2}), table_identity([column()])]
    assert len({table_fingerprint(each) for each in [one, *others]}) == 4


def test_which_column_differs_is_said_once_for_those_that_differ_alike():
    bf16 = {"proxy": {**PROXY, "dtype": "bfloat16"}}
    old = table_identity([column("a"), column("b"), column("c")])
    new = table_identity([column("a", rests_on=bf16), column("b", rests_on=bf16), column("d")])
    assert changes(old, new) == [
        "columns a, b: proxy.dtype: 'float32' there, 'bfloat16' now",
        "column c: there, and not now",
        "column d: not there, and now",
    ]
    assert changes(old, old) == []


def test_a_table_of_contract_1_has_the_fingerprints_that_its_columns_have_now():
    identity = {
        "contract": 1,
        "metrics": {
            "loss": {"version": 2, "params": {}},
            "lp": {"version": 2, "params": {}},
            "mtld": {"version": 1, "params": {}},
        },
        "rendering": {"template": "chat"},
        "proxy": {**PROXY, "checkpoints": [{}]},
    }
    result = [
        ScoreColumn(name, pa.float64(), "", "").of_metric(name, version, {})
        for name, version in (("loss", 2), ("lp", 2), ("mtld", 1))
    ]
    loss, lp, mtld = (of_first(each, identity) for each in result)
    assert loss.rests_on == {"rendering": {"template": "chat"}, "proxy": PROXY}
    assert lp.rests_on == {"rendering": {"template": "chat"}, "proxy": identity["proxy"]} and mtld.rests_on == {}
    assert as_first([loss, lp, mtld]) == identity
    foreign = of_first(ScoreColumn("x", pa.float64(), "", "").of_metric("x", 1, {}), identity)
    assert foreign.rests_on == {"rendering": {"template": "chat"}, "proxy": identity["proxy"]}


@pytest.mark.parametrize("name", ["scored", "clustered", "selected"])
def test_columns_of_contract_1_keep_their_fingerprints_from_table_to_table(name):
    table, scored = TableReader(str(V1 / name)), TableReader(str(V1 / "scored")).scores
    rest = {name: column.fingerprint for name, column in table.scores.items() if name in scored}
    assert rest == {name: column.fingerprint for name, column in scored.items()} and len(rest) == 13
    assert table_fingerprint(table.manifest.identity) == table.manifest.fingerprint


@pytest.fixture(scope="module")
def scored(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("scored")
    write_jsonl(folder / "in.jsonl", [{"prompt": f"Say {word}.", "completion": f"{word} it is."} for word in "abcdef"])
    curricle("score", "in.jsonl", "--output", "out", "--metrics", "mtld", cwd=folder)
    curricle("select", "out", "--output", "part", "--take", "hard", "--by", "response_mtld", "--count", "3", cwd=folder)
    return folder


def test_manifest_files_and_selection_agree(scored):
    table, part = TableReader(str(scored / "out")), TableReader(str(scored / "part"))
    assert table.manifest.columns == {name: each.fingerprint for name, each in table.scores.items()}
    assert set(table.manifest.columns) == {"prompt_mtld", "response_mtld"}
    assert (part.manifest.fingerprint, part.manifest.columns) == (table.manifest.fingerprint, table.manifest.columns)


def resign(table: Path, change) -> None:
    """Sign the columns of a part anew, and have the manifest agree with its bytes."""
    manifest = json.loads((table / "manifest.json").read_text())
    (part,) = manifest["data"]
    rows = pq.read_table(table / part["path"])
    fields = [change(field) for field in rows.schema]
    pq.write_table(rows.cast(pa.schema(fields, file_metadata("0" * 32))), table / part["path"])
    content = (table / part["path"]).read_bytes()
    part |= {"bytes": len(content), "sha256": hashlib.sha256(content).hexdigest()}
    (table / "manifest.json").write_text(json.dumps(manifest))
    (table / "_progress" / "finished.json").unlink(missing_ok=True)


def otherwise(field: pa.Field) -> pa.Field:
    score = ScoreColumn.from_field(field)
    if score is None or score.name != "response_mtld":
        return field
    return score.of_metric(score.metric, score.version, {**score.params, "threshold": 0.5}).to_field()


def test_a_column_that_is_signed_otherwise_is_named(scored, tmp_path):
    for name in ("out", "part"):
        shutil.copytree(scored / name, tmp_path / name)
    message = curricle("select", tmp_path / "out", "--check", tmp_path / "part")
    assert "the same to the last value" in message
    resign(tmp_path / "part", otherwise)
    message = curricle("verify", tmp_path / "part", code=1)
    assert "column response_mtld is signed" in message and "prompt_mtld" not in message
    with pytest.raises(UsageError, match=r"column response_mtld: metrics.mtld.params.threshold: 0.72 there, 0.5 now"):
        open_table([*(scored / "out" / "data").iterdir(), *(tmp_path / "part" / "data").iterdir()])
    whole = open_table([*(scored / "out" / "data").iterdir(), *(scored / "part" / "data").iterdir()])
    assert whole.fingerprint == read_manifest(scored / "out").fingerprint


def test_a_resume_and_a_check_name_the_column(scored, tmp_path):
    for name in ("out", "part"):
        shutil.copytree(scored / name, tmp_path / name)
    manifest = json.loads((tmp_path / "out" / "manifest.json").read_text())
    identity = manifest["identity"]
    identity["columns"]["response_mtld"]["metrics"]["mtld"]["params"]["threshold"] = 0.5
    manifest |= {"fingerprint": table_fingerprint(identity), "columns": column_fingerprints(identity)}
    (tmp_path / "out" / "manifest.json").write_text(json.dumps(manifest))
    resign(tmp_path / "out", otherwise)
    message = curricle("select", tmp_path / "out", "--check", tmp_path / "part", code=1)
    assert "column response_mtld of the table: fingerprint" in message and "prompt_mtld" not in message
    shutil.copy(scored / "in.jsonl", tmp_path)
    command = ("score", "in.jsonl", "--output", "out", "--metrics", "mtld,mattr")
    shutil.copytree(scored / "out", tmp_path / "out", dirs_exist_ok=True)
    assert "columns prompt_mattr, response_mattr: not there, and now" in curricle(*command, cwd=tmp_path, code=2)
