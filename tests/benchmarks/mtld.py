"""MTLD, text to number: ours against lexicalrichness, on one core, in turns on the same texts.

python tests/benchmarks/mtld.py FILE.jsonl [--field output] [--rows 4000] [--rounds 5]
"""

import argparse
import json
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from itertools import islice
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from lexicalrichness import LexicalRichness

from curate.metrics.mtld import mtld
from curate.words import hold_unspaced


def reference(texts: Sequence[str]) -> list[float | None]:
    """lexicalrichness, as its own documentation calls it."""
    values: list[float | None] = []
    for text in texts:
        lex = LexicalRichness(text)
        values.append(lex.mtld() if lex.words else None)
    return values


def seconds(function: Callable[[Sequence[str]], object], texts: Sequence[str]) -> float:
    begin = time.perf_counter()
    function(texts)
    return time.perf_counter() - begin


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("file", type=Path)
    parser.add_argument("--field", default="output")
    parser.add_argument("--rows", type=int, default=4000)
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    with options.file.open(encoding="utf-8") as lines:
        texts = [json.loads(line)[options.field] for line in islice(lines, options.rows)]

    pairs = zip(hold_unspaced(texts), mtld(texts), reference(texts), strict=True)  # also warms up
    differ = sum(ours != theirs for segmented, ours, theirs in pairs if not segmented)
    print(f"{len(texts)} texts, {sum(map(len, texts))} characters; {differ} values differ where words have spaces")
    print(f"{'round':>6} {'lexicalrichness s':>18} {'ours s':>10} {'ratio':>7}")
    rounds = []
    for number in range(1, options.rounds + 1):
        theirs, ours = seconds(reference, texts), seconds(mtld, texts)
        rounds.append((theirs, ours, theirs / ours))
        print(f"{number:>6} {theirs:>18.4f} {ours:>10.4f} {theirs / ours:>7.1f}")
    print("{:>6} {:>18.4f} {:>10.4f} {:>7.1f}".format("median", *map(statistics.median, zip(*rounds, strict=True))))


if __name__ == "__main__":
    main()
