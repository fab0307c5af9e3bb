"""One dataclass is the flags and the YAML of a command."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import pytest

from schemas.config import option, parse
from schemas.errors import UsageError


@dataclass(frozen=True)
class Inner:
    model: str = option("which", "small")
    max_length: int = option("tokens", 8)
    kind: Literal["a", "b"] = option("kind", "a")


@dataclass(frozen=True)
class Settings:
    inputs: tuple[str, ...] = option("files", positional=True)
    output: Path = option("where")
    names: tuple[str, ...] = option("names", ("x",))
    inner: Inner = field(default_factory=Inner)
    share: float | None = option("share", None)
    fast: bool = option("fast", False)
    rest: dict[str, str] = option("other", {}, rest="other")


def of(*arguments: str) -> Settings:
    return parse(Settings, arguments, "prog")


def test_flags_are_typed():
    settings = of(
        "f", "g", "--output", "o", "--inner.max-length", "1_000", "--share", "0.5", "--fast", "--names", "a,b"
    )
    assert settings.inputs == ("f", "g")
    assert settings.output == Path("o")
    assert settings.inner == Inner(max_length=1000)
    assert (settings.share, settings.fast, settings.names) == (0.5, True, ("a", "b"))


def test_rest_collects_keys_known_later():
    assert of("f", "--output", "o", "--other.top-k", "3", "--other.p=2").rest == {"top_k": "3", "p": "2"}


def test_yaml_has_the_same_keys_and_flags_win(tmp_path):
    file = tmp_path / "job.yaml"
    file.write_text("inputs: [f]\noutput: o\ninner: {max-length: 3, model: big}\nshare: 0.25\n")
    settings = of("--config", str(file), "--inner.model", "huge")
    assert settings == Settings(("f",), Path("o"), inner=Inner("huge", 3), share=0.25)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["f", "--output", "o", "--inner.max-lenth", "3"], "did you mean '--inner.max-length'?"),
        (["f", "--output", "o", "--inner.max-length", "3.5"], "not int"),
        (["f", "--output", "o", "--inner.kind", "c"], "there are: a, b"),
        (["f", "--output", "o", "--share", "much"], "not float"),
        (["f"], "--output is required"),
        (["--output", "o"], "inputs is required"),
        (["f", "--output"], "expected one argument"),
        (["f", "--config", "absent.yaml"], "no such file"),
    ],
)
def test_what_is_wrong_is_named(arguments, said):
    with pytest.raises(UsageError) as caught:
        of(*arguments)
    assert said in str(caught.value)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("ouput: o", "did you mean 'output'?"),
        ("output: o\ninner: {modle: x}", "did you mean 'model'?"),
        ("- a", "not options"),
        ("a: [", "not YAML"),
    ],
)
def test_yaml_faults_are_named(tmp_path, text, said):
    (tmp_path / "job.yaml").write_text(text)
    with pytest.raises(UsageError) as caught:
        of("f", "--config", str(tmp_path / "job.yaml"))
    assert said in str(caught.value)
