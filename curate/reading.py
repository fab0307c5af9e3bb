"""``curate.read``: files or records to Arrow tables, in this process."""

import json
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import partial
from itertools import chain, islice
from typing import Any, BinaryIO, Literal, NamedTuple, Protocol, TypeAlias

import pyarrow as pa
from curricle.curate.formats import RULES, Format, ReadingRules, named
from curricle.curate.formats import VERSION as FORMATS_VERSION
from curricle.curate.progress import NoProgress, Progress
from curricle.curate.readers import Reader, hub, kind_of, named_readers, survey
from curricle.curate.readers import read as read_slices
from curricle.curate.readers.examples import Normalised, normalise_records, notes_column
from curricle.curate.readers.inputs import Expanded, InputFile, expand_remote, find_inputs, say_left_out
from curricle.curate.readers.nested.files import assembled
from curricle.curate.readers.records import of_program
from curricle.curate.readers.rows import rows_of, without_dictionaries
from curricle.schemas.columns import METADATA_KEY
from curricle.schemas.common.home import at_home
from curricle.schemas.table import EXAMPLE_FIELDS, NOTES_FIELD, REJECTS

StrPath: TypeAlias = str | os.PathLike[str]
Records: TypeAlias = Iterable[Mapping[str, Any]]

ROWS = 4096
"""Records that are Python objects at once."""
MAX_RECORD_BYTES = 16 * 2**20
MAX_EXPANSION = 500


class ArrowStream(Protocol):
    """Any table that others can take over as Arrow: of polars, pandas, DuckDB, …"""

    def __arrow_c_stream__(self, requested_schema: object | None = None) -> object: ...


READ = pa.schema([*EXAMPLE_FIELDS, NOTES_FIELD])
"""A table without scores: the columns of every example, and the notes of reading."""


class Read(NamedTuple):
    """What ``curate.read`` gives: every record once, in the order of the input, in one of two Arrow tables.

    ``examples``: ``example_id``, ``source``, ``source_position``, ``messages``, ``extra`` and ``notes``, as in a scored
    table; the metadata say what read them, for the fingerprint of ``curate.score``. ``rejects``: ``source``,
    ``source_position``, ``reason`` and ``raw``, the start of the record.
    """

    examples: pa.Table
    rejects: pa.Table


def read(
    inputs: StrPath | Iterable[StrPath] | Records | pa.Table | pa.RecordBatch | ArrowStream,
    *,
    format: str | Format | None = None,
    prompt_field: str | None = None,
    response_field: str | None = None,
    columns: Sequence[str] = (),
    media: Literal["refuse", "ignore"] = "refuse",
    bad_answers: Literal["context", "score"] = "context",
    replies: Literal["refuse", "best", "paths"] = "refuse",
    readers: Sequence[str | Reader] = (),
    source: str = "records",
    max_record_bytes: int = MAX_RECORD_BYTES,
    max_expansion: int = MAX_EXPANSION,
    progress: Progress | None = None,
) -> Read:
    """Read instruction data into examples, as ``curricle score`` reads it.

    ``inputs``: a file, a folder, a pattern such as ``data/*.jsonl``, or several of them; or records, as dicts in any
    iterable or as a table (Arrow, polars, pandas). Files are of this machine, or of the Hugging Face hub:
    ``hf://datasets/ORG/NAME``.
    ``format``, or ``prompt_field`` and ``response_field``, read every record in one way; left out, each is recognised
    by its fields. ``format`` is a name, ``./my.py:FORMAT``, or an object.
    ``columns`` names those of CSV and TSV whose first line is a record like any other.
    ``media``: records with images, video or sound are rejected, or their text is read without them. ``bad_answers``:
    answers that are marked as ones not to give are context, of which no response is scored, or answers like any other.
    ``replies``: trees of replies (OASST) are rejected, or the best-ranked reply is read at each turn, or the path to
    each answer. Records that stand inside others, as questions of an article (SQuAD), are numbered by themselves.
    ``readers`` are for files of other kinds: ``./my.py:NAME``, or objects; those that are installed need no mention.
    ``source`` names records that come from no file in the column ``source``; their position is their number, from 0.
    ``max_record_bytes``: a longer record of a file is rejected. ``max_expansion``: a file that unpacks to more than
    so many times its size is refused.

    ``progress``: an object with a method ``add``, see ``curate.Progress``.

    Raises UsageError for a file that cannot be read as a whole, an unknown format, and a pattern that names nothing.
    A record that is no conversation raises nothing: it is a row of ``rejects``, with the reason.

    >>> examples, rejects = read([{"instruction": "Add 2 and 2.", "output": "4"}, {"output": "4"}])
    >>> examples["messages"][0].as_py()[1], rejects["reason"].to_pylist()
    ({'role': 'assistant', 'content': '4'}, ["no known format; found 'output'"])
    """
    progress = progress or NoProgress()
    chosen = format if isinstance(format, Format) else named(format, prompt_field, response_field)
    paths, records = _sorted_out(inputs)
    rules = ReadingRules(media, bad_answers, replies)
    if records is not None:
        parts = _of_records(records, source, chosen, rules, max_record_bytes)
        return _joined(parts, reading_identity(chosen, rules=rules), progress)
    installed = named_readers(readers, columns)
    files, not_read = find_inputs([at_home(path, "read") for path in paths], readers=installed, remote=_expand)
    say_left_out(not_read)
    read_by = reading_identity(chosen, {kind_of(file.name, installed).reader for file in files}, rules)
    return _joined(_of_files(files, chosen, rules, installed, max_record_bytes, max_expansion), read_by, progress)


