"""One dataclass is the flags and the YAML of a command."""

import logging
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import pytest
from curricle.schemas.common.config import build, option
from curricle.schemas.common.errors import UsageError, UserError
from curricle.schemas.common.flags import parse
from curricle.schemas.common.log import set_up_logging


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
    weights: dict[str, float] = option("weights", {}, rest="weight")
    log_format: Literal["text", "json"] = option("lines", "text")


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


def test_one_set_of_keys(tmp_path):
    """Dashes, underscores and dots name the same options in a file, on the command line, and in Python."""
    wanted = Settings(("f",), Path("o"), inner=Inner("huge", 3), log_format="json", rest={"top_k": "5"})
    line = ["f", "--output", "o", "--inner.max_length=3", "--inner.model", "huge", "--log_format", "json"]
    assert of(*line, "--other.top_k", "5") == wanted
    file = tmp_path / "job.yaml"
    for text in (
        "inner: {max-length: 3, model: huge}\nlog-format: json\nrest: {top-k: 5}",
        "inner: {max_length: 3}\ninner.model: huge\nlog_format: json\nrest.top_k: 5",
        "inner.max-length: 3\ninner:\ninner.model: huge\nlog_format: json\nother.top-k: 5",
    ):
        file.write_text(f"inputs: [f]\noutput: o\n{text}\n")
        assert of("--config", str(file)) == wanted, text
    values = {"inputs": ["f"], "output": "o", "inner.model": "huge", "inner": {"max-length": 3}, "log-format": "json"}
    assert build(Settings, {**values, "rest": {"top-k": 5}}, "here") == wanted
    with pytest.raises(UsageError, match="unknown argument"):
        of("f", "--output", "o", "--other_.k", "3")


def test_names_of_a_user_stay_as_they_are(tmp_path):
    file = tmp_path / "job.yaml"
    file.write_text("data: {my-set: one, my_set: two, b.2: three}\n")
    data = {"my-set": Path("one"), "my_set": Path("two"), "b.2": Path("three")}
    assert parse(Named, ["--config", str(file)], "prog").data == data


@dataclass(frozen=True)
class Named:
    data: dict[str, Path] = option("tables", {}, unnamed="alone")
    log_format: Literal["text", "json"] = option("lines", "text")


@pytest.mark.parametrize(
    ("text", "paths"),
    [
        ("a=x/one,b.2=~/two", {"a": Path("x/one"), "b.2": Path.home() / "two"}),
        ("one", {"alone": Path("one")}),
        ("./run=3/one", {"alone": Path("run=3/one")}),
        ("/data/run=3,b=two=2", {"alone": Path("/data/run=3"), "b": Path("two=2")}),
    ],
)
def test_a_dict_is_several_values_by_name(text, paths):
    assert parse(Named, ["--data", text], "prog").data == paths


def test_several_by_name_are_a_map_in_yaml_and_one_alone_is_a_text(tmp_path):
    file = tmp_path / "job.yaml"
    file.write_text("data: {a: one, b: 'two,2'}\n")
    assert parse(Named, ["--config", str(file)], "prog").data == {"a": Path("one"), "b": Path("two,2")}
    file.write_text("data: one,2=3\n")
    assert parse(Named, ["--config", str(file)], "prog").data == {"alone": Path("one,2=3")}
    assert parse(Named, ["--config", str(file), "--data", "a=x"], "prog").data == {"a": Path("x")}


