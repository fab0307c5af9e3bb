"""Each argument that breaks an order is refused by name, and without that it does break it, which the audit sees.

The trainers are real ones, made in one forked process: accelerate keeps the state of the first in its process.
"""

import json

import pytest

STATIC = {
    "random": (False, {"train_sampling_strategy": "random"}, "train_sampling_strategy='random'"),
    "group by length": (False, {"train_sampling_strategy": "group_by_length"}, "train_sampling_strategy='group_by"),
    "rebalance": (True, {"train_sampling_strategy": "batch_rebalance"}, "train_sampling_strategy='batch_rebalance'"),
    "shuffle": (True, {"shuffle_dataset": True}, "shuffle_dataset=True"),
    "bfd": (True, {"packing": True, "max_length": 256}, "packing=True, packing_strategy='bfd'"),
    "wrapped": (
        True,
        {"packing": True, "packing_strategy": "wrapped", "max_length": 256},
        "packing=True, packing_strategy='wrapped'",
    ),
    "max length": (True, {"max_length": 64}, "max_length=64 cuts rows"),
    "drop last": (False, {"dataloader_drop_last": True}, "dataloader_drop_last=True drops the last 1 visit of 31"),
    "more steps": (False, {"max_steps": 20}, "max_steps=20 begins the order again after its 8 steps"),
    "epochs": (False, {"num_train_epochs": 2}, "num_train_epochs=2 begins the order again"),
    "half an epoch": (False, {"num_train_epochs": 0.5}, "num_train_epochs=0.5 ends within the order"),
    "dispatch": (False, {"accelerator_config": {"dispatch_batches": True}}, "dispatch_batches=True"),
    "split": (False, {"accelerator_config": {"split_batches": True}}, "split_batches=True"),
    "workers": (False, {"dataloader_in_order": False, "dataloader_num_workers": 2}, "dataloader_in_order=False"),
    "data skip": (False, {"ignore_data_skip": True}, "ignore_data_skip=True"),
    "batch size": (False, {"auto_find_batch_size": True}, "auto_find_batch_size=True"),
    "compile": (False, {"torch_compile": True}, "torch_compile=True"),
}
"""What is set, in which trainer, and how the refusal begins. The order has 31 visits."""
AUDITED = ("random", "group by length", "rebalance", "shuffle", "bfd", "wrapped", "more steps", "epochs", "max length")
"""Those that are stopped by what goes through the model as well, on one process."""
ADAPTIVE = {
    "group by length": "train_sampling_strategy='group_by_length'",
    "shuffle": "shuffle_dataset=True",
    "bfd": "packing=True, packing_strategy='bfd'",
    "drop last": "dataloader_drop_last=True",
    "dispatch": "dispatch_batches=True",
    "split": "split_batches=True",
    "data skip": "ignore_data_skip=True",
    "batch size": "auto_find_batch_size=True",
}


def outcome(action) -> str:
    """What an action is refused with; nothing where it comes to its end."""
    from curricle.schemas.common.errors import UserError

    try:
        action()
    except UserError as error:
        return str(error)
    except RuntimeError as error:
        if "gloo" not in str(error):
            raise
        return "another process is gone"
    return ""


@pytest.fixture(scope="module")
def folder(write_signed, tmp_path_factory):
    folder = tmp_path_factory.mktemp("arguments")
    write_signed(folder / "table" / "part.parquet")
    return folder


@pytest.fixture(scope="module")
def in_process(fork_processes, wait_process, folder):
    """Run an action in so many processes, and give back what each returns."""

    def in_process(action, processes: int = 1):
        def inside(rank: int) -> int:
            (folder / f"result.{rank}").write_text(json.dumps(action()))
            return 0

        logs = [folder / f"log.{rank}" for rank in range(processes)]
        pids = fork_processes(inside, logs)
        for ended in [wait_process(pid, log) for pid, log in zip(pids, logs, strict=True)]:
            assert ended.code == 0, ended.text
        return [json.loads((folder / f"result.{rank}").read_text()) for rank in range(processes)]

    return in_process


