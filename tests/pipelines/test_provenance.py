"""Where a table says that it came from: commands, models, versions, licence; in manifest, card and report."""

import json
import re
import shlex
from pathlib import Path

import pytest
import yaml
from curricle import pipelines
from curricle.curate.proxy.weights import resolve
from curricle.pipelines.settings.lp import LpSettings
from curricle.pipelines.settings.score import ScoreSettings
from curricle.pipelines.settings.select import SelectSettings
from curricle.schemas.common.commandline import command_line
from curricle.schemas.common.flags import parse
from curricle.schemas.common.secrets import remember
from curricle.schemas.manifest import Manifest, Provenance, read_manifest
from running import curricle, write_jsonl

ROWS = [{"instruction": f"Add {row} and 2.", "output": f"{row + 2}, of course. " * 4} for row in range(12)]
HOSTILE = "a ```\n<script>alert(1) 'b'.jsonl"


@pytest.fixture(scope="module")
def scored(tmp_path_factory, tiny_model) -> Path:
    """Scored with a model of a directory, and absolute paths."""
    folder = tmp_path_factory.mktemp("provenance")
    write_jsonl(folder / HOSTILE, ROWS)
    arguments = ("--proxy.model", tiny_model, "--license", "cc-by-4.0", "--language", "en,pt-BR", "--workers", 1)
    curricle("score", HOSTILE, "--output", folder / "table", "--metrics", "length,loss,mtld", *arguments, cwd=folder)
    return folder / "table"


def provenance(table: Path) -> Provenance:
    origin = read_manifest(table).provenance
    assert origin
    return origin


def test_a_table_says_what_made_it(scored, tiny_model):
    origin = provenance(scored)
    (run,), (model,) = origin.commands, origin.models
    words = shlex.split(run.command)
    assert words[:3] == ["curricle", "score", HOSTILE] and "…/table" in words and "--workers" not in words
    assert str(scored.parent) not in run.command and str(tiny_model) not in run.command
    assert (
        {"torch", "transformers", "tokenizers", "numpy", "icu4py"} <= {*run.libraries} and run.curricle and run.python
    )
    assert (model.name, model.revision) == (tiny_model.name, resolve(str(tiny_model)).revision)
    assert {"loss", "prompt_tokens"} <= {*model.columns} and "response_mtld" not in model.columns
    assert (origin.license, origin.language) == (["cc-by-4.0"], ["en", "pt-BR"])


def test_card_and_report_say_it_too(scored, tiny_model):
    card, report = (scored / "README.md").read_text(), (scored / "report.html").read_text()
    front = yaml.safe_load(card.split("---\n")[1])
    assert (front["license"], front["language"]) == ("cc-by-4.0", ["en", "pt-BR"])
    body = card.partition("## How it was made\n\n")[2]
    fence, _, rest = body.partition("\n")
    command, _, after = rest.partition("\n" + fence.removesuffix("sh") + "\n")
    assert "\n" not in command and "```" in command and fence == "````sh", "the name of the file does not end the block"
    assert "torch " in after and resolve(str(tiny_model)).revision in after
    for text in ("cc-by-4.0", "pt-BR", tiny_model.name, "transformers"):
        assert text in report
    assert "<script>alert" not in report and re.search(r"<dt>99 %</dt><dd>[\d,.]+</dd>", report)


def test_it_is_handed_on_and_decides_nothing(scored, tmp_path):
    curricle("add", scored, "--output", tmp_path / "more", "--metrics", "mattr")
    curricle("select", tmp_path / "more", "--output", tmp_path / "few", "--take", "hard", "--by", "loss", "--count", 5)
    origin = provenance(tmp_path / "few")
    assert [run.command.split()[1] for run in origin.commands] == ["score", "add", "select"]
    assert origin.models == provenance(scored).models and origin.license == ["cc-by-4.0"]
    assert "near" not in origin.commands[2].command and "polars" in origin.commands[2].libraries
    (tmp_path / "other.jsonl").write_text(json.dumps(ROWS[0]) + "\n")
    pipelines.score(tmp_path / "other.jsonl", tmp_path / "one", metrics=["mtld"], license="mit", language=["de", "en"])
    pipelines.select(scored, tmp_path / "two", take="random", count=3)
    manifest = pipelines.concat([tmp_path / "one", tmp_path / "two"], tmp_path / "both", columns=["response_mtld"])
    assert manifest.provenance
    assert (manifest.provenance.license, manifest.provenance.language) == (["mit", "cc-by-4.0"], ["de", "en", "pt-BR"])
    assert yaml.safe_load((tmp_path / "both" / "README.md").read_text().split("---\n")[1])["license"] == [
        "mit",
        "cc-by-4.0",
    ]
    assert read_manifest(tmp_path / "one").columns.items() <= read_manifest(scored).columns.items()