@pytest.mark.parametrize("text", ["a=one,a=two", "one,two"])
def test_values_with_one_name_are_refused(text):
    with pytest.raises(UsageError, match=f"--data {text}: two values are called"):
        parse(Named, ["--data", text], "prog")
    with pytest.raises(UsageError, match=r"--data: 'a\|b' is no name"):
        build(Named, {"data": {"a|b": "x"}}, "prog")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["f", "--output", "o", "--inner.max-lenth", "3"], "did you mean '--inner.max-length'?"),
        (["f", "--output", "o", "--inner.max-length", "3.5"], "not a whole number"),
        (["f", "--output", "o", "--inner.kind", "c"], "there are: a, b"),
        (["f", "--output", "o", "--share", "much"], "not a number"),
        (["f"], "--output is required"),
        (["--output", "o"], "INPUTS is required"),
        (["f", "--output"], "expected one argument"),
        (["f", "--config", "absent.yaml"], "no such file"),
    ],
)
def test_what_is_wrong_is_named(arguments, message):
    with pytest.raises(UsageError) as caught:
        of(*arguments)
    assert message in str(caught.value)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("ouput: o", "did you mean 'output'?"),
        ("output: o\ninner: {modle: x}", "did you mean 'model'?"),
        ("- a", "not options"),
        ("", "holds nothing, not options"),
        ("a: [", "not YAML: expected the node content"),
        ("output: o\nx: token: s3cret", "in line 2"),
        ("output: " + "[" * 5000, "not YAML"),
        ("output: \0", "not YAML"),
        ("a: &a [x, x]\nb: &b [*a, *a]", "aliases (*name) are not read in line 2"),
        ("a: &a {b: c}\nd: {<<: *a}", "aliases"),
        ("log-format: text\nlog_format: json", "'log_format' is there twice"),
        ("inner: {max-length: 3}\ninner.max_length: 4", "'inner.max_length' is there twice"),
        ("inner: big\ninner.model: small", "inner is 'big', and has options of its own as well"),
        ("share.of: 3", "unknown option 'share.of'"),
        ("names: [a]\nshare: 1\nnames: [b]", "'names' is there twice, in line 1 and line 3"),
        ("inner:\n  kind: a\n  'kind': b", "'kind' is there twice, in line 2 and line 3"),
        ("names:\n- {a: 1,\n  a: 2}", "'a' is there twice, in line 2 and line 3"),
        ("yes: 1\ntrue: 2", "'True' is there twice"),
        ("inner: {<<: {kind: a}, kind: b}", "<< is not read in line 1"),
        ("output: o\ninner: 3", "--inner is 3, which is not a group of options"),
        ("output: {a: b}", "which is not a path"),
        ("output: o\nnames: {a: b}", "which is not a list"),
        ("output: o\nweights: {a: x}", "--weights.a is 'x', which is not a number"),
        ("output: ${UNSET}/x", "output needs the environment variable UNSET, which is not set"),
        ("inner: {model: '${UNSET}'}", "inner.model needs the environment variable UNSET"),
    ],
)
def test_yaml_faults_are_named(tmp_path, text, message):
    (tmp_path / "job.yaml").write_text(text)
    with pytest.raises(UsageError) as caught:
        of("f", "--config", str(tmp_path / "job.yaml"))
    assert message in str(caught.value)
    assert "s3cret" not in str(caught.value), "the file is not quoted"


def with_file(tmp_path: Path, text: str, *arguments: str) -> Settings:
    (tmp_path / "job.yaml").write_text(text)
    return of("f", "--config", str(tmp_path / "job.yaml"), *arguments)


@pytest.mark.parametrize("inner", ["inner:", "inner: null", "inner: {max_length: 3}", "inner: {max-length: 3}"])
def test_flags_go_into_what_the_file_says_of_a_group(tmp_path, inner):
    text = f"output: o\nrest:\n{inner}\n"
    options = with_file(tmp_path, text, "--inner.max-length", "9", "--other.k", "1", "--weight.w", "2")
    assert (options.inner, options.rest, options.weights) == (Inner(max_length=9), {"k": "1"}, {"w": 2.0})
    assert with_file(tmp_path, text).rest == {}
    with pytest.raises(UsageError, match="'rest' is 5, not options"):
        with_file(tmp_path, "output: o\nrest: 5", "--other.k", "1")


