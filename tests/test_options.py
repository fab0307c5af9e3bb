"""Every number that a user may type: it works, or it is refused by name before anything is read or loaded."""

import dataclasses
import itertools
import math
import typing

import pytest
from curricle.curate.selection.recipe import Recipe
from curricle.pipelines.cli import COMMANDS as CURATION
from curricle.pipelines.cli import PoolSettings, ViewSettings
from curricle.pipelines.settings.add import AddSettings
from curricle.pipelines.settings.cluster import ClusterSettings
from curricle.pipelines.settings.contamination import ContaminationSettings
from curricle.pipelines.settings.diff import DiffSettings
from curricle.pipelines.settings.lp import LpSettings
from curricle.pipelines.settings.reward import RewardSettings as CurationRewardSettings
from curricle.pipelines.settings.score import ScoreSettings
from curricle.schemas.common import config, flags
from curricle.schemas.common.config import LARGEST
from curricle.schemas.common.errors import UsageError
from curricle.train.cli import COMMANDS as TRAINING
from curricle.train.curricula import CURRICULA, build
from curricle.train.settings import CompareSettings, EvaluateSettings, PlanSettings, RewardSettings, RunSettings
from curricle.train.settings.export import ExportSettings, VerifyOrderSettings

SETTINGS = {
    "run": RunSettings,
    "compare": CompareSettings,
    "plan": PlanSettings,
    "reward": RewardSettings,
    "export": ExportSettings,
    "verify-order": VerifyOrderSettings,
    "evaluate": EvaluateSettings,
    "curricle score": ScoreSettings,
    "curricle lp": LpSettings,
    "curricle reward": CurationRewardSettings,
    "curricle cluster": ClusterSettings,
    "curricle add": AddSettings,
    "curricle view": ViewSettings,
    "curricle contamination": ContaminationSettings,
    "curricle workers": PoolSettings,
    "curricle select": Recipe,
    "curricle diff": DiffSettings,
    **{f"curriculum {name}": curriculum for name, curriculum in CURRICULA.items()},
}
NEEDED: dict[str, dict[str, typing.Any]] = {
    "curricle view": {"table": "x"},
    "curricle contamination": {"table": "x", "output": "x", "against": ["x"]},
    **{command: {"data": "x", "model": "x", "output": "x"} for command in ("run", "compare", "reward")},
    "plan": {"data": "x", "output": "x"},
    "export": {"table": "x", "order": "random", "to": "hf", "output": "x"},
    "verify-order": {"directory": "x"},
    "evaluate": {"directory": "x", "tasks": ["x"]},
    "curricle score": {"output": "x", "inputs": ["a"], "engine": "dask"},
    "curricle select": {"distinct": True},
    **{f"curricle {command}": {"table": "x", "output": "x"} for command in ("lp", "reward", "cluster")},
    "curricle diff": {"old": "x", "new": "y"},
    "curricle add": {"table": "x", "metrics": ("mattr",)},
}
"""What a command cannot do without."""

NEVER = ["nan", "inf", "-inf", "1e309", ""]
"""What no number may be, in a flag or in YAML."""

ZERO_IS_MEANT = {
    *("optimizer.beta1", "optimizer.beta2", "optimizer.weight_decay", "optimizer.clip", "optimizer.warmup"),
    *("optimizer.floor", "lora.rank", "lora.dropout", "eval.rows", "eval.every", "eval.seed", "checkpoint.every"),
    *("eval.tuning_rows", "eval.generations", "subset", "scoring_tokens", "max_drift"),
    *("seed", "max_reject_fraction", "proxy.generation.temperature", "proxy.generation.seed"),
    *("reward.seed", "port", "num_fewshot"),
    *("temperature", "probe_rows", "probe_cost", "resort_every", "resort_epochs", "refresh_rows", "parts"),
    "decisions",
    *("curriculum multistage replay", "curriculum odm memory", "curriculum odm warmup", "curriculum skill_it every"),
    *("percentiles", "last_steps", "thresholds"),
}
NEGATIVE_IS_MEANT = {"proxy.generation.seed", "curricle select seed", "thresholds"}
"""Seeds that are only hashed, and values of a score."""

HUGE_IS_MEANT = {
    *("optimizer.lr", "optimizer.eps", "optimizer.weight_decay", "optimizer.clip", "lora.alpha", "learning_rates"),
    *("device.peak_tflops", "l2", "reward.l2", "learning_rate", "dask_resources", "stall_limit", "thresholds"),
    *("proxy.generation.temperature", "temperature", "probe_cost", "resort_epochs", "p", "degree"),
}
"""Numbers with a fraction that may be 2^64: those that diverge are noticed when they do."""


def numbers(cls: type, prefix: str = "") -> list[tuple[str, typing.Any, bool]]:
    """Name, field and whether it is whole, of every option that is a number or several."""
    hints, result = typing.get_type_hints(cls), []
    for item in dataclasses.fields(cls):
        hint = config.required(hints[item.name])
        if dataclasses.is_dataclass(hint):
            result += numbers(hint, f"{prefix}{item.name}.")  # type: ignore[arg-type]
            continue
        kinds = {hint, *typing.get_args(hint)}
        if kinds & {int, float}:
            result.append((prefix + item.name, item, int in kinds))
    return result


