"""Orders for other trainers: what each format holds, in which order, and what is refused, left out or lost in words."""

import json
import os
import signal
import subprocess
import sys
import time
from itertools import pairwise
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml
from curricle import train
from curricle.schemas.common.errors import DirectoryLocked, UsageError, UserError
from curricle.schemas.fingerprint import example_id
from curricle.schemas.table import MESSAGES
from curricle.train import cli
from curricle.train.ordering.exports import permutation
from curricle.train.ordering.exports.formats import FORMATS
from curricle.train.ordering.exports.writers import as_line
from train_tables import write_table

ROWS = 50
SEPARATORS = "a\u2028b\u2029c\x85d\x0be\x1cf\ng"
CONVERSATIONS = {
    "plain": [("user", "q"), ("assistant", "a")],
    "system": [("system", "s"), ("user", "q"), ("assistant", "a")],
    "rounds": [("user", "q"), ("assistant", "a"), ("user", "r"), ("assistant", "b")],
    "tool": [("user", "q"), ("assistant", "call"), ("tool", "result"), ("assistant", "a")],
    "twice": [("user", "q"), ("user", "r"), ("assistant", "a")],
    "answers": [("user", "q"), ("assistant", "a"), ("assistant", "b")],
    "late": [("user", "q"), ("system", "s"), ("assistant", "a")],
    "open": [("user", "q"), ("assistant", "a"), ("user", "r")],
    "mute": [("user", "q")],
}
UNFIT = {
    "jsonl": set(),
    "hf": set(),
    "mds": set(),
    "axolotl": {"mute"},
    "sharegpt": {"twice", "answers", "late", "open", "mute"},
    "alpaca": {"tool", "twice", "answers", "late", "open", "mute"},
    "torchtune": {"tool", "twice", "answers", "late", "open", "mute"},
    "ms-swift": {"late", "open", "mute"},
    "nemo": {"tool", "late", "mute"},
    "megatron-jsonl": {"tool", "late", "mute"},
}


@pytest.fixture
def table(tmp_path) -> Path:
    losses = np.random.default_rng(0).random(ROWS).round(6).tolist()
    columns = {"loss": losses, "length": [None] * 5 + list(range(ROWS - 5)), "topic": list("abcde") * 10}
    return write_table(tmp_path / "table.parquet", columns, row_group_size=7)


def write_conversations(path: Path, conversations: dict[str, list[tuple[str, str]]], extra: str | None = None) -> Path:
    turns = [[{"role": role, "content": content} for role, content in it] for it in conversations.values()]
    columns = {
        "example_id": pa.array([example_id(it) for it in conversations.values()]),
        "messages": pa.array(turns, MESSAGES),
        "extra": pa.array([extra] * len(turns), pa.string()),
        "loss": pa.array(np.arange(len(turns), dtype=float)),
    }
    pq.write_table(pa.table(columns), path)
    return path


def records(directory: Path) -> list[dict]:
    path = next((directory / "data").glob("*.jsonl"))
    return [json.loads(line) for line in path.read_text("utf-8").splitlines()]


def ids(directory: Path) -> list[str]:
    return [record["example_id"] for record in records(directory)]


def export(table: Path, order: object, output: Path, to: str = "jsonl", **options):
    return train.export(table, str(order), to, output, **options)


@pytest.mark.parametrize(
    ("order", "options"),
    [
        ("random", {}),
        ("sorted", {"by": "length"}),
        ("competence", {"by": "loss", "c0": 0.2}),
        ("interleaved", {"category": "topic"}),
    ],
)
@pytest.mark.parametrize("samples", [20, 120])
def test_rows_are_those_of_the_curriculum_in_its_order(table, tmp_path, order, options, samples):
    more = {"seed": 3, "budget": {"samples": samples}}
    expected = train.order(train.open_table(table), order, batch_size=8, **more, **options)
    done = export(table, order, tmp_path / "out", order_options=options, batch={"size": 8}, **more)
    all_ids = pq.read_table(table)["example_id"].to_pylist()
    assert ids(tmp_path / "out") == [all_ids[row] for row in expected.rows.tolist()]
    assert (done.digest, done.rows, done.steps) == (expected.digest, samples, int(expected.steps[-1]) + 1)
    assert records(tmp_path / "out")[0]["messages"] == [
        {"role": "user", "content": f"question {expected.rows[0]}"},
        {"role": "assistant", "content": f"answer {expected.rows[0]}"},
    ]


