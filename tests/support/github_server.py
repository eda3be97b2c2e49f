"""GitHub in small: an HTTP server in a thread, with what it keeps in memory.

It checks who asks (the App's signature and times, tokens with their ends and permissions) and whether requests are as
GitHub's published OpenAPI description has them, and answers in the form of GitHub's own examples (`tests/data`).
A request that GitHub would not take is written to `faults`.
"""

import copy
import hashlib
import json
import re
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import cache
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, ClassVar, Final, NamedTuple
from urllib.parse import parse_qsl, unquote, urlencode, urlsplit

import jsonschema_rs
from joserfc import jwt
from joserfc.errors import JoseError
from joserfc.jwk import RSAKey

DATA: Final = Path(__file__).parents[1] / "data/forges/github"
APP: Final = 123_456
INSTALLATION: Final = 4_711
PERMISSIONS: Final = {
    "checks": "write",
    "contents": "read",
    "metadata": "read",
    "pull_requests": "write",
    "statuses": "write",
}


class Reply(NamedTuple):
    """An answer."""

    status: int
    body: Any = None
    headers: tuple[tuple[str, str], ...] = ()


class Asked(NamedTuple):
    """A request."""

    method: str
    path: str
    query: dict[str, str]
    headers: dict[str, str]
    """Names in lower case."""
    body: Any
    caller: "Token | None" = None


SUSPENDED: Final = Reply(403, {"message": "This installation has been suspended"})


class Token(NamedTuple):
    """A token of an installation."""

    permissions: dict[str, str]
    ends: float
    only: tuple[str, ...] = ()


@dataclass
class Repository:
    """A repository, as GitHub tells it, and what belongs to it."""

    facts: dict[str, Any]
    pulls: dict[int, dict[str, Any]] = field(default_factory=dict)
    comments: dict[int, dict[str, Any]] = field(default_factory=dict)
    reactions: set[tuple[int, str]] = field(default_factory=set)
    checks: list[dict[str, Any]] = field(default_factory=list)
    statuses: list[dict[str, Any]] = field(default_factory=list)
    commits: set[str] = field(default_factory=set)
    protected: set[str] = field(default_factory=lambda: {"main"})
    permissions: dict[str, tuple[int, str]] = field(default_factory=dict)
    """By login: id and permission."""
    installed: bool = True


@cache
def app_key() -> RSAKey:
    """Return the App's private key."""
    return RSAKey.generate_key(2048, private=True)


@cache
def described() -> dict[str, Any]:
    """Return GitHub's description of the requests that are used, by path and method."""
    paths: dict[str, Any] = json.loads((DATA / "openapi.json").read_text())["paths"]
    return paths


@cache
def _answers() -> dict[str, Any]:
    answers: dict[str, Any] = json.loads((DATA / "answers.json").read_text())
    return answers


def example(operation: str) -> Any:  # noqa: ANN401 - JSON
    """Return a copy of GitHub's own example of an answer."""
    return copy.deepcopy(_answers()[operation])


def stamp(seconds: float) -> str:
    """Return a time as GitHub writes it."""
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


