"""How a command ends: its exit code, and its last words in the form that was asked for."""

import json
import logging
import platform
from dataclasses import dataclass, field
from importlib.metadata import version
from typing import Literal

import pytest
from curricle.schemas.common.command import DIVERGED, DONE, FAILED, HELD, USAGE, dispatch
from curricle.schemas.common.config import option
from curricle.schemas.common.errors import DirectoryLocked, Divergence, UsageError, UserError
from curricle.schemas.common.flags import parse
from curricle.schemas.common.log import set_up_logging
from curricle.schemas.common.surroundings import show

ERRORS = {
    "usage": (UsageError("wrong", remedy="mend it"), USAGE),
    "held": (DirectoryLocked("another job holds this directory", where="out"), HELD),
    "diverged": (Divergence("the loss is not finite"), DIVERGED),
    "failed": (UserError("the disk is full"), FAILED),
    "stopped": (KeyboardInterrupt(), FAILED),
}


@dataclass(frozen=True)
class Log:
    format: Literal["text", "json"] = option("lines", "text")


@dataclass(frozen=True)
class Settings:
    how: str = option("how it ends", "well")
    log_format: Literal["text", "json"] = option("lines", "text")
    log: Log = field(default=Log())


def end(arguments):
    """End as the arguments say."""
    how = parse(Settings, arguments, "prog end").how
    if how in ERRORS:
        raise ERRORS[how][0]
    return DONE


def test_a_module_that_is_not_installed_is_no_defect(capsys):
    def end_without(_):
        raise ModuleNotFoundError("No module named 'lacking'", name="lacking")

    def end_without_peft(_):
        raise ModuleNotFoundError("No module named 'peft'", name="peft")

    def end_without_ours(_):
        raise ModuleNotFoundError("No module named 'curricle.x'", name="curricle.x")

    for program, extra in (("curricle", "curate"), ("curricle-train", "train")):
        assert dispatch(program, {"end": end_without}, ["end"], "the last shard") == USAGE
        message = capsys.readouterr().err
        assert "'lacking' is not installed" in message and f'pip install "curricle[{extra}]"' in message
        assert "Traceback" not in message
        assert dispatch(program, {"end": end_without_peft}, ["end"], "the last shard") == USAGE
        assert 'pip install "curricle[lora]"' in capsys.readouterr().err
    assert dispatch("curricle", {"end": end_without_ours}, ["end"], "the last shard") == FAILED
    assert "Traceback" in capsys.readouterr().err


@pytest.mark.parametrize("program", ["curricle", "curricle-train"])
def test_help_and_version(program, capsys):
    def say(*arguments: str) -> str:
        assert dispatch(program, {"end": end}, arguments, "the last shard") == DONE
        return capsys.readouterr().out

    assert say("help") == say("--help") == say("-h") and "  end      End as the arguments say." in say("help")
    assert say("--version") == say("-V") == f"{program} {version('curricle')} (Python {platform.python_version()})\n"
    assert dispatch(program, {"end": end}, (), "the last shard") == USAGE
    with pytest.raises(SystemExit) as ended:
        say("help", "end")
    assert ended.value.code == 0 and "--how" in capsys.readouterr().out
    assert dispatch(program, {"end": end}, ["help", "and"], "the last shard") == USAGE
    assert "did you mean 'end'?" in capsys.readouterr().err


def run(*arguments: str) -> int:
    return dispatch("prog", {"end": end}, ["end", *arguments], "the last shard")


@pytest.mark.parametrize("how", ERRORS)
def test_errors_have_exit_codes_of_their_own(how, capsys):
    error, code = ERRORS[how]
    assert run("--how", how) == code
    message = capsys.readouterr().err
    assert message.startswith("prog: ") and str(error) in message
    assert run() == DONE


@pytest.mark.parametrize("flag", ["--log-format", "--log.format"])
@pytest.mark.parametrize("how", ERRORS)
def test_errors_are_json_lines_where_lines_are_json(how, flag, capsys):
    assert run("--how", how, flag, "json") == ERRORS[how][1]
    (line,) = capsys.readouterr().err.splitlines()
    assert json.loads(line)["level"] == "error" and str(ERRORS[how][0]) in json.loads(line)["message"]


@pytest.mark.parametrize("wrong", ["hw: x", "how: {a: b}", "how: ${UNSET}"])
def test_so_are_those_of_the_options_themselves(wrong, tmp_path, capsys):
    (tmp_path / "job.yaml").write_text(f"log-format: json\n{wrong}\n")
    assert run("--config", str(tmp_path / "job.yaml"), *(["--log-format=json"] if "UNSET" in wrong else [])) == USAGE
    assert run("--log-format", "json", "--hw", "x") == USAGE
    message = [json.loads(line) for line in capsys.readouterr().err.splitlines()]
    assert [line["level"] for line in message] == ["error", "error"]


def test_a_command_that_does_not_exist_is_told_as_text(capsys):
    assert dispatch("prog", {"end": end}, ["ned"], "") == USAGE
    assert capsys.readouterr().err.startswith("prog: unknown command 'ned'")


def test_a_name_is_not_obeyed_by_the_terminal(capsys):
    set_up_logging("text")
    logging.getLogger("curricle").error("%s: é\n  next", "a\x1b[2J\r\x9b\u202e.jsonl")
    assert capsys.readouterr().err == r"a\x1b[2J\r\x9b\u202e.jsonl: é" + "\n  next\n"


def test_nor_is_one_in_a_json_line_or_in_what_is_printed(capsys):
    hostile = "a\x1b[2J\x9b\x7f\u2028\u202e\ud800é"
    set_up_logging("json")
    try:
        raise ValueError(hostile)
    except ValueError:
        logging.getLogger("curricle").exception("%s", {"inner": [hostile]})
    line = capsys.readouterr().err
    assert line.isprintable() is False and line[:-1].isprintable() and line[-1] == "\n"
    assert json.loads(line)["error"].endswith(f"ValueError: {hostile}")
    assert json.loads(line)["message"] == str({"inner": [hostile]})
    show(f"{hostile}\nWRONG")
    assert capsys.readouterr().out == r"a\x1b[2J\x9b\x7f\u2028\u202e\ud800é\nWRONG" + "\n"
    assert str(UserError("found", where="a\nWRONG  b")) == r"a\nWRONG  b: found"
