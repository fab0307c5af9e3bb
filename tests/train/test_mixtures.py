"""Mixtures over a table: who gets which share, what becomes of a domain that runs out, and what is refused in words."""

import json
from collections import Counter
from itertools import islice

import drawn
import numpy as np
import pytest
from curricle import train
from curricle.schemas.common.errors import UsageError
from curricle.train.curricula import build
from curricle.train.curricula.base import Outcome, Probe, ProbeResult, Stage
from curricle.train.curricula.course import Course
from curricle.train.data.holdout import hold_out
from curricle.train.ordering.journal import Header, Journal, open_journal, read_journal
from curricle.train.ordering.order import described, header_of, remarks
from curricle.train.ordering.replay import follow, recorded_course
from curricle.train.settings import BudgetSettings
from train_tables import make_table, stages_of

SIZES = {"chat": 120, "code": 60, "math": 20}
ROWS = sum(SIZES.values())
TOPICS = np.repeat(list(SIZES), list(SIZES.values()))
BATCH = 16


@pytest.fixture(scope="module")
def table(tmp_path_factory):
    random = np.random.default_rng(0)
    order = random.permutation(ROWS)
    return make_table(
        tmp_path_factory.mktemp("mixtures"),
        {
            "loss": random.random(ROWS) * 4,
            "length": random.integers(1, 9, ROWS),
            "response_tokens": random.integers(1, 50, ROWS),
            "topic": TOPICS[order].tolist(),
            "one": ["all"] * ROWS,
            "sometimes": [None if topic == "math" else 1.5 for topic in TOPICS[order]],
        },
    )


@pytest.fixture(scope="module")
def topics(table):
    codes, names = table.category("topic")
    return np.array(names)[codes]


def student(probe: Probe) -> ProbeResult:
    return ProbeResult(
        tuple((each.rows % 7 + 1) * 2.0 for each in probe.candidates),
        tuple(np.full(len(each.rows), 2) for each in probe.candidates),
    )


def outcome(stage: Stage) -> Outcome:
    """A student that learns a row as it is trained on more of anything."""
    tokens = stage.rows % 3
    return Outcome(tokens * (1 + stage.rows % 5) * 0.97**stage.index, tokens, stage.index)


def stages(table, name, count, seed=0, batch=BATCH, path=None, **options):
    """The first stages of a mixture by topic, for a scripted student."""
    options = {"category": "topic", **options}
    head = Header(table.digest, table.fingerprint, name, options, seed, batch, {"samples": 10**6})
    course = Course(build(name, options), table, seed, batch)
    return list(islice(stages_of(course, open_journal(path, head) if path else Journal(head), student, outcome), count))


def rows_of(result):
    return np.concatenate([stage.rows for stage in result])


def largest_deviation(labels, shares):
    """Of any stretch from the start, by how many rows a domain is off its share."""
    owed = np.arange(1, len(labels) + 1)
    return max(abs(np.cumsum(labels == name) - share * owed).max() for name, share in shares.items())


# Fixed shares


@pytest.mark.parametrize(
    ("options", "shares"),
    [
        ({"weights": {"chat": 1, "code": 1, "math": 2}}, {"chat": 0.25, "code": 0.25, "math": 0.5}),
        ({"weights": "math=3,*=1"}, {"math": 0.75}),
        ({"temperature": 1}, {"chat": 0.6, "code": 0.3, "math": 0.1}),
        ({"temperature": 1e9}, dict.fromkeys(SIZES, 1 / 3)),
        ({"weights": "c*=1,math=1", "order": "sorted?by=loss"}, {"math": 0.5}),
    ],
)
def test_shares_hold_over_every_stretch(table, topics, options, shares):
    visits = topics[rows_of(stages(table, "mixture", 3, **options))]
    assert len(visits) == 3 * ROWS
    assert largest_deviation(visits, shares) < 1


