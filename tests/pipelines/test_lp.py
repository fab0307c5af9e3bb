"""Learning percentages through the commands: several checkpoints in one pass, and the training that makes them."""

import math
import os
import shutil
import signal
from dataclasses import asdict, replace
from pathlib import Path

import pytest
import torch
from clusters import until_true
from curricle.curate.proxy.weights import resolve
from curricle.pipelines.commands.lp import _recipe, training_options
from curricle.pipelines.settings.lp import LearnerSettings, LpSettings
from curricle.schemas.common.errors import UsageError
from curricle.schemas.common.flags import parse
from curricle.train.distributed import Processes
from curricle.train.settings import RunSettings
from curricle.train.training.loop import run
from running import curricle, read_data, signed, start, write_jsonl
from small_llama import write_small_llama
from tokenizers import Tokenizer, decoders
from tokenizers.models import BPE
from tokenizers.pre_tokenizers import ByteLevel
from tokenizers.trainers import BpeTrainer
from transformers import AutoTokenizer, PreTrainedTokenizerFast

ROWS = 200
EPOCHS = 2


TEMPLATE = "{% for m in messages %}<s>{{ m.role }}\n{{ m.content }}</s>\n{% endfor %}"
TEMPLATE += "{% if add_generation_prompt %}<s>assistant\n{% endif %}"


@pytest.fixture(scope="module")
def checkpoints(alpaca_rows, tmp_path_factory) -> list[Path]:
    """Three models of one shape and a few hundred tokens; each has written the tokenizer anew."""
    root = tmp_path_factory.mktemp("checkpoints")
    bpe = Tokenizer(BPE())
    bpe.pre_tokenizer, bpe.decoder = ByteLevel(add_prefix_space=False), decoders.ByteLevel()
    trainer = BpeTrainer(vocab_size=600, special_tokens=["<s>", "</s>"], initial_alphabet=ByteLevel.alphabet())
    bpe.train_from_iterator([row["output"] for row in alpaca_rows(100)], trainer)
    special = {"bos_token": "<s>", "eos_token": "</s>", "pad_token": "</s>"}
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=bpe, chat_template=TEMPLATE, **special)
    for seed in range(3):
        write_small_llama(root / str(seed), tokenizer, seed, initializer_range=0.2)
        tokenizer = AutoTokenizer.from_pretrained(root / str(seed))
    return [root / str(seed) for seed in range(3)]


def test_checkpoints_are_scored_in_one_pass(checkpoints, alpaca_rows, tmp_path):
    """As each of them is alone, however the rows are cut into shards."""
    rows = alpaca_rows(30)
    rows[7]["output"], rows[9]["instruction"] = "", "word " * 500
    write_jsonl(tmp_path / "in.jsonl", rows)
    names = ",".join(map(str, checkpoints))
    options = ("--shard-rows", 13, "--proxy.max-length", 200)
    curricle("score", "in.jsonl", "--output", "out", "--proxy.checkpoints", names, *options, cwd=tmp_path)
    table = read_data(tmp_path / "out")
    for epoch, model in enumerate(checkpoints):
        alone = ("--output", f"alone-{epoch}", "--metrics", "loss", "--proxy.model", model, "--proxy.max-length", 200)
        curricle("score", "in.jsonl", *alone, cwd=tmp_path)
        losses = read_data(tmp_path / f"alone-{epoch}")["loss"].to_pylist()
        expected = [None if loss is None else pytest.approx(math.exp(loss), rel=1e-5) for loss in losses]
        assert table[f"ppl_epoch_{epoch}"].to_pylist() == expected
        if not epoch:
            assert table["loss"].to_pylist() == [None if loss is None else pytest.approx(loss) for loss in losses]
    for row in table.to_pylist():
        p, notes = [row[f"ppl_epoch_{epoch}"] for epoch in range(3)], row["notes"] or []
        if p[0] is None:
            assert row["lp_1"] is None and row["lp_app"] is None and row["learnability"] is None
            assert any(note.startswith("lp_1: ") for note in notes)
        else:
            assert row["lp_1"] == pytest.approx((p[0] - p[1]) / (p[0] - p[2]))
            assert row["learnability"] == pytest.approx(1 - math.log(p[2]) / math.log(p[0]))
    assert table["lp_1"].null_count == 2
    result = signed(tmp_path / "out")["identity"]["columns"]
    assert len(result["lp_1"]["proxy"]["checkpoints"]) == 2 and "checkpoints" not in result["loss"]["proxy"]
    assert "whole" in curricle("verify", "out", cwd=tmp_path)
    other = f"{checkpoints[0]},{checkpoints[2]},{checkpoints[1]}"
    message = curricle(
        "score", "in.jsonl", "--output", "out", "--proxy.checkpoints", other, *options, cwd=tmp_path, code=2
    )
    assert "proxy.checkpoints" in message
    compat = ("--compat", "small2large", "--metrics", "lp", "--output", "theirs", "--proxy.checkpoints", names)
    curricle("score", "in.jsonl", *compat, *options, cwd=tmp_path)
    assert [read_data(tmp_path / "theirs")["lp_1"][row].as_py() for row in (7, 9)] == [None, 0.0]


