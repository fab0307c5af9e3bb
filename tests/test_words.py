"""Words of the code: names say what a thing is, no participle is a name, and a class name means one thing.

A path is a path, an index an index, a rank a rank: none of them is a place. What somebody said is a message or a text.
"""

import ast
import re
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

import pytest
from pages import PACKAGES, REPOSITORY

FILES = sorted(path for name in (*PACKAGES, "tests") for path in (REPOSITORY / name).rglob("*.py"))
PAGES = [REPOSITORY / "README.md", *(REPOSITORY / "docs").rglob("*.md"), *(REPOSITORY / "docker").glob("*.md")]
PARTICIPLES = {"said", "told", "found", "made", "given", "kept", "asked", "answered", "taken", "known", "seen"}

ALLOWED = {
    ("*", "given"): "hypothesis's decorator has this name",
    ("curate/report/agreement.py", "taken"): "a key of transfer.json, which is on disk",
    ("tests/pipelines/test_transfer.py", "taken"): "the same",
    ("train/curricula/campus/curriculum.py", "seen"): "--curriculum.seen, which journals hold",
    ("train/curricula/campus/perspectives.py", "seen"): "the same",
    ("tests/train/test_curricula_campus.py", "seen"): "the same",
    ("tests/train/test_campus_default.py", "seen"): "the same",
    ("tests/train/test_reward_refresh.py", "seen"): "the same",
    ("tests/pipelines/test_select.py", "place"): "a key of certificate.json, which is on disk",
}
"""Names that stay, by file, and why."""

FORMER = {
    *("Question", "Speech", "Ahead", "FinishedTable", "Held", "Answer", "Needs", "Kept", "Place", "Places"),
    *("MADE", "KNOWN", "generator"),
}
"""Names that were replaced by terms of the field."""

SAME = {
    "Turn": "a turn of a conversation, as a record spells it and as a table has it",
    "StrPath": "a type of paths, in both halves, neither of which imports the other",
    "RewardSettings": "the options of `curricle reward` and of `curricle-train reward`",
    "RewardOptions": "the same, as keywords",
}
"""Classes and types whose name stands in two modules, and why."""


def names(tree: ast.AST) -> Iterator[tuple[str, int]]:
    """Every name that a module gives or uses, and its line."""
    for node in ast.walk(tree):
        match node:
            case ast.Name(id=name) | ast.Attribute(attr=name) | ast.arg(arg=name):
                yield name, node.lineno
            case ast.FunctionDef(name=name) | ast.ClassDef(name=name):
                yield name, node.lineno
            case ast.keyword(arg=str(name)):
                yield name, node.value.lineno
            case ast.alias(name=name, asname=alias):
                yield alias or name.rpartition(".")[2], node.lineno


def parts(name: str) -> list[str]:
    return [part.lower() for part in re.split(r"_|(?<=[a-z])(?=[A-Z])", name) if part]


def errors_of(tree: ast.AST) -> set[int]:
    """The lines of functions in which ``found`` is what an error found: a parameter, or a part of its message."""
    lines: set[int] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef):
            parameter = any(each.arg == "found" for each in node.args.args)
            raised = any(
                isinstance(call, ast.Call)
                and ast.unparse(call.func).endswith(("Error", "damaged_plan", "WindowTooLarge"))
                and any(
                    isinstance(each, ast.Name) and each.id == "found" for part in call.args for each in ast.walk(part)
                )
                for call in ast.walk(node)
            )
            if parameter or raised:
                lines |= {*range(node.lineno, (node.end_lineno or node.lineno) + 1)}
        elif isinstance(node, ast.Attribute) and node.attr == "found":
            lines.add(node.lineno)  # of an error; a class of ours has no other
    return lines


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.relative_to(REPOSITORY).as_posix())
def test_names_are_nouns_of_the_field(path: Path):
    file, tree = path.relative_to(REPOSITORY).as_posix(), ast.parse(path.read_text("utf-8"))
    errors = errors_of(tree)
    bad = set()
    for name, line in names(tree):
        banned = {"place", "places"} & {*parts(name)} or ({name.strip("_").lower()} & PARTICIPLES)
        word = min(banned, default="")
        if not banned or (file, word) in ALLOWED or ("*", word) in ALLOWED or (word == "found" and line in errors):
            continue
        bad.add(f"{file}:{line}: {name}")
    assert not bad, "\n".join(sorted(bad))


def test_what_is_allowed_is_still_there():
    for file, word in ALLOWED:
        text = "\n".join(path.read_text("utf-8") for path in (FILES if file == "*" else [REPOSITORY / file]))
        assert re.search(rf"\b{word}\b", text), (file, word)


def test_no_path_index_or_rank_is_called_otherwise_in_prose():
    """But for keys that are on disk, and a variable of a test."""
    key = re.compile(r'"place"|place="/nowhere"|`place`|\bPLACE\b')
    texts = [path for path in [*FILES, *PAGES] if path != Path(__file__)]
    lines = [
        f"{path.relative_to(REPOSITORY)}:{number}: {line.strip()}"
        for path in texts
        for number, line in enumerate(path.read_text("utf-8").splitlines(), 1)
        if re.search(r"\bplaces?\b", key.sub("", line), re.I)
    ]
    assert not lines, "\n".join(lines)


def test_a_name_that_was_replaced_does_not_come_back():
    for path in FILES:
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            if isinstance(node, (ast.ClassDef, ast.FunctionDef)):
                assert node.name not in FORMER, f"{path}:{node.lineno}"


def test_a_class_name_means_one_thing():
    where = defaultdict(set)
    for path in FILES:
        file = path.relative_to(REPOSITORY).as_posix()
        if file.startswith("tests/"):
            continue
        for node in ast.parse(path.read_text("utf-8")).body:
            if isinstance(node, ast.ClassDef):
                where[node.name].add(file)
            elif isinstance(node, (ast.Assign, ast.AnnAssign)):
                targets = node.targets if isinstance(node, ast.Assign) else [node.target]
                for each in targets:
                    if isinstance(each, ast.Name) and re.match(r"[A-Z]\w*[a-z]", each.id):
                        where[each.id].add(file)
    assert {name: sorted(files) for name, files in where.items() if len(files) > 1 and name not in SAME} == {}
    assert all(len(where[name]) > 1 for name in SAME), "what is allowed is needed"
