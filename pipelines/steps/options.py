"""The options of a step: those of its command, with names of other steps where a path may stand."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import asdict
from typing import Any

from curricle.pipelines.settings.add import AddSettings
from curricle.pipelines.settings.cluster import ClusterSettings
from curricle.pipelines.settings.concat import ConcatSettings
from curricle.pipelines.settings.contamination import ContaminationSettings
from curricle.pipelines.settings.lp import LpSettings
from curricle.pipelines.settings.reward import RewardSettings
from curricle.pipelines.settings.score import ScoreSettings
from curricle.pipelines.settings.select import SelectSettings
from curricle.schemas.common.commandline import OPERATION

CURATION: Mapping[str, type[Any]] = {
    "score": ScoreSettings,
    "add": AddSettings,
    "concat": ConcatSettings,
    "cluster": ClusterSettings,
    "contamination": ContaminationSettings,
    "lp": LpSettings,
    "reward": RewardSettings,
    "select": SelectSettings,
}
"""Commands that make tables, and their settings."""
TRAINER: Mapping[str, str] = {"train": "run", "compare": "compare"}
"""Commands of ``curricle-train``, which are processes of their own, by what a step calls them."""

TABLES = ("table", "tables", "data", "join", "leave_out", "replay", "eval.data", "eval.tuning", "reuse")
"""Options that name tables or files."""
MODELS = ("model", "proxy.model", "proxy.checkpoints", "embedding.model")
"""Options that name a model, which may be in no directory."""

OF_THE_PLAN = ("output", "overwrite", "log_format", "check", "config", "dry_run")
"""Options that a step does not have: each step has a directory of its own below the plan's, and the rest is decided
for all.
"""
_FREE = {
    *(*OF_THE_PLAN, *OPERATION, "shard_rows", "max_reject_fraction", "reuse"),
    *("proxy.batch_tokens", "proxy.tensor_parallel"),
}
"""Options that change no value of a table: those of the trainer are known to the trainer."""
COPIES = ("reuse",)
"""Options that name tables whose content changes no value either."""


def is_of(key: str, options: Iterable[str]) -> bool:
    """Whether a key of a plan, where dashes are underscores, is one of these options, or below one."""
    spelled = key.replace("-", "_")
    return any(spelled == option or spelled.startswith(f"{option}.") for option in options)


def with_paths(options: Mapping[str, Any], path: Callable[[str, str], Any]) -> dict[str, Any]:
    """The options with ``path(key, text)`` for each text that names a table, a file or a model."""

    def walk(value: Any, key: str) -> Any:
        if is_of(key, TABLES + MODELS):
            if isinstance(value, Mapping):
                return {name: walk(each, key) for name, each in value.items()}
            if isinstance(value, list | tuple):
                return [walk(each, key) for each in value]
            return path(key, value) if isinstance(value, str) else value
        if isinstance(value, Mapping):
            return {name: walk(each, f"{key}.{name}" if key else name) for name, each in value.items()}
        return value

    result: dict[str, Any] = walk(options, "")
    return result


def named_paths(options: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Each option that names a table, a file or a model, and the text that it has, in order."""
    pairs: list[tuple[str, str]] = []
    with_paths(options, lambda key, text: pairs.append((key, text)))
    return pairs


def texts(options: Any) -> Iterator[str]:
    """Every text in the options."""
    if isinstance(options, str):
        yield options
    elif isinstance(options, Mapping | list | tuple):
        for each in options.values() if isinstance(options, Mapping) else options:
            yield from texts(each)


def with_texts(options: Any, change: Callable[[str], str]) -> Any:
    """The options with another text for each that is in them; their keys are ours."""
    if isinstance(options, Mapping):
        return {key: with_texts(each, change) for key, each in options.items()}
    if isinstance(options, list | tuple):
        return [with_texts(each, change) for each in options]
    return change(options) if isinstance(options, str) else options


def deciding(settings: Any) -> dict[str, Any]:
    """The options that decide what a command makes, with those that are left out at their defaults."""
    return _without(asdict(settings), "")


def _without(values: Mapping[str, Any], prefix: str) -> dict[str, Any]:
    return {
        key: _without(value, f"{prefix}{key}.") if isinstance(value, Mapping) else value
        for key, value in values.items()
        if f"{prefix}{key}" not in _FREE
    }
