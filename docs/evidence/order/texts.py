"""The rows of the comparison, drawn from public files, and the texts that the student is pretrained on.

No pretraining text is a row of the comparison or nearly one: whole T0 tasks are kept out, and so is every text that
shares half of its runs of three words, or half of those of a row, with any row.
"""

import gzip
import json
import random
import re
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

SOURCES = ("alpaca", "code", "gsm8k", "t0")
# Tasks of T0 that rows are drawn from. The student is pretrained on the others.
TASKS = ("ag_news", "common_gen", "dream", "gigaword", "qasc", "samsum", "social_i_qa", "wiqa")
RUN = 3
ALIKE = 0.5


@dataclass(frozen=True)
class Example:
    prompt: str
    response: str

    @property
    def text(self) -> str:
        """As the template ``plain`` renders it."""
        return f"{self.prompt}\n{self.response}"

    @property
    def words(self) -> int:
        return len(self.text.split())


def examples_of(data: Path, source: str) -> Iterator[tuple[str, Example]]:
    """The examples of a source, each with the name of its task."""
    match source:
        case "alpaca":
            yield from ((source, _alpaca(line)) for line in _lines(data / "alpaca" / "alpaca_46k.jsonl"))
        case "code":
            records = json.loads((data / "alpaca" / "code_alpaca_2k.json").read_text("utf-8"))
            yield from ((source, _alpaca(record)) for record in records)
        case "gsm8k":
            for line in _lines(data / "gsm8k" / "train.jsonl"):
                yield source, Example(line["question"], line["answer"])
        case "t0":
            for path in sorted((data / "t0").glob("*.jsonl.gz")):
                for line in _lines(path):
                    completion = line["completion"].removesuffix("<|endoftext|>")
                    yield path.name.removesuffix(".jsonl.gz"), Example(line["prompt"].strip(), completion.strip())


def draw(data: Path, source: str, count: int, most_words: int, seed: int) -> list[Example]:
    """``count`` distinct examples of a source, of at most ``most_words`` words, with a response."""
    fit = {
        example.text: example
        for task, example in examples_of(data, source)
        if example.response.split() and example.words <= most_words and (source != "t0" or task.startswith(TASKS))
    }
    return random.Random(seed).sample(list(fit.values()), count)


def pretraining(data: Path, rows: Iterable[Example], most_words: int, seed: int) -> tuple[list[str], dict[str, int]]:
    """Shuffled texts of Alpaca and T0, none of them near a row, and how many were left out for which reason."""
    near, left_out = Near([row.text for row in rows]), dict.fromkeys(("task", "long", "near", "twice"), 0)
    texts: dict[str, None] = {}
    for source in ("alpaca", "t0"):
        for task, example in examples_of(data, source):
            if source == "t0" and task.startswith(TASKS):
                left_out["task"] += 1
            elif example.words > most_words:
                left_out["long"] += 1
            elif example.text in texts:
                left_out["twice"] += 1
            elif near.holds(example.text):
                left_out["near"] += 1
            elif example.words > 2:
                texts[example.text] = None
    order = list(texts)
    random.Random(seed).shuffle(order)
    return order, left_out


class Near:
    """Texts, and whether another text shares half of its runs of words with one of them, or half of that one's."""

    def __init__(self, texts: Sequence[str]) -> None:
        self._sizes: list[int] = []
        self._having: dict[tuple[str, ...], list[int]] = defaultdict(list)
        for index, text in enumerate(texts):
            runs = _runs(text)
            self._sizes.append(len(runs))
            for run in runs:
                self._having[run].append(index)

    def holds(self, text: str) -> bool:
        runs, shared = _runs(text), defaultdict(int)
        for run in runs:
            for index in self._having.get(run, ()):
                shared[index] += 1
        return any(count >= ALIKE * min(len(runs), self._sizes[index]) for index, count in shared.items())


def _runs(text: str) -> set[tuple[str, ...]]:
    words = re.findall(r"\w+", text.lower())
    return {tuple(words[start : start + RUN]) for start in range(max(1, len(words) - RUN + 1))}


def _alpaca(record: dict[str, str]) -> Example:
    return Example("\n".join(filter(None, (record["instruction"], record["input"]))), record["output"])


def _lines(path: Path) -> Iterator[dict[str, str]]:
    with (gzip.open if path.suffix == ".gz" else open)(path, "rt", encoding="utf-8") as file:
        for line in file:
            yield json.loads(line)
