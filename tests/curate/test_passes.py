"""Passes: their order, what they share, what they say of themselves, and what a job makes of them."""

import pickle
import subprocess
import sys
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import torch
from asking import nothing, run_passes, with_answers
from curricle.curate.batch import Batch
from curricle.curate.embedding.settings import EmbeddingSettings
from curricle.curate.metric import Metric, measure, passes_of
from curricle.curate.metrics import REGISTRY, load, references, select
from curricle.curate.passes import (
    CHECKPOINT_LOSSES,
    EMBEDDING,
    GENERATION,
    LOSS,
    RENDERING,
    UNCONDITIONAL_LOSS,
    HiddenStatePass,
    LikelihoodPass,
    Models,
    Pass,
    RenderPass,
    ask,
    fill,
    identity_of,
    in_order,
    merged,
)
from curricle.curate.passes.models import ROLES
from curricle.curate.progress import NoProgress
from curricle.curate.proxy import backend as backends
from curricle.curate.proxy.rendering import Renderer
from curricle.curate.proxy.settings import GenerationSettings, ProxySettings
from curricle.curate.proxy.weights import Weights, resolve
from curricle.schemas.columns import ScoreColumn
from curricle.schemas.common.errors import UsageError, UserError
from hypothesis import given
from hypothesis import strategies as st
from proxy_examples import SHORT, SINGLE, table, turns

OURS = (RENDERING, LOSS, UNCONDITIONAL_LOSS, CHECKPOINT_LOSSES, GENERATION, EMBEDDING)


@dataclass(frozen=True)
class Plain(Pass[list[int]]):
    """Answers with numbers and asks no model."""

    def ask(self, batch: Batch, model: Any, on_progress: Any) -> list[int]:
        on_progress(len(batch))
        return list(range(len(batch)))


@pytest.fixture(scope="module")
def weights(tiny_model):
    return Weights(tiny_model, {})


@pytest.fixture
def backend(weights):
    return backends.load(ProxySettings(), weights)


@pytest.fixture(scope="module")
def batch(weights):
    return run_passes(Batch(table(SHORT)), Renderer(weights, ProxySettings()), RENDERING)


# Order


@st.composite
def some_passes(draw):
    result: list[Plain] = []
    for index in range(draw(st.integers(1, 7))):
        model = draw(st.sampled_from(ROLES))
        before = [each for each in result if ROLES.index(each.model) <= ROLES.index(model)]
        required = draw(st.lists(st.sampled_from(before), unique=True, max_size=3)) if before else []
        result.append(Plain(f"p{index}", model, tuple(required)))
    return draw(st.permutations(result))


@given(some_passes(), st.randoms())
def test_a_pass_comes_after_what_it_requires_and_the_order_is_one(passes, draw):
    ordered = in_order(passes)
    assert len(ordered) == len({*ordered}) and {*ordered} == {*passes}
    for index, each in enumerate(ordered):
        assert {*each.requires} <= {*ordered[:index]}
    assert [ROLES.index(each.model) for each in ordered] == sorted(ROLES.index(each.model) for each in ordered)
    assert in_order(draw.sample(passes, len(passes))) == ordered == in_order([*ordered, *passes])


def test_what_is_required_comes_along_and_what_can_be_shared_stands_together():
    assert in_order([CHECKPOINT_LOSSES]) == [RENDERING, LOSS, CHECKPOINT_LOSSES]
    second = LikelihoodPass("second", requires=(RenderPass("other"),))
    names = [each.name for each in in_order([EMBEDDING, GENERATION, UNCONDITIONAL_LOSS, second, LOSS])]
    assert names == ["other", "rendering", "generation", "loss", "second", "unconditional_loss", "embedding"]


def test_passes_are_values():
    assert pickle.loads(pickle.dumps(OURS)) == OURS and len({*OURS, *pickle.loads(pickle.dumps(OURS))}) == len(OURS)
    assert LikelihoodPass("loss") == LOSS != LikelihoodPass("loss", requires=(RenderPass("other"),))


def test_two_passes_of_one_name_are_refused():
    with pytest.raises(UsageError, match="two passes have the name 'loss'"):
        in_order([LOSS, Plain("loss", "encoder")])


def test_no_pass_reads_what_a_later_model_answers():
    with pytest.raises(ValueError, match="the pass p asks the proxy, before embedding the encoder"):
        Plain("p", "proxy", (EMBEDDING,))


# Answers


def test_losses_share_a_forward_pass(batch, backend, monkeypatch):
    calls, score = [], backend.score
    monkeypatch.setattr(
        backend, "score", lambda requests, progress: calls.append(len(requests)) or score(requests, progress)
    )
    both = run_passes(batch, backend, LOSS, UNCONDITIONAL_LOSS)
    assert calls == [2 * len(SHORT)]
    apart = UNCONDITIONAL_LOSS.fill(LOSS.fill(batch, backend, nothing), backend, nothing)
    assert calls[1:] == [len(SHORT)] * 2
    for each in LOSS, UNCONDITIONAL_LOSS:
        assert [row.sum for row in each.of(both)] == pytest.approx([row.sum for row in each.of(apart)], abs=1e-4)


