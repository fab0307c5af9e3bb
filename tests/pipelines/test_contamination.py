"""`curricle contamination` on real questions: what is planted is found, and what is clean is not."""

import json
from pathlib import Path

import pytest
from browser import check_inert, faults
from curricle.pipelines.functions import contamination, verify
from running import curricle, read_data

GSM8K = Path(__file__).resolve().parents[3] / "shared/data/gsm8k/train.jsonl"
pytestmark = pytest.mark.skipif(not GSM8K.exists(), reason="the questions of GSM8K are not here")


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """A benchmark of 100 questions, and 60 rows of others, into which four of its texts are planted."""
    folder = tmp_path_factory.mktemp("contamination")
    records = [json.loads(line) for line in GSM8K.read_text("utf-8").splitlines()[:160]]
    tests, rows = [*records[:99], {"question": records[99]["question"], "answer": "42"}], records[100:]
    question = tests[7]["question"]
    rows[3] = tests[5]
    rows[11] = {"question": f"Please solve this: {question} <script>alert(1)</script>", "answer": "?"}
    rows[20] = {"question": "Is this right?", "answer": tests[9]["answer"]}
    rows[33] = {"question": question.replace(question.split()[0], "Somebody", 1), "answer": "?"}
    for name, these in (("gsm8k_test.jsonl", tests), ("rows.jsonl", rows)):
        (folder / name).write_text("".join(json.dumps(row) + "\n" for row in these), "utf-8")
    curricle("score", folder / "rows.jsonl", "--output", folder / "scored", "--metrics", "mtld")
    run = ("contamination", folder / "scored", "--against", folder / "gsm8k_test.jsonl", "--output", folder / "marked")
    return folder, run, curricle(*run)


def test_planted_rows_are_found_and_clean_ones_are_not(files):
    folder, _, output = files
    table = read_data(folder / "marked")
    assert "gsm8k_test.jsonl: 1 text with fewer than 8 words, not looked for" in output
    assert "4 of 60 rows hold a text of a benchmark" in output
    assert [row for row, flag in enumerate(table["contaminated"].to_pylist()) if flag] == [3, 11, 20, 33]
    assert table["contamination_overlap"].to_pylist()[3] == 1
    notes = [[note for note in texts or () if note.startswith("contaminated")] for texts in table["notes"].to_pylist()]
    assert notes[3] == ["contaminated: exact of gsm8k_test.jsonl position 5"]
    assert notes[11] == ["contaminated: run of words of gsm8k_test.jsonl position 7"]
    assert not verify(folder / "marked").faults
    figures = json.loads((folder / "marked/contamination.json").read_text())
    assert figures["kinds"]["exact"] == 2 and sum(figures["kinds"].values()) == 4 == figures["contaminated"]
    (benchmark,) = figures["benchmarks"]
    assert (benchmark["file"], benchmark["rows"], benchmark["texts_in_rows"]) == ("gsm8k_test.jsonl", 4, 3)


def test_the_function_makes_the_same(files):
    folder = files[0]
    contamination(folder / "scored", folder / "again", folder / "gsm8k_test.jsonl")
    assert read_data(folder / "again").equals(read_data(folder / "marked"))


def test_a_selection_leaves_them_out(files):
    folder = files[0]
    curricle("select", folder / "marked", "--where", "not contaminated", "--output", folder / "clean")
    ids = read_data(folder / "marked")["example_id"].to_pylist()
    assert read_data(folder / "clean")["example_id"].to_pylist() == [
        each for row, each in enumerate(ids) if row not in (3, 11, 20, 33)
    ]


def test_again_it_is_there_and_of_another_benchmark_it_is_not(files):
    folder, run, _ = files
    assert "already there" in curricle(*run)
    (folder / "renamed.jsonl").write_bytes((folder / "gsm8k_test.jsonl").read_bytes())
    assert "already there" in curricle(*run[:3], folder / "renamed.jsonl", *run[4:]), "a benchmark is known by content"
    (folder / "other.jsonl").write_text('{"q": "A question of nine words that is not in it at all"}\n')
    assert "--overwrite" in curricle(*run[:3], folder / "other.jsonl", *run[4:], code=2)


def test_a_text_of_two_benchmarks_counts_for_both(files):
    folder = files[0]
    copies = [folder / "one" / "test.jsonl", folder / "two" / "test.jsonl"]
    for path in copies:
        path.parent.mkdir()
        path.write_bytes((folder / "gsm8k_test.jsonl").read_bytes())
    against = ",".join(map(str, copies))
    curricle("contamination", folder / "scored", "--against", against, "--output", folder / "twice")
    first, second = json.loads((folder / "twice/contamination.json").read_text())["benchmarks"]
    assert (first.pop("file"), second.pop("file")) == ("one/test.jsonl", "two/test.jsonl")
    assert first == second and (first["rows"], first["texts_in_rows"]) == (4, 3)


def test_its_page_is_inert_and_legible(files):
    page = files[0] / "marked/contamination.html"
    check_inert(page.read_text("utf-8"))
    assert "&lt;script&gt;" in page.read_text("utf-8")
    assert faults(page) == []
