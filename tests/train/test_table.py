"""The table as the trainer sees it: directions, nulls, ties, joins, text, and what it refuses."""

import hashlib
import json
import os

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from curricle.schemas.common.errors import UsageError, UserError
from curricle.schemas.manifest import Counts, Part
from curricle.train.data.table import Example, open_table, seeded_hash
from train_tables import make_table, write_table


def manifest_of(directory, parts, fingerprint="f" * 32, path=None):
    """A table directory's manifest for the given part files."""
    data = [
        Part(
            path=str(part.relative_to(directory)),
            rows=pq.read_metadata(part).num_rows,
            bytes=part.stat().st_size,
            sha256=hashlib.sha256(part.read_bytes()).hexdigest(),
        ).model_dump()
        for part in parts
    ]
    if path is not None:
        data[0]["path"] = path
    rows = sum(part["rows"] for part in data)
    total = Counts(read=rows, scored=rows, rejected=0).model_dump()
    cost = {"seconds": 1.0, "tokens": 1, "created": "2025-01-01T00:00:00Z"}
    manifest = {
        "contract": 1,
        "fingerprint": fingerprint,
        "identity": {},
        "total": total,
        "sources": [],
        "data": data,
        "rejects": [],
        "cost": cost,
    }
    (directory / "manifest.json").write_text(json.dumps(manifest))
    return manifest


def test_the_harder_end_comes_last_whichever_it_is(tmp_path):
    table = make_table(tmp_path, {"loss": [2.0, 1.0, 3.0], "lp": [0.2, 0.1, 0.3]}, low=["lp"])
    assert table.order("loss", 0).tolist() == [1, 0, 2]
    assert table.order("lp", 0).tolist() == [2, 0, 1]
    assert table.order("loss:low", 0).tolist() == [2, 0, 1]
    assert table.order("lp:high", 0).tolist() == [1, 0, 2]


def test_a_null_and_a_nan_are_not_in_the_perspective_and_are_counted(tmp_path):
    table = make_table(tmp_path, {"loss": [2.0, None, float("nan"), 1.0, float("-inf")], "length": [1, 2, None, 4, 5]})
    assert table.order("loss", 0).tolist() == [3, 0]
    assert table.order("length", 0).tolist() == [0, 1, 3, 4]
    assert table.notes == [
        "loss: 3 of 5 rows have no score and are not in this perspective",
        "length: 1 of 5 rows have no score and are not in this perspective",
    ]


def test_ties_follow_the_id_and_the_seed_not_the_position(tmp_path):
    rows = 200
    table = make_table(tmp_path, {"loss": [1.0] * rows})
    order = table.order("loss", 0)
    assert sorted(order) == list(range(rows))
    assert order.tolist() != list(range(rows))
    assert (order != table.order("loss", 1)).any()
    reversed_table = table.take(np.arange(rows)[::-1].copy())
    assert (reversed_table.ids[reversed_table.order("loss", 0)] == table.ids[order]).all()


def test_seeded_hash_spreads_its_bits():
    ids = np.random.default_rng(0).integers(0, 256, (4096, 16), np.uint8)
    bits = np.unpackbits(seeded_hash(ids, 7).view(np.uint8).reshape(-1, 8), axis=1)
    assert abs(bits.mean(0) - 0.5).max() < 0.05
    flipped = ids.copy()
    flipped[:, 15] ^= 1  # one bit of the id changes about half the bits of the hash
    changed = np.unpackbits((seeded_hash(ids, 7) ^ seeded_hash(flipped, 7)).view(np.uint8).reshape(-1, 8), axis=1)
    assert abs(changed.mean() - 0.5) < 0.02


def test_a_misspelt_column_gets_the_nearest_name(tmp_path):
    with pytest.raises(UsageError, match="did you mean 'loss'"):
        make_table(tmp_path, {"loss": [1.0, 2.0]}).order("los", 0)


def test_a_column_without_direction_asks_for_one(tmp_path):
    path = tmp_path / "own.parquet"
    pq.write_table(pa.table({"example_id": ["a", "b"], "mine": [2, 1]}), path)
    table = open_table(path)
    with pytest.raises(UsageError, match="mine:high"):
        table.order("mine", 0)
    assert table.order("mine:high", 0).tolist() == [1, 0]


@pytest.mark.parametrize(
    ("columns", "message"),
    [({"loss": [1.0]}, "the table has 1 row,"), ({"loss": pa.array([], pa.float64())}, "the table has 0 rows")],
)
def test_too_few_rows(tmp_path, columns, message):
    with pytest.raises(UsageError, match=message):
        make_table(tmp_path, columns)


def test_all_null_scores(tmp_path):
    with pytest.raises(UsageError, match="every value of column 'loss' is null"):
        make_table(tmp_path, {"loss": [None, float("nan")]}).order("loss", 0)


def test_a_column_of_text_is_no_score(tmp_path):
    with pytest.raises(UsageError, match="holds string"):
        make_table(tmp_path, {"topic": ["a", "b"]}).order("topic:high", 0)


