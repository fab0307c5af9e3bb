"""What the browser is given: a list of rows, a page of it at a time, and one row."""

from dataclasses import dataclass, replace
from typing import Any
from urllib.parse import urlencode

import numpy as np
from curricle.pipelines.view.rows import Query, RejectSheet, RowSheet, Sheet
from curricle.schemas.common.errors import UsageError
from curricle.schemas.pages.excerpts import Excerpt
from curricle.schemas.pages.page import rendered

PAGE_ROWS = 25
WHOLE = 100_000
"""Characters of a text on the page of a row."""
PACKAGE = "curricle.pipelines.view"


@dataclass(frozen=True)
class Address:
    """A list, as its address says it: what is looked for, among rows or rejects, and which page of that, from 1."""

    query: Query
    sheet: str = "rows"
    page: int = 1

    def at(self, page: int) -> str:
        """The address of another page of the same list."""
        return self._written(self.query, page)

    def sorted_by(self, name: str) -> str:
        """That of the same rows by a column: the lowest first, or the highest if that is how they are already."""
        high = self.query.by == name and not self.query.high
        return self._written(replace(self.query, by=name, high=high), 1)

    def row(self, row: int) -> str:
        return f"{'row' if self.sheet == 'rows' else 'reject'}/{row}"

    def _written(self, query: Query, page: int) -> str:
        options = {"where": query.where, "search": query.search, "by": query.by, "high": "1" if query.high else ""}
        options |= {"sheet": "" if self.sheet == "rows" else self.sheet, "page": str(page) if page > 1 else ""}
        return "?" + urlencode({name: value for name, value in options.items() if value})


@dataclass(frozen=True)
class RowLine:
    """A row of a list: its number, its texts, and a cell for each column that is shown."""

    row: int
    texts: list[Excerpt]
    cells: list[Any]


class Pages:
    """The pages of one table."""

    def __init__(self, rows: RowSheet, rejects: RejectSheet) -> None:
        self.sheets: dict[str, Sheet] = {"rows": rows, "rejects": rejects}

    def list(self, address: Address) -> tuple[str, bool]:
        """A page of a list; and whether it could be made, as a page says what was wrong."""
        sheet, error = self.sheets[address.sheet], ""
        try:
            rows = sheet.find(address.query)
        except UsageError as refused:
            rows, error = np.array([], np.int64), str(refused)
        pages = max(1, -(-len(rows) // PAGE_ROWS))
        page = min(max(1, address.page), pages)
        shown = rows[(page - 1) * PAGE_ROWS : page * PAGE_ROWS]
        cells = sheet.frame(sheet.columns)[shown].rows() if sheet.columns else [()] * len(shown)
        lines = [
            RowLine(int(row), [Excerpt.preview(text) for text in texts], list(values))
            for row, texts, values in zip(shown, sheet.starts(shown), cells, strict=True)
        ]
        about = {
            "title": sheet.table.path,
            "address": address,
            "counts": {name: each.count for name, each in self.sheets.items()},
            "found": len(rows),
            "page": page,
            "pages": pages,
            "first": (page - 1) * PAGE_ROWS + 1,
            "texts": sheet.texts,
            "columns": sheet.columns,
            "names": sheet.names,
            "lines": lines,
            "error": error,
        }
        return rendered(PACKAGE, "list.html.j2", about), not error

    def one(self, name: str, row: int) -> str | None:
        """The page of one row; None if there is none of that number."""
        sheet = self.sheets[name]
        if row >= sheet.count:
            return None
        values = sheet.whole(row)
        turns = [(turn["role"], Excerpt.of(turn["content"], WHOLE)) for turn in values.pop("messages", None) or ()]
        notes = values.pop("notes", None) or []
        texts = {key: Excerpt.of(values.pop(key, None), WHOLE) for key in ("reason", "extra", "raw")}
        about = {
            "title": f"{'row' if name == 'rows' else 'reject'} {row} of {sheet.table.path}",
            "row": row,
            "last": sheet.count - 1,
            "turns": turns,
            "notes": notes,
            "texts": {key: text for key, text in texts.items() if text.text},
            "values": values,
            "units": {key: column.unit for key, column in sheet.table.scores.items()},
        }
        return rendered(PACKAGE, "row.html.j2", about)