@pytest.mark.parametrize("text", ["inputs: b,c.jsonl", "inputs: [b,c.jsonl]", "inputs:\n- 'b,c.jsonl'"])
def test_commas_cut_flags_and_nothing_else(tmp_path, text):
    """In a file a list says that there are several, so a comma belongs to the name."""
    (tmp_path / "job.yaml").write_text(f"{text}\noutput: o\nnames: x,y")
    options = parse(Settings, ["--config", str(tmp_path / "job.yaml")], "prog")
    assert options.inputs == (("b", "c.jsonl") if text == "inputs: [b,c.jsonl]" else ("b,c.jsonl",))
    assert options.names == ("x,y",)
    assert of("f,g", "--output", "o", "--names", "x,y").names == ("x", "y")
    assert of("f,g", "--output", "o").inputs == ("f,g",)


def test_numbers_are_cut_at_commas_wherever_they_stand():
    @dataclass(frozen=True)
    class Cuts:
        at: tuple[float, ...] = option("where", ())

    assert build(Cuts, {"at": "0.5,2"}, "prog") == Cuts((0.5, 2.0)) == parse(Cuts, ["--at", "0.5,2"], "prog")


def test_a_directory_is_no_configuration(tmp_path):
    with pytest.raises(UsageError, match="cannot be read"):
        of("f", "--config", str(tmp_path))


def test_variables_of_the_environment(tmp_path, monkeypatch):
    for name, value in {"PLACE": "/data", "LENGTH": "7", "FAST": "true", "NOTHING": "", "LIST": "a,b"}.items():
        monkeypatch.setenv(name, value)
    text = """
output: ${PLACE}/${UNSET:-run}-$${PLACE}-$PLACE
inner: {max-length: "${LENGTH}", model: "${NOTHING}${NOTHING:-big}"}
fast: ${FAST}
names: ${LIST}
share: ${UNSET:-0.5}
other: ["${PLACE}"]
"""
    options = with_file(tmp_path, text.replace("other", "inputs"), "--other.x", "${PLACE}")
    assert options.output == Path("/data/run-${PLACE}-$PLACE")
    assert (options.inner, options.fast, options.names, options.share) == (Inner("big", 7), True, ("a,b",), 0.5)
    assert options.rest == {"x": "${PLACE}"}, "flags are expanded by the shell, or not at all"


