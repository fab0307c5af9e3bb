"""`curate.score`: the bits of `curricle score`, in this process, whatever lies beside a row."""

import random

import pyarrow as pa
import pyarrow.compute as pc
import pytest
from curricle.curate import read as read_inputs
from curricle.curate import score as score_examples
from curricle.curate import scoring
from curricle.curate.batch import Scores
from curricle.curate.metric import Metric
from curricle.curate.proxy.settings import ProxySettings
from curricle.schemas.columns import ScoreColumn
from curricle.schemas.common.errors import UsageError, UserError
from curricle.schemas.table import read_file_metadata, score_columns
from running import curricle, read_data, write_jsonl

METRICS = ["length", "mtld", "loss", "ifd"]
WORDS = "why is the sky blue because light of short waves scatters more than light of long ones"


def records(count: int = 40) -> list[dict]:
    draw = random.Random(3)
    words = WORDS.split()
    texts = [" ".join(draw.choices(words, k=draw.randint(0, 60))) for _ in range(2 * count)]
    rows: list[dict] = [{"instruction": a, "output": b} for a, b in zip(texts[::2], texts[1::2], strict=True)]
    return [*rows, {"messages": "none"}, {"prompt": "a", "completion": "b", "images": []}]


@pytest.fixture(scope="module")
def job(tiny_model, tmp_path_factory):
    folder = tmp_path_factory.mktemp("scoring")
    path = write_jsonl(folder / "in.jsonl", records())
    options = ("--proxy.model", tiny_model, "--proxy.max-length", 48)
    curricle("score", path, "--output", folder / "out", "--metrics", ",".join(METRICS), *options)
    return path, read_data(folder / "out")


def test_the_same_bits_as_the_command(job, tiny_model):
    path, table = job
    examples, rejects = read_inputs(path)
    scored = score_examples(examples, METRICS, proxy={"model": str(tiny_model), "max_length": 48})
    assert scored.equals(table) and rejects.num_rows == 1
    assert scored.schema.equals(table.schema, check_metadata=True)
    assert pc.sum(scored["truncated"]).as_py() > 0 and scored["notes"].null_count < len(scored), "no idle comparison"


def test_no_number_depends_on_what_lies_beside_a_row(job, tiny_model, monkeypatch):
    path, table = job
    proxy = ProxySettings(model=str(tiny_model), max_length=48)
    examples, _ = read_inputs(path)
    order = list(range(len(examples)))
    random.Random(5).shuffle(order)
    monkeypatch.setattr(scoring, "ROWS", 7)
    shuffled = score_examples(examples.take(order), METRICS, proxy=proxy)
    assert_alike(shuffled, table.take(order))
    assert_alike(score_examples(examples.slice(3, 1), METRICS, proxy=proxy), table.slice(3, 1))


def assert_alike(one, other):
    """Equal, but for the rounding of the model's arithmetic over other rows."""
    for name in other.schema.names:
        if name.startswith(("loss", "ifd")) and name != "loss_tokens":
            assert one[name].is_null().equals(other[name].is_null()), name
            assert one[name].drop_null().to_pylist() == pytest.approx(other[name].drop_null().to_pylist(), rel=2e-6)
        else:
            assert one[name].equals(other[name]), name


def test_columns_are_signed_and_others_stay():
    examples, _ = read_inputs(records(5))
    mine = examples.append_column("topic", pa.array(["x"] * len(examples)))
    batch = mine.combine_chunks().to_batches()[0]
    scored = score_examples(batch, ["mtld"])
    assert scored.schema.names == [*examples.schema.names[:-1], "topic", "prompt_mtld", "response_mtld", "notes"]
    assert score_columns(scored.schema)["response_mtld"].metric == "mtld"
    assert read_file_metadata(scored.schema)["fingerprint"]
    with pytest.raises(UsageError, match="has a column 'prompt_mtld' already"):
        score_examples(scored, ["mtld"])
    with pytest.raises(UsageError, match=r"no column 'example_id'.*\n.*curate.read"):
        score_examples(pa.table({"messages": ["a"]}), ["mtld"])


def test_other_types_of_text_and_no_rows_are_scored_alike():
    import polars as pl

    examples, _ = read_inputs(records(5))
    expected = score_examples(examples, ["mtld"])
    assert score_examples(pl.from_arrow(examples).to_arrow(), ["mtld"]).equals(expected)  # type: ignore[union-attr]
    assert score_examples(examples.slice(0, 0), ["mtld"]).equals(expected.slice(0, 0))


