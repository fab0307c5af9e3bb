"""Curricula within trainers of others: each of ours, what is asked and refused, labels, and whole checkpoints."""

import json
import math
from pathlib import Path

import drawn
import numpy as np
import pytest
import torch
from curricle import train
from curricle.schemas.common.errors import UsageError
from curricle.train import integrations
from curricle.train.integrations import rows
from transformers import AutoTokenizer

GENERATION = (
    "{% for message in messages %}{{ '<|im_start|>' + message['role'] + '\n' }}"
    "{% if message['role'] == 'assistant' %}{% generation %}{{ message['content'] + '<|im_end|>' }}{% endgeneration %}"
    "{{ '\n' }}{% else %}{{ message['content'] + '<|im_end|>\n' }}{% endif %}{% endfor %}"
)
"""ChatML, with the mark of what the assistant says."""

CURRICULA = {
    "random": {},
    "sorted": {"by": "loss"},
    "competence": {"by": "loss"},
    "paced": {"by": "loss"},
    "cyclical": {"by": "loss"},
    "blocked": {"category": "kind", "by": "loss"},
    "interleaved": {"category": "kind", "by": "loss"},
    "random_stages": {"decisions": 4},
    "campus": {},
    "campus exact": {"probe": "exact"},
    "campus sampled": {"probe": "sampled", "probe_cost": 0.0, "decisions": 8},
    "campus sparse": {"probe": "sparse", "decisions": 8, "resort_epochs": 1.0},
}


@pytest.fixture(scope="module")
def folder(write_signed, tmp_path_factory):
    folder = tmp_path_factory.mktemp("trainers")
    write_signed(folder / "table" / "part.parquet", rows=24)
    return folder


@pytest.fixture
def in_process(fork_process, wait_process, tmp_path):
    """What an action returns in a forked process."""

    def in_process(action):
        def inside() -> int:
            torch.set_num_threads(1)
            (tmp_path / "result").write_text(json.dumps(action()))
            return 0

        ended = wait_process(fork_process(inside, tmp_path / "log"), tmp_path / "log")
        assert ended.code == 0, ended.text
        return json.loads((tmp_path / "result").read_text())

    return in_process


@pytest.fixture
def make(folder, tiny_model, tmp_path):
    from trainer_script import make_trainer

    def make(order: str, output: str = "run", sft: bool = False, static: bool = False, **more):
        options = more.pop("options", CURRICULA.get(order, {}))
        how = {"table": folder / "table", "model": tiny_model, "output": tmp_path / output, **more}
        return make_trainer(sft=sft, order=order.split()[0], static=static, options=options, **how)

    return make


def test_every_curriculum_trains_in_the_order_of_its_journal(in_process, make, folder, tmp_path):
    others = [name for name in CURRICULA if name != "campus"]
    names = ["campus", *drawn.some("curricula in trainers of others", others, 4)]

    def action():
        digests = {}
        for name in names:
            trainer = make(name, name, arguments={"save_strategy": "no", "max_steps": 7})
            trainer.train()
            digests[name] = trainer.order_digest
        return digests

    table, digests = train.open_table(folder / "table"), in_process(action)
    for name, digest in digests.items():
        order = train.order(table, journal=tmp_path / name / "journal.jsonl")
        assert (order.digest, len(order.batches)) == (digest, 7), name
        if not name.startswith("campus"):
            planned = train.order(table, name, seed=42, batch_size=4, budget={"steps": 7}, **CURRICULA[name])
            assert planned.digest == digest
    lines = (tmp_path / "campus" / "journal.jsonl").read_text()
    assert '"outcome"' in lines and '"decision"' in lines


def test_losses_of_the_training_are_those_that_the_model_gives(in_process, make, folder, tiny_model, tmp_path):
    """Of the first step, whose weights are known: in both trainers, padded and not, without dropout."""

    def action():
        losses = {}
        for name, sft, arguments in (
            ("Trainer", False, {}),
            ("SFTTrainer", True, {}),
            ("padding-free", True, {"padding_free": True, "max_length": None}),
        ):
            trainer = make("campus", name, sft, arguments={"save_strategy": "no", "max_steps": 1, **arguments})
            trainer.model.config.attention_dropout = 0.0
            for layer in trainer.model.model.layers:
                layer.self_attn.attention_dropout = 0.0
            trainer.train()
            losses[name] = trainer._follower.losses.read()["nll"].tolist()
        return losses

    losses = in_process(action)
    journal = train.order(train.open_table(folder / "table"), journal=tmp_path / "Trainer" / "journal.jsonl")
    tokenizer = AutoTokenizer.from_pretrained(tiny_model)
    dataset = integrations.as_dataset(train.open_table(folder / "table"), tokenizer, max_length=128)
    from transformers import AutoModelForCausalLM

    model = AutoModelForCausalLM.from_pretrained(tiny_model)
    for row, *got in zip(journal.batches[0], *losses.values(), strict=False):
        labels = torch.tensor([dataset[int(row)]["labels"]])
        loss = model(torch.tensor([dataset[int(row)]["input_ids"]]), labels=labels).loss * (labels[:, 1:] != -100).sum()
        assert got == pytest.approx([float(loss)] * 3, rel=1e-4)


