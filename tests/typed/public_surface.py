"""Every public function as users write it: `make check` reads this with mypy --strict, and nothing runs it."""

from pathlib import Path
from typing import assert_type

import apache_beam as beam
import pyarrow as pa
from curricle import curate, pipelines, train
from curricle.curate.batch import Batch, Scores
from curricle.curate.formats import Conversation, Fields, Format
from curricle.curate.metric import Metric
from curricle.curate.passes import LOSS
from curricle.curate.proxy.settings import ProxySettings
from curricle.curate.report.difference import Difference
from curricle.curate.report.transfer import Comparison
from curricle.pipelines.commands.run import StepResult
from curricle.schemas.columns import ScoreColumn
from curricle.schemas.manifest import Manifest, read_manifest
from curricle.schemas.verify import Verification
from curricle.schemas.verify import verify as recount


def a_metric() -> Metric:
    column = ScoreColumn("surprises", pa.int32(), "tokens", "tokens that cost more than ten nats", hard="high")

    def compute(batch: Batch) -> Scores:
        return Scores({column.name: pa.array([answer.count for answer in LOSS.of(batch)], column.type)})

    return Metric("surprises", version=1, columns=(column,), compute=compute, requires=frozenset({LOSS}))


def a_format() -> Format:
    def read(record: Fields) -> Conversation:
        return Conversation([("user", str(record["q"])), ("assistant", str(record["a"]))])

    return Format("qa", "q, a", lambda record: "q" in record, read)


class Counter(curate.Progress):
    def __init__(self) -> None:
        self.rows = 0

    def add(self, *, rows: int = 0, rejects: int = 0, tokens: int = 0, in_hand: float = 0.0) -> None:
        self.rows += rows


def curation(folder: Path) -> None:
    examples, rejects = curate.read("alpaca.jsonl")
    read = curate.read([folder / "a.jsonl", folder / "b.psv"], readers=["./my_psv.py:PSV"], progress=Counter())
    assert_type(read, curate.Read)
    curate.read([{"q": "Hi?", "a": "Hello."}], format=a_format(), source="memory")
    curate.read(folder, prompt_field="q", response_field="a", max_record_bytes=1 << 20)
    table = curate.score(examples, ["length", "loss", a_metric()], proxy="smollm2-135m")
    curate.score(table, ["embedding"], proxy=ProxySettings(max_length=512), embedding={"model": "minilm"})
    print(rejects["reason"].to_pylist())


def in_beam() -> None:
    with beam.Pipeline() as pipeline:
        conversations = pipeline | beam.Create([{"q": "Hi?", "a": "Hello."}])  # type: ignore[no-untyped-call]
        scored = conversations | pipelines.Score(["loss"], proxy="org/name", format=a_format(), into="scores")
        print(scored)


def commands(folder: Path) -> None:
    manifest = pipelines.score([folder / "a.jsonl"], folder / "scored", metrics=["mtld"], proxy="org/name", workers=2)
    assert_type(manifest, Manifest)
    assert_type(pipelines.add(folder, ["mattr"], output="more", proxy={"max_length": 512}), Manifest)
    assert_type(pipelines.select(folder, "hard", take="hard", by="loss", fraction=0.5), Manifest)
    parts = pipelines.split(folder, "sets", {"train": 0.9, "judging": "1/10"}, by="near_duplicates", threshold=0.7)
    assert_type(parts, dict[str, Manifest])
    assert_type(pipelines.check_selection("hard", table=folder), list[str])
    assert_type(pipelines.concat(["first", folder], "both", columns=["loss"]), Manifest)
    assert_type(pipelines.diff("first", folder, output="changes"), Difference)
    assert_type(pipelines.cluster(folder, "clustered", k=10, leave_out=[folder / "judging"]), Manifest)
    assert_type(pipelines.lp(folder, "lp", epochs=2, proxy={"max_length": 512}), Manifest)
    assert_type(pipelines.reward(folder, "rewarded", reward={"l2": 2.0}), Manifest)
    assert_type(pipelines.transfer([folder, "other"], "transfer", columns=["loss"]), list[Comparison])
    assert_type(pipelines.verify(folder), Verification)
    assert_type(pipelines.report(folder), str)
    assert_type(pipelines.status(folder), list[str])
    assert_type(pipelines.run(folder / "pipeline.yaml", dry_run=True), list[StepResult])
    assert_type(recount(folder), Verification)
    assert_type(read_manifest(folder).total.scored, int)


def training(folder: Path) -> None:
    table = train.open_table(folder)
    assert_type(table, train.Table)
    assert_type(train.order(table, curriculum="competence", by="loss"), train.Order)
    assert_type(train.run(folder, "smollm2-135m", "run", budget={"samples": 64}, curriculum="random"), Path)
    assert_type(train.report("run"), Path)
    assert_type(train.compare(folder, "smollm2-135m", "compared", arms=["random", "campus"], jobs=2), Path)
    train.compare(folder, "smollm2-135m", "compared", eval={"data": {"code": "c"}}, average="row", tuning_seeds=2)
    train.verify("run")
    train.plan(folder, "plan", curriculum="random")
    train.hold_out(table, 10)
