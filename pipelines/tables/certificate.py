"""The certificate of a selection: everything that is needed to derive it again, and what was found on the way."""

import json
from collections.abc import Mapping, Sequence
from itertools import zip_longest
from pathlib import Path
from typing import Any

import pyarrow as pa
from curricle.curate.selection.recipe import Recipe
from curricle.pipelines.storage import open_storage
from curricle.pipelines.tables.reader import TableReader, table_path
from curricle.pipelines.tables.selection import Derived, derive, sha256_joined
from curricle.pipelines.tables.writer import row_groups
from curricle.schemas.common.config import build
from curricle.schemas.common.errors import UsageError, UserError
from curricle.schemas.contract import known_keys, untagged, without_new_keys
from curricle.schemas.fingerprint import differences
from curricle.schemas.identity import changes, table_identity
from curricle.schemas.manifest import CERTIFICATE, MANIFEST
from curricle.schemas.table import score_columns
from curricle.schemas.verify import verify


def content(certificate: dict[str, Any]) -> dict[str, Any]:
    """A certificate without where the table and the joined files lay, which may be moved: their digests say which.

    Nor with the table's columns: its manifest has them.
    """
    table = {key: value for key, value in certificate["table"].items() if key not in ("place", "columns")}
    files = [Path(file).name for file in certificate["recipe"].get("join", [])]
    return {**certificate, "table": table, "recipe": {**certificate["recipe"], "join": files}}


def check(path: str, table: str | None, moved: Sequence[str] = ()) -> list[str]:
    """Derive the selection with this certificate again: one line for each thing in which it is not the same.

    ``path`` is a selection's directory or its ``certificate.json``; ``table`` says where the table lies now if not
    where the certificate says, and ``moved`` where joined files lie. UserError if there is nothing to compare.
    A directory that holds the sets of a split is checked set by set, and whether they are all of one split.
    """
    if sets := _sets_below(path):
        faults = [f"{name}: {fault}" for name, each in sets.items() for fault in check(each, table, moved)]
        return faults or _of_one_split({name: TableReader(each) for name, each in sets.items()})
    selection = TableReader(table_path(path))
    if faults := verify(selection.files).faults:
        return faults
    recorded, recipe, recorded_path, sums = _read(selection)
    table = table or recorded_path
    if not open_storage(table).exists(MANIFEST):
        remedy = f"say where it lies now: `curricle select TABLE --check {path}`"
        raise UsageError("the table that was selected from is not there", where=table, remedy=remedy)
    lying = _relocated(recipe.join, sums, moved, selection.files.uri(CERTIFICATE))
    derived = derive(recipe, TableReader(table), lying)
    now = derived.certificate()
    faults = _scored_otherwise(recorded["table"].get("columns", {}), now["table"]["columns"])
    faults += differences(content(without_new_keys(recorded, now)), content(now))
    return faults or _changed_rows(derived, selection)


def _sets_below(path: str) -> dict[str, str]:
    """The paths of the selections below a directory that is no table itself, by name."""
    storage = open_storage(path)
    if path.endswith(CERTIFICATE) or storage.exists(MANIFEST):
        return {}
    names = (name.split("/") for name in storage.names(""))
    return {
        name: f"{path.rstrip('/')}/{name}" for name in sorted({name for name, *rest in names if rest == [CERTIFICATE]})
    }


def _of_one_split(sets: Mapping[str, TableReader]) -> list[str]:
    """One line for each thing in which selections are not the sets of one split, each under its name, all of them."""
    certificates = {name: _read(each)[:2] for name, each in sets.items()}
    first, (about, recipe) = next(iter(certificates.items()))
    if not recipe.split:
        return [f"{first} is no set of a split"]
    faults = [f"{name} is not there" for name in recipe.split_shares() if name not in sets]
    for name, (other, rules) in certificates.items():
        if rules.split_only != name:
            faults.append(f"{name} is the set {rules.split_only!r}")
        one, two = (
            {"table": a["table"]["manifest_sha256"]} | r.to_json() | {"split_only": None}
            for a, r in ((about, recipe), (other, rules))
        )
        faults += [f"{first} and {name} are of two splits: {line}" for line in differences(one, two)]
    return faults


