"""What a newcomer types wrong: each gets a message that says what to do, before torch is imported."""

import subprocess
import sys
from dataclasses import fields, is_dataclass
from typing import get_type_hints

import pyarrow.parquet as pq
import pytest
import wrong_commands
from curricle.train.settings import CompareSettings, PlanSettings, RewardSettings, RunSettings
from curricle.train.settings.other_names import OTHER_NAMES

WRONG = {
    "a command that is none": ("trian", "did you mean 'train'|there are: compare"),
    "no data": ("run --model MODEL --output out", "--data is required"),
    "a table that is not there": ("run --data scord --model MODEL --output out", "scord: there is no such file"),
    "raw data": ("run --data raw.jsonl --model MODEL --output out", "score it first: curricle score raw.jsonl"),
    "a score that is absent": ("run --data BARE --model MODEL --output out", "a score that is there: prompt"),
    "a group's option": ("run BASE --device.type cuda", "there are: --device.activation"),
    "a group's option, misspelt": ("run BASE --optimizer.weightdecay 0", "did you mean '--optimizer.weight-decay'?"),
    "deepspeed": ("run BASE --deepspeed ds.json", "here it is --device.parallel fsdp"),
    "curricula to compare": ("compare BASE --eval.rows 8 --curricula random,campus", "here it is --arms"),
    "no table at all": ("run --data MODEL --model MODEL --output out", "MODEL/manifest.json: there is no manifest"),
    "a value without its option": ("run TABLE --model MODEL --output out", "follows the name of its option: --data"),
    "a model that is not there": ("run --data TABLE --model smolm --output out", "it is no directory and no hub id"),
    "a directory without a model": ("run --data TABLE --model . --output out", "there is no config.json"),
    "an output that is a file": ("run --data TABLE --model MODEL --output TABLE", "is a file"),
    "a curriculum that is none": ("run BASE --curriculum campos", "did you mean 'campus'?"),
    "an option of a curriculum": ("run BASE --curriculum sorted --curriculum.byy loss", "did you mean 'by'?"),
    "a column that is not there": ("run BASE --curriculum sorted --curriculum.by los", "did you mean 'loss'?"),
    "a column without a hard end": (
        "run BASE --curriculum sorted --curriculum.by kind",
        "name it kind:high or kind:low",
    ),
    "an option of another curriculum": (
        "run BASE --curriculum random --curriculum.by loss",
        "unknown option 'curriculum.by'",
    ),
    "the learning rate": ("run BASE --lr 1e-4", "here it is --optimizer.lr"),
    "epochs": ("run BASE --epochs 3", "here it is --budget.samples"),
    "the Trainer's batch size": ("run BASE --per_device_train_batch_size 4", "here it is --batch.size"),
    "accumulation": ("run BASE --gradient-accumulation-steps 4", "which passes of --batch.tokens add up to"),
    "a misspelt name of others": ("run BASE --learningrate 1e-4", "here it is --optimizer.lr"),
    "the last part alone": ("run BASE --precision bf16", "did you mean --device.precision?"),
    "a share of rows": ("run BASE --eval.rows 0.1", "--eval.rows is '0.1', which is not a whole number"),
    "more held out than there is": ("run BASE --eval.rows 64", "hold out fewer, 62 at most"),
    "answers to no prompt": ("run BASE --eval.generations 2", "give --eval.rows or --eval.data, or leave it out"),
    "answers to prompts to choose by": ("run BASE --eval.tuning TABLE --eval.generations 2", "has no prompt"),
    "a subset of more than there is": ("run BASE --subset 1000", "there are 64 rows to train on"),
    "a schedule that is none": ("run BASE --optimizer.schedule cosin", "did you mean 'cosine'?"),
    "a rate that is none": ("run BASE --optimizer.lr fast", "--optimizer.lr is 'fast', which is not a number"),
    "a row longer than a pass": ("run BASE --max-length 9000", "--batch.tokens 8192 is less than --max-length 9000"),
    "flash attention": ("run BASE --device.attention flash_attention_2", "pip install flash-attn"),
    "a tracker that is none": ("run BASE --log.tracker wanbd", "did you mean 'wandb'?"),
    "a tracker that is not installed": ("run BASE --log.tracker mlflow", "pip install mlflow"),
    "a config that is not there": ("run --config run.yml", "there is no such file"),
    "a config of the Trainer": ("run --config hf.yaml", "here it is --optimizer.lr"),
    "a journal that is not there": ("run BASE --replay runs/x/journal.jsonl", "the journal is absent or empty"),
    "nothing to compare by": ("compare BASE", "give --eval.rows or --eval.data"),
    "an arm that is none": ("compare BASE --eval.rows 8 --arms random,easy2hard", "the controls easy_to_hard"),
    "no baseline": ("compare BASE --eval.rows 8 --arms campus", "add random to --arms"),
    "a plan's batch": ("plan --data TABLE --output out --batch-size 8", "here it is --batch.size"),
    "a plan of nothing": ("plan --output out", "name a table, or a --journal"),
    "an option of training": ("plan --data TABLE --output out --lr 1", "unknown argument '--lr'"),
    "a report of nothing": ("report .", "there is no run here"),
    "a proof of nothing": ("verify runs", "there is no run here"),
    "a reward without answers": ("reward BASE", "there is no column 'generated'"),
}
HEAVY = ("torch", "transformers", "matplotlib")


