"""The part of GitHub where people sign in, over real HTTP: authorize, access token with PKCE, and who a token is of.

Whoever asks is let through as the person that the test named last; `lie` makes it misbehave in one way. Source: GitHub
docs, "Generating a user access token for a GitHub App".
"""

import base64
import contextlib
import hashlib
import secrets
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Final
from urllib.parse import parse_qs, parse_qsl, urlencode, urlsplit

from tests.support.json_answers import answer_json

CLIENT: Final = "Iv23-nixmill"
OTHER: Final = "Iv23-other"
SECRET: Final = "client secret of the App"  # noqa: S105 - opens nothing but this server


@dataclass
class Github:
    """What the server knows, and how it misbehaves."""

    url: str = ""
    person: dict[str, Any] = field(default_factory=lambda: {"id": 1001, "login": "anna", "type": "User"})
    lie: str = ""
    codes: dict[str, dict[str, str]] = field(default_factory=dict)
    tokens: dict[str, dict[str, Any]] = field(default_factory=dict)

    def code(self, asked: dict[str, str]) -> str:
        """Return a new code for what a client asked."""
        code = secrets.token_urlsafe(16)
        self.codes[code] = asked
        return code

    def redeem(self, given: dict[str, str]) -> dict[str, Any]:
        """Return the answer to a code: each is good once, for its client, secret, address and verifier."""
        if self.lie == "no token":
            return {"token_type": "bearer"}
        asked = self.codes.pop(given.get("code", ""), None)
        challenge = base64.urlsafe_b64encode(hashlib.sha256(given.get("code_verifier", "").encode()).digest())
        good = (
            asked is not None
            and (given.get("client_id"), given.get("client_secret")) == (CLIENT, SECRET)
            and asked.get("client_id") == CLIENT
            and given.get("redirect_uri") == asked.get("redirect_uri")
            and challenge.decode().rstrip("=") == asked.get("code_challenge")
        )
        if not good:
            return {"error": "bad_verification_code", "error_description": "The code passed is incorrect or expired."}
        token = f"ghu_{secrets.token_hex(16)}"
        self.tokens[token] = self.person
        return {"access_token": token, "token_type": "mac" if self.lie == "odd token" else "bearer"}


class _Handler(BaseHTTPRequestHandler):
    github: Github

    def do_GET(self) -> None:
        parts = urlsplit(self.path)
        asked = dict(parse_qsl(parts.query))
        if parts.path == "/login/oauth/authorize":
            answer = {"state": asked.get("state", "")}
            answer |= {"error": "access_denied"} if self.github.lie == "denied" else {"code": self.github.code(asked)}
            self.send_response(302)
            self.send_header("Location", f"{asked['redirect_uri']}?{urlencode(answer)}")
            self.send_header("Content-Length", "0")
            self.end_headers()
        elif parts.path == "/api/v3/user":
            self._user()
        else:
            answer_json(self, {"message": "Not Found"}, 404)

    def _user(self) -> None:
        person = self.github.tokens.get(self.headers.get("Authorization", "").removeprefix("Bearer "))
        match self.github.lie:
            case "down":
                answer_json(self, {"message": "Server Error"}, 502)
            case "huge":
                answer_json(self, {"padding": "x" * 2_000_000})
            case "no json":
                answer_json(self, "<html>")
            case _ if person is None or self.github.lie == "revoked":
                answer_json(self, {"message": "Bad credentials"}, 401)
            case _:
                answer_json(self, person)

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length", "0"))).decode()
        assert self.headers["Accept"] == "application/json"
        answer_json(self, self.github.redeem({name: values[0] for name, values in parse_qs(body).items()}))

    def log_message(self, *arguments: object) -> None:
        """Stay quiet."""


@contextlib.contextmanager
def running_github() -> Iterator[Github]:
    """Serve while the context lasts."""
    github = Github()
    server = ThreadingHTTPServer(("127.0.0.1", 0), type("Handler", (_Handler,), {"github": github}))
    server.daemon_threads = True
    github.url = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    try:
        yield github
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
