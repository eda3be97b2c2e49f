"""Signing in with GitHub, which is no OpenID provider: OAuth with a code and PKCE, then its API says whose token it is.

A code is redeemed with our secret and the verifier that only this server knows, so one that was given to another
client, or used before, opens nothing. The token is used for one question and forgotten. Source: GitHub docs,
"Generating a user access token for a GitHub App" and "Get the authenticated user".
"""

import base64
import hashlib
from pathlib import Path
from typing import Final, TypeVar
from urllib.parse import urlencode

import httpx2
import msgspec

from nixmill.config.server import OidcProvider
from nixmill.core.account import Identity
from nixmill.web.proven import Proven
from nixmill.web.provider_faults import away, bad, client_secret

T = TypeVar("T")
TIMEOUT_S: Final = 10.0
ANSWER_BYTES: Final = 256 * 1024
_TEXT_MAX: Final = 254
_API: Final = {"https://github.com": "https://api.github.com"}


class _Token(msgspec.Struct, frozen=True):
    access_token: str = ""
    token_type: str = ""
    error: str = ""


class _User(msgspec.Struct, frozen=True):
    id: int
    login: str
    email: str | None = None
    type: str = "User"


class GithubProvider:
    """Implements `nixmill.web.providers.Provider` for github.com and GitHub Enterprise Server."""

    def __init__(self, settings: OidcProvider, secret: Path | None, api_url: str) -> None:
        """Take its settings and the file with the client's secret; nothing is asked yet."""
        self.settings = settings
        self._url = settings.issuer.rstrip("/")
        self._api = api_url.rstrip("/") or _API.get(self._url, f"{self._url}/api/v3")
        self._secret = secret

    async def address(self, callback: str, state: str, nonce: str, verifier: str) -> str:
        """Return where to send a browser; `nonce` is for OpenID providers."""
        del nonce
        challenge = hashlib.sha256(verifier.encode()).digest()
        asked = {
            "client_id": self.settings.client_id,
            "redirect_uri": callback,
            "response_type": "code",
            "state": state,
            "code_challenge": base64.urlsafe_b64encode(challenge).decode().rstrip("="),
            "code_challenge_method": "S256",
        }
        return f"{self._url}/login/oauth/authorize?{urlencode(asked)}"

    async def proven(self, callback: str, code: str, nonce: str, verifier: str) -> Proven:
        """Redeem a code; return who it proves. `RefusalError`: the proof is bad; `DoorError`: there is none."""
        del nonce
        token = await self._redeemed(callback, code, verifier)
        user = self._decoded(await self._ask("GET", f"{self._api}/user", token=token), _User, "it names nobody")
        if user.id <= 0 or user.type != "User" or not 0 < len(user.login) <= _TEXT_MAX:
            raise bad(self.settings, "it names nobody")
        identity = Identity(provider=self.settings.name, subject=str(user.id), login=user.login)
        return Proven(identity=identity, name=user.login, email=(user.email or "")[:_TEXT_MAX])

    async def _redeemed(self, callback: str, code: str, verifier: str) -> str:
        asked = {
            "client_id": self.settings.client_id,
            "client_secret": await client_secret(self.settings, self._secret),
            "code": code,
            "redirect_uri": callback,
            "code_verifier": verifier,
        }
        answer = await self._ask("POST", f"{self._url}/login/oauth/access_token", form=asked)
        token = self._decoded(answer, _Token, "its answer makes no sense")
        if not token.access_token or token.error or token.token_type.lower() != "bearer":
            raise bad(self.settings, f"it did not redeem the code ({token.error[:80] or 'no token'})")
        return token.access_token

    async def _ask(self, method: str, url: str, *, form: dict[str, str] | None = None, token: str = "") -> bytes:
        headers = {"Accept": "application/json", "User-Agent": "nixmill"}
        if token:
            headers["Authorization"] = f"Bearer {token}"
        try:
            async with (
                httpx2.AsyncClient(timeout=TIMEOUT_S, follow_redirects=False) as client,
                client.stream(method, url, data=form, headers=headers) as answer,
            ):
                if answer.status_code in {400, 401, 403, 404, 422}:
                    raise bad(self.settings, f"it answered with status {answer.status_code}")
                answer.raise_for_status()
                return await self._read(answer)
        except (httpx2.HTTPError, httpx2.InvalidURL, UnicodeEncodeError) as error:
            raise away(self.settings, "ask", error) from error

    async def _read(self, answer: httpx2.Response) -> bytes:
        read = bytearray()
        async for part in answer.aiter_bytes():
            read += part
            if len(read) > ANSWER_BYTES:
                raise bad(self.settings, "its answer is too large")
        return bytes(read)

    def _decoded(self, answer: bytes, kind: type[T], otherwise: str) -> T:
        try:
            return msgspec.json.decode(answer, type=kind)
        except (msgspec.MsgspecError, UnicodeDecodeError) as error:
            raise bad(self.settings, otherwise) from error