def test_a_metric_of_ones_own():
    column = ScoreColumn("shouts", pa.int32(), "marks", "exclamation marks in the response", "high")

    def compute(batch):
        return Scores({"shouts": pa.array([text.count("!") for text in batch.responses], pa.int32())}, {0: ["first"]})

    examples, _ = read_inputs([{"prompt": "a", "completion": "b!!"}])
    scored = score_examples(examples, [Metric("shouts", 1, (column,), compute)])
    assert scored["shouts"].to_pylist() == [2] and scored["notes"].to_pylist() == [["first"]]


def test_a_metric_from_a_file_that_fails_is_named_with_the_file_and_the_rows(tmp_path):
    (tmp_path / "my.py").write_text(
        "import pyarrow as pa\n"
        "from curricle.curate.metric import Metric\n"
        "from curricle.schemas.columns import ScoreColumn\n"
        "def compute(batch):\n    return batch.nothing\n"
        "METRIC = Metric('mine', 1, (ScoreColumn('mine', pa.int32(), 'u', 'd'),), compute)\n"
    )
    path = write_jsonl(tmp_path / "in.jsonl", records(5)[:5])
    examples, _ = read_inputs(path)
    with pytest.raises(UserError, match=r"failed: AttributeError: .*nothing") as error:
        score_examples(examples, [f"{tmp_path}/my.py:METRIC"])
    assert error.value.where == f"metric {tmp_path}/my.py:METRIC, in.jsonl position 0 to 4"


@pytest.mark.parametrize(
    ("returned", "words"),
    [
        (None, "returned NoneType, not Scores"),
        (Scores({"mine": [1]}), "mine is a list, not an Arrow array"),  # type: ignore[dict-item]
        (Scores({"mine": pa.array([1], pa.int32())}, {1: ["late"]}), "a note for row 1 of 1"),
        (Scores({"mine": pa.array([1], pa.int32())}, {-1: ["last"]}), "a note for row -1 of 1"),
        (Scores({"mine": pa.array([1], pa.int32())}, {0: "why"}), "the notes of row 0 are 'why'"),
    ],
)
def test_what_a_metric_may_not_return_is_named(returned, words):
    examples, _ = read_inputs([{"prompt": "a", "completion": "b"}])
    column = ScoreColumn("mine", pa.int32(), "u", "d", None)
    with pytest.raises((TypeError, ValueError), match=words):
        score_examples(examples, [Metric("mine", 1, (column,), lambda batch: returned)])


def test_a_column_that_every_table_has_is_no_metrics_and_a_path_names_a_model(tiny_model):
    examples, _ = read_inputs([{"prompt": "a", "completion": "b"}])
    column = ScoreColumn("messages", pa.int32(), "u", "d", None)
    with pytest.raises(UsageError, match="a metric writes the column 'messages'"):
        score_examples(examples, [Metric("mine", 1, (column,), lambda batch: Scores({}))])
    one, other = (score_examples(examples, ["length"], proxy=model) for model in (tiny_model, str(tiny_model)))
    assert one.equals(other)


def test_what_counts_progress_hears_of_rows_and_tokens(job, tiny_model):
    class Counter:
        rows = tokens = 0

        def add(self, *, rows: int = 0, rejects: int = 0, tokens: int = 0, in_hand: float = 0.0) -> None:
            self.rows += rows
            self.tokens += tokens

    counter = Counter()
    examples, _ = read_inputs(job[0])
    score_examples(examples, ["loss"], proxy=str(tiny_model), progress=counter)
    assert counter.rows == len(examples) and counter.tokens > len(examples)


def test_unknown_names_are_refused_before_anything_is_loaded():
    examples, _ = read_inputs([])
    with pytest.raises(UsageError, match="unknown metric 'los'"):
        score_examples(examples, ["los"])
    with pytest.raises(UsageError, match=r"unknown option 'proxy\.modell'"):
        score_examples(examples, ["loss"], proxy={"modell": "x"})


def test_tables_of_others_are_read_and_scored_and_a_path_is_refused_in_words():
    import pandas
    import polars

    records = {"instruction": ["Add 2 and 2.", "Name a sea."], "output": ["It is 4, and not 5.", "The Baltic Sea."]}
    examples = read_inputs(polars.DataFrame(records)).examples
    assert examples.equals(read_inputs(pandas.DataFrame(records)).examples)
    assert examples.equals(read_inputs(pa.table(records)).examples) and len(examples) == 2
    by_name = score_examples(examples, ["mtld", "mattr"])
    assert score_examples(examples, "mtld,mattr").equals(by_name)
    assert score_examples(polars.from_arrow(examples), ["mtld", "mattr"]).equals(by_name)
    for wrong in ("data.jsonl", read_inputs(pa.table(records))):
        with pytest.raises(TypeError, match=r"not a table: curate.read"):
            score_examples(wrong, ["mtld"])
