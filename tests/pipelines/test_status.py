"""What others see of a job while it runs: `curricle status`, and a file for Prometheus."""

import json
import os
import signal
from dataclasses import replace
from pathlib import Path

from clusters import until_true
from curricle.pipelines.scoring import progress
from curricle.pipelines.scoring.snapshot import RECENT, Pace, Standing
from prometheus_client.parser import text_string_to_metric_families
from running import curricle, start, write_jsonl

OPTIONS = ("--metrics", "mtld,mattr", "--shard-rows", 200, "--prometheus-file", "job.prom")


def figures(path: Path) -> dict[str, float]:
    return {family.name: family.samples[0].value for family in text_string_to_metric_families(path.read_text())}


CODES = {"done": 0, "running": 10, "stopped": 11, "dead": 12}


def look(directory: Path, state: str) -> dict:
    """What a scheduler sees: an exit code, and one object."""
    (line,) = curricle("status", "out", "--json", cwd=directory, code=CODES[state]).splitlines()
    status = json.loads(line)
    assert status["state"] == state
    return status


def test_time_left_goes_by_recent_work():
    """A start-up of ten minutes counts for nothing, nor do short rows long ago."""
    now = Standing(records=1000, already=0, rows=0, rejects=0, tokens=0, phase="loading the model")
    pace = Pace()
    assert pace.see(0, now) == pace.see(600, now) == now
    assert "loading the model" in now.line() and "left" not in now.line() and "/s" not in now.line()
    first = pace.see(600, replace(now, rows=10, tokens=500))
    assert first.rate is None and first.seconds_left is None and first.phase is None
    second = pace.see(610, replace(now, rows=20, tokens=1500))
    assert (second.rate, second.unit, second.seconds_left) == (100, "tokens", 980)
    assert second.line() == "20 of 1,000 rows, 100 tokens/s, 0 rejects, about 16 min left"
    pace.see(660, replace(now, rows=500, tokens=2000))  # short ones
    slow = pace.see(660 + 2 * RECENT, replace(now, rows=512, tokens=26000))
    assert slow.rate == 24000 / (2 * RECENT) and slow.seconds_left == 488 * 2 * RECENT / 12
    rows = Pace()
    rows.see(5, replace(now, already=900, rows=1))
    assert (
        rows.see(6, replace(now, already=900, rows=51)).line()
        == "951 of 1,000 rows, 50 rows/s, 0 rejects, about 1 s left"
    )


def test_lines_are_json_with_figures_as_fields(alpaca_rows, tmp_path, monkeypatch):
    monkeypatch.setattr(progress, "LINE_EVERY", 0)
    write_jsonl(tmp_path / "in.jsonl", alpaca_rows(300))
    printed = curricle(
        "score", "in.jsonl", "--output", "out", "--metrics", "mtld", "--log-format", "json", cwd=tmp_path
    )
    lines = [json.loads(line) for line in printed.splitlines()]
    assert [line.get("phase") for line in lines if line.get("files") == 1][:1] == ["surveying"]
    together = next(line for line in lines if line.get("phase") == "putting the shards together")
    assert (together["records"], together["shards"]) == (300, 1)
    figures = next(line for line in lines if "records_done" in line)
    assert figures["records"] == 300 and 0 <= figures["records_done"] <= 300 and figures["rejects"] == 0
    assert {"level", "message", "time", "tokens", "rate", "unit", "seconds_left"} <= figures.keys()


def test_a_job_is_followed_from_its_start_to_its_end(alpaca_rows, tmp_path):
    assert "no job here" in curricle("status", "out", cwd=tmp_path, code=2)
    write_jsonl(tmp_path / "in.jsonl", [*alpaca_rows(3999), {"no": "format"}])
    process = start("score", "in.jsonl", "--output", "out", *OPTIONS, cwd=tmp_path)
    receipts = tmp_path / "out" / "_progress" / "receipts"
    until_true(lambda: (receipts.is_dir() and any(receipts.iterdir())) or process.poll() is not None, "a shard is done")
    message = curricle("status", "out", cwd=tmp_path)
    running = look(tmp_path, "running")
    os.killpg(process.pid, signal.SIGKILL)
    process.communicate()
    killed = curricle("status", "out", cwd=tmp_path)
    assert running["shards"] == 20 and running["records"] == 4000 and f"process {process.pid} on" in running["holder"]
    dead = look(tmp_path, "dead")
    assert dead["records_done"] == 200 * dead["shards_done"] > 0
    assert dead["rate"] is None and dead["seconds_left"] is None, "of what is dead nothing is to be expected"
    assert " left" not in killed and "/s" not in killed
    assert "no such process on this machine" in killed and "at work" not in killed, killed
    assert f"process {process.pid} on" in message and "at work" in message, message
    assert "of 20 shards are finished" in message and "of 4,000 rows" in message
    now = figures(tmp_path / "job.prom")
    assert now["curricle_records"] == 4000 and 0 <= now["curricle_records_done"] < 4000

    holder = tmp_path / "out" / "_progress" / "holder.json"
    silent = {**json.loads(holder.read_text()), "seen": "2020-01-01T00:00:00Z"}
    holder.write_text(json.dumps(silent))
    assert "no sign of life" in curricle("status", "out", cwd=tmp_path)
    holder.unlink()  # as a job that was asked to stop leaves it
    assert "nobody works on it" in curricle("status", "out", cwd=tmp_path)
    assert look(tmp_path, "stopped")["holder"] is None

    curricle("score", "in.jsonl", "--output", "out", *OPTIONS, cwd=tmp_path)
    assert "finished, 4,000 records in 20 shards" in curricle("status", "out", cwd=tmp_path)
    assert look(tmp_path, "done")["records_done"] == 4000
    now = figures(tmp_path / "job.prom")
    assert now["curricle_records_done"] == 4000 and now["curricle_records_rejected"] == 1
    assert now["curricle_proxy_tokens"] == 0


def test_a_file_for_prometheus_that_cannot_be_written_shows_before_any_work(tmp_path):
    write_jsonl(tmp_path / "in.jsonl", [{"prompt": "a", "completion": "b"}])
    options = ("--metrics", "mtld", "--prometheus-file", "absent/job.prom")
    message = curricle("score", "in.jsonl", "--output", "out", *options, cwd=tmp_path, code=1)
    assert "absent/job.prom" in message and "--prometheus-file" in message
    assert not list((tmp_path / "out").rglob("*.arrow"))


def test_a_holder_is_not_obeyed_by_the_terminal(tmp_path):
    write_jsonl(tmp_path / "in.jsonl", [{"prompt": "a", "completion": "b"}])
    curricle("score", "in.jsonl", "--output", "out", "--metrics", "mtld", cwd=tmp_path)
    (tmp_path / "out" / "manifest.json").unlink()
    now = "2020-01-01T00:00:00Z"
    holder = {"run": "r", "pid": 1, "host": "a\x1b[2J\nnobody works on it\x9b", "since": now, "seen": now}
    (tmp_path / "out" / "_progress" / "holder.json").write_text(json.dumps(holder))
    message = curricle("status", "out", cwd=tmp_path)
    assert "on a\\x1b[2J\\nnobody works on it\\x9b, since" in message and message.replace("\n", "").isprintable()
