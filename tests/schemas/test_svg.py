"""Pictures in pages: colours of the page, text as text, nothing of a user's settings, and ids of their own."""

import re
import subprocess
import sys
from xml.etree import ElementTree

import matplotlib
import pytest
from curricle.schemas.pages.svg import colour, picture

NAMES = ("muted", "accent")


def drawing(key="a", words="A line", title="from <here> & there", box=None):
    def draw(axes):
        axes.plot([0, 1, 2], [0, 1, 4], color=colour(1))
        axes.set_title(title, color=colour(0))

    return picture(draw, NAMES, {"font.size": 9}, (4, 2), words, key, box)


@pytest.mark.parametrize("box", [None, (0.1, 0.1, 0.8, 0.7)])
def test_a_picture_is_of_the_page_that_it_stands_in(box):
    svg = drawing(words='A "line" & more', box=box)
    root = ElementTree.fromstring(svg.replace("xlink:", ""))
    assert root.attrib == {"role": "img", "aria-label": 'A "line" & more', "viewBox": "0 0 288 144"}
    assert "from <here> & there" in [text.text for text in root.iter() if text.tag.endswith("text")]
    assert "var(--accent)" in svg and "var(--muted)" in svg and not re.search("#0[1-9]0|font-family|<style", svg)


def test_ids_are_of_one_picture_and_the_rest_is_the_same():
    one, other = drawing("a"), drawing("b")
    ids = [{*re.findall(r'id="([^"]*)"', svg)} for svg in (one, other)]
    assert ids[0] and not ids[0] & ids[1]
    assert one == drawing("a") == other.replace("b-", "a-")


def test_settings_of_the_user_do_not_reach_it():
    before = drawing()
    with matplotlib.rc_context({"lines.linewidth": 9, "axes.grid": True, "font.size": 30}):
        assert drawing() == before
        assert matplotlib.rcParams["font.size"] == 30


def test_nothing_is_imported_before_something_is_drawn():
    code = "import sys, curricle.schemas.pages.svg; print({'matplotlib', 'markupsafe', 'numpy'} & {*sys.modules})"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"