def test_a_table_that_grows_tells_it_once_a_command(tmp_path):
    """A command that is run every night is one; another one is the next."""
    for night in range(3):
        write_jsonl(tmp_path / f"{night}.jsonl", ROWS[4 * night : 4 * night + 4])
        curricle("score", "*.jsonl" if night < 2 else "2.jsonl", "--output", "out", "--append", "--metrics", "mtld",
                 *(("--license", "mit") if night == 2 else ()), cwd=tmp_path)  # fmt: skip
    commands = [shlex.split(run.command)[2] for run in provenance(tmp_path / "out").commands]
    assert commands == ["*.jsonl", "2.jsonl"] and provenance(tmp_path / "out").license == ["mit"]


def test_a_table_that_is_there_keeps_what_it_says(scored, tmp_path):
    write_jsonl(tmp_path / "in.jsonl", ROWS)
    curricle("score", "in.jsonl", "--output", "out", "--metrics", "mtld", cwd=tmp_path)
    again = ("score", "in.jsonl", "--output", "out", "--metrics", "mtld", "--license", "mit")
    message = curricle(*again, cwd=tmp_path)
    assert "nothing to do" in message and "--license: the table was written with none, which stays" in message
    assert "stays" not in curricle(*again, "--overwrite", "--output", "new", cwd=tmp_path)
    assert "another --output and add --reuse out: every score is copied" in message
    copied = curricle(*again, "--output", "licensed", "--reuse", "out", cwd=tmp_path)
    assert f"scores of {len(ROWS)} rows were copied" in copied and provenance(tmp_path / "licensed").license == ["mit"]


@pytest.mark.parametrize("options", [("--license", " "), ("--language", "english"), ("--language", "en,")])
def test_what_no_card_may_say_is_refused(tmp_path, options):
    assert options[0] in curricle("score", "in.jsonl", "--output", tmp_path / "out", *options, code=2)


def test_older_manifests_say_nothing(scored):
    value = read_manifest(scored).model_dump()
    del value["provenance"]
    assert Manifest.model_validate(value).provenance is None


COMMANDS = {
    "score": (ScoreSettings, ["a b.jsonl", "in/", "--output", "out", "--metrics", "mtld,loss", "--proxy.model", "o/m",
                              "--proxy.generation.temperature", "0.5", "--shard-rows", "7"]),
    "select": (SelectSettings, ["table", "--output", "x", "--where", "loss < 'a'", "--distinct", "--join", "a.csv,b"]),
    "lp": (LpSettings, ["table", "--output", "x", "--epochs", "2", "--train.device.precision", "bf16"]),
}  # fmt: skip


@pytest.mark.parametrize("name", COMMANDS)
def test_the_command_of_settings_gives_them_again(name):
    cls, arguments = COMMANDS[name]
    settings = parse(cls, arguments, f"curricle {name}")
    line = shlex.split(command_line(f"curricle {name}", settings))
    assert line[:2] == ["curricle", name] and parse(cls, line[2:], "again") == settings


def test_a_command_tells_neither_secrets_nor_where_it_ran():
    remember("TOKEN", "hf_secret_value")
    beam = {"s3_secret_access_key": "abcdefgh"}
    settings = ScoreSettings(
        ("s3://b/x", "/home/me/in.jsonl"), "out", engine="flink", engine_address="host:1", beam=beam,
        prompt_field="hf_secret_value", workers=3,
    )  # fmt: skip
    line = command_line("curricle score", settings)
    assert line == "curricle score s3://b/x '…/in.jsonl' --output out --prompt-field '${TOKEN}'"
