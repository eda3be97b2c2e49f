"""An OpenID Connect provider as a process of its own: discovery, JWKS, authorization, token endpoint with PKCE.

`python -m tests.support.oidc_provider` prints its issuer and serves until its standard input closes. Whoever asks to
sign in is let through as the person that `POST /as` named last; `POST /lie` makes it misbehave in one way.
"""

import base64
import contextlib
import hashlib
import hmac
import json
import secrets
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, Final
from urllib.parse import parse_qs, parse_qsl, unquote, urlencode, urlsplit

import httpx2
from joserfc import jwt
from joserfc.jwk import RSAKey

from tests.support.json_answers import answer_json

ROOT: Final = Path(__file__).parents[2]
CLIENT: Final = "nixmill"
SECRET: Final = "client secret & more"  # noqa: S105 - opens nothing but this provider


@dataclass
class State:
    """What the provider knows."""

    issuer: str = ""
    key: RSAKey = field(default_factory=lambda: RSAKey.generate_key(2048, {"kid": "first", "use": "sig"}))
    person: dict[str, Any] = field(default_factory=lambda: {"sub": "1001", "preferred_username": "anna"})
    lie: str = ""
    codes: dict[str, dict[str, str]] = field(default_factory=dict)


def claims_of(state: State, asked: dict[str, str]) -> dict[str, Any]:
    """Return the claims of an ID token, false in the way that the lie says."""
    now = int(time.time())
    claims = {"iss": state.issuer, "aud": CLIENT, "iat": now, "exp": now + 300, "nonce": asked["nonce"], **state.person}
    match state.lie:
        case "nonce":
            claims["nonce"] = "another"
        case "no nonce":
            del claims["nonce"]
        case "audience":
            claims["aud"] = "somebody else"
        case "issuer":
            claims["iss"] = "https://elsewhere.example"
        case "expired":
            claims |= {"iat": now - 7200, "exp": now - 3600}
        case "nobody":
            del claims["sub"]
        case "told beside" | "told of another":
            del claims["preferred_username"]
        case _:
            pass
    return claims


def signed(state: State, claims: dict[str, Any]) -> str:
    """Return an ID token, badly signed where the lie says so."""
    match state.lie:
        case "alg none":
            return ".".join([_part({"alg": "none"}), _part(claims), ""])
        case "shared secret":
            text = ".".join([_part({"alg": "HS256", "kid": "first"}), _part(claims)])
            mac = hmac.digest(state.key.as_pem(private=False), text.encode(), "sha256")
            return f"{text}.{base64.urlsafe_b64encode(mac).decode().rstrip('=')}"
        case "foreign key":
            return jwt.encode({"alg": "RS256", "kid": "first"}, claims, RSAKey.generate_key(2048))
        case "changed":
            head, _, signature = jwt.encode({"alg": "RS256", "kid": "first"}, claims, state.key).split(".")
            return ".".join([head, _part({**claims, "sub": "root"}), signature])
        case _:
            return jwt.encode({"alg": "RS256", "kid": str(state.key.kid)}, claims, state.key)


def _part(value: dict[str, Any]) -> str:
    return base64.urlsafe_b64encode(json.dumps(value).encode()).decode().rstrip("=")


