"""What others see of a job while it runs: `curricle status`, and a file for Prometheus."""

import json
import os
import signal
from pathlib import Path

from clusters import until_true
from prometheus_client.parser import text_string_to_metric_families
from running import curricle, start, write_jsonl

OPTIONS = ("--metrics", "mtld,mattr", "--shard-rows", 200, "--prometheus-file", "job.prom")


def figures(path: Path) -> dict[str, float]:
    return {family.name: family.samples[0].value for family in text_string_to_metric_families(path.read_text())}


def test_a_job_is_followed_from_its_start_to_its_end(alpaca_rows, tmp_path):
    assert "no job here" in curricle("status", "out", cwd=tmp_path, code=2)
    write_jsonl(tmp_path / "in.jsonl", [*alpaca_rows(3999), {"no": "format"}])
    process = start("score", "in.jsonl", "--output", "out", *OPTIONS, cwd=tmp_path)
    receipts = tmp_path / "out" / "_progress" / "receipts"
    until_true(lambda: (receipts.is_dir() and any(receipts.iterdir())) or process.poll() is not None, "a shard is done")
    message = curricle("status", "out", cwd=tmp_path)
    os.killpg(process.pid, signal.SIGKILL)
    process.communicate()
    killed = curricle("status", "out", cwd=tmp_path)
    assert "no such process on this machine" in killed and "at work" not in killed, killed
    assert f"process {process.pid} on" in message and "at work" in message, message
    assert "of 20 shards are finished" in message and "of 4,000 rows" in message and "left" in message
    now = figures(tmp_path / "job.prom")
    assert now["curricle_records"] == 4000 and 0 <= now["curricle_records_done"] < 4000

    holder = tmp_path / "out" / "_progress" / "holder.json"
    silent = {**json.loads(holder.read_text()), "seen": "2020-01-01T00:00:00Z"}
    holder.write_text(json.dumps(silent))
    assert "no sign of life" in curricle("status", "out", cwd=tmp_path)
    holder.unlink()  # as a job that was asked to stop leaves it
    assert "nobody works on it" in curricle("status", "out", cwd=tmp_path)

    curricle("score", "in.jsonl", "--output", "out", *OPTIONS, cwd=tmp_path)
    assert "finished, 4,000 records in 20 shards" in curricle("status", "out", cwd=tmp_path)
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