OPTIONS = [
    pytest.param(command, name, item, whole, id=f"{command} {name}")
    for command, cls in SETTINGS.items()
    for name, item, whole in numbers(cls)
]


def outcome(command: str, name: str, text: object) -> str:
    """``accepted``, or the words of the refusal."""
    values: dict[str, typing.Any] = {}
    key = name.split(".")
    flags._put(values, key, {"gpu": text} if name == "dask_resources" else text)
    try:
        if command.startswith("curriculum "):
            build(command.removeprefix("curriculum "), values)
        else:
            config.build(SETTINGS[command], {**NEEDED.get(command, {}), **values}, where=command)
    except UsageError as error:
        return str(error)
    return "accepted"


@pytest.mark.parametrize(("command", "name", "item", "whole"), OPTIONS)
def test_every_number_has_bounds(command, name, item, whole):
    meant = {name, f"{command} {name}"}
    assert {"at_least", "above"} & {*item.metadata} or meant & NEGATIVE_IS_MEANT, "the option declares no lower bound"
    flag = name.replace("_", "-")
    for text in NEVER:
        message = outcome(command, name, text)
        assert message != "accepted" and flag in message, f"{text!r}: {message}"
    expected = {
        "-1": bool(meant & NEGATIVE_IS_MEANT) or None,
        "0": bool(meant & ({*ZERO_IS_MEANT} | NEGATIVE_IS_MEANT)) or None,
        str(2**64): (not whole and bool(meant & HUGE_IS_MEANT)) or None,
    }
    for text, fine in expected.items():
        message = outcome(command, name, text)
        if message == "accepted" or "change nothing here" in message or "and nothing says which" in message:
            assert fine, f"{text} is accepted"
        elif fine is None:
            assert flag in message and "What to do: give" in message, f"{text!r}: {message}"
        # what is refused together with another option, as thresholds with shares, is tested there


@pytest.mark.parametrize(("command", "name", "item", "whole"), OPTIONS)
def test_a_program_is_refused_what_a_command_is(command, name, item, whole):
    """Settings that a program makes are looked at as those that are read from flags and files."""
    settings = config.build(SETTINGS[command], NEEDED.get(command, {}), where=command)
    *owners, last = name.split(".")
    holders = list(itertools.accumulate(owners, getattr, initial=settings))
    value = getattr(holders[-1], last)
    bad = (math.nan,) if isinstance(value, tuple) else {"gpu": math.nan} if isinstance(value, dict) else math.nan
    with pytest.raises(UsageError, match=last.replace("_", "-")):
        for holder, field in zip(reversed(holders), reversed([*owners, last]), strict=True):
            bad = dataclasses.replace(holder, **{field: bad})


def test_every_command_is_looked_at():
    """A command with an option that is a number stands above."""
    without = {"verify", "report", "status", "doctor", "transfer", "plan", "concat", "push"}
    named = {command.removeprefix("curricle ") for command in SETTINGS}
    assert {*CURATION} - without <= named
    assert {*TRAINING} - {"report", "verify", "status"} <= named


def test_a_refusal_says_the_value_the_bounds_and_the_meaning():
    message = outcome("run", "optimizer.clip", "-1")
    assert message == (
        "run: --optimizer.clip is -1.0\n  What to do: give a finite number from 0: "
        "largest norm of the gradient; 0 does not clip"
    )
    message = outcome("run", "seed", str(LARGEST + 1))
    assert "--seed is 9223372036854775808" in message and "from 0 to 2^63 - 1" in message
    message = outcome("compare", "learning_rates", [1e-3, float("nan")])
    assert "--learning-rates is nan" in message


@pytest.mark.parametrize(
    ("command", "arguments", "words"),
    [
        (TRAINING["run"], ["--optimizer.beta1", "1.5"], "--optimizer.beta1 is 1.5"),
        (TRAINING["compare"], ["--seeds", "-3"], "--seeds is -3"),
        (TRAINING["plan"], ["--batch.size", "0"], "--batch.size is 0"),
        (TRAINING["reward"], ["--batch-tokens", "0"], "--batch-tokens is 0"),
        (CURATION["score"], ["--proxy.max-length", "0"], "--proxy.max-length is 0"),
    ],
)
def test_a_command_refuses_before_it_looks_at_anything(command, arguments, words, tmp_path):
    """The table and the model that are named do not exist, and are not what is complained of."""
    paths = ["--output", str(tmp_path / "out")]
    if command is not CURATION["score"]:
        paths += ["--data", str(tmp_path / "absent")]
    if command in (TRAINING["run"], TRAINING["compare"], TRAINING["reward"]):
        paths += ["--model", str(tmp_path / "absent")]
    with pytest.raises(UsageError, match=words):
        command([*paths, *arguments, *([] if "--data" in paths else ["absent.jsonl"])])
    assert not list(tmp_path.iterdir())