def test_with_as_many_rows_as_there_are_a_pass_is_an_epoch(table):
    for stage in stages(table, "mixture", 3):
        assert sorted(stage.rows) == list(range(ROWS))


def test_a_domain_that_runs_out_begins_again_with_another_draw(table, topics):
    rows = rows_of(stages(table, "mixture", 1, weights="math=1,*=1"))
    math = rows[topics[rows] == "math"]
    assert len(math) == ROWS / 2 and set(Counter(math.tolist()).values()) == {5}
    epochs = math.reshape(5, SIZES["math"])
    assert all(len({*epoch}) == SIZES["math"] for epoch in epochs.tolist()) and len({*map(tuple, epochs.tolist())}) == 5


def test_or_leaves_its_part_to_the_others_until_all_are_through(table, topics):
    for stage in stages(table, "mixture", 2, weights="chat=1,code=1,math=1", exhausted="drop"):
        assert sorted(stage.rows) == list(range(ROWS))
        labels = topics[stage.rows]
        assert largest_deviation(labels[:60], dict.fromkeys(SIZES, 1 / 3)) < 1
        assert largest_deviation(labels[60:140], {"chat": 0.5, "code": 0.5}) < 1
        assert {*labels[140:]} == {"chat"}


def test_or_ends_the_training(table, topics):
    rows = rows_of(stages(table, "mixture", 9, weights="chat=1,code=1,math=1", exhausted="stop"))
    assert Counter(topics[rows].tolist()) == {"chat": 20, "code": 20, "math": 20}


def test_a_weight_of_nothing_leaves_rows_out_and_says_so(table, topics):
    options = {"category": "topic", "weights": "chat=1,*=0"}
    head = header_of(table, "mixture", options, 0, BATCH, BudgetSettings())
    assert head.budget["samples"] == SIZES["chat"]
    assert {*topics[rows_of(stages(table, "mixture", 2, **options))]} == {"chat"}
    assert "* has a weight of 0: its rows are left out" in [*remarks(table, head)]


@pytest.mark.parametrize("order", ["sorted?by=loss", "sorted?by=loss&direction=hard_to_easy"])
def test_inside_a_domain_rows_have_their_order(table, topics, order):
    rows = rows_of(stages(table, "mixture", 1, order=order, exhausted="drop"))
    losses = table.numbers("loss")
    for topic in SIZES:
        falls = np.diff(losses[rows[topics[rows] == topic]]) < 0
        assert falls.all() if "hard_to_easy" in order else not falls.any()


@pytest.mark.parametrize(
    "order",
    ["random", "competence", "paced?by=length", "cyclical", "blocked?category=length", "interleaved?category=length"],
)
def test_whatever_never_asks_may_stand_inside(table, topics, order):
    visits = topics[rows_of(stages(table, "mixture", 2, order=order, weights="chat=2,code=1,math=1"))]
    assert largest_deviation(visits, {"chat": 0.5, "code": 0.25, "math": 0.25}) < 1


CAMPUS = {"order": "campus?perspectives=loss,length", "weights": "chat=2,code=1,math=1"}


def test_campus_inside_has_its_rows_in_every_batch_and_chooses_by_its_own(table, topics):
    """8, 4 and 4 rows of a batch: CAMPUS over each topic makes stages of so many, and none of the batches is cut."""
    result = stages(table, "mixture", 30, **CAMPUS)
    for stage in result[:-1]:
        counts = Counter(topics[stage.rows].tolist())
        assert counts == {"chat": 8, "code": 4, "math": 4}
        assert stage.outcome and {f"{topic}: loss" for topic in SIZES} <= {*stage.competence}
    chat = rows_of(result[:15])[topics[rows_of(result[:15])] == "chat"]
    assert sorted(chat) == sorted(np.flatnonzero(topics == "chat"))  # an epoch of its own
    easy = table.numbers("loss")[chat]
    assert easy[:40].mean() < easy[-40:].mean() - 1


