"""Scope, pacing and cycles against published values (or values of the published code)."""

import math
from dataclasses import fields
from itertools import accumulate, pairwise, takewhile

import pytest
from curricle.schemas.common.errors import UsageError
from curricle.train.curricula import CURRICULA, build
from curricle.train.curricula.campus.scope import cuts, scope
from curricle.train.curricula.competence import competence
from curricle.train.curricula.cyclical import cycle_sizes
from curricle.train.curricula.pacing import Paced, fixed_discrete, fixed_root, visible_rows


@pytest.mark.parametrize(
    ("t", "share"), [(0, 0), (1, 0.01), (2, 0.1418), (10, 0.3164), (25, 0.5001), (50, 0.7071), (75, 0.8660), (100, 1)]
)
def test_root_scope(t, share):
    assert round(scope(t, 100), 4) == share


@pytest.mark.parametrize(("t", "share"), [(1, 0.01), (50, 0.01), (99, 0.51), (100, 1)])
def test_literal_scope_is_degenerate(t, share):
    assert round(scope(t, 100, "literal_exp"), 4) == share


def test_shifted_scope_starts_at_s1_without_a_jump():
    assert scope(1, 100, "root_shifted") == 0.01
    assert scope(2, 100, "root_shifted") == pytest.approx(math.sqrt(1 / 99 * 0.9999 + 0.0001))
    assert scope(100, 100, "root_shifted") == 1


def test_slices_of_the_root_shrink_from_13_to_half_a_per_cent():
    steps = [scope(t, 100) - scope(t - 1, 100) for t in range(1, 101)]
    assert round(steps[1], 3) == 0.132
    assert round(steps[99], 3) == 0.005
    assert all(earlier > later for earlier, later in pairwise(steps[1:]))


@pytest.mark.parametrize("reading", ["root", "root_shifted", "literal_exp"])
@pytest.mark.parametrize(("rows", "total"), [(2, 100), (1, 1), (100, 100), (52_002, 100), (7, 3)])
def test_cuts_cover_every_row_once(reading, rows, total):
    result = cuts(rows, total, reading, 0.01, 2.0)
    assert len(result) == total + 1
    assert (result[0], result[-1]) == (0, rows)
    assert result == sorted(result)
    assert result[1] >= 1


def test_cuts_of_four_rows_by_hand():
    assert cuts(4, 4, "root", 0.01, 2.0) == [0, 1, 3, 4, 4]  # shares .01, .7071, .8661, 1
    assert cuts(4, 4, "root_shifted", 0.01, 2.0) == [0, 1, 3, 4, 4]  # .01, .5774, .8165, 1
    assert cuts(4, 4, "literal_exp", 0.01, 2.0) == [0, 1, 2, 3, 4]  # .135, .26, .51, 1
    assert cuts(4, 4, "root", 0.5, 1.0) == [0, 2, 3, 4, 4]  # .5, .75, .875, 1
    assert cuts(4, 2, "root", 0.01, 2.0) == [0, 1, 4]


@pytest.mark.parametrize(
    ("p", "shares"),
    [
        (2, [0.01, 0.1005, 0.3164, 0.5001, 0.7071, 0.8660, 1]),
        (1, [0.01, 0.0199, 0.109, 0.2575, 0.505, 0.7525, 1]),
    ],
)
def test_competence_of_platanios(p, shares):
    assert [round(competence(t, 100, p=p), 4) for t in (0, 1, 10, 25, 50, 75, 100)] == shares
    assert competence(1000, 100, p=p) == 1


@pytest.mark.parametrize(
    ("degree", "difficulties"), [(1, [64, 160, 304, 544, 1008, 1024]), (2, [64, 360, 544, 736, 1016, 1024])]
)
def test_deepspeed_linear_and_root(degree, difficulties):
    assert [fixed_root(step, 100, 64, 1024, 8, degree) for step in (0, 10, 25, 50, 99, 100)] == difficulties


def test_deepspeed_never_starts_below_its_minimum_or_ends_above_its_maximum():
    assert fixed_root(0, 100, 60, 1024, 8) == 64  # 60 rounded down would be 56
    assert fixed_root(500, 100, 64, 1020, 8) == 1020


