"""Peak resident size and seconds of clusters and of selections that stand on vectors, at a million rows.

python tests/benchmarks/clustering.py [ROWS] [CLUSTERS]
"""

import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa
from curricle.curate.metrics.embedding import metric
from curricle.curate.passes.models import Models
from curricle.pipelines.tables.directory import OutputDirectory
from curricle.pipelines.tables.writer import GROUP_ROWS, write_parts
from curricle.schemas.columns import ScoreColumn
from curricle.schemas.contract import CONTRACT
from curricle.schemas.exchange import NEXT
from curricle.schemas.fingerprint import example_id
from curricle.schemas.identity import column_fingerprints, table_fingerprint, table_identity
from curricle.schemas.manifest import MANIFEST, Cost, Counts, Manifest, Source
from curricle.schemas.table import table_schema
from harness import usage_of
from jobs import CURRICLE

ROWS, CLUSTERS, DIMENSIONS, SOURCE = 1_000_000, 1000, 384, "synthetic.jsonl"
WORDS = [f"{a}{b}" for a in ("ba", "do", "ki", "lu", "me", "no", "ra", "su") for b in ("ta", "ri", "mo", "ne", "la")]


def tables(rows: int, clusters: int, schema: pa.Schema) -> Iterator[pa.Table]:
    draw = np.random.default_rng(0)
    centres = draw.normal(size=(clusters, DIMENSIONS)).astype(np.float32)
    for start in range(0, rows, GROUP_ROWS):
        count = min(GROUP_ROWS, rows - start)
        vectors = centres[draw.integers(0, clusters, count)] + draw.normal(size=(count, DIMENSIONS)).astype(np.float32)
        vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
        dialogues = [
            [("user", f"{start + row} {WORDS[row % len(WORDS)]}"), ("assistant", " ".join(words))]
            for row, words in enumerate(draw.choice(WORDS, (count, 20)))
        ]
        columns = {
            "example_id": [example_id(turns) for turns in dialogues],
            "source": [SOURCE] * count,
            "source_position": range(start, start + count),
            "messages": [[{"role": role, "content": text} for role, text in turns] for turns in dialogues],
            "extra": [None] * count,
            "lp_1": draw.random(count),
            "embedding": pa.ListArray.from_arrays(
                np.arange(0, vectors.size + 1, DIMENSIONS, np.int32), vectors.ravel(), schema.field("embedding").type
            ),
            "notes": [None] * count,
        }
        arrays = [pa.array(columns[field.name], field.type) for field in schema]
        yield pa.Table.from_arrays(arrays, schema=schema)


def write_table(path: Path, rows: int, clusters: int) -> None:
    lp = ScoreColumn("lp_1", pa.float64(), "ratio", "noise", "low").of_metric("lp", 1, {})
    columns = [lp, *metric("mean", 256, DIMENSIONS).signed_columns(Models())]
    identity = table_identity(columns)
    schema = table_schema(columns, table_fingerprint(identity))
    directory = OutputDirectory(str(path))
    with directory.held() as run:
        data = write_parts(directory, run, "data", tables(rows, clusters, schema), schema)
        for part in data:
            directory.storage.move(f"{NEXT}/{part.path}", part.path)
    counts = {"read": rows, "scored": rows, "rejected": 0}
    manifest = Manifest(
        contract=CONTRACT,
        fingerprint=table_fingerprint(identity),
        identity=identity,
        columns=column_fingerprints(identity),
        total=Counts(**counts),
        sources=[Source(source=SOURCE, bytes=0, sha256="0" * 64, **counts)],
        data=data,
        rejects=[],
        cost=Cost(seconds=0, tokens=0, created=""),
    )
    directory.write_json(MANIFEST, manifest.model_dump())


def measured(*arguments: object) -> None:
    """Run one command in a process of its own, and print what it took."""
    began = time.perf_counter()
    usage = usage_of(subprocess.Popen([*CURRICLE, *map(str, arguments)]))
    lines = " ".join(str(argument) for argument in arguments if "/" not in str(argument))
    size, seconds = usage.bytes / 2**20, time.perf_counter() - began
    print(f"{size:>9,.0f} MiB {seconds:>7,.0f} s {usage.seconds:>7,.0f} CPU s   curricle {lines}", flush=True)


def main() -> None:
    rows, clusters = [*map(int, sys.argv[1:]), *(ROWS, CLUSTERS)[len(sys.argv) - 1 :]]
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder)
        write_table(path / "table", rows, clusters)
        measured("cluster", path / "table", "--output", path / "clusters", "--k", clusters)
        select = ("select", path / "clusters", "--output")
        measured(*select, path / "low", "--take", "low", "--by", "lp_1", "--part", "1/20", "--per", "cluster")
        standing = ("--take", "representative", "--by", "embedding", "--fraction", 0.002, "--per", "cluster")
        measured("select", "--check", path / "low")
        measured(*select, path / "unlike", "--near-duplicates", 0.8)
        measured(*select, path / "standing", *standing)


if __name__ == "__main__":
    main()