def reading_identity(
    format: Format | None = None, readers: Iterable[Reader] = (), rules: ReadingRules = RULES
) -> dict[str, Any]:
    """What makes examples of records, for fingerprints: the version of our formats, the plug-ins among these, and what
    the user decided.

    A plug-in reader stands there under its suffixes, which no other one has.
    """
    identity: dict[str, Any] = {"formats_version": FORMATS_VERSION, **rules.chosen}
    if format and format.origin:
        identity["format"] = {"name": format.name, **format.origin.identity}
    for reader in readers:
        if reader.origin:
            suffixes = " ".join(reader.suffixes).replace(".", "")
            identity.setdefault("readers", {})[suffixes] = {"name": reader.name, **reader.origin.identity}
    return identity


def _sorted_out(inputs: Any) -> tuple[list[str], Iterator[Any] | None]:
    """The paths that were named, or the records."""
    if isinstance(inputs, (str, os.PathLike)):
        return [os.fspath(inputs)], None
    if (table := arrow_table(inputs)) is not None:
        return [], records_of(table)
    if isinstance(inputs, Mapping):
        raise TypeError("one record: put it into a list")
    if isinstance(inputs, (bytes, bytearray)):
        raise TypeError(f"inputs are {type(inputs).__name__}: a path is text, records are dicts")
    rows = iter(inputs)
    first = list(islice(rows, 1))
    if first and isinstance(first[0], (str, os.PathLike)):
        paths = [*first, *rows]
        if other := next((path for path in paths if not isinstance(path, (str, os.PathLike))), None):
            raise TypeError(f"a {type(other).__name__} among paths: read files and records one after the other")
        return [os.fspath(path) for path in paths], None
    return [], chain(first, rows)


def arrow_table(value: Any) -> pa.Table | None:
    """The same rows as an Arrow table, without a copy where that is possible; None for what is no table."""
    if isinstance(value, pa.RecordBatch):
        return pa.Table.from_batches([value])
    return pa.table(value) if isinstance(value, pa.Table) or hasattr(value, "__arrow_c_stream__") else None


def records_of(table: pa.Table) -> Iterator[dict[str, Any]]:
    """The rows of Arrow as records; what has no form in Python is a value that cannot be read, not an error."""
    schema = without_dictionaries(table.schema)
    for batch in table.to_batches(ROWS):
        yield from rows_of(batch, schema)


def _of_records(
    records: Iterator[Any], source: str, format: Format | None, rules: ReadingRules, limit: int
) -> Iterator[Normalised]:
    numbered = assembled((of_program(at, value) for at, value in enumerate(records)), format, rules, limit)
    while some := list(islice(numbered, ROWS)):
        yield normalise_records(some, source, format, rules)


def _of_files(
    files: Sequence[InputFile],
    format: Format | None,
    rules: ReadingRules,
    readers: Sequence[Reader],
    max_record_bytes: int,
    max_expansion: int,
) -> Iterator[Normalised]:
    # what spoils a file as a whole is found before the first is read
    limits = ROWS, max_record_bytes, max_expansion
    surveys = [survey(partial(_open, file.path), file.path, *limits, format, readers, rules=rules) for file in files]
    for file, surveyed in zip(files, surveys, strict=True):
        cut = read_slices(partial(_open, file.path), file.path, surveyed.slices, max_record_bytes, readers)
        for _, records in cut:
            yield normalise_records(records, file.name, format, rules)


def _expand(pattern: str) -> Expanded:
    return hub.expand(pattern) if hub.is_on_hub(pattern) else expand_remote(pattern)


def _open(path: str) -> BinaryIO:
    return hub.open_file(path) if hub.is_on_hub(path) else open(path, "rb")


def _joined(parts: Iterable[Normalised], read_by: Mapping[str, Any], progress: Progress) -> Read:
    examples, rejects = [READ.empty_table()], [REJECTS.empty_table()]
    for part in parts:
        notes = notes_column(part.notes, part.examples.num_rows)
        examples.append(part.examples.append_column(NOTES_FIELD, notes))
        rejects.append(part.rejects)
        progress.add(rows=part.examples.num_rows + part.rejects.num_rows, rejects=part.rejects.num_rows)
    signed = {METADATA_KEY: json.dumps({"reading": read_by}, sort_keys=True)}
    return Read(pa.concat_tables(examples).replace_schema_metadata(signed), pa.concat_tables(rejects))