def test_join_reports_its_coverage_and_keeps_direction(tmp_path):
    base = write_table(tmp_path / "base.parquet", {"length": [1, 2, 3, 4]})
    extra = write_table(tmp_path / "extra.parquet", {"lp": [0.1, 0.3, 0.2]}, low=["lp"], first=1)
    table = open_table(base, join=[extra])
    assert table.order("lp", 0).tolist() == [2, 3, 1]
    assert "covers 3 of 4 rows" in table.notes[0]
    assert table.take(np.array([3, 0, 1])).order("lp", 0).tolist() == [0, 2]


def test_a_column_in_two_files_is_refused(tmp_path):
    base = write_table(tmp_path / "base.parquet", {"loss": [1.0, 2.0]})
    extra = write_table(tmp_path / "extra.parquet", {"loss": [2.0, 1.0]})
    with pytest.raises(UsageError, match="stands in the table and in a joined file"):
        open_table(base, join=[extra]).order("loss", 0)


def test_ids_that_are_not_hex_are_hashed_and_still_join(tmp_path):
    for name, column, ids in (("a", "x", ["one", "two", "3" * 32]), ("b", "y", ["3" * 32, "z" * 32, "one"])):
        pq.write_table(pa.table({"example_id": ids, column: [1.0, 2.0, 3.0]}), tmp_path / f"{name}.parquet")
    table = open_table(tmp_path / "a.parquet", join=[tmp_path / "b.parquet"])
    assert table.ids[2].tobytes() == bytes.fromhex("3" * 32)
    np.testing.assert_array_equal(table.numbers("y"), [3.0, np.nan, 1.0])


def test_text_comes_in_the_order_asked_for_and_reads_each_row_group_once(tmp_path, monkeypatch):
    table = make_table(tmp_path, {"loss": np.arange(50.0)}, row_group_size=10)
    read = []
    original = pq.ParquetFile.read_row_group
    monkeypatch.setattr(
        pq.ParquetFile, "read_row_group", lambda self, i, **options: read.append(i) or original(self, i, **options)
    )
    rows = np.array([49, 0, 7, 48, 0])
    assert [example.messages[0]["content"] for example in table.examples(rows)] == [f"question {row}" for row in rows]
    assert sorted(read) == [0, 4]
    assert table.take(rows[:2]).examples(np.array([1]))[0].messages[1] == {"role": "assistant", "content": "answer 0"}


def test_text_cache_is_bounded(tmp_path, monkeypatch):
    monkeypatch.setattr("curricle.train.data.parquet.TEXT_CACHE_BYTES", 1)
    table = make_table(tmp_path, {"loss": np.arange(50.0)}, row_group_size=10)
    everything = table.examples(np.arange(50)[::-1].copy())
    assert [example.messages[0]["content"] for example in everything] == [
        f"question {row}" for row in range(49, -1, -1)
    ]
    assert len(table._files._text) == 1


def test_categories_are_sorted_and_null_is_the_last(tmp_path):
    table = make_table(tmp_path, {"topic": ["b", None, "a", "b"], "loss": [1.0, 2.0, 3.0, 4.0]})
    codes, names = table.category("topic")
    assert codes.tolist() == [1, 2, 0, 1]
    assert names == ["a", "b", "null"]


class TestDirectory:
    @pytest.fixture
    def scored(self, tmp_path):
        directory = tmp_path / "scored"
        (directory / "data").mkdir(parents=True)
        parts = [
            write_table(
                directory / "data" / f"part-{i}.parquet", {"loss": [3.0 - i, 1.0]}, fingerprint="f" * 32, first=2 * i
            )
            for i in range(2)
        ]
        manifest_of(directory, parts)
        return directory, parts

    def test_opens_in_the_order_of_the_manifest(self, scored):
        directory, parts = scored
        table = open_table(directory)
        assert table.fingerprint == "f" * 32
        assert table.numbers("loss").tolist() == [3.0, 1.0, 2.0, 1.0]
        manifest_of(directory, parts[::-1])
        assert open_table(directory).numbers("loss").tolist() == [2.0, 1.0, 3.0, 1.0]
        assert open_table(directory).digest != table.digest

    def test_no_manifest_is_not_whole(self, scored):
        directory, _ = scored
        (directory / "manifest.json").unlink()
        with pytest.raises(UsageError, match="not a finished table"):
            open_table(directory)

    @pytest.mark.parametrize("path", ["../outside.parquet", "/etc/passwd", "data\\..\\x", ""])
    def test_hostile_path(self, scored, path):
        directory, parts = scored
        manifest_of(directory, parts, path=path)
        with pytest.raises(UsageError, match="leaves the directory"):
            open_table(directory)

    def test_a_link_that_leads_out(self, scored):
        directory, parts = scored
        outside = directory.parent / "outside.parquet"
        os.replace(parts[0], outside)
        parts[0].symlink_to(outside)
        with pytest.raises(UsageError, match="leads out of the directory"):
            open_table(directory)

    def test_a_part_that_is_cut_short_absent_or_foreign(self, scored):
        directory, parts = scored
        whole = parts[1].read_bytes()
        parts[1].write_bytes(whole[:-10])
        with pytest.raises(UsageError, match="promises"):
            open_table(directory)
        parts[1].unlink()
        with pytest.raises(UsageError, match="is absent"):
            open_table(directory)
        write_table(parts[1], {"loss": [1.0, 2.0]}, fingerprint="e" * 32)
        manifest_of(directory, parts)
        with pytest.raises(UsageError, match="one fingerprint"):
            open_table(directory)

    def test_garbage_with_the_right_size(self, scored):
        directory, parts = scored
        open_table(directory)  # what was read once is read again where it has changed
        parts[0].write_bytes(b"\0" * parts[0].stat().st_size)
        with pytest.raises(UsageError, match="SHA-256"):
            open_table(directory)