@pytest.fixture(scope="module")
def outcomes(tmp_path_factory, tiny_model, write_signed) -> dict[str, wrong_commands.Outcome]:
    here = tmp_path_factory.mktemp("newcomer")
    table = write_signed(here / "table.parquet")
    (here / "raw.jsonl").write_text('{"instruction": "Say it.", "output": "It."}\n')
    pq.write_table(pq.read_table(table).drop_columns("loss"), here / "bare.parquet")
    (here / "hf.yaml").write_text(f"data: {table}\nmodel: {tiny_model}\noutput: out\nlearning_rate: 1.0e-4\n")
    names = {"TABLE": [str(table)], "MODEL": [str(tiny_model)]}
    names["BARE"] = [str(here / "bare.parquet")]
    names["BASE"] = ["--data", str(table), "--model", str(tiny_model), "--output", "out"]
    commands = [[part for word in line.split() for part in names.get(word, [word])] for line, _ in WRONG.values()]
    outcomes = wrong_commands.outcomes("curricle.train.cli", commands, HEAVY, here)
    shown = (each._replace(message=each.message.replace(str(tiny_model), "MODEL")) for each in outcomes)
    return dict(zip(WRONG, shown, strict=True))


@pytest.mark.parametrize("name", WRONG)
def test_a_wrong_command_is_refused_with_what_to_do_before_torch_is_imported(outcomes, name):
    wrong_commands.check(outcomes[name], *WRONG[name][1].split("|"))


def test_a_wrong_call_is_refused_before_torch_is_imported(tiny_model, write_signed, tmp_path):
    code = """
import sys
from curricle import train
from curricle.schemas.common.errors import UsageError
data, model, output = sys.argv[1:]
for call in (
    lambda: train.run(data, model, output, curriculum="campos"),
    lambda: train.run(data, "smolm", output),
    lambda: train.compare(data, model, output, eval={"rows": 8}, arms=["random", "sorted?by=los"]),
    lambda: train.reward(data, model, output),
    lambda: train.run(data, model, output, learning_rate=1e-4),
):
    try:
        call()
    except UsageError as error:
        print(error)
print({"torch", "transformers"} & set(sys.modules))
"""
    table = write_signed(tmp_path / "table.parquet")
    arguments = [sys.executable, "-c", code, str(table), str(tiny_model), str(tmp_path / "out")]
    lines = subprocess.run(arguments, capture_output=True, text=True, check=True).stdout.splitlines()
    assert sum("What to do: " in line for line in lines) == 5 and lines[-1] == "set()", lines
    assert "here it is --optimizer.lr" in lines[-2]


@pytest.mark.parametrize("settings", [RunSettings, CompareSettings, PlanSettings, RewardSettings])
def test_names_of_other_trainers_lead_to_options_that_there_are(settings):
    flags = _flags(settings)
    led = {text.split()[0].rstrip(",:") for text in OTHER_NAMES.values()}
    assert led <= _flags(RunSettings) | _flags(CompareSettings)
    assert led & flags
    own = {flag.lstrip("-").replace("-", "_") for flag in flags}
    assert not own & OTHER_NAMES.keys(), "an option of ours is called so"


def _flags(settings: type, prefix: str = "") -> set[str]:
    hints = get_type_hints(settings)
    flags: set[str] = set()
    for item in fields(settings):
        name = f"{prefix}{item.name}"
        flags |= (
            _flags(hints[item.name], f"{name}.") if is_dataclass(hints[item.name]) else {f"--{name}".replace("_", "-")}
        )
    return flags


def test_the_trackers_are_those_of_accelerate():
    tracking = pytest.importorskip("accelerate.tracking")
    from curricle.train.extras import TRACKERS

    assert set(TRACKERS) == set(tracking.LOGGER_TYPE_TO_CLASS)