def test_what_is_no_checkpoint_of_the_model_is_refused(checkpoints, tmp_path):
    write_jsonl(tmp_path / "in.jsonl", [{"prompt": "Hi", "completion": "there"}])
    start_of = checkpoints[0]
    tokenizer = AutoTokenizer.from_pretrained(start_of)
    write_small_llama(tmp_path / "wider", tokenizer, hidden_size=128)
    template = Path(shutil.copytree(start_of, tmp_path / "template")) / "chat_template.jinja"
    template.write_text(template.read_text().replace("assistant", "Assistant"))

    def refused(*options: object) -> str:
        return curricle("score", "in.jsonl", "--output", "out", *options, cwd=tmp_path, code=2)

    assert (
        "differs from" in (message := refused("--proxy.checkpoints", f"{start_of},wider")) and "hidden_size" in message
    )
    assert "tokenizer or its template" in refused("--proxy.checkpoints", f"{start_of},template")
    assert "names one" in refused("--proxy.checkpoints", start_of)
    assert "leave it out" in refused("--proxy.checkpoints", f"{start_of},wider", "--proxy.model", "wider/other")
    assert "`curricle lp`" in refused("--metrics", "lp")
    assert "--compat is for" in refused("--compat", "small2large")
    assert not (tmp_path / "out").exists()


@pytest.fixture(scope="module")
def scored(alpaca_rows, tmp_path_factory) -> Path:
    root = tmp_path_factory.mktemp("scored")
    rows = [*alpaca_rows(ROWS), {"instruction": "no answer here"}]
    rows[11]["output"] = ""
    write_jsonl(root / "in.jsonl", rows)
    curricle("score", "in.jsonl", "--output", "out", "--metrics", "mtld", cwd=root)
    return root / "out"


def options_of(model: Path) -> tuple[object, ...]:
    batch = ("--batch-size", 32, "--learning-rate", 1e-2, "--train.batch.tokens", 2048)
    return ("--epochs", EPOCHS, *batch, "--proxy.model", model, "--proxy.max-length", 128, "--shard-rows", 50)


def test_the_defaults_are_the_authors(tmp_path):
    """Every value of their training (arXiv 2402.10430), and of transformers' trainer where they name none."""
    settings = LpSettings(table="scored", output="out")
    options = training_options(settings, rows=52_002, model=tmp_path)
    run = parse(
        RunSettings, [f"--{key}={value}" for key, value in options.items()] + ["--output=out"], "curricle-train"
    )
    assert asdict(run.optimizer) == {
        "lr": 2e-5,
        "beta1": 0.9,
        "beta2": 0.999,
        "eps": 1e-8,
        "weight_decay": 0.0,
        "clip": 1.0,
        "schedule": "cosine",
        "warmup": 0.03,
        "floor": 0.0,
        "horizon": None,  # the budget, which is three epochs
        "decay": run.optimizer.decay,  # of another schedule
    }
    assert (run.budget.samples, run.batch.size, run.max_length, run.seed) == (3 * 52_002, 32, 512, 42)
    assert (run.curriculum, run.lora.rank, run.eval.rows) == ("random", 0, 0)
    assert (run.checkpoint.every, run.checkpoint.keep) == (1626, 3)  # an epoch of 1,625 whole batches and one of 2 rows
    assert training_options(replace(settings, epochs=1), 52_002, tmp_path)["optimizer.horizon"] == 3 * 52_002
    other = replace(settings, train={"optimizer.beta2": "0.95"})
    assert training_options(other, 9, tmp_path)["optimizer.beta2"] == "0.95"


