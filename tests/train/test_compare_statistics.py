"""The intervals and tests of a comparison hold what they promise, at any number of seeds and arms."""

import numpy as np
import pytest
from curricle.train.comparison.statistics import Mean, holm, t_interval
from scipy import stats

DRAWS = 20_000  # at least 2,000: with ten times as many a share of 5 % is known to 0.15 %


@pytest.fixture
def draw():
    return np.random.default_rng(0)


@pytest.mark.parametrize("seeds", range(3, 31))
def test_95_per_cent_of_the_intervals_hold_the_truth(seeds, draw):
    arm, baseline = draw.normal(2.0, 0.3, (2, DRAWS, seeds))
    differences = arm - baseline
    half, p = t_interval(differences)
    inside = np.abs(differences.mean(-1)) <= half
    assert 0.94 <= inside.mean() <= 0.96
    assert ((p >= 0.05) == inside).mean() > 0.999  # the test says what the interval says


@pytest.mark.parametrize("seeds", [3, 5, 12])
def test_the_normal_distribution_would_not(seeds, draw):
    """The negative control: 1.96 standard errors, as was done from 12 seeds on."""
    differences = draw.normal(0, 0.4, (DRAWS, seeds))
    error = differences.std(-1, ddof=1) / seeds**0.5
    assert (np.abs(differences.mean(-1)) <= 1.96 * error).mean() < 0.94


@pytest.mark.parametrize("seeds", [3, 5, 10, 30])
def test_with_six_arms_one_is_wrongly_told_apart_in_at_most_one_comparison_in_twenty(seeds, draw):
    """Six arms against a baseline that all share, without any difference."""
    baseline = draw.normal(2.0, 0.3, (DRAWS, 1, seeds))
    arms = draw.normal(2.0, 0.3, (DRAWS, 6, seeds))
    _, p = t_interval(arms - baseline)
    assert (holm(p) < 0.05).any(-1).mean() <= 0.055
    assert (p < 0.05).any(-1).mean() > 0.10  # without the correction


def test_six_arms_that_share_nothing(draw):
    _, p = t_interval(draw.normal(0, 1, (DRAWS, 6, 5)))
    assert 0.04 <= (holm(p) < 0.05).any(-1).mean() <= 0.055
    assert (p < 0.05).any(-1).mean() > 0.2


def test_holm_by_hand():
    assert holm(np.array([0.01, 0.04, 0.03, 0.005])).tolist() == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm(np.array([0.5, 0.6])).tolist() == [1.0, 1.0]
    assert holm(np.array([0.03])).tolist() == [0.03] and holm(np.array([])).tolist() == []


def test_a_mean_is_that_of_students_t():
    mean = Mean.of([1.0, 2.0, 3.0, 6.0])
    assert mean.mean == 3.0 and mean.interval == pytest.approx(3.182446 * (14 / 3) ** 0.5 / 2)
    assert mean.p == pytest.approx(stats.ttest_1samp([1.0, 2.0, 3.0, 6.0], 0).pvalue)


def test_equal_values_have_no_interval():
    assert Mean.of([2.5, 2.5, 2.5]) == Mean(2.5, None, None, True)
    assert Mean.of([2.5]) == Mean(2.5, None, None, False)
