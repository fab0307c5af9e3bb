"""``--dry-run``: what a command would do and take, with the errors of the real one, and not a byte below its output."""

import re
from pathlib import Path
from types import SimpleNamespace

import pytest
from curricle.pipelines.commands.score import outlook
from curricle.pipelines.scoring import estimate
from curricle.pipelines.settings.score import ScoreSettings
from curricle.pipelines.tables.reader import TableReader
from curricle.schemas.chat import cards
from curricle.schemas.common.dry_run import Interval
from running import curricle, in_process_of_its_own, read_data, write_jsonl


def files(directory: Path) -> dict[str, tuple[int, float]]:
    return {str(path): (path.stat().st_size, path.stat().st_mtime_ns) for path in sorted(directory.rglob("*"))}


@pytest.fixture
def folder(alpaca_rows, tmp_path):
    write_jsonl(tmp_path / "in.jsonl", alpaca_rows(40))
    return tmp_path


def test_a_job_that_is_not_begun(folder):
    before = files(folder)
    lines = curricle("score", "in.jsonl", "--output", "out", "--metrics", "mtld,length", "--dry-run", cwd=folder)
    assert files(folder) == before
    assert "1 file, 40 records" in lines and "1 shard\n" in lines and "nothing was written" in lines
    assert re.search(
        r"tokens: [\d,]+ to [\d,]+ in the rows to score, as the proxy reads them, by a sample of 40", lines
    )
    assert re.search(r"time: .* length, mtld, measured here", lines) and re.search(r"memory: about [\d.]+ [MG]B", lines)


def test_the_tokens_are_those_of_the_table(folder):
    lines = curricle("score", "in.jsonl", "--output", "out", "--metrics", "length", "--dry-run", cwd=folder)
    low, high = (int(text.replace(",", "")) for text in re.search(r"tokens: ([\d,]+) to ([\d,]+)", lines).groups())
    curricle("score", "in.jsonl", "--output", "out", "--metrics", "length", cwd=folder)
    table = read_data(folder / "out")
    tokens = sum(table["prompt_tokens"].to_pylist()) + sum(table["response_tokens"].to_pylist())
    assert low < tokens < high  # every row was sampled: the mean is theirs


def test_a_model_is_asked_as_in_the_job(folder, tiny_model):
    options = ("--metrics", "loss,ifd,embedding", "--proxy.model", tiny_model, "--embedding.model", "proxy")
    lines = curricle("score", "in.jsonl", "--output", "out", *options, "--dry-run", cwd=folder)
    assert "loss, ifd, embedding, measured here" in lines and not (folder / "out").exists()


def test_time_is_of_all_workers_that_the_job_starts_and_of_one_elsewhere(folder, tiny_model):
    arguments = ("score", "in.jsonl", "--output", "out", "--workers", 2, "--dry-run", "--engine", "dask")
    alone = "time: that is of one worker"
    assert alone not in curricle(*arguments, "--metrics", "mtld", cwd=folder)
    assert alone in curricle(*arguments, "--metrics", "mtld", "--engine-address", "tcp://a:1", cwd=folder)
    if not cards.count():
        options = ("--metrics", "loss", "--proxy.model", tiny_model)
        assert "2 workers here share the same cores" in curricle(*arguments, *options, cwd=folder)


def test_what_is_finished_is_kept_and_said(folder, score_first_shard):
    arguments = ("score", "in.jsonl", "--output", "out", "--metrics", "mtld", "--shard-rows", 15)
    score_first_shard(*arguments, cwd=folder)
    before = files(folder)
    lines = curricle(*arguments, "--dry-run", cwd=folder)
    assert "1 of 3 shards are finished and kept; 25 records are left" in lines and files(folder) == before
    curricle(*arguments, cwd=folder)
    before = files(folder)
    assert "already scored, nothing to do" in curricle(*arguments, "--dry-run", cwd=folder) and files(folder) == before


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["nowhere.jsonl", "--output", "out"], "there is no such file"),
        (["in.jsonl", "--output", "other"], "holds other files"),
        (["in.jsonl", "--output", "out", "--metrics", "mltd"], "'mtld'"),
        (["in.jsonl", "--output", "out", "--proxy.model", "nothing"], "no directory and no hub id"),
    ],
)
def test_errors_are_those_of_the_job(folder, options, words):
    (folder / "other").mkdir()
    (folder / "other" / "file").touch()
    messages = [curricle("score", *options, *dry, cwd=folder, code=2) for dry in ([], ["--dry-run"])]
    assert messages[0] == messages[1] and words in messages[0]


def test_a_table_that_grows(folder, alpaca_rows):
    curricle("score", "in.jsonl", "--output", "out", "--metrics", "mtld", cwd=folder)
    write_jsonl(folder / "more.jsonl", alpaca_rows(60)[40:])
    before = files(folder)
    grow = ("score", "in.jsonl", "more.jsonl", "--output", "out", "--append", "--dry-run", "--metrics")
    lines = curricle(*grow, "mtld", cwd=folder)
    assert "40 records are in the table" in lines and "added to those" not in lines and "sample of 20 rows" in lines
    lines = curricle(*grow, "+length", cwd=folder)
    assert "added to those: prompt_words" in lines and "length, measured here by a sample of 40 rows" in lines
    reuse = ("score", "more.jsonl", "in.jsonl", "--output", "new", "--reuse", "out", "--metrics", "mtld")
    lines = curricle(*reuse, "--dry-run", cwd=folder)
    assert re.search(r"reuse: \d+ of \d+ sampled rows are in out", lines) and files(folder) == before