@pytest.mark.parametrize("options", [CAMPUS, {"weights": "math=3,*=1"}, {"weights": {"math": 3, "*": 1}}])
def test_a_mixture_goes_on_from_its_journal(table, tmp_path, options):
    """Also where the names are not in the order of the alphabet: a row is in the first pattern that it fits."""
    whole = stages(table, "mixture", 12, path=tmp_path / "whole.jsonl", **options)
    recorded = read_journal(tmp_path / "whole.jsonl")
    assert any(type(record).__name__ == "Decision" for record in recorded.records) == ("order" in options)
    replayed = [*follow(recorded_course(recorded, table), recorded)]
    assert [stage.rows.tolist() for stage in replayed] == [stage.rows.tolist() for stage in whole]


# Stages


def test_stages_come_in_their_order_each_with_its_share_of_those_before(table, topics):
    result = stages(table, "multistage", 3, stages="math,code,chat", replay=0.2, epochs="3,1,1")
    assert [stage.choice for stage in result] == ["math", "code", "chat"]
    labels = [topics[stage.rows] for stage in result]
    assert [Counter(each.tolist()) for each in labels[:2]] == [{"math": 60}, {"code": 60, "math": 15}]
    assert largest_deviation(labels[1], {"code": 0.8, "math": 0.2}) < 1
    last = Counter(labels[2].tolist())
    assert last["chat"] == 120 and last["math"] + last["code"] == 30
    replayed = result[2].rows[labels[2] != "chat"]
    assert len({*replayed.tolist()}) == 30  # of 80 rows before, none twice


@pytest.mark.parametrize(("then", "choices"), [("last", "ABBBB"), ("again", "ABABA"), ("stop", "AB")])
def test_after_the_last_stage(table, then, choices):
    result = stages(table, "multistage", 5, stages="math,c*", then=then)
    assert "".join("A" if stage.choice == "math" else "B" for stage in result) == choices
    if then != "stop":
        assert result[1].rows.tolist() != result[3].rows.tolist()


def test_a_run_of_stages_is_one_pass_where_no_budget_says_otherwise(table):
    options = {"category": "topic", "stages": "code,chat", "replay": 0.25, "epochs": "2"}
    head = header_of(table, "multistage", options, 0, BATCH, BudgetSettings())
    assert head.budget["samples"] == 2 * 60 + 2 * 120 + 80
    assert described(table, head).startswith(
        "multistage over 200 rows: 2 stages by topic: code, 120 rows, chat, 240 rows and 80 of the stages before"
    )
    assert [*remarks(table, head)] == ["20 rows of the table are in no stage, and are not trained on"]
    order = train.order(table, "multistage", batch_size=BATCH, **options)
    assert len(order) == 440 and order.choices == ("code", "chat")


def test_campus_inside_a_stage_with_replay(table, topics):
    """13 rows of a batch of 16 would be 0.8: it is 12, and 3 of those before."""
    result = stages(table, "multistage", 40, stages="code,c*,math", replay=0.2, then="stop", order=CAMPUS["order"])
    second = [stage for stage in result if stage.choice == "c*"]
    assert [len(stage.rows) for stage in second] == [15] * 10
    assert all(Counter(topics[stage.rows].tolist()) == {"chat": 12, "code": 3} for stage in second)
    assert sum(len(stage.rows) for stage in result) == 60 + 150 + 25


# Weights that follow the student

ADAPTIVE = {
    "odm": {"every": 2},
    "doremi": {},
    "skill_it": {"every": 2, "graph": "chat->code,math->code=0.2"},
}


