"""P11: IFD and perplexity of the same rows beside data-juicer's and DataFlow's own operators, and the values of all.

All score the same texts with the same weights in float32: no markup, as both do it, and no token that ends a turn. Each
program runs in its own environment and has loaded its model before the first round. Each round scores other rows.
"""

import json
import math
import statistics
from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import polars as pl
import pyarrow as pa
import torch
from alpaca import records, table_of
from curricle.curate.batch import Batch
from curricle.curate.metrics.ifd import ifd_ratios
from curricle.curate.passes import LOSS, RENDERING, UNCONDITIONAL_LOSS, fill
from curricle.curate.proxy.backend import load
from curricle.curate.proxy.rendering import Renderer
from curricle.curate.proxy.settings import ProxySettings
from curricle.curate.proxy.weights import resolve
from harness import Comparison, Cost, Finding, Remark, Setting, Skipped, alternate, timed
from peer_formulas import Reader, data_juicer_ifd, data_juicer_perplexity, dataflow_ifd, dataflow_perplexity
from programs import NotInstalled, Program, peer_python
from transformers import AutoModelForCausalLM, AutoTokenizer

ROWS = 40  # a round
WARM_UP = 4
MODEL = "smollm2-135m"
SETTINGS = ProxySettings(model=MODEL, template="plain", end_of_turn="no")
ALIKE = 2e-3
"""Relative: how near a program's value is to the formula that is read in its code; float32 in another order."""
SEARCHED = 20_000
"""Rows that unusual ones are looked for in."""
Values = list[float | None]


class Rows:
    """Records, as others take them and as we do."""

    def __init__(self, given: list[dict]) -> None:
        self.texts = [{"prompt": _prompt(each), "response": each["output"].strip()} for each in given]
        alone = [{"instruction": each["prompt"], "output": each["response"]} for each in self.texts]
        self.table = table_of(alone)


def _prompt(record: dict) -> str:
    return "\n".join(filter(None, [record["instruction"].strip(), record["input"].strip()]))


class Ours:
    def __init__(self) -> None:
        self.weights = resolve(MODEL)
        self.renderer, self.backend = Renderer(self.weights, SETTINGS), load(SETTINGS, self.weights)

    def losses(self, table: pa.Table, *passes) -> Batch:
        batch = RENDERING.fill(Batch(table), self.renderer, lambda rows: None)
        return fill(list(passes), batch, self.backend, lambda tokens: None)

    def ifd(self, table: pa.Table) -> list[tuple]:
        """Loss ratio and perplexity ratio."""
        batch = self.losses(table, LOSS, UNCONDITIONAL_LOSS)
        return [ifd_ratios(*row) for row in zip(LOSS.of(batch), UNCONDITIONAL_LOSS.of(batch), strict=True)]

    def perplexity(self, table: pa.Table, which) -> Values:
        return [math.exp(-row.sum / row.count) for row in which.of(self.losses(table, which))]


@dataclass(frozen=True)
class Operator:
    """One of theirs: how it is started, what it computes by what is read in its code, and ours of the same rows."""

    peer: str
    words: str
    arguments: tuple[str, ...]
    formula: Callable[[Reader, str, str], float]
    work: str
    ours: Callable[[Ours, pa.Table], Values]
    goal: float | None = None


OPERATORS = (
    Operator(
        "data_juicer",
        "data-juicer 1.6.1, instruction_following_difficulty_filter",
        ("data_juicer_scores.py", "ifd", "gpt2"),
        data_juicer_ifd,
        "IFD, a ratio of losses",
        lambda ours, table: [by_loss for by_loss, _ in ours.ifd(table)],
        3.0,
    ),
    Operator(
        "dataflow",
        "DataFlow 1.0.13, SuperfilteringSampleEvaluator",
        ("dataflow_scores.py", "ifd"),
        dataflow_ifd,
        "IFD, a ratio of perplexities",
        lambda ours, table: [by_perplexity for _, by_perplexity in ours.ifd(table)],
        3.0,
    ),
    Operator(
        "data_juicer",
        "data-juicer 1.6.1, llm_perplexity_filter",
        ("data_juicer_scores.py", "perplexity", "gpt2"),
        data_juicer_perplexity,
        "perplexity of a response after its prompt",
        lambda ours, table: ours.perplexity(table, LOSS),
    ),
    Operator(
        "dataflow",
        "DataFlow 1.0.13, PerplexitySampleEvaluator",
        ("dataflow_scores.py", "perplexity"),
        dataflow_perplexity,
        "perplexity of a response alone",
        lambda ours, table: ours.perplexity(table, UNCONDITIONAL_LOSS),
    ),
)


def measure(setting: Setting) -> list[Finding]:
    count, rounds = setting.rows(ROWS), setting.rounds
    source = records(setting.data)
    parts = [Rows([*islice(source, size)]) for size in (WARM_UP, *[count] * rounds)]
    ours = Ours()
    directory = ours.weights.directory
    readable_by_others(directory, setting.path / "gpt2")
    model = AutoModelForCausalLM.from_pretrained(directory, dtype=torch.float32).eval()
    reader = Reader(AutoTokenizer.from_pretrained(directory), model)
    odd = Rows(unusual(reader, setting))
    findings: list[Finding] = []
    for operator in OPERATORS:
        work = f"{operator.work}, {rounds * count} Alpaca rows, SmolLM2-135M, float32"
        try:
            python = peer_python(operator.peer, setting.output)
            with closing(Program(python, *operator.arguments, directory=setting.path)) as program:
                findings += compare(operator, program, ours, reader, parts, odd, work)
        except NotInstalled as error:
            findings.append(Skipped("P11", work, operator.words, str(error)))
    return findings