def test_passes_without_padding_train_alike(in_process, make):
    """``padding_free`` puts the documents of a pass into one sequence, in order and apart."""

    def action():
        ends = []
        for name, arguments in (("padded", {}), ("free", {"padding_free": True})):
            trainer = make(
                "sorted", name, True, True, arguments={"save_strategy": "no", **arguments}, budget={"samples": 16}
            )
            trainer.model.config.attention_dropout = 0.0
            for layer in trainer.model.model.layers:
                layer.self_attn.attention_dropout = 0.0
            trainer.train()
            ends.append({name: weight.double().sum().item() for name, weight in trainer.model.named_parameters()})
        return ends

    padded, free = in_process(action)
    assert padded == pytest.approx(free, abs=1e-2) and padded != {}


def test_labels_are_those_of_trl_where_a_template_marks_the_answer(in_process, make, folder, tiny_model, tmp_path):
    """TRL's own preparation of the same messages, with ``assistant_only_loss``."""

    def action():
        from datasets import Dataset
        from transformers import AutoModelForCausalLM
        from trl import SFTConfig, SFTTrainer

        table, tokenizer = train.open_table(folder / "table"), AutoTokenizer.from_pretrained(tiny_model)
        tokenizer.chat_template = GENERATION
        ours = integrations.as_dataset(table, tokenizer, max_length=64)
        messages = [example.messages for example in table.examples(np.arange(len(table)))]
        how = {"assistant_only_loss": True, "max_length": 64, "use_cpu": True, "bf16": False, "report_to": "none"}
        theirs = SFTTrainer(
            AutoModelForCausalLM.from_pretrained(tiny_model),
            SFTConfig(str(tmp_path), **how),
            train_dataset=Dataset.from_list([{"messages": each} for each in messages]),
            processing_class=tokenizer,
        ).train_dataset
        return [[each["input_ids"], each["labels"]] for each in (ours, theirs) for each in each]

    results = in_process(action)
    assert len(results) == 48
    for (ids, labels), (their_ids, their_labels) in zip(results[:24], results[24:], strict=True):
        end = len(ids)  # what stands after the last answer is left out here, and has no label there
        assert (ids, labels) == (their_ids[:end], their_labels[:end]) and {*their_labels[end:]} <= {-100}
        assert -100 in labels and {*labels} != {-100}


def test_a_finished_run_is_extended_and_another_one_refused(in_process, make):
    def action():
        make("campus", arguments={"max_steps": 4}).train()
        longer = make("campus", arguments={"max_steps": 6})
        longer.train(resume_from_checkpoint=True)
        messages = []
        for order, options, static in (("sorted", {"by": "loss"}, False), ("sorted", {"by": "loss"}, True)):
            with pytest.raises(UsageError) as error:
                how = {"arguments": {} if static else {"max_steps": 8}, "budget": {"samples": 40}}
                other = make(order, options=options, static=static, **how)
                other.train(resume_from_checkpoint=integrations.last_checkpoint(other.args.output_dir))
            messages.append(str(error.value))
        return [longer.state.global_step, longer.order_digest, *messages]

    steps, digest, other, static = in_process(action)
    assert steps == 6 and len(digest) == 32
    assert "another order" in other and "curriculum" in other
    assert "are not those that the checkpoint was trained on" in static


def test_a_curriculum_that_ends_ends_the_training(in_process, make, tmp_path):
    def action():
        trainer = make("campus", options={"stop": "coverage"}, arguments={"max_steps": 50})
        trainer.train()
        return trainer.state.global_step

    steps = in_process(action)
    assert 6 <= steps < 10  # 24 rows in batches of 4
    assert integrations.last_checkpoint(tmp_path / "run") == str(tmp_path / "run" / f"checkpoint-{steps}")


