"""The dataset card: README.md of a finished table, for the hub and for a person."""

import re
from collections.abc import Iterable, Sequence
from typing import Any

import pyarrow as pa
import yaml
from curricle.curate.report.distributions import QUANTILES, Distribution
from curricle.schemas.columns import ScoreColumn
from curricle.schemas.manifest import Manifest, Provenance
from curricle.schemas.pages.text import number
from curricle.schemas.table import EXAMPLE_FIELDS, NOTES_FIELD, description, score_columns

SIZES = {1_000: "n<1K", 10_000: "1K<n<10K", 100_000: "10K<n<100K", 1_000_000: "100K<n<1M", 10_000_000: "1M<n<10M"}
LARGER = "n>10M"
MOST_SOURCES = 50  # a card is read by people; the manifest has them all

BODY = """
# Difficulty table

{summary} Fingerprint of the scores: `{fingerprint}`.

## Open it

```python
import polars
table = polars.read_parquet("data/*.parquet")
```

```python
import duckdb
duckdb.sql("select * from 'data/*.parquet' limit 5")
```

```python
import datasets
table = datasets.load_dataset("parquet", data_files="data/*.parquet", split="train")
```

The model's input is `messages`; `example_id` names a conversation wherever it stands; the scores are columns beside it.
`curricle-train run --data` and any reader of Parquet take this directory as it is.
{difficulty}
## Columns

| column | type | unit | hard end | meaning | metric |
|---|---|---|---|---|---|
{columns}

A value that could not be computed is null, and `notes` says why. The same facts, with the metrics' parameters, are
in the Parquet metadata of each column.

## Where it came from

| {header} |
|---|---:|---:|---:|
{sources}

{ledger} `curricle verify` on this directory counts the
rows again and compares digests, identities and columns with `manifest.json`.
{making}"""

DIFFICULTY = """
## How difficult it is

| column | unit | hard end | without a value | {percents} |
|---|---|---|---:|{rules}
{rows}
"""

MAKING = """
## How it was made

{commands}

{versions}
"""
MODELS = """
| model | revision | columns |
|---|---|---|
{models}
"""

SCORED = {
    "summary": """Instruction data scored for difficulty by Curricle.
Records read: {read:,}, scored: {scored:,}, rejected: {rejected:,}.""",
    "header": "source | read | scored | rejected",
    "ledger": "Every record that was read is in `data/` or in `rejects/`.",
}
SELECTED = {
    "summary": """A selection of instruction data scored for difficulty by Curricle; `certificate.json` says how.
Rows of the table: {read:,}, selected: {scored:,}, left out: {left_out:,}.""",
    "header": "source | rows | selected | left out",
    "ledger": "`curricle select --check` on this directory derives the selection again.",
}


def dataset_card(manifest: Manifest, schema: pa.Schema, distributions: Sequence[Distribution] = ()) -> str:
    """Markdown with the front matter that the Hugging Face hub reads.

    ``schema``: of the parts. ``distributions``: of the numeric columns; without them, nothing is said of the values.
    """
    columns = [*score_columns(schema).values()]
    front: dict[str, Any] = {
        "pretty_name": "Difficulty table",
        "tags": ["curricle", "instruction-tuning", "data-curation", "difficulty"],
        "size_categories": [next((name for most, name in SIZES.items() if manifest.total.scored < most), LARGER)],
        "configs": [{"config_name": "default", "data_files": [{"split": "train", "path": "data/*.parquet"}]}],
    }
    features = [_feature(arrow.name, arrow.type) for arrow in schema]
    split = {"name": "train", "num_examples": manifest.total.scored}
    front["dataset_info"] = {"features": features, "splits": [split]}
    if origin := manifest.provenance:
        front |= {name: values for name in ("license", "language") if (values := _front(origin, name))}
    words, lost = (SELECTED, "left_out") if manifest.selected_from else (SCORED, "rejected")
    sources = [_row(s.source, f"{s.read:,}", f"{s.scored:,}", f"{getattr(s, lost):,}") for s in manifest.sources]
    if len(sources) > MOST_SOURCES:
        sources[MOST_SOURCES:] = [_row(f"and {len(sources) - MOST_SOURCES:,} more files", "", "", "")]
    body = BODY.format(
        summary=words["summary"].format(**manifest.total.model_dump()),
        header=words["header"],
        ledger=words["ledger"],
        fingerprint=manifest.fingerprint,
        difficulty=_difficulty(distributions),
        columns="\n".join(_column_rows(columns)),
        sources="\n".join(sources),
        making=_making(manifest.provenance),
    )
    return f"---\n{yaml.safe_dump(front, sort_keys=False, allow_unicode=True)}---\n{body}"


