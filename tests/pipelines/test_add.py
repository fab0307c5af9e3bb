"""`curricle add`: columns of more metrics, and nothing that is there is scored again. Kills are in test_operations."""

import json
import shutil
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from curricle.pipelines.tables.reader import TableReader
from curricle.schemas.common.errors import UsageError
from curricle.schemas.manifest import read_manifest
from curricle.train.data.table import open_table
from running import curricle, read_data, read_rejects, signed, write_jsonl

WORDS = [first + second for first in ("ba", "do", "ki", "lu", "me") for second in ("ta", "ri", "mo", "ne")]
V1 = Path(__file__).resolve().parents[1] / "data" / "v1"
MODEL = ("--proxy.model", V1 / "model", "--proxy.max-length", 160)
LOSS, MTLD = ["loss", "loss_tokens", "truncated"], ["prompt_mtld", "response_mtld"]


def text(start: int, words: int) -> str:
    return " ".join(WORDS[(start + 3 * word + word // 7) % len(WORDS)] for word in range(words))


@pytest.fixture(scope="module")
def scored(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("add")
    rows = [{"prompt": text(row, 4 + row), "completion": text(row, 90 + 3 * row), "id": row} for row in range(24)]
    write_jsonl(folder / "in.jsonl", [*rows, {"prompt": "no answer"}])
    curricle("score", "in.jsonl", "--output", "table", "--metrics", "loss,mtld", *MODEL, cwd=folder)
    return folder / "table"


@pytest.fixture
def table(scored, tmp_path) -> Path:
    shutil.copytree(scored, tmp_path / "table")
    return tmp_path / "table"


def chunks(table: Path, names: list[str]) -> list[bytes]:
    """The bytes of these columns, as they lie in the parts."""
    result = []
    for part in read_manifest(table).data:
        content = (table / part.path).read_bytes()
        footer = pq.read_metadata(table / part.path)
        for group in map(footer.row_group, range(footer.num_row_groups)):
            for column in map(group.column, range(group.num_columns)):
                if column.path_in_schema.partition(".")[0] in names:
                    start = column.dictionary_page_offset or column.data_page_offset
                    result.append(content[start : start + column.total_compressed_size])
    return result


def test_a_column_more_and_the_others_as_they_were(table, tmp_path):
    message = curricle("add", table, "--output", tmp_path / "more", "--metrics", "mattr,mtld", "--shard-rows", 10)
    assert "mtld: the table has these columns, made alike" in message
    assert "whole" in curricle("verify", tmp_path / "more")
    before, after = read_manifest(table), read_manifest(tmp_path / "more")
    old = [*LOSS, *MTLD, "example_id", "source", "source_position", "messages", "extra"]
    assert chunks(tmp_path / "more", old) == chunks(table, old) != []
    assert after.cost.tokens == before.cost.tokens > 0, "the proxy has read nothing"
    assert after.columns.items() > before.columns.items()
    assert {*after.columns} - {*before.columns} == {"prompt_mattr", "response_mattr"}
    assert (after.total, after.sources) == (before.total, before.sources) and after.fingerprint != before.fingerprint
    assert read_rejects(tmp_path / "more") == read_rejects(table) != []
    again = tmp_path / "again"
    curricle("score", table / "data", "--output", again, "--metrics", "mattr", "--format", "table")
    assert read_data(tmp_path / "more")["response_mattr"].equals(read_data(again)["response_mattr"])
    assert read_data(again)["response_mattr"].null_count < len(read_data(again))
    assert after.columns["response_mattr"] == read_manifest(again).columns["response_mattr"]
    for page in ("README.md", "report.html"):
        assert "response_mattr" in (tmp_path / "more" / page).read_text("utf-8").replace("\\_", "_")
    result = {path: path.stat().st_mtime_ns for path in (tmp_path / "more").rglob("*.json")}
    message = curricle("add", table, "--output", tmp_path / "more", "--metrics", "mattr,mtld", "--shard-rows", 10)
    assert "nothing to do" in message and result == {path: path.stat().st_mtime_ns for path in result}
    assert open_table(tmp_path / "more").difficulty("response_mattr").shape == (24,)


def test_losses_are_scored_once_and_as_the_table_was_scored(table, tmp_path):
    """The proxy's tokens are those of one more job; what was said of it is what is not said again."""
    curricle("add", table, "--output", tmp_path / "more", "--metrics", "ifd", "--proxy.model", V1 / "model")
    curricle(*("score", table / "data", "--output", tmp_path / "whole", "--metrics", "loss,mtld,ifd"), *MODEL)
    one, other = read_data(tmp_path / "more"), read_data(tmp_path / "whole")
    for name in (*LOSS, "loss_unconditional", "ifd_loss_ratio", "ifd_ppl_ratio"):
        assert one[name].equals(other[name]), name
    before, after, whole = (read_manifest(path) for path in (table, tmp_path / "more", tmp_path / "whole"))
    assert after.cost.tokens - before.cost.tokens == whole.cost.tokens
    assert after.columns == whole.columns and after.fingerprint == whole.fingerprint
    assert chunks(tmp_path / "more", LOSS) == chunks(table, LOSS)


@pytest.mark.parametrize("output", [[], ["--output", "table"], ["--output", "./table/"]])
def test_over_itself(table, tmp_path, output):
    curricle("add", "table", "--output", "more", "--metrics", "mattr", cwd=tmp_path)
    before = signed(table)
    curricle("add", "table", *output, "--metrics", "mattr", cwd=tmp_path)
    assert signed(table) == signed(tmp_path / "more") != before
    assert "whole" in curricle("verify", table)
    assert not (table / "_progress" / "scores").exists() and (table / "report.html").exists()
    result = {path: path.stat().st_mtime_ns for path in table.rglob("*") if path.is_file()}
    assert "nothing to do" in curricle("add", "table", "--metrics", "mattr", cwd=tmp_path)
    assert result == {path: path.stat().st_mtime_ns for path in result}
    curricle("add", "table", "--metrics", "hdd", cwd=tmp_path)
    assert {"response_mattr", "response_hdd"} <= {*read_manifest(table).columns}


def test_columns_of_a_table_that_grew_are_copied_as_far_as_they_are_there(tmp_path):
    """The table that is replaced gives its own; others are computed, and all are those that are computed anew."""
    rows = [{"prompt": f"Say {n}.", "completion": " ".join(f"w{n * k % 17}" for k in range(60 + n))} for n in range(30)]
    write_jsonl(tmp_path / "in.jsonl", rows[:20])
    score = ("score", "in.jsonl", "--output", "nightly", "--metrics", "msttr", "--append")
    add = ("add", "nightly", "--metrics", "mattr", "--output")
    curricle(*score, cwd=tmp_path)
    curricle(*add, "wide", cwd=tmp_path)
    write_jsonl(tmp_path / "in.jsonl", rows)
    curricle(*score, cwd=tmp_path)
    printed = curricle(*add, "wide", "--overwrite", "--reuse", "wide", cwd=tmp_path)
    assert "scores of 20 rows were copied, of 30 in all" in printed
    assert "were copied" not in curricle(*add, "anew", cwd=tmp_path)
    assert read_data(tmp_path / "wide").equals(read_data(tmp_path / "anew"))
    assert signed(tmp_path / "wide")["fingerprint"] == signed(tmp_path / "anew")["fingerprint"]
    for command in ("lp", "reward"):
        message = curricle(command, "nightly", "--output", "no", "--reuse", "wide", cwd=tmp_path, code=2)
        assert "it is --overwrite: every row is computed again, because what scores it is fitted to all rows" in message


def test_over_itself_keeps_what_belongs_to_the_table(table, tmp_path):
    (table / "notes.txt").write_text("mine")
    curricle("add", table, "--metrics", "mattr")
    assert (table / "notes.txt").read_text() == "mine" and "whole" in curricle("verify", table)


def test_a_copy_without_its_progress_can_grow(table):
    shutil.rmtree(table / "_progress")
    curricle("add", table, "--metrics", "mattr")
    assert "whole" in curricle("verify", table)


def test_a_table_of_contract_1_grows_and_keeps_its_columns(tmp_path):
    shutil.copytree(V1 / "scored", tmp_path / "scored")
    before = TableReader(str(V1 / "scored"))
    message = curricle("add", "scored", "--metrics", "mattr,loss", "--proxy.model", V1 / "model", cwd=tmp_path)
    assert "loss: the table has these columns, made alike" in message
    after = read_manifest(tmp_path / "scored")
    assert "whole" in curricle("verify", tmp_path / "scored") and after.contract.version == 2
    assert after.columns.items() > {name: column.fingerprint for name, column in before.scores.items()}.items()
    assert after.extended_from and after.extended_from.fingerprint == before.manifest.fingerprint


def test_a_selection_grows(table, tmp_path):
    curricle("select", table, "--output", tmp_path / "some", "--take", "hard", "--by", "loss", "--count", 5)
    curricle("add", tmp_path / "some", "--output", tmp_path / "more", "--metrics", "mattr")
    assert "5 selected" in curricle("verify", tmp_path / "more")


def refused(*arguments: object, code: int = 2) -> str:
    return curricle("add", *arguments, code=code)


def test_what_is_made_otherwise_is_refused_and_nothing_is_written(table, tmp_path):
    before = {path: path.read_bytes() for path in table.rglob("*") if path.is_file()}
    message = refused(table, "--metrics", "ifd", *MODEL, "--proxy.template", "plain")
    assert "column 'loss' that is made otherwise" in message and "template: 'chat' there, 'plain' now" in message
    assert "name the model with --proxy.model" in refused(table, "--metrics", "generated")
    assert "the table has all these columns" in refused(table, "--output", tmp_path / "more", "--metrics", "mtld")
    assert "did you mean 'mattr'" in refused(table, "--metrics", "matr")
    assert "there is no manifest" in refused(tmp_path, "--metrics", "mattr")
    assert before == {path: path.read_bytes() for path in table.rglob("*") if path.is_file()}
    assert not (tmp_path / "more").exists()


def test_another_addition_that_was_begun_is_not_thrown_away(table, monkeypatch):
    from curricle.pipelines.commands import add as module

    def stopped(*arguments: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(module, "extend", stopped)
        curricle("add", table, "--metrics", "mattr", code=1)
    assert "whole" in curricle("verify", table) and "prompt_mattr" not in read_manifest(table).columns
    assert "recipe.columns" in refused(table, "--metrics", "hdd")
    receipts = [*(table / "_progress/scores/_progress/receipts").iterdir()]
    times = {path: path.stat().st_mtime_ns for path in receipts}
    assert times
    curricle("add", table, "--metrics", "mattr")
    assert "prompt_mattr" in read_manifest(table).columns and "whole" in curricle("verify", table)


def test_a_damaged_table_does_not_grow(table):
    (part,) = read_manifest(table).data
    content = bytearray((table / part.path).read_bytes())
    content[len(content) // 2] ^= 1
    (table / part.path).write_bytes(content)
    curricle("add", table, "--metrics", "mattr", code=1)
    assert "prompt_mattr" not in json.loads((table / "manifest.json").read_text())["columns"]


def test_from_python(table, tmp_path):
    from curricle import pipelines

    manifest = pipelines.add(table, ["mattr"], tmp_path / "more")
    assert manifest == read_manifest(tmp_path / "more")
    with pytest.raises(UsageError, match="made otherwise"):
        pipelines.add(table, ["ifd"], proxy={"model": str(V1 / "model"), "template": "alpaca"})
