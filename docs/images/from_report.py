"""A picture for the guides: the histogram of a column, as the report of a table draws it, in colours of its own.

    make demo
    .venv/bin/python docs/images/from_report.py demo/scored/report.html loss docs/images/loss.svg

`comparison.png` beside it is what `curricle-train compare` wrote; docs/compare.md has the commands.
"""

import re
import sys
from pathlib import Path


def picture(report: str, column: str) -> str:
    """The SVG of a column's histogram. The report's style sheet gives its colours; here they are in it."""
    found = re.search(rf'<svg role="img" aria-label="Histogram of {re.escape(column)}:.*?</svg>', report, re.DOTALL)
    colours = re.search(r":root \{(.*?)\}", report)
    assert found and colours, f"the report has no histogram of {column}"
    values = dict(re.findall(r"(--\w+): ([^;]+);", colours[1]))
    drawn = re.sub(r"var\((--\w+)\)", lambda name: values[name[1]], found[0])
    names = 'xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink" font-family="sans-serif"'
    return drawn.replace("<svg ", f'<svg {names} style="background: {values["--paper"]}" width="533" ', 1) + "\n"


if __name__ == "__main__":
    report, column, output = sys.argv[1:]
    Path(output).write_text(picture(Path(report).read_text("utf-8"), column), "utf-8")
