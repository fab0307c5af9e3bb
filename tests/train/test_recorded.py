"""CAMPUS with a student that changes: a real one, whose loss on every row was recorded while it was trained.

``pytest -n 0 -s tests/train/test_recorded.py`` prints the figures of docs/methods.md. What was recorded, and how:
tests/data/recorded. The student of a record was trained in an order of its own and does not follow what is chosen here.
"""

import importlib
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from curricle.curate.metrics.mtld import mtld
from curricle.train.curricula.base import Outcome, Probe, ProbeResult
from curricle.train.curricula.campus.choosing import Choosing, Estimating
from curricle.train.curricula.campus.curriculum import Campus
from curricle.train.curricula.campus.perspectives import Perspective
from curricle.train.curricula.campus.sorting import Sorting
from curricle.train.curricula.course import Course
from curricle.train.data.correlation import spearman
from curricle.train.data.table import Rows, Table, open_table
from numpy.typing import NDArray

RECORDED = Path(__file__).parents[1] / "data" / "recorded"
CALM, SWINGING = "lr_1e-4", "lr_5e-4"  # records
RECORDS = CALM, SWINGING
BATCH = 16  # of the record
FEWEST = 32
ORDERS = ("prompt_words:high", "response_mtld:high", "loss:high")
COLUMNS = ("prompt_words", "response_mtld", "prompt_tokens", "response_tokens")


class Record:
    """The losses of a record: ``at(step)`` gives those of every row, float64 (rows,), NaN where no token is scored.

    Between two steps at which every row was asked about they are interpolated. ``rows``: how many are trained on.
    """

    def __init__(self, name: str) -> None:
        self.arrays: Mapping[str, NDArray[Any]] = dict(np.load(RECORDED / f"{name}.npz"))
        self.rows = BATCH * int(self.arrays["recorded"][-1])

    def at(self, step: float) -> NDArray[np.float64]:
        steps, losses = self.arrays["recorded"], self.arrays["losses"].astype(np.float64)
        after = int(np.clip(np.searchsorted(steps, step), 1, len(steps) - 1))
        share = np.clip((step - steps[after - 1]) / (steps[after] - steps[after - 1]), 0, 1)
        return losses[after - 1] * (1 - share) + losses[after] * share  # type: ignore[no-any-return]

    def table(self, directory: Path, prior: NDArray[Any]) -> Table:
        columns = {name: self.arrays[name] for name in COLUMNS}
        ids = [bytes(each).hex() for each in self.arrays["example_id"]]
        scores = {name: pa.array(values, from_pandas=True) for name, values in {**columns, "loss": prior}.items()}
        pq.write_table(pa.table({"example_id": ids, **scores}), directory / "table.parquet")
        return open_table(directory / "table.parquet")


class Published:
    """The losses of OPT-350M before training and after each of three epochs, on 1,472 rows of Alpaca.

    Between the first two, which is where the student changes, it is taken to move fast at first; later evenly.
    """

    def __init__(self, path: Path) -> None:
        columns = pq.read_table(path).to_pydict()
        self.losses = [np.log(columns[f"opt-350m__P{epoch}"]) for epoch in range(4)]
        self.rows = len(self.losses[0]) * 3 // 2
        prompts = [f"{one} {other}" for one, other in zip(columns["instruction"], columns["input"], strict=True)]
        prompt_words, words = ([len(text.split()) for text in texts] for texts in (prompts, columns["output"]))
        self.columns = {
            **{"prompt_words": prompt_words, "prompt_tokens": prompt_words, "response_tokens": words},
            "response_mtld": mtld(columns["output"]),
        }

    def at(self, step: float) -> NDArray[np.float64]:
        epoch, share = divmod(step * BATCH / len(self.losses[0]), 1)
        share = 1 - np.exp(-10 * share) if epoch == 0 else share
        return self.losses[int(epoch)] * (1 - share) + self.losses[int(epoch) + 1] * share  # type: ignore[no-any-return]

    def table(self, directory: Path) -> Table:
        ids = [f"{row:032x}" for row in range(len(self.losses[0]))]
        columns = pa.table({"example_id": ids, **self.columns, "loss": self.losses[0]})
        pq.write_table(columns, directory / "table.parquet")
        return open_table(directory / "table.parquet")


