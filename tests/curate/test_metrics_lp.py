"""Learning percentage: against the published columns, where there is none, and as its authors' code."""

import math

import polars as pl
import pytest
from curricle.curate.batch import LogLikelihood
from curricle.curate.metrics import load as load_metrics
from curricle.curate.metrics import references, select
from curricle.curate.metrics.lp import EPSILON, approximate_percentage, learning_percentage, metric
from curricle.curate.passes import CHECKPOINT_LOSSES, RENDERING
from curricle.curate.passes.models import Models
from curricle.curate.proxy.settings import ProxySettings
from curricle.schemas.chat.rendering import Rendered
from curricle.schemas.common.errors import UsageError
from hypothesis import given
from hypothesis import strategies as st
from test_metrics_scores import batch_of, values

READ = Rendered(spans=((1, 2),), truncated=False, prompt_tokens=1, response_tokens=1)
UNREAD = Rendered(truncated=True, prompt_tokens=9, response_tokens=1)


def scored(checkpoints: list[list[LogLikelihood]], rendered: Rendered = READ, **options):
    rows = len(checkpoints[0])
    batch = batch_of(*[("", "")] * rows, answers={RENDERING: [rendered] * rows, CHECKPOINT_LOSSES: checkpoints})
    return metric(len(checkpoints), **options).compute(batch)


def losses(*of_one_row: float) -> list[list[LogLikelihood]]:
    """The losses of one row at each checkpoint."""
    return [[LogLikelihood(-loss, 1)] for loss in of_one_row]


def test_the_published_percentages_come_from_the_published_perplexities(shared_data):
    """Three models, 1,472 rows of Alpaca each (dheeraj7596/Small2Large)."""
    published = pl.read_parquet(shared_data / "oracles" / "alpaca_published_perplexities.parquet")
    for model in ("opt-350m", "opt-1.3b", "opt-2.7b"):
        rows = published.select(
            *(f"{model}__P{epoch}" for epoch in range(4)), f"{model}__LP1", f"{model}__LP1_approx"
        ).rows()
        assert len(rows) == 1472
        for *perplexities, lp_1, lp_app in rows:
            assert learning_percentage(perplexities) == pytest.approx(lp_1, abs=1e-9)
            assert approximate_percentage(perplexities) == pytest.approx(lp_app, abs=1e-9)


def test_of_all_of_alpaca_one_row_has_no_percentage(shared_data):
    """Its response was cut away whole: the authors give it 0, the hardest value."""
    rows = pl.read_parquet(shared_data / "oracles" / "alpaca_opt350m_by_index.parquet").rows()
    without = [index for index, *perplexities in rows if isinstance(learning_percentage(perplexities), str)]
    assert without == [18304] == [index for index, *p in rows if isinstance(approximate_percentage(p), str)]
    unread = [1.0] * 4
    assert learning_percentage(unread, "small2large") == 0 == approximate_percentage(unread, "small2large")
    some_learned_backwards = [p for _, *p in rows if p[3] > p[0]]
    assert some_learned_backwards and all(isinstance(learning_percentage(p), float) for p in some_learned_backwards)


def test_columns_of_a_row():
    by = values(scored(losses(3.0, 2.0, 1.5)))
    before, after, last = (math.exp(loss) for loss in (3, 2, 1.5))
    assert by == {
        "ppl_epoch_0": [before],
        "ppl_epoch_1": [after],
        "ppl_epoch_2": [last],
        "lp_1": [(before - after) / (before - last)],
        "lp_app": [(before - after) / before],
        "learnability": [0.5],
    }


def test_the_first_of_one_epoch_has_no_share():
    assert [column.name for column in metric(2).columns] == ["ppl_epoch_0", "ppl_epoch_1", "lp_app", "learnability"]
    assert values(scored(losses(2.0, 1.0))).keys() == {"ppl_epoch_0", "ppl_epoch_1", "lp_app", "learnability"}


def test_the_hard_end_of_every_column():
    hard = {column.name: column.hard for column in metric(3).signed_columns(Models())}
    assert hard == {
        **dict.fromkeys(("ppl_epoch_0", "ppl_epoch_1", "ppl_epoch_2"), "high"),
        **dict.fromkeys(("lp_1", "lp_app", "learnability"), "low"),
    }


@pytest.mark.parametrize(
    ("row", "without"),
    [
        ((0.0, 0.0, 0.0), {"lp_1", "lp_app", "learnability"}),
        ((2.0, 1.0, 2.0 - EPSILON / 10), {"lp_1"}),
        ((2.0, 1.0, 2.1), set()),
        ((301.0, 1.0, 1.0), {"ppl_epoch_0", "lp_1", "lp_app", "learnability"}),
    ],
)
def test_null_with_a_note_where_nothing_can_be_said(row, without):
    result = scored(losses(*row))
    assert {name for name, (value,) in values(result).items() if value is None} == without
    assert {note.partition(":")[0] for note in result.notes.get(0, [])} == without


def test_no_response_token_is_null_and_in_the_authors_code_0():
    nothing = [[LogLikelihood(note="no response token is left")]] * 3
    result = scored(nothing, UNREAD)
    assert all(value == [None] for value in values(result).values()) and len(result.notes[0]) == 6
    theirs = values(scored(nothing, UNREAD, compat="small2large"))
    assert (theirs["lp_1"], theirs["lp_app"]) == ([0.0], [0.0])
    assert theirs["ppl_epoch_0"] == theirs["learnability"] == [None]
    unscored = values(scored(nothing, READ, compat="small2large"))  # out of memory is not "nothing to read"
    assert unscored["lp_1"] == [None]
    assert values(scored(losses(0.0, 0.0, 0.0), compat="small2large"))["lp_1"] == [0.0]


likelihoods = st.one_of(
    st.builds(LogLikelihood, st.floats(max_value=0) | st.just(math.nan), st.integers(0, 3)),
    st.builds(LogLikelihood, note=st.just("not scored")),
)


@given(st.lists(likelihoods, min_size=2, max_size=4), st.sampled_from([None, "small2large"]))
def test_every_null_has_a_note_and_every_number_is_finite(row, compat):
    result = scored([[likelihood] for likelihood in row], compat=compat)
    for name, (value,) in values(result).items():
        assert (value is None) == any(note.startswith(f"{name}: ") for note in result.notes.get(0, ()))
        assert value is None or math.isfinite(value)


def test_the_metric_is_made_for_its_checkpoints():
    models = Models(ProxySettings(checkpoints=("P0", "P1", "P2")))
    result = select(["mtld", "lp"], models, {"lp": {"compat": None}})
    assert [each.name for each in result] == ["mtld", "loss", "lp"]
    again = load_metrics(references(result))
    assert again[-1].identity(models) == result[-1].identity(models) != metric(4).identity(models)
    with pytest.raises(UsageError, match=r"proxy\.checkpoints"):
        select(["lp"], Models())
    with pytest.raises(UsageError, match="'lp'"):
        select(["lpp"], Models())
