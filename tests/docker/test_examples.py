"""The examples of jobs, each read by the library that it is written for, and every command by its own parser."""

import json
import os
import re
import shlex
import subprocess
import sys
import sysconfig
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

import kubernetes_validate
import pytest
import yaml
from croniter import croniter
from curricle.pipelines.cli import DirectorySettings, PoolSettings
from curricle.pipelines.settings.score import ScoreSettings
from curricle.schemas.common.flags import parse
from curricle.train.settings import RunSettings

DOCKER = Path(__file__).resolve().parents[2] / "docker"
EXAMPLES = DOCKER / "examples"
SCRIPTS = sorted(EXAMPLES.glob("*.sh"))
SETTINGS = {
    "score": ScoreSettings,
    "status": DirectorySettings,
    "verify": DirectorySettings,
    "report": DirectorySettings,
    "workers": PoolSettings,
    "run": RunSettings,
}


@pytest.fixture(autouse=True)
def environment(monkeypatch):
    monkeypatch.setenv("CURRICLE_INPUT", "data/*.jsonl")
    monkeypatch.setenv("CURRICLE_OUTPUT", "scored")


def lines(path: Path) -> Iterator[str]:
    """The lines of a file that a shell could read, with those that are continued made one."""
    text = path.read_text("utf-8").replace("\\\n", " ")
    if path.suffix == ".md":
        text = "\n".join(re.findall(r"^```sh\n(.*?)^```", text, re.MULTILINE | re.DOTALL))
    for line in text.splitlines():
        yield line.lstrip("# ")


def commands(path: Path) -> Iterator[list[str]]:
    """Every `curricle COMMAND …` and `curricle-train COMMAND …`, by its name or by its image's."""
    for line in lines(path):
        lexer = shlex.shlex(line, posix=True, punctuation_chars=True)
        lexer.whitespace_split = True
        try:
            words = list(lexer)
        except ValueError:  # prose with an apostrophe
            continue
        for index, word in enumerate(words[:-1]):
            if re.fullmatch(r"curricle(-train|:[\w-]+)?", word) and words[index + 1] in SETTINGS:
                rest = words[index + 1 :]
                end = next((i for i, word in enumerate(rest) if set(word) <= set("();<>|&")), len(rest))
                yield [word for word in rest[:end] if word != "${options[@]}"]


def check(command: list[str], config: Path = EXAMPLES / "job.yaml") -> ScoreSettings | RunSettings:
    arguments = [str(config) if before == "--config" else word for before, word in pairwise(command)]
    return parse(SETTINGS[command[0]], arguments, command[0])


FILES = [
    DOCKER / "README.md",
    DOCKER.parent / "docs" / "engines.md",
    DOCKER / "Dockerfile",
    DOCKER / "compose.yaml",
    *sorted(EXAMPLES.iterdir()),
]


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_commands_parse(path):
    for command in commands(path):
        check(command)


def test_commands_are_found():
    result = {path.name: [command[0] for command in commands(path)] for path in FILES}
    for script in ("dataflow.sh", "flink.sh", "spark.sh", "nightly.sh"):
        assert {"score", "verify"} <= set(result[script])
    assert {"score", "status", "verify", "run"} <= set(result["README.md"])
    assert {"score", "status", "workers"} <= set(result["engines.md"])


def test_compose_scores_with_options_that_curricle_has():
    services = yaml.safe_load((DOCKER / "compose.yaml").read_text())["services"]
    assert check(services["score"]["command"]).engine == "dask"


def test_job_file_takes_its_paths_from_the_environment():
    settings = check(["score", "--config", "job.yaml"])
    assert (settings.inputs, settings.output) == (("data/*.jsonl",), "scored")


