"""What is compared: an arm is a curriculum with its options, and options of the trainer that differ in it."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields, replace
from difflib import get_close_matches
from pathlib import Path
from typing import Any, get_origin, get_type_hints

from curricle.schemas.common.config import build
from curricle.schemas.common.errors import UsageError
from curricle.schemas.common.plugins import is_file
from curricle.train.curricula import CURRICULA, PLUGINS, named, options_in
from curricle.train.settings import CompareSettings, RunSettings, TrainSettings

BASELINE = "random"

CONTROLS = {
    "easy_to_hard": "sorted?direction=easy_to_hard",
    "hard_to_easy": "sorted?direction=hard_to_easy",
    "constant_lr": "random?optimizer.schedule=constant",
}
"""Arms by a short name, to which options may be added. ``random_stages`` is a curriculum."""

GROUPS = ("optimizer", "batch", "lora")
"""What of the trainer an arm may set: ``optimizer.schedule=constant``. Model, data and budget are those of all."""


@dataclass(frozen=True)
class Arm:
    """``NAME`` or ``NAME?key=value&key=value``, where a key of the trainer has a dot, as ``optimizer.schedule``.

    ``curriculum`` and ``options`` are its order; ``groups`` the settings of the trainer by group, as this arm has them.
    """

    text: str
    curriculum: str
    options: Mapping[str, str]
    groups: Mapping[str, Any]

    @classmethod
    def of(cls, text: str, settings: CompareSettings) -> "Arm":
        """UsageError for what is no arm, and for an option that the trainer does not have or an arm may not set."""
        short, _, query = text.partition("?")
        name, _, meant = CONTROLS.get(short, short).partition("?")
        pairs = [pair for part in (meant, query) for pair in options_in(part, f"arm {text!r}")]
        if not _is_curriculum(name):
            names = [*CURRICULA, *CONTROLS, *PLUGINS.names()]
            close = get_close_matches(name, names, n=1)
            guess = f"did you mean {close[0]!r}? " if close else ""
            raise UsageError(
                f"unknown arm {text!r}",
                remedy=f"{guess}there are the curricula {', '.join(sorted({*names} - {*CONTROLS}))}, the controls "
                f"{', '.join(CONTROLS)} (or name a file: ./my.py:CURRICULUM), each with its options: sorted?by=loss",
            )
        groups: dict[str, Any] = {}
        for key, value in pairs:
            group, dot, option = key.partition(".")
            if not dot:
                continue
            if group not in GROUPS or (key == "optimizer.lr" and settings.learning_rates):
                allowed = ", ".join(f"{each}.…" for each in GROUPS)
                raise UsageError(
                    f"arm {text!r} sets {key}",
                    remedy=f"an arm sets options of its curriculum, and {allowed}; its learning rate where "
                    "--learning-rates tries none",
                )
            before = groups.get(group, getattr(settings, group))
            groups[group] = build(type(before), {**asdict(before), option: value}, f"arm {text}", f"{group}.")
        return cls(text, name, {key: value for key, value in pairs if "." not in key}, groups)

    @property
    def directory(self) -> str:
        return "".join(letter if letter.isalnum() else "-" for letter in self.text)

    def rates(self, settings: CompareSettings) -> tuple[float, ...]:
        """The learning rates to try, in order; one where nothing is to be tried."""
        own = self.groups.get("optimizer", settings.optimizer)
        return tuple(sorted(set(settings.learning_rates))) or (own.lr,)


@dataclass(frozen=True)
class Trial:
    """One run of an arm, with a seed and a learning rate."""

    arm: Arm
    rate: float
    seed: int
    settings: RunSettings

    @classmethod
    def of(cls, arm: Arm, rate: float, seed: int, settings: CompareSettings) -> "Trial":
        common = {item.name: getattr(settings, item.name) for item in fields(TrainSettings)} | dict(arm.groups)
        common["optimizer"] = replace(common["optimizer"], lr=rate)
        common["output"] = settings.output / arm.directory / f"lr-{rate:g}" / f"seed-{seed}"
        run = RunSettings(**common, curriculum=arm.curriculum, curriculum_options=dict(arm.options), seed=seed)
        return cls(arm, rate, seed, run)

    @property
    def output(self) -> Path:
        return self.settings.output

    def __str__(self) -> str:
        return f"{self.arm.text}, seed {self.seed}, learning rate {self.rate:g}"


def arms_of(settings: CompareSettings) -> list[Arm]:
    """The arms that settings name, the baseline among them; UsageError where two would have one directory."""
    arms = [Arm.of(text, settings) for text in _joined(settings.arms)]
    if BASELINE not in settings.arms:
        raise UsageError(f"the arms leave out {BASELINE!r}, the baseline", remedy=f"add {BASELINE} to --arms")
    _check_apart([arm.directory for arm in arms])
    return arms


def _joined(texts: Sequence[str]) -> list[str]:
    """The arms, put together again where a comma that a flag was cut at stands between values of one option."""
    arms = list[str]()
    for text in texts:
        if arms and not _is_curriculum(_curriculum_of(text)) and _ends_in_values(arms[-1]):
            arms[-1] += f",{text}"
        else:
            arms.append(text)
    return arms


def _ends_in_values(arm: str) -> bool:
    """Whether its last option takes several values."""
    name, key = _curriculum_of(arm), arm.partition("?")[2].rpartition("&")[2].partition("=")[0]
    return _is_curriculum(name) and get_origin(get_type_hints(named(name)).get(key.replace("-", "_"))) in (tuple, dict)


def _curriculum_of(arm: str) -> str:
    short = arm.partition("?")[0]
    return CONTROLS.get(short, short).partition("?")[0]


def _is_curriculum(name: str) -> bool:
    return name in CURRICULA or is_file(name) or name in PLUGINS.names()


def _check_apart(directories: Sequence[str]) -> None:
    for name in directories:
        if directories.count(name) > 1:
            raise UsageError(f"two arms have the directory {name!r}", remedy="name each arm once in --arms")
