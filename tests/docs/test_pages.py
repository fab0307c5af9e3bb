"""Every command and every block of code in README and docs, as it stands there.

The pages share one directory, in which `data/` holds a few short conversations, and they run in the order in which a
reader would follow them: what README scores, the guides go on with. ``pages.Block`` says how a page marks a block
that is to be made quick, or cannot be run here.
"""

import contextlib
import glob
import json
import re
import shlex
import shutil
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml
from curricle.pipelines import cli
from curricle.train import cli as train_cli
from curricle.train.curricula import CURRICULA
from pages import REPOSITORY, Block, all_pages, blocks

MAIN = {"curricle": cli.main, "curricle-train": train_cli.main}
# what starts a command: its name, its module under torchrun, or the image whose entry point it is
NAMES = dict.fromkeys(("curricle", "curricle:pipeline", "curricle:beam-worker"), "curricle")
NAMES |= dict.fromkeys(("curricle-train", "curricle.train.cli", "curricle:trainer"), "curricle-train")
# the order in which pages go on with what others made; the rest need only the README's table
FIRST = ("README.md", "docs/add-columns.md", "docs/train.md")
PAGES = sorted(all_pages(), key=lambda page: (page not in FIRST, FIRST.index(page) if page in FIRST else 0))
LANGUAGES = {"sh", "python", "yaml", "toml", ""}  # and what the builder of the site takes, which begins with a brace
EXTRAS = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())["project"]["optional-dependencies"]


def commands(block: Block) -> Iterator[list[str]]:
    """The words of each command of a block, without comments and with continued lines as one."""
    for line in block.body.replace("\\\n", " ").splitlines():
        words = shlex.split(line, comments=True)
        while words and re.fullmatch(r"[A-Z_]+=\S*", words[0]):
            words = words[1:]
        if words:
            yield words


def of_curricle(words: list[str]) -> tuple[str, list[str]] | None:
    """The command and its arguments, by whichever name it is started."""
    for at, word in enumerate(words):
        rest = words[at + 1 :]
        if word in NAMES and rest and re.fullmatch("[a-z]+(-[a-z]+)*", rest[0]):
            return NAMES[word], rest
    return None


@pytest.fixture(scope="module")
def scratch(tmp_path_factory) -> Path:
    """Where the pages run: short rows of the sample, in every format and as a folder of files."""
    directory = tmp_path_factory.mktemp("pages")
    rows = []
    for line in (REPOSITORY / "tests" / "data" / "sample.jsonl").read_text("utf-8").splitlines():
        with contextlib.suppress(json.JSONDecodeError):
            rows.append((len(line), line, json.loads(line)))
    short = [line for size, line, row in sorted(rows) if row.get("output") or row.get("answer")][:12]
    (directory / "data" / "chats").mkdir(parents=True)
    (directory / "data" / "alpaca.jsonl").write_text("\n".join(short[:9]) + "\n", "utf-8")
    (directory / "data" / "chats" / "more.jsonl").write_text("\n".join(short[9:]) + "\n", "utf-8")
    shutil.copy(directory / "data" / "alpaca.jsonl", directory / "alpaca.jsonl")
    return directory


@pytest.fixture
def in_scratch(scratch, tiny_model, monkeypatch) -> Path:
    monkeypatch.chdir(scratch)
    monkeypatch.setenv("MODEL", "TINY")  # docs/score.md has a job file that names it
    tiny = scratch / "TINY"
    if not tiny.exists():
        tiny.symlink_to(tiny_model)
    return scratch


def helped(name: str, arguments: list[str], capsys) -> str:
    with pytest.raises(SystemExit) as done:
        MAIN[name]([*arguments, "--help"])
    assert not done.value.code
    return capsys.readouterr().out


