"""Answers to held-out prompts while a model learns: what is recorded, and that the training is none the wiser."""

import json
import signal
from pathlib import Path

import numpy as np
import pytest
import torch
from curricle.schemas.common.errors import UsageError
from curricle.train.data.encoding import ConversationTokenizer
from curricle.train.data.holdout import hold_out
from curricle.train.data.table import Example, open_table
from curricle.train.distributed import Processes
from curricle.train.model.answers import HeldOutAnswers
from curricle.train.model.load import load_model, load_tokenizer
from curricle.train.model.student import Student
from curricle.train.reporting.answers import shown_prompts
from curricle.train.settings import DeviceSettings, EvalSettings, RunSettings
from curricle.train.training.progress import Reporter
from kills import at_call, outcome

GENERATIONS = ("--eval.generations", "3", "--eval.generation-tokens", "5")


@pytest.fixture
def dropping(command, tiny_model, tmp_path):
    """Arguments of a run of five steps, of a model with dropout."""
    from small_llama import write_small_llama

    write_small_llama(tmp_path / "model", load_tokenizer(str(tiny_model)), attention_dropout=0.3)
    base = ("--model", str(tmp_path / "model"), "--eval.rows", "8", "--eval.every", "2", "--budget.samples", "40")
    base = (*base, "--optimizer.lr", "3e-2")  # so that answers change within so few steps
    return lambda *more, output: command(*base, *more, output=output)


def evaluations(run: Path) -> list[dict]:
    lines = map(json.loads, (run / "metrics.jsonl").read_text().splitlines())
    return [line for line in lines if line["kind"] == "eval"]


def answers(run: Path) -> list[tuple]:
    return [(line["step"], line["generations"]["answers"]) for line in evaluations(run)]


def test_the_training_is_the_same_with_answers_and_without_also_over_a_kill(
    dropping, train_in_fork, table_file, tmp_path
):
    assert train_in_fork(dropping(output="plain")).code == 0
    done = train_in_fork(dropping(*GENERATIONS, output="whole"))
    assert done.code == 0 and "3 answers to held-out prompts in" in done.text, done.text
    plain, whole = tmp_path / "plain", tmp_path / "whole"
    expected = outcome(plain)
    assert outcome(whole) == expected
    losses = [(line["step"], line["loss"]) for line in evaluations(plain)]
    assert [(line["step"], line["loss"]) for line in evaluations(whole)] == losses
    assert all("generations" not in line for line in evaluations(plain))

    first, *others = (line["generations"] for line in evaluations(whole))
    assert [step for step, _ in answers(whole)] == [2, 4, 5]
    held_out = hold_out(open_table(table_file), 8)[1]
    ids = [row.tobytes().hex() for row in held_out.ids[:3]]
    assert all([it["example_id"] for it in record["answers"]] == ids for record in (first, *others))
    texts = held_out.examples(np.arange(3))
    assert [it["messages"] for it in first["prompts"]] == [each.messages[:-1] for each in texts]
    assert [it["reference"] for it in first["prompts"]] == [each.messages[-1]["content"] for each in texts]
    assert not any("prompts" in record for record in others)
    assert first["set"] == "held_out" and len({json.dumps(record["answers"]) for record in (first, *others)}) > 1

    # twice after the evaluation of another step, the last checkpoint being that of step 3
    for number, steps in ((1, [2, 4]), (1, [2, 4, 5])):
        ended = train_in_fork(
            dropping(*GENERATIONS, output="killed"), lambda at=number: at_call(Reporter, "evaluation", at, after=True)
        )
        assert ended.code == -signal.SIGKILL, ended.text
        assert [step for step, _ in answers(tmp_path / "killed")] == steps
    assert train_in_fork(dropping(*GENERATIONS, output="killed")).code == 0
    assert outcome(tmp_path / "killed") == expected
    assert answers(tmp_path / "killed") == answers(whole)

    def forget_dropout() -> None:
        original = HeldOutAnswers.record

        def record(self):  # type: ignore[no-untyped-def]
            result = original(self)
            self._student.wrapped.eval()
            return result

        HeldOutAnswers.record = record

    assert train_in_fork(dropping(*GENERATIONS, output="forgetful"), forget_dropout).code == 0
    assert outcome(tmp_path / "forgetful")["weights"] != expected["weights"], "the comparison would not see it"


def test_the_last_evaluation_is_made_once_where_a_checkpoint_has_its_step(dropping, train_in_fork, tmp_path):
    """The line of an evaluation has the answers in it: a kill leaves neither without the other."""
    arguments = dropping(*GENERATIONS, "--checkpoint.every", "5", "--eval.every", "0", output="run")
    ended = train_in_fork(arguments, lambda: at_call(Reporter, "evaluation", 0, after=True))
    assert ended.code == -signal.SIGKILL, ended.text
    before = answers(tmp_path / "run")
    assert [step for step, _ in before] == [5]
    done = train_in_fork(arguments)
    assert done.code == 0 and "answers to held-out prompts" not in done.text, done.text
    assert answers(tmp_path / "run") == before


