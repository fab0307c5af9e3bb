"""From a recipe and the columns that it names to the rows that it keeps, with an account of every step."""

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import numpy as np
import polars as pl
from curricle.curate.selection import chains
from curricle.curate.selection.expression import Expression, parse
from curricle.curate.selection.near_duplicates import (
    PERMUTATIONS,
    VIEWS,
    WORDS,
    buckets,
    contents,
    grams,
    has_words,
    linked,
    signatures,
    stand_ins,
)
from curricle.curate.selection.order import RowIndices, by_value, sampling_keys, tie_order, uniform
from curricle.curate.selection.recipe import Recipe
from curricle.curate.selection.representative import facility_location, matrix
from curricle.curate.selection.shares import equal, part_of, proportional
from curricle.curate.selection.split import assign, groups
from curricle.schemas.columns import ScoreColumn
from curricle.schemas.common.config import nearest
from curricle.schemas.common.errors import UsageError
from numpy.typing import NDArray

Turns = Sequence[tuple[bool, str]]
Texts = Callable[[RowIndices], Iterable[Turns]]
"""The turns of these rows (rising), row by row, as ``(is_response, content)``."""

EXAMPLE, NEAR_DUPLICATES = "example", "near_duplicates"
"""What rows are split by, beside columns."""
KEYS = ("example_id", "source", "source_position")
MOST_COMPARED = 100_000
"""Facility location is quadratic: so many rows take minutes, ten times as many hours."""


@dataclass(frozen=True)
class Selection:
    """``rows``: the row numbers that are kept, rising. ``steps``: what each rule found, as JSON-like values.

    ``splits``: where the last rule is a split that is not of one set alone, the rows of each set, rising.
    """

    rows: RowIndices
    steps: list[dict[str, Any]]
    splits: Mapping[str, RowIndices] = field(default_factory=dict)

    def only(self, name: str) -> "Selection":
        """The rows of one set of the split."""
        rows = self.splits[name]
        return Selection(rows, [*self.steps[:-1], {**self.steps[-1], "left": len(rows)}])