def look_up(block: Block, words: list[str], capsys) -> None:
    """Each flag of a command that is not run stands in its help; each extra that is installed is one."""
    for extras in re.findall(r"curricle\[([\w,-]+)\]", " ".join(words)):
        assert set(extras.split(",")) <= set(EXTRAS), block.about
    if not (command := of_curricle(words)):
        return
    name, (kind, *rest) = command
    text = helped(name, [kind], capsys)
    for flag in re.findall(r"(?<!\S)--[\w.-]+", " ".join(rest)):
        if flag.startswith(("--beam.", "--dask.", "--train.")):
            continue  # of another program's options; the tests of the engines and of lp pass them on
        if flag.startswith("--curriculum."):
            chosen = rest[rest.index("--curriculum") + 1] if "--curriculum" in rest else "campus"
            assert flag in helped(name, [kind, "--curriculum", chosen], capsys), f"{block.about}: {flag}"
        else:
            assert re.search(rf"{re.escape(flag)}\b", text), f"{block.about}: {name} {kind} has no {flag}"


def run(block: Block, words: list[str], capsys) -> None:
    """A command as a shell would start it, in this process."""
    command = of_curricle(words)
    if not command:
        assert words[0] == "pip", f"{block.about}: only `curricle` and `curricle-train` are run; say why this is not"
        return look_up(block, words, capsys)
    name, arguments = command
    if arguments[-1] == "--help":
        helped(name, arguments[:-1], capsys)
        return None
    text = helped(name, arguments[:1], capsys)
    more = shlex.split(block.noted("with") or "")
    for flag, value in zip(more[::2], more[1::2], strict=True):
        arguments += [flag, value] if re.search(rf"{re.escape(flag)}\b", text) else []
    expanded = [file for word in arguments for file in (sorted(glob.glob(word)) if "*" in word else []) or [word]]
    code = MAIN[name](expanded)
    assert code == 0, f"{block.about}: {shlex.join(words)} ends with {code}\n{capsys.readouterr()}"
    return None


@pytest.mark.parametrize("page", PAGES)
def test_page(page, in_scratch, capsys):
    names: dict = {"__name__": "__main__"}
    claimed = "".join(path.read_text("utf-8") for path in (REPOSITORY / "tests").rglob("test_*.py"))
    for block in blocks(page):
        expected = block.language in LANGUAGES or block.language[0] == "{"
        assert expected, f"{block.about}: nothing runs {block.language!r}"
        if block.noted("not run") is not None:
            assert block.noted("not run"), f"{block.about}: say why it is not run"
            for words in commands(block) if block.language == "sh" else ():
                look_up(block, words, capsys)
        elif name := block.noted("file"):
            (in_scratch / name).write_text(block.body, "utf-8")
        elif block.note and block.noted("with") is None:
            marker = block.note.partition(":")[0]
            assert f'"{marker}"' in claimed, f"{block.about}: no test takes the block {marker!r}"
        elif block.language == "sh":
            for words in commands(block):
                run(block, words, capsys)
        elif block.language == "python":
            exec(compile(block.body, f"<{block.about}>", "exec"), names)
        elif block.language == "yaml":
            assert yaml.safe_load(block.body)
        elif block.language == "toml":
            assert tomllib.loads(block.body)


def test_every_flag_that_a_sentence_names_is_one_of_a_command(capsys):
    """Those in code within the text of a page, which no block of it shows."""
    help_texts = []
    for name, main in MAIN.items():
        main([])
        for kind in re.findall(r"^  ([a-z-]+) ", "".join(capsys.readouterr()), re.MULTILINE):
            help_texts.append(helped(name, [kind], capsys))
    curricula = [helped("curricle-train", ["run", "--curriculum", name], capsys) for name in CURRICULA]
    expected = set(re.findall(r"--[\w.-]+", "\n".join([*help_texts, *curricula])))
    assert {"--metrics", "--budget.samples", "--curriculum.by"} <= expected
    others = (
        "--beam.",
        "--dask.",
        "--train.",
        "--no-deps",
        "--no-nanny",
        "--long",
        "--user",
        "--network",
        "--overwrite",
        "--sft",
        "--dataloader-type",
    )
    others += ("--size", "--rows", "--pool", "--part")  # of the experiments in docs/evidence
    for page in all_pages():
        text = re.sub(r"^```.*?^```$", "", (REPOSITORY / page).read_text("utf-8"), flags=re.MULTILINE | re.DOTALL)
        for code in re.findall(r"`([^`]+)`", text):
            own = "./" in code  # of a plug-in that the page writes; its blocks have a test
            for flag in re.findall(r"(?<![\w-])--[a-z][\w.-]*", code):
                assert own or flag in expected or flag.startswith(others), f"{page}: {flag} in `{code}`"
