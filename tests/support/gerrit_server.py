"""Gerrit as far as nixmill asks it, over real HTTP: checks who asks, at which address, and what is sent.

Form of answers: Gerrit's rest-api-changes.txt, rest-api-accounts.txt and rest-api-projects.txt.
"""

import base64
import hashlib
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

from tests.support import git_server

USER, PASSWORD, OWN_ID = "nixmill", "http-password", 1_000_000
TRUSTED = "known-people"
LABEL = "Verified"
MAGIC = b")]}'\n"
REVIEW_KEYS = {
    "message", "tag", "labels", "notify", "drafts", "omit_duplicate_comments", "ignore_automatic_attention_set_rules",
}  # fmt: skip
Json = Any


def stamp(at: float) -> str:
    """Return an instant as Gerrit writes it."""
    return datetime.fromtimestamp(at, UTC).strftime("%Y-%m-%d %H:%M:%S.%f") + "000"


@dataclass
class PatchSet:
    """A patch set."""

    commit: str
    uploader: int
    kind: str = "REWORK"
    votes: dict[str, int] = field(default_factory=dict)


@dataclass
class GerritChange:
    """A change."""

    number: int
    subject: str
    project: str
    branch: str = "main"
    status: str = "NEW"
    topic: str = ""
    hashtags: tuple[str, ...] = ()
    wip: bool = False
    private: bool = False
    updated: float = 1_700_000_000.0
    patch_sets: list[PatchSet] = field(default_factory=list)
    messages: list[dict[str, Json]] = field(default_factory=list)
    comments: list[dict[str, Json]] = field(default_factory=list)


