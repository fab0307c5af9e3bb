"""What is asked for as a task: a name of the harness, a YAML file, or one of ours over a local file."""

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from curricle.schemas.common.config import nearest
from curricle.schemas.common.errors import UsageError
from curricle.schemas.sums import sha256_of

FOLDER = Path(__file__).parent / "tasks"
OURS = tuple(sorted(path.stem for path in FOLDER.glob("*.yaml")))
_REFERS = re.compile(r"!function\s|^\s*include:", re.MULTILINE)
_INCLUDED = re.compile(r"[^\s'\",\[\]]+\.ya?ml\b")
_OF_TASKS = (".py", ".yaml", ".yml")
READERS = {".jsonl": "json", ".json": "json", ".parquet": "parquet", ".csv": "csv"}


@dataclass(frozen=True)
class Task:
    """``text``: as it was asked for. ``content``: what the harness is given: a name, or what a YAML file says.
    ``file``: the YAML file, beside which the harness looks for its functions. ``digest``: of the files that say
    what is asked, empty for a task of the harness, which its version says.
    """

    text: str
    content: str | dict[str, Any]
    file: Path | None = None
    digest: str = ""

    @classmethod
    def of(cls, text: str) -> "Task":
        """UsageError for a file that is not there, or is none of a task."""
        name, at, path = text.partition("@")
        if at:
            return _over_file(text, name, Path(path))
        if text.endswith((".yaml", ".yml")):
            return _from_yaml(text)
        return cls(text, text)


def _over_file(text: str, name: str, path: Path) -> Task:
    if name not in OURS:
        raise UsageError(f"there is no task {name!r} over a file", where=text, remedy=nearest(name, OURS))
    if path.suffix not in READERS:
        kinds = ", ".join(READERS)
        raise UsageError(f"{path.name} is none of {kinds}", where=text, remedy="give the records as one of these")
    if not path.is_file():
        raise UsageError("there is no such file", where=str(path), remedy=f"name a file: {name}@FILE")
    source = FOLDER / f"{name}.yaml"
    content = yaml.safe_load(source.read_text("utf-8"))
    files = {"data_files": {"test": str(path.resolve())}}
    content |= {"dataset_path": READERS[path.suffix], "dataset_kwargs": files}
    return Task(text, content, None, f"{sha256_of(source)} {sha256_of(path)}")


def _from_yaml(text: str) -> Task:
    path = Path(text)
    if not path.is_file():
        raise UsageError("there is no such file", where=text, remedy="name the YAML file of a task")
    try:
        names = [line.partition(":")[2].strip() for line in path.read_text("utf-8").splitlines() if line[:5] == "task:"]
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"cannot be read: {error}", where=text, remedy="give a YAML file of a task") from error
    if len(names) != 1 or not names[0]:
        raise UsageError("it has no line `task: NAME`", where=text, remedy="give a YAML file of a task of the harness")
    return Task(text, names[0].strip("'\""), path.resolve(), _digest(path.resolve()))


def _digest(path: Path) -> str:
    """Of a YAML file; if it refers to others, of these and of all code and YAML beside each, for what code imports."""
    files, waiting = list[Path](), [path]
    while waiting:
        file = waiting.pop()
        if file in files:
            continue
        files.append(file)
        if file.suffix != ".py" and _REFERS.search(text := file.read_text("utf-8", "replace")):
            named = {file.parent / name for name in _INCLUDED.findall(text)} | {*file.parent.iterdir()}
            waiting += [each.resolve() for each in named if each.suffix in _OF_TASKS and each.is_file()]
    return " ".join(sha256_of(each) for each in [path, *sorted({*files} - {path})])