class Rules:
    """A recipe, read against the columns of a table. UsageError for what they do not have."""

    def __init__(self, recipe: Recipe, columns: list[str], scores: Mapping[str, ScoreColumn]) -> None:
        self.vectors = recipe.by if recipe.take == "representative" else None
        self.group = recipe.split_by if recipe.split and recipe.split_by not in (EXAMPLE, NEAR_DUPLICATES) else None
        for name in (recipe.per, self.vectors, self.group):
            if name and name not in columns:
                ways = (EXAMPLE, NEAR_DUPLICATES) if name == self.group else ()
                raise UsageError(f"there is no column {name!r}", remedy=nearest(name, (*columns, *ways)))
        self.recipe = recipe
        self.where = parse(recipe.where, columns) if recipe.where else None
        self.by = parse(recipe.by, columns) if recipe.by and not self.vectors else None
        self.low_first = _low_first(recipe, scores)

    @property
    def columns(self) -> list[str]:
        """The columns that the rules read."""
        named = [name for rule in (self.where, self.by) if rule for name in rule.columns]
        return list(dict.fromkeys([*KEYS, *named, *filter(None, (self.recipe.per, self.vectors, self.group))]))

    def derive(self, table: pl.DataFrame, texts: Texts) -> Selection:
        """The rows that the recipe keeps of a table with these ``columns`` and texts."""
        ties, steps = tie_order(table), []
        for rule in (self._meeting, self._distinct, partial(self._unlike, texts), self._take, self._others):
            ties, step = rule(table, ties)
            if step:
                steps.append(step)
        if not self.recipe.split:
            return Selection(np.sort(ties), steps)
        splits, step = self._split(texts, table, ties)
        whole = Selection(np.sort(ties), [*steps, step], splits)
        return whole.only(self.recipe.split_only) if self.recipe.split_only else whole

    def _meeting(self, table: pl.DataFrame, rows: RowIndices) -> tuple[RowIndices, dict[str, Any]]:
        """The rows that meet the condition."""
        if self.where is None:
            return rows, {}
        met = self.where.mask(table)
        left = rows[met.fill_null(False).to_numpy()[rows]]
        step = {"rule": "where", "condition": self.where.text, "nulls": met.null_count()}
        return left, step | {"rows": len(rows), "left": len(left)}

    def _distinct(self, table: pl.DataFrame, rows: RowIndices) -> tuple[RowIndices, dict[str, Any]]:
        """The first row of each conversation, by source and position."""
        if not self.recipe.distinct:
            return rows, {}
        left = rows[table["example_id"].gather(rows).is_first_distinct().to_numpy()]
        return left, {"rule": "distinct", "rows": len(rows), "left": len(left)}

    def _unlike(self, texts: Texts, table: pl.DataFrame, rows: RowIndices) -> tuple[RowIndices, dict[str, Any]]:
        """The rows that are not nearly the same as one that is kept, which comes before them by source and position."""
        threshold, seed, of = self.recipe.near_duplicates, self.recipe.seed, self.recipe.near_duplicates_of
        if threshold is None:
            return rows, {}
        rising = np.sort(rows)
        views = VIEWS.get(of, (of,))
        signed = signatures((contents(views[0], turns) for turns in texts(rising)), len(rows), seed)
        by_position = table.select(KEYS[1:])[rising].select(pl.arg_sort_by(KEYS[1:])).to_series()
        in_order = by_position.to_numpy().astype(np.int64)
        nulls = len(rows) - int(has_words(signed).sum())
        if of == "chains":
            like = chains.stand_ins(signed, in_order, threshold)
        else:
            shared = buckets(signed, threshold)
            del signed
            parts = (contents(view, turns) for turns in texts(rising[shared.rows]) for view in views)
            like = stand_ins(shared, grams(parts), len(views), in_order, threshold)
        step = {"rule": "near_duplicates", "threshold": threshold, "words": WORDS, "permutations": PERMUTATIONS}
        step |= {} if of == "chains" else {"of": of}
        step |= {"seed": seed, "nulls": nulls}
        left = rows[~np.isin(rows, rising[like >= 0])]
        return left, step | {"groups": len(np.unique(like[like >= 0])), "rows": len(rows), "left": len(left)}

    def _take(self, table: pl.DataFrame, rows: RowIndices) -> tuple[RowIndices, dict[str, Any]]:
        """The rows at one end of an order, or a sample: in all, or in each stratum."""
        if self.recipe.take is None:
            return rows, {}
        step: dict[str, Any] = {"rule": "take", "rows": len(rows)}
        values = np.zeros(len(table)) if self.by is None else self.by.numbers(table)
        if self.vectors:
            values[table[self.vectors].is_null().to_numpy()] = np.nan
        ordered = by_value(self._keys(table, values), rows)
        step["nulls"] = len(rows) - len(ordered)
        names, strata = self._strata(table, ordered)
        if self.recipe.per:
            step["nulls_per"] = len(ordered) - sum(map(len, strata))
        count, ranges = self._ranges([len(stratum) for stratum in strata])
        picked = [self._picked(table, stratum, *reach) for stratum, reach in zip(strata, ranges, strict=True)]
        left = np.concatenate([np.empty(0, np.int64), *picked])
        step |= {"asked": count, "left": len(left)}
        ends = [_ends(self.by, values, chosen) for chosen in picked]
        if self.recipe.per:
            columns = zip(names, strata, picked, ends, strict=True)
            step["strata"] = [{"value": n, "rows": len(s), "taken": len(t)} | e for n, s, t, e in columns]
        elif ends:
            step |= ends[0]
        return left, step

    def _others(self, table: pl.DataFrame, rows: RowIndices) -> tuple[RowIndices, dict[str, Any]]:
        """All rows of the table but these, if the complement is wanted."""
        if not self.recipe.complement:
            return rows, {}
        left = np.setdiff1d(np.arange(len(table)), rows)
        return left, {"rule": "complement", "rows": len(table), "left": len(left)}

    def _split(
        self, texts: Texts, table: pl.DataFrame, rows: RowIndices
    ) -> tuple[dict[str, RowIndices], dict[str, Any]]:
        """The rows of each set, rising. A group is in one set."""
        recipe, shares = self.recipe, self.recipe.split_shares()
        keys, about = self._group_keys(texts, table, rows)
        group, names, merged = groups(keys, table["example_id"].gather(rows))
        sizes = np.bincount(group, minlength=len(names))
        whole = math.lcm(*(share.denominator for share in shares.values())) * len(rows)
        budgets = proportional([int(share * whole) for share in shares.values()], len(rows))
        split_of = assign(sizes, uniform(names, recipe.seed, b"split"), budgets)
        splits = {name: np.sort(rows[split_of[group] == at]) for at, name in enumerate(shares)}
        sets = {
            name: {"share": str(share), "rows": len(splits[name]), "groups": int((split_of == at).sum())}
            for at, (name, share) in enumerate(shares.items())
        }
        step = {"rule": "split", "by": recipe.split_by, **about, "seed": recipe.seed, "groups": len(names)}
        step |= {"largest": int(sizes.max(initial=0)), "merged": merged, "sets": sets}
        return splits, step | {"rows": len(rows), "left": len(rows)}

    def _group_keys(self, texts: Texts, table: pl.DataFrame, rows: RowIndices) -> tuple[pl.Series, dict[str, Any]]:
        """What rows of one group have in common, a text for each row, and what is to be said of it."""
        ids = table["example_id"].gather(rows)
        if self.group:
            values = _categories(table[self.group]).gather(rows)
            keys = ("=" + values.cast(pl.String)).alias("key")  # no id begins so
            return pl.select(pl.coalesce(keys, ids)).to_series(), {"nulls": values.null_count()}
        if self.recipe.split_by == EXAMPLE:
            return ids, {}
        threshold, view, rising = self.recipe.split_threshold, self.recipe.split_of, np.sort(rows)
        signed = signatures((contents(view, turns) for turns in texts(rising)), len(rows), self.recipe.seed)
        nulls = len(rows) - int(has_words(signed).sum())
        shared = buckets(signed, threshold)
        del signed
        compared = grams(contents(view, turns) for turns in texts(rising[shared.rows]))
        position = np.searchsorted(rising, rows)
        like = linked(shared, compared, position, threshold)[position]
        first = pl.DataFrame({"like": like, "id": ids}).select(pl.col("id").min().over("like")).to_series()
        about = {"of": view, "threshold": threshold, "words": WORDS, "permutations": PERMUTATIONS, "nulls": nulls}
        return first, about

    def _keys(self, table: pl.DataFrame, values: NDArray[np.float64]) -> NDArray[np.float64]:
        """What the rows are ordered by, high first."""
        if self.recipe.take == "random":
            return uniform(table["example_id"], self.recipe.seed)
        if self.recipe.take == "sampled":
            return sampling_keys(values, self.recipe.temperature, uniform(table["example_id"], self.recipe.seed))
        order = values if self.by is None else self.by.order(table)
        return -order if self.low_first else order

    def _picked(self, table: pl.DataFrame, stratum: RowIndices, start: int, stop: int) -> RowIndices:
        if not self.vectors:
            return stratum[start:stop]
        if len(stratum) > MOST_COMPARED:
            found = f"{len(stratum):,} rows to compare with each other"
            raise UsageError(found, remedy=f"leave {MOST_COMPARED:,} by --where or another selection, or give --per")
        return stratum[facility_location(matrix(table[self.vectors].gather(stratum)), stop)]

    def _strata(self, table: pl.DataFrame, ordered: RowIndices) -> tuple[list[Any], list[RowIndices]]:
        """The values of ``per``, rising, and the rows of each in order; without ``per`` all rows, and no value."""
        if not self.recipe.per:
            return [], [ordered]
        column = _categories(table[self.recipe.per])
        codes = column.gather(ordered).rank("dense").cast(pl.Int64).fill_null(0).to_numpy()
        by_code = np.argsort(codes, kind="stable")
        starts = np.flatnonzero(np.diff(codes[by_code], prepend=0))
        strata = np.split(ordered[by_code], starts)[1:]
        return column.gather([stratum[0] for stratum in strata]).to_list(), strata

    def _ranges(self, sizes: list[int]) -> tuple[int, list[tuple[int, int]]]:
        """How many rows are asked for, and from where to where they lie in each stratum."""
        recipe = self.recipe
        if recipe.part is not None:
            part, parts = recipe.part_numbers()
            return _rounded(sum(sizes) / parts), [part_of(size, part - 1, parts) for size in sizes]
        count = recipe.count if recipe.fraction is None else _rounded(recipe.fraction * sum(sizes))
        assert count is not None, "a recipe that takes has a size"
        share = equal if recipe.shares == "equal" else proportional
        return count, [(0, size) for size in share(sizes, min(count, sum(sizes)))]


