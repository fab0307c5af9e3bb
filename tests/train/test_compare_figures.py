"""What is made of the runs of a comparison, and how it is shown."""

import math

import pytest
from curricle.train.comparison.figures import Curve, Runs, Spending, _until, rows_of
from curricle.train.comparison.picture import picture
from curricle.train.comparison.render import markdown, sections
from curricle.train.settings import CompareSettings, EvalSettings


def curve(loss, steps=20, tokens=None, sets=None, probes=0):
    tokens = tokens or [100 * (index + 1) for index in range(len(loss))]
    return Curve(
        steps=[steps] * len(loss),
        samples=tokens,
        tokens=tokens,
        flops=[6.0 * each for each in tokens],
        loss=loss,
        sets=sets or {"held_out": {"loss": loss[-1], "row_loss": loss[-1] + 1}},
        means={"loss": loss[-1], "row_loss": loss[-1] + 1},
        tuning=None,
        training=Spending(tokens[-1] - probes, 6.0 * (tokens[-1] - probes)),
        probes=Spending(probes, 2.0 * probes),
        seconds=1.0,
    )


def runs(arm, losses, rate=1e-3, steps=20, **more):
    return Runs(arm, rate, [curve([4.0, loss], steps) for loss in losses], **more)


BASE = [2.0, 2.2, 2.1, 2.3]


def settings(tmp_path, **more):
    return CompareSettings(data=tmp_path, model="m", output=tmp_path, eval=EvalSettings(rows=4), **more)


def page(tmp_path, arms, **more):
    return markdown([*sections(rows_of(arms, "random"), arms, settings(tmp_path, **more))])


def line(text, arm):
    return next(line for line in text.splitlines() if line.startswith(f"| {arm} |"))


def test_differences_are_paired_by_seed():
    _, row = rows_of([runs("random", BASE), runs("sorted", [value - 0.1 for value in (2.01, 2.2, 2.1, 2.3)])], "random")
    difference = row.loss.difference
    assert difference.mean == pytest.approx(-0.0975) and difference.interval < 0.01 < row.loss.value.interval
    assert row.stands and row.adjusted == difference.p


def test_several_arms_are_corrected_together():
    """Alone the middle one would stand."""
    noise = [0.05, -0.05, 0.04, -0.04]
    arms = [runs("random", BASE)]
    for index, shift in enumerate((-0.09, 0.0, 0.0, 0.0, 0.0)):
        arms.append(
            runs(f"arm{index}", [value + shift + (-1) ** index * more for value, more in zip(BASE, noise, strict=True)])
        )
    alone, together = rows_of(arms[:2], "random")[1], rows_of(arms, "random")[1]
    assert alone.stands and not together.stands and together.adjusted == pytest.approx(5 * alone.adjusted)


@pytest.mark.parametrize(("steps", "fine"), [(22, True), (18, True), (23, False), (17, False), (83, False)])
def test_another_number_of_steps_is_no_difference(tmp_path, steps, fine):
    arms = [runs("random", BASE), runs("campus", [value - 1.2 for value in (2.01, 2.2, 2.1, 2.3)], steps=steps)]
    row, text = rows_of(arms, "random")[1], page(tmp_path, arms)
    words = f"{steps} steps against 20: not comparable"
    assert (row.incomparable is None, row.stands) == (fine, fine)
    assert (words in line(text, "campus")) is not fine and ("-1.19" in text) is fine


def test_what_is_not_compared_is_not_corrected_for():
    worse = [value + more for value, more in zip(BASE, (0.3, 0.31, 0.33, 0.32), strict=True)]
    both = [runs("random", BASE), runs("a", worse), runs("b", worse, steps=40)]
    assert rows_of(both, "random")[1].adjusted == rows_of(both[:2], "random")[1].adjusted


def test_an_arm_that_no_seed_changes_says_so(tmp_path):
    text = page(tmp_path, [runs("random", BASE), runs("sorted", [2.0] * 4)])
    assert "| sorted | 2.0000, same for every seed | -0.1500 ± " in text and "± 0.0000" not in text


def test_one_seed_has_no_interval(tmp_path):
    text = page(tmp_path, [runs("random", [2.0]), runs("sorted", [1.9])])
    assert "| sorted | 1.9000 | -0.1000 | – |" in text and "nothing is tested" in text


def test_tokens_to_the_baseline_count_everything():
    arms = [
        runs("random", BASE, tuning=Spending(50, 300)),
        runs("campus", [value - 1 for value in BASE], tuning=Spending(70, 400), scoring=Spending(1000, 2000)),
        runs("sorted", [value + 1 for value in BASE]),
    ]
    base, campus, worse = rows_of(arms, "random")
    reached = [100 + 100 * (4.0 - value) / (4.0 - value + 1) for value in BASE]
    assert campus.to_baseline.tokens == pytest.approx(sum(reached) / 4 + 1070)
    assert campus.to_baseline.flops == pytest.approx(6 * sum(reached) / 4 + 2400)
    assert campus.total == Spending(200 + 1070, 1200 + 2400)
    assert base.to_baseline.tokens == 250 and worse.to_baseline is None


