"""``run.json``: what a run was started with, and whether it is finished."""

import json
import logging
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from curricle.schemas.chat.rendering import IDENTITY
from curricle.schemas.common.disk import write_whole
from curricle.schemas.common.errors import UsageError
from curricle.schemas.contract import tagged, untagged
from curricle.schemas.fingerprint import differences
from curricle.schemas.sealed import sealed, unsealed
from curricle.train.data.table import Table
from curricle.train.settings import HELD_OUT, RewardSettings, RunSettings, identity, with_defaults

log = logging.getLogger("curricle")

RUN = "run.json"


@dataclass(frozen=True)
class Description:
    """What a run is started with. ``identity``, JSON all through: its table, its settings, how conversations are
    rendered, and its model, see ``train.model.load.identify``; of a reward model, which version of it is made, and the
    digest of the rows that it is made ``without``, though the table has them; of a curriculum of others, where it is
    from. ``left_out``: how many rows are not learned from, by what leaves them out.
    """

    settings: RunSettings | RewardSettings
    identity: dict[str, Any]
    left_out: Mapping[str, int] = field(default_factory=dict)

    @classmethod
    def of(
        cls,
        settings: RunSettings | RewardSettings,
        table: Table,
        model: Mapping[str, Any],
        version: int | None = None,
        plugin: Mapping[str, str] | None = None,
        left_out: Mapping[str, int] | None = None,
        without: str | None = None,
    ) -> "Description":
        about: dict[str, Any] = {
            "table": {"digest": table.digest, "fingerprint": table.fingerprint},
            "settings": identity(settings),
            "rendering": IDENTITY,
            "model": model,
        }
        if version is not None:
            about["version"] = version
        if plugin:
            about["plugin"] = plugin
        if without:
            about["without"] = without
        return cls(settings, json.loads(json.dumps(about)), left_out or {})

    def write(self, finished: int | None = None, files: Mapping[str, Any] | None = None) -> None:
        """``finished`` is the step of the last checkpoint, or the rows scored, once nothing is left to do. ``files``
        are the sizes and digests of what was made beside checkpoints, which have their own.
        """
        about: dict[str, Any] = {"identity": self.identity, "settings": asdict(self.settings), "finished": finished}
        if self.left_out:
            about["left_out"] = self.left_out
        if files is not None:
            about["files"] = files
        write_whole(self.settings.output / RUN, sealed(json.dumps(tagged("run", about), indent=1, default=str)))

    def before(self) -> dict[str, Any]:
        """What ``run.json`` says; nothing if there is none.

        UsageError, with the differences, if it was started with settings, a table or a model that teach something else.
        The budget is for the journal to say, which knows whether another one extends it.
        """
        before: dict[str, Any] = read_description(self.settings.output)
        if not before:
            return {}
        then: dict[str, Any] = dict(before["identity"])
        if "model" not in then:
            log.info("the run was begun by an earlier version, and does not say which files its model had")
            then["model"] = self.identity["model"]
        then["settings"] = _in_todays_words(then["settings"], type(self.settings))
        if changed := differences(_without_budget(then), _without_budget(self.identity)):
            if then.get("table") != self.identity["table"]:  # the rows are in the digest: say why they may be others
                changed += differences({"rows left out": before.get("left_out", {})}, {"rows left out": self.left_out})
            raise UsageError(
                "the run was started with other settings, or another table or model:\n  " + "\n  ".join(changed),
                where=str(self.settings.output / RUN),
                remedy="run the same command as before, with the same table and model, or choose another --output",
            )
        return before


def _without_budget(about: Mapping[str, Any]) -> dict[str, Any]:
    return {**about, "settings": {key: value for key, value in about["settings"].items() if key != "budget"}}


def _in_todays_words(then: Mapping[str, Any], settings: type) -> dict[str, Any]:
    """The settings of a run that an earlier version may have begun: what it did not have is as its default.

    One table of held-out rows was a path, and none was null.
    """
    values = dict(then)
    data = values.get("eval", {}).get("data", {})
    if not isinstance(data, dict):
        values["eval"] = {**values["eval"], "data": {} if data is None else {HELD_OUT: data}}
    return with_defaults(values, settings)


def rows_digest_of(run: Path) -> str | None:
    """The digest of the rows that a run was begun with, see ``Table.digest``; None where none was."""
    table = read_description(run).get("identity", {}).get("table", {})
    return table.get("digest") if isinstance(table, dict) else None


def runs_of_comparison(directory: Path) -> list[Path]:
    """The directories of its runs, sorted: one for each arm, learning rate and seed; none where there is none."""
    return sorted(path.parent for path in directory.glob(f"*/*/*/{RUN}"))


def no_run(directory: Path) -> UsageError:
    """The error for a directory that is no run; of a comparison it names the first of its runs."""
    if runs := runs_of_comparison(directory):
        remedy = f"name one of its runs, such as {runs[0]}, or look at compare.html"
        return UsageError("is a comparison, and no run", where=str(directory), remedy=remedy)
    return UsageError("there is no run here", where=str(directory), remedy="name the --output of `curricle-train run`")


def read_description(run: Path) -> dict[str, Any]:
    """``run.json`` of a run; nothing if there is none. UsageError if it is not as it was written."""
    path = run / RUN
    try:
        about = untagged("run", unsealed(path.read_bytes()), str(path))
        if not (isinstance(about.get("identity"), dict) and isinstance(about.get("settings"), dict)):
            raise ValueError("it has no identity, or no settings")
    except (FileNotFoundError, NotADirectoryError):
        return {}
    except ValueError as error:
        raise UsageError(
            f"not the description of a run: {error}",
            where=str(path),
            remedy="restore it; or remove it if the run was started with this very command, and run that again",
        ) from error
    return about
