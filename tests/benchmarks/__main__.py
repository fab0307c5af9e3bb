"""The benchmark: ratios to other programs and to the machine, side by side in one run.

    make bench [ROWS=P1,P2] [AGAIN=1] [DATA=../shared/data]
    make bench PAGE=1       # what was measured, put into docs/benchmarks.md

Each row runs in a process of its own, which leaves OUTPUT/P1.json; a second run goes on with the rows that are not
there yet or were measured by other code, in the order in which ROWS has them. After each comes one table of all that
are there, as text, JSON and a picture.

    bench/env/bin/python tests/benchmarks --share 0.01    # everything once, on few rows: does it run? In OUTPUT/try
"""

import argparse
import importlib
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE))
sys.path.insert(0, str(HERE.parents[1]))

from harness import ROUNDS, Comparison, Finding, Setting, put, read, write  # noqa: E402
from machine import REPOSITORY, commit, describe, is_code_of, minute  # noqa: E402

ROWS = {
    "P1": "p1_mtld",
    "P2": "p2_loss",
    "P3": "p3_vllm",
    "P4": "p4_jobs",
    "P5": "p5_training",
    "P6": "p6_probes",
    "P7": "p7_planning",
    "P8": "p8_start",
    "P9": "p9_earlier",
    "P10": "p10_default",
    "P11": "p11_ifd",
    "P12": "p12_driver",
}
PAGE = REPOSITORY / "docs" / "benchmarks.md"
EVIDENCE = REPOSITORY / "docs" / "evidence" / "benchmarks.json"
"""What the page is written from."""


def measure(row: str, output: Path, data: Path, share: float) -> None:
    """Run one row here, and write what came of it."""
    head = {"row": row, "commit": commit(), "began": minute(), "share": share, "machine": describe()}
    clock = time.monotonic()
    with tempfile.TemporaryDirectory() as path:
        setting = Setting(Path(path), data, output, share, ROUNDS if share == 1 else 1)
        findings = importlib.import_module(ROWS[row]).measure(setting)
    minutes = round((time.monotonic() - clock) / 60, 1)
    write(results_in(output, share) / f"{row}.json", {**head, "minutes": minutes}, findings)


def results_in(output: Path, share: float) -> Path:
    """A folder for what was measured. A try has its own, and replaces no measurement."""
    folder = output if share == 1 else output / "try"
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def is_there(row: str, output: Path, share: float) -> bool:
    """Whether this code has measured the row already; unknown code is measured again."""
    path = results_in(output, share) / f"{row}.json"
    if not path.exists():
        return False
    head, _ = read(path)
    return head["share"] == share and is_code_of(head["commit"])


def collect(results: Path) -> tuple[list[dict], list[Finding]]:
    measured = [read(path) for row in ROWS if (path := results / f"{row}.json").exists()]
    return [head for head, _ in measured], [finding for _, findings in measured for finding in findings]


def summarise(output: Path) -> str:
    """The table of what is there, as text, JSON and a picture; and as the text that it returns."""
    from report import draw, machine_in_words, table

    heads, findings = collect(output)
    if not heads:
        return ""
    text = f"{table(findings)}\n\n{machine_in_words(heads)}\n"
    (output / "table.md").write_text(text)
    comparisons = [each for each in findings if isinstance(each, Comparison)]
    results = [{**vars(each), "ratio": each.ratio, "met": each.met} for each in comparisons]
    (output / "bench.json").write_text(json.dumps({"rows": heads, "comparisons": results}, indent=1) + "\n")
    machine = heads[0]["machine"]
    draw(comparisons, f"{machine['processor']}, {machine['cores']} cores", output / "bench.png")
    return text + f"\n{output}/bench.json, bench.png, table.md"


def write_evidence(rows: list[str], output: Path) -> None:
    """Put the rows that are there beside the page, instead of the same rows of earlier runs, and write the page."""
    from report import write_page

    earlier = json.loads(EVIDENCE.read_text()) if EVIDENCE.exists() else {}
    measured = {row: json.loads(path.read_text()) for row in rows if (path := output / f"{row}.json").exists()}
    together = earlier | measured
    evidence = {row: together[row] for row in ROWS if row in together}
    put(EVIDENCE, json.dumps(evidence, indent=1) + "\n")
    write_page(PAGE, EVIDENCE)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", default=",".join(ROWS))
    parser.add_argument("--output", type=Path, default=Path("bench"))
    parser.add_argument("--data", type=Path, default=HERE.parents[2] / "shared" / "data")
    parser.add_argument("--share", type=float, default=1.0, help="of the rows, in one round: to see that all runs")
    parser.add_argument("--again", action="store_true", help="measure rows again that are there")
    parser.add_argument("--page", action="store_true", help="measure nothing: write docs/benchmarks.md")
    parser.add_argument(
        "--alone", action="store_true", help="run the one row in this process, and write its JSON alone"
    )
    options = parser.parse_args()
    rows = options.rows.split(",")
    if unknown := set(rows) - ROWS.keys():
        parser.error(f"unknown rows: {', '.join(sorted(unknown))}")
    output = options.output.resolve()
    results = results_in(output, options.share)
    if options.alone:
        measure(*rows, output, options.data.resolve(), options.share)
        return 0
    if options.page:
        write_evidence(rows, output)
        return 0
    failed = []
    for row in rows:
        if not options.again and is_there(row, output, options.share):
            print(f"{row} is there", flush=True)
            continue
        print(f"{row} …", flush=True)
        command = [sys.executable, HERE, "--rows", row, "--output", output, "--data", options.data, "--alone"]
        if subprocess.run(list(map(str, [*command, "--share", options.share]))).returncode:
            failed.append(row)
        summarise(results)
    print(summarise(results))
    if failed:
        print(f"these rows failed: {', '.join(failed)}")
    return bool(failed)


if __name__ == "__main__":
    sys.exit(main())
