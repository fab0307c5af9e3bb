"""From what the user named to the files that are read."""

import glob
import logging
import os
import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from curricle.curate.formats import strict
from curricle.curate.readers.base import Reader
from curricle.curate.readers.kinds import READ, kind_of
from curricle.schemas.common.errors import UsageError
from curricle.schemas.common.log import printable
from curricle.schemas.common.secrets import redacted, restored
from curricle.schemas.common.wording import listed, shortened
from curricle.schemas.manifest import NotRead

log = logging.getLogger("curricle")

_NAMED = 20
"""Paths that a log names; a manifest has them all."""


@dataclass(frozen=True)
class InputFile:
    """A file as found: its name, size, and when it was last changed (Unix seconds).

    The name is written to tables: in it ``${NAME}`` stands for a value of the environment, and it tells nothing of the
    machine. ``location``: where the file lies, if the name does not say it, with ``${NAME}`` too; ``folder``: the
    working directory of a name that is relative; only the state of a job has these two. ``path`` is what is opened.
    """

    name: str
    bytes: int
    modified: float
    location: str = field(default="", compare=False)
    folder: str = field(default="", compare=False)

    @property
    def path(self) -> str:
        return restored(self.location or self.name)

    @property
    def absolute(self) -> str:
        """Where it lies, whatever the working directory is; empty where that is not known, as in older plans."""
        if self.location or not _is_relative(self.name):
            return self.location or self.name
        return self.folder and f"{self.folder}/{self.name}"


Expanded = tuple[bool, list[InputFile], list[NotRead]]
"""Whether a pattern is a folder, the files that it stands for, sorted by name, and what is beside them."""


HIDDEN = "its name begins with . or _"
NO_FORMAT = "no format for it"
NOWHERE = "a link that leads nowhere: what it names was not fetched"
READ_ALREADY = "a link to what is read under another name"
NO_FILE = "neither a file nor a folder"
FOLDER = "a folder, and the pattern names files"
DESCRIPTION = "what datasets says of a data set that it saved, and no data"
CACHE = "not one of the files of the data set that was saved beside it"

_DESCRIPTIONS = ("state.json", "dataset_info.json", "dataset_dict.json")


def expand_remote(pattern: str) -> Expanded:
    """UsageError: without Beam there is no client for addresses."""
    remedy = "fetch it first, or score it with `curricle score` or curricle.pipelines.score"
    raise UsageError("is no file of this machine", where=pattern, remedy=remedy)


def find_inputs(
    patterns: Iterable[str],
    output: str | None = None,
    readers: Sequence[Reader] = (),
    remote: Callable[[str], Expanded] = expand_remote,
    may_be_empty: bool = False,
    absolute: bool = False,
) -> tuple[list[InputFile], list[NotRead]]:
    """The files that the patterns name, each once, and what lies beside them and is not read.

    A file or a glob must name readable files (UsageError otherwise); from a folder, searched at any depth and
    through links, the others are left out and returned so that they can be reported. What lies in ``output`` is
    no input. ``readers`` read files beside those that are read anyway. ``remote`` lists what is behind an address.
    ``may_be_empty``: in a folder there need not be any.

    Where something is named by an absolute path, all names are relative to the folder that all that was named has in
    common, so that a table does not say where it was made; with ``absolute`` they are as the user gave them.
    """
    patterns = list(patterns)
    folder = None if absolute else _common_folder(patterns)
    by_path: dict[str, InputFile] = {}
    not_read: list[NotRead] = []
    for pattern in patterns:
        in_folder, files, others = _expand(pattern, output, remote)
        not_read += [other for other in others if not _is_below(other.path, output)]
        files, described = _saved_by_datasets([file for file in files if not _is_below(file.name, output)])
        not_read += described
        readable = [file for file in files if _is_readable(file.name, readers)]
        if in_folder:
            not_read += [NotRead(file.name, NO_FORMAT) for file in files if not _is_readable(file.name, readers)]
        else:
            for file in files:
                kind_of(file.name, readers)  # raises for what cannot be read, and says what can
        if not readable and not (in_folder and may_be_empty):
            what = (
                "a directory, not a file, and no file that can be read is in it"
                if in_folder
                else "there is no such file"
            )
            beside = listed([f"{_shown(other.path)}: {other.reason}" for other in [*others, *described]], 1000)
            raise UsageError(what + (beside and f"; left out:{beside}"), where=pattern, remedy=f"name {READ}")
        for file in readable:
            _check_name(file.name)
            first = by_path.setdefault(_real_path(file.name), file)
            if os.path.abspath(first.name) != os.path.abspath(file.name):
                not_read.append(NotRead(file.name, READ_ALREADY))
    left_out = {NotRead(redacted(_shown(_relative(other.path, folder))), other.reason) for other in not_read}
    return [_named(file, folder) for file in by_path.values()], sorted(left_out)


def say_left_out(not_read: Sequence[NotRead]) -> None:
    """A line of the log for each reason why something beside the inputs is not read."""
    for reason in sorted({other.reason for other in not_read}):
        paths = [printable(other.path) for other in not_read if other.reason == reason]
        log.warning("left out, %s: %s", reason, shortened(paths, most=_NAMED))


