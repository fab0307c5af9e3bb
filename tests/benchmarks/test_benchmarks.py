"""The benchmark's own code: rounds become ratios, rows are resumed, the page is written; and what others compute."""

import importlib.util
import json
import math
import statistics
import sys
from itertools import islice
from pathlib import Path

import harness
import machine
import polars as pl
import programs
import pytest
import torch
from curricle import curate
from harness import Comparison, Cost, Remark, Setting, Skipped, alternate, parsed, read, write
from peer_formulas import Reader, data_juicer_ifd, data_juicer_perplexity, dataflow_ifd, dataflow_perplexity
from report import BEGIN, END, draw, filled, table
from transformers import AutoModelForCausalLM, AutoTokenizer

HERE = Path(__file__).resolve().parent
REPOSITORY = HERE.parents[1]
HEAD = {"row": "P1", "commit": "abc", "began": "then", "share": 1.0, "minutes": 2.0, "machine": {"load": 1, "cores": 2}}


@pytest.fixture(scope="module")
def command():
    """The benchmark's command as a module."""
    spec = importlib.util.spec_from_file_location("benchmarks_main", HERE / "__main__.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def findings() -> list[harness.Finding]:
    ours, theirs = harness.Rounds([Cost(1.0, 2.0), Cost(2.0, 2.0)]), harness.Rounds([Cost(4.0, 2.0), Cost(4.0, 4.0)])
    return [
        Comparison("P1", "work", "another", ours, theirs, 2.5, note="a note"),
        Comparison("P1", "size", "a limit", [3.0], [4.0], 0.5, at_most=True),
        Comparison("P1", "work", "nothing to reach", [1.0], [1.0], None),
        Skipped("P1", "work", "a third", "it is not here"),
        Remark("P1", "A paragraph."),
    ]


def test_ratios_are_of_rounds_side_by_side():
    comparison, size, free, *_ = findings()
    assert comparison.ratios == [4.0, 2.0] and comparison.ratio == 3.0 and comparison.met
    assert comparison.processor == [1.0, 2.0]
    assert size.ratio == 0.75 and not size.met and size.processor is None
    assert free.met is None


def test_contenders_take_turns_and_the_warm_up_does_not_count():
    calls = []

    def contender(name: str):
        def cost(round: int) -> Cost:
            calls.append((round, name))
            return Cost(10.0 * round, float(round))

        return cost

    first, second = alternate(contender("a"), contender("b"), rounds=2)
    assert calls == [(0, "b"), (0, "a"), (1, "a"), (1, "b"), (2, "b"), (2, "a")]
    assert first == second == [10.0, 20.0] and first.processor == [1.0, 2.0]


def test_time_of_processes_that_a_contender_started_counts(tmp_path):
    burn = "import time; end = time.process_time() + 0.2\nwhile time.process_time() < end: pass"
    (took,) = alternate(lambda _: float(bool(programs.subprocess.run([sys.executable, "-c", burn]))), rounds=1)
    assert took.processor[0] >= 0.2


def test_a_row_is_read_as_it_was_written(tmp_path):
    write(tmp_path / "P1.json", HEAD, findings())
    head, again = read(tmp_path / "P1.json")
    assert head == HEAD and again == findings()
    assert not list(tmp_path.glob("*.tmp"))


def test_the_table_shows_every_finding():
    text = table(findings())
    assert "| P1 | work | another | 3× | 2: 2 – 4 | 1.5× | ≥ 2.5× | met | a note |" in text
    assert "| P1 | size | a limit | 0.75× | 1 |  | ≤ 0.5× | **missed** |  |" in text
    assert "- P1, work, against a third: it is not here" in text and "**P1.** A paragraph." in text


def test_the_picture_has_what_has_a_goal(tmp_path):
    nothing = Comparison("P1", "probes", "a limit", [0.0], [4.0], 0.5, at_most=True)
    draw([*(each for each in findings() if isinstance(each, Comparison)), nothing], "title", tmp_path / "bench.png")
    assert (tmp_path / "bench.png").stat().st_size > 1000


def test_the_page_is_written_between_its_marks_alone(tmp_path):
    write(tmp_path / "P1.json", HEAD, findings())
    page = filled(f"before {BEGIN} old {END} after", {"P1": json.loads((tmp_path / "P1.json").read_text())})
    assert page.startswith(f"before {BEGIN}\n\n| |") and page.endswith(f"{END} after") and " old " not in page
    assert "commit abc" in page and "load 1" in page
    with pytest.raises(AssertionError, match="marks"):
        filled("no marks", {})


def test_the_page_of_the_documentation_is_what_its_evidence_says(command):
    page = command.PAGE.read_text("utf-8")
    evidence = json.loads(command.EVIDENCE.read_text("utf-8"))
    assert page == filled(page, evidence)
    assert all(row == parsed(values)[0]["row"] for row, values in evidence.items())


def git(*arguments: object) -> str:
    identity = ("-c", "user.name=a", "-c", "user.email=a@b", "-c", "commit.gpgsign=false")
    command = ["git", "-C", machine.REPOSITORY, *identity, *arguments]
    return machine.subprocess.run([*map(str, command)], check=True, capture_output=True, text=True).stdout.strip()


def commit_all() -> str:
    git("add", ".")
    git("commit", "--quiet", "--message", "a commit")
    return machine.commit()


def test_a_second_run_measures_what_this_code_has_not(command, tmp_path, monkeypatch):
    """What is measured stays when it is committed to the documentation, and code that differs is measured again."""
    copy, output = tmp_path / "copy", tmp_path / "bench"
    (copy / "docs" / "evidence").mkdir(parents=True)
    monkeypatch.setattr(machine, "REPOSITORY", copy)
    assert machine.commit() == "" and not machine.is_code_of("")  # no history
    git("init", "--quiet")
    (copy / "code.py").write_text("1")
    (copy / "docs" / "evidence" / "benchmarks.json").write_text("{}")
    first = commit_all()
    assert len(first) == 12

    def is_there(share: float = 1.0) -> bool:
        return command.is_there("P1", output, share)

    def measured(share: float = 1.0) -> None:
        head = {**HEAD, "commit": machine.commit(), "share": share}
        write(command.results_in(output, share) / "P1.json", head, findings())

    assert not is_there()
    measured(0.1)
    assert is_there(0.1) and not is_there()  # a try on few rows is no measurement
    measured()
    measured(0.1)
    assert is_there() and not command.is_there("P2", output, 1.0)
    (copy / "docs" / "evidence" / "benchmarks.json").write_text('{"P1": 1}')
    assert is_there() and machine.commit() == first
    second = commit_all()
    assert is_there() and second != first

    (copy / "code.py").write_text("2")
    assert not is_there() and machine.commit() == f"{second}-dirty"
    measured()
    assert not is_there()  # which files it was measured with is not known
    commit_all()
    assert not is_there()
    measured()
    assert is_there()


def test_every_row_has_a_module_that_measures(command):
    for module in command.ROWS.values():
        assert "def measure(setting: Setting)" in (HERE / f"{module}.py").read_text("utf-8")


def test_a_commit_that_is_not_here_is_skipped_in_words(tmp_path):
    with pytest.raises(programs.NotInstalled, match="no commit 0000000"):
        programs.earlier_curricle("0" * 40, tmp_path)


def test_a_program_answers_questions_and_says_why_it_stopped(tmp_path):
    script = tmp_path / "script.py"
    script.write_text(
        f"import sys; sys.path.insert(0, {str(programs.PEER_FILES)!r})\n"
        "from answers import answer\n"
        "print('what it prints itself is no answer')\n"
        "answer(lambda rows: [1 / row for row in rows])\n"
    )
    program = programs.Program(Path(sys.executable), str(script), directory=tmp_path)
    values, cost = program.ask([1, 2])
    assert values == [1.0, 0.5] and cost.seconds > 0
    with pytest.raises(programs.NotInstalled, match="it stopped: ZeroDivisionError"):
        program.ask([0])
    program.close()


@pytest.fixture(scope="module")
def reader(tiny_model) -> Reader:
    model = AutoModelForCausalLM.from_pretrained(tiny_model, dtype=torch.float32).eval()
    return Reader(AutoTokenizer.from_pretrained(tiny_model), model)


def log_losses(reader: Reader, ids: list[int]) -> list[float]:
    """By hand: of every token but the first."""
    with torch.inference_mode():
        log_p = reader.model(torch.tensor([ids])).logits[0].double().log_softmax(-1)
    return [-float(log_p[index, token]) for index, token in enumerate(ids[1:])]


def test_what_data_juicer_leaves_out_is_the_first_token_of_the_response(reader):
    prompt, response = "Name two colours.", "Red and green are two."
    joined, alone = reader.ids(f"{prompt} {response}"), reader.ids(response)
    k = len(alone) - 1
    means = [statistics.mean(log_losses(reader, ids)[-k:]) for ids in (joined, alone)]
    assert data_juicer_ifd(reader, prompt, response) == pytest.approx(means[0] / means[1], rel=1e-4)
    assert data_juicer_perplexity(reader, prompt, response) == pytest.approx(math.exp(means[0]), rel=1e-4)


def test_of_a_response_of_one_token_data_juicer_scores_the_prompt(reader):
    assert len(reader.ids("a")) == 1
    whole = statistics.mean(log_losses(reader, reader.ids("Name a letter. a")))
    assert data_juicer_perplexity(reader, "Name a letter.", "a") == pytest.approx(math.exp(whole), rel=1e-4)
    assert math.isnan(data_juicer_ifd(reader, "Name a letter.", "a"))


def test_dataflow_divides_means_over_different_tokens_and_cuts_the_response_alone(reader):
    prompt, response = "Name two colours.", "Red and green are two."
    before, alone = reader.ids(f"{prompt}\n"), reader.ids(response)
    after = log_losses(reader, reader.ids(f"{prompt}\n{response}"))[len(before) - 1 :]
    assert len(after) == len(alone)
    by_itself = log_losses(reader, alone)
    expected = math.exp(statistics.mean(after) - statistics.mean(by_itself))
    assert dataflow_ifd(reader, prompt, response) == pytest.approx(expected, rel=1e-4)
    assert dataflow_perplexity(reader, prompt, response) == pytest.approx(
        math.exp(statistics.mean(by_itself)), rel=1e-4
    )
    # of 3 tokens that fit after the prompt 4 are scored alone, of which the first has no loss
    cut = dataflow_ifd(reader, prompt, response, max_length=len(before) + 3)
    assert cut == pytest.approx(math.exp(statistics.mean(after[:3]) - statistics.mean(by_itself[:3])), rel=1e-4)
    assert math.isnan(dataflow_ifd(reader, prompt, response, max_length=len(before)))
    assert math.isnan(dataflow_ifd(reader, prompt, "a"))


def test_ours_are_over_the_same_tokens_of_the_response_both_times(reader, tiny_model):
    prompt, response = "Name two colours.", "Red and green are two."
    examples, _ = curate.read([{"instruction": prompt, "output": response}])
    proxy = {"model": str(tiny_model), "template": "plain", "end_of_turn": "no"}
    scores = curate.score(examples, ["loss", "ifd"], proxy=proxy)
    ids = reader.ids(f"{prompt}\n{response}")
    own = log_losses(reader, ids)[-len(reader.ids(response)) :]
    assert scores["loss"][0].as_py() == pytest.approx(statistics.mean(own), rel=1e-4)
    bos = reader.tokenizer.bos_token_id
    alone = log_losses(reader, [bos, *reader.ids(response)])
    ratio = math.exp(statistics.mean(own) - statistics.mean(alone))
    assert scores["ifd_ppl_ratio"][0].as_py() == pytest.approx(ratio, rel=1e-4)


def test_the_functions_without_beam_compute_what_a_table_holds(shared_data, tmp_path):
    from alpaca import records
    from p4_jobs import without_beam

    source = tmp_path / "rows.jsonl"
    source.write_text("".join(f"{json.dumps(each)}\n" for each in islice(records(shared_data), 20)))
    without_beam("length,mtld", source, tmp_path / "alone")
    examples, _ = curate.read(str(source))
    columns = ["example_id", "prompt_tokens", "response_words", "response_mtld"]
    scores = pl.from_arrow(curate.score(examples, ["length", "mtld"]).select(columns))
    assert pl.read_parquet(tmp_path / "alone.parquet", columns=columns).equals(scores)


def test_few_rows_are_a_share_but_never_none():
    setting = Setting(Path(), Path(), Path(), share=0.01)
    assert [setting.rows(count) for count in (300_000, 200, 4)] == [3000, 8, 4]
    assert Setting(Path(), Path(), Path()).rows(200) == 200
