"""An HTTP server in a thread that speaks a forge's interface: routes, trouble, and a record of what was asked."""

import json
import re
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, NamedTuple
from urllib.parse import parse_qsl, unquote, urlsplit

from tests.contract.forge_world import Trouble


class Call(NamedTuple):
    """A request."""

    method: str
    path: str
    """Below the interface's root, as it was sent."""
    parts: tuple[str, ...]
    """What stood in the place of each `*` of the route, decoded."""
    query: Mapping[str, str]
    headers: Mapping[str, str]
    """Names in lower case."""
    body: Any


class Said(NamedTuple):
    """An answer."""

    status: int
    body: Any = None
    headers: Mapping[str, str] = {}


Handler = Callable[[Call], Said]


class ForgeServer:
    """Answers by routes such as `GET /repos/*/*`; a part of a path never has a slash in it unless it is encoded."""

    def __init__(self, root: str) -> None:
        self.root = root
        self.routes: list[tuple[str, re.Pattern[str], Handler]] = []
        self.calls: list[Call] = []
        self.stands = Trouble.NONE
        self.address = ""

    def route(self, method: str, path: str, handler: Handler) -> None:
        pattern = re.escape(path).replace(r"\*", "([^/]+)")
        self.routes.append((method, re.compile(pattern), handler))

    def is_known(self, call: Call) -> bool:
        """Say whether the credential is good."""
        raise NotImplementedError

    def unknown(self) -> Said:
        return Said(401, {"message": "401 Unauthorized"})

    def not_allowed(self) -> Said:
        return Said(403, {"message": "insufficient scope"})

    def limited(self) -> Said:
        return Said(429, {"message": "Retry later"}, {"retry-after": "30"})

    def answer(self, call: Call) -> Said:
        self.calls.append(call)
        match self.stands:
            case Trouble.LIMITED:
                return self.limited()
            case Trouble.OUTAGE:
                return Said(502, "Bad Gateway")
            case Trouble.NONSENSE:
                return Said(200, "<html>Please sign in</html>")
            case Trouble.REVOKED:
                return self.unknown()
            case Trouble.NOT_ALLOWED if call.method != "GET":
                return self.not_allowed()
            case Trouble.NONE | Trouble.NOT_ALLOWED:
                return self._routed(call) if self.is_known(call) else self.unknown()

    def _routed(self, call: Call) -> Said:
        for method, pattern, handler in self.routes:
            found = pattern.fullmatch(call.path)
            if found and method == call.method:
                return handler(call._replace(parts=tuple(unquote(part) for part in found.groups())))
        return Said(404, {"message": "404 Not Found"})

    def asked(self, method: str) -> list[Call]:
        """Return the requests of a method."""
        return [call for call in self.calls if call.method == method]

    @contextmanager
    def running(self) -> Iterator[None]:
        served = ThreadingHTTPServer(("127.0.0.1", 0), _handler(self))
        served.daemon_threads = True
        self.address = f"http://127.0.0.1:{served.server_port}"
        thread = threading.Thread(target=served.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield
        finally:
            served.shutdown()
            thread.join()
            served.server_close()


def _handler(server: ForgeServer) -> type[BaseHTTPRequestHandler]:
    class Answering(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        wbufsize = -1  # head and body in one packet: two wait for each other

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the name of the library
            pass

        def _do(self) -> None:
            url = urlsplit(self.path)
            sent = self.rfile.read(int(self.headers.get("content-length") or 0))
            call = Call(
                method=self.command,
                path=url.path.removeprefix(server.root),
                parts=(),
                query=dict(parse_qsl(url.query, keep_blank_values=True)),
                headers={name.lower(): value for name, value in self.headers.items()},
                body=json.loads(sent) if sent else None,
            )
            said = server.answer(call)
            text = isinstance(said.body, str)
            content = said.body.encode() if text else b"" if said.body is None else json.dumps(said.body).encode()
            self.send_response(said.status)
            self.send_header("content-type", "text/html" if text else "application/json")
            self.send_header("content-length", str(len(content)))
            for name, value in said.headers.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(content)

        do_GET = do_POST = do_PUT = do_PATCH = do_DELETE = _do  # noqa: N815 - the names of the library

    return Answering


def page_of(items: list[Any], call: Call, *, size: str, most: int) -> list[Any]:
    """Return the page that was asked for, of at most `most` items."""
    count = min(int(call.query.get(size, str(most))), most)
    start = (int(call.query.get("page", "1")) - 1) * count
    return items[start : start + count]