def test_work_is_what_progress_is_told_of(batch, backend):
    done = []
    passes = [LOSS, UNCONDITIONAL_LOSS]
    fill(passes, batch, backend, done.append)
    assert sum(done) == sum(each.work(batch, backend) for each in passes)
    progress = []

    class Progress(NoProgress):
        def add(self, **counts):
            progress.append(counts)

    filled, tokens = ask(passes, batch, backend, Progress())
    assert tokens == sum(done) == sum(counts["tokens"] for counts in progress)
    assert progress[-1]["in_hand"] == len(batch) and {*filled.answers} == {"rendering", "loss", "unconditional_loss"}
    assert ask([Plain("p", "encoder")], batch, None, Progress())[1] == 0  # rows are no tokens
    assert progress[-1] == {"tokens": 0, "in_hand": len(batch)}


def test_a_metric_that_does_not_require_what_it_reads_is_told_so(batch):
    with pytest.raises(LookupError, match="embedding: name the pass in the metric's `requires`"):
        EMBEDDING.of(batch)


def test_what_fails_in_a_pass_of_others_names_it(weights, batch, backend):
    def fails(states, row):
        raise ArithmeticError("no mean")

    with pytest.raises(UserError, match=r"pass mine, .*test_passes.py line \d+: failed: ArithmeticError: no mean"):
        run_passes(batch, backend, HiddenStatePass("mine", pool=fails))
    with pytest.raises(AttributeError):  # one of ours is our own
        run_passes(batch, None, LOSS)


def test_columns_that_a_metric_does_not_declare_are_refused():
    column = ScoreColumn("x", REGISTRY["loss"].columns[1].type, "", "")
    for scores, wrong in (
        ({}, "returned"),
        ({"x": np.array([1])}, "x is a ndarray, not an Arrow array"),
        ({"x": pa.array([1])}, "1 values for 0 rows"),
        ({"x": REGISTRY["mtld"].compute(Batch(table([]))).columns["prompt_mtld"]}, "x is double, not int32"),
    ):
        from curricle.curate.batch import Scores

        metric = Metric("wrong", 1, (column,), lambda batch, scores=scores: Scores(scores))
        with pytest.raises((ValueError, TypeError), match=wrong):
            measure(Batch(table([])), [metric])


@pytest.mark.parametrize("in_packs", [True, False])
@pytest.mark.parametrize("batch_tokens", [1, 100, 4096])
def test_hidden_states_are_those_of_a_row_alone(weights, batch, in_packs, batch_tokens):
    """The mean over all tokens, and the last state of the first response."""
    backend = backends.load(ProxySettings(batch_tokens=batch_tokens), weights)
    assert backend.in_packs
    backend.in_packs = in_packs
    passes = [
        HiddenStatePass("mean", pool=lambda states, row: states.mean(0)),
        HiddenStatePass("last", pool=lambda states, row: states[row.spans[0][1] - 1]),
    ]
    done = []
    filled = run_passes(batch, backend, *passes, on_progress=done.append)
    assert sum(done) >= sum(len(row.ids) for row in RENDERING.of(batch))
    for index, row in enumerate(RENDERING.of(batch)):
        with torch.inference_mode():
            states = backend.model.model(torch.tensor([row.ids])).last_hidden_state[0].numpy()
        assert np.abs(passes[0].of(filled)[index] - states.mean(0)).max() < 1e-5
        assert np.abs(passes[1].of(filled)[index] - states[row.spans[0][1] - 1]).max() < 1e-5


def test_rows_without_states_say_why(weights, backend, monkeypatch):
    mean = HiddenStatePass("mean", pool=lambda states, row: states.mean(0))
    rows = [SINGLE, turns("user: " + "long " * 100, "assistant: A")]
    examples = run_passes(Batch(table(rows)), Renderer(weights, ProxySettings()), RENDERING)
    fine, long = RENDERING.of(examples)
    bare = with_answers(examples, {RENDERING: [fine, type(fine)(note="no part for a tool turn")]})
    assert mean.ask(bare, backend, nothing)[1] == "no part for a tool turn"
    monkeypatch.setattr(backend, "vocabulary", max(fine.ids))
    assert all("is beyond the model's" in reason for reason in mean.ask(examples, backend, nothing))
    monkeypatch.undo()
    monkeypatch.setattr(backend, "in_packs", False)
    forward = backend.model.model.forward

    def cramped(input_ids, **options):
        if input_ids.numel() >= len(long.ids):
            raise torch.OutOfMemoryError
        return forward(input_ids=input_ids, **options)

    monkeypatch.setattr(backend.model.model, "forward", cramped)
    result = mean.ask(examples, backend, nothing)
    assert np.isfinite(result[0]).all() and result[1] == f"out of memory for {len(long.ids)} tokens"


# What a table says of itself


