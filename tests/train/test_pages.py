"""The pages of the trainer: what stands on them, hostile text in each, and how they look."""

import itertools
import math

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from browser import Page, check_inert, faults
from curricle.schemas.fingerprint import example_id
from curricle.train.comparison.figures import Curve, Runs, Spending, rows_of
from curricle.train.comparison.page import comparison_page
from curricle.train.comparison.render import sections
from curricle.train.data.encoding import ConversationTokenizer
from curricle.train.reporting.charts import Line, bars, lines, span
from curricle.train.settings import CompareSettings, EvalSettings
from hypothesis import given
from hypothesis import strategies as st
from table_maker import HOSTILE

NAME = "<script>alert(1)</script>\"'><img src=x onerror=alert(2)> $\\frac{1}{0}$"


def hostile_table(path):
    """The same table with hostile text in every conversation."""
    table = pq.read_table(path)
    texts = [HOSTILE[row % len(HOSTILE)] or "empty" for row in range(len(table))]
    turns = [
        [{"role": "user", "content": text}, {"role": "assistant", "content": f"{row} {text[:200]}"}]
        for row, text in enumerate(texts)
    ]
    ids = [example_id((turn["role"], turn["content"]) for turn in each) for each in turns]
    for name, values in (("messages", turns), ("example_id", ids)):
        column = table.schema.get_field_index(name)
        field = table.schema.field(column)
        table = table.set_column(column, field, pa.array(values, field.type))
    pq.write_table(table, path)


def curve(losses, sets=("math", NAME)):
    steps = [*range(1, len(losses) + 1)]
    return Curve(
        steps,
        [8 * step for step in steps],
        [900 * step for step in steps],
        [1e9 * step for step in steps],
        losses,
        {name: {"loss": losses[-1], "row_loss": losses[-1] + 0.1} for name in sets},
        {"loss": losses[-1], "row_loss": losses[-1] + 0.1},
        losses[-1],
        Spending(900 * len(steps), 1e9 * len(steps)),
        Spending(50, 1e7),
        3.0,
    )


def comparison(tmp_path, names):
    draw = np.random.default_rng(0)
    arms = [
        Runs(
            name,
            1e-3,
            [curve([4.0, 3.5 + 0.1 * index, 3.0 + 0.1 * index + draw.normal(0, 0.02)]) for _ in range(4)],
            {1e-3: 3.0, 1e-2: math.inf},
        )
        for index, name in enumerate(names)
    ]
    settings = CompareSettings(data=tmp_path, model=NAME, output=tmp_path, eval=EvalSettings(rows=4), seeds=4)
    rows = rows_of(arms, "random")
    return comparison_page(rows, arms, [*sections(rows, arms, settings)], settings)


def test_the_page_of_a_comparison_has_every_figure_of_its_tables(tmp_path):
    page = comparison(tmp_path, ["random", "campus", "sorted?by=loss", NAME])
    check_inert(page)
    text = Page(page).text
    assert all(words in text for words in ("campus", "sorted?by=loss", NAME[:25], "not finite"))
    assert "0.1" in text and "nats higher than random, beyond chance" in text
    assert page.count("<svg") == 4, "two pictures, each for two widths"
    assert "Held-out loss over training" in text and "Difference from random" in text and "math, a token" in text


@pytest.fixture
def pages(command, train_in_fork, table_file, tmp_path):
    """A page of each kind, with hostile text wherever there is text of others."""
    hostile_table(table_file)
    options = ("--eval.rows", "8", "--eval.every", "1", "--budget.samples", "24", "--batch.tokens", "256")
    options = (*options, "--batch.size", "3", "--eval.generations", "5", "--eval.generation-tokens", "4")

    def answer_with_hostile_text() -> None:
        drawn = itertools.cycle(["\x1b[2J\nforged", *(text or "" for text in HOSTILE), NAME])
        ConversationTokenizer.decode = lambda self, ids: next(drawn)

    done = train_in_fork(command(*options, output="hostile <b>&run"), answer_with_hostile_text)
    assert done.code == 0 and "\x1b" not in done.text and "the first: \\x1b[2J\\nforged" in done.text, done.text
    run = tmp_path / "hostile <b>&run"
    done = train_in_fork(["report", str(run)])
    assert done.code == 0, done.text
    order = ["--curriculum", "campus", "--batch.size", "8", "--budget.samples", "24"]
    done = train_in_fork(["plan", "--data", str(table_file), *order, "--output", str(tmp_path / "plan")])
    assert done.code == 0 and "plan.html" in done.text, done.text
    result = {
        "training": (run / "report.html").read_text(),
        "plan": (tmp_path / "plan" / "plan.html").read_text(),
        "comparison": comparison(tmp_path, ["random", "campus", "sorted?by=loss", "hard_to_easy", NAME]),
    }
    for name, text in result.items():
        (tmp_path / f"{name}.html").write_text(text)
    return {name: tmp_path / f"{name}.html" for name in result}


def test_every_page_is_inert_and_shows_hostile_text_as_text(pages):
    for path in pages.values():
        check_inert(path.read_text())
    text = Page(pages["training"].read_text()).text
    assert "rows were not visited" in text and "<script>alert(1)</script>" in text and "hostile <b>&run" in text
    assert "Answers to held-out prompts" in text and "3 answers between" in text and "forged" in text
    assert NAME in text and text.count("step 8") == 5
    text = Page(pages["plan"].read_text()).text
    assert "40 rows are not visited" in text and "<script>alert(1)</script>" in text and "A rehearsal" in text
    assert faults(*pages.values()) == []


@given(st.lists(st.floats(-1e9, 1e9), min_size=1, max_size=9), st.booleans())
def test_an_axis_holds_its_values_and_is_never_wider_than_they_call_for(values, zero):
    low, high = span(values, zero)
    assert low <= min(values) and max(values) <= high and low < high
    reach = max(map(abs, values))
    assert high - low <= max(2.0, 3 * max(reach, max(values) - min(values)))
    assert not zero or min(values) < 0 or low == 0


def test_an_axis_of_one_value_is_one_around_it():
    assert span([0.0]) == (-1.0, 1.0) and span([0.0], zero=True) == (0.0, 1.0)
    assert span([3.0]) == (2.7, 3.3) and span([3.0], zero=True)[0] == 0.0


def test_what_cannot_be_drawn_is_said():
    assert "no finite value" in lines({"a": Line([(1, math.inf)])}, "x", "y", "nothing")
    assert "<svg" in lines({"$\\frac{1}{0}$": Line([(1, 2.0)]), "b": Line([])}, "x", "y", "mathematics")
    assert "<svg" in bars({0: 3}, "x", "y", "only never")
