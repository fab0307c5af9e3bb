"""Pages in a browser: pictures at two widths and in both colour schemes, and what can be checked without a look.

    python tests/browser.py PICTURES PAGE.html …

Playwright drives a Chromium that is installed, in a process of its own, so that no test forks its threads. It measures
from outside: nothing runs in the pages, whose policy would forbid it.
"""

import json
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator, Sequence
from html.parser import HTMLParser
from itertools import product
from pathlib import Path

import pytest

WIDTHS, SCHEMES = (390, 1400), ("light", "dark")
TALLEST = 12_000
"""Pixels of a page that are on its picture."""
PICTURES = Path(__file__).resolve().parents[1] / "build" / "pictures"
"""Where a person may look at them after the tests."""

BEYOND = "document.documentElement.scrollWidth - document.documentElement.clientWidth"
SMALLEST = """() => {
  let smallest = [Infinity, ''];
  const texts = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  while (texts.nextNode()) {
    const parent = texts.currentNode.parentElement;
    if (!texts.currentNode.data.trim() || parent.closest('.hidden') || !parent.getClientRects().length) continue;
    const drawing = parent.closest('svg') && parent.getScreenCTM();
    const size = parseFloat(getComputedStyle(parent).fontSize) * (drawing ? Math.hypot(drawing.a, drawing.b) : 1);
    if (size < smallest[0]) smallest = [size, texts.currentNode.data.trim()];
  }
  return smallest;
}"""
OPEN = "document.querySelectorAll('details').forEach(each => each.open = true)"


def chromium() -> str | None:
    names = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
    return next(filter(None, map(shutil.which, names)), None)


def faults(*pages: Path) -> list[str]:
    """A line for each thing that is wrong with a page; its pictures are in ``build/pictures``, named as the page is."""
    if chromium() is None:
        pytest.skip("no Chromium is installed: apt-get install chromium")
    PICTURES.mkdir(parents=True, exist_ok=True)
    done = subprocess.run([sys.executable, __file__, PICTURES, *pages], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return [*map(str, json.loads(done.stdout))]


class Page(HTMLParser):
    """What a browser would act on, and the text that it would show."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: set[str] = set()
        self.attributes: list[tuple[str, str | None]] = []
        self.text = ""
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        self.attributes += attrs

    def handle_data(self, data: str) -> None:
        self.text += data


ACTIVE = {"script", "iframe", "object", "embed", "img", "image", "link", "form", "input", "base", "video", "audio"}


def check_inert(text: str) -> None:
    """AssertionError if something on a page could run or be fetched, or if its policy does not forbid both."""
    page = Page(text)
    assert page.tags.isdisjoint(ACTIVE), page.tags & ACTIVE
    assert ("content", "default-src 'none'; style-src 'unsafe-inline'") in page.attributes
    for name, value in page.attributes:
        assert not name.startswith("on"), (name, value)
        if name in ("href", "src", "xlink:href"):
            assert (value or "").startswith("#"), value
        if name == "style":
            assert "url(" not in (value or "")
    for style in re.findall(r"<style>(.*?)</style>", text, re.DOTALL):
        assert "@import" not in style
        assert all(target.startswith("#") for target in re.findall(r"url\(([^)]*)\)", style))


def _look(pictures: Path, pages: Sequence[Path]) -> Iterator[str]:
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        # a root, as in a container, has no sandbox there; the pages are ours and offline
        browser = playwright.chromium.launch(executable_path=chromium(), args=["--no-sandbox"])
        for path in pages:
            for width, scheme in product(WIDTHS, SCHEMES):
                context = browser.new_context(
                    viewport={"width": width, "height": 900}, color_scheme=scheme, offline=True
                )
                page = context.new_page()
                page.set_default_timeout(300_000)  # a busy machine is no fault of a page
                where, heard = f"{path.stem} at {width} px, {scheme}", list[str]()
                page.on("console", lambda message, heard=heard: heard.append(f"the console says {message.text}"))
                page.on("pageerror", lambda error, heard=heard: heard.append(f"an error: {error}"))
                page.on("dialog", lambda dialog, heard=heard: (heard.append("a dialog"), dialog.dismiss()))
                page.on("request", lambda request, heard=heard: heard.append(f"a request for {request.url}"))
                page.goto(path.resolve().as_uri())
                height = min(page.evaluate("document.documentElement.scrollHeight"), TALLEST)
                page.screenshot(
                    path=pictures / f"{path.stem}-{width}-{scheme}.png",
                    full_page=True,
                    clip={"x": 0, "y": 0, "width": width, "height": height},
                )
                for state in ("", ", all opened"):
                    if beyond := page.evaluate(BEYOND):
                        heard.append(f"it is {beyond} px wider than the screen{state}")
                    size, text = page.evaluate(SMALLEST)
                    if size < 10:
                        heard.append(f"{text[:40]!r} is {size:.1f} px large{state}")
                    page.evaluate(OPEN)
                own, *others = heard
                assert own == f"a request for {path.resolve().as_uri()}"
                yield from (f"{where}: {fault}" for fault in others)
                context.close()
        browser.close()


if __name__ == "__main__":
    print(json.dumps([*_look(Path(sys.argv[1]), [*map(Path, sys.argv[2:])])]))