def test_rejects_in_the_sample_are_said(folder):
    write_jsonl(folder / "in.jsonl", [{"instruction": "a", "output": "b"}, {"nothing": 1}] * 4)
    lines = curricle("score", "in.jsonl", "--output", "out", "--metrics", "mtld", "--dry-run", cwd=folder)
    assert "4 of 8 sampled records are no example" in lines


@pytest.mark.parametrize("metric", ["mtld", "length"])
def test_a_sample_of_rejects_alone(folder, metric):
    write_jsonl(folder / "in.jsonl", [{"prompt": 5, "completion": "b"}, {"prompt": None, "completion": "b"}])
    lines = curricle("score", "in.jsonl", "--output", "out", "--metrics", metric, "--dry-run", cwd=folder)
    assert "2 of 2 sampled records are no example" in lines and "time and memory: unknown" in lines


def test_columns_that_would_be_added(folder):
    curricle("score", "in.jsonl", "--output", "scored", "--metrics", "mtld", cwd=folder)
    before = files(folder)
    add = ("add", "scored", "--metrics", "mattr,mtld", "--dry-run")
    for more in ((), ("--output", "more")):
        lines = curricle(*add, *more, cwd=folder)
        assert "added: prompt_mattr, response_mattr, to 40 rows" in lines and "time: " in lines
    assert files(folder) == before
    assert "nothing to do" in curricle("add", "scored", "--metrics", "mtld", "--dry-run", cwd=folder)
    curricle(*add[:-1], "--output", "more", cwd=folder)
    assert "already there" in curricle(*add, "--output", "more", cwd=folder)
    assert "holds something else" in curricle(
        "add", "scored", "--metrics", "msttr", "--output", "more", "--dry-run", cwd=folder, code=2
    )


def test_learning_percentages(folder, tiny_model):
    curricle("score", "in.jsonl", "--output", "scored", "--metrics", "mtld", cwd=folder)
    before = files(folder)
    options = ("--epochs", 2, "--batch-size", 8, "--proxy.model", tiny_model, "--proxy.max-length", 128)
    lines = in_process_of_its_own("lp", "scored", "--output", "learned", *options, "--dry-run", cwd=folder)
    assert "training: 2 epochs of 40 rows" in lines and "optimizer steps: 10 of 8 rows" in lines
    assert "scoring: by the model before training and its 2 checkpoints" in lines and "loss, measured here" in lines
    assert files(folder) == before
    message = in_process_of_its_own("lp", "scored", "--output", "in.jsonl", *options, "--dry-run", cwd=folder, code=2)
    assert "is a file" in message


def test_rewards(folder, tiny_model):
    curricle("score", "in.jsonl", "--output", "scored", "--metrics", "mtld", cwd=folder)
    before = files(folder)
    options = ("--proxy.model", tiny_model, "--proxy.max-length", 128, "--proxy.generation.max-new-tokens", 4)
    lines = curricle("reward", "scored", "--output", "rewarded", *options, "--dry-run", cwd=folder)
    assert "added: generated, " in lines and "generated, measured here" in lines and "fitting: " in lines
    assert files(folder) == before


def test_what_is_imported_once_is_no_part_of_a_row(folder, monkeypatch):
    """The first row that is read takes an hour, by a clock of its own; 40 others a second each."""
    settings = ScoreSettings(inputs=(str(folder / "in.jsonl"),), output=str(folder / "out"), metrics=("mtld",))
    it = outlook(settings)
    clock, first = [0.0], estimate._first

    def slow(job, shard, rows):
        clock[0] += rows if clock[0] else 3600
        return first(job, shard, rows)

    with monkeypatch.context() as patch:
        patch.setattr(estimate.time, "monotonic", lambda: clock[0])
        patch.setattr(estimate, "_first", slow)
        sampled = estimate.sample(it.job, it.pending)
    assert sampled.seconds == 64 and len(sampled.examples) == 40, "as many were asked of the one shard as of eight"


def test_numbers_as_a_person_reads_them():
    assert Interval(1234.5, 1999).count == "1,200 to 2,000" and Interval(7, 7).count == "7"
    assert Interval(0.1, 90).time == "1 s to 90 s" and Interval(7200, 14400).time == "2 hours to 4 hours"
    assert (Interval(1, 2) * 3 + Interval(1, 1)) == Interval(4, 7)


def test_what_a_sample_says_of_the_whole():
    assert Interval.of_mean([]) == Interval(0, 0) and Interval.of_mean([5]) == Interval(0, 10)
    assert Interval.of_mean([2, 4, 4, 6]).low == pytest.approx(4 - (8 / 3) ** 0.5)
    assert Interval.of_mean([1, 100]).low == 0, "there are no fewer tokens than none"
    assert Interval.of_parts([1.4, 2.0]) == Interval(1.4 / 1.4, 2.0 * 1.4)


def test_the_time_to_read_a_row_group_is_that_of_all_its_rows(alpaca_rows, tmp_path, monkeypatch):
    """64 rows of a group of 200 take 64 seconds, if the group takes 200."""
    write_jsonl(tmp_path / "in.jsonl", alpaca_rows(200))
    curricle("score", "in.jsonl", "--output", "out", "--metrics", "mtld", cwd=tmp_path)
    clock = iter((0.0, 200.0))
    monkeypatch.setattr(estimate, "time", SimpleNamespace(monotonic=lambda: next(clock)))
    sampled = estimate.sample_of_table(TableReader(str(tmp_path / "out")), 1000)
    assert (len(sampled.examples), sampled.rows, sampled.seconds) == (64, 1000, 64.0)