class GitHub:
    """What GitHub keeps, and how it answers."""

    def __init__(self) -> None:
        self.address = ""
        self.repositories: dict[str, Repository] = {}
        self.renamed: dict[str, str] = {}
        self.tokens: dict[str, Token] = {}
        self.granted = dict(PERMISSIONS)
        self.suspended = False
        self.uninstalled = False
        self.hook = {"url": "https://elsewhere.example/", "content_type": "form", "insecure_ssl": "0"}
        self.events = ["issue_comment", "merge_group", "pull_request", "push", "repository"]
        self.always: Callable[[Asked], Reply | None] = lambda _: None
        """Answers instead, where it returns an answer."""
        self.issued: Callable[[str, Token], None] = lambda *_: None
        """Called with every token that is given."""
        self.requests: list[Asked] = []
        self.unchanged = 0
        """How many answers said that nothing had changed."""
        self.faults: list[str] = []
        self.lock = threading.RLock()
        self.ahead = 0.0
        """How far its clock is ahead of the machine's."""
        self._count = 10_000

    def next(self) -> int:
        """Return a number that was not used."""
        self._count += 1
        return self._count

    def now(self) -> float:
        """Return the time by its clock."""
        return time.time() + self.ahead

    def answer(self, asked: Asked) -> Reply:
        """Answer a request."""
        with self.lock:
            self.requests.append(asked)
            instead = self.always(asked)
            if instead is not None:
                return instead
            reply = _routed(self, asked)
            return self._conditional(asked, reply)

    def _conditional(self, asked: Asked, reply: Reply) -> Reply:
        if asked.method != "GET" or reply.status != 200:
            return reply
        etag = f'W/"{hashlib.sha256(json.dumps([reply.body, reply.headers]).encode()).hexdigest()}"'
        headers = (*reply.headers, ("ETag", etag))
        if asked.headers.get("if-none-match") != etag:
            return Reply(200, reply.body, headers)
        self.unchanged += 1
        return Reply(304, None, headers)


def _routed(hub: GitHub, asked: Asked) -> Reply:
    for template, methods in described().items():
        found = re.fullmatch(re.sub(r"\{(\w+)\}", r"(?P<\1>[^/]+)", template), asked.path)
        if found and asked.method.lower() in methods:
            return _checked(hub, asked, template, {name: unquote(value) for name, value in found.groupdict().items()})
    hub.faults.append(f"there is no {asked.method} {asked.path}")
    return Reply(404, {"message": "Not Found"})


def _checked(hub: GitHub, asked: Asked, template: str, parts: dict[str, str]) -> Reply:
    operation = described()[template][asked.method.lower()]
    wrong = _wrong(operation, asked)
    if wrong:
        hub.faults.append(f"{operation['operationId']}: {wrong}")
        return Reply(422, {"message": wrong})
    act, needs = _ROUTES[operation["operationId"]]
    denied, token = _denied(hub, asked, needs)
    if denied is not None:
        return denied
    if hub.uninstalled and ("installation" in template):
        return Reply(404, {"message": "Not Found"})
    if "repo" not in parts:
        return act(hub, asked._replace(caller=token), None, parts)
    return _in_repository(hub, asked._replace(caller=token), template, parts, act)


def _in_repository(hub: GitHub, asked: Asked, template: str, parts: dict[str, str], act: "Act") -> Reply:
    path = f"{parts['owner']}/{parts['repo']}"
    if path in hub.renamed:
        onward = hub.address + asked.path.replace(f"/{path}", f"/{hub.renamed[path]}", 1)
        status = 301 if asked.method == "GET" else 307
        return Reply(status, {"message": "Moved"}, (("Location", onward + _query(asked.query)),))
    repository = hub.repositories.get(path)
    if repository is None or not repository.installed:
        return Reply(404, {"message": "Not Found"})
    if asked.caller is not None and asked.caller.only and parts["repo"] not in asked.caller.only:
        return Reply(404, {"message": "Not Found"})
    return act(hub, asked, repository, parts)


def _query(query: dict[str, str]) -> str:
    return "?" + urlencode(query) if query else ""


def _wrong(operation: dict[str, Any], asked: Asked) -> str:
    """Return what GitHub's description does not have in a request."""
    known = {one["name"] for one in operation["parameters"] if one["in"] == "query"}
    if set(asked.query) - known:
        return f"unknown parameters {set(asked.query) - known}"
    if asked.headers.get("x-github-api-version") != "2022-11-28" or "user-agent" not in asked.headers:
        return "the version of the API or the user agent is missing"
    schema = operation.get("requestBody")
    if schema is None or asked.body is None:
        return "" if schema is None or asked.method == "GET" else "there is no body"
    errors = [
        f"{error.message} at {error.instance_path}" for error in _validator(json.dumps(schema)).iter_errors(asked.body)
    ]
    unknown = set(asked.body) - set(schema.get("properties", asked.body))
    return "; ".join(errors) or (f"unknown fields {unknown}" if unknown else "")