def _saved_by_datasets(files: Sequence[InputFile]) -> tuple[list[InputFile], list[NotRead]]:
    """Without what lies beside the data in folders that ``datasets.save_to_disk`` wrote."""
    saved = {
        os.path.dirname(file.name): _data_files(file.name)
        for file in files
        if os.path.basename(file.name) == "state.json"
    }
    data: list[InputFile] = []
    others: list[NotRead] = []
    for file in files:
        folder, name = os.path.split(file.name)
        inside = saved.get(folder)
        if name in _DESCRIPTIONS and (folder in saved or name == "dataset_dict.json") and len(files) > 1:
            others.append(NotRead(file.name, DESCRIPTION))
        elif inside is not None and name.endswith(".arrow") and name not in inside:
            others.append(NotRead(file.name, CACHE))
        else:
            data.append(file)
    return data, others


def _data_files(state: str) -> frozenset[str] | None:
    """The files of the data set with this state; None where it does not say."""
    try:
        with open(state, "rb") as stream:
            listed_there = strict.loads(stream.read(1 << 24).decode())["_data_files"]
        return frozenset(each["filename"] for each in listed_there)
    except (OSError, ValueError, LookupError, TypeError):
        return None


def _real_path(name: str) -> str:
    """What a name stands for, whatever links lead there."""
    return name if is_remote(name) else os.path.realpath(name)


def _shown(name: str) -> str:
    return name.encode("utf-8", "backslashreplace").decode()


def _named(file: InputFile, folder: str | None) -> InputFile:
    """The input under the name that is written for it; UsageError if that would not say where it lies."""
    path, name = redacted(file.name), redacted(_relative(file.name, folder))
    if restored(path) != file.name:
        raise UsageError("the name of the file holds a variable's own name", where=file.name, remedy="rename the file")
    location = file.location or ("" if name == path else redacted(os.path.abspath(file.name)))
    working = redacted(os.getcwd()) if not location and _is_relative(name) else ""
    return replace(file, name=name, location=location, folder=working)


def _is_relative(name: str) -> bool:
    return not is_remote(name) and not os.path.isabs(name)


def _common_folder(patterns: Sequence[str]) -> str | None:
    """The folder that lies above all that was named, whichever files that stands for; None if no path is absolute."""
    local = [pattern for pattern in patterns if not is_remote(pattern)]
    if not any(map(os.path.isabs, local)):
        return None
    return os.path.commonpath([os.path.abspath(_root(pattern)) for pattern in local])


def _root(pattern: str) -> str:
    if os.path.isdir(pattern):
        return pattern
    return os.path.dirname(pattern if os.path.lexists(pattern) else re.split(r"[*?\[]", pattern, maxsplit=1)[0])


def _relative(name: str, folder: str | None) -> str:
    if folder is None or is_remote(name):
        return name
    return os.path.relpath(os.path.abspath(name), folder) + "/" * name.endswith("/")


def _check_name(name: str) -> None:
    """UsageError for bytes that are no text: the table says of every row which file it came from."""
    try:
        name.encode()
    except UnicodeEncodeError as error:
        raise UsageError("the name of the file is not UTF-8", where=_shown(name), remedy="rename it") from error


def _is_below(name: str, output: str | None) -> bool:
    """Whether a file lies in the output directory: a job must not read what it wrote."""
    if output is None:
        return False
    if is_remote(name) or is_remote(output):
        return name.startswith(output.rstrip("/") + "/")
    return Path(os.path.realpath(output)) in Path(os.path.realpath(name)).parents


def _is_readable(name: str, readers: Sequence[Reader]) -> bool:
    try:
        kind_of(name, readers)
    except UsageError:
        return False
    return True


def is_remote(name: str) -> bool:
    return "://" in name


def _expand(pattern: str, output: str | None, remote: Callable[[str], Expanded]) -> Expanded:
    if is_remote(pattern):
        return remote(pattern)
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


def _walk(folder: Path, output: str | None) -> tuple[list[str], list[NotRead]]:
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
                if is_hidden([name]):
                    others.append(NotRead(f"{path}/", HIDDEN))
                elif path.is_symlink():
                    linked.append(path)
                else:
                    below.append(name)
            folders[:] = below
            for name in names:
                path = inside / name
                if is_hidden([name]):
                    others.append(NotRead(str(path), HIDDEN))
                elif path.is_file():
                    files.append(str(path))
                else:
                    others.append(NotRead(str(path), NO_FILE if path.exists() else NOWHERE))
    return files, others


def _is_output(folder: Path, output: str | None) -> bool:
    return output is not None and not is_remote(output) and os.path.realpath(folder) == os.path.realpath(output)


def _raise(error: OSError) -> None:
    raise UsageError(
        f"the folder cannot be read: {error.strerror}",
        where=_shown(str(error.filename)),
        remedy="ask for the right to read it, or name the files that are to be read",
    ) from error


def is_hidden(below: Iterable[str]) -> bool:
    """Whether a path below the folder that the user named has a step that tools keep for themselves."""
    return any(step.startswith((".", "_")) for step in below)


def _stat(names: Iterable[str]) -> list[InputFile]:
    return [InputFile(name, (stat := Path(name).stat()).st_size, stat.st_mtime) for name in sorted(names)]