@pytest.fixture
def make_answers(tiny_model, table_file):
    model = load_model(str(tiny_model), "sdpa")
    alone = Processes(0, 1, torch.device("cpu"))
    encoder = ConversationTokenizer(load_tokenizer(str(tiny_model)), "chat", 128)
    student = Student(model, DeviceSettings(), alone)
    examples = open_table(table_file).examples(np.arange(4))

    def make(examples=examples, limit=6, reported=()):
        named = {f"id{row}": example for row, example in enumerate(examples)}
        return HeldOutAnswers(student, encoder, "held_out", named, limit, 256, alone, reported)

    make.student, make.encoder, make.examples = student, encoder, examples
    return make


def test_an_answer_is_what_the_model_says_is_most_likely(make_answers):
    """Token by token, without a cache, by the plain model; random numbers and the mode are as they were."""
    student, encoder = make_answers.student, make_answers.encoder
    before = torch.get_rng_state()
    record = make_answers().record()
    assert torch.equal(torch.get_rng_state(), before) and student.wrapped.training
    assert not any(parameter.grad is not None for parameter in student.model.parameters())
    stops = encoder.stops(student.model.config)
    for example, answer in zip(make_answers.examples, record["answers"], strict=True):
        (rendered,) = encoder.render([example])
        ids, drawn = list(rendered.ids[: rendered.spans[-1][0]]), []
        with student.answering():
            while len(drawn) < 6 and not set(drawn) & set(stops):
                drawn.append(int(student.model(torch.tensor([ids + drawn])).logits[0, -1].argmax()))
        assert answer["text"] == encoder.decode(drawn) and answer["note"] is None
        assert answer["truncated"] is (drawn[-1] not in stops)


def test_a_prompt_without_an_answer_says_why(make_answers):
    question = [{"role": "user", "content": "why?"}]
    record = make_answers([*make_answers.examples[:1], Example(question, None), Example([], None)]).record()
    assert [it["text"] is None for it in record["answers"]] == [False, True, True]
    assert all(it["note"] for it in record["answers"][1:])
    assert record["prompts"][1] == {"example_id": "id1", "messages": question, "reference": None}
    room = make_answers(limit=4095).record()["answers"]
    assert all(it["text"] is None and "cannot read 4095 more" in it["note"] for it in room)


def test_a_model_that_says_no_number_has_no_answer(make_answers):
    head = make_answers.student.model.get_output_embeddings().weight
    answering = make_answers()
    with torch.no_grad():
        head.fill_(float("nan"))
    assert {it["note"] for it in answering.record()["answers"]} == {"the model's logits are not numbers"}


def test_a_prompt_is_written_once(make_answers):
    first = make_answers(make_answers.examples[:2]).record()
    assert [it["example_id"] for it in first["prompts"]] == ["id0", "id1"]
    again = make_answers(reported=[{}, first])
    assert [it["example_id"] for it in again.record()["prompts"]] == ["id2", "id3"]
    assert "prompts" not in again.record()


def test_without_a_held_out_set_there_is_no_prompt(tmp_path):
    values = {"data": tmp_path, "model": "m", "output": tmp_path}
    for how in ({}, {"tuning": {"t": tmp_path}}, {"tuning_rows": 4}):
        with pytest.raises(UsageError, match=r"--eval\.generations 2 has no prompt"):
            RunSettings(**values, eval=EvalSettings(generations=2, **how))
    assert RunSettings(**values, eval=EvalSettings(generations=2, data={"b": tmp_path}))


def lines(steps, number=1):
    drawn = [{"example_id": str(row), "text": "a", "truncated": False, "note": None} for row in range(number)]
    prompts = [{"example_id": str(row), "messages": [], "reference": None} for row in range(number)]
    record = {"set": "held_out", "tokens": 5, "answers": drawn}
    return [
        {"step": step, "generations": {**record, "prompts": prompts} if step == 1 else record}
        for step in range(1, steps + 1)
    ]


@pytest.mark.parametrize(("steps", "folded"), [(1, []), (6, []), (7, [3, 4]), (20, [*range(3, 18)])])
def test_answers_beyond_a_few_are_folded(steps, folded):
    (prompt,) = shown_prompts([{"step": 0}, *lines(steps)])
    parts = [[answer.step for answer in part] for part in (prompt.first, prompt.between, prompt.last)]
    assert parts[1] == folded and [*parts[0], *parts[1], *parts[2]] == [*range(1, steps + 1)]


def test_a_run_of_an_earlier_version_has_no_prompts():
    assert shown_prompts([{"step": 1, "loss": 3.0}]) == []