def _categories(column: pl.Series) -> pl.Series:
    """A column of categories or whole numbers; UsageError for another."""
    if column.dtype.is_nested() or column.dtype.is_float():
        found = f"column {column.name!r} holds {column.dtype}, whose values make no groups"
        raise UsageError(found, remedy="name categories or whole numbers, such as source or cluster")
    return column


def _low_first(recipe: Recipe, scores: Mapping[str, ScoreColumn]) -> bool:
    """Whether low values come first. UsageError if those of the hard or easy end do and nothing says which it is."""
    if recipe.take not in ("hard", "easy"):
        return recipe.take == "low"
    score = scores.get(recipe.by or "")
    if score is None or score.hard is None:
        found = f"nothing says whether the high or the low end of {recipe.by!r} is hard"
        raise UsageError(found, remedy=f"give --take high or --take low instead of --take {recipe.take}")
    return (score.hard == "low") == (recipe.take == "hard")


def _rounded(rows: float) -> int:
    return int(rows + 0.5)


def _ends(by: Expression | None, values: NDArray[np.float64], rows: RowIndices) -> dict[str, float]:
    """The threshold: the lowest and the highest value among the rows that were taken."""
    if by is None or not len(rows):
        return {}
    return {"lowest": float(values[rows].min()), "highest": float(values[rows].max())}