def test_a_plan_and_an_export_are_orders_too(table, tmp_path):
    order = {"seed": 3, "budget": {"samples": 120}, "batch": {"size": 8}}
    done = export(table, "competence", tmp_path / "out", **order)
    plan = train.plan(table, tmp_path / "plan", curriculum="competence", **order)
    written = pq.read_table(tmp_path / "out" / "order.parquet")
    assert written.equals(pq.read_table(plan.parquet))
    again = export(table, plan.parquet, tmp_path / "again")
    assert ids(tmp_path / "again") == ids(tmp_path / "out") and again.digest == done.digest
    of_export = export(table, tmp_path / "out", tmp_path / "third", "alpaca")
    assert ids(tmp_path / "third") == ids(tmp_path / "out") and of_export.digest == done.digest


def test_a_column_and_the_table_are_orders_too(table, tmp_path):
    rows = pq.read_table(table).to_pylist()
    export(table, "table", tmp_path / "as it lies")
    assert ids(tmp_path / "as it lies") == [row["example_id"] for row in rows]
    export(table, "loss", tmp_path / "easy first", columns=["loss", "topic"])
    export(table, "loss:low", tmp_path / "hard first")
    easy = sorted(rows, key=lambda row: row["loss"])
    assert ids(tmp_path / "easy first") == [row["example_id"] for row in easy]
    assert ids(tmp_path / "hard first") == [row["example_id"] for row in reversed(easy)]
    assert [(it["loss"], it["topic"]) for it in records(tmp_path / "easy first")] == [
        (row["loss"], row["topic"]) for row in easy
    ]
    done = export(table, "length", tmp_path / "with nulls", batch={"size": 8})
    assert (done.rows, done.steps) == (ROWS - 5, 6)  # rows without a score are not in it; steps as a trainer cuts them
    assert np.bincount(pq.read_table(tmp_path / "with nulls" / "order.parquet")["step"]).tolist() == [8] * 5 + [5]


def test_what_is_held_out_is_not_exported(table, tmp_path):
    other = write_table(tmp_path / "other.parquet", {"loss": [0.5] * 4}, first=10)
    done = export(table, "table", tmp_path / "out", eval={"rows": 7}, leave_out=[other])
    _, held = train.hold_out(train.open_table(table).take(np.delete(np.arange(ROWS), range(10, 14))), 7)
    assert not {*ids(tmp_path / "out")} & {identity.tobytes().hex() for identity in held.ids}
    assert done.rows == ROWS - 4 - 7 and done.left_out == {"--leave-out other.parquet": 4}


