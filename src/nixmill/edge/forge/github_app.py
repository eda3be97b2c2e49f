"""Being a GitHub App: proving who we are, and tokens for what we were installed on.

A JSON web token, signed with the App's private key, is traded for a token of one installation that lasts an hour and
has no more permissions than are used here. Source: GitHub's "Authenticating as a GitHub App".
"""

import asyncio
from collections import defaultdict
from collections.abc import Mapping
from datetime import datetime
from typing import Final, TypeVar
from urllib.parse import urlsplit

import msgspec
from joserfc import jwt
from joserfc.errors import JoseError
from joserfc.jwk import RSAKey

from nixmill.config.forges import ForgeSettings
from nixmill.doors import Clock, DoorError
from nixmill.edge.forge.credentials import ForgeCredentials
from nixmill.edge.forge.github_wire import is_path
from nixmill.edge.forge.web import Answer, Ask, ForgeWeb, RefusedError, path_of

PERMISSIONS: Final[Mapping[str, str]] = {
    "checks": "write",
    "contents": "read",
    "metadata": "read",
    "pull_requests": "write",
    "statuses": "write",
}
"""What is used, in the words of GitHub's API."""
TO_FETCH: Final[Mapping[str, str]] = {"contents": "read", "metadata": "read"}
_JWT_S: Final = 540
"""With `_SKEW_S` no more than the ten minutes that GitHub allows."""
_SKEW_S: Final = 60
INSTALLATION_S: Final = 600.0
"""Seconds that is believed which installation covers a repository, and what it may do."""
_SPARE_S: Final = 300
"""A token is renewed that long before it ends, so that it does not end under a fetch."""
_HEADERS: Final = {"accept": "application/vnd.github+json", "x-github-api-version": "2022-11-28"}
_MOVED: Final = frozenset({301, 302, 307, 308})
_LEVELS: Final = ("", "read", "write", "admin")

T = TypeVar("T")


class Installation(msgspec.Struct, frozen=True):
    """The App on one account."""

    id: int
    permissions: dict[str, str] = {}
    suspended_at: datetime | None = None


class _Token(msgspec.Struct, frozen=True):
    token: str
    expires_at: datetime


class _Renamed(msgspec.Struct, frozen=True):
    full_name: str


