"""Columns that say which rows of a finished table hold texts of benchmarks."""

import logging
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from curricle.curate.contamination.benchmark import LONGEST, SHORTEST, Benchmark
from curricle.curate.contamination.search import KINDS, Match, search
from curricle.curate.readers import named_readers
from curricle.curate.readers.inputs import find_inputs
from curricle.curate.report.contamination import ShownMatch, contamination_page
from curricle.curate.selection.near_duplicates import WORDS
from curricle.curate.words import SEGMENTATION
from curricle.pipelines.settings.contamination import ContaminationSettings
from curricle.pipelines.tables.directory import OutputDirectory
from curricle.pipelines.tables.extend import Addition, extend, extending
from curricle.pipelines.tables.phase import enter
from curricle.pipelines.tables.provenance import provenance
from curricle.pipelines.tables.reader import TableReader
from curricle.schemas.columns import ScoreColumn
from curricle.schemas.common.wording import counted
from curricle.schemas.exchange import NEXT
from curricle.schemas.manifest import Manifest, read_manifest
from curricle.schemas.pages.excerpts import ShownExample
from curricle.schemas.sums import sha256_of
from curricle.schemas.table import NOTES_FIELD

log = logging.getLogger("curricle")

METRIC, VERSION = "contamination", 1
COLUMNS = (
    ScoreColumn(
        "contaminated", pa.bool_(), "flag", "holds a text of a benchmark: whole, a run of its words, or nearly"
    ),
    ScoreColumn(
        "contamination_overlap", pa.float64(), "share", "of a benchmark text's runs of words, those in the row"
    ),
)
FIGURES, PAGE = "contamination.json", "contamination.html"
SHOWN = 100
"""Rows on the page, and in the figures."""


def contamination(settings: ContaminationSettings) -> Manifest:
    """Write the table with the columns, ``contamination.json`` and ``contamination.html``, unless they are there.

    UsageError for benchmarks that cannot be read, and as for ``cluster``.
    """
    table, directory = TableReader(settings.table), OutputDirectory(settings.output)
    inputs, _ = find_inputs(settings.against, readers=named_readers((), settings.columns))
    files = {file.name: sha256_of(Path(file.path)) for file in inputs}
    params = {
        "against": sorted({*files.values()}),
        "columns": list(settings.columns),
        "near_duplicates": settings.near_duplicates,
        "words": {"run": LONGEST, "shortest": SHORTEST, "gram": WORDS, "segmentation": SEGMENTATION},
    }
    signed = [column.of_metric(METRIC, VERSION, params) for column in COLUMNS]
    names = [column.name for column in COLUMNS]
    with extending(table, settings.output, {METRIC: params}, settings.overwrite, names) as run:
        if run:
            benchmark = Benchmark.read(settings.against, settings.columns)
            total = table.manifest.total.scored
            words = f"looking for {len(benchmark.texts):,} texts in {total:,} rows"
            enter(directory, run, words, records=total)
            matches = _matches(table, benchmark, settings.near_duplicates)
            shown = _shown(table, benchmark, matches)
            figures = _figures(table, benchmark, matches, shown, files)
            directory.write_json(f"{NEXT}/{FIGURES}", figures)
            directory.write_text(f"{NEXT}/{PAGE}", contamination_page(figures, shown))
            log.info("%d of %d rows hold a text of a benchmark", len(matches), figures["rows"])
            addition = Addition(signed, lambda: _rows(table, benchmark, matches))
            extend(table, directory, run, addition, provenance(METRIC, settings, ["icu4py"], before=[table.manifest]))
    return read_manifest(directory.storage)


def _matches(table: TableReader, benchmark: Benchmark, threshold: float) -> dict[int, Match]:
    """What is found, by row."""
    matches: dict[int, Match] = {}
    row, total = 0, table.manifest.total.scored
    for name, texts in benchmark.short.items():
        log.info("%s: %s with fewer than %d words, not looked for", name, counted(texts, "text"), SHORTEST)
    for group in table.groups(["messages"]):
        for messages in group["messages"].to_pylist():
            if match := search(benchmark, [turn["content"] or "" for turn in messages or ()], threshold):
                matches[row] = match
            row += 1
        log.info("%s of %s rows, %s contaminated", f"{row:,}", f"{total:,}", f"{len(matches):,}")
    return matches


def _shown(table: TableReader, benchmark: Benchmark, matches: dict[int, Match]) -> list[ShownMatch]:
    """Examples for the page: of every kind, those with the largest overlap first."""
    largest = sorted(matches, key=lambda row: (KINDS.index(matches[row].kind), -matches[row].overlap, row))
    wanted = np.sort(np.array(largest[:SHOWN], np.int64))
    rows: dict[int, ShownExample] = {}
    for numbers, part in table.rows(wanted, ["example_id", "source", "source_position", "messages"]):
        rows |= {int(n): ShownExample.of(row) for n, row in zip(numbers, part.to_pylist(), strict=True)}
    return [ShownMatch(rows[row], matches[row], benchmark.texts[matches[row].text]) for row in largest[:SHOWN]]


def _figures(
    table: TableReader,
    benchmark: Benchmark,
    matches: dict[int, Match],
    shown: list[ShownMatch],
    files: dict[str, str],
) -> dict[str, Any]:
    """What ``contamination.json`` says; a text that several files have counts for each of them."""
    texts, texts_in_rows, rows = (
        Counter(source for text in numbers for source in benchmark.sources[text])
        for numbers in (
            range(len(benchmark.texts)),
            {match.text for match in matches.values()},
            [match.text for match in matches.values()],
        )
    )
    return {
        "rows": table.manifest.total.scored,
        "contaminated": len(matches),
        "kinds": {kind: sum(match.kind == kind for match in matches.values()) for kind in KINDS},
        "benchmarks": [
            {
                "file": name,
                "sha256": digest,
                "texts": texts[name],
                "too_short": benchmark.short.get(name, 0),
                "texts_in_rows": texts_in_rows[name],
                "rows": rows[name],
            }
            for name, digest in files.items()
        ],
        "first": [
            {
                "source": each.row.source,
                "source_position": each.row.position,
                "kind": each.match.kind,
                "overlap": each.match.overlap,
                "benchmark": each.text.source,
                "benchmark_position": each.text.position,
            }
            for each in shown
        ],
    }


def _rows(table: TableReader, benchmark: Benchmark, matches: dict[int, Match]) -> Iterator[pa.Table]:
    start = 0
    for group in table.groups(["example_id"]):
        mine = [matches.get(row) for row in range(start, start + group.num_rows)]
        start += group.num_rows
        values = [[match is not None for match in mine], [match.overlap if match else 0.0 for match in mine]]
        for column, cells in zip(COLUMNS, values, strict=True):
            group = group.append_column(column.name, pa.array(cells, column.type))
        notes = [[_note(benchmark, match)] if match else None for match in mine]
        yield group.append_column(NOTES_FIELD.name, pa.array(notes, NOTES_FIELD.type))


def _note(benchmark: Benchmark, match: Match) -> str:
    text = benchmark.texts[match.text]
    return f"contaminated: {match.kind} of {text.source} position {text.position}"
