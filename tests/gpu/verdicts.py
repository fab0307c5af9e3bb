"""The lines of all checks as one table for people."""

from collections.abc import Mapping, Sequence
from typing import Any

VERDICTS = {True: "met", False: "**not met**", None: ""}


def table(results: Mapping[str, Sequence[Mapping[str, Any]]]) -> str:
    """Markdown, by the name of the check."""
    lines = ["| check | what | value | bound | | |", "|---|---|---|---|---|---|"]
    for check, rows in results.items():
        for row in rows:
            value = row["value"] if isinstance(row["value"], str) else f"{row['value']:,.4g}"
            cells = [
                check,
                row["what"],
                f"{value} {row['unit']}".strip(),
                row["bound"],
                VERDICTS[row["met"]],
                row["note"],
            ]
            lines.append("| " + " | ".join(cell.replace("|", "/").replace("\n", " ") for cell in cells) + " |")
    return "\n".join(lines)


def failed(results: Mapping[str, Sequence[Mapping[str, Any]]]) -> list[str]:
    """The checks in which something is not within its bound, or that did not come to their end."""
    return [check for check, rows in results.items() if any(row["met"] is False for row in rows)]
