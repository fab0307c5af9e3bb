"""`make docs`: the site is built without a warning, and asks nothing of a network when it is read."""

import re
import subprocess
import sys

from pages import REPOSITORY


def test_the_site_is_built_without_a_warning(tmp_path):
    command = [sys.executable, "-m", "sphinx", "-q", "-W", "--keep-going", "-d", tmp_path / "trees", "-b", "html"]
    done = subprocess.run(
        [*command, REPOSITORY / "docs", tmp_path / "site"], cwd=tmp_path, capture_output=True, text=True, timeout=600
    )
    assert done.returncode == 0, done.stderr
    pages = {path.name: path.read_text("utf-8") for path in (tmp_path / "site").glob("*.html")}
    assert {"index.html", "score.html", "train.html", "api.html", "contributing.html"} <= set(pages)
    assert "curricle.train.curricula.base.Curriculum" in pages["api.html"]
    fetched = re.compile(r"<(?:script|img|iframe)[^>]+src=\"(?:https?:)?//|<link[^>]+href=\"(?:https?:)?//")
    for name, text in pages.items():
        assert not fetched.search(text), f"{name} fetches {fetched.search(text)}"
    for sheet in (tmp_path / "site").rglob("*.css"):
        assert not re.search(r"url\([\"']?(?:https?:)?//|@import", sheet.read_text("utf-8")), sheet.name
