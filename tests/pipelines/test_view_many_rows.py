"""`curricle view` leafs through many rows in a real browser: in a soak a million, whose times are printed.

CURRICLE_SOAK=1 python -m pytest -n 0 -s tests/pipelines/test_view_many_rows.py
"""

import hashlib
import json
import random
import signal
import statistics
import subprocess
import sys
from itertools import islice
from pathlib import Path

import drawn
import numpy as np
import psutil
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from browser import chromium
from curricle.schemas.manifest import MANIFEST, Part
from running import start
from table_maker import make_table, random_scores

ROWS = drawn.amount(5_000, 1_000_000)
OTHERS = drawn.amount(1, 15)
"""Pages of each list, beside its first and its last."""
REPOSITORY = Path(__file__).resolve().parents[2]
ALPACA, SAMPLE = REPOSITORY.parent / "shared/data/alpaca/alpaca_46k.jsonl", REPOSITORY / "tests/data/sample.jsonl"

LEAF_THROUGH = """
import json, sys, time
import psutil
from playwright.sync_api import sync_playwright
address, chromium, process, visits = *sys.argv[1:4], json.loads(sys.argv[4])
cpu = lambda: sum(psutil.Process(int(process)).cpu_times()[:2])

with sync_playwright() as playwright:
    browser = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
    page = browser.new_page()
    page.set_default_timeout(300_000)
    for path in visits:
        before, began = cpu(), time.monotonic()
        page.goto(address + path)
        seconds, spent = time.monotonic() - began, cpu() - before
        heads = page.locator("tbody tr th").all_inner_texts()
        print(json.dumps([heads, page.inner_text("main"), seconds, spent]), flush=True)
    browser.close()
"""


def cpu(process: int) -> float:
    """Seconds that a process has had of the processors."""
    times = psutil.Process(process).cpu_times()
    return float(times.user + times.system)


def many_rows(directory: Path) -> tuple[Path, dict[str, np.ndarray], list[str]]:
    """A table of the same conversations over and over, each row with a position and a loss of its own; what sorts its
    rows, and their texts.
    """
    path = ALPACA if ALPACA.exists() else SAMPLE
    with path.open(encoding="utf-8") as file:
        records = [json.loads(line) for line in islice(file, ROWS)]
    dialogues = [
        [("user", f"{record['instruction']}\n{record['input']}"), ("assistant", record["output"])] for record in records
    ]
    scores = random_scores(len(records))
    few = make_table(directory / "few", scores, rows=len(records), dialogues=dialogues)
    small = pq.read_table(directory / "few" / few.data[0].path)
    losses = np.random.default_rng(0).random(ROWS)
    part = directory / "many" / few.data[0].path
    part.parent.mkdir(parents=True)
    with pq.ParquetWriter(part, small.schema) as writer:
        for first in range(0, ROWS, len(small)):
            group = small.slice(0, ROWS - first)
            for name, values in (("source_position", np.arange(ROWS)), ("loss", losses)):
                at = group.schema.get_field_index(name)
                group = group.set_column(at, group.schema.field(at), pa.array(values[first : first + len(group)]))
            writer.write_table(group)
    with part.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    data = [Part(path=few.data[0].path, rows=ROWS, bytes=part.stat().st_size, sha256=digest)]
    total = few.total.model_copy(update={"read": ROWS, "scored": ROWS})
    manifest = few.model_copy(update={"data": data, "total": total})
    (directory / "many" / MANIFEST).write_text(json.dumps(manifest.model_dump()))
    columns = {"loss": losses, "prompt_words": np.resize(scores["prompt_words"], ROWS)}
    return directory / "many", columns, ["\n".join(text for _, text in dialogue) for dialogue in dialogues]


def test_many_rows_are_sorted_filtered_searched_counted_and_paged_in_a_browser(tmp_path):
    if chromium() is None:
        pytest.skip("no Chromium is installed: apt-get install chromium")
    directory, columns, texts = many_rows(tmp_path)
    losses, words = columns["loss"], columns["prompt_words"]
    lists = {("the table", "?by="): np.arange(ROWS)}
    for by, values in columns.items():
        lists["a new order", f"?by={by}"] = np.argsort(values, kind="stable")
        lists["a new order", f"?by={by}&high=1"] = np.argsort(-values, kind="stable")
    for most in (0.1, 0.5, 0.9):
        chosen = np.flatnonzero((losses < most) & (words >= 12))
        address = f"?by=loss&where=loss+%3C+{most}+and+prompt_words+%3E%3D+12"
        lists["a new condition", address] = chosen[np.argsort(losses[chosen], kind="stable")]
    for word in ("SKY", "computer", "garden"):
        holds = np.resize([word.lower() in text.lower() for text in texts], ROWS)
        lists["a new text", f"?search={word}"] = np.flatnonzero(holds)
    draw = random.Random(0)
    visits = []
    for (kind, address), rows in lists.items():
        last = -(-len(rows) // 25)
        assert last, address
        for turn, number in enumerate([1, last, *(draw.randint(1, last) for _ in range(OTHERS))]):
            shown = rows[25 * (number - 1) : 25 * number]
            what = "another page" if turn else kind
            visits.append((what, f"{address}&page={number}", shown.tolist(), f"of {len(rows):,} that were found"))
    for row in (0, ROWS - 1, *(draw.randrange(ROWS) for _ in range(OTHERS))):
        visits.append(("a row", f"row/{row}", None, texts[row % len(texts)].split()[0]))

    process = start("view", directory)
    try:
        address = next(line for line in process.stdout if line.startswith("look at")).split()[2]
        ready = cpu(process.pid)
        paths = json.dumps([path for _, path, _, _ in visits])
        script = [sys.executable, "-c", LEAF_THROUGH, address, chromium() or "", str(process.pid), paths]
        done = subprocess.run(script, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
    finally:
        process.send_signal(signal.SIGINT)
        rest = process.stdout.read()
        assert process.wait(60) == 0 and not rest, rest
    took: dict[str, list[tuple[float, float]]] = {}
    answers = map(json.loads, done.stdout.splitlines())
    for (kind, path, wanted, words_on_it), (heads, text, *seconds) in zip(visits, answers, strict=True):
        assert wanted is None or [int(head.replace(",", "")) for head in heads] == wanted, path
        assert words_on_it in text, (path, text[:300])
        took.setdefault(kind, []).append(tuple(seconds))
    print(f"\n{ROWS:,} rows: ready after {ready:.1f} s of CPU")
    for kind, each in took.items():
        seconds, spent = zip(*each, strict=True)
        print(
            f"{kind}: median {statistics.median(seconds):.2f} s, at most {max(seconds):.2f} s of {len(each)}; of the "
            f"server's CPU {statistics.median(spent):.2f} s, at most {max(spent):.2f} s"
        )