@pytest.mark.parametrize("name", ADAPTIVE)
def test_weights_follow_the_losses_and_rows_follow_the_weights(table, topics, name):
    result = stages(table, name, 20, **ADAPTIVE[name])
    weights = [tuple(stage.weights.values()) for stage in result]
    assert len({*weights}) > 5 and all(sum(each) == pytest.approx(1) for each in weights)
    assert all({*stage.weights} == {*SIZES} and stage.outcome for stage in result)
    owed, counts = np.zeros(3), np.zeros(3)
    for stage in result:
        owed += len(stage.rows) * np.array([*stage.weights.values()])
        counts += [np.sum(topics[stage.rows] == topic) for topic in SIZES]
        assert abs(owed - counts).max() < 2.5
    assert {len(stage.rows) for stage in result} == {BATCH * ADAPTIVE[name].get("every", 1)}


@pytest.mark.parametrize("name", ADAPTIVE)
def test_a_journal_cut_anywhere_goes_on_to_the_same_bytes(table, tmp_path, name):
    whole, cut = tmp_path / "whole.jsonl", tmp_path / "cut.jsonl"
    expected = rows_of(stages(table, name, 8, path=whole, **ADAPTIVE[name])).tolist()
    content = whole.read_bytes()
    for length in [*drawn.some(name, range(len(content)), 12), len(content) - 1]:
        cut.write_bytes(content[:length])
        assert rows_of(stages(table, name, 8, path=cut, **ADAPTIVE[name])).tolist() == expected
        assert cut.read_bytes() == content


def test_a_journal_of_other_weights_is_not_gone_on_with(table, tmp_path):
    """The negative control: it is the losses in the journal that the weights follow."""
    from curricle.schemas.common.errors import UserError
    from curricle.schemas.sealed import sealed, unsealed

    path = tmp_path / "journal.jsonl"
    stages(table, "odm", 8, path=path, **ADAPTIVE["odm"])
    lines = path.read_bytes().splitlines()
    index = next(at for at, line in enumerate(lines) if at > 9 and b'"stage"' in line)
    changed = unsealed(lines[index])
    changed["stage"]["weights"]["chat"] += 1e-6
    lines[index] = sealed(json.dumps(changed, sort_keys=True, separators=(",", ":"))).encode()
    path.write_bytes(b"\n".join(lines) + b"\n")
    with pytest.raises(UserError, match="is not what the curriculum derives"):
        stages(table, "odm", 8, path=path, **ADAPTIVE["odm"])


def test_skills_are_evaluated_on_rows_that_are_held_out(table, tmp_path):
    rest, held_out = hold_out(table, 60)
    options = {"category": "topic", "losses": "held_out", "graph": "estimate", "every": 1, "probe_rows": 5}
    head = Header(rest.digest, rest.fingerprint, "skill_it", options, 0, BATCH, {"samples": 999})
    course = Course(build("skill_it", options), rest, 0, BATCH)
    labels = np.array(rest.category("topic")[1])[rest.category("topic")[0]]
    theirs = np.array(held_out.category("topic")[1])[held_out.category("topic")[0]]
    probes = []

    def evaluate(probe):
        """Each skill alone lowers its own loss, and chat that of code too: to 3/4 and to 9/10."""
        probes.append(probe)
        for candidate in probe.candidates:
            assert candidate.held_out and {*theirs[candidate.rows]} == {candidate.name} and len(candidate.rows) <= 5
        chat, code, math = [np.sum(trained == topic) > 0 for topic in SIZES]
        scale = np.array([0.75 if chat else 1, (0.9 if chat else 1) * (0.75 if code else 1), 0.75 if math else 1])
        loss = 2.0 * scale
        return ProbeResult(
            tuple(np.full(len(each.rows), value) for each, value in zip(probe.candidates, loss, strict=True)),
            tuple(np.ones(len(each.rows), np.int64) for each in probe.candidates),
        )

    trained = np.array([], "<U4")
    result = []
    for stage in islice(stages_of(course, open_journal(tmp_path / "j", head), evaluate, outcome), 5):
        trained = np.append(trained, labels[stage.rows])
        result.append(stage)
    assert not any(stage.outcome for stage in result), "nobody waits for the losses of the training"
    assert [[*{*labels[stage.rows]}] for stage in result[:3]] == [["chat"], ["code"], ["math"]]
    assert [probe.purpose for probe in probes] == ["skills"] * 5  # before, after each alone, and after the mixture
    first = result[3].weights  # of chat: 1, and 0.4 for code
    assert first["code"] == pytest.approx(first["math"], abs=1e-2) and first["chat"] > first["code"]