def test_an_old_path_and_a_file_that_is_not_parquet(tmp_path):
    with pytest.raises(UsageError, match="no such file"):
        open_table(tmp_path / "absent")
    (tmp_path / "x.parquet").write_text("hello")
    with pytest.raises(UsageError):
        open_table(tmp_path / "x.parquet")


@pytest.mark.parametrize("column", ["example_id", "messages"])
def test_a_file_that_nobody_signed_with_a_damaged_page(tmp_path, column):
    path = write_table(tmp_path / "own.parquet", {"loss": [2.0, 1.0]})
    footer = pq.read_metadata(path).row_group(0)
    chunks = [footer.column(index) for index in range(footer.num_columns)]
    start = next(chunk.dictionary_page_offset for chunk in chunks if chunk.path_in_schema.startswith(column))
    whole = path.read_bytes()
    path.write_bytes(whole[:start] + bytes(byte ^ 255 for byte in whole[start : start + 20]) + whole[start + 20 :])
    if column == "example_id":
        with pytest.raises(UsageError, match=r"own\.parquet: cannot be read: "):
            open_table(path)
    else:  # texts are read when they are asked for
        table = open_table(path)
        assert table.order("loss", 0).tolist() == [1, 0]
        with pytest.raises(UserError, match=r"own\.parquet: cannot be read: "):
            table.examples(np.array([0]))


def test_real_scores(shared_data, tmp_path):
    source = pq.read_table(shared_data / "oracles" / "alpaca_opt350m_by_index.parquet")
    name = next(name for name in source.column_names if name.lower().endswith("p0") or "0" in name)
    ids = [hashlib.blake2b(str(row).encode(), digest_size=16).hexdigest() for row in range(source.num_rows)]
    pq.write_table(pa.table({"example_id": ids, "p0": source[name]}), tmp_path / "alpaca.parquet")
    order = open_table(tmp_path / "alpaca.parquet").order("p0:high", 0)
    values = source[name].to_numpy()
    assert order[0] == 18304  # a perplexity of 1: the row whose response was cut away entirely
    assert (np.diff(values[order]) >= 0).all()


HOSTILE = {
    "the conversation is null": (None, None),
    "a turn has no role or no content": ([None], None),
    "extra is no JSON object, and is left out": ([{"role": "user", "content": "a"}], "[" * 10**5),
}


@pytest.mark.parametrize("remark", HOSTILE)
def test_what_is_no_conversation_or_no_object_is_said(remark, tmp_path):
    """Parquet that anybody may have written: nothing in it is a traceback."""
    turns, extra = HOSTILE[remark]
    good = [{"role": "user", "content": "q"}, {"role": "assistant", "content": None}]
    rows = {
        "example_id": ["a", "b", "c"],
        "messages": [turns, good, good[:1]],
        "extra": [extra, None, '{"input": "i"}'],
    }
    pq.write_table(pa.table(rows), tmp_path / "own.parquet")
    bad, null, fine = open_table(tmp_path / "own.parquet").examples(np.arange(3))
    assert bad.remark == remark and bad.extra is None
    assert null.remark == "a turn has no role or no content" and null.messages == []
    assert (fine.messages, fine.extra, fine.remark) == (good[:1], '{"input": "i"}', None)


@pytest.mark.parametrize("extra", ["nothing", "1", '"{}"', "null", '{"a": '])
def test_an_extra_that_is_no_object_is_left_out(extra):
    assert Example.of([{"role": "user", "content": "a"}], extra).extra is None
    assert Example.of([{"role": "user", "content": "a"}], {"input": "a struct"}).remark


def test_messages_that_are_no_turns_are_refused(tmp_path):
    pq.write_table(pa.table({"example_id": ["a", "b"], "messages": ["x", "y"]}), tmp_path / "own.parquet")
    with pytest.raises(UsageError, match="column 'messages' holds string"):
        open_table(tmp_path / "own.parquet").examples(np.arange(2))