def _scored_otherwise(then: dict[str, str], now: dict[str, str]) -> list[str]:
    """One line for each column of the table that is not the one that it had, as far as the certificate says."""
    return [
        f"column {name} of the table: {change}"
        for name in then
        for change in differences({"fingerprint": then[name]}, {"fingerprint": now.get(name)})
    ]


def _relocated(files: Sequence[str], sums: Sequence[str], moved: Sequence[str], where: str) -> list[str]:
    """The joined files and tables where they lie now: what was moved is known by its bytes, or else by its name."""
    now, paths = list(moved), dict[int, str]()
    hashes = {path: sha256_joined(path) for path in now}
    for number, sha256 in enumerate(sums):
        if same := next((path for path in now if hashes.get(path) == sha256), None):
            now.remove(paths.setdefault(number, same))
    for number, file in enumerate(files):
        called = next((path for path in now if Path(path).name == Path(file).name), None)
        if number not in paths and called is not None:
            now.remove(paths.setdefault(number, called))
    missing = [number for number, file in enumerate(files) if number not in paths and not sha256_joined(file)]
    if now:
        names = ", ".join(Path(file).name for file in files) or "none"
        remedy = f"--join names files where they lie now, which have the name or the bytes that they had: {names}"
        raise UsageError(f"joins no file {Path(now[0]).name}, nor one with its bytes", where=where, remedy=remedy)
    if missing:
        remedy = "say with --join where it lies now, by whatever name"
        raise UsageError("what was joined is not there", where=files[missing[0]], remedy=remedy)
    return [paths.get(number, file) for number, file in enumerate(files)]


def _read(selection: TableReader) -> tuple[dict[str, Any], Recipe, str, list[str]]:
    """The certificate, its recipe, where the table lay, and the SHA-256 of each joined file."""
    where = selection.files.uri(CERTIFICATE)
    if selection.manifest.selected_from is None:
        raise UsageError("is no selection", where=selection.path, remedy="name what `curricle select` wrote")
    if selection.manifest.extended_from is not None:
        raise UsageError(
            "has columns that were added after its rows were selected",
            where=selection.path,
            remedy="check the selection that they were added to",
        )
    try:
        recorded = _as_now(untagged("certificate", json.loads(selection.files.read(CERTIFICATE)), where))
        recipe = build(Recipe, known_keys(Recipe, recorded["recipe"]), where)
        sums = [str(joined["sha256"]) for joined in recorded["joined"]]
        if len(sums) != len(recipe.join):
            raise ValueError(f"{len(sums)} of {len(recipe.join)} joined files")
        return recorded, recipe, str(recorded["table"]["place"]), sums
    except (OSError, ValueError, LookupError, TypeError, AttributeError, RecursionError) as error:
        raise UserError(f"cannot be read: {error!r}", where=where, remedy="copy the selection again") from error


def _as_now(certificate: dict[str, Any]) -> dict[str, Any]:
    """What a certificate of version 1 says, in the words of this one: it had one meaning of near-duplicates."""
    if certificate["certificate"] != 1:
        return certificate
    recipe = certificate["recipe"]
    of = "both" if recipe["near_duplicates"] is None else "chains"
    return {**certificate, "certificate": 2, "recipe": {"near_duplicates_of": of, **recipe}}


def _changed_rows(derived: Derived, selection: TableReader) -> list[str]:
    """Whether the rows that lie there are those of the table, to the last value."""
    schema = derived.schema
    if changed := _changed_columns(selection, schema):
        return changed
    lying = (pa.Table.from_arrays(group.columns, schema=schema) for group in selection.groups())
    pairs = zip_longest(row_groups(derived.rows(), schema), row_groups(lying, schema))
    return (
        []
        if all(one is not None and one.equals(other) for one, other in pairs)
        else ["a row is not as it stands in the table"]
    )


def _changed_columns(selection: TableReader, now: pa.Schema) -> list[str]:
    """One line for each column that is not the same: of another type, or made otherwise. What describes it is prose."""
    there = selection.schema
    if there.names != now.names:
        return [f"the columns are {', '.join(there.names)}, and {', '.join(now.names)} now"]
    faults = [f"column {field.name}: {field.type} there, {now.field(field.name).type} now" for field in there]
    faults = [fault for fault, field in zip(faults, there, strict=True) if field.type != now.field(field.name).type]
    return faults + changes(table_identity(selection.scores.values()), table_identity(score_columns(now).values()))
