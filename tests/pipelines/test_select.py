"""Selections as a person makes them: tables of the same contract, with certificates that can be derived again."""

import hashlib
import io
import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import polars as pl
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest
from curricle.curate.selection.joined_file import read_columns
from curricle.pipelines.tables import writer
from curricle.schemas.columns import ScoreColumn
from curricle.schemas.fingerprint import example_id
from curricle.schemas.table import score_columns
from curricle.train.data.table import open_table
from running import curricle, read_data, signed, write_jsonl
from table_maker import COLUMNS, HOSTILE, PLAIN, make_table, random_scores

ROWS = 300


@pytest.fixture(scope="module")
def scored(tmp_path_factory) -> Path:
    directory = tmp_path_factory.mktemp("scored")
    make_table(directory, random_scores(ROWS), rows=ROWS, parts=3, rejects=[("not JSON", "no")])
    return directory


@pytest.fixture(scope="module")
def hardest(scored, tmp_path_factory) -> Path:
    out = tmp_path_factory.mktemp("selections") / "hardest"
    curricle(
        "select", scored, "--output", out, "--where", "loss > 0.5", "--take", "hard", "--by", "loss", "--count", 40
    )
    return out


def edit(path: Path, change: Callable[[dict], object]) -> None:
    value = json.loads(path.read_text())
    change(value)
    path.write_text(json.dumps(value))


def sign(table: Path) -> None:
    """Put what lies in a table into its manifest, as somebody would who hides a change."""

    def anew(manifest: dict) -> None:
        for part in manifest["data"]:
            content = (table / part["path"]).read_bytes()
            part.update(bytes=len(content), sha256=hashlib.sha256(content).hexdigest())
        if manifest["selected_from"]:
            manifest["selected_from"]["certificate_sha256"] = hashlib.sha256(
                (table / "certificate.json").read_bytes()
            ).hexdigest()

    edit(table / "manifest.json", anew)
    (table / "_progress" / "finished.json").unlink(missing_ok=True)  # as a copy without our working files is


def change_a_row(table: Path) -> None:
    """One score of one row is another."""
    path = sorted((table / "data").iterdir())[0]
    rows = pq.read_table(path)
    index = rows.schema.get_field_index("loss")
    values = rows["loss"].to_pylist()
    values[5] += 1e-12
    pq.write_table(rows.set_column(index, rows.schema.field(index), pa.array(values)), path, row_group_size=64)


def test_a_selection_is_a_table_of_the_same_contract(scored, hardest):
    table, result = read_data(scored), read_data(hardest)
    over = table.filter(pc.greater(table["loss"], 0.5))
    best = over.sort_by([("loss", "descending")]).slice(0, 40)["source_position"]
    assert result.equals(table.filter(pc.is_in(table["source_position"], best)))  # the rows, their order, every value
    assert result.schema.equals(table.schema, check_metadata=True)
    assert "whole; 300 rows of a table = 40 selected + 260 left out" in curricle("verify", hardest)
    manifest = signed(hardest)
    assert manifest["fingerprint"] == signed(scored)["fingerprint"]
    assert [s["read"] for s in manifest["sources"]] == [s["scored"] for s in signed(scored)["sources"]]
    assert all(s["read"] == s["scored"] + s["left_out"] and not s["rejected"] for s in manifest["sources"])
    assert len(open_table(hardest)) == 40
    assert "left out: 260" in (hardest / "README.md").read_text()
    assert "A selection of 40 of the 300 rows" in (hardest / "report.html").read_text()


def test_the_certificate_says_what_was_asked_and_found(scored, hardest):
    certificate = json.loads((hardest / "certificate.json").read_text())
    result = read_data(hardest)
    where, take = certificate["steps"]
    assert where["rows"] == ROWS and where["left"] == take["rows"]
    assert (take["asked"], take["left"], certificate["selected"], certificate["left_out"]) == (40, 40, 40, 260)
    assert take["lowest"] == pc.min(result["loss"]).as_py()
    assert certificate["recipe"]["where"] == "loss > 0.5" and certificate["recipe"]["seed"] == 0
    ids = "".join(f"{identity}\n" for identity in result["example_id"].to_pylist())
    assert certificate["ids"] == hashlib.sha256(ids.encode()).hexdigest()
    manifest = (scored / "manifest.json").read_bytes()
    assert certificate["table"]["manifest_sha256"] == hashlib.sha256(manifest).hexdigest()


