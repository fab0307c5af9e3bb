"""While a model is busy with one shard the next one is read and rendered: one ahead, in order, and no more."""

import signal
from pathlib import Path

import pytest
from clusters import until_true
from running import curricle, in_process_of_its_own, read_data, start, write_jsonl

SHARDS, ROWS = 5, 3
METRIC = f'''
import time
from dataclasses import dataclass
from pathlib import Path
import pyarrow as pa
from curricle.curate.batch import Scores
from curricle.curate.metric import Metric
from curricle.curate.passes import LikelihoodPass, RenderPass
from curricle.schemas.columns import ScoreColumn
from curricle.schemas.common.errors import UserError

EVENTS, BAD, SLOW = (Path(__file__).with_name(name) for name in ("events", "bad", "slow"))
LAST = {SHARDS - 1}


def note(what, batch):
    """A line for what is done; and with which shard."""
    shard = int(batch.table["messages"][0][0]["content"].as_py()) // {ROWS}
    with EVENTS.open("a") as file:
        file.write(f"{{what}} {{shard}}\\n")
    return shard


@dataclass(frozen=True)
class Rendering(RenderPass):
    def conversations(self, batch):
        shard = note("render", batch)
        if BAD.exists() and shard == 2:
            raise UserError("cannot be rendered", where=f"shard {{shard}}")
        while SLOW.exists() and shard == 1:
            time.sleep(0.05)
        return super().conversations(batch)


def compute(batch):
    """Of each row the tokens that are scored, as soon as the next shard is being rendered."""
    shard, until = note("measure", batch), time.monotonic() + 600
    while shard != LAST and f"render {{shard + 1}}" not in EVENTS.read_text().splitlines():
        assert time.monotonic() < until, "the next shard is not rendered meanwhile"
        time.sleep(0.02)
    return Scores({{"scored": pa.array([each.count for each in LOSS.of(batch)], pa.int32())}})


LOSS = LikelihoodPass("of_mine", requires=(Rendering("mine"),))
COLUMN = ScoreColumn("scored", pa.int32(), "tokens", "tokens that are scored", hard="high")
METRIC = Metric("scored", 1, (COLUMN,), compute, frozenset({{LOSS}}))
'''


@pytest.fixture
def job(tiny_model: Path, tmp_path: Path) -> tuple[object, ...]:
    """A command whose metric writes down what is done in which order."""
    (tmp_path / "my.py").write_text(METRIC)
    rows = range(SHARDS * ROWS)
    write_jsonl(tmp_path / "in.jsonl", [{"prompt": str(row), "completion": "yes " * (1 + row)} for row in rows])
    options = ("--metrics", "./my.py:METRIC", "--proxy.model", tiny_model, "--shard-rows", ROWS)
    return ("score", "in.jsonl", "--output", "out", *options)


def events(directory: Path) -> list[str]:
    return (directory / "events").read_text().splitlines()


def receipts(directory: Path) -> list[str]:
    return sorted(path.stem for path in (directory / "out/_progress/receipts").glob("*.json"))


def test_one_shard_is_rendered_ahead_and_never_two(job, tmp_path):
    curricle(*job, cwd=tmp_path)
    order = events(tmp_path)
    for what in ("render", "measure"):
        assert [line for line in order if line.startswith(what)] == [f"{what} {shard}" for shard in range(SHARDS)]
    for shard in range(SHARDS - 2):
        # the chain is through with a shard before the one after the next begins
        assert order.index(f"measure {shard}") < order.index(f"render {shard + 2}")
    scored = read_data(tmp_path / "out").select(["source_position", "scored"]).to_pylist()
    assert [row["source_position"] for row in scored] == [*range(SHARDS * ROWS)]
    assert [row["scored"] for row in scored] == sorted({row["scored"] for row in scored})  # the longer, the more


def test_what_is_wrong_with_the_next_shard_is_its_own_and_the_one_at_work_is_finished(job, tmp_path):
    (tmp_path / "bad").write_text("")
    log = curricle(*job, cwd=tmp_path, code=1)
    assert "shard 2: cannot be rendered" in log and "Traceback" not in log
    done = receipts(tmp_path)
    assert len(done) == 2 and "measure 1" in events(tmp_path) and "render 3" not in events(tmp_path)
    (tmp_path / "bad").unlink()
    log = curricle(*job, cwd=tmp_path)
    assert "2 of 5 shards were finished before" in log
    assert read_data(tmp_path / "out").num_rows == SHARDS * ROWS


def test_a_job_that_is_asked_to_stop_does_not_wait_for_the_shard_ahead(job, tmp_path):
    (tmp_path / "slow").write_text("")
    process = start(*job, cwd=tmp_path)
    until_true(lambda: receipts(tmp_path), "the first shard is finished")
    process.send_signal(signal.SIGTERM)
    output, _ = process.communicate(timeout=300)
    assert process.returncode == 1 and "asked to stop: 1 of 5 shards are finished, 4 are left" in output
    assert "Traceback" not in output
    (tmp_path / "slow").unlink()
    curricle(*job, cwd=tmp_path)
    assert read_data(tmp_path / "out").num_rows == SHARDS * ROWS


def test_shards_whose_scores_are_copied_load_no_model(job, tmp_path):
    curricle(*job, cwd=tmp_path)
    (tmp_path / "events").unlink()
    arguments = [each if each != "out" else "again" for each in job]
    log = in_process_of_its_own(*arguments, "--reuse", "out", cwd=tmp_path)
    assert "reuse out: copied: scored" in log and not (tmp_path / "events").exists()
    assert read_data(tmp_path / "again").equals(read_data(tmp_path / "out"))
