"""Length, loss, IFD and the richness measures: their numbers, nulls and notes; and the registry."""

import json
import math
import subprocess
import sys
from collections.abc import Iterator
from itertools import product
from pathlib import Path

import drawn
import pyarrow as pa
import pyarrow.compute as pc
import pytest
from asking import with_answers
from curricle.curate import words
from curricle.curate.batch import Batch, LogLikelihood, Scores
from curricle.curate.metric import Metric
from curricle.curate.metrics import REGISTRY, select
from curricle.curate.passes import LOSS, RENDERING, UNCONDITIONAL_LOSS, Pass
from curricle.curate.passes.models import Models
from curricle.curate.words import count_words, tokens, unicode_words
from curricle.curate.words.kernel import count_ascii_words
from curricle.schemas.chat.rendering import Rendered
from curricle.schemas.columns import ScoreColumn
from curricle.schemas.common.errors import UsageError
from curricle.schemas.inputs import by_response
from curricle.schemas.table import MESSAGES
from hypothesis import given
from hypothesis import strategies as st

NOT_RENDERED = "the template has no part for a tool turn"
NOT_SCORED = "no response token is left after the cut"


def batch_of(*pairs: tuple[str, str], answers: dict[Pass, object] | None = None) -> Batch:
    messages = [[{"role": "user", "content": p}, {"role": "assistant", "content": r}] for p, r in pairs]
    return with_answers(Batch(pa.table({"messages": pa.array(messages, MESSAGES)})), answers or {})


def scored(with_prompt: list[LogLikelihood], alone: list[LogLikelihood]) -> Batch:
    rendered = [Rendered(truncated=False, prompt_tokens=1, response_tokens=1)] * len(with_prompt)
    pairs = [("", "")] * len(with_prompt)
    return batch_of(*pairs, answers={RENDERING: rendered, LOSS: with_prompt, UNCONDITIONAL_LOSS: alone})


def values(scores: Scores) -> dict[str, list[object]]:
    return {name: array.to_pylist() for name, array in scores.columns.items()}


# Words


@pytest.mark.parametrize(
    ("text", "count"),
    [
        ("", 0),
        (" \n ... — 👍🏽 🇨🇭", 0),
        ("Don't stop-it, it's 3.14!", 5),  # Don't | stop | it | it's | 3.14
        ("foo_bar _ __init__", 2),  # an underscore alone is no word
        ("naïve café e\u0301tude", 3),
        ("Привет, мир", 2),
        ("مرحبا بالعالم", 2),
        ("한국어 문장", 2),
        ("我喜欢学习", 3),
        ("猫が好き", 3),
        ("ฉันชอบเรียนภาษาไทย", 5),
        ("½ Ⅷ ²", 3),
    ],
)
def test_words_counted_by_hand(text: str, count: int) -> None:
    assert count_words([text]).tolist() == [count], list(unicode_words(text))


def in_ascii() -> Iterator[str]:
    """Every two characters of ASCII, and everything of one of each kind that UAX #29 tells apart."""
    yield from map("".join, product(map(chr, range(128)), repeat=2))
    for length in range(drawn.amount(5, 6)):
        yield from map("".join, product("aZ0_.,:'\" \r\n", repeat=length))


def test_words_of_ascii_are_those_of_the_breaker() -> None:
    texts = [*in_ascii()]
    counts = count_words(texts).tolist()
    assert [text for text, count in zip(texts, counts, strict=True) if count != len([*unicode_words(text)])] == []


TEXTS = st.lists(st.text(st.one_of(st.characters(codec="ascii"), st.characters(codec="utf-8"))))


def by_both(texts: list[str]) -> tuple[list[int], list[int]]:
    """Words of ASCII by the regular expression, and by the compiled loop."""
    column = pa.array(["before", *texts], pa.large_string())[1:]
    return pc.count_substring_regex(column, words._ASCII_WORD).to_pylist(), count_ascii_words(column).tolist()


def test_a_compiled_loop_counts_what_the_regular_expression_does() -> None:
    by_expression, by_loop = by_both([*in_ascii()])
    assert by_expression == by_loop and sum(by_loop) > 10_000


