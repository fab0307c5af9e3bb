"""`curricle view`: what it finds, what it shows, to whom, and that a hostile row does nothing in a real browser."""

import http.client
import json
import re
import signal
import subprocess
import sys
from pathlib import Path
from urllib.parse import urlencode, urlsplit

import numpy as np
import pytest
from browser import Page, chromium
from curricle.pipelines.tables.reader import TableReader
from curricle.pipelines.view.pages import Address, Pages
from curricle.pipelines.view.rows import Query, RejectSheet, RowSheet
from curricle.schemas.common.errors import UsageError
from curricle.schemas.pages.text import visible
from running import read_data, start
from table_maker import HOSTILE, make_table, random_scores

ROWS = 400
REJECTS = [(f"no response: {text[:20]}", text) for text in HOSTILE] + [("line 7 is no JSON", None)]


@pytest.fixture(scope="module")
def table(tmp_path_factory):
    directory = tmp_path_factory.mktemp("view") / "<b>table"
    make_table(directory, random_scores(ROWS), rows=ROWS, rejects=REJECTS, parts=3)
    return directory


@pytest.fixture(scope="module")
def server(table):
    """The address that a running `curricle view` says."""
    process = start("view", table)
    line = next(line for line in process.stdout if line.startswith("look at"))
    yield line.split()[2]
    process.send_signal(signal.SIGINT)
    rest = process.stdout.read()
    assert process.wait(60) == 0, "Ctrl-C is how a view ends"
    assert not rest, "one line at its start, none for a request: its address holds the token"


def get(address: str, path: str = "", method: str = "GET", **headers: str) -> tuple[int, str, http.client.HTTPMessage]:
    parts = urlsplit(address)
    connection = http.client.HTTPConnection(parts.netloc, timeout=60)
    connection.request(method, parts.path + path, headers=headers)
    answer = connection.getresponse()
    return answer.status, answer.read().decode(), answer.headers


def test_what_is_found_is_what_is_in_the_table_in_the_order_asked_for(table):
    rows, data = RowSheet(TableReader(str(table))), read_data(table).to_pylist()
    loss = [row["loss"] for row in data]
    assert rows.find(Query()).tolist() == [*range(ROWS)]
    assert rows.find(Query(by="loss")).tolist() == sorted(range(ROWS), key=lambda row: loss[row])
    assert rows.find(Query(by="loss", high=True)).tolist() == sorted(range(ROWS), key=lambda row: -loss[row])
    condition = Query(where="loss < 1.5 and prompt_words >= 12", by="prompt_words")
    wanted = [row for row in range(ROWS) if loss[row] < 1.5 and data[row]["prompt_words"] >= 12]
    assert wanted and rows.find(condition).tolist() == sorted(wanted, key=lambda row: data[row]["prompt_words"])
    text = Query(search="FIBONACCI")
    holds = ["fibonacci" in json.dumps(row["messages"]).lower() for row in data]
    assert 0 < sum(holds) < ROWS and rows.find(text).tolist() == np.flatnonzero(holds).tolist()
    both = rows.find(Query(where="loss < 1.5", search="fibonacci"))
    assert both.tolist() == [row for row in range(ROWS) if holds[row] and loss[row] < 1.5]


def test_rows_without_a_value_come_last_and_meet_no_condition(table):
    rows, mtld = RowSheet(TableReader(str(table))), read_data(table)["response_mtld"].to_pylist()
    nulls = [row for row in range(ROWS) if mtld[row] is None]
    for high in (False, True):
        assert nulls and rows.find(Query(by="response_mtld", high=high))[-len(nulls) :].tolist() == nulls
    assert not set(nulls) & set(rows.find(Query(where="response_mtld < 1e9 or response_mtld >= 1e9")).tolist())


def test_a_list_shows_how_prompt_and_response_begin(table):
    rows, data = RowSheet(TableReader(str(table))), read_data(table)["messages"].to_pylist()
    wanted = np.array([0, 399, 64, 5])
    for row, (prompt, response) in zip(wanted, rows.starts(wanted), strict=True):
        user, assistant = (turn["content"] for turn in data[row])
        assert (prompt, response) == (user[: len(prompt)], assistant[: len(response)])
        assert len(prompt) == min(len(user), 160) and len(response) == min(len(assistant), 160)


def test_rejects_are_looked_through_like_rows(table):
    rejects = RejectSheet(TableReader(str(table)))
    assert rejects.find(Query(search="no json")).tolist() == [len(HOSTILE)]
    assert rejects.find(Query(search="EVIL.example")).tolist() == [
        i for i, text in enumerate(HOSTILE) if "evil" in text
    ]
    assert rejects.find(Query(where="source_position == 403")).tolist() == [3]
    assert rejects.whole(4)["raw"] == HOSTILE[4]
    with pytest.raises(UsageError, match="did you mean 'reason'"):
        rejects.find(Query(by="reasons"))


@pytest.mark.parametrize(
    ("where", "words"),
    [
        ("los < 1", "did you mean &#39;loss&#39;?"),
        ("loss", "write a condition"),
        ("__import__('os')", "has no meaning"),
        ("1 < 2", "names no column"),
    ],
)
def test_a_condition_that_is_wrong_is_said_on_the_page(server, where, words):
    status, page, _ = get(server, "?" + urlencode({"where": where}))
    assert status == 400 and words in page


