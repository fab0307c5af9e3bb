"""The ``curricle`` command. Heavy libraries are imported inside the commands, so that help is quick."""

import logging
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from schemas.command import DONE, FAILED, TOO_MANY_REJECTS, Command, dispatch
from schemas.config import option, parse

log = logging.getLogger("curricle")


@dataclass(frozen=True)
class DirectorySettings:
    directory: Path = option("a directory that `curricle score` wrote", positional=True)


def score(arguments: Sequence[str]) -> int:
    """Score instruction data into a difficulty table; run it again to resume."""
    from pipelines.log import quieten_beam
    from pipelines.settings import ScoreSettings
    from schemas.log import set_up_logging

    settings = parse(ScoreSettings, arguments, "curricle score", score.__doc__)
    set_up_logging(settings.log_format)
    quieten_beam()
    from pipelines.score import score as run

    manifest = run(settings)
    total = manifest.total
    log.info("%d records read = %d scored + %d rejected", total.read, total.scored, total.rejected)
    log.info(
        "table: %s (look at %s, check with `curricle verify`)", settings.output, Path(settings.output, "report.html")
    )
    if total.rejected > settings.max_reject_fraction * total.read:
        share, most = total.rejected / total.read, settings.max_reject_fraction
        log.error("%.1f%% of the records were rejected, more than --max-reject-fraction %g", 100 * share, most)
        return TOO_MANY_REJECTS
    return DONE


def verify(arguments: Sequence[str]) -> int:
    """Recount a finished table: every record, digest, identity and column that its manifest promises."""
    settings = parse(DirectorySettings, arguments, "curricle verify", verify.__doc__)
    from schemas.verify import verify as recount

    result = recount(settings.directory)
    for fault in result.faults:
        print(f"WRONG  {fault}")
    counted, sources = result.counted, len(result.manifest.sources)
    verdict = "whole" if not result.faults else f"NOT WHOLE: {len(result.faults)} faults"
    print(
        f"{settings.directory}: {verdict}; {counted.read} records of {sources} files "
        f"= {counted.scored} scored + {counted.rejected} rejected"
    )
    return FAILED if result.faults else DONE


def report(arguments: Sequence[str]) -> int:
    """Write report.html: what is in a table, to look at."""
    settings = parse(DirectorySettings, arguments, "curricle report", report.__doc__)
    from pipelines.directory import OutputDirectory
    from pipelines.score import write_report

    directory = OutputDirectory(settings.directory)
    write_report(directory)
    print(directory.report)
    return DONE


COMMANDS: dict[str, Command] = {"score": score, "verify": verify, "report": report}


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command and turn its outcome into an exit code."""
    return dispatch("curricle", COMMANDS, sys.argv[1:] if arguments is None else arguments, "the finished shards")


if __name__ == "__main__":
    sys.exit(main())