def test_skill_it_needs_held_out_rows_of_every_skill(table):
    with pytest.raises(UsageError, match="asks about held-out rows, and none are held out"):
        Course(build("skill_it", {"category": "topic", "losses": "held_out"}), table, 0, BATCH)
    rest, _ = hold_out(table, 2)
    with pytest.raises(UsageError, match=r"no row of code is held out"):
        Course(build("skill_it", {"category": "topic", "losses": "held_out"}), rest, 0, BATCH)


# What is refused, and what is said


@pytest.mark.parametrize(
    ("name", "options", "words"),
    [
        ("mixture", {"category": "topik"}, "there is no column 'topik'"),
        ("mixture", {"category": "one"}, "every row has the same one, 'all': with one domain there is nothing to mix"),
        ("odm", {"category": "one"}, "with one domain there is nothing to mix"),
        ("multistage", {"category": "one"}, "with one domain there is nothing to mix"),
        (
            "mixture",
            {"weights": "hat=1,*=1"},
            r"no row is in domain 'hat' by topic[\s\S]*did you mean '\*hat\*'",
        ),
        (
            "mixture",
            {"weights": "chat=1,prose=1,*=1"},
            r"no row is in domain 'prose' by topic[\s\S]*'chat', 'code', 'math'",
        ),
        ("mixture", {"weights": "chat=1,c*=1"}, "20 rows of the table are in no domain: weights does not name 'math'"),
        ("odm", {"domain": "chat,code"}, "20 rows of the table are in no domain: domain does not name 'math'"),
        ("mixture", {"weights": "chat=0,*=0"}, "every weight is 0"),
        ("mixture", {"weights": "chat=-1,*=1"}, "weights has 'chat=-1'"),
        ("mixture", {"weights": "chat,code=1"}, "weights has 'chat'"),
        ("mixture", {"weights": "chat=many,*=1"}, "weights has 'chat=many'"),
        ("mixture", {"weights": "chat=1,chat=2,*=1"}, "weights has 'chat=2'"),
        ("mixture", {"weights": "chat=inf,*=1"}, "weights has 'chat=inf'"),
        ("mixture", {"order": "shuffled"}, "'shuffled', which is no order inside a domain"),
        ("mixture", {"order": "sorted?by"}, "is not NAME"),
        ("mixture", {"order": "sorted?by=lost"}, "domain 'chat'[\\s\\S]*did you mean 'loss'|did you mean 'loss'"),
        ("mixture", {"order": "sorted?by=sometimes"}, r"domain 'math'.*every value of column 'sometimes' is null"),
        ("mixture", {**CAMPUS, "exhausted": "drop"}, "exhausted=drop with order=campus"),
        ("mixture", {**CAMPUS, "weights": "chat=99,*=1"}, "a batch of 16 has no row of '\\*', whose share is 1.0%"),
        ("odm", {"order": "campus"}, "'campus', which is no order inside a domain here"),
        ("multistage", {"stages": "math,math"}, "stages math, math repeat"),
        ("multistage", {"stages": "math,code", "epochs": "1,2,3"}, "2 stages and 3 epochs"),
        ("multistage", {"epochs": "1,2"}, "3 stages and 2 epochs"),
        ("multistage", {"replay": 1}, "replay is 1"),
        ("doremi", {"reference": "topic"}, "column 'topic' holds string"),
        ("skill_it", {"graph": "chat->prose"}, "graph names 'prose', which is no domain"),
        ("skill_it", {"graph": "chat-code"}, "graph has 'chat-code'"),
        ("skill_it", {"graph": "chat->code=2"}, "graph has 'chat->code=2'"),
        ("skill_it", {"graph": "estimate"}, "graph=estimate with losses=training"),
    ],
)
def test_what_does_not_fit_is_refused_before_the_first_stage(table, name, options, words):
    options = {"category": "topic", **options}
    with pytest.raises(UsageError, match=words):
        Course(build(name, options), table, 0, BATCH)