@given(TEXTS)
def test_a_compiled_loop_counts_them_in_any_text(texts: list[str]) -> None:
    by_expression, by_loop = by_both(texts)
    assert by_expression == by_loop


@given(TEXTS)
def test_words_are_counted_text_by_text(texts: list[str]) -> None:
    assert count_words(texts).tolist() == [len([*unicode_words(text)]) for text in texts]


def test_words_of_alpaca_are_those_of_the_breaker(shared_data: Path) -> None:
    lines = (shared_data / "alpaca" / "alpaca_46k.jsonl").read_text(encoding="utf-8").splitlines()
    texts = [json.loads(line)["output"] for line in drawn.some("words of Alpaca", lines, 5_000)]
    assert count_words(texts).tolist() == [len([*unicode_words(text)]) for text in texts]


def test_texts_of_a_row_are_what_its_turns_say() -> None:
    """Of slices and chunks of a table, too; a turn of the assistant that is context is a part of the prompt."""
    roles = ("system", "user", "assistant", "tool")
    conversations = [
        [{"role": role, "content": content} for role, content in zip(roles[:length], parts, strict=False)]
        for length in range(5)
        for parts in product(("", "a\n", "é"), repeat=length)
    ]
    extra = [json.dumps({"message_fields": [{"train": False}] * len(turns)}) for turns in conversations]
    rows = {"messages": pa.array(conversations, MESSAGES), "extra": pa.array([None, *extra[1:-1], None])}
    table = pa.table(rows)
    for part in (table, table.slice(7, 50), pa.concat_tables([table.slice(100), table.slice(0, 9)]), table.slice(0, 0)):
        batch = Batch(part)
        expected = [
            by_response([(turn["role"], turn["content"]) for turn in row["messages"]], row["extra"])
            for row in part.to_pylist()
        ]
        assert batch.prompts == ["\n".join(text for answers, text in row if not answers) for row in expected]
        assert batch.responses == ["\n".join(text for answers, text in row if answers) for row in expected]
        assert [[content for _, content in turns] for turns in batch.messages] == [[t for _, t in r] for r in expected]


def test_a_turn_without_content_is_refused() -> None:
    batch = Batch(pa.table({"messages": pa.array([[{"role": "user", "content": None}]], MESSAGES)}))
    with pytest.raises(TypeError, match="no content"):
        assert batch.prompts


def test_length_counts_every_assistant_turn_as_the_response() -> None:
    turns = [
        ("system", "Be brief."),
        ("user", "Hi there"),
        ("assistant", "Yes?"),
        ("tool", "4"),
        ("assistant", "It is"),
    ]
    messages = [[{"role": role, "content": content} for role, content in turns]]
    rendered = [Rendered(prompt_tokens=9, response_tokens=5)]
    batch = with_answers(Batch(pa.table({"messages": pa.array(messages, MESSAGES)})), {RENDERING: rendered})
    assert values(REGISTRY["length"].compute(batch)) == {
        "prompt_words": [5],
        "response_words": [3],
        "prompt_tokens": [9],
        "response_tokens": [5],
    }


def test_what_cannot_be_rendered_has_words_but_no_tokens() -> None:
    scores = REGISTRY["length"].compute(batch_of(("a b", "c"), answers={RENDERING: [Rendered(note=NOT_RENDERED)]}))
    assert values(scores) == {
        "prompt_words": [2],
        "response_words": [1],
        "prompt_tokens": [None],
        "response_tokens": [None],
    }
    assert scores.notes == {0: [f"prompt_tokens: {NOT_RENDERED}", f"response_tokens: {NOT_RENDERED}"]}


# Loss and IFD


def test_loss_is_the_mean_over_tokens_and_a_null_where_there_is_none() -> None:
    rendered = [Rendered(truncated=cut) for cut in (False, True, False, False)] + [Rendered(note=NOT_RENDERED)]
    conditional = [
        LogLikelihood(-6.0, 4),
        LogLikelihood(0.0, 2),
        LogLikelihood(0.0, 0),
        LogLikelihood(-math.inf, 3),
        LogLikelihood(note=NOT_SCORED),
    ]
    batch = batch_of(*[("", "")] * 5, answers={RENDERING: rendered, LOSS: conditional})
    scores = REGISTRY["loss"].compute(batch)
    assert values(scores) == {
        "loss": [1.5, 0.0, None, None, None],
        "loss_tokens": [4, 2, 0, 3, None],
        "truncated": [False, True, False, False, None],
    }
    assert math.copysign(1, scores.columns["loss"][1].as_py()) == 1
    assert scores.notes == {
        2: ["loss: no response tokens"],
        3: ["loss: the proxy's loss is inf"],
        4: [f"loss: {NOT_SCORED}", f"loss_tokens: {NOT_SCORED}", f"truncated: {NOT_RENDERED}"],
    }


