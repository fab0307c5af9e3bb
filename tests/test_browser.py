"""The check of pages in a browser sees what it is to see."""

import pytest
from browser import Page, check_inert, faults

HARMFUL = """<!DOCTYPE html><html><body>
<div style="width: 900px">wide <small style="font-size: 4px">small</small></div>
<script>alert(1); console.log("hello")</script><img src="https://nowhere.invalid/x.png">
</body></html>"""


def test_a_page_that_does_harm_is_seen_to(tmp_path):
    path = tmp_path / "harmful.html"
    path.write_text(HARMFUL)
    result = "\n".join(faults(path))
    for words in (
        "wider than the screen",
        "'small' is 4.0 px",
        "a dialog",
        "says hello",
        "a request for https://nowhere",
    ):
        assert words in result
    assert "at 1400 px, light: it is" not in result, "there it fits"


@pytest.mark.parametrize("harm", ["<script></script>", "<p onclick='x'>", "<a href='https://a.invalid'>", "<img>"])
def test_a_page_that_could_do_harm_is_seen_to(harm):
    policy = "<meta content=\"default-src 'none'; style-src 'unsafe-inline'\">"
    check_inert(policy)
    with pytest.raises(AssertionError):
        check_inert(policy + harm)
    with pytest.raises(AssertionError):
        check_inert("<p>no policy</p>")
    assert Page("<p>a &lt;b&gt;</p>").text == "a <b>"