def test_scoring_that_nobody_knows_is_said(tmp_path):
    text = page(tmp_path, [runs("random", BASE), runs("sorted", BASE, scoring=None)])
    assert "not known" in line(text[text.index("What a run took") :], "sorted") and "--scoring-tokens" in text


@pytest.mark.parametrize(("rate", "edge"), [(1e-4, "lowest"), (1e-3, None), (1e-2, "highest")])
def test_the_best_rate_at_an_edge_is_said(tmp_path, rate, edge):
    tried = {1e-4: 2.0, 1e-3: 2.1, 1e-2: 2.2}
    arms = [runs("random", BASE, tried={**tried, 1e-3: 1.0}), runs("sorted", BASE, rate=rate, tried=tried)]
    row, text = rows_of(arms, "random")[1], page(tmp_path, arms, learning_rates=(1e-4, 1e-3, 1e-2))
    assert row.edge == edge and (f"sorted ({edge})" in text) is (edge is not None)
    assert line(text[text.index("Learning rates, by") :], "random") == "| random | 2.0000 | **1.0000** | 2.2000 |"


def test_a_rate_that_diverged_is_out(tmp_path):
    arms = [runs("random", BASE, tried={1e-4: 2.0, 1e-3: 1.9, 1e-2: math.inf})]
    row, text = rows_of(arms, "random")[0], page(tmp_path, arms, learning_rates=(1e-4, 1e-3, 1e-2))
    assert row.tried == {"0.0001": 2.0, "0.001": 1.9, "0.01": None} and row.edge is None
    assert "| random | 2.0000 | **1.9000** | not finite |" in text


def test_every_set_is_reported(tmp_path):
    def arm(name, shift):
        both = {"code": 1 + shift, "words": 3 + shift}
        of = [
            {name: {"loss": loss + more, "row_loss": loss - more} for name, loss in both.items()} for more in (0.1, 0.2)
        ]
        return Runs(name, 1e-3, [curve([4.0, 2.0 + shift], sets=each) for each in of])

    arms = [arm("random", 0.0), arm("sorted", 0.5)]
    text = page(tmp_path, arms)
    assert "2 held-out sets" in text and "| order | code, a token | words, a token | mean, a row |" in text
    assert "| order | code, a row | words, a row | mean, a token |" in page(tmp_path, arms, average="row")
    row = rows_of(arms, "random")[1]
    assert row.sets["code"]["loss"].difference.mean == pytest.approx(0.5)
    assert row.sets["words"]["loss"].value.mean == pytest.approx(3.65)
    assert row.sets["words"]["row_loss"].value.mean == pytest.approx(3.35)


def test_the_result_of_each_seed_is_there(tmp_path):
    text = page(tmp_path, [runs("random", BASE), runs("sorted", [1.0, 1.1, 1.2, 1.3], steps=21)])
    assert "| sorted | 1.0000 (21) | 1.1000 (21) | 1.2000 (21) | 1.3000 (21) |" in text


def test_the_picture_averages_curves_of_different_length():
    arms = [Runs("random", 1e-3, [curve([4.0, 2.0], tokens=[0, 100]), curve([4.0, 3.0, 1.0], tokens=[0, 50, 140])])]
    left, right = picture(arms, rows_of(arms, "random")).axes
    mean = next(line for line in left.lines if line.get_label().startswith("random"))
    assert mean.get_xdata().tolist() == [0, 50, 120] and mean.get_ydata().tolist() == [4.0, 3.0, 1.5]
    assert not right.get_yticklabels()


def test_the_picture_has_a_dot_for_each_seed():
    arms = [runs("random", BASE), runs("sorted", [1.9, 2.0, 2.2, 2.2]), runs("campus", BASE, steps=80)]
    right = picture(arms, rows_of(arms, "random")).axes[1]
    assert [label.get_text() for label in right.get_yticklabels()] == ["sorted", "campus"]
    dots = [each.get_xdata().round(6).tolist() for each in right.lines if len(each.get_xdata()) == 4]
    assert dots == [[-0.1, -0.2, 0.1, -0.1]]
    assert "80 steps against 20" in right.texts[0].get_text()


def test_crossings():
    assert _until([10, 20], [3.0, 1.0], 2.0) == 15
    assert _until([10, 20], [3.0, 1.0], 3.5) == 10
    assert _until([10, 20], [3.0, 1.0], 0.5) is None
