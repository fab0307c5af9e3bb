"""A server for one person on one machine: loopback only, and nothing without the token that stands in its address.

tornado, because it is server and routes in one, has no dependencies, and is what Jupyter runs on. A page elsewhere
could make a browser ask here, but does not know the token; and one that has its own name resolve to this machine is
refused by the name, so that it could not read an answer either.
"""

import asyncio
import hmac
import logging
import re
import secrets
from functools import partial
from typing import Any

import tornado.httpserver
import tornado.netutil
import tornado.web
from curricle.pipelines.tables.reader import TableReader
from curricle.pipelines.view.pages import Address, Pages
from curricle.pipelines.view.rows import Query, RejectSheet, RowSheet
from curricle.schemas.common import stop
from curricle.schemas.common.errors import UsageError, UserError
from curricle.schemas.common.surroundings import show

log = logging.getLogger("curricle")

HOST = "127.0.0.1"
HEADERS = {
    "Cache-Control": "no-store",
    "Content-Security-Policy": "default-src 'none'; style-src 'unsafe-inline'; form-action 'self'; base-uri 'none'; "
    "frame-ancestors 'none'",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Referrer-Policy": "no-referrer",  # the address holds the token
    "Server": "curricle",
    "X-Content-Type-Options": "nosniff",
}
LONGEST = 2_000
"""Characters of what is looked for."""
WORDS = {
    403: "The address is not the one that `curricle view` said.",
    404: "There is no such row.",
    500: "This could not be made into a page; the terminal says why.",
}


def serve(path: str, port: int) -> None:
    """Serve the table until SIGTERM or SIGINT. UsageError where there is none, or the port is taken; UserError where
    the table is damaged.
    """
    table = TableReader(path)
    table.check_bytes()
    try:
        (socket,) = tornado.netutil.bind_sockets(port, HOST)
    except OSError as error:
        raise UsageError(
            f"cannot listen: {error.strerror}", where=f"{HOST}:{port}", remedy="name another --port, or 0"
        ) from error
    log.info("reading %s rows and %s rejects", f"{table.manifest.total.scored:,}", f"{table.manifest.total.rejected:,}")
    pages, token = Pages(RowSheet(table), RejectSheet(table)), secrets.token_urlsafe(16)
    number = socket.getsockname()[1]
    address = HOST if number == 80 else f"{HOST}:{number}"  # as a browser names it
    asyncio.run(_serve(application(pages, token, address), socket, f"http://{address}/{token}/"))


async def _serve(handlers: tornado.web.Application, socket: Any, address: str) -> None:
    over, loop = asyncio.Event(), asyncio.get_running_loop()
    server = tornado.httpserver.HTTPServer(handlers)
    server.add_sockets([socket])

    def answer() -> bool:
        loop.call_soon_threadsafe(over.set)
        return True

    with stop.answered_by(answer):
        show(f"look at {address} until you press Ctrl-C; whoever has this address can read the table")
        await over.wait()
    server.stop()


def application(pages: Pages, token: str, address: str) -> tornado.web.Application:
    """``address``: HOST:PORT, under which alone it answers. No request is logged: its address holds the token."""
    given = {"pages": pages, "token": token, "address": address}
    routes = [(r"/([\w-]+)/", _List, given), (r"/([\w-]+)/(row|reject)/([0-9]{1,12})", _Row, given)]
    return tornado.web.Application(
        [*routes, (r".*", _Nothing, given)], log_function=lambda handler: None, compress_response=False
    )


class _Page(tornado.web.RequestHandler):
    def initialize(self, pages: Pages, token: str, address: str) -> None:
        self.pages, self.token, self.address = pages, token, address

    def set_default_headers(self) -> None:
        for name, value in HEADERS.items():
            self.set_header(name, value)

    def prepare(self) -> None:
        name = self.request.host.replace("localhost", HOST)
        given = (self.path_args or [""])[0]
        if name != self.address or not hmac.compare_digest(given.encode(), self.token.encode()):
            raise tornado.web.HTTPError(403)

    def write_error(self, status_code: int, **about: Any) -> None:
        words = WORDS.get(status_code, "This cannot be asked.")
        if isinstance(error := about["exc_info"][1], UserError):
            words = f"{error}\nWas the table written again since? Then start `curricle view` again."
        self.set_header("Content-Type", "text/plain; charset=utf-8")
        self.finish(words + "\n")

    def log_exception(self, *about: Any) -> None:
        """What was asked wrongly, or could not be read, is said to whoever asked; the rest without the address."""
        if not isinstance(about[1], (tornado.web.HTTPError, UserError)):
            log.error("a page could not be made", exc_info=about)

    async def _off_the_loop(self, work: Any) -> Any:
        """What takes seconds, such as a search of a million texts, does not keep other pages waiting."""
        return await asyncio.get_running_loop().run_in_executor(None, work)


class _List(_Page):
    async def get(self, token: str) -> None:
        options = {name: self.get_query_argument(name, "")[:LONGEST] for name in ("where", "search", "by", "high")}
        query = Query(options["where"], options["search"], options["by"], options["high"] == "1")
        page = self.get_query_argument("page", "1")
        sheet = "rejects" if self.get_query_argument("sheet", "") == "rejects" else "rows"
        number = int(page) if re.fullmatch("[0-9]{1,12}", page) else 1
        text, could = await self._off_the_loop(partial(self.pages.list, Address(query, sheet, number)))
        self.set_status(200 if could else 400)
        self.finish(text)


class _Row(_Page):
    async def get(self, token: str, kind: str, row: str) -> None:
        text = await self._off_the_loop(partial(self.pages.one, "rows" if kind == "row" else "rejects", int(row)))
        if text is None:
            raise tornado.web.HTTPError(404)
        self.finish(text)


class _Nothing(_Page):
    pass