@pytest.mark.parametrize("blocks", [1, 3, 40])
def test_an_order_is_the_same_through_any_number_of_blocks(table, tmp_path, monkeypatch, blocks):
    files = train.open_table(table).files
    random = np.random.default_rng(1)
    rows = random.choice(ROWS, 300)
    names = ["example_id", "messages", "loss"]
    size = permutation._bytes(files, names, len(rows))
    monkeypatch.setattr(permutation, "BLOCK_BYTES", -(-size // blocks))
    monkeypatch.setattr(permutation, "READ_ROWS", 16)
    batches = [*permutation.in_order(files, rows, names, random.integers(1, 9, 300), tmp_path / "scratch")]
    assert pa.Table.from_batches(batches).equals(pq.read_table(table, columns=names).take(rows))
    assert not list((tmp_path / "scratch").glob("*")) and (tmp_path / "scratch").exists() == (blocks > 1)


@pytest.mark.parametrize("to", FORMATS)
def test_what_a_trainer_could_not_read_is_refused_by_name_or_left_out_and_named(tmp_path, to, capsys):
    table = write_conversations(tmp_path / "mixed.parquet", CONVERSATIONS, '{"category": "x", "message_fields": [1]}')
    arguments = ["export", str(table), "--order", "table", "--to", to, "--output", str(tmp_path / "out")]
    unfit = UNFIT[to]
    if unfit:
        with pytest.raises(UserError, match=f"{len(unfit)} rows? of 9 would be refused or left out") as refused:
            export(table, "table", tmp_path / "out", to)
        assert all(example_id(CONVERSATIONS[name]) in str(refused.value) for name in unfit)
        assert [path.name for path in tmp_path.iterdir()] == ["mixed.parquet"]
    assert cli.main([*arguments, "--unfit", "leave-out"]) == 0
    printed = capsys.readouterr().out
    sidecar = json.loads((tmp_path / "out" / "order.json").read_text())
    assert sidecar["rows"] == 9 - len(unfit) and sum(sidecar["left_out"].values()) == len(unfit)
    expected = [example_id(turns) for name, turns in CONVERSATIONS.items() if name not in unfit]
    assert pq.read_table(tmp_path / "out" / "order.parquet")["example_id"].to_pylist() == expected
    page = (tmp_path / "out" / "README.md").read_text()
    for reason in sidecar["left_out"]:
        assert reason in printed and reason in page
    if FORMATS[to].extra:
        assert sidecar["lost"] == {}
    else:
        assert sidecar["lost"] == {"extra.category": 9 - len(unfit), "extra.message_fields": 9 - len(unfit)}
        assert "not in this format: the field extra.category" in printed and "`extra.message_fields`" in page


def test_what_a_conversation_becomes(tmp_path):
    turns = {
        "system": [("system", "be brief"), ("user", "q"), ("assistant", "a"), ("user", "r"), ("assistant", "b")],
        "tool": [("user", "q"), ("assistant", "c"), ("tool", "t"), ("assistant", "a")],
    }
    table = write_conversations(tmp_path / "t.parquet", turns)
    for to in ("sharegpt", "alpaca", "ms-swift", "jsonl"):
        export(table, "table", tmp_path / to, to, unfit="leave-out")
    roles = {"system": "system", "user": "human", "assistant": "gpt", "tool": "observation"}
    assert [record["conversations"] for record in records(tmp_path / "sharegpt")] == [
        [{"from": roles[role], "value": content} for role, content in it] for it in turns.values()
    ]
    (alpaca,) = records(tmp_path / "alpaca")
    assert {name: value for name, value in alpaca.items() if name != "example_id"} == {
        "instruction": "r",
        "input": "",
        "output": "b",
        "system": "be brief",
        "history": [["q", "a"]],
    }
    for to in ("ms-swift", "jsonl"):
        assert [record["messages"] for record in records(tmp_path / to)] == [
            [{"role": role, "content": content} for role, content in it] for it in turns.values()
        ]
    assert [record["extra"] for record in records(tmp_path / "jsonl")] == [None, None]


@pytest.mark.parametrize("to", ["axolotl", "ms-swift", "sharegpt", "jsonl"])
def test_answers_that_are_context_are_marked_or_it_is_said_that_they_are_learnt(tmp_path, to):
    extra = json.dumps({"message_fields": [None, {"train": False}, None, None]})
    rounds = {name: [(role, name + content) for role, content in CONVERSATIONS["rounds"]] for name in "ab"}
    done = export(write_conversations(tmp_path / "t.parquet", rounds, extra), "table", tmp_path / to, to)
    flag = {"axolotl": "train", "ms-swift": "loss"}.get(to)
    if flag:
        assert [[turn.get(flag) for turn in it["messages"]] for it in records(tmp_path / to)] == [
            [None, False, None, None]
        ] * 2
    assert any("here they are learnt" in name for name in done.lost) == (to == "sharegpt")
    assert any("do not look there" in name for name in done.lost) == (to == "jsonl")


@pytest.mark.parametrize("to", ["axolotl", "ms-swift", "sharegpt", "jsonl"])
def test_rows_whose_answers_are_all_context_are_learnt_by_no_trainer(tmp_path, to):
    extra = json.dumps({"label": False, "message_fields": [None, {"train": False}]})
    bad = {name: [("user", name), ("assistant", "wrong")] for name in "ab"}
    table = write_conversations(tmp_path / "t.parquet", bad, extra)
    if to == "jsonl":
        export(table, "table", tmp_path / to, to)
        assert ["train" in json.dumps(record["extra"]) for record in records(tmp_path / to)] == [True, True]
    else:
        with pytest.raises(UserError, match="has no answer to learn, each is context"):
            export(table, "table", tmp_path / to, to)


def test_a_line_is_one_line_to_every_reader(tmp_path):
    odd = [("user", SEPARATORS), ("assistant", "</s>\0\ud7ff")]
    table = write_conversations(tmp_path / "t.parquet", {"odd": odd, "plain": CONVERSATIONS["plain"]})
    export(table, "table", tmp_path / "out")
    lines = (tmp_path / "out" / "data" / "train.jsonl").read_text("utf-8").splitlines()
    assert len(lines) == 2
    assert [(turn["role"], turn["content"]) for turn in json.loads(lines[0])["messages"]] == odd
    assert as_line({"x": [float("nan"), float("inf"), 1.5]}) == '{"x": [null, null, 1.5]}'


def test_datasets_reads_the_rows_in_order(table, tmp_path, monkeypatch):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    from datasets import load_dataset

    done = export(table, "random", tmp_path / "hf", "hf", columns=["loss", "topic"], budget={"samples": 90})
    order = pq.read_table(tmp_path / "hf" / "order.parquet")["row"].to_pylist()
    rows = pq.read_table(table).to_pylist()
    cache = str(tmp_path / "cache")
    for streaming in (False, True):
        read = load_dataset(str(tmp_path / "hf"), split="train", cache_dir=cache, streaming=streaming)
        assert [
            (it["example_id"], [dict(turn) for turn in it["messages"]], it["extra"], it["loss"], it["topic"])
            for it in read
        ] == [tuple(rows[row][name] for name in ("example_id", "messages", "extra", "loss", "topic")) for row in order]
    assert done.rows == 90
    for to in ("sharegpt", "alpaca", "axolotl", "ms-swift", "torchtune", "megatron-jsonl"):
        export(table, "random", tmp_path / to, to, budget={"samples": 90})
        path = str(tmp_path / to / FORMATS[to].data)
        read = load_dataset("json", data_files=path, split="train", cache_dir=cache)
        assert read["example_id"][:] == [rows[row]["example_id"] for row in order]


def test_shards_are_as_the_documentation_of_streaming_has_them(table, tmp_path, monkeypatch):
    """A count, offsets and a configuration, and of each sample the sizes and the values, as the format is described."""
    from curricle.train.ordering.exports import writers

    monkeypatch.setattr(writers, "SHARD_BYTES", 2000)
    export(table, "random", tmp_path / "mds", "mds", columns=["loss"])
    index = json.loads((tmp_path / "mds" / "data" / "index.json").read_text())
    assert index["version"] == 2 and len(index["shards"]) > 2
    samples = []
    for number, shard in enumerate(index["shards"]):
        assert shard["raw_data"]["basename"] == f"shard.{number:05}.mds"
        content = (tmp_path / "mds" / "data" / shard["raw_data"]["basename"]).read_bytes()
        assert len(content) == shard["raw_data"]["bytes"]
        count = int.from_bytes(content[:4], "little")
        offsets = np.frombuffer(content, "<u4", count + 1, 4).tolist()
        config = json.loads(content[4 + 4 * (count + 1) : offsets[0]])
        assert config.items() <= shard.items() and (count, offsets[-1]) == (shard["samples"], len(content))
        for begin, end in pairwise(offsets):
            sizes = np.frombuffer(content, "<u4", len(config["column_names"]), begin).tolist()
            at, sample = begin + 4 * len(sizes), {}
            for name, encoding, size in zip(config["column_names"], config["column_encodings"], sizes, strict=True):
                value = content[at : at + size].decode()
                sample[name] = json.loads(value) if encoding == "json" else value
                at += size
            assert at == end
            samples.append(sample)
    order = pq.read_table(tmp_path / "mds" / "order.parquet")["row"].to_pylist()
    rows = pq.read_table(table, columns=["example_id", "extra", "loss", "messages"]).to_pylist()
    assert samples == [rows[row] for row in order]


def test_settings_are_in_the_language_of_their_trainer(table, tmp_path):
    directory = tmp_path / 'a "b": #c'
    for to, form in FORMATS.items():
        export(table, "table", directory / to, to, batch={"size": 16})
        for name in form.templates:
            text = (directory / to / name).read_text()
            assert "$" not in text
            if name.endswith(".py"):
                compile(text, name, "exec")
            elif name.endswith((".yaml", ".json")):
                values = yaml.safe_load(text)
                assert (
                    str(directory / to) in json.dumps(values, ensure_ascii=False).replace('\\"', '"') or "json" in name
                )
    values = yaml.safe_load((directory / "sharegpt" / "llama_factory.yaml").read_text())
    assert values["disable_shuffling"] is True and values["packing"] is False and values["streaming"] is False
    info = json.loads((directory / "sharegpt" / "dataset_info.json").read_text())[values["dataset"]]
    assert (Path(values["dataset_dir"]) / info["file_name"]).is_file() and info["formatting"] == "sharegpt"
    values = yaml.safe_load((directory / "axolotl" / "axolotl.yaml").read_text())
    assert values["shuffle_merged_datasets"] is False and values["curriculum_sampling"] is True
    values = yaml.safe_load((directory / "ms-swift" / "ms_swift.yaml").read_text())
    assert values["dataset_shuffle"] is values["train_dataloader_shuffle"] is False and values["strict"] is True
    values = yaml.safe_load((directory / "torchtune" / "torchtune.yaml").read_text())
    assert values["shuffle"] is False and Path(values["dataset"]["data_files"]).is_file()


def test_the_arguments_for_transformers_keep_the_order(table, tmp_path, monkeypatch):
    """The file as it stands, through a real Trainer's sampler; with the default it is another order."""
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setenv("HF_DATASETS_CACHE", str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path)
    from torch.utils.data import RandomSampler, SequentialSampler
    from transformers import Trainer

    export(table, "random", tmp_path / "hf", "hf")
    names: dict = {}
    exec((tmp_path / "hf" / "training_arguments.py").read_text(), names)
    trainer = Trainer.__new__(Trainer)
    trainer.args, trainer.train_dataset = names["arguments"], names["train_dataset"]
    assert isinstance(trainer._get_train_sampler(names["train_dataset"]), SequentialSampler)
    expected = pq.read_table(tmp_path / "hf" / "order.parquet")["example_id"].to_pylist()
    assert names["train_dataset"]["example_id"][:] == expected
    trainer.args.train_sampling_strategy = "random"
    assert isinstance(trainer._get_train_sampler(names["train_dataset"]), RandomSampler)


REFUSALS = {
    "asks the student": {"order": "campus", "order_options": {"perspectives": "loss,length"}},
    "did you mean 'random'": {"order": "randon"},
    "there is no such file": {"order": "absent.parquet"},
    "is no journal.jsonl": {"order": "lines.jsonl"},
    "a column has no options": {"order": "loss", "order_options": {"direction": "hard_to_easy"}},
    "nothing says which end": {"order": "topic"},
    "did you mean 'topic'": {"order": "table", "columns": ["topics"]},
    "is a field of alpaca": {"order": "table", "to": "alpaca", "columns": ["output"]},
    "column 'messages' is a field": {"order": "table", "columns": ["messages"]},
    "--to is 'axolot'": {"order": "table", "to": "axolot"},
    "is not empty, and no export": {"order": "table", "output": "full"},
    "holds struct": {"order": "table", "columns": ["nested"]},
}


@pytest.mark.parametrize("message", REFUSALS)
def test_what_does_not_fit_is_refused_before_anything_is_written(table, tmp_path, message):
    (tmp_path / "lines.jsonl").write_text("{}\n")
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "mine").write_text("")
    columns = pq.read_table(table)
    columns = columns.append_column("nested", pa.array([{"x": 1}] * ROWS)).append_column("output", columns["topic"])
    pq.write_table(columns, table)
    wrong = {"to": "jsonl", "output": "out", **REFUSALS[message]}
    order = wrong.pop("order")
    order = tmp_path / order if order.endswith(("jsonl", "parquet")) else order
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(UsageError) as refused:
        export(table, order, tmp_path / wrong.pop("output"), wrong.pop("to"), **wrong)
    assert message in str(refused.value), str(refused.value)
    assert sorted(tmp_path.rglob("*")) == before


def test_a_plan_of_another_table_is_refused(table, tmp_path):
    other = write_table(tmp_path / "other.parquet", {"loss": [0.5] * ROWS}, first=7)
    plan = train.plan(other, tmp_path / "plan", curriculum="random")
    with pytest.raises(UsageError, match="which the table does not have there"):
        export(table, plan.parquet, tmp_path / "out")
    by_id = pq.read_table(plan.parquet, columns=["example_id"])
    pq.write_table(by_id, tmp_path / "ids.parquet")
    with pytest.raises(UsageError, match=r"7 of 50 are such"):
        export(table, tmp_path / "ids.parquet", tmp_path / "out")
    export(other, tmp_path / "ids.parquet", tmp_path / "out")
    assert ids(tmp_path / "out") == by_id["example_id"].to_pylist()


def test_the_same_command_finds_what_is_there_and_another_one_is_refused(table, tmp_path):
    first = export(table, "random", tmp_path / "out")
    stamp = (tmp_path / "out" / "order.json").stat().st_mtime_ns
    assert export(table, "random", tmp_path / "out") == first
    assert (tmp_path / "out" / "order.json").stat().st_mtime_ns == stamp
    with pytest.raises(UsageError, match=r"is another export:\s+- order\.seed: 0 there, 1 now"):
        export(table, "random", tmp_path / "out", seed=1)
    partial = tmp_path / ".other.partial"
    partial.mkdir()
    (partial / "half").write_text("of a job that was killed")
    export(table, "random", tmp_path / "other")
    assert not partial.exists() and not (tmp_path / "other" / "half").exists()


def test_only_one_job_writes_an_export(table, tmp_path):
    import fcntl

    partial = tmp_path / ".out.partial"
    partial.mkdir()
    handle = os.open(partial, os.O_RDONLY)
    fcntl.flock(handle, fcntl.LOCK_EX)
    with pytest.raises(DirectoryLocked, match="another job writes this export"):
        export(table, "random", tmp_path / "out")
    assert partial.is_dir()
    os.close(handle)
    export(table, "random", tmp_path / "out")


def test_a_killed_job_leaves_nothing_half_written(table, tmp_path):
    """Killed as soon as there is something of it, again and again: what has the name is whole, or is not there."""
    command = [sys.executable, "-m", "curricle.train.cli", "export", str(table), "--order", "random", "--to", "jsonl"]
    command += ["--budget.samples", "20000", "--output", str(tmp_path / "out")]
    child = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    while child.poll() is None and not (tmp_path / ".out.partial" / "data" / "train.jsonl").exists():
        time.sleep(0.005)
    child.send_signal(signal.SIGKILL)
    child.wait()
    if child.returncode == -signal.SIGKILL:
        assert not (tmp_path / "out").exists() or train.verify_order(tmp_path / "out")
    done = export(table, "random", tmp_path / "out", budget={"samples": 20000})
    assert done.rows == 20000 and all(not finding.faults for finding in train.verify_order(tmp_path / "out"))
    assert not (tmp_path / ".out.partial").exists()


def test_both_commands_export(table, tmp_path):
    run = ["export", str(table), "--order", "loss", "--to", "jsonl"]
    done = subprocess.run(
        [sys.executable, "-m", "curricle.pipelines.cli", *run, "--output", str(tmp_path / "one")],
        capture_output=True,
        text=True,
        check=True,
    )
    assert "50 rows in 2 steps" in done.stdout
    assert cli.main([*run, "--output", str(tmp_path / "two")]) == 0
    assert ids(tmp_path / "one") == ids(tmp_path / "two")
