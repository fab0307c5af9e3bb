"""Where a job without a model spends its time: seconds of the processor for each row, by stage, of this machine.

    .venv/bin/python tests/benchmarks/stages.py ../shared/data/alpaca/alpaca_46k.jsonl

docs/scale.md multiplies them. Everything is done once before with the first rows, so that no stage has what is imported
once.
"""

import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import islice
from pathlib import Path

import pyarrow as pa
from curricle.curate.readers.inputs import find_inputs
from curricle.pipelines.functions import score, verify
from curricle.pipelines.scoring.plan import survey_inputs
from curricle.pipelines.tables.directory import OutputDirectory
from curricle.pipelines.tables.reader import TableReader
from curricle.pipelines.tables.writer import write_parts
from harness import processor_seconds

FEW = 64
TIMES = 10
"""How often the rows are put together, after one another, so that there are several parts."""


def stages(source: Path, folder: Path) -> dict[str, float]:
    """Seconds of all processes and threads, by stage; and how many ``rows`` and ``bytes`` the file has."""
    seconds_by_stage: dict[str, float] = {}

    @contextmanager
    def stage(name: str) -> Iterator[None]:
        began = processor_seconds()
        yield
        seconds_by_stage[name] = processor_seconds() - began

    table, size = folder / "table", source.stat().st_size
    with stage("survey"):
        files, _ = find_inputs([str(source)])
        (surveyed,) = survey_inputs(files, None, (), 4096, 1 << 24, 500, lambda _: 0.0)
    with stage("survey, score with length and mtld, and write"):
        score(source, table, metrics=["length", "mtld"], overwrite=True)
    groups = [*TableReader(str(table)).groups()]
    with stage("put together"):
        _put_together(folder / "again", groups)
    with stage("verify"):
        assert not verify(table).faults
    seconds_by_stage["put together"] /= TIMES
    return {**seconds_by_stage, "rows": surveyed.records, "bytes": size}


def _put_together(path: Path, groups: list[pa.Table]) -> None:
    directory = OutputDirectory(str(path))
    with directory.held() as run:
        write_parts(directory, run, "data", (group for _ in range(TIMES) for group in groups), groups[0].schema)


def main(path: str) -> None:
    with tempfile.TemporaryDirectory() as folder, open(path, "rb") as rows:
        first = Path(folder, "first.jsonl")
        first.write_bytes(b"".join(islice(rows, FEW)))
        stages(first, Path(folder, "few"))
        seconds_by_stage = stages(Path(path), Path(folder, "all"))
    rows, size = seconds_by_stage.pop("rows"), seconds_by_stage.pop("bytes")
    print(f"{rows:,} rows, {size / rows:.0f} bytes each")
    for name, seconds in seconds_by_stage.items():
        print(f"{name}: {seconds:.2f} s, {1e6 * seconds / rows:.1f} µs a row")
    print(f"survey: {size / seconds_by_stage['survey'] / 1e6:.0f} MB/s")


if __name__ == "__main__":
    main(sys.argv[1])
