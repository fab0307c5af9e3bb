"""Finished tables made by hand, with text that means harm."""

import hashlib
import json
import random
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from curricle.schemas.columns import ScoreColumn
from curricle.schemas.contract import CONTRACT
from curricle.schemas.fingerprint import example_id
from curricle.schemas.identity import column_fingerprints, table_fingerprint, table_identity
from curricle.schemas.manifest import MANIFEST, Cost, Counts, Manifest, Part, Source
from curricle.schemas.table import rejects_schema, table_schema

HOSTILE = [
    "<script>alert(1)</script>",
    "</textarea></div></details></main><script src='https://evil.example/x.js'></script>",
    '"><img src=x onerror=alert(1)>',
    "[click](javascript:alert(1)) <a href='javascript:alert(1)'>here</a>",
    "\x1b[31mred\x1b[0m bell \x07 nul \x00 delete \x7f",
    "file \u202egnp.exe\u202c and zero\u200bwidth and tag \U000e0041",
    "emoji \U0001f468\u200d\U0001f469\u200d\U0001f467 \U0001f1f5\U0001f1f9, combining z\u0351\u036b\u0343\u036a",
    "\u0627\u0643\u062a\u0628 \u0642\u0635\u064a\u062f\u0629 \u0639\u0646 \u0627\u0644\u0628\u062d\u0631, (123) abc",
    "{{ 7 * 7 }} {% raw %} ${x} $\\frac{1}{0}$ <!-- ]]> &amp; &#x3c;script>",
    "long " * 20_000,
    "",
    "<style>*{background:url(https://evil.example/a.png)}</style> style=expression(1)",
]
PLAIN = [
    "Name three primary colours.",
    "Explain in two sentences why the sky is blue, as if to a child of ten.",
    "Write a Python function that returns the n-th Fibonacci number without recursion.",
    "Summarise the paragraph above in one line.",
]
PARAMS = {"threshold": 0.72}
COLUMNS = [
    ScoreColumn("prompt_words", pa.int32(), "words", "Unicode words of the prompt").of_metric("length", 1, {}),
    ScoreColumn("response_words", pa.int32(), "words", "words of the response", "high").of_metric("length", 1, {}),
    ScoreColumn("response_mtld", pa.float64(), "words", "lexical diversity (MTLD)", "high").of_metric(
        "mtld", 1, PARAMS
    ),
    ScoreColumn("loss", pa.float64(), "nats per token", "mean loss of the response", "high").of_metric("loss", 2, {}),
    ScoreColumn("reward_gap", pa.float64(), "logits", "reference over generated", "low").of_metric("reward", 1, {}),
    ScoreColumn("truncated", pa.bool_(), "flag", "cut to the maximum length").of_metric("loss", 2, {}),
    ScoreColumn("embedding", pa.list_(pa.float32()), "none", "mean hidden state").of_metric("embedding", 1, {}),
]
SOURCES = ["inputs/alpaca_46k.jsonl", "inputs/<b>bold|`\u202elnosj.jsonl"]


def random_scores(rows: int, seed: int = 0) -> dict[str, list[Any]]:
    """A column of each shape that scores take: skewed, normal, with nulls, mirrored, flags, vectors."""
    draw = random.Random(seed)
    scale = [draw.gauss(0, 1) for _ in range(rows)]
    return {
        "prompt_words": [1 + int(12 * draw.lognormvariate(0, 0.5)) for _ in scale],
        "response_words": [max(1, int(60 * 2.7 ** (1.1 * x))) for x in scale],
        "response_mtld": [None if i % 17 == 3 else 70 + 12 * x + draw.gauss(0, 10) for i, x in enumerate(scale)],
        "loss": [max(0.05, 1.6 - 0.35 * x + draw.gauss(0, 0.3)) for x in scale],
        "reward_gap": [0.6 * x + draw.gauss(0, 1) for x in scale],
        "truncated": [x > 2 for x in scale],
        "embedding": [[0.5, x] for x in scale],
    }


def make_table(
    directory: Path,
    scores: Mapping[str, Sequence[Any]],
    columns: Sequence[ScoreColumn] = COLUMNS,
    *,
    rows: int,
    rejects: Sequence[tuple[str, str | None]] = (),
    parts: int = 1,
    dialogues: Sequence[Sequence[tuple[str, str]]] | None = None,
) -> Manifest:
    """A finished table of ``rows`` rows in ``parts`` files; rejects are pairs of reason and raw text; dialogues of
    roles and texts, or such that mean harm.
    """
    identity = table_identity(columns, {"formats_version": 1})
    fingerprint = table_fingerprint(identity)
    if dialogues is None:
        texts = [(HOSTILE + PLAIN * 3)[i % (len(HOSTILE) + 3 * len(PLAIN))] for i in range(rows)]
        dialogues = [[("user", text), ("assistant", texts[-1 - i])] for i, text in enumerate(texts)]
    table = {
        "example_id": [example_id(turns) for turns in dialogues],
        "source": [SOURCES[i * 2 // max(1, rows)] for i in range(rows)],
        "source_position": list(range(rows)),
        "messages": [[{"role": role, "content": text} for role, text in turns] for turns in dialogues],
        "extra": [None] * rows,
        **{column.name: scores[column.name] for column in columns},
        "notes": [[f"mtld: {i} words are too few"] if i % 17 == 3 else None for i in range(rows)],
    }
    whole = pa.table(table, schema=table_schema(columns, fingerprint))
    size = -(-rows // parts) or 1
    data = [
        _write(directory, f"data/part-{i:05}-of-{parts:05}.parquet", whole.slice(i * size, size)) for i in range(parts)
    ]
    refused = pa.table(
        {
            "source": [SOURCES[0]] * len(rejects),
            "source_position": list(range(rows, rows + len(rejects))),
            "reason": [reason for reason, _ in rejects],
            "raw": [raw for _, raw in rejects],
        },
        schema=rejects_schema(fingerprint),
    )
    first = table["source"].count(SOURCES[0])
    sources = [(SOURCES[0], first, len(rejects)), (SOURCES[1], rows - first, 0)]
    manifest = Manifest(
        contract=CONTRACT,
        fingerprint=fingerprint,
        identity=identity,
        columns=column_fingerprints(identity),
        total=Counts(read=rows + len(rejects), scored=rows, rejected=len(rejects)),
        sources=[
            Source(source=name, bytes=4096, sha256="0" * 64, read=good + lost, scored=good, rejected=lost)
            for name, good, lost in sources
        ],
        data=data,
        rejects=[_write(directory, "rejects/part-00000-of-00001.parquet", refused)] if rejects else [],
        cost=Cost(seconds=12.5, tokens=345_678, created="2026-01-02T03:04:05Z"),
    )
    (directory / MANIFEST).write_text(json.dumps(manifest.model_dump()))
    return manifest


def _write(directory: Path, name: str, table: pa.Table) -> Part:
    path = directory / name
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(table, path, row_group_size=64)
    content = path.read_bytes()
    return Part(path=name, rows=table.num_rows, bytes=len(content), sha256=hashlib.sha256(content).hexdigest())