CHANGES = {
    "threshold": lambda recipe: recipe.update(where="loss > 1.9"),
    "count": lambda recipe: recipe.update(count=41),
    "end": lambda recipe: recipe.update(take="easy"),
    "seed": lambda recipe: recipe.update(take="random", by=None, seed=1),
}


@pytest.mark.parametrize("change", CHANGES)
def test_a_changed_certificate_fails(scored, hardest, tmp_path, change):
    selection = Path(shutil.copytree(hardest, tmp_path / "selection"))
    curricle("select", "--check", selection / "certificate.json")
    curricle("select", scored, "--check", selection)
    edit(selection / "certificate.json", lambda certificate: CHANGES[change](certificate["recipe"]))
    assert "certificate.json: the bytes" in curricle("verify", selection, code=1)
    assert "certificate.json: the bytes" in curricle("select", "--check", selection, code=1)
    sign(selection)
    curricle("verify", selection)  # without the table nothing can tell
    assert "NOT what it says" in curricle("select", "--check", selection, code=1)


def test_another_seed_is_another_selection(scored, tmp_path):
    random = ["--take", "random", "--count", 20]
    for seed in (0, 1):
        curricle("select", scored, "--output", tmp_path / str(seed), *random, "--seed", seed)
    assert not read_data(tmp_path / "0").equals(read_data(tmp_path / "1"))
    edit(tmp_path / "0" / "certificate.json", lambda certificate: certificate["recipe"].update(seed=1))
    sign(tmp_path / "0")
    assert "ids:" in curricle("select", "--check", tmp_path / "0", code=1)


@pytest.mark.parametrize("hidden", [False, True])
def test_a_changed_row_fails(scored, hardest, tmp_path, hidden):
    selection = Path(shutil.copytree(hardest, tmp_path / "selection"))
    change_a_row(selection)
    if hidden:
        sign(selection)
    expected = "a row is not as it stands in the table" if hidden else "the bytes are not those that were written"
    assert expected in curricle("select", "--check", selection, code=1)


@pytest.mark.parametrize("hidden", [False, True])
def test_a_changed_row_of_the_table_fails(scored, hardest, tmp_path, hidden):
    table = Path(shutil.copytree(scored, tmp_path / "table"))
    curricle("select", table, "--check", hardest)
    change_a_row(table)
    if hidden:
        sign(table)
    expected = "manifest_sha256" if hidden else "the bytes are not those that were written"
    assert expected in curricle("select", table, "--check", hardest, code=1)


def test_the_same_command_again_does_nothing_and_another_is_refused(scored, tmp_path):
    command = ["select", scored, "--output", tmp_path / "out", "--take", "low", "--by", "loss", "--part"]
    curricle(*command, "1/3")
    before = (tmp_path / "out" / "manifest.json").stat().st_mtime_ns
    curricle(*command, "1/3")
    assert (tmp_path / "out" / "manifest.json").stat().st_mtime_ns == before
    message = curricle(*command, "3/3", code=2)
    assert "recipe.part: '1/3' there, '3/3' now" in message and "--overwrite" in message
    curricle(*command, "3/3", "--overwrite")
    curricle("select", "--check", tmp_path / "out")
    (tmp_path / "in.jsonl").write_text('{"prompt": "a", "completion": "b"}\n')
    message = curricle("score", tmp_path / "in.jsonl", "--output", tmp_path / "out", "--metrics", "length", code=2)
    assert "holds a selection" in message
    assert "finished" in curricle("status", tmp_path / "out")


@pytest.mark.parametrize("gone", [["manifest.json"], ["manifest.json", "certificate.json", "README.md", "data"]])
def test_what_a_kill_leaves_is_completed_by_the_same_command(scored, tmp_path, gone):
    command = ["select", scored, "--output", tmp_path / "out", "--take", "random", "--fraction", 0.25, "--seed", 3]
    curricle(*command)
    expected = signed(tmp_path / "out")
    for name in gone:
        path = tmp_path / "out" / name
        shutil.rmtree(path) if path.is_dir() else path.unlink()
    curricle("verify", tmp_path / "out", code=1)
    curricle(*command)
    assert signed(tmp_path / "out") == expected
    curricle("select", "--check", tmp_path / "out")


def test_many_row_groups_and_parts(scored, tmp_path, monkeypatch):
    """How the rows are cut into groups and parts shows neither in a selection nor in a check."""
    command = ["select", scored, "--take", "random", "--fraction", 0.5, "--output"]
    curricle(*command, tmp_path / "one")
    monkeypatch.setattr(writer, "GROUP_ROWS", 16)
    monkeypatch.setattr(writer, "PART_BYTES", 4_000)
    curricle(*command, tmp_path / "many")
    assert len(signed(tmp_path / "many")["data"]) > 2
    assert read_data(tmp_path / "many").equals(read_data(tmp_path / "one"))
    assert "whole" in curricle("verify", tmp_path / "many")
    curricle("select", "--check", tmp_path / "one")