class GitHubApp:
    """Asks GitHub as the App, or as one of its installations."""

    def __init__(self, settings: ForgeSettings, secrets: ForgeCredentials, clock: Clock) -> None:
        """Be the App that the settings name."""
        self.id = settings.app_id
        self.name = settings.name
        self.web = ForgeWeb(api_of(settings), name=settings.name, clock=clock)
        self._settings = settings
        self._secrets = secrets
        self._clock = clock
        self._installations: dict[str, tuple[float, Installation]] = {}
        """By the path of a repository, in small letters, with the time until which it is believed."""
        self._tokens: dict[tuple[int, str], _Token] = {}
        self._known_key: tuple[str, RSAKey] | None = None
        self._turns: defaultdict[int, asyncio.Lock] = defaultdict(asyncio.Lock)

    def signed(self, ask: Ask) -> Ask:
        """Return a request of the App itself."""
        return _with(ask, self._jwt())

    async def installations(self) -> list[Installation]:
        """Return all installations that are not suspended."""
        ask = Ask("GET", "/app/installations", "list the installations of the App", query={"per_page": 100})
        found = await self.web.read_all(Installation, self.signed(ask))
        return [one for one in found if one.suspended_at is None]

    async def installation(self, path: str) -> Installation | None:
        """Return the installation that covers a repository; None where there is none, or no such path."""
        if not is_path(path):
            return None
        until, known = self._installations.get(path.lower(), (0.0, None))
        if known is None or self._clock.now() > until:
            ask = Ask("GET", _root(path) + "/installation", f"find the installation of {path}")
            known = await self.web.read(Installation, self.signed(ask))
            if known is not None:
                self.remember(path, known)
        return known if known is not None and known.suspended_at is None else None

    def remember(self, path: str, installation: Installation) -> None:
        """Know for a while which installation covers a repository."""
        self._installations[path.lower()] = (self._clock.now() + INSTALLATION_S, installation)

    async def read(self, kind: type[T], path: str, ask: Ask) -> T | None:
        """Return something of a repository; None where it, or the repository, is not there."""
        answer = await self._about(path, ask)
        return None if answer is None or answer.status >= 400 else self.web.decoded(kind, answer, ask)

    async def read_all(self, kind: type[T], path: str, ask: Ask, *, limit: int) -> list[T]:
        """Return a list of a repository, at most `limit` items; empty where that is not there."""
        installation = await self.installation(path)
        return await self.list_of(kind, installation, ask, limit=limit) if installation is not None else []

    async def list_of(
        self, kind: type[T], installation: Installation, ask: Ask, *, key: str = "", limit: int
    ) -> list[T]:
        """Return a list of an installation; once more with a new token where GitHub took back the one we had."""
        try:
            return await self.web.read_all(kind, _with(ask, await self.token(installation)), key=key, limit=limit)
        except RefusedError as error:
            if error.status != 401:
                raise
        self._tokens.pop((installation.id, ""), None)
        return await self.web.read_all(kind, _with(ask, await self.token(installation)), key=key, limit=limit)

    async def do(self, kind: type[T], path: str, ask: Ask) -> T:
        """Have something done in a repository, where it is now if it was renamed."""
        try:
            return await self._do(kind, path, ask)
        except RefusedError as error:
            if error.status not in _MOVED:
                raise
            refusal = error
        present = await self.read(_Renamed, path, Ask("GET", _root(path), f"find out where {path} is now"))
        if present is None or not is_path(present.full_name):
            raise refusal
        moved = ask._replace(path=_root(present.full_name) + ask.path.removeprefix(_root(path)))
        return await self._do(kind, present.full_name, moved)

    async def _do(self, kind: type[T], path: str, ask: Ask) -> T:
        answer = await self._about(path, ask)
        if answer is None:
            raise self._uninstalled(path, ask)
        if answer.status >= 400:
            raise _gone(self.name, answer, ask)
        return self.web.decoded(kind, answer, ask)

    async def token(self, installation: Installation, only: str = "") -> str:
        """Return a token of an installation; with `only`, the name of a repository, one that may only fetch that."""
        key = (installation.id, only)
        async with self._turns[installation.id]:
            known = self._tokens.get(key)
            if known is None or known.expires_at.timestamp() - _SPARE_S <= self._clock.now():
                self._forget_old()
                known = self._tokens[key] = await self._new_token(installation, only)
        return known.token

    async def _about(self, path: str, ask: Ask) -> Answer | None:
        """Ask about a repository; once more with a new token where GitHub took back the one that we had."""
        try:
            return await self._once(path, ask)
        except RefusedError as error:
            if error.status != 401:
                raise
        self._forget(path)
        return await self._once(path, ask)

    async def _once(self, path: str, ask: Ask) -> Answer | None:
        installation = await self.installation(path)
        if installation is None:
            return None
        try:
            token = await self.token(installation)
        except RefusedError as error:
            if error.status != 404:
                raise
            self._forget(path)  # the App was taken off since
            return None
        return await self.web.send(_with(ask, token))

    def _forget(self, path: str) -> None:
        _, installation = self._installations.pop(path.lower(), (0.0, None))
        if installation is not None:
            self._tokens.pop((installation.id, ""), None)

    async def _new_token(self, installation: Installation, only: str) -> _Token:
        body: dict[str, object] = {"permissions": granted(installation, TO_FETCH if only else PERMISSIONS)}
        if only:
            body["repositories"] = [only]
        path = path_of("app", "installations", installation.id, "access_tokens")
        ask = Ask("POST", path, f"give a token of installation {installation.id}", body=body)
        return await self.web.do(_Token, self.signed(ask))

    def _forget_old(self) -> None:
        now = self._clock.now()
        self._tokens = {key: one for key, one in self._tokens.items() if one.expires_at.timestamp() > now}

    def _jwt(self) -> str:
        now = int(self._clock.now())
        claims = {"iat": now - _SKEW_S, "exp": now + _JWT_S, "iss": str(self.id)}
        return jwt.encode({"alg": "RS256"}, claims, self._key())

    def _key(self) -> RSAKey:
        """Return the private key; reading its text is cheap, checking that it is a key is not."""
        text = self._secrets.secret(self._settings.private_key)
        if self._known_key is None or self._known_key[0] != text:
            try:
                self._known_key = (text, RSAKey.import_key(text))
            except (ValueError, TypeError, JoseError):
                raise self._no_key() from None
        return self._known_key[1]

    def _no_key(self) -> DoorError:
        return DoorError(
            f"The credential {self._settings.private_key!r} of the forge {self.name} is no RSA key in PEM. "
            "Make a new private key on the App's page and give the server that file.",
            door="forge",
            action="sign as the App",
            subject=self.name,
            retryable=False,
        )

    def _uninstalled(self, path: str, ask: Ask) -> DoorError:
        return DoorError(
            f"The forge {self.name} was asked to {ask.action}, but the App is not installed on {path[:200]!r}. "
            "Install it there.",
            door="forge",
            action=ask.action,
            subject=path[:200],
            retryable=False,
        )


def _root(path: str) -> str:
    return path_of("repos", *path.split("/"))


def api_of(settings: ForgeSettings) -> str:
    """Return where the API is: on a host of its own at github.com and ghe.com, else below `/api/v3`."""
    if settings.api_url:
        return settings.api_url
    parts = urlsplit(settings.url)
    host = (parts.hostname or "").removeprefix("www.")
    if host == "github.com" or host.endswith(".ghe.com"):
        return f"{parts.scheme}://api.{host}"
    return f"{settings.url.rstrip('/')}/api/v3"


def granted(installation: Installation, wanted: Mapping[str, str]) -> dict[str, str]:
    """Return those of the wanted permissions that were granted: GitHub gives no token at all for more."""
    given = {
        name: min(wanted[name], level, key=_LEVELS.index) for name, level in _known(installation) if name in wanted
    }
    return given or {"metadata": "read"}


def _known(installation: Installation) -> list[tuple[str, str]]:
    return [(name, level) for name, level in installation.permissions.items() if level in _LEVELS]


def _with(ask: Ask, token: str) -> Ask:
    return ask._replace(headers={**_HEADERS, "authorization": f"Bearer {token}"})


def _gone(name: str, answer: Answer, ask: Ask) -> RefusedError:
    sentence = f"The forge {name} was asked to {ask.action} and answered {answer.status}: that is not there (any more)"
    sentence += f", or the App lacks the permission {ask.needs!r}." if ask.needs else "."
    return RefusedError(sentence, action=ask.action, subject=name, status=answer.status, said="")