@dataclass
class Figures:
    """How choices and orders compare with those of a student who is asked about every row; pairs of estimates and
    stored losses.

    For each decision but the first: ``agreed``, whether they choose as the student does; ``excess``, by how many nats
    what they choose is above the easiest; ``every_rho``, the rank correlation of the whole table by them with the
    student's own order. For each time that an order is sorted again: ``rho``, that of what is left of it, and
    ``new_rho``, on the rows of it of which no loss has been seen. ``cost``: of each run, the share of the training's
    tokens that asking took, at three passes a trained row.
    """

    agreed: list[tuple[bool, bool]] = field(default_factory=list)
    excess: list[tuple[float, float]] = field(default_factory=list)
    every_rho: list[tuple[float, float]] = field(default_factory=list)
    rho: list[tuple[float, float]] = field(default_factory=list)
    new_rho: list[tuple[float, float]] = field(default_factory=list)
    cost: list[float] = field(default_factory=list)

    def __str__(self) -> str:
        pairs = {
            "agreement": self.agreed,
            "excess": self.excess,
            "rho": self.every_rho,
            "of the rest": self.rho,
            "of new rows": self.new_rho,
        }
        means = {name: np.mean(pair, axis=0) for name, pair in pairs.items()}
        words = [f"{name} {mean:.3f} (stored {stored:.3f})" for name, (mean, stored) in means.items()]
        return ", ".join([f"{len(self.agreed)} decisions", *words, f"asking {max(self.cost):.1%}"])


def follow(record: Record | Published, table: Table, batch: int, seed: int, figures: Figures, **options: Any) -> None:
    """Let CAMPUS, with its defaults, choose for the student of a record, and compare."""
    stored, tokens = table.numbers("loss"), table.numbers("prompt_tokens") + table.numbers("response_tokens")
    new, trained, spent, questions = np.ones(len(table), bool), 0, 0.0, 0.0
    choose, replace = Estimating.choose, Sorting._replace

    def means(candidates: Mapping[str, Rows], losses: NDArray[np.float64]) -> dict[str, float]:
        return {name: float(np.nanmean(losses[rows])) for name, rows in candidates.items()}

    def correlated(pairs: list[tuple[float, float]], rows: Rows, losses: NDArray[np.float64]) -> None:
        truth = record.at(trained / BATCH)[rows]
        both = np.isfinite(truth) & np.isfinite(stored[rows])
        if both.sum() >= FEWEST and trained:
            one, other = (spearman(values[both], truth[both]) for values in (losses, stored[rows]))
            pairs.append((one or 0.0, other or 0.0))

    def compared(self: Estimating, candidates: Mapping[str, Rows], decision: int) -> Choosing:
        choice = yield from choose(self, candidates, decision)
        if trained:
            truth, stored_means = means(candidates, record.at(trained / BATCH)), means(candidates, stored)
            best, stored_choice = min(truth.values()), min(stored_means, key=stored_means.__getitem__)
            figures.agreed.append((truth[choice] == best, truth[stored_choice] == best))
            figures.excess.append((truth[choice] - best, truth[stored_choice] - best))
        every = np.arange(len(table))
        correlated(figures.every_rho, every, self.estimate.predict(every))
        return choice

    def ranked(self: Sorting, perspective: Perspective, losses: NDArray[np.float64]) -> None:
        rest = perspective.rest
        correlated(figures.rho, rest, losses)
        correlated(figures.new_rho, rest[new[rest]], losses[new[rest]])
        replace(self, perspective, losses)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Estimating, "choose", compared)
        patch.setattr(Sorting, "_replace", ranked)
        course = Course(Campus(perspectives=ORDERS, **options), table, seed, batch)
        while trained < record.rows and (step := course.next()) is not None:
            losses = record.at(trained / BATCH)
            if isinstance(step, Probe):
                rows = [each.rows for each in step.candidates]
                questions += float(tokens[np.concatenate(rows)].sum())
                new[np.concatenate(rows)] = False
                course.answer(ProbeResult(*zip(*(_sums(losses[each]) for each in rows), strict=True)))
            else:
                trained, spent = trained + len(step.rows), spent + 3 * float(tokens[step.rows].sum())
                new[step.rows] = False
                course.report(Outcome(*_sums(losses[step.rows]), step.index))
    figures.cost.append(questions / spent)