def test_a_selection_of_a_selection(hardest, tmp_path):
    curricle("select", hardest, "--output", tmp_path / "out", "--take", "easy", "--by", "response_mtld", "--count", 7)
    assert "40 rows of a table = 7 selected + 33 left out" in curricle("verify", tmp_path / "out")
    curricle("select", "--check", tmp_path / "out")


def test_rows_by_source_without_the_rejects(scored, tmp_path):
    """Strata by a column of the table itself; shares are exact."""
    out = tmp_path / "out"
    curricle("select", scored, "--output", out, "--take", "random", "--count", 31, "--per", "source")
    assert [source["scored"] for source in signed(out)["sources"]] == [
        15,
        16,
    ]  # the first name has the odd row


LATE = 150
"""Rows after which a file shows another side than before: more than libraries look at to guess types."""

KINDS = {  # values of a column, what a CSV means by them, and what a JSONL does
    "integers, then a fraction": ([*["4"] * LATE, "4.5"], [*[4.0] * LATE, 4.5]),
    "missing at first": ([*[""] * LATE, "7"], [*[None] * LATE, 7]),
    "nan beside numbers": ([*["2.5"] * LATE, "nan", "NaN", "NA"], [*[2.5] * LATE, None, None, None]),
    "nan beside integers": (["1", "nan", "3"], [1, None, 3]),
    "nan beside words": (["good", "nan", ""], ["good", "nan", None]),
    "nothing but nan": (["nan", ""], [None, None]),
    "truth": (["True", "false", ""], [True, False, None]),
    "numbers, then a word": ([*["1"] * LATE, "unsure"], [*["1"] * LATE, "unsure"]),
    "names of digits": (["007", "010"], ["007", "010"]),
    "numbers in every spelling": (["1e2", " .5", "-3.", "+4"], [100.0, 0.5, -3.0, 4.0]),
}


@pytest.mark.parametrize("kind", KINDS)
def test_a_csv_means_the_same_whatever_its_first_rows_hold(tmp_path, kind):
    texts, values = KINDS[kind]
    lines = [f"{row},{text}\n" for row, text in enumerate(texts)]
    (tmp_path / "a.csv").write_text("source_position,q\n" + "".join(lines))
    result = read_columns(tmp_path / "a.csv")[0]
    assert result["q"].to_list() == values
    assert [type(value) for value in result["q"]] == [type(value) for value in values]
    assert result["source_position"].to_list() == list(range(len(texts)))


def test_a_field_that_appears_late_is_a_column(tmp_path):
    rows = [{"source_position": n, "q": n} for n in range(LATE)]
    rows += [{"source_position": LATE, "q": 0.5, "late": "x"}, {"source_position": LATE + 1, "q": None}]
    write_jsonl(tmp_path / "a.jsonl", rows)
    result = read_columns(tmp_path / "a.jsonl")[0]
    assert result["q"].to_list() == [*map(float, range(LATE)), 0.5, None] and result["q"].dtype == pl.Float64
    assert result["late"].to_list() == [*[None] * LATE, "x", None]


def test_keys_are_texts_even_where_they_are_digits(tmp_path):
    (tmp_path / "a.csv").write_text(f"example_id,q\n{'0' * 31}7,1\n")
    assert read_columns(tmp_path / "a.csv")[0]["example_id"].to_list() == ["0" * 31 + "7"]


def test_positions_may_be_whole_floats_and_ids_may_be_categories(scored, judged, tmp_path):
    """As pandas writes integers with a gap among them, and texts of few values."""
    chosen = judged.select(pl.col("source").cast(pl.Categorical), pl.col("source_position").cast(pl.Float64), "quality")
    chosen.write_parquet(tmp_path / "judged.parquet")
    command = ["--join", tmp_path / "judged.parquet", "--take", "random", "--count", 5, "--output", tmp_path / "out"]
    assert f"covers {len(judged)} of {ROWS} rows" in curricle("select", scored, *command)