def test_rows_without_text_are_visited_and_add_no_loss(in_process, make, folder, tiny_model):
    def action():
        table = train.open_table(folder / "table")
        original = table.examples
        empty = {3, 4, 5, 6}

        def examples(wanted):
            return [
                type(each)([], None, "the conversation is null") if int(row) in empty else each
                for row, each in zip(wanted, original(wanted), strict=True)
            ]

        from curricle.train.data import documents

        table.examples = examples
        documents.stands_for = lambda *args: True
        tokenizer = AutoTokenizer.from_pretrained(tiny_model)
        dataset = integrations.as_dataset(table, tokenizer, max_length=128)
        ends = []
        for output, how in (("plain", {}), ("evaluated", {"eval_strategy": "steps", "eval_steps": 1})):
            trainer = make("campus", output, table=table, eval_dataset=dataset.select([0, 1]), arguments=how)
            trainer.train()
            ends.append([trainer.order_digest, str(sum(it.double().sum() for it in trainer.model.parameters()).item())])
        return [dataset["labels"][3], *ends]

    stub, plain, evaluated = in_process(action)
    assert stub == [-100] and plain[0] == evaluated[0]
    assert all(math.isfinite(float(weights)) for _, weights in (plain, evaluated))


def test_what_is_given_beside_a_table_is_refused(in_process, make, folder):
    def action():
        messages = []
        for more in (
            {"train_dataset": [1]},
            {"model_init": lambda: None},
            {"options": {"colour": 1}},
            {"options": {"perspectives": ("price",)}},
        ):
            with pytest.raises(UsageError) as error:
                make("campus", **more)
            messages.append(str(error.value))
        return messages

    dataset, init, option, column = in_process(action)
    assert "leave it out: the rows are those of table" in dataset and "model_init" in init
    assert "colour" in option and "price" in column


def write_checkpoint(folder: Path, step: int, names: list[str], state: dict | None = None) -> Path:
    checkpoint = folder / f"checkpoint-{step}"
    checkpoint.mkdir()
    for name in names:
        torch.save({}, checkpoint / name)
    if state is not None:
        (checkpoint / "trainer_state.json").write_text(json.dumps(state))
    return checkpoint


def test_the_last_checkpoint_is_one_that_is_whole(tmp_path, caplog):
    assert integrations.last_checkpoint(tmp_path / "nowhere") is None
    files = ["optimizer.pt", "scheduler.pt", "rng_state.pth"]
    two = {"stateful_callbacks": {"curricle": {"processes": 2}}}
    whole = write_checkpoint(tmp_path, 9, files, {})
    write_checkpoint(tmp_path, 10, files)
    write_checkpoint(tmp_path, 12, ["optimizer.pt", "rng_state_0.pth"], two)
    cut = write_checkpoint(tmp_path, 14, files, {})
    (cut / "optimizer.pt").write_bytes((cut / "optimizer.pt").read_bytes()[:-30])
    write_checkpoint(tmp_path, 100, files, {}).rename(tmp_path / "checkpoint-old")
    assert integrations.last_checkpoint(tmp_path) == str(whole)
    lines = " ".join(caplog.messages)
    assert "optimizer.pt is absent or not whole" in lines and "rng_state_1.pth is absent" in lines
    assert "checkpoint-10 is passed over: it has no trainer_state.json" in lines
    later = write_checkpoint(tmp_path, 16, ["optimizer.pt", "rng_state_0.pth", "rng_state_1.pth"], two)
    assert integrations.last_checkpoint(tmp_path) == str(later)


def test_a_missing_package_is_named_with_its_extra(monkeypatch):
    monkeypatch.setattr(rows, "find_spec", lambda name: None)
    with pytest.raises(UsageError, match=r'datasets is not installed\n.*pip install "curricle\[trl\]"'):
        integrations.as_dataset(train.Table.__new__(train.Table), None)


def test_an_order_is_a_dataset_of_visits(folder, tiny_model):
    table, tokenizer = train.open_table(folder / "table"), AutoTokenizer.from_pretrained(tiny_model)
    order = train.order(table, "competence", by="loss", batch_size=4, budget={"samples": 40})
    dataset = integrations.as_dataset(table, tokenizer, order, max_length=32)
    ids = [table.ids[row].tobytes().hex() for row in order.rows]
    assert dataset["example_id"] == ids and len(set(ids)) < len(ids)
    again = integrations.as_dataset(table, tokenizer, max_length=32)
    assert [again[int(row)] for row in order.rows] == [*dataset]
    assert max(map(len, dataset["input_ids"])) == 32


def test_an_audit_needs_tokens():
    import datasets

    with pytest.raises(UsageError, match="and no tokens"):
        integrations.OrderAuditCallback(datasets.Dataset.from_dict({"text": ["a"]}))
