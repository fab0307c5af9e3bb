"""`curricle-train evaluate`: the harness's own numbers, beside the checkpoints, in report and compare."""

import copy
import functools
import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import datasets
import huggingface_hub.constants
import pytest
import yaml
from browser import check_inert
from curricle.schemas.common.errors import DirectoryLocked, UsageError, UserError
from curricle.train.evaluation.harness import _task_managers
from curricle.train.evaluation.task import Task
from curricle.train.records.evaluations import (
    Evaluation,
    TaskRecord,
    checkpoint_lock,
    final_figures,
    read_evaluations,
    write_tasks,
)
from lm_eval import tasks as harness_tasks
from lm_eval.tasks import _index

CHOICE = """task: colours
dataset_path: json
dataset_kwargs: {data_files: {test: %s}}
output_type: multiple_choice
test_split: test
doc_to_text: "{{question}}"
doc_to_choice: ["red", "green", "blue"]
doc_to_target: "{{answer}}"
metric_list: [{metric: acc}]
"""
OFFLINE = os.environ | {"HF_HUB_OFFLINE": "1", "HF_DATASETS_OFFLINE": "1", "TOKENIZERS_PARALLELISM": "false"}


def evaluate(*arguments: object) -> str:
    """As a person runs it: the harness is imported in the middle of the command, which takes seconds."""
    whole = [sys.executable, "-P", "-m", "curricle.train.cli", "evaluate", *map(str, arguments)]
    done = subprocess.run(whole, capture_output=True, text=True, env=OFFLINE)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout + done.stderr


@pytest.fixture(scope="module")
def harness() -> Iterator[None]:
    """The harness in this process, imported, and with what it reads of its own for every task read once."""
    import lm_eval.evaluator
    import lm_eval.models.huggingface  # noqa: F401

    folder, read = Path(harness_tasks.__file__).parent, _index.load_yaml
    once = functools.cache(read)

    def load_yaml(path: Path, **options: bool) -> dict:
        return copy.deepcopy(once(path, **options)) if path.is_relative_to(folder) else read(path, **options)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(_index, "load_yaml", load_yaml)
        harness_tasks.TaskManager()
        yield


@pytest.fixture
def evaluate_in_fork(harness, train_in_fork) -> Callable[..., str]:
    """The same in a process that is forked from this one."""

    def offline() -> None:
        huggingface_hub.constants.HF_HUB_OFFLINE = datasets.config.HF_HUB_OFFLINE = True

    def evaluate(*arguments: object, code: int = 0) -> str:
        done = train_in_fork(["evaluate", *map(str, arguments)], offline)
        assert done.code == code, done.text
        return done.text

    return evaluate


@pytest.fixture
def run(command, train_in_fork, tmp_path) -> Path:
    done = train_in_fork(command("--budget.steps", "2", "--curriculum", "random", "--checkpoint.every", "1"))
    assert done.code == 0, done.text
    return tmp_path / "run"