def _sums(losses: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    return np.nan_to_num(losses) * 8, 8 * np.isfinite(losses).astype(np.int64)


def figures_of(name: str, prior: str, directory: Path, **options: Any) -> Figures:
    """Over steps of 8, 16 and 32 rows, and three seeds each."""
    record, figures = Record(name), Figures()
    table = record.table(directory, record.at(0) if prior == "own" else record.arrays["other_loss"])
    for batch in (8, 16, 32):
        for seed in range(3):
            follow(record, table, batch, seed, figures, **options)
    print(f"\n{name}, stored loss of {'the student itself' if prior == 'own' else 'another family'}: {figures}")
    return figures


def test_the_student_itself_is_the_proxy(tmp_path):
    figures = figures_of(CALM, "own", tmp_path)
    assert np.mean(figures.agreed, axis=0)[0] >= 0.8
    assert min(np.mean(rhos, axis=0)[0] for rhos in (figures.every_rho, figures.rho, figures.new_rho)) >= 0.9
    assert max(figures.cost) <= 0.05


def check_corrected(figures: Figures) -> None:
    """Estimates choose as the student does, and are far better than the stored losses."""
    agreed, stored = np.mean(figures.agreed, axis=0)
    assert agreed >= 0.8 and agreed > stored + 0.1
    assert np.mean(figures.every_rho, axis=0)[0] >= 0.9
    for rhos in (figures.rho, figures.new_rho):
        rho, stored = np.mean(rhos, axis=0)
        assert rho > stored + 0.1
    assert max(figures.cost) <= 0.05


def test_a_proxy_of_another_family_is_corrected(tmp_path):
    """Its order is not that of the student, and no column tells all of the difference."""
    figures = figures_of(CALM, "other", tmp_path)
    check_corrected(figures)


@pytest.mark.parametrize("prior", ["own", "other"])
def test_a_student_that_swings_is_followed_from_behind(prior, tmp_path):
    """Each step on what is easy makes what is hard harder; the losses of a step are those before it."""
    figures = figures_of(SWINGING, prior, tmp_path)
    for pairs in (figures.agreed, figures.every_rho, figures.rho):
        estimated, stored = np.mean(pairs, axis=0)
        assert estimated > stored
    estimated, stored = np.mean(figures.excess, axis=0)
    assert estimated < 0.8 * stored
    assert max(figures.cost) <= 0.05


def test_a_student_that_changes_much_is_followed(shared_data, tmp_path):
    published, figures = Published(shared_data / "oracles" / "alpaca_published_perplexities.parquet"), Figures()
    for batch in (16, 32):
        follow(published, published.table(tmp_path), batch, 0, figures)
    print(f"\nOPT-350M, stored loss of the student itself: {figures}")
    check_corrected(figures)


@pytest.mark.parametrize("name", RECORDS)
def test_the_script_trains_in_the_order_of_the_record(name, tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(RECORDED)
    make = importlib.import_module("make")
    monkeypatch.delitem(sys.modules, "make")
    monkeypatch.setattr(make, "ORDERS", ORDERS[:2])  # this table does not say which end is hard
    record = Record(name)
    course = Course(make.Recording(), record.table(tmp_path, record.at(0)), 0, BATCH)
    for step in np.unique(record.arrays["step"]):
        while isinstance(stage := course.next(), Probe):
            assert step in make.RECORDED
            course.answer(ProbeResult(*zip(_sums(record.at(step)), strict=True)))
        assert stage.rows.tolist() == record.arrays["row"][record.arrays["step"] == step].tolist()
        course.report(Outcome(*_sums(record.at(step)[stage.rows]), stage.index))


def test_a_record_is_of_a_student_that_learns():
    for name in RECORDS:
        record = Record(name)
        steps, losses = record.arrays["recorded"], record.arrays["losses"]
        assert np.array_equal(record.at(steps[3]), losses[3], equal_nan=True)
        between = record.at((steps[-2] + steps[-1]) / 2)
        assert between == pytest.approx((losses[-2] + losses[-1]) / 2, nan_ok=True)
        assert np.nanmean(losses[-1]) < 0.9 * np.nanmean(losses[0])
        # the losses of the steps themselves are those of the answers just before them
        at, row = record.arrays["step"], record.arrays["row"]
        nll, tokens = record.arrays["nll"], record.arrays["tokens"]
        for index, step in enumerate(steps):
            visits = (at == step) & (tokens > 0)
            assert nll[visits] / tokens[visits] == pytest.approx(losses[index][row[visits]], rel=0.02)
