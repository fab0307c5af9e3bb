"""What lies at a path, known by its bytes: what a step reads, and what it has made.

A file whose size and time of change are those that were recorded is not read again.
"""

import os
import re
from collections.abc import Iterable, Iterator, Mapping
from hashlib import sha256
from pathlib import Path
from typing import Any

from curricle.pipelines.scoring.inputs import content_sha256
from curricle.pipelines.steps.options import COPIES, CURATION, TRAINER, is_of, named_paths, texts
from curricle.pipelines.steps.plan import Step, files_read
from curricle.pipelines.storage import open_storage
from curricle.schemas.common.errors import UserError
from curricle.schemas.common.home import at_home
from curricle.schemas.common.secrets import redacted
from curricle.schemas.contract import untagged
from curricle.schemas.exchange import committed
from curricle.schemas.fingerprint import digest
from curricle.schemas.manifest import MANIFEST
from curricle.schemas.sealed import unsealed
from curricle.schemas.sums import sha256_of
from curricle.schemas.verify import damaged

Content = Mapping[str, Any]
"""``manifest``: the SHA-256 of a table's; ``files``: those of files by name; ``name``: what is in no directory here."""

_PLUGIN = re.compile(r"(.+\.py):\w+")
_RUN, _COMPARISON = "run.json", ("compare.json", "compare.md")


def inputs_of(step: Step, before: Mapping[str, Content]) -> dict[str, Content]:
    """What the step reads, by what its options call it. ``before``: what was recorded of it.

    Values of the environment do not stand in names.
    """
    paths = {text: step.paths[text] for key, text in named_paths(step.options) if not is_of(key, COPIES)}
    paths |= {text: at_home(file, step.where) for text, file in _plugins(step)}
    content = {name: _content(path, before.get(name, {})) for text, path in paths.items() for name in [redacted(text)]}
    if inputs := files_read(step.curation()) if step.command in CURATION else []:
        recorded = before.get("inputs", {}).get("files", {})
        files = {file.name: _file(file.path, recorded.get(file.name), file.bytes, file.modified) for file in inputs}
        content["inputs"] = {"files": files}
    return content


def _plugins(step: Step) -> Iterator[tuple[str, str]]:
    """Each option that is ``./my.py:NAME``, and the file."""
    return ((text, match[1]) for text in texts(step.options) if (match := _PLUGIN.fullmatch(text)))


def changes(before: Mapping[str, Content], now: Mapping[str, Content]) -> list[str]:
    """One line for each thing that is not what was recorded."""
    lines = []
    for name in sorted({*before, *now}):
        one, other = before.get(name, {}), now.get(name, {})
        old, new = one.get("files", {}), other.get("files", {})
        if not (old and new):
            lines += [f"{name} is another" if one and other else f"{name} is new"] * (_plain(one) != _plain(other))
            continue
        lines += [f"{file} is new" for file in new if file not in old]
        lines += [f"{file} is gone" for file in old if file not in new]
        lines += [f"{file} was changed" for file in old if file in new and _plain(old[file]) != _plain(new[file])]
    return lines


def _plain(content: Content) -> Any:
    """Without when a file was changed."""
    return {key: value for key, value in content.items() if key != "modified" or not content.get("sha256")}


def _content(path: str, before: Content) -> Content:
    if "://" in path or os.path.exists(os.path.join(path, MANIFEST)):
        files = committed(open_storage(path))
        return (
            {"manifest": sha256(files.read(MANIFEST)).hexdigest()}
            if files.exists(MANIFEST)
            else {"name": redacted(path)}
        )
    if not os.path.exists(path):
        return {"name": redacted(path)}
    recorded, root = before.get("files", {}), Path(path)
    return {"files": {name: _local(file, recorded.get(name)) for name, file in _files_below(root)}}


def _files_below(root: Path) -> Iterator[tuple[str, Path]]:
    if root.is_file():
        yield root.name, root
        return
    for folder, folders, names in os.walk(root, followlinks=True):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        for name in sorted(names):
            file = Path(folder, name)
            if file.is_file():
                yield str(file.relative_to(root)), file


def _local(file: Path, before: Content | None) -> Content:
    about = file.stat()
    return _file(str(file), before, about.st_size, about.st_mtime)


def _file(path: str, before: Content | None, size: int, modified: float) -> Content:
    """A file behind an address is known by its size and time alone: to read it is to fetch it."""
    about: dict[str, Any] = {"bytes": size, "modified": modified}
    if "://" in path:
        return about
    if before and before.get("sha256") and (before.get("bytes"), before.get("modified")) == (size, modified):
        return before
    return {**about, "sha256": content_sha256(path, size, modified)}


def product_of(command: str, output: str, sets: Iterable[str] = ()) -> Content | None:
    """What a step has made, if it is whole: by names and sizes. None where it is not finished, or not there.

    ``sets``: the names of the tables below ``output``, where it is not a table itself.
    """
    if command in TRAINER:
        return _run(Path(output)) if command == "train" else _comparison(Path(output))
    manifests = {}
    for name, path in ({name: f"{output}/{name}" for name in sets} or {"": output}).items():
        files = committed(open_storage(path))
        if not files.exists(MANIFEST) or damaged(files, digests=False):
            return None
        manifests[name] = sha256(files.read(MANIFEST)).hexdigest()
    return {"manifests": manifests}


def _comparison(output: Path) -> Content | None:
    if not all((output / name).is_file() for name in _COMPARISON):
        return None
    return {"comparison": {name: sha256_of(output / name) for name in _COMPARISON}}


def _run(output: Path) -> Content | None:
    try:
        data = (output / _RUN).read_bytes()
        finished = untagged("run", unsealed(data), str(output / _RUN)).get("finished")
    except (FileNotFoundError, NotADirectoryError, ValueError, UserError):
        return None
    files = [[name, file.stat().st_size] for name, file in _files_below(output / "checkpoints")]
    return None if finished is None or not files else {"run": sha256(data).hexdigest(), "checkpoints": digest(files)}