def test_deepspeed_discrete():
    assert [fixed_discrete(step, [10, 20, 30], [5, 8]) for step in (0, 5, 6, 8, 9, 999)] == [10, 10, 20, 20, 30, 30]


@pytest.mark.parametrize(
    ("shape", "start", "half", "end"),
    [
        ("linear", 20, 60, 100),
        ("quad", 20, 40, 100),
        ("root", 20, 20 + 80 * math.sqrt(0.5), 100),
        ("step", 20, 20, 120),  # not capped in the function
        ("exp", 20, 20 + 80 * (math.exp(5) - 1) / (math.exp(10) - 1), 100),
        ("log", 20, 100 + 8 * math.log(0.5 + math.exp(-10)), 100 + 8 * math.log(1 + math.exp(-10))),
    ],
)
def test_pacing_of_when_do_curricula_work(shape, start, half, end):
    result = [visible_rows(shape, x, 50, 20, 100) for x in (0, 25, 50)]
    assert result == pytest.approx([start, half, end])


@pytest.mark.parametrize("function", ["linear", "quad", "root", "step", "exp", "log", "fixed_linear", "fixed_root"])
def test_paced_shares_rise_from_start_to_all(function):
    paced = Paced(function=function, start=0.2)
    shares = [paced.share(step, 50) for step in range(80)]
    assert shares == sorted(shares)
    assert shares[0] == pytest.approx(0.2)
    assert shares[50:] == [1.0] * 30
    assert all(0 < share <= 1 for share in shares)


@pytest.mark.parametrize(
    ("start", "first", "total", "chunks"),
    [
        (0.25, [0.25, 0.5, 1, 0.5, 0.25, 0.5, 1, 0.5, 0.25, 0.5], 5, 10),
        (0.25, [0.25, 0.5, 1], 30, 54),
        (0.3, [0.3, 0.6, 1, 0.5, 0.3, 0.6, 1], None, None),
    ],
)
def test_cycle_sizes(start, first, total, chunks):
    sizes = cycle_sizes(start)
    assert [next(sizes) for _ in first] == first
    if total:
        before = list(takewhile(lambda spent: spent < total, accumulate(cycle_sizes(start))))
        assert len(before) + 1 == chunks


def test_every_option_of_every_curriculum_has_help_and_survives_text():
    for name, kind in CURRICULA.items():
        built = build(name, {})
        texts = {}
        for field in fields(kind):
            assert field.metadata["help"]
            default = getattr(built, field.name)
            if default != ():
                texts[field.name] = ",".join(map(str, default)) if isinstance(default, tuple) else str(default)
        assert build(name, texts) == built


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("campuss", {}, "did you mean 'campus'"),
        ("campus", {"decision": 3}, "did you mean 'decisions'"),
        ("campus", {"pointer": "mine"}, "pointer"),
        ("campus", {"decisions": -1}, "decisions is -1"),
        ("campus", {"probe": "often"}, "probe"),
        ("campus", {"s1": 0}, "s1 is 0"),
        ("campus", {"p": 0.5}, "p is 0.5"),
        ("campus", {"temperature": -1}, "temperature is -1"),
        ("campus", {"probe_cost": -1}, "probe-cost is -1"),
        ("campus", {"probe": "sparse", "resort_every": 2}, "resort_every without resort_epochs"),
        ("campus", {"refresh": "reward"}, "refresh without resort_epochs"),
        ("campus", {"resort_epochs": "inf"}, "resort-epochs is inf"),
        ("campus", {"temperature": "nan"}, "temperature is nan"),
        ("competence", {"c0": 2}, "c0 is 2"),
        ("paced", {"function": "fixed_discrete"}, "one percentile more"),
        ("cyclical", {"alpha": 1}, "alpha is 1"),
        ("interleaved", {"parts": -1}, "parts is -1"),
    ],
)
def test_wrong_options_are_refused(name, options, message):
    with pytest.raises(UsageError, match=message):
        build(name, options)


def test_an_option_of_several_values_is_cut_at_commas():
    result = build("campus", {"perspectives": "loss,prompt_words:low", "competence_aware": ["loss"]})
    assert result.perspectives == ("loss", "prompt_words:low") and result.competence_aware == ("loss",)
    assert build("campus", {"perspectives": ["a,b", "loss"]}).perspectives == ("a,b", "loss")
