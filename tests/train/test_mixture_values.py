"""The updates of ODM, DoReMi and Skill-it on fixed losses, by hand, and shares that hold over every stretch."""

from itertools import islice

import drawn
import numpy as np
import pytest
from curricle.train.curricula.mixtures.adaptive import DomainLosses
from curricle.train.curricula.mixtures.doremi import ExcessLoss, reweighted
from curricle.train.curricula.mixtures.odm import Exp3, exploration, probabilities
from curricle.train.curricula.mixtures.skill_it import SkillGraph, effects, mixture
from curricle.train.curricula.mixtures.static import tempered
from curricle.train.curricula.mixtures.stride import UNITS, Stride, quotas, to_units
from hypothesis import given, settings
from hypothesis import strategies as st


def losses(*rows):
    """Of rows that are each (domain, nll, tokens)."""
    domains, nll, tokens = zip(*rows, strict=True)
    return DomainLosses(np.arange(len(rows)), np.array(domains), np.array(nll, float), np.array(tokens))


# ODM, arXiv 2312.02406, Algorithm 1


def test_exploration_of_odm_falls_once_the_root_is_below_an_equal_share():
    """min(1/3, sqrt(ln 3 / 3t)): the root is below 1/3 from t > 3 ln 3 = 3.30 on."""
    assert [exploration(3, t) for t in (0, 1, 3)] == [1 / 3] * 3
    assert exploration(3, 4) == pytest.approx(0.3025740, abs=1e-7)  # sqrt(1.0986123 / 12)
    assert exploration(3, 100) == pytest.approx(0.0605148, abs=1e-7)


def test_odm_by_hand():
    """Losses of 3, 2 and 1, three times, and then only the first domain.

    R_1 = 0.1 * 3 / (1/3) = 0.9, then 0.9 * 0.9 + 0.9 = 1.71, then 2.439; the others are 2/3 and 1/3 of it.
    pi_4 = (1 - 3 * 0.3025740) exp(R / 3) / 5.285376 + 0.3025740 with exp(0.813) = 2.254661.
    """
    state = Exp3(3, memory=0.9, warmup=0)
    for rewards in (0.9, 1.71, 2.439):
        assert state.weights == pytest.approx([1 / 3] * 3)
        state.update([3.0, 2.0, 1.0])
        assert state.rewards == pytest.approx([rewards, rewards * 2 / 3, rewards / 3])
    assert state.weights == pytest.approx([0.3419384, 0.3325939, 0.3254677], abs=1e-7)
    state.update([3.0, None, None])
    assert state.rewards == pytest.approx([0.9 * 2.439 + 0.1 * 3 / 0.3419384, 1.626, 0.813], abs=1e-6)
    assert sum(state.weights) == pytest.approx(1) and state.weights[0] > state.weights[1] > state.weights[2]


def test_rewards_of_odm_may_be_large():
    assert probabilities([9e5, 0.0], 50) == pytest.approx([1 - exploration(2, 50), exploration(2, 50)])


def test_the_loss_of_a_domain_is_over_its_tokens():
    state = Exp3(2, memory=0.0, warmup=0)
    state.learn(losses((0, 6.0, 2), (0, 1.0, 2), (1, 5.0, 5), (1, 9.0, 0)))
    assert state.rewards == [pytest.approx(7 / 4 / 0.5), pytest.approx(1 / 0.5)]  # a row without a token says nothing


def test_a_warm_up_of_odm_leaves_everything_as_it_was():
    state = Exp3(2, memory=0.9, warmup=2)
    for _ in range(2):
        state.update([5.0, 1.0])
    assert (state.rewards, state.t) == ([0.0, 0.0], 1)
    state.update([5.0, 1.0])
    assert (state.rewards, state.t) == ([pytest.approx(1.0), pytest.approx(0.2)], 2)


# DoReMi, arXiv 2305.10429, Algorithm 1


def test_doremi_by_hand():
    """alpha' = (e / 2, 1 / 2), whose share is e / (e + 1) = 0.7310586; 0.999 of it and 0.0005 are 0.7308275."""
    assert reweighted([0.5, 0.5], [1.0, 0.0], 1.0, 1e-3) == pytest.approx([0.7308275, 0.2691725], abs=1e-7)
    state = ExcessLoss(2, np.array([2.0, 1.0, 3.0]), eta=1.0, smoothing=1e-3)
    state.update([1.0, None])  # a domain of which there was nothing has no excess yet
    assert state.weights == pytest.approx([0.7308275, 0.2691725], abs=1e-7)
    state.update([None, 1.0])  # and keeps the last that it had: both rise alike
    assert state.excess == [1.0, 1.0]
    assert state.weights == pytest.approx([0.7305967, 0.2694033], abs=1e-6)