def test_a_row_keeps_the_reason_of_its_null_beside_what_is_to_be_said_of_its_answers() -> None:
    remark = "1 of 2 answers is not scored"
    rendered = [Rendered(truncated=False, remark=remark)] * 2
    conditional = [LogLikelihood(-math.inf, 3), LogLikelihood(-6, 4)]
    batch = batch_of(("", ""), ("", ""), answers={RENDERING: rendered, LOSS: conditional})
    scores = REGISTRY["loss"].compute(batch)
    assert values(scores)["loss"] == [None, 1.5]
    assert scores.notes == {0: ["loss: the proxy's loss is inf", f"loss: {remark}"], 1: [f"loss: {remark}"]}


def test_the_two_definitions_of_ifd_rank_differently() -> None:
    batch = scored([LogLikelihood(-1.0, 1), LogLikelihood(-8.0, 2)], [LogLikelihood(-2.0, 1), LogLikelihood(-12.0, 2)])
    by = values(REGISTRY["ifd"].compute(batch))
    assert by["loss_unconditional"] == [2.0, 6.0]
    assert by["ifd_loss_ratio"] == [0.5, 4 / 6]  # the second is harder by losses
    assert by["ifd_ppl_ratio"] == [math.exp(-1), math.exp(-2)]  # the first by perplexities


def test_ifd_is_null_where_a_loss_is_missing_zero_or_out_of_range() -> None:
    some, none = LogLikelihood(-2.0, 2), LogLikelihood(note=NOT_SCORED)
    zero, tiny, huge = LogLikelihood(0.0, 2), LogLikelihood(-1e-320, 2), LogLikelihood(-1e5, 2)
    batch = scored([none, some, some, some, huge, some], [some, none, zero, tiny, some, LogLikelihood(-2.0, 3)])
    scores = REGISTRY["ifd"].compute(batch)
    assert values(scores)["ifd_loss_ratio"] == [None, None, None, None, 5e4, None]
    assert values(scores)["ifd_ppl_ratio"] == [None, None, math.e, math.e, None, None]
    assert scores.notes == {
        0: [f"ifd_loss_ratio: {NOT_SCORED}", f"ifd_ppl_ratio: {NOT_SCORED}"],
        1: [
            f"loss_unconditional: {NOT_SCORED}",
            f"ifd_loss_ratio: without the prompt: {NOT_SCORED}",
            f"ifd_ppl_ratio: without the prompt: {NOT_SCORED}",
        ],
        2: ["ifd_loss_ratio: loss_unconditional is 0"],
        3: ["ifd_loss_ratio: loss_unconditional is too near 0"],
        4: ["ifd_ppl_ratio: exp(49999) is outside float64"],
        5: [
            "ifd_loss_ratio: 2 tokens with the prompt, 3 without",
            "ifd_ppl_ratio: 2 tokens with the prompt, 3 without",
        ],
    }


likelihoods = st.one_of(
    st.builds(LogLikelihood, st.floats(max_value=0) | st.just(math.nan), st.integers(0, 3)),
    st.builds(LogLikelihood, note=st.one_of(st.none(), st.just(NOT_SCORED))),
)


@given(st.lists(st.tuples(likelihoods, likelihoods), min_size=1, max_size=5))
def test_every_null_has_a_note_and_no_number_is_a_sentinel(rows: list[tuple[LogLikelihood, LogLikelihood]]) -> None:
    batch = scored([first for first, _ in rows], [second for _, second in rows])
    for metric in (REGISTRY["loss"], REGISTRY["ifd"]):
        scores = metric.compute(batch)
        for column in metric.columns:
            array = scores.columns[column.name]
            assert len(array) == len(rows) and array.type == column.type
            for row, value in enumerate(array.to_pylist()):
                explained = [note for note in scores.notes.get(row, ()) if note.startswith(f"{column.name}: ")]
                assert len(explained) == (value is None)
                assert value is None or math.isfinite(value)