def test_rows_of_a_joined_file_that_belong_nowhere_are_said(scored, judged, tmp_path):
    more = pl.DataFrame({"example_id": ["nobody", None], "quality": [1.0, 2.0]})
    pl.concat([judged.select("example_id", "quality"), more]).write_csv(tmp_path / "more.csv")
    command = ["--join", tmp_path / "more.csv", "--take", "random", "--count", 5, "--output", tmp_path / "out"]
    assert "more.csv: 2 rows belong to no row of the table" in curricle("select", scored, *command)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("example_id,quality\nrow-1,2\n", "example_id of a row of the table: 'row-1' in its first, '"),
        ("source,source_position,quality\nother.jsonl,0,2\n", "'other.jsonl', 0 in its first, '"),
        ("example_id,quality\n", "no row of it has example_id"),
    ],
)
def test_a_joined_file_that_belongs_to_another_table_is_refused(scored, tmp_path, text, message):
    (tmp_path / "judged.csv").write_text(text)
    command = ["--join", tmp_path / "judged.csv", "--where", "quality > 1", "--output", tmp_path / "out"]
    assert message in curricle("select", scored, *command, code=2)
    assert not (tmp_path / "out").exists()


def test_a_certificate_holds_from_any_directory_and_where_everything_was_moved(scored, judged, tmp_path):
    (tmp_path / "here").mkdir()
    shutil.copytree(scored, tmp_path / "here" / "table")
    judged.select("example_id", "quality").write_csv(tmp_path / "here" / "judged.csv")
    command = ["--join", "judged.csv", "--take", "high", "--by", "quality", "--count", 9, "--output", "out"]
    curricle("select", "table", *command, cwd=tmp_path / "here")
    curricle("select", "--check", tmp_path / "here" / "out", cwd=tmp_path)
    (tmp_path / "here").rename(tmp_path / "there")
    there = tmp_path / "there"
    check = ["--check", there / "out"]
    assert "select TABLE --check" in curricle("select", *check, code=2)
    assert "--join" in curricle("select", there / "table", *check, code=2)
    curricle("select", there / "table", *check, "--join", there / "judged.csv")
    assert "joins no file x.csv" in curricle(
        "select", there / "table", *check, "--join", f"{there / 'judged.csv'},x.csv", code=2
    )
    shutil.copy(there / "judged.csv", there / "renamed.csv")
    curricle("select", there / "table", *check, "--join", there / "renamed.csv")  # it is known by its bytes
    (there / "judged.csv").write_text((there / "judged.csv").read_text() + "nobody,1\n")
    assert "joined" in curricle("select", there / "table", *check, "--join", there / "judged.csv", code=1)


@pytest.fixture
def judged(scored, tmp_path) -> pl.DataFrame:
    """What a judge said of two rows in three, in an order of its own."""
    table = pl.DataFrame(read_data(scored).select(["example_id", "source", "source_position"]))
    judged = table.unique("example_id").sort("example_id").gather_every(3)
    return judged.with_columns(quality=(pl.int_range(pl.len()) * 37 % 101) / 20, judge=pl.lit("a|b"))


@pytest.mark.parametrize("kind", ["parquet", "csv", "jsonl"])
@pytest.mark.parametrize("keys", [["example_id"], ["source", "source_position"]], ids=str)
def test_columns_join_from_a_file(scored, judged, tmp_path, kind, keys):
    file, out = tmp_path / f"judged.{kind}", tmp_path / "out"
    chosen = judged.select(*keys, "quality", "judge")
    {"parquet": chosen.write_parquet, "csv": chosen.write_csv, "jsonl": chosen.write_ndjson}[kind](file)
    command = ["--join", file, "--take", "high", "--by", "quality", "--count", 10]
    message = curricle("select", scored, "--output", out, *command)
    table = pl.DataFrame(read_data(scored).select(["example_id", "source", "source_position", "loss"]))
    expected = table.join(chosen, on=keys, maintain_order="left")
    assert f"judged.{kind} covers {len(expected)} of {ROWS} rows: quality, judge" in message
    result = read_data(out)
    assert sorted(result["quality"].to_pylist()) == expected["quality"].sort()[-10:].to_list()
    rows = pl.DataFrame(result.select(["example_id", "source", "source_position", "loss", "quality", "judge"]))
    assert set(rows.rows()) <= set(expected.select(rows.columns).rows())  # each score stands beside its own row
    assert score_columns(result.schema)["quality"].metric == "join"
    assert signed(out)["fingerprint"] != signed(scored)["fingerprint"]
    assert "whole" in curricle("verify", out)
    curricle("select", "--check", out)
    if kind == "csv":
        file.write_text(file.read_text() + "\n")
        assert "joined" in curricle("select", "--check", out, code=1)


