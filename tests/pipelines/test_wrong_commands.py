"""What a newcomer types wrong: each gets a message that says what to do, before anything heavy is imported."""

import pytest
import wrong_commands
from table_maker import make_table, random_scores

WRONG = {
    "a command that is none": ("scor raw.jsonl --output out", "did you mean 'score'?"),
    "an option that is none": ("score raw.jsonl --ouput out", "did you mean '--output'?"),
    "no output": ("score raw.jsonl", "--output is required"),
    "no input": ("score --output out", "INPUTS is required"),
    "a metric that is none": ("score raw.jsonl --output out --metrics lenght", "did you mean 'length'?"),
    "words for a number": ("score raw.jsonl --output out --workers two", "--workers is 'two', which is not a whole"),
    "an input that is not there": ("score rwa.jsonl --output out", "rwa.jsonl: there is no such file"),
    "a model's option": ("score raw.jsonl --output out --model gpt2", "did you mean --proxy.model or --embedding"),
    "a batch": ("score raw.jsonl --output out --batch-size 8", "here it is --proxy.batch-tokens"),
    "a name of others": ("score raw.jsonl --output_dir out", "here it is --output"),
    "processes": ("add table --metrics length --num_proc 4", "here it is --workers"),
    "an option of a group": ("score raw.jsonl --output out --proxy.modle x", "did you mean '--proxy.model'?"),
    "no option of a group": ("score raw.jsonl --output out --proxy.colour red", "there are: --proxy.backend"),
    "a device": ("score raw.jsonl --output out --proxy.device cuda", "here it is --proxy.backend: either takes a GPU"),
    "an output that is a file": ("score raw.jsonl --output raw.jsonl", "raw.jsonl: is a file"),
    "a config that is not there": ("score raw.jsonl --output out --config job.yml", "job.yml: there is no such file"),
    "a table that is not there": ("select tabel --output out --take random --count 1", "there is no such directory"),
    "raw data for a table": ("select raw.jsonl --output out --take random --count 1", "is a file, and no table"),
    "a table that is not finished": ("select begun --output out --take random --count 1", "not a finished table"),
    "a column that is not there": ("select table --output out --where losss<3", "did you mean 'loss'?"),
    "an end that is none": ("select table --output out --take hardest --by loss --count 1", "did you mean 'hard'?"),
    "no number of rows": ("select table --output out --take hard --by loss", "add --count 1000, --fraction 0.1"),
    "a file to join": ("select table --output out --join judged.csv", "judged.csv: there is no such file"),
    "shares": ("select table --output out --split a=0.8,b=0.1", "the shares of --split sum to 0.9"),
    "one table to put together": ("concat table --output out", "fewer than two tables are named"),
    "one table to compare": ("diff table", "NEW is required"),
    "a proof of nothing": ("verify tabel", "there is no such directory"),
    "a report of nothing": ("report tabel", "there is no such directory"),
    "the state of nothing": ("status tabel --json", "there is no job here"),
    "a plan that is none": ("run raw.jsonl", "raw.jsonl: "),
}
HEAVY = ("torch", "transformers", "matplotlib.axes", "scipy", "datasketch", "numba")


@pytest.fixture(scope="module")
def outcomes(tmp_path_factory) -> dict[str, wrong_commands.Outcome]:
    here = tmp_path_factory.mktemp("newcomer")
    make_table(here / "table", random_scores(8), rows=8)
    (here / "begun").mkdir()
    (here / "raw.jsonl").write_text('{"instruction": "Say it.", "output": "It."}\n')
    commands = [command.split() for command, _ in WRONG.values()]
    return dict(zip(WRONG, wrong_commands.outcomes("curricle.pipelines.cli", commands, HEAVY, here), strict=True))


@pytest.mark.parametrize("name", WRONG)
def test_a_wrong_command_is_refused_with_what_to_do_before_anything_heavy_is_imported(outcomes, name):
    wrong_commands.check(outcomes[name], WRONG[name][1])
