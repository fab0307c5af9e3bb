"""Scoring and training on a GPU: whether they are equal to what they are elsewhere, and how fast they are.

    make gpu [DEVICE=cpu] [CHECKS=scores,training]

Each check runs in a process of its own, with a time of its own, and leaves OUTPUT/NAME.jsonl; whatever fails, the
others go on. At the end there is one table, and OUTPUT/gpu.json with it. The exit code is 1 if something failed.
With ``--device cpu`` the same is done on a CPU by a tiny model.
"""

import argparse
import contextlib
import json
import math
import os
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import asdict
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE), str(HERE.parent)]

from checks import CHECKS, PARTS, REPOSITORY, SCALES, Context, Line, function_of, hide_devices, lines_of, write_lines  # noqa: E402
from verdicts import failed, table  # noqa: E402

LOG_LINES = 3
SECONDS = 540
"""For all checks together, on a GPU. A CPU may be as slow as it is."""


def measure(name: str, options: argparse.Namespace) -> int:
    """Run one check in this process."""
    if options.device == "cpu":
        hide_devices()
    context = Context(options.device, SCALES[options.scale], options.output, name)
    write_lines(context, function_of({**CHECKS, **PARTS}[name])(context))
    return 0


def run_apart(name: str, options: argparse.Namespace, seconds: float) -> list[dict]:
    """Run one check in a process of its own, for at most so long. Its lines, and one more if it failed."""
    command = [sys.executable, HERE, "--alone", name, "--output", options.output, "--device", options.device]
    log = options.output / f"{name}.log"
    began = time.monotonic()
    with log.open("w") as file:
        child = subprocess.Popen(
            [*map(str, command), "--scale", options.scale], stdout=file, stderr=file, start_new_session=True
        )
        try:
            code = child.wait(None if seconds == math.inf else seconds)
        except subprocess.TimeoutExpired:
            code = None
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(child.pid, signal.SIGKILL)  # and what it started
            child.wait()
    lines = lines_of(options.output / f"{name}.jsonl")
    if code == 0:
        return lines
    words = "took longer than it may" if code is None else f"ended with {code}"
    last = " / ".join(line.strip() for line in log.read_text(errors="replace").splitlines()[-LOG_LINES:])
    took = f"{time.monotonic() - began:.0f}"
    return [*lines, asdict(Line(f"the check {words}", took, "s", f"{seconds:.0f} s", False, f"{last} ({log.name})"))]


def describe() -> dict[str, object]:
    """The machine, the versions and the commit that the figures are of."""
    sys.path.append(str(HERE.parent / "benchmarks"))
    from machine import describe

    code = (
        "import json, torch; on = torch.cuda.is_available(); print(json.dumps({'cuda': torch.version.cuda, 'gpus': ["
        "[torch.cuda.get_device_name(n), torch.cuda.get_device_properties(n).total_memory] "
        "for n in range(torch.cuda.device_count() if on else 0)]}))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    gpus = json.loads(done.stdout) if done.returncode == 0 else {"torch": done.stderr.strip().splitlines()[-1:]}
    driver = _output("nvidia-smi", "--query-gpu=driver_version,clocks.max.sm", "--format=csv,noheader")
    commit = _output("git", "-C", REPOSITORY, "rev-parse", "HEAD")
    return {**describe(), **gpus, "driver and clock": driver, "commit": commit or os.environ.get("CURRICLE_COMMIT", "")}


def _output(*command: object) -> str:
    try:
        return subprocess.run([*map(str, command)], capture_output=True, text=True, timeout=20).stdout.strip()
    except (OSError, subprocess.TimeoutExpired):
        return ""


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", choices=("cuda", "cpu"), default=os.environ.get("CURRICLE_DEVICE", "cuda"))
    parser.add_argument("--scale", choices=[*SCALES], help="how much work; left out: full on a GPU, tiny on a CPU")
    parser.add_argument("--checks", default=",".join(CHECKS))
    parser.add_argument("--output", type=Path, default=Path("gpu"))
    parser.add_argument("--seconds", type=float, help=f"for all checks together; left out: {SECONDS} on a GPU")
    parser.add_argument("--alone", help="run this check in this process, and write its lines alone")
    options = parser.parse_args()
    if options.seconds is None:
        options.seconds = SECONDS if options.device == "cuda" else math.inf
    options.scale = options.scale or {"cuda": "full", "cpu": "tiny"}[options.device]
    options.output = options.output.resolve()
    if options.alone:
        return measure(options.alone, options)
    names = options.checks.split(",")
    if unknown := set(names) - CHECKS.keys():
        parser.error(f"unknown checks: {', '.join(sorted(unknown))}; there are {', '.join(CHECKS)}")
    options.output.mkdir(parents=True, exist_ok=True)
    for name in names:
        (options.output / f"{name}.jsonl").unlink(missing_ok=True)
    shutil.rmtree(options.output / "work", ignore_errors=True)
    deadline = time.monotonic() + options.seconds
    machine, results = describe(), {}
    if options.device == "cuda" and not machine.get("gpus"):
        remedy = "make gpu DEVICE=cpu tries the same on a CPU"
        print(f"torch has no GPU here ({machine.get('torch')}): {remedy}", file=sys.stderr)
        return 2
    for name in names:
        left = deadline - time.monotonic()
        if left < 1:
            results[name] = [asdict(Line("there was no time left for this check", "not begun", met=False))]
            continue
        print(f"{name} …", flush=True)
        results[name] = run_apart(
            name, options, min(left, CHECKS[name].seconds if options.device == "cuda" else math.inf)
        )
        print(table({name: results[name]}).partition("\n")[2].partition("\n")[2], flush=True)
        (options.output / "gpu.json").write_text(json.dumps({"machine": machine, "checks": results}, indent=1) + "\n")
    shutil.rmtree(options.output / "work", ignore_errors=True)
    text = f"{table(results)}\n\n{', '.join(f'{name} {value}' for name, value in machine.items())}\n"
    (options.output / "table.md").write_text(text)
    print(f"\n{text}\n{options.output}/gpu.json, table.md")
    if bad := failed(results):
        print(f"failed: {', '.join(bad)}")
    return bool(bad)


if __name__ == "__main__":
    sys.exit(main())