class Provider(BaseHTTPRequestHandler):
    """Answers one request."""

    state: State
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        parts = urlsplit(self.path)
        asked = dict(parse_qsl(parts.query))
        match parts.path:
            case "/.well-known/openid-configuration":
                self._discovery()
            case "/keys":
                answer_json(self, {"keys": [self.state.key.as_dict(private=False)]})
            case "/authorize":
                self._authorize(asked)
            case "/userinfo" if self.headers.get("Authorization", "").startswith("Bearer "):
                of = {"sub": "19"} if self.state.lie == "told of another" else {}
                answer_json(self, {**self.state.person, **of})
            case _:
                answer_json(self, {"error": "not_found"}, 404)

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length", "0"))).decode()
        match self.path:
            case "/as":
                self.state.person = json.loads(body)
                answer_json(self, {})
            case "/lie":
                self._lie(body)
            case "/token":
                self._token({name: values[0] for name, values in parse_qs(body).items()})
            case _:
                answer_json(self, {"error": "not_found"}, 404)

    def _lie(self, what: str) -> None:
        self.state.lie = what
        if what == "new key":
            self.state.key = RSAKey.generate_key(2048, {"kid": secrets.token_hex(4), "use": "sig"})
        answer_json(self, {})

    def _discovery(self) -> None:
        issuer = self.state.issuer
        if self.state.lie == "down":
            answer_json(self, {"error": "down"}, 500)
        elif self.state.lie == "huge":
            answer_json(self, {"padding": "x" * 2_000_000})
        else:
            answer_json(
                self,
                {
                    "issuer": "https://elsewhere.example" if self.state.lie == "other issuer" else issuer,
                    "authorization_endpoint": f"{issuer}/authorize",
                    "token_endpoint": f"{issuer}/token",
                    "jwks_uri": f"{issuer}/keys",
                    "userinfo_endpoint": f"{issuer}/userinfo",
                    "response_types_supported": ["code"],
                    "id_token_signing_alg_values_supported": ["RS256", "HS256", "none"],
                    "token_endpoint_auth_methods_supported": ["client_secret_basic"],
                    "code_challenge_methods_supported": ["S256"],
                },
            )

    def _authorize(self, asked: dict[str, str]) -> None:
        good = (
            asked.get("client_id") == CLIENT
            and asked.get("response_type") == "code"
            and "openid" in asked.get("scope", "").split()
            and asked.get("code_challenge_method") == "S256"
            and all(asked.get(name) for name in ("state", "nonce", "code_challenge", "redirect_uri"))
        )
        if not good:
            answer_json(self, {"error": "invalid_request"}, 400)
            return
        answer = {"state": asked["state"]}
        if self.state.lie == "denied":
            answer["error"] = "access_denied"
        else:
            answer["code"] = secrets.token_urlsafe(16)
            self.state.codes[answer["code"]] = asked
        self.send_response(302)
        self.send_header("Location", f"{asked['redirect_uri']}?{urlencode(answer)}")
        self.send_header("Content-Length", "0")
        self.end_headers()

    def _token(self, given: dict[str, str]) -> None:
        asked = self.state.codes.pop(given.get("code", ""), None)
        challenge = hashlib.sha256(given.get("code_verifier", "").encode()).digest()
        good = (
            asked is not None
            and self._client() == (CLIENT, SECRET)
            and given.get("grant_type") == "authorization_code"
            and given.get("redirect_uri") == asked["redirect_uri"]
            and base64.urlsafe_b64encode(challenge).decode().rstrip("=") == asked["code_challenge"]
        )
        if not good or asked is None:
            answer_json(self, {"error": "invalid_grant"}, 400)
            return
        answer = {"access_token": secrets.token_urlsafe(16), "token_type": "Bearer", "expires_in": 300}
        if self.state.lie != "no token":
            answer["id_token"] = signed(self.state, claims_of(self.state, asked))
        answer_json(self, answer)

    def _client(self) -> tuple[str, str]:
        kind, _, text = self.headers.get("Authorization", "").partition(" ")
        name, _, secret = base64.b64decode(text).decode().partition(":") if kind == "Basic" else ("", "", "")
        return unquote(name), secret if secret == SECRET else unquote(secret)

    def log_message(self, *arguments: object) -> None:
        """Stay quiet."""


@dataclass
class RunningProvider:
    """A provider that runs, for a test to command."""

    issuer: str
    process: subprocess.Popen[str]

    def sign_in_as(self, **claims: object) -> None:
        """Let everybody through as this person from now on."""
        httpx2.post(f"{self.issuer}/as", json=claims).raise_for_status()

    def lie(self, what: str) -> None:
        """Misbehave in one way from now on; empty: no longer."""
        httpx2.post(f"{self.issuer}/lie", content=what).raise_for_status()

    def stop(self) -> None:
        """End the process."""
        assert self.process.stdin is not None and self.process.stdout is not None
        self.process.stdin.close()
        self.process.wait(timeout=20)
        self.process.stdout.close()


@contextlib.contextmanager
def running_provider() -> Iterator[RunningProvider]:
    """Run a provider while the context lasts."""
    process = subprocess.Popen(
        [sys.executable, "-m", "tests.support.oidc_provider"],
        cwd=ROOT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    provider = RunningProvider(process.stdout.readline().strip(), process)
    try:
        yield provider
    finally:
        if process.poll() is None:
            provider.stop()


def main() -> None:
    """Serve until standard input closes."""
    Provider.state = State()
    server = ThreadingHTTPServer(("127.0.0.1", 0), Provider)
    server.daemon_threads = True
    Provider.state.issuer = f"http://127.0.0.1:{server.server_port}"
    threading.Thread(target=server.serve_forever, daemon=True).start()
    print(Provider.state.issuer, flush=True)  # noqa: T201 - how the test learns the address
    sys.stdin.read()
    server.shutdown()


if __name__ == "__main__":
    main()
