"""The examples of docs/trainers.md run as they stand, and the page names every argument that is refused."""

import inspect
import os
import re

import pytest
from curricle.train.integrations import arguments
from pages import REPOSITORY, block

PAGE = "docs/trainers.md"


@pytest.mark.parametrize(("example", "last"), [("static", "sft/checkpoint-4"), ("adaptive", "campus/checkpoint-12")])
def test_the_examples_train_as_they_stand(example, last, tiny_model, write_signed, tmp_path, monkeypatch):
    write_signed(tmp_path / "scored" / "part.parquet", rows=16)
    (tmp_path / "org").mkdir()
    (tmp_path / "org" / "name").symlink_to(tiny_model)
    monkeypatch.chdir(tmp_path)
    _, lines = block(PAGE, f"trainers-{example}")
    if (pid := os.fork()) == 0:  # accelerate keeps a state in its process, and torch its threads
        code = 1
        try:
            os.environ["OMP_NUM_THREADS"] = "1"
            exec(lines, {})
            code = 0
        finally:
            os._exit(code)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
    assert (tmp_path / last / "trainer_state.json").exists()


def test_every_refused_argument_stands_in_the_guide():
    page = (REPOSITORY / PAGE).read_text("utf-8")
    source = inspect.getsource(arguments)
    names = {*re.findall(r'Fault\(\s*f?"(?:accelerator_config: )?(\w+)', source)} - {"nn"}
    assert len(names) > 8 and not [name for name in names if f"`{name}" not in page and name != "parallelism_config"]