@pytest.fixture
def tasks(tmp_path) -> list[str]:
    """One of a YAML file, and ours over files."""
    lines = [
        {"question": f"The colour of a {name} is", "answer": k % 3} for k, name in enumerate(["cart", "horse"] * 4)
    ]
    (tmp_path / "colours.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    (tmp_path / "colours.yaml").write_text(CHOICE % (tmp_path / "colours.jsonl"))
    texts = ["the cart rolls over a quiet bridge", "two grey horses look for water and find old stones"]
    (tmp_path / "texts.jsonl").write_text("".join(json.dumps({"text": text}) + "\n" for text in texts))
    questions = [{"question": f"What is {k} and 1?", "answer": f"It is {k + 1}.\n#### {k + 1}"} for k in range(4)]
    (tmp_path / "questions.jsonl").write_text("".join(json.dumps(line) + "\n" for line in questions))
    return [str(tmp_path / "colours.yaml"), f"perplexity@{tmp_path}/texts.jsonl", f"gsm8k@{tmp_path}/questions.jsonl"]


def test_the_harness_alone_says_the_same_and_the_report_shows_it(run, tasks, tmp_path, train_in_fork, evaluate_in_fork):
    options = ["--num-fewshot", "0", "--tasks", ",".join(tasks)]
    output = evaluate(run, *options)
    (name,) = read_evaluations(run)
    assert name == "step-00000002", "the last checkpoint"
    figures = final_figures(run)
    assert {figure.task for figure in figures.values()} == {"colours", "perplexity", "gsm8k_file"}
    assert figures["gsm8k_file, exact_match, strict-match"].samples == 4
    checkpoint = run / "checkpoints" / name
    alone = [sys.executable, "-m", "lm_eval", "run", "--model", "hf", "--tasks", "colours", "--include_path", tmp_path]
    alone += ["--model_args", f"pretrained={checkpoint},dtype=float32", "--device", "cpu", "--batch_size", "8"]
    done = subprocess.run([*alone, "--output_path", tmp_path / "alone"], capture_output=True, text=True, env=OFFLINE)
    assert done.returncode == 0, done.stderr
    (path,) = (tmp_path / "alone").rglob("results_*.json")
    theirs = json.loads(path.read_text())["results"]["colours"]
    ours = figures["colours, acc"]
    assert (ours.value, ours.error) == (theirs["acc,none"], theirs["acc_stderr,none"])
    assert f"colours, acc: {ours.value:.4f} ± {ours.error:.4f} (8 questions" in output

    path = run / "evaluations" / "step-00000002.json"
    before = path.read_bytes()
    again = evaluate_in_fork(run, *options)
    assert "every task was asked before, in the same way" in again and path.read_bytes() == before
    assert train_in_fork(["verify", str(run)]).code == 0, "what lies beside the checkpoints spoils none"
    assert train_in_fork(["report", str(run)]).code == 0
    page = (run / "report.html").read_text("utf-8")
    check_inert(page)
    assert "word_perplexity" in page and "strict-match" in page


def test_the_harness_looks_for_its_tasks_once(run, tasks, tmp_path, harness, train_in_fork):
    """However many tasks and checkpoints; those of a folder, once as well."""
    builds, build = tmp_path / "builds", _index.TaskIndex.build

    def count() -> None:
        def build_and_count(paths: list[Path], **options: bool) -> dict:
            with builds.open("a") as file:
                file.writelines(f"{path.name}\n" for path in paths)
            return build(paths, **options)

        _index.TaskIndex.build = staticmethod(build_and_count)

    (tmp_path / "more.yaml").write_text((tmp_path / "colours.yaml").read_text().replace("task: colours", "task: more"))
    every = ",".join([*tasks[:2], str(tmp_path / "more.yaml")])
    options = ["--checkpoint", "all", "--limit", "1", "--tasks", every]
    done = train_in_fork(["evaluate", str(run), *options], count)
    assert done.code == 0, done.text
    assert [len(records) for records in read_evaluations(run).values()] == [3, 3]
    assert sorted(builds.read_text().split()) == sorted(["tasks", tmp_path.name])


def test_tasks_of_a_folder_and_the_harness_s_own_are_as_it_has_them_itself(tmp_path, harness):
    """Names that both have, tags and groups too."""
    for name, more in (("colours", ""), ("gsm8k", "tag: [math_word_problems, hues]\n"), ("shades", "tag: hues\n")):
        text = CHOICE.replace("task: colours", f"task: {name}") % "x.jsonl" + more
        (tmp_path / f"{name}.yaml").write_text(text)
    (tmp_path / "group.yaml").write_text("group: mmlu\ntask: [colours, hellaswag]\n")
    managers = _task_managers()
    assert managers(tmp_path).task_index == harness_tasks.TaskManager(include_path=tmp_path).task_index
    assert managers(tmp_path).task_index["gsm8k"] != managers(None).task_index["gsm8k"], "its own stay as they were"


def test_perplexity_is_that_of_the_model(run, tasks, evaluate_in_fork):
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    evaluate_in_fork(run, "--checkpoint", "all", "--tasks", tasks[1])
    for name, records in read_evaluations(run).items():
        model = AutoModelForCausalLM.from_pretrained(run / "checkpoints" / name)
        tokenizer = AutoTokenizer.from_pretrained(run / "checkpoints" / name)
        nll = words = 0.0
        for line in Path(tasks[1].partition("@")[2]).read_text().splitlines():
            text = json.loads(line)["text"]
            ids = torch.tensor([[tokenizer.bos_token_id or tokenizer.eos_token_id, *tokenizer.encode(text)]])
            nll -= model(ids).logits.log_softmax(-1)[0, :-1].gather(1, ids[0, 1:, None]).sum().item()
            words += len(text.split())
        figures = {figure.metric: figure.value for record in records for figure in record.figures}
        assert figures["word_perplexity"] == pytest.approx(torch.tensor(nll / words).exp().item(), rel=1e-4)
    assert len(read_evaluations(run)) == 2


def test_what_is_wrong_is_said_in_words(run, tasks, tmp_path, evaluate_in_fork):
    (tmp_path / "no_text.jsonl").write_text('{"title": "x"}\n')
    (tmp_path / "odd.py").write_text("def text(record):\n    assert record is None, 'of its own accord'\n")
    text = (tmp_path / "colours.yaml").read_text().replace('"{{question}}"', "!function odd.text")
    (tmp_path / "twin.yaml").write_text(text)
    (tmp_path / "odd").mkdir()
    (tmp_path / "odd" / "odd.yaml").write_text(text.replace("colours\n", "odd\n", 1))
    (tmp_path / "odd.py").rename(tmp_path / "odd" / "odd.py")
    wrong = {
        "did you mean hellaswag": (2, [run, "--tasks", "hellaswagg"]),
        "perplexity@FILE": (2, [run, "--tasks", "perplexity"]),
        "'text' is undefined": (1, [run, "--tasks", f"perplexity@{tmp_path}/no_text.jsonl"]),
        "there are: step-00000001, step-00000002": (2, [run, "--tasks", "x", "--checkpoint", "step-3"]),
        "there is no run here": (2, [tmp_path / "odd", "--tasks", "x"]),
        "give the task a name of its own": (2, [run, "--tasks", tmp_path / "twin.yaml"]),
        "failed: AssertionError: of its own accord": (1, [run, "--tasks", tmp_path / "odd" / "odd.yaml"]),
    }
    for words, (code, arguments) in wrong.items():
        output = evaluate_in_fork(*arguments, code=code)
        assert words in output, output
        assert "Traceback" not in output and "should not have happened" not in output
    assert not (run / "evaluations").exists()


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("gsm8@x.jsonl", "did you mean 'gsm8k'"),
        ("gsm8k@nowhere.jsonl", "there is no such file"),
        ("gsm8k@x.txt", "none of .jsonl"),
        ("nowhere.yaml", "there is no such file"),
        (str(Path(__file__).parents[1] / "data" / "README.yml"), "no such file"),
    ],
)
def test_tasks_over_files_that_are_not_there(text, words):
    with pytest.raises(UsageError, match=words):
        Task.of(text)


