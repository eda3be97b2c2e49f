"""Git over real HTTP on the loopback interface: `git http-backend` behind the standard library's server.

It can be told to ask for a user and password, to answer with an error, to redirect, or not to answer at all.
"""

import base64
import contextlib
import os
import subprocess
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

_FORWARDED = {
    "Content-Type": "CONTENT_TYPE",
    "Content-Encoding": "HTTP_CONTENT_ENCODING",
    "Git-Protocol": "GIT_PROTOCOL",
}


@dataclass
class GitServer:
    """What a test may turn, and what the server saw."""

    root: Path
    port: int = 0
    login: str = ""
    """`user:password` that is asked for; empty: everybody may read."""
    more_logins: set[str] = field(default_factory=set)
    """Others that are as good."""
    status: int = 0
    """Answer everything with this status."""
    redirect: str = ""
    """Send everybody there, to the same path."""
    silent: threading.Event | None = None
    """Answer nothing until it is set."""
    upload_silent: threading.Event | None = None
    """Answer nothing to what fetches objects until it is set."""
    asked: threading.Event = field(default_factory=threading.Event)
    """Set when something was asked that is not answered."""
    authorizations: list[str] = field(default_factory=list)
    """The header of each request that had one."""
    requests: list[str] = field(default_factory=list)

    def url(self, name: str) -> str:
        return f"http://127.0.0.1:{self.port}/{name}"


@contextlib.contextmanager
def git_server(root: Path) -> Iterator[GitServer]:
    """Serve the repositories below a directory."""
    told = GitServer(root)

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            answer(self, told)

        def do_POST(self) -> None:
            answer(self, told)

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the name is inherited
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    told.port = server.server_address[1]
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield told
    finally:
        for event in (told.silent, told.upload_silent):
            if event is not None:
                event.set()
        server.shutdown()
        thread.join()
        server.server_close()


def answer(request: BaseHTTPRequestHandler, told: GitServer) -> None:
    """Answer one request."""
    told.requests.append(request.path)
    if header := request.headers.get("Authorization"):
        told.authorizations.append(header)
    silence = told.silent or (told.upload_silent if request.command == "POST" and _fetches(request) else None)
    if silence is not None:
        told.asked.set()
        silence.wait()
    elif told.status:
        request.send_error(told.status)
    elif told.redirect:
        request.send_response(302)
        request.send_header("Location", told.redirect + request.path)
        request.end_headers()
    elif told.login and not _is_known(request, told):
        request.send_response(401)
        request.send_header("WWW-Authenticate", 'Basic realm="git"')
        request.end_headers()
    else:
        _serve(request, told)


def _fetches(request: BaseHTTPRequestHandler) -> bool:
    """Say whether objects are asked for; what was read of the body is put back for nobody, since nobody answers."""
    body = request.rfile.peek(64)[:64]  # type: ignore[attr-defined]
    return b"ls-refs" not in body


def _is_known(request: BaseHTTPRequestHandler, told: GitServer) -> bool:
    return request.headers.get("Authorization") in [_basic(one) for one in (told.login, *told.more_logins)]


def _basic(login: str) -> str:
    return "Basic " + base64.b64encode(login.encode()).decode()


def _serve(request: BaseHTTPRequestHandler, told: GitServer) -> None:
    path, _, query = request.path.partition("?")
    length = request.headers.get("Content-Length", "0")
    environment = {
        "PATH": os.environ["PATH"],
        "GIT_PROJECT_ROOT": str(told.root),
        "GIT_HTTP_EXPORT_ALL": "1",
        "GIT_CONFIG_GLOBAL": os.devnull,
        "PATH_INFO": path,
        "QUERY_STRING": query,
        "REQUEST_METHOD": request.command,
        "CONTENT_LENGTH": length,
        "REMOTE_ADDR": "127.0.0.1",
    } | {name: request.headers[header] for header, name in _FORWARDED.items() if header in request.headers}
    done = subprocess.run(
        ["git", "http-backend"],
        env=environment,
        input=request.rfile.read(int(length)),
        capture_output=True,
        check=False,
    )
    head, _, body = done.stdout.partition(b"\r\n\r\n")
    fields = [line.split(": ", 1) for line in head.decode().split("\r\n") if ": " in line]
    status = next((value.split()[0] for name, value in fields if name == "Status"), "200")
    with contextlib.suppress(BrokenPipeError, ConnectionResetError):  # git was killed by the test
        request.send_response(int(status))
        for name, value in fields:
            if name != "Status":
                request.send_header(name, value)
        request.send_header("Content-Length", str(len(body)))
        request.end_headers()
        request.wfile.write(body)
