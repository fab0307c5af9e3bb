"""Rows of the tables of a run as documents: read, compared with what their ids stand for, and encoded."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence

import numpy as np
from curricle.schemas.common.errors import UsageError, UserError
from curricle.schemas.common.wording import counted
from curricle.schemas.fingerprint import stands_for
from curricle.train.data.encoding import ConversationTokenizer, Encoded
from curricle.train.data.table import Example, Rows, Table

LOOKED_THROUGH = 1024
"""Rows of a table that are looked through, before a run begins, for one that has something to learn from."""


def count_notes(documents: Iterable[Encoded]) -> Counter[str]:
    """How many documents have each note."""
    return Counter(note for document in documents for note in document.notes)


class DocumentReader:
    """Reads rows of a table as the student sees them."""

    def __init__(self, encoder: ConversationTokenizer, where: str) -> None:
        """``where``: what is named as the table in errors."""
        self.encoder, self._where = encoder, where

    def examples(self, table: Table, rows: Rows) -> list[Example]:
        """Rows whose text is what their id says. UserError where it is not: the table was changed."""
        examples = table.examples(rows)
        if table.fingerprint is not None:
            for row, example in zip(rows, examples, strict=True):
                turns = [(turn["role"], turn["content"]) for turn in example.messages or () if turn]
                if not stands_for(table.ids[row].tobytes().hex(), turns, example.extra):
                    raise UserError(
                        f"the text of row {table.origin[row]} is not the text that its example_id stands for",
                        where=self._where,
                        remedy="the table was changed after it was scored; score again",
                    )
        return examples

    def encode(self, table: Table, rows: Rows) -> list[Encoded]:
        return self.encoder.encode(rows.tolist(), self.examples(table, rows), table.origin[rows].tolist())

    def encode_sets(self, sets: Mapping[str, Table]) -> dict[str, list[Encoded]]:
        """Every row of each of these tables."""
        return {name: self.encode(table, np.arange(len(table))) for name, table in sets.items()}

    def check_judges(self, sets: Mapping[str, Sequence[Encoded]]) -> None:
        """UsageError for a set that has no token to score, and so no loss."""
        for name, documents in sets.items():
            if not any(len(document.scored) for document in documents):
                words = f"no row of the held-out set {name!r} has a token to score"
                raise self.nothing_to_learn(UsageError, words, count_notes(documents))

    def check_learns(self, table: Table) -> None:
        """UsageError if the table is small and no row of it has a token to learn from."""
        rows, notes = len(table), Counter[str]()
        for start in range(0, min(rows, LOOKED_THROUGH), LOOKED_THROUGH // 32):
            looked = self.encode(table, np.arange(start, min(rows, start + LOOKED_THROUGH // 32)))
            if any(len(document.scored) for document in looked):
                return
            notes += count_notes(looked)
        if rows <= LOOKED_THROUGH:
            raise self.nothing_to_learn(UsageError, "no row has a token to learn from", notes)

    def nothing_to_learn(self, kind: type[UserError], found: str, notes: Mapping[str, int]) -> UserError:
        """An error that says why: what the notes of documents are, and how many have them."""
        reasons = ", ".join(f"{note} ({counted(visits, 'visit')})" for note, visits in notes.items())
        return kind(
            f"{found}: {reasons}",
            where=self._where,
            remedy="look at the roles in the table, raise --max-length, or choose another --template",
        )