def test_gsm8k_over_a_file_is_the_harness_s_own_but_for_its_data(tasks):
    own = yaml.safe_load((Path(harness_tasks.__file__).parent / "gsm8k" / "gsm8k.yaml").read_text())
    ours = Task.of(tasks[2]).content
    for key in ("output_type", "doc_to_text", "doc_to_target", "generation_kwargs", "num_fewshot", "filter_list"):
        assert ours[key] == own[key], key
    assert ours["metric_list"] == own["metric_list"]


def test_a_checkpoint_is_asked_by_one_process_at_a_time(tmp_path):
    for _ in range(2):
        with (
            checkpoint_lock(tmp_path),
            pytest.raises(DirectoryLocked, match="another process asks"),
            checkpoint_lock(tmp_path),
        ):
            raise AssertionError("two at once")
    with pytest.raises(UserError, match="is gone"), checkpoint_lock(tmp_path / "step-00000001"):
        raise AssertionError("there is none")


def test_functions_and_files_that_a_task_refers_to_are_a_part_of_it(tmp_path):
    (tmp_path / "task.yaml").write_text(CHOICE % "x.jsonl")
    (tmp_path / "odd.py").write_text("def text(record):\n    return 'a'\n")
    alone = Task.of(str(tmp_path / "task.yaml")).digest
    (tmp_path / "odd.py").write_text("def text(record):\n    return 'b'\n")
    assert Task.of(str(tmp_path / "task.yaml")).digest == alone
    for line in ("doc_to_text: !function odd.text", "include: other.yaml"):
        (tmp_path / "task.yaml").write_text(CHOICE % "x.jsonl" + line + "\n")
        (tmp_path / "odd.py").write_text("def text(record):\n    return 'b'\n")
        before = Task.of(str(tmp_path / "task.yaml")).digest
        (tmp_path / "odd.py").write_text("def text(record):\n    return 'c'\n")
        assert Task.of(str(tmp_path / "task.yaml")).digest != before
    (tmp_path / "shared").mkdir()
    (tmp_path / "task.yaml").write_text(CHOICE % "x.jsonl" + "include: shared/all.yaml\n")
    digests = set()
    for code in ("a", "b"):
        (tmp_path / "shared" / "all.yaml").write_text("doc_to_text: !function odd.text\ninclude: ../task.yaml\n")
        (tmp_path / "shared" / "odd.py").write_text(f"def text(record):\n    return {code!r}\n")
        digests.add(Task.of(str(tmp_path / "task.yaml")).digest)
    assert len(digests) == 2


def test_evaluations_that_are_damaged_are_refused_by_name(tmp_path):
    path = tmp_path / "evaluations" / "step-00000001.json"
    write_tasks(path, [TaskRecord("x", {}, [Evaluation("x", "acc", 0.5, None, 3, 0)])])
    assert final_figures(tmp_path)["x, acc"].value == 0.5
    path.write_bytes(path.read_bytes()[:40])
    with pytest.raises(UserError, match="remove it"):
        final_figures(tmp_path)
