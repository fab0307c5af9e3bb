"""What the numbers of a table rest on, column by column, and the fingerprints that are made of it.

The identity of a table says how records were read, and of each score column what decides its numbers. The fingerprint
of a column is the digest of its own part, so a column that is added leaves those of the others alone; the table's is
the digest of the columns' fingerprints and of how records were read. Rows of two fingerprints are not to be mixed.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from curricle.schemas.columns import ScoreColumn
from curricle.schemas.contract import CONTRACT, FIRST
from curricle.schemas.fingerprint import differences, digest

PROXY, CHECKPOINTS = "proxy", "checkpoints"
RESTS_ON: Mapping[str, tuple[str, ...]] = {
    "length": ("rendering",),
    "mtld": (),
    "hdd": (),
    "mattr": (),
    "msttr": (),
    "loss": ("rendering", PROXY),
    "ifd": ("rendering", PROXY),
    "lp": ("rendering", PROXY),
    "generated": ("rendering", PROXY, "generation"),
    "embedding": ("encoder",),
    "join": (),
}
"""Which parts of an identity of contract 1, which was one for all columns, the columns of a metric rest on."""


def table_identity(columns: Iterable[ScoreColumn], reading: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """The identity of a table with these columns. ``reading``: which version made examples of records; None where a
    table of contract 1, which did not say, was the start.
    """
    read = {} if reading is None else {"reading": dict(reading)}
    return {"contract": CONTRACT.version, **read, "columns": {column.name: column.identity for column in columns}}


def column_fingerprints(identity: Mapping[str, Any]) -> dict[str, str]:
    """The fingerprint of each column in an identity; none in one of contract 1. ValueError if it is none of ours."""
    if identity.get("contract") == FIRST.version:
        return {}
    columns = identity.get("columns")
    if not isinstance(columns, Mapping):
        raise ValueError("the identity has no columns")
    return {name: digest(column) for name, column in columns.items()}


def table_fingerprint(identity: Mapping[str, Any]) -> str:
    """The fingerprint of a table with this identity. ValueError if it is none of ours."""
    if identity.get("contract") == FIRST.version:
        return digest(identity)
    return digest({**identity, "columns": column_fingerprints(identity)})


def as_first(columns: Iterable[ScoreColumn]) -> dict[str, Any]:
    """The identity that contract 1 wrote of a job for these columns, to know such a job when it is gone on with."""
    identity: dict[str, Any] = {"contract": FIRST.version}
    for column in columns:
        _merge(identity, {key: value for key, value in column.identity.items() if key != "column"})
    return identity


def _merge(whole: dict[str, Any], more: Mapping[str, Any]) -> None:
    for key, value in more.items():
        if isinstance(value, Mapping):
            _merge(whole.setdefault(key, {}), value)
        else:
            whole[key] = value


def of_first(column: ScoreColumn, identity: Mapping[str, Any]) -> ScoreColumn:
    """A column of a table of contract 1 with what it rests on, which stood in the table's identity alone.

    Where the metric is one of ours that scored the table, these are its parts of that identity: the column has the
    fingerprint that it would have now. Of every other column it is all of it.
    """
    of_ours = column.metric in RESTS_ON and (column.metric in identity.get("metrics", {}) or column.metric == "join")
    others = [key for key in identity if key not in ("contract", "metrics", "joined")]
    rests_on = {key: identity[key] for key in (RESTS_ON[column.metric] if of_ours else others) if key in identity}
    if of_ours and column.metric != "lp" and PROXY in rests_on:
        rests_on[PROXY] = {key: value for key, value in rests_on[PROXY].items() if key != CHECKPOINTS}
    return column.resting_on(rests_on)


def changes(old: Mapping[str, Any], new: Mapping[str, Any]) -> list[str]:
    """One line for each thing in which two identities differ, and which columns it is in."""
    before, after = old.get("columns"), new.get("columns")
    if not isinstance(before, Mapping) or not isinstance(after, Mapping):
        return differences(old, new)
    lines = {
        name: ["not there, and now"]
        if name not in before
        else ["there, and not now"]
        if name not in after
        else differences(before[name], after[name])
        for name in {**before, **after}
    }
    rest, other = ({key: value for key, value in each.items() if key != "columns"} for each in (old, new))
    return [*of_columns(lines), *differences(rest, other)]


def of_columns(changes: Mapping[str, Sequence[str]]) -> list[str]:
    """What changed in columns, by their names: each line once, with all columns that it is of."""
    names: dict[str, list[str]] = {}
    for name, lines in changes.items():
        for line in lines:
            names.setdefault(line, []).append(name)
    return [f"{'columns' if those[1:] else 'column'} {', '.join(those)}: {line}" for line, those in names.items()]