def _feature(name: str, arrow: pa.DataType) -> dict[str, Any]:
    """A column as the ``datasets`` library writes it into a card: {"name": "notes", "list": "string"}."""
    return {"name": name, **_typed(arrow)}


def _typed(arrow: pa.DataType) -> dict[str, Any]:
    if pa.types.is_list(arrow) or pa.types.is_large_list(arrow):
        item = _typed(arrow.value_type)
        return {"list": item.get("dtype") or item.get("struct") or item}
    if pa.types.is_struct(arrow):
        return {"struct": [_feature(field.name, field.type) for field in arrow]}
    return {"dtype": {"double": "float64", "float": "float32"}.get(str(arrow), str(arrow))}


def _difficulty(distributions: Sequence[Distribution]) -> str:
    """A row for each column that has a hard end and values: its quantiles."""
    rows = [
        _row(
            shape.column.name,
            shape.column.unit,
            shape.column.hard or "",
            f"{shape.nulls + shape.not_finite:,}",
            *(number(shape.quantiles[percent]) for percent in QUANTILES),
        )
        for shape in distributions
        if shape.column.hard and shape.values
    ]
    percents = " | ".join(f"{percent} %" for percent in QUANTILES)
    rules = "---:|" * len(QUANTILES)
    return DIFFICULTY.format(percents=percents, rules=rules, rows="\n".join(rows)) if rows else ""


def _front(origin: Provenance, name: str) -> str | list[str] | None:
    """What the hub reads of licences and languages: a text, or a list of several."""
    values: list[str] = getattr(origin, name)
    return values if values[1:] or name == "language" else next(iter(values), None)


def _making(origin: Provenance | None) -> str:
    """The commands, the versions of the last one, and the models."""
    if not origin or not origin.commands:
        return ""
    last = origin.commands[-1]
    libraries = {"curricle": last.curricle, "python": last.python}
    for run in origin.commands:
        libraries |= run.libraries
    models = "\n".join(_row(m.name, m.revision or "", ", ".join(m.columns)) for m in origin.models)
    making = MAKING.format(
        commands=_fenced(run.command for run in origin.commands),
        versions=_escaped(", ".join(f"{name} {number}" for name, number in libraries.items() if number)) + ".",
    )
    return making + (MODELS.format(models=models) if models else "")


def _fenced(lines: Iterable[str]) -> str:
    """A block of code that no line of it can end."""
    text = "\n".join(_visible(line) for line in lines)
    fence = "`" * max(3, *(len(run) + 1 for run in re.findall("`+", text) or [""]))
    return f"{fence}sh\n{text}\n{fence}"


def _column_rows(columns: Sequence[ScoreColumn]) -> list[str]:
    plain = [_row(f.name, str(f.type), "", "", description(f), "") for f in (*EXAMPLE_FIELDS, NOTES_FIELD)]
    scored = [
        _row(c.name, str(c.type), c.unit, c.hard or "", c.description, f"{c.metric} {c.version}") for c in columns
    ]
    return [*plain[:-1], *scored, plain[-1]]


def _row(*cells: str) -> str:
    return f"| {' | '.join(map(_escaped, cells))} |"


def _escaped(text: str) -> str:
    """Text that comes from outside, as plain text in a Markdown table: a file's name can hold anything."""
    return re.sub(r"([\\`*_{}\[\]<>()#+!|~&])", r"\\\1", _visible(text))


def _visible(text: str) -> str:
    return "".join(character if character.isprintable() else f"\\u{ord(character):04x}" for character in text)
