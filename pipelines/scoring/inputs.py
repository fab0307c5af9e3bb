"""From what the user named to the files that are read, on local disks and on every filesystem Beam knows."""

import glob
import os
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, BinaryIO

from curricle.curate.readers import READ, kind_of
from curricle.schemas.common.errors import UsageError
from curricle.schemas.common.secrets import redacted, restored
from curricle.schemas.manifest import NotRead


@dataclass(frozen=True)
class InputFile:
    """A file as found: its name as the user gave it, size, and when it was last changed (Unix seconds).

    The name is written to files: in it ``${NAME}`` stands for a value of the environment. ``place`` is where it lies.
    """

    name: str
    bytes: int
    modified: float

    @property
    def place(self) -> str:
        return restored(self.name)

    def open(self) -> BinaryIO:
        return open_input(self.place)


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


HIDDEN = "its name begins with . or _"
NO_FORMAT = "no format for it"
NOWHERE = "a link that leads nowhere: what it names was not fetched"
READ_ALREADY = "a link to what is read under another name"
NO_FILE = "neither a file nor a folder"
FOLDER = "a folder, and the pattern names files"


def find_inputs(patterns: Iterable[str], output: str) -> tuple[list[InputFile], list[NotRead]]:
    """The files that the patterns name, each once, and what lies beside them and is not read.

    A file or a glob must name readable files (UsageError otherwise); from a folder, searched at any depth and
    through links, the others are left out and returned so that they can be reported. What lies in ``output`` is
    no input.
    """
    found: dict[str, InputFile] = {}
    not_read: list[NotRead] = []
    for pattern in patterns:
        in_folder, files, others = _expand(pattern, output)
        not_read += [other for other in others if not _is_below(other.path, output)]
        files = [file for file in files if not _is_below(file.name, output)]
        readable = [file for file in files if _is_readable(file.name)]
        if in_folder:
            not_read += [NotRead(file.name, NO_FORMAT) for file in files if not _is_readable(file.name)]
        else:
            for file in files:
                kind_of(file.name)  # raises for what cannot be read, and says what can
        if not readable:
            what = (
                "a directory, not a file, and no file that can be read is in it"
                if in_folder
                else "there is no such file"
            )
            beside = "".join(f"\n  - {_shown(other.path)}: {other.reason}" for other in others[:10])
            raise UsageError(what + (beside and f"; left out:{beside}"), where=pattern, remedy=f"name {READ}")
        for file in readable:
            _check_name(file.name)
            first = found.setdefault(_place(file.name), file)
            if os.path.abspath(first.name) != os.path.abspath(file.name):
                not_read.append(NotRead(file.name, READ_ALREADY))
    left_out = {NotRead(redacted(_shown(other.path)), other.reason) for other in not_read}
    return [replace(file, name=_named(file.name)) for file in found.values()], sorted(left_out)


def _place(name: str) -> str:
    """What a name stands for, whatever links lead there."""
    return name if _is_remote(name) else os.path.realpath(name)


def _shown(name: str) -> str:
    return name.encode("utf-8", "backslashreplace").decode()


def _named(place: str) -> str:
    """The name that is written for an input; UsageError if it would not say where that lies."""
    name = redacted(place)
    if restored(name) != place:
        raise UsageError("the name of the file holds a variable's own name", where=place, remedy="rename the file")
    return name


def _check_name(name: str) -> None:
    """UsageError for bytes that are no text: the table says of every row which file it came from."""
    try:
        name.encode()
    except UnicodeEncodeError as error:
        raise UsageError("the name of the file is not UTF-8", where=_shown(name), remedy="rename it") from error


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


def _expand(pattern: str, output: str) -> tuple[bool, list[InputFile], list[NotRead]]:
    """Whether the pattern is a folder, the files that it stands for, sorted by name, and what is beside them."""
    if _is_remote(pattern):
        return _expand_remote(pattern)
    path = Path(pattern)
    if path.is_dir():
        inside, others = _walk(path, output)
        return True, _stat(inside), others
    names = [pattern] if os.path.lexists(pattern) else glob.glob(pattern, recursive=True)
    for name in names:
        if not os.path.exists(name):
            raise UsageError(
                "a link that leads nowhere", where=_shown(name), remedy="fetch what it names, or remove it"
            )
    folders = [] if "**" in pattern else [NotRead(name, FOLDER) for name in names if os.path.isdir(name)]
    return False, _stat(name for name in names if os.path.isfile(name)), folders


def _walk(folder: Path, output: str) -> tuple[list[str], list[NotRead]]:
    """The files below a folder, and what is none or hidden.

    Linked folders are opened last, and each folder once: a link may lead back to where it is.
    """
    files: list[str] = []
    others: list[NotRead] = []
    linked, opened = [folder], set()
    for start in linked:
        if start is not folder and os.path.realpath(start) in opened:
            others.append(NotRead(str(start), READ_ALREADY))
            continue
        for root, folders, names in os.walk(start, onerror=_raise):
            opened.add(os.path.realpath(root))
            inside, below = Path(root), []
            for name in sorted(folders):
                path = inside / name
                if _is_output(path, output):
                    continue
                if _is_hidden([name]):
                    others.append(NotRead(f"{path}/", HIDDEN))
                elif path.is_symlink():
                    linked.append(path)
                else:
                    below.append(name)
            folders[:] = below
            for name in names:
                path = inside / name
                if _is_hidden([name]):
                    others.append(NotRead(str(path), HIDDEN))
                elif path.is_file():
                    files.append(str(path))
                else:
                    others.append(NotRead(str(path), NO_FILE if path.exists() else NOWHERE))
    return files, others


def _is_output(folder: Path, output: str) -> bool:
    return not _is_remote(output) and os.path.realpath(folder) == os.path.realpath(output)


def _raise(error: OSError) -> None:
    raise UsageError(
        f"the folder cannot be read: {error.strerror}",
        where=_shown(str(error.filename)),
        remedy="ask for the right to read it, or name the files that are to be read",
    ) from error


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


def _expand_remote(pattern: str) -> tuple[bool, list[InputFile], list[NotRead]]:
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
    files, hidden = [], []
    for item in matched:
        steps = item.path.removeprefix(pattern).split("/")
        if folder and _is_hidden(steps):
            first = next(place for place, step in enumerate(steps) if _is_hidden([step]))
            whole = "/".join(steps[: first + 1])
            hidden.append(
                NotRead(item.path.removesuffix("/".join(steps)) + whole + "/" * (first + 1 < len(steps)), HIDDEN)
            )
        elif not item.path.endswith("/"):  # some clients write a folder as an empty object
            files.append(InputFile(item.path, item.size_in_bytes, item.last_updated_in_seconds or 0.0))
    return folder, sorted(files, key=lambda file: file.name), hidden
