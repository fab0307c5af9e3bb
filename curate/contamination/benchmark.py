"""The texts of benchmarks, and the runs of words by which they are found again.

A text is any field of a record: a question, an answer, a choice, whatever the fields are called. It is looked for by
its runs of 13 words, as GPT-3's authors did (arXiv 2005.14165, appendix C), who take the whole text where it has 8 to
12; one of fewer than 8 words stands in too many conversations by chance, and is not looked for.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from os import PathLike
from typing import Any

import numpy as np
from curricle.curate.formats.conversation import Conversation, Fields, Format, FormatError
from curricle.curate.reading import read
from curricle.curate.selection.near_duplicates import WORDS, hashed_words, runs
from curricle.schemas.common.errors import UsageError
from numpy.typing import NDArray

LONGEST, SHORTEST = 13, 8
"""Words of a run, and of the shortest text that is looked for."""


@dataclass(frozen=True)
class BenchmarkText:
    """Where a text stands: the file, the record's position in it, from 0, and the text."""

    source: str
    position: int
    text: str


@dataclass(frozen=True)
class Postings:
    """Which texts hold which runs: ``values`` (runs,) rising; those of ``values[i]`` are
    ``texts[starts[i]:starts[i + 1]]``.
    """

    values: NDArray[np.uint64]
    starts: NDArray[np.int64]
    texts: NDArray[np.int64]

    @classmethod
    def of(cls, sets: Sequence[NDArray[np.uint64]]) -> "Postings":
        """``sets``: the runs of each text, each once."""
        owners = np.repeat(np.arange(len(sets)), [len(each) for each in sets])
        numbers = np.concatenate([np.empty(0, np.uint64), *sets])
        order = np.argsort(numbers, kind="stable")
        values, starts = np.unique(numbers[order], return_index=True)
        return cls(values, np.append(starts, len(numbers)), owners[order])

    def shared(self, wanted: NDArray[np.uint64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """The texts that have any of these runs (each once), and how many of them each has."""
        if not len(self.values):
            return np.empty(0, np.int64), np.empty(0, np.int64)
        at = np.minimum(np.searchsorted(self.values, wanted), len(self.values) - 1)
        at = at[self.values[at] == wanted]
        postings = [self.texts[self.starts[each] : self.starts[each + 1]] for each in at]
        return np.unique(np.concatenate([np.empty(0, np.int64), *postings]), return_counts=True)


class Benchmark:
    """The texts of files that are looked for, each once, and what finds them.

    ``sources``: the files that have each text: ``texts`` names the first of them.
    ``by_words``: the index of a text by all its words. ``runs``: by the words of a run, 8 to 13, which texts have which
    runs, and ``run_counts`` how many each text has. ``grams`` and ``gram_counts``: the same of three words, for what is
    nearly the same. ``short``: how many texts of each file are not looked for.
    """

    def __init__(self, texts: Sequence[BenchmarkText]) -> None:
        self.texts: list[BenchmarkText] = []
        self.sources: list[set[str]] = []
        self.short: dict[str, int] = {}
        self.by_words: dict[bytes, int] = {}
        hashed = []
        for each in texts:
            words = hashed_words([each.text])
            if len(words) < SHORTEST:
                self.short[each.source] = self.short.get(each.source, 0) + 1
                continue
            text = self.by_words.setdefault(words.tobytes(), len(self.texts))
            if text == len(self.texts):
                self.texts.append(each)
                self.sources.append(set())
                hashed.append(words)
            self.sources[text].add(each.source)
        lengths = [min(len(words), LONGEST) for words in hashed]
        own = [np.unique(runs(words, length)) for words, length in zip(hashed, lengths, strict=True)]
        self.run_counts = np.array([len(each) for each in own], np.int64)
        self.runs = {
            length: Postings.of([each[: len(each) * (mine == length)] for each, mine in zip(own, lengths, strict=True)])
            for length in sorted({*lengths})
        }
        grams = [np.unique(runs(words, WORDS)) for words in hashed]
        self.grams, self.gram_counts = Postings.of(grams), np.array([len(each) for each in grams], np.int64)

    @classmethod
    def read(cls, paths: Sequence[str | PathLike[str]], columns: Sequence[str] = ()) -> "Benchmark":
        """The texts of these files, of any kind that is read. UsageError where there is none to look for."""
        examples, rejects = read(paths, format=_FORMAT, columns=columns)
        if len(rejects):
            first = rejects.slice(0, 1).to_pylist()[0]
            raise UsageError(
                f"{len(rejects):,} records cannot be read, the first of them: {first['reason']}",
                where=f"{first['source']}, position {first['source_position']}",
                remedy="mend these records, or leave the file out",
            )
        rows = examples.select(["source", "source_position", "messages"]).to_pylist()
        texts = [BenchmarkText(r["source"], r["source_position"], t["content"]) for r in rows for t in r["messages"]]
        benchmark = cls(texts)
        if not benchmark.texts:
            raise UsageError(
                f"no text of {SHORTEST} words or more", where=str(paths[0]), remedy="name files that hold the benchmark"
            )
        return benchmark


def _texts(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, Mapping):
        for each in value.values():
            yield from _texts(each)
    elif isinstance(value, list):
        for each in value:
            yield from _texts(each)


def _read(record: Fields) -> Conversation:
    texts = [text for text in _texts(record) if text.strip()]
    if not texts:
        raise FormatError("the record holds no text")
    return Conversation([("user", text) for text in texts])


_FORMAT = Format("benchmark", "any texts", lambda record: True, _read)