def test_a_column_of_scores_that_nobody_gave_is_null(scored, judged, tmp_path):
    judged.select("example_id", quality=pl.lit(float("nan"))).write_parquet(tmp_path / "nan.parquet")
    command = ["--join", tmp_path / "nan.parquet", "--take", "random", "--count", 200, "--output", tmp_path / "out"]
    curricle("select", scored, *command)
    assert read_data(tmp_path / "out")["quality"].null_count == 200


def as_parquet(**columns: list) -> bytes:
    stream = io.BytesIO()
    pl.DataFrame(columns).write_parquet(stream)
    return stream.getvalue()


BAD_FILES = {
    "odd.txt": (b"", "of no known kind"),
    "gone.csv": (None, "there is no such file"),
    "damaged.parquet": (b"PAR1 no PAR1", "cannot be read"),
    "keyless.csv": (b"id,quality\n1,2\n", "give it example_id"),
    "nothing.csv": (b"example_id\n1\n", "no column to join"),
    "twice.csv": (b"example_id,quality\na,1\na,2\n", "two rows for one example_id"),
    "numbers.parquet": (as_parquet(example_id=[1], quality=[2.0]), "cannot be compared"),
    "same.csv": (b"example_id,loss\na,2\n", "rename it"),
    "empty.csv": (b"", "is empty"),
    "columns.csv": (b"example_id,q,q\na,1,2\n", "two columns 'q'"),
    "index.csv": (b",example_id,q\n0,a,1\n", "a column has no name"),
    "short.csv": (b"example_id,q\na,1\nb\n", "line 3 has 1 values"),
    "quotes.csv": (b'example_id,q\na,"1\n', "cannot be read"),
    "large.csv": (b"example_id,q\na,99999999999999999999\n", "more than 64 bits"),
    "digits.csv": (b"example_id,q\na," + b"9" * 5000 + b"\n", "more than 64 bits"),
    "power.csv": (b"example_id,q\na,1e400\n", "more than 64 bits"),
    "rounded.csv": (b"example_id,q\na,9007199254740993\nb,0.5\n", "rounded to 9007199254740992"),
    "rounded.jsonl": (
        b'{"example_id": "a", "q": 0.5}\n{"example_id": "b", "q": -9007199254740993}\n',
        "rounded to -9007199254740992",
    ),
    "fraction.jsonl": (
        b'{"example_id": "a", "q": 0.5}\n{"example_id": "b", "q": 1' + b"0" * 400 + b"}\n",
        "more than 64 bits",
    ),
    "half.csv": (b"source,source_position,q\ns,0.5,1\n", "source_position holds 0.5"),
    "named.csv": (b"source,source_position,q\ns,first,1\n", "write source_position as it stands in the table"),
    "nobody.jsonl": (b'{"example_id": null, "q": 1}\n', "no row of it has example_id"),
    "bytes.parquet": (as_parquet(example_id=[b"a"], quality=[2.0]), "write example_id as it stands in the table"),
    "semicolons.csv": (b"example_id;q\na;1\n", "write it with commas"),
    "tabs.csv": (b"example_id\tq\na\t1\n", "write it with commas"),
    "keys.jsonl": (b'{"example_id": "a", "q": 1, "q": 2}\n', "line 1: duplicate key 'q'"),
    "nan.jsonl": (b'{"example_id": "a", "q": 1}\n{"example_id": "b", "q": NaN}\n', "line 2: NaN is not JSON"),
    "kinds.jsonl": (
        b'{"example_id": "a", "q": 1}\n\n{"example_id": "b", "q": "2"}\n',
        "a number (line 1) and a text (line 3)",
    ),
    "list.jsonl": (b'["a"]\n', "line 1: is no object"),
    "lists.jsonl": (b'{"example_id": "a", "quality": [1]}\n', "plain values"),
}


@pytest.mark.parametrize("name", BAD_FILES)
def test_files_that_cannot_be_joined(scored, tmp_path, name):
    content, message = BAD_FILES[name]
    if content is not None:
        (tmp_path / name).write_bytes(content)
    out = tmp_path / "out"
    command = ["--join", tmp_path / name, "--take", "random", "--count", 5, "--output", out]
    assert message in curricle("select", scored, *command, code=2)
    assert not out.exists()


