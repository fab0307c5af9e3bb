"""The command line: quick help, clear refusals, and nothing written when something is wrong."""

import json
import subprocess
import sys
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from curricle.schemas.common.errors import UsageError
from curricle.train.cli import COMMANDS

REPOSITORY = Path(__file__).resolve().parents[2]


def python(code: str, *arguments: str, cwd: Path = REPOSITORY) -> subprocess.CompletedProcess[str]:
    environment = {"PYTHONPATH": str(REPOSITORY), "PATH": "/usr/bin:/bin", "PYTHONSAFEPATH": "1"}
    return subprocess.run(
        [sys.executable, "-c", code, *arguments], capture_output=True, text=True, cwd=cwd, env=environment, timeout=120
    )


@pytest.mark.parametrize("arguments", [["--help"], ["run", "--help"]])
def test_help_imports_no_heavy_library(arguments):
    code = (
        "import sys\nfrom curricle.train.cli import main\n"
        "try: main(sys.argv[1:])\nexcept SystemExit: pass\n"
        "print('LOADED', sorted({'torch', 'transformers', 'numpy', 'pyarrow'} & set(sys.modules)))"
    )
    done = python(code, *arguments)
    assert "LOADED []" in done.stdout, done.stdout[-300:] + done.stderr
    assert "usage" in done.stdout


def test_help_names_curricula_and_each_shows_its_options(capsys):
    from dataclasses import fields

    from curricle.train.curricula import CURRICULA, show_options
    from curricle.train.settings import PlanSettings, RunSettings

    for settings in (RunSettings, PlanSettings):
        (text,) = (item.metadata["help"] for item in fields(settings) if item.name == "curriculum")
        names = text.partition(", …;")[0].removeprefix("the order: ").split(", ")
        assert len(names) >= 7 and set(names) <= set(CURRICULA)
    for name, curriculum in CURRICULA.items():
        with pytest.raises(SystemExit) as ended:
            show_options(name, "curricle-train run")
        assert ended.value.code == 0
        printed = capsys.readouterr().out
        for item in fields(curriculum):
            assert f"  --curriculum.{item.name.replace('_', '-')} " in printed


def test_the_trainer_imports_neither_half_of_the_curation():
    code = (
        "import sys\n"
        "import curricle.train.training.loop, curricle.train.cli, curricle.train.comparison.run\n"
        "import curricle.train.ordering.plan, curricle.train.reporting.page, curricle.train.reporting.verification\n"
        "absent = {'curricle.curate', 'curricle.pipelines', 'apache_beam', 'vllm', 'peft', 'tensorboard'}\n"
        "print(sorted(absent & set(sys.modules)))"
    )
    done = python(code)
    assert done.stdout.strip() == "[]", done.stdout + done.stderr


def test_a_file_of_the_users_own_does_not_shadow_ours(tmp_path):
    (tmp_path / "train.py").write_text("raise SystemExit('the wrong train')")
    done = python("import sys; from curricle.train.cli import main; sys.exit(main(['--help']))", cwd=tmp_path)
    assert done.returncode == 0, done.stderr


def test_refusals_exit_with_2_and_write_nothing(command, train_in_fork, tmp_path, table_file):
    table = pq.read_table(table_file)

    def changed(name: str, **columns: pa.Array) -> list[str]:
        result = table
        for column, values in columns.items():
            index = result.schema.get_field_index(column)
            result = result.set_column(index, result.schema.field(index), values)
        pq.write_table(result, tmp_path / f"{name}.parquet")
        return ["--data", str(tmp_path / f"{name}.parquet")]

    pq.write_table(table.drop_columns(["loss"]), tmp_path / "without.parquet")
    pq.write_table(table.slice(0, 1), tmp_path / "one.parquet")
    nulls = pa.nulls(len(table), pa.float64())
    cases = {
        "there is no column 'loss'": ["--data", str(tmp_path / "without.parquet")],
        "every value of column 'loss' is null": changed("nulls", loss=nulls),
        "the table has 1 row": ["--data", str(tmp_path / "one.parquet")],
        "there is no such file or directory": ["--data", str(tmp_path / "absent")],
        "the model cannot be loaded": ["--model", str(tmp_path / "absent")],
        "did you mean 'campus'": ["--curriculum", "campsu"],
        "did you mean": ["--optimizer.warmap", "0.1"],
        "is not a whole number": ["--batch.size", "many"],
        "--batch.size is 0": ["--batch.size", "0"],
        "is less than --max-length": ["--batch.tokens", "100"],
        "unknown tracker": ["--log.tracker", "nothing"],
    }
    for words, more in cases.items():
        ended = train_in_fork(command(*more))
        assert ended.code == 2, f"{words}: {ended.text}"
        assert words in ended.text and "Traceback" not in ended.text
        assert not (tmp_path / "run").exists()


def test_the_largest_numbers_work(command, train_in_fork, tmp_path):
    most = str(2**63 - 1)
    names = ["--seed", "--eval.seed", "--batch.size", "--checkpoint.every", "--checkpoint.keep", "--log.every"]
    more = [part for name in [*names, "--eval.every", "--budget.tokens"] for part in (name, most)]
    for curriculum in ("random", "paced"):
        rest = command(
            *(*more, "--eval.rows", "8", "--budget.steps", "2", "--curriculum", curriculum), output=curriculum
        )
        done = train_in_fork(rest)
        assert done.code == 0, done.text
    done = train_in_fork(command(*more, "--eval.rows", most, "--budget.steps", "2", output="none"))
    assert done.code == 2 and "leaves none of 64 rows to train on" in done.text, done.text


def test_yaml_and_flags_say_the_same(command, train_in_fork, tmp_path):
    flags = command("--budget.steps", "1", "--curriculum", "random", output="flags")
    assert train_in_fork(flags).code == 0
    config = tmp_path / "run.yaml"
    pairs = dict(zip(flags[1::2], flags[2::2], strict=True))
    nested: dict = {}
    for flag, value in {**pairs, "--output": str(tmp_path / "yaml")}.items():
        *groups, key = flag.removeprefix("--").split(".")
        path = nested
        for group in groups:
            path = path.setdefault(group, {})
        path[key] = value
    import yaml

    config.write_text(yaml.safe_dump(nested))
    done = train_in_fork(["run", "--config", str(config)])
    assert done.code == 0, done.text
    one, other = (json.loads((tmp_path / run / "run.json").read_text())["identity"] for run in ("flags", "yaml"))
    assert one == other


def test_a_path_that_cannot_be_written_is_refused_before_anything_is_read(tmp_path):
    (tmp_path / "file").write_text("")
    paths = ["--data", str(tmp_path / "absent"), "--model", "absent", "--output", str(tmp_path / "file" / "run")]
    for name in ("compare", "plan"):
        with pytest.raises(UsageError, match="file: is a file"):
            COMMANDS[name]([each for each in paths if name == "compare" or each not in ("--model", "absent")])
    with pytest.raises(UsageError, match="file: is a file"):
        COMMANDS["report"]([str(tmp_path / "file")])


def test_a_run_that_cannot_be_written_is_refused_before_the_model_is_loaded(command, train_in_fork, tmp_path):
    (tmp_path / "file").write_text("")
    ended = train_in_fork(command("--model", str(tmp_path / "absent"), output="file/run"))
    assert ended.code == 2 and "file: is a file" in ended.text and "absent" not in ended.text