def test_what_came_from_the_environment_is_never_printed(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("TOKEN", "hunter2's\\secret")
    for text in ("share: ${TOKEN}", "inner: {kind: 'x${TOKEN}'}", "names: [{a: '${TOKEN}'}]"):
        with pytest.raises(UsageError) as caught:
            with_file(tmp_path, f"output: o\n{text}")
        assert "hunter2" not in str(caught.value) and "${TOKEN}" in str(caught.value)
    options = with_file(tmp_path, "output: ${TOKEN}/x")
    assert str(options.output) == "hunter2's\\secret/x"
    assert str(UserError("is full", where=str(options.output))) == "${TOKEN}/x: is full"
    for form in ("text", "json"):
        set_up_logging(form)
        try:
            raise OSError(str(options.output))
        except OSError:
            logging.getLogger("curricle").exception("table: %s", options.output)
    message = capsys.readouterr().err
    assert "hunter2" not in message and message.count("table: ${TOKEN}/x") == 2


@dataclass(frozen=True)
class Paths:
    inputs: tuple[str, ...] = option("files", (), positional=True, path=True)
    output: str | None = option("where", None, path=True)
    path: Path | None = option("where", None)
    more: tuple[Path, ...] = option("where", ())
    beam: dict[str, str] = option("other", {}, rest="beam", path=True)
    words: str = option("no path", "")


def test_the_home_directory_in_every_path(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    home = str(tmp_path)
    flags = ["~/a", "b", "--output=~", "--path=~/x/../p", "--more=~/c,d", "--beam.temp=~/t", "--words=~/w"]
    (tmp_path / "job.yaml").write_text("inputs: [~/a, b]\noutput: ~/\npath: ~/p\nmore: [~/c, d]\nwords: ~/w\n")
    result, read = parse(Paths, flags, "prog"), parse(Paths, ["--config=~/job.yaml"], "prog")
    assert result.inputs == read.inputs == (f"{home}/a", "b")
    assert (result.output, result.path, read.path) == (home, Path(home, "x/../p"), Path(home, "p"))
    assert result.more == read.more == (Path(home, "c"), Path("d"))
    assert result.beam == {"temp": f"{home}/t"} and result.words == read.words == "~/w"


def test_a_name_that_begins_with_a_tilde_is_no_home(tmp_path, monkeypatch):
    """Libraries that expand it must not open another file."""
    monkeypatch.chdir(tmp_path)
    result = parse(Paths, ["~x", "./~/y", "a/~", "--path=./~/z"], "prog")
    assert result.inputs == (f"{tmp_path}/~x", f"{tmp_path}/~/y", "a/~") and result.path == Path(tmp_path, "~/z")


@pytest.mark.parametrize(("path", "home"), [("~nobody-of-that-name/x", "/"), ("~/x", "")])
def test_a_home_that_is_not_known(path, home, monkeypatch):
    monkeypatch.setenv("HOME", home)
    with pytest.raises(UsageError, match="no home directory that is known here"):
        parse(Paths, ["--output", path], "prog")


def test_every_option_that_names_files_is_marked_as_a_path():
    """By its words: who adds one is told."""
    import dataclasses
    import inspect

    import curricle.curate.embedding.settings
    import curricle.curate.proxy.settings
    import curricle.curate.selection.recipe
    import curricle.pipelines.cli
    import curricle.pipelines.settings.cluster
    import curricle.pipelines.settings.lp
    import curricle.pipelines.settings.reward
    import curricle.pipelines.settings.score
    import curricle.pipelines.settings.select
    import curricle.pipelines.settings.transfer
    import curricle.train.settings

    count = 0
    for module in (
        curricle.curate.embedding.settings,
        curricle.curate.proxy.settings,
        curricle.curate.selection.recipe,
        curricle.pipelines.cli,
        curricle.pipelines.settings.cluster,
        curricle.pipelines.settings.lp,
        curricle.pipelines.settings.reward,
        curricle.pipelines.settings.select,
        curricle.pipelines.settings.score,
        curricle.pipelines.settings.transfer,
        curricle.train.settings,
        curricle.train.settings,
    ):
        for _, cls in inspect.getmembers(module, dataclasses.is_dataclass):
            for item in dataclasses.fields(cls):
                words = item.metadata.get("help", "")
                names_files = any(word in words for word in ("director", "a finished table", "files", "certificate"))
                if names_files and item.type in (str, str | None, tuple[str, ...]):
                    assert item.metadata.get("path"), f"{cls.__name__}.{item.name}: {words}"
                    count += 1
    assert count > 15


@pytest.mark.parametrize("number", ["0100", "1:30", "-010", "0_7", "1:30.5"])
def test_numbers_that_yaml_reads_in_another_base_are_refused(tmp_path, number):
    (tmp_path / "job.yaml").write_text(f"inputs: [f]\noutput: o\ninner: {{max-length: 8}}\nshare: {number}\n")
    with pytest.raises(UsageError, match=r"line 4 .* octal or in base 60"):
        of("--config", str(tmp_path / "job.yaml"))


@pytest.mark.parametrize(("text", "value"), [("0", 0), ("0.5", 0.5), ("1_000", 1000), ("1e-3", 1e-3), ("0.0", 0)])
def test_plain_numbers_of_yaml_are_read(tmp_path, text, value):
    (tmp_path / "job.yaml").write_text(f"inputs: [f]\noutput: o\nshare: {text}\n")
    assert of("--config", str(tmp_path / "job.yaml")).share == value


def test_a_word_too_many_where_there_are_no_options_is_refused_in_words():
    @dataclass
    class Table:
        table: str = option("a table", "", positional=True)

    with pytest.raises(UsageError, match="unknown argument 'b'") as refused:
        parse(Table, ["a", "b"], "curricle verify")
    assert refused.value.remedy == "give one at a time"