def test_one_epoch_is_the_first_of_three(scored, checkpoints, tmp_path):
    """Weights, to the last bit: the cosine spans three epochs there too. Where it spans one, they are others."""

    def first_epoch(**options: int) -> bytes:
        output = tmp_path / "-".join(f"{key}-{value}" for key, value in options.items())
        proxy = LearnerSettings(model=str(checkpoints[0]), max_length=128)
        settings = LpSettings(table=str(scored), output=str(output), learning_rate=1e-2, proxy=proxy, **options)
        flags = training_options(settings, ROWS, checkpoints[0]) | {"output": output, "log.every": 1}
        run(
            parse(RunSettings, [f"--{key}={value}" for key, value in flags.items()], "curricle-train"),
            Processes(0, 1, torch.device("cpu")),
        )
        return (output / "checkpoints" / "step-00000007" / "model.safetensors").read_bytes()

    three, one, short = (first_epoch(epochs=3), first_epoch(epochs=1), first_epoch(epochs=1, schedule_epochs=1))
    assert one == three
    assert short != three


def test_the_recipe_names_a_schedule_that_training_does_not_finish(checkpoints):
    """Three epochs have the recipe, and so the fingerprint, that they always had."""
    weights = resolve(str(checkpoints[0]))
    recipes = {
        (epochs, spans): _recipe(LpSettings("t", "o", epochs=epochs, schedule_epochs=spans), weights, {})["training"]
        for epochs, spans in [(1, None), (1, 1), (3, None), (3, 3), (4, None), (4, 9)]
    }
    named = {key: recipe.get("schedule_epochs") for key, recipe in recipes.items()}
    assert named == {(1, None): 3, (1, 1): None, (3, None): None, (3, 3): None, (4, None): None, (4, 9): 9}


def test_trained_scored_and_killed_in_both(scored, checkpoints, tmp_path):
    """The same command goes on, and the table is that of an uninterrupted run, its weights to the last bit."""
    options = options_of(checkpoints[0])
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    curricle("lp", scored, "--output", whole, *options)
    before, after = read_data(scored), read_data(whole)
    assert after.select(before.column_names[:-1]).equals(before.select(before.column_names[:-1]))
    result = after.to_pylist()
    assert result[11]["lp_app"] is None and "lp_app: the response is empty" in result[11]["notes"]
    assert all((row["lp_app"] is None) == any("lp_app: " in note for note in row["notes"] or []) for row in result)
    learned = [row[f"ppl_epoch_{EPOCHS}"] < row["ppl_epoch_0"] for row in result if row["lp_app"] is not None]
    assert sum(learned) > 0.95 * len(learned)
    assert "whole" in curricle("verify", whole)
    receipts = killed / "_progress" / "scores" / "_progress" / "receipts"
    for stage in (killed / "training" / "checkpoints", receipts):
        process = start("lp", scored, "--output", killed, *options)
        until_true(lambda stage=stage: any(stage.glob("s*")), f"something is in {stage.name}")
        os.killpg(process.pid, signal.SIGKILL)
        process.communicate()
        assert not (killed / "manifest.json").exists()
    curricle("lp", scored, "--output", killed, *options)
    assert read_data(killed).equals(after) and signed(killed) == signed(whole)
    product = {path: path.stat().st_mtime_ns for path in killed.rglob("*.json")}
    assert "nothing to do" in curricle("lp", scored, "--output", killed, *options)
    assert {path: path.stat().st_mtime_ns for path in killed.rglob("*.json")} == product
    message = curricle("lp", scored, "--output", killed, *options, "--seed", 1, code=2)
    assert "training.seed" in message
    message = curricle("lp", whole, "--output", tmp_path / "again", *options, code=2)
    assert "has a column 'learnability' already" in message


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--train.optimizer.lr", 1), "give --learning-rate"),
        (("--train.curriculum", "campus"), "leave it out"),
        (("--train.eval.rows", 9), "leave it out"),
        (("--epochs", 0), "--epochs is 0"),
        (("--epochs", 4, "--schedule-epochs", 3), "before --epochs 4"),
        (("--train.optimizer.horizon", 9), "give --schedule-epochs"),
        (("--proxy.checkpoints", "a,b"), "are made here"),
        (("--proxy.end-of-turn", "no"), "learns the token that ends a turn"),
        (("--output", "s3://bucket/out"), "local directories"),
    ],
)
def test_what_is_not_for_this_command_is_refused(scored, tmp_path, options, message):
    assert message in curricle("lp", scored, "--output", "out", *options, cwd=tmp_path, code=2)
    assert not (tmp_path / "out").exists()