RANDOM = ["--take", "random", "--count", "3"]
BAD_COMMANDS = {
    "no table is named": ["--output", "out", *RANDOM],
    "--output is required": ["{table}", *RANDOM],
    "is the table itself": ["{table}", "--output", "{table}/data/..", *RANDOM, "--overwrite"],
    "there is no such directory": ["nowhere", "--output", "out", *RANDOM],
    "no row is selected": ["{table}", "--output", "out", "--where", "loss > 1e9"],
    "did you mean 'response_mtld'": ["{table}", "--output", "out", "--where", "response_mtdl > 1"],
    "has no meaning": ["{table}", "--output", "out", "--where", "open('x') > 1"],
    "the certificate has those": ["--check", "{selection}", *RANDOM],
    "is no selection": ["--check", "{table}"],
    "holds other files": ["{table}", "--output", "{others}", *RANDOM],
}


@pytest.mark.parametrize("message", BAD_COMMANDS)
def test_wrong_usage(scored, hardest, tmp_path, message):
    (tmp_path / "others").mkdir()
    (tmp_path / "others" / "thesis.txt").touch()
    paths = {"table": scored, "selection": hardest, "others": tmp_path / "others"}
    arguments = [argument.format(**paths) for argument in BAD_COMMANDS[message]]
    assert message in curricle("select", *arguments, cwd=tmp_path, code=2)
    assert not (tmp_path / "out").exists()
    assert "whole" in curricle("verify", scored)


@pytest.mark.parametrize(
    "change",
    [
        lambda certificate: certificate.clear(),
        lambda certificate: certificate["recipe"].update(where="__import__('os')"),
        lambda certificate: certificate["recipe"].update(take="the best"),
        lambda certificate: certificate["table"].update(place="/nowhere"),
    ],
)
def test_a_certificate_that_somebody_made_up_is_read_and_refused(hardest, tmp_path, change):
    selection = Path(shutil.copytree(hardest, tmp_path / "selection"))
    edit(selection / "certificate.json", change)
    sign(selection)
    message = curricle("select", "--check", selection, code=1 if change.__code__.co_names == ("clear",) else 2)
    assert "What to do" in message


LEDGERS = {
    "is not": lambda manifest: manifest["sources"][0].update(left_out=1),
    "rows were read of a table that has 301": lambda manifest: manifest["selected_from"].update(rows=301),
    "left out of what is no selection": lambda manifest: manifest.update(selected_from=None),
}


@pytest.mark.parametrize("message", LEDGERS)
def test_a_wrong_ledger_is_found(hardest, tmp_path, message):
    selection = Path(shutil.copytree(hardest, tmp_path / "selection"))
    edit(selection / "manifest.json", LEDGERS[message])
    assert message in curricle("verify", selection, code=1)


def test_vectors_are_carried_along(scored, hardest):
    """Columns of other types than numbers go from table to table untouched."""
    assert ScoreColumn.from_field(read_data(hardest).schema.field("embedding"))
    assert read_data(hardest)["embedding"].null_count == 0


@pytest.fixture(scope="module")
def planted(tmp_path_factory, alpaca_rows) -> tuple[Path, list[int], list[int]]:
    """Real rows, then each long one again with a word changed: the table, and the rows that are alike."""
    folder, rows = tmp_path_factory.mktemp("planted"), alpaca_rows(200)
    long = [index for index, row in enumerate(rows) if 40 <= len(row["output"].split()) <= 120]
    changed = [dict(rows[index]) for index in long]
    for row in changed:
        words = row["output"].split()
        row["output"] = " ".join([*words[:-1], "Zanzibar"]).upper()
    write_jsonl(folder / "in.jsonl", rows + changed)
    curricle("score", folder / "in.jsonl", "--output", folder / "out", "--metrics", "mtld")
    return folder / "out", long, list(range(len(rows), len(rows) + len(long)))


@pytest.fixture(scope="module")
def unlike(planted, tmp_path_factory) -> Path:
    out = tmp_path_factory.mktemp("selections") / "unlike"
    curricle("select", planted[0], "--output", out, "--near-duplicates", 0.8, "--seed", 7)
    return out


def test_of_near_duplicates_the_first_stays(planted, unlike):
    table, long, copies = planted
    rest, everything = read_data(unlike), read_data(table)
    assert len(long) > 20
    assert rest.equals(everything.slice(0, everything.num_rows - len(copies)))  # no row without a copy is lost
    (step,) = json.loads((unlike / "certificate.json").read_text())["steps"]
    assert (step["rule"], step["threshold"], step["words"], step["seed"]) == ("near_duplicates", 0.8, 3, 7)
    assert step["groups"] == step["rows"] - step["left"] == len(copies)
    assert "whole" in curricle("verify", unlike)
    curricle("select", "--check", unlike)


