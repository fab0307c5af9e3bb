"""Links between pages, and to files and headings of the repository, lead somewhere; README stays one page."""

import re
from pathlib import Path

import pytest
from pages import REPOSITORY, all_pages, blocks

PAGES = [*all_pages(), "CHANGELOG.md"]
LINK = re.compile(r"(?<!`)\[[^\]\n]*\]\(([^)\s]+)\)")
CODE = re.compile(r"^```.*?^```$|`[^`\n]+`", re.MULTILINE | re.DOTALL)
README_LINES = 180


def headings(path: Path) -> set[str]:
    """The anchors of a page, as GitHub and the site make them of its headings."""
    text = re.sub(r"^```.*?^```$", "", path.read_text("utf-8"), flags=re.MULTILINE | re.DOTALL)
    titles = re.findall(r"^#+ (.*)$", text, re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles}


@pytest.mark.parametrize("page", PAGES)
def test_every_link_leads_to_a_file_and_a_heading(page):
    path = REPOSITORY / page
    for link in LINK.findall(CODE.sub("", path.read_text("utf-8"))):
        if link.startswith(("https://", "http://")):
            continue  # `make links` asks them
        name, _, heading = link.partition("#")
        target = (path.parent / name).resolve() if name else path
        assert target.is_relative_to(REPOSITORY) and target.exists(), f"{page}: {link} leads nowhere"
        assert not heading or heading in headings(target), f"{page}: {link} names no heading"


def test_every_page_is_linked_from_the_readme_or_is_the_index():
    linked = set(LINK.findall((REPOSITORY / "README.md").read_text("utf-8")))
    included = {"docs/index.md", "docs/api.md", "docs/contributing.md", "docs/changelog.md", "docs/images.md"}
    assert {page for page in all_pages() if page.startswith("docs/")} - included <= linked


def test_a_dead_link_would_be_seen():
    assert LINK.findall("see [a](b.md) and [c](d.md#e)") == ["b.md", "d.md#e"]
    assert headings(REPOSITORY / "README.md") >= {"two-commands", "seven-laws", "where-things-are"}
    assert "two-command" not in headings(REPOSITORY / "README.md")


def test_the_readme_is_one_page():
    assert len((REPOSITORY / "README.md").read_text("utf-8").splitlines()) <= README_LINES


def files_of_rows(page: str) -> list[str]:
    """Each file and folder that a table of a page names in a row, or below a heading, that begins with a folder."""
    folder, result = "", []
    for row in (REPOSITORY / page).read_text("utf-8").splitlines():
        begins = re.match(r"\| `(\w+)/` \|", row)
        if begins and (REPOSITORY / begins[1]).is_dir():
            folder, row = begins[1], row[begins.end() :]
        elif not row.startswith("|"):
            folder = ""
        if folder:
            result += [f"{folder}/{name}" for name in re.findall(r"`([\w/]+(?:\.py|/))`", row)]
    return result


@pytest.mark.parametrize("page", ["README.md", "CONTRIBUTING.md"])
def test_a_tour_of_the_code_leads_to_files(page):
    names = files_of_rows(page)
    assert len(names) > 20
    for name in names:
        assert (REPOSITORY / name).exists(), f"{page}: {name}"


def test_the_readme_answers_three_questions_by_folder_and_file():
    """Where the loss of a row is computed, where an order is decided, and where a table is signed."""
    rows = (REPOSITORY / "README.md").read_text("utf-8").splitlines()
    answers = {
        "curate": ("how the loss of a row is computed", "metrics/loss.py", "def compute"),
        "pipelines": ("where a table is signed", "tables/sign.py", "def sign"),
        "train": ("where an order is decided", "curricula/campus/curriculum.py", "def decide"),
    }
    for folder, (question, file, code) in answers.items():
        (row,) = [row for row in rows if row.startswith(f"| `{folder}/` |")]
        assert f"**{question}**" in row and f"`{file}`" in row
        path = REPOSITORY / folder / file
        assert code in path.read_text("utf-8")


FILE = re.compile(r"`((?:curate|pipelines|schemas|train|tests|docker|docs)/[\w/.-]*)`")


@pytest.mark.parametrize("page", [page for page in PAGES if page != "CHANGELOG.md"])
def test_files_of_the_repository_that_a_page_names_are_there(page):
    text = re.sub(r"^```.*?^```$", "", (REPOSITORY / page).read_text("utf-8"), flags=re.MULTILINE | re.DOTALL)
    shown = {name for one in blocks(page) for name in one.note.split()}  # what a reader writes, by a block of the page
    for name in FILE.findall(text):
        assert name in shown or (REPOSITORY / name).exists(), f"{page}: {name}"
