"""`pipelines.Score` in pipelines of a user's own: the numbers of `curricle score`, and no record lost."""

import json
import random
from collections import Counter

import apache_beam as beam
import numpy as np
import pyarrow as pa
import pytest
from apache_beam.options.pipeline_options import PipelineOptions
from apache_beam.testing.util import assert_that
from clusters import beam_service
from curricle import curate, pipelines
from curricle.schemas.common.errors import UsageError
from curricle.schemas.table import read_file_metadata, score_columns
from running import curricle, read_data, write_jsonl

METRICS = ["length", "mtld", "loss"]
EXACT = ("prompt_words", "response_words", "prompt_tokens", "response_tokens", "prompt_mtld", "response_mtld")
FIELDS = (*EXACT, "loss", "loss_tokens", "truncated", "notes")
BAD = {"title": "no conversation"}
WORDS = "why is the sky blue because light of short waves scatters more than light of long ones"


def conversations(count: int = 200) -> list[dict]:
    draw = random.Random(1)
    words = WORDS.split()

    def text():
        return " ".join(draw.choices(words, k=draw.randint(0, 40)))

    rows = [
        {"key": row, "instruction": text(), "output": text()}
        if row % 3
        else {"key": row, "messages": [{"role": "user", "content": text()}, {"role": "assistant", "content": text()}]}
        for row in range(count - 2)
    ]
    return [*rows, {"key": count - 2, **BAD}, {"key": count - 1, "prompt": 3, "completion": "b"}]


@pytest.fixture(scope="module")
def expected(tiny_model, tmp_path_factory):
    """The rows of `curricle score` on the same records, by key, and the reasons of its rejects."""
    folder = tmp_path_factory.mktemp("beam")
    path = write_jsonl(folder / "in.jsonl", conversations())
    options = ("--proxy.model", tiny_model, "--proxy.max-length", 40)
    curricle("score", path, "--output", folder / "out", "--metrics", ",".join(METRICS), *options)
    table = read_data(folder / "out").to_pylist()
    return {json.loads(row["extra"])["key"]: row for row in table}, curate.read(path).rejects.to_pylist()


def check(scored: list[dict], expected) -> None:
    rows, rejects = expected
    assert Counter(each["key"] for each in scored) == Counter(range(200))
    assert sum(each["truncated"] or False for each in scored) > 10 and len(rejects) == 2
    options = {each["key"]: each for each in conversations()}
    reasons = {reject["source_position"]: reject["reason"] for reject in rejects}
    for each in scored:
        key = each["key"]
        assert {name: value for name, value in each.items() if name not in FIELDS} == options[key]
        if key in reasons:
            assert each["notes"] == [reasons[key]] and {each[name] for name in FIELDS[:-1]} == {None}
            continue
        assert all(each[name] == rows[key][name] for name in (*EXACT, "loss_tokens", "truncated", "notes"))
        assert each["loss"] == (None if rows[key]["loss"] is None else pytest.approx(rows[key]["loss"], rel=2e-6))


def run(folder, tiny_model, *options: str) -> list[dict]:
    with beam.Pipeline(options=PipelineOptions(list(options))) as pipeline:
        (
            pipeline
            | beam.Create(conversations())
            | pipelines.Score(METRICS, proxy={"model": str(tiny_model), "max_length": 40})
            | beam.Map(json.dumps)
            | beam.io.WriteToText(str(folder / "scored"))
        )
    return [json.loads(line) for path in sorted(folder.glob("scored*")) for line in path.read_text().splitlines()]


def test_dicts_on_the_local_runner(expected, tiny_model, tmp_path):
    check(run(tmp_path, tiny_model, "--runner=FnApiRunner"), expected)


def test_dicts_on_the_portable_runner_with_two_workers(expected, tiny_model, tmp_path):
    with beam_service(tmp_path / "service") as options:
        flags = dict(zip(options[::2], options[1::2], strict=True))
        check(
            run(
                tmp_path,
                tiny_model,
                "--runner=PortableRunner",
                f"--job_endpoint={flags['--engine-address']}",
                "--environment_type=EXTERNAL",
                f"--environment_config={flags['--beam.environment_config']}",
            ),
            expected,
        )


def scored_by(elements: list, check, **options) -> None:
    with beam.Pipeline("FnApiRunner") as pipeline:
        scored = pipeline | beam.Create(elements) | pipelines.Score(["mtld"], **options)
        assert_that(scored, check)


def test_arrow_in_is_arrow_out_with_signed_columns():
    examples, _ = curate.read(conversations(30))
    records = pa.Table.from_pylist([{"prompt": "a b c", "completion": "b"}, {"prompt": None, "completion": "b"}])
    batch = records.to_batches()[0]
    alone = curate.score(examples, ["mtld"])

    def right(scored):
        as_examples, as_table, as_batch = sorted(
            scored, key=lambda each: (-len(each), isinstance(each, pa.RecordBatch))
        )
        assert as_examples.equals(alone)
        assert type(as_table) is pa.Table and type(as_batch) is pa.RecordBatch
        assert as_table.equals(pa.Table.from_batches([as_batch]))
        assert as_table.select(["prompt", "completion"]).equals(records)
        assert as_table.schema.names == ["prompt", "completion", "prompt_mtld", "response_mtld", "notes"]
        assert as_table["prompt_mtld"].to_pylist() == [3.0, None] and as_table["notes"][1].as_py()
        assert score_columns(as_table.schema)["prompt_mtld"].metric == "mtld"
        assert read_file_metadata(as_table.schema) == read_file_metadata(alone.schema) != {}

    scored_by([examples, records, batch], right)


def test_a_field_of_the_records_own_is_never_written_over():
    records = [{"prompt": "a", "completion": "b", "notes": "mine"}]

    def right(scored):
        (each,) = scored
        assert each["notes"] == "mine" and {*each["scores"]} == {"prompt_mtld", "response_mtld", "notes"}

    scored_by(records, right, into="scores")
    with pytest.raises(Exception, match=r"a record has a field 'notes' of its own(.|\n)*into=\"scores\""):
        scored_by(records, lambda scored: None)


def test_arrays_among_the_fields_are_read_as_lists_and_come_out_as_they_are():
    turns = np.array([{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}], object)
    records = [{"id": 0, "messages": turns}, {"id": 1, "prompt": "a", "completion": np.zeros(2)}]

    def right(scored):
        good, bad = sorted(scored, key=lambda each: each["id"])
        assert good["response_mtld"] is not None and isinstance(good["messages"], np.ndarray)
        assert bad["response_mtld"] is None and bad["notes"] == ["'completion' is a list, not text"]

    scored_by(records, right)


def test_an_element_of_another_kind_is_named():
    with pytest.raises(Exception, match="an element is int"):
        scored_by([3], lambda scored: None)


def test_names_are_resolved_where_the_pipeline_is_built():
    with pytest.raises(UsageError, match="unknown metric"):
        pipelines.Score(["los"])
    with pytest.raises(UsageError, match="unknown format"):
        pipelines.Score(["mtld"], format="alpacca")