def test_a_certificate_of_version_1_has_its_old_meaning(planted, tmp_path):
    """What was written before near-duplicates had a choice is checked, and not taken for what they mean now."""
    table, _, copies = planted
    old = tmp_path / "old"
    curricle("select", table, "--output", old, "--near-duplicates", 0.8, "--near-duplicates-of", "chains")

    def as_before(certificate: dict) -> None:
        certificate["certificate"] = 1
        del certificate["recipe"]["near_duplicates_of"]
        (step,) = certificate["steps"]
        assert step.keys() == {
            *("rule", "threshold", "words", "permutations", "seed", "nulls", "groups", "rows", "left"),
        }  # fmt: skip

    edit(old / "certificate.json", as_before)
    sign(old)
    curricle("select", "--check", old)
    edit(old / "certificate.json", lambda certificate: certificate["steps"][0].update(groups=len(copies) - 1))
    sign(old)
    assert "groups" in curricle("select", "--check", old, code=1)
    plain = tmp_path / "plain"
    curricle("select", table, "--output", plain, "--take", "random", "--count", 5)
    edit(plain / "certificate.json", lambda it: (it.update(certificate=1), it["recipe"].pop("near_duplicates_of")))
    sign(plain)
    curricle("select", "--check", plain)


@pytest.mark.parametrize(
    "change", [{"near_duplicates": 0.81}, {"near_duplicates_of": "response"}, {"seed": 8}], ids=str
)
def test_near_duplicates_by_another_threshold_or_seed_are_not_those(unlike, tmp_path, change):
    selection = Path(shutil.copytree(unlike, tmp_path / "selection"))
    edit(selection / "certificate.json", lambda certificate: certificate["recipe"].update(change))
    sign(selection)
    assert "steps" in curricle("select", "--check", selection, code=1)


@pytest.fixture(scope="module")
def other(scored, tmp_path_factory) -> Path:
    """The same examples, from files of other names and in another order, with other scores and one that is alike."""
    directory = tmp_path_factory.mktemp("other")
    draw = random_scores(ROWS, seed=1)
    named = {"difficulty": ("loss", "low"), "vectors": ("embedding", None), "loss": ("loss", "high")}
    columns = [
        replace(next(c for c in COLUMNS if c.name == of), name=name, hard=hard) for name, (of, hard) in named.items()
    ]
    values = {"difficulty": draw["loss"], "vectors": draw["embedding"], "loss": random_scores(ROWS)["loss"]}
    make_table(directory, values, columns, rows=ROWS)
    return directory


def test_a_table_is_joined_by_its_examples(scored, other, tmp_path):
    """Its score columns come along as they are: type, direction, fingerprint. Its texts do not, nor what is alike."""
    out = tmp_path / "out"
    printed = curricle("select", scored, "--output", out, "--join", other)
    assert f"{other.name}: loss: the table has these columns, made alike" in printed
    assert f"{other.name} covers {ROWS} of {ROWS} rows: difficulty, vectors" in printed
    table, added, result = read_data(scored), read_data(other), read_data(out)
    assert result.drop_columns(["difficulty", "vectors"]).equals(table)
    assert [result[name].to_pylist() for name in ("difficulty", "vectors")] == [
        added[name].to_pylist() for name in ("difficulty", "vectors")
    ]
    assert score_columns(result.schema)["difficulty"] == score_columns(added.schema)["difficulty"]
    assert score_columns(result.schema)["difficulty"].hard == "low"
    assert "whole; 300 rows of a table = 300 selected + 0 left out" in curricle("verify", out)
    curricle("select", "--check", out)
    by = ("--take", "hard", "--by", "difficulty", "--count", 3)  # its direction is that of the other table
    curricle("select", scored, "--output", tmp_path / "hard", "--join", f"{other}/certificate.json", *by)
    expected = sorted(added["difficulty"].to_pylist())[:3]
    assert sorted(read_data(tmp_path / "hard")["difficulty"].to_pylist()) == expected


def test_a_joined_table_that_was_moved_is_known_by_its_manifest(scored, other, tmp_path):
    shutil.copytree(other, tmp_path / "here")
    curricle("select", scored, "--output", tmp_path / "out", "--join", tmp_path / "here")
    (tmp_path / "here").rename(tmp_path / "there")
    assert "what was joined is not there" in curricle("select", scored, "--check", tmp_path / "out", code=2)
    curricle("select", scored, "--check", tmp_path / "out", "--join", tmp_path / "there")
    change_a_row(tmp_path / "there")
    assert "bytes" in curricle("select", scored, "--check", tmp_path / "out", "--join", tmp_path / "there", code=1)


