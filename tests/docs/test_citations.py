"""What the code cites stands on a page of the repository, under the heading or law that is named."""

import re
import subprocess

import pytest
from pages import PACKAGES, REPOSITORY

SOURCES = [path for name in PACKAGES for path in sorted((REPOSITORY / name).rglob("*.py"))]
CITED = re.compile(r'docs/(?P<page>[\w-]+\.md)(?:,\s+(?:law (?P<law>\d+)|"(?P<heading>[^"]+)"))?')


def citations() -> set[tuple[str, str, str]]:
    texts = (re.sub(r"\s+", " ", path.read_text("utf-8")) for path in SOURCES)
    return {(hit["page"], hit["law"] or "", hit["heading"] or "") for text in texts for hit in CITED.finditer(text)}


def test_the_code_cites_design_and_methods():
    assert {page for page, law, heading in citations() if law or heading} == {"design.md", "methods.md"}
    assert {law for _, law, _ in citations() if law} >= {"1", "2", "3", "4", "5", "6"}


@pytest.mark.parametrize(("page", "law", "heading"), sorted(citations()))
def test_what_is_cited_is_there(page, law, heading):
    text = (REPOSITORY / "docs" / page).read_text("utf-8")
    if law:
        assert re.search(rf"^{law}\. \*\*", text, re.M), f"{page} has no law {law}"
    if heading:
        assert re.search(rf"^#+ {re.escape(heading)}$", text, re.M), f"{page} has no heading {heading!r}"


def test_files_that_methods_names_are_there():
    named = re.findall(
        r"`((?:curate|train|tests|schemas|pipelines)/[\w/.]+)`", (REPOSITORY / "docs/methods.md").read_text()
    )
    assert len(named) > 20 and not [path for path in named if not (REPOSITORY / path).exists()]


def test_nothing_outside_the_repository_is_cited():
    """Documents by a name in capitals, or above the repository, are what a reader cannot open."""
    outside = r"\b(DESIGN|METHODS|PEERS|HOUSE|BEAM)(\.md)?\b|\.\./shared/[A-Z]"
    hits = subprocess.run(
        ["git", "grep", "-nE", outside, "--", "*.py", "*.md", "*.toml", "Makefile", ":!tests/docs/test_citations.py"],
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
    )
    assert hits.stdout == ""