def test_the_identity_of_passes_is_what_it_was(tiny_model):
    """By hand, as the first contract has it: a table of today has the fingerprint that it had."""
    name = str(tiny_model)
    models = Models(ProxySettings(model=name, generation=GenerationSettings(7, 0.5, 3)))
    rendering = {"rendering": models.renderer().identity()}
    proxy = {"weights": resolve(name).identity, "dtype": "float32", "backend": "transformers"}
    generation = {"generation": {"max_new_tokens": 7, "temperature": 0.5, "seed": 3}}
    assert identity_of([RENDERING], models) == rendering
    assert identity_of([LOSS], models) == identity_of([UNCONDITIONAL_LOSS], models) == {**rendering, "proxy": proxy}
    assert identity_of([GENERATION], models) == {**rendering, "proxy": proxy, **generation}
    several = Models(ProxySettings(checkpoints=(name, name)))
    later = {**proxy, "checkpoints": [resolve(name).identity]}
    assert identity_of([CHECKPOINT_LOSSES], several) == {**rendering, "proxy": later}
    assert several.proxy.model == name


def test_what_a_column_rests_on_names_its_own_passes_only(tiny_model):
    models = Models(ProxySettings(model=str(tiny_model)))
    metrics = {metric.name: metric for metric in select(["length", "mtld", "ifd", "generated"], models)}
    keys = {name: {*metric.rests_on(models)} for name, metric in metrics.items()}
    assert keys == {
        "length": {"rendering"},
        "mtld": set(),
        "loss": {"rendering", "proxy"},
        "ifd": {"rendering", "proxy"},
        "generated": {"rendering", "proxy", "generation"},
    }
    rendering = {"template": "chat", "end_of_turn": "yes"}
    assert metrics["loss"].identity(models) == {"version": 2, "params": {"rendering": rendering}}
    assert [column.params for column in metrics["loss"].signed_columns(models)] == [{"rendering": rendering}] * 3
    assert "rendering" not in metrics["mtld"].identity(models)["params"]


def test_two_things_under_one_name_are_refused():
    assert merged([{"a": {"b": 1}}, {"a": {"c": 2}}, {"a": {"b": 1}}]) == {"a": {"b": 1, "c": 2}}
    for one, other in (({"a": {"b": 1}}, {"a": {"b": 2}}), ({"a": 1}, {"a": {"b": 2}}), ({"a": {"b": 2}}, {"a": 1})):
        with pytest.raises(UsageError, match="say different things of a"):
            merged([one, other])


# Metrics on their way to workers


def test_metrics_travel_as_what_they_are_called(monkeypatch):
    models = Models(ProxySettings(checkpoints=("P0", "P1")))
    metrics = select(["ifd", "lp", "mattr"], models, {"lp": {"compat": None}})
    progress = pickle.dumps(references(metrics))
    assert b"compute" not in progress
    here = load(pickle.loads(progress))
    assert [metric.name for metric in here] == ["loss", "ifd", "mattr", "lp"]
    assert [metric.identity(models) for metric in here] == [metric.identity(models) for metric in metrics]
    assert passes_of(here) == passes_of(metrics) == [RENDERING, LOSS, UNCONDITIONAL_LOSS, CHECKPOINT_LOSSES]
    older = Metric("ifd", 1, REGISTRY["ifd"].columns, REGISTRY["ifd"].compute)
    monkeypatch.setitem(REGISTRY, "ifd", older)
    with pytest.raises(UserError, match="ifd: a worker would compute another metric than the driver signs"):
        load(pickle.loads(progress))


def test_a_metric_itself_stands_for_itself_but_not_for_one_of_ours():
    column = ScoreColumn("ones", REGISTRY["loss"].columns[1].type, "", "")
    mine = Metric("mine", 1, (column,), len)
    assert select(["mtld", mine, mine], Models()) == [REGISTRY["mtld"], mine]
    assert load(references([mine])) == (mine,)
    with pytest.raises(UsageError, match="two metrics write the column 'ones'"):
        select([mine, Metric("other", 1, (column,), len)], Models())
    with pytest.raises(UsageError, match="two metrics are named 'mine'"):
        select([mine, Metric("mine", 2, (column,), len)], Models())
    with pytest.raises(UsageError, match="loss is a metric of ours"):
        select([Metric("loss", 1, (column,), len)], Models())


def test_weights_are_looked_for_when_they_are_asked_for(tiny_model):
    models = Models(ProxySettings(model="neither a directory nor a hub id"))
    assert [metric.rests_on(models) for metric in select(["mtld"], models)] == [{}]
    with pytest.raises(UsageError, match="is no directory and no hub id"):
        models.identity("proxy")
    result = Models(ProxySettings(model=str(tiny_model)))
    assert result.weights("proxy") == result.weights("renderer") == resolve(str(tiny_model))
    assert pickle.loads(pickle.dumps(result)).weights("proxy") == result.weights("proxy")
    of_proxy = EmbeddingSettings(model="proxy")
    both = Models(ProxySettings(checkpoints=(str(tiny_model), str(tiny_model))), of_proxy)
    assert both.weights("encoder") == result.weights("proxy")  # the first checkpoint, not the default proxy


def test_naming_passes_and_metrics_imports_no_engine():
    heavy = "torch", "transformers", "vllm", "apache_beam"
    code = f"import sys, curricle.curate.metrics; print([name for name in {heavy} if name in sys.modules])"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "[]\n"