@dataclass
class GerritState:
    """What a Gerrit holds, and how it is at the moment."""

    project: str = "tools/mill"
    user: str = USER
    """Who we are, for HTTP."""
    head: str = "refs/heads/main"
    public: bool = False
    accounts: dict[int, dict[str, Json]] = field(default_factory=dict)
    groups: dict[int, set[str]] = field(default_factory=dict)
    changes: dict[int, GerritChange] = field(default_factory=dict)
    trouble: tuple[int, dict[str, str], bytes] | None = None
    anonymous: tuple[int, dict[str, str], bytes] | None = None
    """What people who did not sign in are answered; None: like everybody."""
    may_review: bool = True
    asked: list[str] = field(default_factory=list)
    """Method and address of every request."""
    reviews: list[dict[str, Json]] = field(default_factory=list)
    git: git_server.GitServer | None = None
    """What answers git, where there are repositories."""
    now: float = 1_700_000_000.0

    def account(self, id_: int) -> dict[str, Json]:
        return {"_account_id": id_, **self.accounts.get(id_, {})}

    def revision(self, change: GerritChange, place: int) -> dict[str, Json]:
        patch_set = change.patch_sets[place]
        number = place + 1
        return {
            "kind": patch_set.kind,
            "_number": number,
            "created": stamp(change.updated),
            "uploader": self.account(patch_set.uploader),
            "ref": f"refs/changes/{change.number % 100:02}/{change.number}/{number}",
        }

    def change_info(self, change: GerritChange, options: list[str]) -> dict[str, Json]:
        info: dict[str, Json] = {
            "id": f"{change.project}~{change.number}",
            "project": change.project,
            "branch": change.branch,
            "subject": change.subject,
            "status": change.status,
            "updated": stamp(change.updated),
            "_number": change.number,
            "hashtags": list(change.hashtags),
        }
        if change.topic:
            info["topic"] = change.topic
        if change.wip:
            info["work_in_progress"] = True
        if change.private:
            info["is_private"] = True
        last = len(change.patch_sets) - 1
        places = range(last + 1) if "ALL_REVISIONS" in options else [last] if "CURRENT_REVISION" in options else []
        if places:
            info["current_revision"] = change.patch_sets[-1].commit
            info["revisions"] = {change.patch_sets[place].commit: self.revision(change, place) for place in places}
        if "MESSAGES" in options:
            info["messages"] = change.messages
        return info

    def say(self, change: GerritChange, author: int, text: str, *, tag: str = "", place: int = -1) -> str:
        """Add a message to a change as Gerrit does; return its id."""
        number = (place if place >= 0 else len(change.patch_sets) - 1) + 1
        self.now += 1
        change.updated = self.now
        id_ = hashlib.sha1(f"{change.number} {len(change.messages)}".encode()).hexdigest()  # noqa: S324 - an id
        change.messages.append(
            {
                "id": id_,
                "author": self.account(author),
                "date": stamp(self.now),
                "message": f"Patch Set {number}:{text}",
                "_revision_number": number,
                **({"tag": tag} if tag else {}),
            }
        )
        return id_


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    state: GerritState

    def log_message(self, *_: object) -> None:
        """Be silent."""

    def do_GET(self) -> None:
        if not self._is_for_git():
            self._answer(None)

    def do_POST(self) -> None:
        if self._is_for_git():
            return
        data = self.rfile.read(int(self.headers.get("content-length", "0")))
        self._answer(json.loads(data))

    def _is_for_git(self) -> bool:
        """Say whether git asks; it was answered then."""
        if self.state.git is None or not urlsplit(self.path).path.endswith(("/info/refs", "/git-upload-pack")):
            return False
        git_server.answer(self, self.state.git)
        self.close_connection = True  # not every answer says how long it is
        return True

    def _answer(self, body: Json) -> None:
        self.state.asked.append(f"{self.command} {self.path}")
        if self.state.trouble is not None:
            self._send(*self.state.trouble)
            return
        parts = urlsplit(self.path)
        path = parts.path
        signed = path.startswith("/a/")
        if not signed and self.state.anonymous is not None:
            self._send(*self.state.anonymous)
            return
        if signed and not self._is_known():
            self._send(401, {}, b"Unauthorized")
            return
        words = [unquote(word) for word in path.removeprefix("/a").strip("/").split("/")]
        status, answer = self._found(words, parse_qs(parts.query), body, signed=signed)
        data = answer.encode() if status >= 400 else MAGIC + json.dumps(answer).encode() + b"\n"
        self._send(status, {"content-type": "application/json; charset=UTF-8"}, data)

    def _is_known(self) -> bool:
        wanted = base64.b64encode(f"{self.state.user}:{PASSWORD}".encode()).decode()
        return self.headers.get("authorization") == f"Basic {wanted}"

    def _send(self, status: int, headers: dict[str, str], data: bytes) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("content-length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def _found(self, words: list[str], query: dict[str, list[str]], body: Json, *, signed: bool) -> tuple[int, Json]:  # noqa: PLR0911 - a table
        match words:
            case ["projects", *rest]:
                return self._projects(rest, signed=signed)
            case ["accounts", "self"] if signed:
                return 200, self.state.account(OWN_ID)
            case ["accounts", id_, "groups"] if signed:
                if not id_.isdigit() or int(id_) not in self.state.accounts:
                    return 404, f"Account '{id_}' not found"
                return 200, [{"id": f"uuid-{name}", "name": name} for name in sorted(self.state.groups[int(id_)])]
            case ["changes"] if signed:
                return self._query(query)
            case ["changes", id_, *rest] if signed:
                return self._change(id_, rest, query, body)
            case _:
                return 404, "Not found"

    def _projects(self, rest: list[str], *, signed: bool) -> tuple[int, Json]:
        state = self.state
        seen = signed or state.public
        info = {"id": state.project.replace("/", "%2F"), "state": "ACTIVE"}
        if not rest:
            return 200, {state.project: info} if seen else {}
        if not seen or rest[0] != state.project:
            return 404, f"Not found: {rest[0]}"
        if rest[1:] == ["HEAD"]:
            return 200, state.head
        return (200, {**info, "name": state.project}) if not rest[1:] else (404, "Not found")

    def _query(self, query: dict[str, list[str]]) -> tuple[int, Json]:
        if query["q"] != [f'project:"{self.state.project}" status:open']:
            return 200, []
        start, count = int(query["S"][0]), int(query["n"][0])
        some = [change for change in self.state.changes.values() if change.status == "NEW"]
        some.sort(key=lambda change: (change.updated, change.number), reverse=True)
        infos = [self.state.change_info(change, query.get("o", [])) for change in some[start : start + count]]
        if len(some) > start + count:
            infos[-1]["_more_changes"] = True
        return 200, infos

    def _change(self, id_: str, rest: list[str], query: dict[str, list[str]], body: Json) -> tuple[int, Json]:
        project, _, number = id_.rpartition("~")
        change = self.state.changes.get(int(number)) if number.isdigit() else None
        if change is None or project != change.project:
            return 404, f"Not found: {id_}"
        match rest:
            case []:
                return 200, self.state.change_info(change, query.get("o", []))
            case ["messages"]:
                return 200, change.messages
            case ["comments"]:
                return 200, {"/PATCHSET_LEVEL": change.comments} if change.comments else {}
            case ["revisions", revision, "review"] if self.command == "POST":
                return self._review(change, revision, body)
            case _:
                return 404, "Not found"

    def _review(self, change: GerritChange, revision: str, body: Json) -> tuple[int, Json]:  # noqa: PLR0911 - a table
        commits = [patch_set.commit for patch_set in change.patch_sets]
        if revision != "current" and revision not in commits:
            return 404, f"Not found: {revision}"
        if not self.state.may_review:
            return 403, f'Applying label "{LABEL}": 1 is restricted'
        if unknown := body.keys() - REVIEW_KEYS:
            return 400, f"unknown: {unknown}"
        if (labels := body.get("labels", {})).keys() - {LABEL}:
            return 400, "label is not a configured label"
        if labels and change.status != "NEW":
            return 409, "change is closed"
        if len(body["message"].encode()) > 16_384:
            return 400, "Comment size exceeds limit"
        place = len(commits) - 1 if revision == "current" else commits.index(revision)
        self.state.reviews.append({"patch set": place + 1, **body})
        change.patch_sets[place].votes |= labels
        self.state.say(change, OWN_ID, f"\n\n{body['message']}", tag=body["tag"], place=place)
        return 200, {"labels": labels}


@contextmanager
def gerrit_server(state: GerritState) -> Iterator[str]:
    """Serve on a free port of loopback; yield the address."""
    handler = type("Handler", (_Handler,), {"state": state})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
