"""The benchmark: ratios to other programs and to the machine, side by side in one run.

    make bench [ROWS=P1,P2] [DATA=../shared/data]

Each row runs in a process of its own, which leaves OUTPUT/P1.json; then comes one table, as text, JSON and a picture.
"""

import argparse
import importlib
import json
import subprocess
import sys
import tempfile
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parents[1]))

from harness import read, write  # noqa: E402
from machine import describe  # noqa: E402
from report import draw, table  # noqa: E402

ROWS = {
    "P1": "p1_mtld",
    "P2": "p2_loss",
    "P3": "p3_vllm",
    "P4": "p4_jobs",
    "P5": "p5_training",
    "P6": "p6_probes",
    "P7": "p7_planning",
    "P8": "p8_start",
    "P12": "p12_driver",
}


def measure(row: str, output: Path, data: Path) -> None:
    """Run one row here."""
    with tempfile.TemporaryDirectory() as path:
        write(output / f"{row}.json", importlib.import_module(ROWS[row]).measure(Path(path), data))


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", default=",".join(ROWS))
    parser.add_argument("--output", type=Path, default=Path("bench"))
    parser.add_argument("--data", type=Path, default=HERE.parents[2] / "shared" / "data")
    parser.add_argument(
        "--alone", action="store_true", help="run the one row in this process, and write its JSON alone"
    )
    options = parser.parse_args()
    rows = options.rows.split(",")
    if unknown := set(rows) - ROWS.keys():
        parser.error(f"unknown rows: {', '.join(sorted(unknown))}")
    output = options.output.resolve()
    output.mkdir(parents=True, exist_ok=True)
    if options.alone:
        measure(*rows, output, options.data.resolve())
        return 0
    machine = describe()
    failed = []
    for row in rows:
        print(f"{row} …", flush=True)
        command = [sys.executable, HERE, "--rows", row, "--output", output, "--data", options.data, "--alone"]
        if subprocess.run(list(map(str, command))).returncode:
            failed.append(row)
    comparisons = [each for row in rows if row not in failed for each in read(output / f"{row}.json")]
    machine_words = ", ".join(f"{name} {value}" for name, value in machine.items())
    text = f"{table(comparisons)}\n\n{machine_words}\n"
    (output / "table.md").write_text(text)
    results = [{**vars(each), "ratio": each.ratio, "met": each.met} for each in comparisons]
    (output / "bench.json").write_text(json.dumps({"machine": machine, "comparisons": results}, indent=1) + "\n")
    draw(comparisons, f"{machine['processor']}, {machine['cores']} cores", output / "bench.png")
    print(text + f"\n{output}/bench.json, bench.png, table.md")
    if failed:
        print(f"these rows failed: {', '.join(failed)}")
    return bool(failed)


if __name__ == "__main__":
    sys.exit(main())
