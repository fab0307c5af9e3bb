"""On the machine without a network: what `tests/gpu/prepare.py` has packed, into an environment beside its torch.

    python3 tests/gpu/install.py [--parts gpu/parts] [--environment gpu/env]

The environment sees everything that this Python has. A package that is here is left as it is; ours is always new. It
needs the standard library and pip, and asks no index.
"""

import argparse
import hashlib
import json
import re
import shutil
import site
import subprocess
import sys
import sysconfig
import tarfile
import tempfile
import venv
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path

OURS = "curricle"


def join(parts: Path, whole: Path) -> None:
    """Put the parts together; SystemExit where one is missing or is not as it was."""
    with whole.open("wb") as file:
        for name, digest in json.loads((parts / "parts.json").read_text()).items():
            path = parts / name
            if not path.exists():
                sys.exit(f"{path} is missing: carry every part that parts.json names")
            block = path.read_bytes()
            if hashlib.sha256(block).hexdigest() != digest:
                sys.exit(f"{path} is not as it was packed: carry it again")
            file.write(block)


def make_environment(directory: Path) -> Path:
    """An environment that sees what this Python sees, which may be one itself; its python."""
    shutil.rmtree(directory, ignore_errors=True)
    venv.create(directory, system_site_packages=True, symlinks=True, with_pip=False)
    packages = Path(sysconfig.get_path("purelib", "venv", {"base": str(directory)}))
    paths = [*site.getsitepackages(), sysconfig.get_path("purelib"), sysconfig.get_path("platlib")]
    # a path alone would leave out what the .pth files there add
    beside = "".join(f"import site; site.addsitedir({path!r})\n" for path in dict.fromkeys(paths))
    (packages / "beside.pth").write_text(beside)
    return packages


def is_here(wheel: Path) -> bool:
    """Whether this Python has some version of what is in a wheel."""
    name = wheel.name.partition("-")[0]
    try:
        distribution(re.sub(r"[-_.]+", "-", name))
    except PackageNotFoundError:
        return False
    return name != OURS


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--parts", type=Path, default=Path("gpu/parts"))
    parser.add_argument("--environment", type=Path, default=Path("gpu/env"))
    options = parser.parse_args()
    packages = make_environment(options.environment.resolve())
    with tempfile.TemporaryDirectory() as path:
        whole = Path(path, "whole.tar")
        join(options.parts, whole)
        with tarfile.open(whole) as archive:
            archive.extractall(path, filter="data")
        wheels = [wheel for wheel in sorted(Path(path, "wheels").iterdir()) if not is_here(wheel)]
        command = [sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-index"]
        command += ["--no-deps", "--no-compile", "--no-cache-dir", "--target", packages, *wheels]
        subprocess.run([*map(str, command)], check=True)
    print(f"{options.environment}/bin/python has {', '.join(wheel.name.partition('-')[0] for wheel in wheels)}")


if __name__ == "__main__":
    main()
