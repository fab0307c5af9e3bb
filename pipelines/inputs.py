"""From what the user named to the files that are read, on local disks and on every filesystem Beam knows."""

import glob
import os
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

from curate.readers import READ, kind_of
from schemas.errors import UsageError


@dataclass(frozen=True)
class InputFile:
    """A file as found: its name as the user gave it, size, and when it was last changed (Unix seconds)."""

    name: str
    bytes: int
    modified: float

    def open(self) -> BinaryIO:
        return open_input(self.name)


def open_input(name: str, cwd: str = "") -> BinaryIO:
    """The raw bytes of an input, undecoded; a relative name is one in ``cwd``."""
    if not _is_remote(name):
        return open(os.path.join(cwd, name), "rb")
    from apache_beam.io.filesystem import CompressionTypes

    return _filesystems().open(name, compression_type=CompressionTypes.UNCOMPRESSED)


def is_seekable(name: str) -> bool:
    """Whether reading can start anywhere in the file at no cost.

    A compressed stream is read from its start to reach a place in it, and Parquet from the start of a row group,
    which may hold the whole file.
    """
    kind = kind_of(name)
    return kind.compression is None and kind.layout != "parquet"


def find_inputs(patterns: Iterable[str], output: str) -> tuple[list[InputFile], list[str]]:
    """The files that the patterns name, each once, and the names in folders that are of no readable kind.

    A file or a glob must name readable files (UsageError otherwise); from a folder, searched at any depth,
    the others are left out and returned so that they can be reported. What lies in ``output`` is no input.
    """
    found: dict[str, InputFile] = {}
    ignored: list[str] = []
    for pattern in patterns:
        in_folder, files = _expand(pattern)
        files = [file for file in files if not _is_below(file.name, output)]
        readable = [file for file in files if _is_readable(file.name)]
        if in_folder:
            ignored += [file.name for file in files if not _is_readable(file.name)]
        else:
            for file in files:
                kind_of(file.name)  # raises for what cannot be read, and says what can
        if not readable:
            what = (
                "a directory, not a file, and no file that can be read is in it"
                if in_folder
                else "there is no such file"
            )
            raise UsageError(what, where=pattern, remedy=f"name {READ}")
        for file in readable:
            _check_name(file.name)
            found.setdefault(file.name if _is_remote(file.name) else os.path.realpath(file.name), file)
    return list(found.values()), sorted(ignored)


def _check_name(name: str) -> None:
    """UsageError for bytes that are no text: the table says of every row which file it came from."""
    try:
        name.encode()
    except UnicodeEncodeError as error:
        shown = name.encode("utf-8", "backslashreplace").decode()
        raise UsageError("the name of the file is not UTF-8", where=shown, remedy="rename it") from error


def _is_below(name: str, output: str) -> bool:
    """Whether a file lies in the output directory: a job must not read what it wrote."""
    if _is_remote(name) or _is_remote(output):
        return name.startswith(output.rstrip("/") + "/")
    return Path(os.path.realpath(output)) in Path(os.path.realpath(name)).parents


def _is_readable(name: str) -> bool:
    try:
        kind_of(name)
    except UsageError:
        return False
    return True


def _is_remote(name: str) -> bool:
    return "://" in name


def _expand(pattern: str) -> tuple[bool, list[InputFile]]:
    """Whether the pattern is a folder, and the files that it stands for, sorted by name."""
    if _is_remote(pattern):
        return _expand_remote(pattern)
    path = Path(pattern)
    if path.is_dir():
        inside = [file for file in path.rglob("*") if not _is_hidden(file.relative_to(path).parts) and file.is_file()]
        return True, _stat(map(str, inside))
    if path.is_file():
        return False, _stat([pattern])
    return False, _stat([name for name in glob.glob(pattern, recursive=True) if Path(name).is_file()])


def _is_hidden(below: Iterable[str]) -> bool:
    """Whether a path below the folder that the user named has a step that tools keep for themselves."""
    return any(step.startswith((".", "_")) for step in below)


def _stat(names: Iterable[str]) -> list[InputFile]:
    return [InputFile(name, (stat := Path(name).stat()).st_size, stat.st_mtime) for name in sorted(names)]


def _filesystems() -> Any:
    """Beam's registry of filesystems. It costs seconds to import: only those who read from afar pay them here."""
    from apache_beam.io.filesystems import FileSystems
    from apache_beam.options.pipeline_options import PipelineOptions

    # Outside a pipeline nobody has set options, and some filesystems refuse to start without; credentials
    # and endpoints come from the environment, as everywhere.
    hadoop = {name: os.environ.get(f"HDFS_{name.upper()}") for name in ("host", "port", "user")}
    FileSystems.set_options(PipelineOptions([f"--hdfs_{name}={value}" for name, value in hadoop.items() if value]))
    return FileSystems


def _expand_remote(pattern: str) -> tuple[bool, list[InputFile]]:
    from apache_beam.io.filesystem import BeamIOError

    filesystems = _filesystems()
    folder = pattern.endswith("/")
    try:
        matched = filesystems.match([pattern + "**" if folder else pattern])[0].metadata_list
        if not matched and not folder:
            folder, matched = True, filesystems.match([pattern + "/**"])[0].metadata_list
    except (BeamIOError, ValueError) as error:
        raise UsageError(
            f"cannot be listed: {error}",
            where=pattern,
            remedy='check the address and the credentials, and install the client, such as pip install "curricle[aws]"',
        ) from error
    files = [
        InputFile(item.path, item.size_in_bytes, item.last_updated_in_seconds or 0.0)
        for item in matched
        if not (folder and _is_hidden(item.path.removeprefix(pattern).split("/")))
    ]
    return folder, sorted(files, key=lambda file: file.name)