def test_nobody_reads_without_the_token_or_under_another_name(server):
    own = urlsplit(server)
    for path in ("/", "/x/", own.path[:-2] + "/", own.path + "row/", "/row/3", own.path + "../", own.path + "row/400"):
        status, page, _ = get(f"http://{own.netloc}", path)
        assert status in (403, 404) and "table" not in page, path
    assert get(server, Host=f"evil.example:{own.port}")[0] == 403
    assert get(server, method="POST")[0] == 405
    status, page, headers = get(server, Host=f"localhost:{own.port}")
    assert status == 200 and f"of {ROWS} that were found" in page
    assert headers["Referrer-Policy"] == "no-referrer" and headers["Cache-Control"] == "no-store"
    assert headers["Content-Security-Policy"].startswith("default-src 'none'; style-src 'unsafe-inline'; form-action")


def test_pages_of_a_list_are_all_of_it_once(server):
    numbers = []
    for page in range(1, 17):
        numbers += re.findall(r'href="row/(\d+)"', get(server, f"?by=loss&page={page}")[1])
    assert len(numbers) == ROWS == len(set(numbers))
    assert get(server, "?page=999999999999")[1] == get(server, "?page=16")[1], "behind the last page is the last"
    assert "Rows 1 to 25" in get(server, "?page=%00<script>")[1]


def test_every_row_and_reject_is_shown_and_escaped(server, table):
    data = read_data(table).to_pylist()
    for row in (*range(0, len(HOSTILE)), ROWS - 1):
        status, text, _ = get(server, f"row/{row}")
        page = Page(text)
        assert status == 200 and page.tags.isdisjoint({"script", "img", "iframe", "object", "base"})
        assert all(visible(turn["content"])[:1000] in page.text for turn in data[row]["messages"])
    status, text, _ = get(server, f"reject/{len(HOSTILE)}")
    assert status == 200 and "line 7 is no JSON" in text
    assert get(server, f"reject/{len(REJECTS)}")[0] == 404


LOOK = """
import json, sys
from playwright.sync_api import sync_playwright
address, chromium, pictures = sys.argv[1:]
heard = []
with sync_playwright() as playwright:
    browser = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
    for width in (390, 1400):
        page = browser.new_context(viewport={"width": width, "height": 900}).new_page()
        page.set_default_timeout(300_000)
        page.on("console", lambda message: heard.append(f"console: {message.text}"))
        page.on("pageerror", lambda error: heard.append(f"error: {error}"))
        page.on("dialog", lambda dialog: (heard.append("a dialog"), dialog.dismiss()))
        page.on("request", lambda request: request.url.startswith(address) or heard.append(f"to {request.url}"))
        beyond = lambda: page.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth")
        page.goto(address)
        heard += [f"{beyond()} px too wide at {width}"] if beyond() else []
        page.screenshot(path=f"{pictures}/view-{width}.png", full_page=True)
        page.fill("input[name=where]", "loss < 1.5")
        page.select_option("select[name=by]", "loss")
        page.check("input[name=high]")
        page.click("button")
        losses = [float(text) for text in page.locator("tbody tr td:nth-child(7)").all_inner_texts()]
        assert losses == sorted(losses, reverse=True) and 1 < losses[0] < 1.5, losses
        page.click("a[rel=next] >> nth=0")
        assert "page 2 of" in page.inner_text("main"), page.url
        page.click("tbody tr th a >> nth=0")
        assert "/row/" in page.url
        for row in range(16):
            page.goto(f"{address}row/{row}")
            heard += [f"row {row}: {beyond()} px too wide at {width}"] if beyond() else []
            page.goto(f"{address}reject/{min(row, 12)}")
        page.screenshot(path=f"{pictures}/view-reject-{width}.png")
    browser.close()
print(json.dumps(heard))
"""


def test_in_a_browser_hostile_rows_run_nothing_and_no_request_leaves(server, tmp_path):
    if chromium() is None:
        pytest.skip("no Chromium is installed: apt-get install chromium")
    pictures = Path(__file__).resolve().parents[2] / "build" / "pictures"
    pictures.mkdir(parents=True, exist_ok=True)
    script = [sys.executable, "-c", LOOK, server, chromium() or "", str(pictures)]
    done = subprocess.run(script, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == []


@pytest.mark.parametrize("rejects", [[], REJECTS])
def test_a_table_without_rows_is_shown(tmp_path, rejects):
    make_table(tmp_path, {name: [] for name in random_scores(0)}, rows=0, rejects=rejects)
    table = TableReader(str(tmp_path))
    pages = Pages(RowSheet(table), RejectSheet(table))
    for query in (Query(), Query(where="loss < 1", search="x", by="loss")):
        text, fine = pages.list(Address(query))
        assert fine and "Nothing was found." in text
    text, _ = pages.list(Address(Query(), "rejects"))
    assert text.count('href="reject/') == len(rejects)


def test_a_table_that_changes_beneath_is_said_and_no_address_is_logged(tmp_path):
    make_table(tmp_path, random_scores(20), rows=20)
    process = start("view", tmp_path)
    address = next(line for line in process.stdout if line.startswith("look at")).split()[2]
    (tmp_path / "data").rename(tmp_path / "away")
    for path in ("row/3", "?search=x", "?by=loss"):
        status, text, _ = get(address, path)
        assert status == 500 and "is not there" in text and "start `curricle view` again" in text
    assert get(address, "?where=%ff")[:2] == (400, "This cannot be asked.\n")
    process.send_signal(signal.SIGTERM)
    assert process.stdout.read() == "" and process.wait(60) == 0


def test_a_table_that_is_damaged_and_a_port_that_is_taken_are_refused(table, server, tmp_path):
    (tmp_path / "none").mkdir()
    process = start("view", tmp_path / "none")
    assert process.wait(60) == 2 and "Traceback" not in process.stdout.read()
    process = start("view", table, "--port", urlsplit(server).port)
    assert process.wait(60) == 2
    assert "name another --port" in process.stdout.read()
