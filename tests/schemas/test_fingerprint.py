"""Identity does not depend on machine, order of keys or how a value came about."""

import pytest
from curricle.schemas.fingerprint import differences, digest, example_id, stands_for


def test_example_id_is_the_published_hash():
    # BLAKE2b-128 of [["user","Hi"],["assistant","你好"]] in UTF-8: any other tool can recompute it.
    assert example_id([("user", "Hi"), ("assistant", "你好")]) == "179063657a298051cac216c71102d59d"


@pytest.mark.parametrize(
    "other",
    [
        [("user", "Hi"), ("assistant", "你好 ")],
        [("assistant", "你好"), ("user", "Hi")],
        [("user", "Hi")],
        [("user", "Hi"), ("user", "你好")],
        [("user", 'Hi", "x'), ("assistant", "你好")],
    ],
)
def test_other_messages_have_another_id(other):
    assert example_id(other) != example_id([("user", "Hi"), ("assistant", "你好")])


def test_key_order_does_not_matter():
    assert digest({"a": 1, "b": [2, None]}) == digest({"b": [2, None], "a": 1})


def test_nan_has_no_identity():
    with pytest.raises(ValueError):
        digest({"a": float("nan")})


def test_differences_name_each_leaf():
    assert differences({"a": {"b": 1, "c": 2}}, {"a": {"b": 1, "c": 3}, "d": 4}) == [
        "a.c: 2 there, 3 now",
        "d: None there, 4 now",
    ]


def test_an_input_is_part_of_an_example_where_a_template_could_write_it():
    whole = [("user", "Translate.\n\nGood day"), ("assistant", "Bonjour")]
    plain, apart = example_id(whole), example_id(whole, '{"input": "Good day"}')
    assert apart != plain and apart == example_id(whole, {"input": "Good day", "lang": "fr"})
    assert apart != example_id([("user", "Translate.\n\nGood"), ("assistant", "Bonjour")], {"input": "Good"})
    # fields of that name that are no part of the question, and columns of other tools
    for extra in None, "", '{"input": "Good"}', '{"input": ""}', '{"input": 1}', "[1]", "{", "[" * 100_000, '{"x": 1}':
        assert example_id(whole, extra) == plain
    assert stands_for(apart, whole, '{"input": "Good day"}') and stands_for(plain, whole, '{"input": "Good day"}')
    assert not stands_for(apart, whole, None)


def test_an_answer_that_is_context_is_part_of_an_example_and_a_flag_of_any_other_turn_is_not():
    turns = [("user", "Hi"), ("assistant", "Hello"), ("user", "Bye"), ("assistant", "Bye")]
    flags = [None, {"train": False}, None, {"train": True}]
    assert example_id(turns, {"message_fields": flags}) != example_id(turns)
    # of a question, of a true one, of a turn that is not there: such tables are older than the meaning of the flag
    for flags in ([{"train": False}, None, {"train": False}, {"train": True}], [None] * 4 + [{"train": False}]):
        assert example_id(turns, {"message_fields": flags}) == example_id(turns)