def by_example(directory: Path, rows: list[int], scores: list[float], source: str = "moved.jsonl") -> Path:
    """A table of these rows' examples from another file, with a score."""
    column = replace(COLUMNS[3], name="difficulty")
    make_table(directory, {"difficulty": scores}, [column], rows=len(rows))
    path = directory / "data" / "part-00000-of-00001.parquet"
    table = pq.read_table(path)
    texts = (
        [(HOSTILE + PLAIN * 3)[row % 24] for row in rows],
        [(HOSTILE + PLAIN * 3)[(ROWS - 1 - row) % 24] for row in rows],
    )
    turns = [[("user", prompt), ("assistant", answer)] for prompt, answer in zip(*texts, strict=True)]
    ids = pa.array([example_id(each) for each in turns])
    for name, values in (("example_id", ids), ("source", pa.array([source] * len(rows)))):
        index = table.schema.get_field_index(name)
        table = table.set_column(index, table.schema.field(index), values)
    pq.write_table(table, path)
    edit(directory / "manifest.json", lambda manifest: manifest.update(selected_from=None))
    sign(directory)
    return directory


def test_a_table_of_other_files_is_joined_by_example(scored, tmp_path):
    """Each row of an example has its value; rows that the other table lacks have none."""
    other = by_example(tmp_path / "other", [0, 1, 2], [1.0, 2.0, 3.0])
    out = tmp_path / "out"
    assert "other covers" in curricle("select", scored, "--output", out, "--join", other)
    table, ids = read_data(out), read_data(other)["example_id"].to_pylist()
    values = dict(zip(ids, [1.0, 2.0, 3.0], strict=True))
    assert table["difficulty"].to_pylist() == [values.get(each) for each in table["example_id"].to_pylist()]
    assert table["difficulty"].null_count < ROWS
    twice = by_example(tmp_path / "twice", [0, 1, 24, 1], [1.0, 2.0, 1.5, 2.0])
    message = curricle("select", scored, "--output", tmp_path / "no", "--join", twice, code=2)
    assert "has several rows of example" in message and "--distinct" in message
    same = by_example(tmp_path / "same", [0, 1, 24, 1], [1.0, 2.0, 1.0, 2.0])
    curricle("select", scored, "--output", tmp_path / "yes", "--join", same)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("itself", "has no score column that the table lacks"),
        ("folder", "there is no manifest"),
        ("stranger", "name a table of the same examples"),
        ("otherwise", "column 'loss' stands in the table and in what is joined to it"),
        ("otherwise", "made otherwise:\n  - "),
        ("otherwise", '.select("example_id", other_loss="loss").write_csv("other.csv")'),
    ],
)
def test_tables_that_cannot_be_joined(scored, tmp_path, name, message):
    other = tmp_path / name
    if name == "itself":
        shutil.copytree(scored, other)
    elif name == "folder":
        other.mkdir()
    elif name == "stranger":
        by_example(other, [0, 1, 2], [1.0, 2.0, 3.0])
        change = pl.read_parquet(other / "data" / "*.parquet").with_columns(example_id=pl.lit("0" * 32))
        path = other / "data" / "part-00000-of-00001.parquet"
        pq.write_table(change.to_arrow().cast(pq.read_schema(path)), path)
        sign(other)
    else:
        column = replace(COLUMNS[3], version=99)
        make_table(other, {"loss": random_scores(ROWS)["loss"]}, [column], rows=ROWS)
    assert message in curricle("select", scored, "--output", tmp_path / "out", "--join", other, code=2)
    assert not (tmp_path / "out").exists()


def test_more_rows_than_there_are(scored, tmp_path):
    """All are taken, and it is said; where there are enough nothing is."""
    command = ["select", scored, "--take", "hard", "--by", "response_mtld", "--count"]
    printed = curricle(*command, 1000, "--output", tmp_path / "all")
    assert "--count 1,000 is more than there are: 282 of 300 rows have the values that are needed" in printed
    assert len(read_data(tmp_path / "all")) == 282
    assert "more than there are" not in curricle(*command, 282, "--output", tmp_path / "enough")
    printed = curricle(
        "select", scored, "--take", "random", "--count", 900, "--distinct", "--output", tmp_path / "distinct"
    )
    assert "--count 900 is more than there are: 16 are left, and all of them are taken" in printed