def readable_by_others(model: Path, path: Path) -> None:
    """The same model in a directory that transformers 4 reads too, which knows neither the class of the tokenizer nor
    `rope_parameters`, and would compute with another base of the positions without a word.
    """
    path.mkdir()
    for file in model.iterdir():
        (path / file.name).symlink_to(file)
    base = json.loads((model / "config.json").read_text("utf-8"))["rope_parameters"]["rope_theta"]
    for name, more in (
        ("tokenizer_config.json", {"tokenizer_class": "PreTrainedTokenizerFast"}),
        ("config.json", {"rope_theta": base}),
    ):
        config = json.loads((model / name).read_text("utf-8"))
        (path / name).unlink()
        (path / name).write_text(json.dumps({**config, **more}))


def compare(
    operator: Operator, program: Program, ours: Ours, reader: Reader, parts: Sequence[Rows], odd: Rows, work: str
) -> list[Finding]:
    theirs: dict[int, Values] = {}
    mine: dict[int, Values] = {}

    def ask(round: int) -> Cost:
        theirs[round], cost = program.ask(parts[round].texts)
        return cost

    def score(round: int) -> None:
        mine[round] = operator.ours(ours, parts[round].table)

    took, other = alternate(timed(score), ask, rounds=len(parts) - 1)
    texts = [text for part in parts[1:] for text in part.texts]
    tokens = sum(len(reader.ids(f"{each['prompt']}\n{each['response']}")) for each in texts)
    note = f"{tokens / sum(took):,.0f} tokens of the rows a second, theirs {tokens / sum(other):,.0f}"
    comparison = Comparison("P11", work, operator.words, took, other, operator.goal, note=note)
    pairs = [(a, b) for round in range(1, len(parts)) for a, b in zip(mine[round], theirs[round], strict=True)]
    expected = [operator.formula(reader, **text) for text in texts]
    words = [f"{operator.words}: {agreement(pairs, expected)}"]
    words += odd_table(operator, program, ours, reader, odd)
    return [comparison, Remark("P11", "\n".join(words))]


def agreement(pairs: Sequence[tuple[float | str | None, float | None]], expected: Sequence[float]) -> str:
    """How their values compare with what is read in their code, and with ours."""
    as_read = sum(same(theirs, value) for (_, theirs), value in zip(pairs, expected, strict=True))
    both = [(a, b) for a, b in pairs if usable(a) and usable(b)]
    apart = sorted(abs(a - b) / abs(a) for a, b in both)
    rank = pl.DataFrame(both, schema=["a", "b"], orient="row").select(pl.corr("a", "b", method="spearman")).item()
    return (
        f"{as_read} of {len(pairs)} values are what we read in its code, to {ALIKE:g} of the value; "
        f"{len(pairs) - sum(usable(b) for _, b in pairs)} are none at all, where ours are "
        f"{len(pairs) - sum(usable(a) for a, _ in pairs)}. They differ from ours by {statistics.median(apart):.1%} "
        f"in the median and {apart[-1]:.0%} at most; rank correlation with ours {rank:.3f}."
    )


def odd_table(operator: Operator, program: Program, ours: Ours, reader: Reader, odd: Rows) -> list[str]:
    """Rows in which what differs is plain, one at a time, as a program may stop at one of them."""
    mine = operator.ours(ours, odd.table)
    lines = [
        "",
        "| response | its tokens, of the prompt | theirs | as read in its code | ours |",
        "|---|---|---|---|---|",
    ]
    for text, own in zip(odd.texts, mine, strict=True):
        try:
            (theirs,), _ = program.ask([text])
        except NotInstalled as error:
            theirs = str(error)
        expected = operator.formula(reader, **text)
        sizes = f"{len(reader.ids(text['response']))}, {len(reader.ids(text['prompt']))}"
        lines.append(f"| `{shown(text['response'])}` | {sizes} | {cell(theirs)} | {cell(expected)} | {cell(own)} |")
    return lines


def unusual(reader: Reader, setting: Setting) -> list[dict]:
    """The first row of the file, the first with a response of one token, of two, and with the longest prompt."""
    rows = [record for record in islice(records(setting.data), setting.rows(SEARCHED))]
    sizes = [len(reader.ids(record["output"].strip())) for record in rows]
    firsts = [sizes.index(size) for size in (1, 2) if size in sizes]
    longest = max(range(len(rows)), key=lambda row: len(_prompt(rows[row])))
    return [rows[row] for row in dict.fromkeys([0, *firsts, longest])]


def usable(value: object) -> bool:
    return isinstance(value, float) and math.isfinite(value) and value != 0


def same(theirs: float | None, expected: float) -> bool:
    if theirs is None or math.isnan(theirs):
        return math.isnan(expected)
    return math.isclose(theirs, expected, rel_tol=ALIKE)


def shown(text: str) -> str:
    """The start of a text in a cell of Markdown."""
    return repr(text[:24] + "…" * (len(text) > 24))[1:-1].replace("|", "\\|").replace("`", "'")


def cell(value: object) -> str:
    if isinstance(value, float):
        return f"{value:.4g}"
    return "none" if value is None else str(value)