@cache
def _validator(schema: str) -> Any:  # noqa: ANN401 - a class of the library without a name
    return jsonschema_rs.validator_for(json.loads(schema))


def _denied(hub: GitHub, asked: Asked, needs: str) -> tuple[Reply | None, Token | None]:
    """Say why somebody may not ask, or whose token it is."""
    shown = asked.headers.get("authorization", "").removeprefix("Bearer ")
    if hub.suspended and needs != "app":
        return SUSPENDED, None
    if needs == "app":
        return (
            None if _is_app(shown, hub.now()) else Reply(401, {"message": "A JSON web token could not be decoded"})
        ), None
    token = hub.tokens.get(shown)
    if token is None or token.ends < hub.now():
        return Reply(401, {"message": "Bad credentials"}), None
    name, _, level = needs.partition(":")
    if token.permissions.get(name) not in ({"read", "write"} if level == "read" else {"write"}):
        return Reply(403, {"message": "Resource not accessible by integration"}), None
    return None, token


def _is_app(shown: str, now: float) -> bool:
    try:
        token = jwt.decode(shown, app_key(), algorithms=["RS256"])
    except (JoseError, ValueError):
        return False
    claims = token.claims
    return claims.get("iss") == str(APP) and claims["iat"] <= now < claims["exp"] <= claims["iat"] + 600


Act = Callable[[GitHub, Asked, Repository | None, dict[str, str]], Reply]
_ROUTES: Final[dict[str, tuple[Act, str]]] = {}


def route(operation: str, needs: str) -> Callable[[Act], Act]:
    """Register what answers an operation; `needs` is `app` or the permission that a token has to have."""

    def registered(act: Act) -> Act:
        _ROUTES[operation] = (act, needs)
        return act

    return registered


def paged(hub: GitHub, asked: Asked, items: list[Any], key: str = "") -> Reply:
    """Return one page of a list."""
    size, page = min(int(asked.query.get("per_page", "30")), 100), int(asked.query.get("page", "1"))
    shown = items[(page - 1) * size : page * size]
    links: list[str] = []
    if page * size < len(items):
        following = hub.address + asked.path + _query({**asked.query, "page": str(page + 1)})
        links = [f'<{following}>; rel="next"', f'<{hub.address}/x?page=9>; rel="last"']
    headers = (("Link", ", ".join(links)),) if links else ()
    return Reply(200, {"total_count": len(items), key: shown} if key else shown, headers)


class _Handler(BaseHTTPRequestHandler):
    hub: ClassVar[GitHub]
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True

    def _serve(self) -> None:
        size = int(self.headers.get("content-length") or "0")
        body = self.rfile.read(size)
        parts = urlsplit(self.path)
        asked = Asked(
            self.command,
            parts.path,
            dict(parse_qsl(parts.query)),
            {name.lower(): value for name, value in self.headers.items()},
            json.loads(body) if body else None,
        )
        self._send(self.hub.answer(asked))

    do_GET = do_POST = do_PATCH = do_PUT = do_DELETE = _serve  # noqa: N815 - names of the library

    def _send(self, reply: Reply) -> None:
        content = reply.body if isinstance(reply.body, bytes) else json.dumps(reply.body).encode()
        content = b"" if reply.status == 304 else content
        self.send_response(reply.status)
        for name, value in (*reply.headers, ("Content-Length", str(len(content)))):
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the library's name
        """Say nothing."""


@contextmanager
def serving(hub: GitHub) -> Iterator[GitHub]:
    """Serve on a free port of loopback, in a thread."""
    handler = type("Handler", (_Handler,), {"hub": hub})
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        server.daemon_threads = True
        hub.address = f"http://127.0.0.1:{server.server_address[1]}"
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield hub
        finally:
            server.shutdown()
            thread.join()