def test_kubernetes_accepts_the_job(tmp_path):
    config, job = yaml.safe_load_all((EXAMPLES / "kubernetes-job.yaml").read_text())
    for resource in (config, job):
        kubernetes_validate.validate(resource, kubernetes_validate.latest_version(), strict=True)
    pod = job["spec"]["jobTemplate"]["spec"]["template"]["spec"]
    (container,) = pod["containers"]
    (tmp_path / "job.yaml").write_text(config["data"]["job.yaml"])
    assert check(container["args"], tmp_path / "job.yaml").proxy.backend == "vllm"
    assert {mount["name"] for mount in container["volumeMounts"]} == {volume["name"] for volume in pod["volumes"]}


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.name)
def test_scripts_are_clean(script):
    linter = Path(sysconfig.get_path("scripts"), "shellcheck")
    done = subprocess.run([linter, script], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stdout
    assert "\nset -euo pipefail\n" in script.read_text()


@pytest.mark.parametrize("name", ["dataflow", "flink", "spark"])
def test_beam_has_the_options_of_an_engine(name):
    from apache_beam.options.pipeline_options import PipelineOptions

    command = next(command for command in commands(EXAMPLES / f"{name}.sh") if command[0] == "score")
    settings = check(command)
    assert isinstance(settings, ScoreSettings) and settings.engine == name
    more = re.search(r"options\+=\(--beam\.(\w+) (.*)\)", (EXAMPLES / f"{name}.sh").read_text())
    assert more
    options = {**settings.beam, more[1]: more[2]}
    expected = PipelineOptions([f"--{option}={value}" for option, value in options.items()]).get_all_options()
    assert set(options) <= set(expected)


@pytest.mark.parametrize(
    ("codes", "code", "called"),
    [
        ([0, 0], 0, ["score", "verify"]),
        ([0, 1], 1, ["score", "verify"]),
        ([1, 0, 0], 0, ["score", "score", "verify"]),
        ([1, 1, 1], 1, ["score", "score", "score"]),
        ([2], 2, ["score"]),
        ([3], 3, ["score"]),
        ([4], 0, ["score"]),
        ([1, 4], 0, ["score", "score"]),
    ],
)
def test_nightly_script_goes_by_exit_codes(tmp_path, codes, code, called):
    """With a stand-in for `curricle` that ends with one code after another."""
    (tmp_path / "codes").write_text("".join(f"{code}\n" for code in codes))
    stand_in = 'echo "$1" >>called; code=$(head -n 1 codes); sed -i 1d codes; exit "$code"'
    for name, body in (("curricle", stand_in), ("sleep", "true")):
        (tmp_path / name).write_text(f"#!/bin/bash\n{body}\n")
        (tmp_path / name).chmod(0o755)
    done = subprocess.run(
        [EXAMPLES / "nightly.sh", "job.yaml"],
        cwd=tmp_path,
        env={**os.environ, "PATH": f"{tmp_path}:{os.environ['PATH']}"},
        capture_output=True,
        timeout=60,
    )
    assert (done.returncode, (tmp_path / "called").read_text().split()) == (code, called)


def test_cron_entry():
    *variables, entry = [line for line in (EXAMPLES / "cron").read_text().splitlines() if line and line[0] != "#"]
    assert all(re.fullmatch(r"[A-Z_]+=\S+", line) for line in variables)
    *times, user, command = entry.split(maxsplit=6)
    assert croniter.is_valid(" ".join(times))
    assert user == "curricle" and "%" not in command, "cron reads % as the end of the line"
    assert "/nightly.sh " in command and "||" in command


AIRFLOW = """
import json, sys, types
from airflow.dag_processing.dagbag import DagBag
from airflow.sdk.exceptions import AirflowException
from airflow.serialization.serialized_objects import DagSerialization
from kubernetes.client import models as k8s

bag = DagBag(sys.argv[1])
dag = bag.dags["curricle_score"]
score = dag.get_task("score")
# there is no cluster: a pod is read from here, and Airflow goes on when it cannot delete it
score.__dict__["pod_manager"] = types.SimpleNamespace(read_pod=lambda pod: pod)
outcomes = {}
for code in (0, 1, 2, 3, 4):
    ended = k8s.V1ContainerState(terminated=k8s.V1ContainerStateTerminated(exit_code=code))
    status = k8s.V1PodStatus(
        phase="Failed" if code else "Succeeded",
        container_statuses=[
            k8s.V1ContainerStatus(name="base", image="i", image_id="i", ready=False, restart_count=0, state=ended)
        ],
    )
    spec = k8s.V1PodSpec(containers=[k8s.V1Container(name="base")])
    pod = k8s.V1Pod(metadata=k8s.V1ObjectMeta(name="pod", namespace="curricle"), spec=spec, status=status)
    try:
        score.cleanup(pod, pod)
        outcomes[code] = None
    except AirflowException as error:
        outcomes[code] = type(error).__name__
print(json.dumps({
    "errors": bag.import_errors,
    "serialized": bool(DagSerialization.to_dict(dag)),
    "arguments": {task.task_id: task.arguments for task in dag.tasks},
    "downstream": {task.task_id: sorted(task.downstream_task_ids) for task in dag.tasks},
    "outcomes": outcomes,
}))
"""


def test_airflow_accepts_the_dag_and_goes_by_exit_codes(tmp_path):
    done = subprocess.run(
        [sys.executable, "-P", "-c", AIRFLOW, EXAMPLES / "airflow_dag.py"],
        env={**os.environ, "AIRFLOW_HOME": str(tmp_path), "KUBECONFIG": str(tmp_path / "none")},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
    result = json.loads(done.stdout.splitlines()[-1])
    assert not result["errors"] and result["serialized"]
    assert result["downstream"] == {"score": ["verify"], "verify": []}
    for arguments in result["arguments"].values():
        check(arguments)
    assert result["outcomes"] == {
        "0": None,
        "1": "AirflowException",
        "2": "AirflowFailException",
        "3": "AirflowFailException",
        "4": "AirflowSkipException",
    }