def test_what_the_trainer_refuses_is_wrong_usage_and_may_be_mended(scored, checkpoints, tmp_path, capfd):
    options = ("--proxy.model", checkpoints[0], "--output", tmp_path / "out")
    assert "exit code 2" in curricle("lp", scored, *options, "--train.optimizer.shedule", "rex", code=2)
    assert "did you mean '--optimizer.schedule'" in capfd.readouterr().err
    assert "exit code 2" in curricle("lp", scored, *options, "--train.optimizer.floor", "low", code=2)


def test_rows_of_another_set_are_scored_and_not_trained_on(scored, checkpoints, tmp_path):
    """The weights are those of a training on the other set alone, to the last bit; every row has its values."""
    options = options_of(checkpoints[0])
    curricle("select", scored, "--output", tmp_path / "sets", "--split", "train=0.75,judging=0.25", "--seed", 3)
    out, judging = tmp_path / "out", tmp_path / "sets" / "judging"
    printed = curricle("lp", scored, "--output", out, *options, "--leave-out", judging / "certificate.json")
    assert "50 of 200 rows are not learned from: they stand in" in printed
    curricle("lp", tmp_path / "sets" / "train", "--output", tmp_path / "alone", *options)
    step = f"training/checkpoints/step-{EPOCHS * 5:08d}/model.safetensors"
    assert (out / step).read_bytes() == (tmp_path / "alone" / step).read_bytes()
    result, held = read_data(out).to_pylist(), {*read_data(judging)["example_id"].to_pylist()}
    for row in result:
        note = "lp_1: no model was trained on this row" in (row["notes"] or [])
        assert note == (row["example_id"] in held)
    assert sum(row["lp_1"] is not None for row in result if row["example_id"] in held) > 40
    alone = {row["example_id"]: row["lp_1"] for row in read_data(tmp_path / "alone").to_pylist()}
    assert all(
        row["lp_1"] == pytest.approx(alone[row["example_id"]], nan_ok=True)
        for row in result
        if row["example_id"] in alone
    )
    training = signed(out)["identity"]["columns"]["lp_1"]["training"]
    assert training["left_out"]["rows"] == 50
    assert "nothing to do" in curricle("lp", scored, "--output", out, *options, "--leave-out", judging)
    assert "left_out" in curricle("lp", scored, "--output", out, *options, code=2)
    whole = signed(tmp_path / "alone")["identity"]["columns"]["lp_1"]["training"]
    assert "left_out" not in whole, "what leaves none out has the fingerprint that it always had"
    message = curricle("lp", scored, "--output", tmp_path / "none", *options, "--leave-out", scored, code=2)
    assert "0 of 200 rows are left to learn from" in message


def test_rows_that_the_training_evaluates_on_are_not_among_those_of_an_epoch(tmp_path):
    named = LpSettings("t", "o", leave_out=("a",), train={"eval.data": "b,c=d/e", "eval.tuning": "f"})
    assert named.not_trained_on == ("a", "b", "d/e", "f")
    assert training_options(named, 9, tmp_path)["leave-out"] == "a"
    for key in ("leave_out", "eval.near_duplicates", "eval.rows"):
        with pytest.raises(UsageError, match="is not for this command"):
            LpSettings("t", "o", train={key: "1"})
    with pytest.raises(UsageError, match="a comma separates tables"):
        LpSettings("t", "o", leave_out=("a,b",))
