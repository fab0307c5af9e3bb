"""Plug-ins by name: from distributions that are really there, and from files."""

import subprocess
import sys
from dataclasses import dataclass, fields
from hashlib import sha256

import pytest
from curricle.schemas.common.errors import UsageError
from curricle.schemas.common.plugins import Group, Plugin, is_file

GROUP: Group[dict[str, int]] = Group(
    "curricle.tests", "weight", "a dict", lambda value: isinstance(value, dict), ours=("plain", "even")
)


@dataclass(frozen=True)
class Site:
    """A directory of installed distributions."""

    path: object

    def install(self, distribution, version, points, **modules):
        info = self.path / f"{distribution}-{version}.dist-info"
        info.mkdir()
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {distribution}\nVersion: {version}\n")
        (info / "entry_points.txt").write_text("[curricle.tests]\n" + "\n".join(points) + "\n")
        for name, text in modules.items():
            (self.path / f"{name}.py").write_text(text)


@pytest.fixture
def site(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(tmp_path)
    before = {*sys.modules}
    yield Site(tmp_path)
    for name in {*sys.modules} - before:
        del sys.modules[name]


def refusal(name):
    with pytest.raises(UsageError) as caught:
        GROUP.load(name)
    return str(caught.value)


def test_an_installed_plugin_is_known_by_its_distribution_and_version(site):
    site.install("heavy-weights", "1.2", ["heavy = their_heavy:WEIGHT"], their_heavy="WEIGHT = {'a': 3}")
    assert GROUP.names() == ["heavy"]
    assert "their_heavy" not in sys.modules
    assert GROUP.load("heavy") == Plugin("heavy", {"a": 3}, {"distribution": "heavy-weights", "version": "1.2"})


def test_a_file_is_known_by_its_bytes(tmp_path, monkeypatch):
    text = "WEIGHT = {'a': 1}\n"
    (tmp_path / "my.py").write_text(text)
    monkeypatch.chdir(tmp_path)
    first = GROUP.load("./my.py:WEIGHT")
    assert first == Plugin("./my.py:WEIGHT", {"a": 1}, {"file": "my.py", "sha256": sha256(text.encode()).hexdigest()})
    assert GROUP.load(f"{tmp_path}/my.py:WEIGHT").object is first.object
    (tmp_path / "my.py").write_text(text + "WEIGHT['b'] = 2\n")
    second = GROUP.load("./my.py:WEIGHT")
    assert (second.object, first.object) == ({"a": 1, "b": 2}, {"a": 1})
    assert second.identity != first.identity


def test_a_file_may_hold_dataclasses_with_annotations_as_texts(tmp_path):
    group = Group("curricle.tests", "shape", "a class", lambda result: isinstance(result, type))
    (tmp_path / "shapes.py").write_text(
        "from __future__ import annotations\nfrom dataclasses import dataclass\nfrom typing import ClassVar\n"
        "@dataclass\nclass Square:\n    corners: ClassVar[int] = 4\n    side: int = 1\n"
    )
    square = group.load(f"{tmp_path}/shapes.py:Square").object
    assert [each.name for each in fields(square)] == ["side"]


@pytest.mark.parametrize(
    ("name", "file"),
    [("./my.py:A", True), ("my.py:A", True), ("c:/x/my.py:A", True), ("my.py", False), ("loss:high", False)],
)
def test_what_a_file_is_named_as(name, file):
    assert is_file(name) == file


def test_an_unknown_name_is_told_what_there_is(site):
    site.install("heavy-weights", "1.2", ["heavy = their_heavy:WEIGHT"])
    assert "unknown weight 'hevy'" in refusal("hevy") and "did you mean 'heavy'?" in refusal("hevy")
    assert "there are: even, heavy, plain" in refusal("zzz") and "./my.py:WEIGHT" in refusal("zzz")


def test_two_distributions_with_one_name_are_refused(site):
    for name in ("one", "two"):
        site.install(name, "1.0", [f"heavy = their_{name}:WEIGHT"], **{f"their_{name}": "WEIGHT = {}"})
    assert "in several distributions: one 1.0, two 1.0" in refusal("heavy")
    assert not {"their_one", "their_two"} & {*sys.modules}


def test_no_plugin_takes_a_name_of_ours(site):
    site.install("sly", "1.0", ["plain = sly:WEIGHT"], sly="WEIGHT = {}")
    assert GROUP.names() == []
    with pytest.raises(AssertionError, match="'plain' is ours"):
        GROUP.load("plain")


@pytest.mark.parametrize(
    ("text", "result"),
    [
        ("x = 1\nimport no_such_library\n", "line 2: ModuleNotFoundError: No module named 'no_such_library'"),
        ("x = (\n", "line 1: SyntaxError: '(' was never closed"),
        ("import sys\n\nsys.exit('bye')\n", "line 3: SystemExit: bye"),
        ("def f():\n    raise ValueError\nf()\n", "line 2: ValueError"),
    ],
)
def test_a_plugin_that_cannot_be_imported_is_named(site, text, result):
    (site.path / "bad.py").write_text(text)
    assert f"{site.path}/bad.py: cannot be imported: {result}" in refusal(f"{site.path}/bad.py:WEIGHT")
    assert not [name for name in sys.modules if name.startswith("curricle_file_bad_")]
    site.install("broken", "3.1", ["broken = their_broken:WEIGHT"], their_broken=text)
    words = refusal("broken")
    assert "weight 'broken' of broken 3.1: their_broken:WEIGHT cannot be imported: " in words
    assert result.partition(": ")[2].split(":")[0] in words


def test_a_name_that_is_not_there_or_is_something_else(site):
    (site.path / "my.py").write_text("LIGHT, HEAVY, TEXT = {}, {'a': 1}, 'x'\n")
    assert "there is no 'HEAVI' in it" in refusal(f"{site.path}/my.py:HEAVI")
    assert "did you mean 'HEAVY'?" in refusal(f"{site.path}/my.py:HEAVI")
    assert "it is str" in refusal(f"{site.path}/my.py:TEXT") and "has to be a dict" in refusal(
        f"{site.path}/my.py:TEXT"
    )
    assert "No such file" in refusal(f"{site.path}/other.py:HEAVY")
    site.install("typed", "1.0", ["typed = their_typed:A"], their_typed="class A: pass")
    assert "weight 'typed' of typed 1.0: it is the class A" in refusal("typed")


def test_the_loader_is_light():
    code = "import sys, curricle.schemas.common.plugins; print(*sys.modules)"
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    assert not {"torch", "numpy", "pyarrow", "yaml"} & {*loaded}