@pytest.fixture(scope="module")
def make(folder, tiny_model):
    import torch
    from trainer_script import make_trainer

    def make(sft: bool, arguments: dict, static: bool = True, visits: int = 31, **more):
        torch.set_num_threads(1)
        order = {"order": "competence", "options": {"by": "loss"}} if static else {"order": "campus"}
        how = {"budget": {"samples": visits}} if static else {}
        arguments = {"save_strategy": "no", **arguments}
        return make_trainer(
            folder / "table",
            tiny_model,
            folder / "run",
            sft,
            **order,
            static=static,
            arguments=arguments,
            **how,
            **more,
        )

    return make


@pytest.fixture(scope="module")
def refusals(in_process, make):
    """What each argument is refused with, by name, and without that by the audit."""

    def action():
        from curricle.train.integrations import callback

        def each(names, static: bool):
            """Of trainers with these arguments; such as are not refused train."""
            return {name: outcome(lambda name=name: make(*STATIC[name][:2], static).train()) for name in names}

        result = {"named": each(STATIC, True), "adaptive": each(ADAPTIVE, False)}
        callback.check_static = lambda *args: None
        callback.OrderAuditCallback._check_dataset = lambda *args: None
        return {**result, "audited": each(AUDITED, True)}

    return in_process(action)[0]


@pytest.mark.parametrize("name", STATIC)
def test_an_argument_that_breaks_the_order_is_refused_by_name(refusals, name):
    message = refusals["named"][name]
    assert (STATIC[name][2] in message and "What to do: " in message and "set " in message) or "leave " in message


@pytest.mark.parametrize("name", AUDITED)
def test_what_it_does_is_seen_by_what_goes_through_the_model(refusals, name):
    """The negative control: the argument does break the order."""
    assert " came into the model" in refusals["audited"][name]


@pytest.mark.parametrize("name", ADAPTIVE)
def test_beside_a_curriculum_it_is_refused_as_well(refusals, name):
    assert ADAPTIVE[name] in refusals["adaptive"][name]


def test_a_rest_is_topped_up_or_waited_for_by_two_processes(in_process, make):
    """Of 30 visits in passes of 2 rows, two processes have a rest of 2: accelerate takes the first rows again."""

    def action():
        from curricle.train.integrations import callback

        def train(even: bool):
            config = {"even_batches": even}
            make(False, {"accelerator_config": config, "gradient_accumulation_steps": 1}, visits=30).train()

        named = [outcome(lambda: train(True)), outcome(lambda: train(False))]
        callback.check_static = lambda *args: None
        return [*named, outcome(lambda: train(True))]

    results = in_process(action, 2)
    for topped, waiting, _ in results:
        assert "even_batches=True tops the last batch up with the first rows" in topped
        assert "even_batches=False leaves processes without a batch" in waiting and "'samples': 28" in waiting
    assert any(" came into the model" in audited for *_, audited in results)


def test_a_rest_is_no_matter_for_one_process(in_process, make):
    def action():
        short = make(True, {"max_steps": 2})
        return [outcome(make(True, {}).train), outcome(make(False, {}).train), outcome(short.train)]

    assert in_process(action) == [["", "", ""]]


def test_a_step_without_a_label_is_refused(in_process, make, tiny_model, folder):
    def action():
        from curricle.train.integrations import OrderAuditCallback

        trainer = make(False, {})
        (audit,) = [it for it in trainer.callback_handler.callbacks if isinstance(it, OrderAuditCallback)]
        audit._labelled[4:8] = 0
        return outcome(trainer.train)

    (message,) = in_process(action)
    assert "step 1 has 4 rows and no token to learn from" in message


def test_a_trainer_that_changes_batches_of_a_curriculum_is_stopped(in_process, make):
    """What no argument says: a class, or a collator, that takes other rows than those that are due."""

    def action():
        trainer = make(False, {}, static=False)
        original = trainer.data_collator
        trainer.data_collator = lambda features: original(features[::-1])
        short = make(False, {}, static=False)
        collate = short.data_collator
        short.data_collator = lambda features: collate([{name: each[name][:4] for name in each} for each in features])
        return [outcome(trainer.train), outcome(short.train)]

    ((turned, cut),) = in_process(action)
    assert "documents came into the model, and 2 other rows are due" in turned and "due" in cut