# HD-D, MATTR, MSTTR


def test_richness_is_the_references_and_null_where_it_raises() -> None:
    from lexicalrichness import LexicalRichness

    minimum = {"hdd": 42, "mattr": 100, "msttr": 101}
    default = {"hdd": {"draws": 42}, "mattr": {"window_size": 100}, "msttr": {"segment_window": 100}}
    for name, fewest in minimum.items():
        words = [f"w{'abcdefghijk'[i * i % 11]}{'xyz'[i % 3]}" for i in range(fewest)]
        enough, short = " ".join(words), " ".join(words[1:])
        scores = REGISTRY[name].compute(batch_of((enough, short), (short, enough)))
        lex = LexicalRichness(enough)
        expected = getattr(lex, name)()
        assert expected == getattr(lex, name)(**default[name])  # the parameters that we state are its defaults
        assert values(scores) == {f"prompt_{name}": [expected, None], f"response_{name}": [None, expected]}
        assert scores.notes == {
            0: [f"response_{name}: fewer than {fewest} words"],
            1: [f"prompt_{name}: fewer than {fewest} words"],
        }
        with pytest.raises(ValueError, match=r"size"):
            getattr(LexicalRichness(short), name)()


def test_richness_segments_scripts_without_spaces() -> None:
    text = "我喜欢学习" * 20
    assert len(tokens(text)) == 60
    scores = REGISTRY["hdd"].compute(batch_of((text, text)))
    assert 0 < scores.columns["prompt_hdd"][0].as_py() < 1


# The registry


def test_columns_come_in_the_order_of_the_table() -> None:
    columns = [
        column for metric in select(["ifd", "mtld", "length"], Models()) for column in metric.signed_columns(Models())
    ]
    assert [(column.name, str(column.type)) for column in columns] == [
        ("prompt_words", "int32"),
        ("response_words", "int32"),
        ("prompt_tokens", "int32"),
        ("response_tokens", "int32"),
        ("prompt_mtld", "double"),
        ("response_mtld", "double"),
        ("loss", "double"),
        ("loss_tokens", "int32"),
        ("truncated", "bool"),
        ("loss_unconditional", "double"),
        ("ifd_loss_ratio", "double"),
        ("ifd_ppl_ratio", "double"),
    ]


def test_every_column_is_described_and_survives_its_metadata() -> None:
    metrics = [metric for metric in REGISTRY.values() if isinstance(metric, Metric)]
    names = [column.name for metric in metrics for column in metric.columns]
    assert len(names) == len(set(names))
    for metric in metrics:
        for column in metric.signed_columns(Models()):
            assert (
                column.unit and column.description and (column.metric, column.version) == (metric.name, metric.version)
            )
            assert ScoreColumn.from_field(column.to_field()) == column
            no_order = {"loss_tokens", "truncated", "generated", "generated_tokens", "generated_truncated"}
            assert (column.hard is None) == (column.name in no_order or column.name.startswith("rejected_")), (
                column.name
            )


def test_select_brings_the_loss_with_whatever_runs_the_proxy() -> None:
    assert [metric.name for metric in select(["ifd"], Models())] == ["loss", "ifd"]
    assert [metric.name for metric in select(["mtld", "length", "mtld"], Models())] == ["length", "mtld"]
    assert [metric.name for metric in select(["generated"], Models())] == ["generated"]
    assert select([], Models()) == []


def test_select_names_the_nearest_metric() -> None:
    with pytest.raises(UsageError, match=r"'mltd'.*\n.*'mtld'"):
        select(["length", "mltd"], Models())


def test_naming_the_metrics_imports_nothing_heavy() -> None:
    heavy = "torch", "transformers", "numba", "lexicalrichness", "matplotlib", "pandas", "scipy"
    code = f"import sys, curricle.curate.metrics; print([name for name in {heavy} if name in sys.modules])"
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert out.strip() == "[]"