def test_excess_is_not_made_up_for_by_rows_that_are_ahead():
    """6 - 2 * 2 = 2 of one row; 1 - 2 * 1 < 0 counts as 0: 2 over 4 tokens, and not 1 over 4."""
    state = ExcessLoss(2, np.array([2.0, 1.0, 3.0]), eta=1.0, smoothing=1e-3)
    state.learn(losses((0, 6.0, 2), (0, 1.0, 2), (1, 12.0, 4)))
    assert state.excess == [0.5, 0.0]


def test_a_row_without_a_reference_is_not_judged():
    state = ExcessLoss(2, np.array([2.0, np.nan, np.nan]), eta=1.0, smoothing=1e-3)
    state.learn(losses((0, 6.0, 2), (0, 100.0, 2), (1, 12.0, 4)))
    assert state.excess == [1.0, 0.0]


# Skill-it, arXiv 2307.14430, Algorithm 1

GRAPH = np.array([[1.0, 0.5], [0.0, 1.0]])  # training on the first skill helps the second


def test_skill_it_by_hand():
    """At first exp(0.5 * 1.5) and exp(0.5): 2.117000 to 1.648721. After losses of 2 and 1: exp(1.25) to exp(0.5).

    With another evaluation of 1 and 1, whose sums are 3 and 2: exp(2) to exp(1). The first of three is forgotten.
    """
    state = SkillGraph(GRAPH, eta=0.5, window=2)
    assert state.weights == pytest.approx([0.5621765, 0.4378235], abs=1e-7)
    state.update([2.0, 1.0])
    assert state.weights == pytest.approx([0.6791787, 0.3208213], abs=1e-7)
    state.update([1.0, 1.0])
    assert state.weights == pytest.approx([0.7310586, 0.2689414], abs=1e-7)
    state.update([1.0, None])  # the last loss of the second skill stands
    assert state.weights == pytest.approx(mixture(GRAPH, [[1.0, 1.0], [1.0, 1.0]], 0.5))


def test_a_graph_is_what_one_skill_does_for_another_beside_what_that_does_for_itself():
    falls = np.array([[0.2, 0.1, 0.1], [-0.1, 0.4, 0.6], [0.3, 0.0, -0.2]])
    assert effects(falls).tolist() == [[1.0, 0.25, 0.0], [0.0, 1.0, 0.0], [1.0, 0.0, 1.0]]


# Shares


def test_temperature_by_hand():
    assert tempered([100, 25], 1) == [1, 0.25]
    assert tempered([100, 25], 2) == [1, 0.5]
    assert tempered([100, 25], 1e9) == pytest.approx([1, 1])


def test_units_sum_up_and_nothing_above_zero_is_lost():
    assert to_units([3, 1]) == [750_000_000, 250_000_000]
    assert to_units([1, 1, 1]) == [333_333_334, 333_333_333, 333_333_333]
    assert to_units([1e12, 1, 0]) == [UNITS - 1, 1, 0]


def test_quotas_by_hand():
    assert quotas([70, 30], 32) == [22, 10]  # 22.4 and 9.6
    assert quotas([1, 1, 1], 8) == [3, 3, 2]


def test_turns_by_hand():
    stride = Stride(3)
    assert [stride.next([3, 2, 1]) for _ in range(12)] == [0, 1, 0, 2, 1, 0] * 2


@settings(max_examples=drawn.amount(60, 3_000), deadline=None)
@given(st.lists(st.integers(0, 1000), min_size=1, max_size=9).filter(any))
def test_shares_hold_within_a_row_from_the_start_and_so_within_two_over_any_stretch(units):
    stride, total = Stride(len(units)), sum(units)
    counts = np.zeros(len(units))
    for n in range(1, 400):
        counts[stride.next(units)] += 1
        assert abs(counts - n * np.array(units) / total).max() < 1


def test_a_draw_does_not_hold_its_shares():
    """The negative control: what is drawn is off by much more."""
    turns = np.random.default_rng(0).choice(2, 400, p=[0.5, 0.5])
    assert abs(np.cumsum(turns) - np.arange(1, 401) / 2).max() > 2


@settings(max_examples=drawn.amount(30, 1_000), deadline=None)
@given(st.integers(2, 6), st.integers(0, 2**32 - 1))
def test_shares_that_change_are_owed_little_more_than_a_row(count, seed):
    random = np.random.default_rng(seed)
    stride, counts, owed = Stride(count), np.zeros(count), np.zeros(count)
    for _ in range(40):
        units = to_units(random.random(count) ** 3 + 1e-3)
        for _ in range(8):
            counts[stride.next(units)] += 1
            owed += np.array(units) / UNITS
            assert abs(counts - owed).max() < 2.5


def test_a_share_of_nothing_has_no_turn():
    stride = Stride(3)
    assert {*islice((stride.next([0, 5, 0]) for _ in iter(int, 1)), 9)} == {1}
