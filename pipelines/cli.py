"""The ``curricle`` command. Heavy libraries are imported inside the commands, so that help is quick."""

import logging
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from schemas.config import nearest, option, parse
from schemas.errors import UsageError, UserError

DONE, FAILED, USAGE, TOO_MANY_REJECTS = 0, 1, 2, 3

log = logging.getLogger("curricle")


@dataclass(frozen=True)
class DirectorySettings:
    directory: Path = option("a directory that `curricle score` wrote", positional=True)


def score(arguments: Sequence[str]) -> int:
    """Score instruction data into a difficulty table; run it again to resume."""
    from pipelines.log import set_up_logging
    from pipelines.settings import ScoreSettings

    settings = parse(ScoreSettings, arguments, "curricle score", score.__doc__)
    set_up_logging(settings.log_format)
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


COMMANDS: dict[str, Callable[[Sequence[str]], int]] = {"score": score, "verify": verify, "report": report}


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command and turn its outcome into an exit code."""
    arguments = sys.argv[1:] if arguments is None else arguments
    try:
        if not arguments or arguments[0] in ("-h", "--help"):
            print(_overview())
            return DONE if arguments else USAGE
        if arguments[0] not in COMMANDS:
            raise UsageError(
                f"unknown command {arguments[0]!r}", where="curricle", remedy=nearest(arguments[0], COMMANDS)
            )
        return COMMANDS[arguments[0]](arguments[1:])
    except UsageError as error:
        print(f"curricle: {error}", file=sys.stderr)
        return USAGE
    except UserError as error:
        print(f"curricle: {error}", file=sys.stderr)
        return FAILED
    except KeyboardInterrupt:
        print("curricle: stopped; the same command goes on from the finished shards", file=sys.stderr)
        return FAILED


def _overview() -> str:
    lines = [f"  {name:8} {command.__doc__}" for name, command in COMMANDS.items()]
    return "usage: curricle COMMAND [--help]\n\n" + "\n".join(lines)


if __name__ == "__main__":
    sys.exit(main())