def test_a_column_with_a_value_for_each_row_is_no_category(tmp_path):
    table = make_table(tmp_path, {"loss": np.arange(1200.0)})
    with pytest.raises(UsageError, match="has 1,200 values: too many for domains"):
        Course(build("mixture", {"category": "loss"}), table, 0, BATCH)


def test_a_row_without_a_value_is_in_a_domain_of_its_own(tmp_path):
    table = make_table(tmp_path, {"loss": np.arange(6.0), "topic": ["a", None, "a", None, "a", "b"]})
    (stage,) = stages(table, "mixture", 1, weights="a=1,b=1,null=2")
    assert {*stage.weights} == {"a", "b", "null"}
    assert "topic: 2 of 6 rows have no value and form a category" in table.notes


@pytest.mark.parametrize(
    ("name", "options", "words"),
    [
        ("mixture", {"weights": "math=1,*=1", "temperature": 2}, "temperature has no use with weights"),
        ("mixture", {"weights": "math=1,*=1"}, "math has 20 rows, each of which is visited 5.0 times in a pass"),
        ("doremi", {"reference": "sometimes"}, "no row of math has a sometimes: its excess stays 0"),
        ("skill_it", {"probe_rows": 3}, "probe_rows has no use with losses=training"),
    ],
)
def test_what_may_not_do_what_one_wants_is_said(table, name, options, words):
    head = header_of(table, name, {"category": "topic", **options}, 0, BATCH, BudgetSettings())
    assert any(words in line for line in remarks(table, head)), [*remarks(table, head)]


@pytest.mark.parametrize(
    ("name", "options", "words"),
    [
        ("mixture", {}, "fixed shares by topic: chat 60.0% (120 rows, 1.00 visits of each), code 30.0%"),
        ("mixture", {"exhausted": "drop"}, "a domain that runs out leaves its part to the others"),
        ("mixture", CAMPUS, "each batch has rows by topic: chat 8, code 4, math 4; inside each, the order campus"),
        (
            "odm",
            {},
            "ODM: after every batch the weights follow the training losses of the domains, the higher the more",
        ),
        ("doremi", {"every": 4}, "DoReMi: after every 4 batches the weights follow by how much the training loss"),
        ("skill_it", {"graph": "chat->code"}, "Skill-it: after every 2 batches the weights follow the training losses"),
    ],
)
def test_the_first_line_says_what_the_mixture_will_do(table, name, options, words):
    head = header_of(table, name, {"category": "topic", **options}, 0, BATCH, BudgetSettings())
    assert words in described(table, head)


def test_a_picture_shows_the_largest_of_many_domains():
    from curricle.train.ordering.journal import StageRecord
    from curricle.train.reporting.page import MOST_DOMAINS, _weights, exposure_of_domains

    names = [f"domain {index:03}" for index in range(200)]
    chart = exposure_of_domains({name: (index + 1, 3) for index, name in enumerate(names)})
    assert (
        "the 18 largest of 200" in chart.words and "domain 199" in chart.picture and "domain 100" not in chart.picture
    )
    stages = [
        StageRecord(at, None, {}, 4, "", {name: (index + at) / 1e5 for index, name in enumerate(names)})
        for at in range(900)
    ]
    lines = _weights(stages, 3600)
    assert [*lines] == names[-MOST_DOMAINS:] and all(len(line.points) <= 400 for line in lines.values())
