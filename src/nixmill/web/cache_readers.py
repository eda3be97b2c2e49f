"""Who may read a private cache: whoever sends one of its tokens, or an API token that may see all of its projects.

A token comes as a bearer, or as the password of `Basic` whatever the user's name: that is what a netrc file says. A
token is believed for ten seconds, so that a download of thousands of paths asks the database once.
No token is kept or logged, only its SHA-256 is held in memory.
"""

import asyncio
import base64
import binascii
import fnmatch
import hashlib
import hmac
import math
from collections import OrderedDict
from collections.abc import Sequence
from pathlib import Path
from typing import Final

import msgspec
import structlog
from starlette.datastructures import Headers
from starlette.types import Scope

from nixmill.core.access import Action, Viewer, Visibility, allowed
from nixmill.core.account import TOKEN_PREFIX
from nixmill.core.project import Project
from nixmill.doors import Clock, DoorError
from nixmill.doors.server import Accounts, Keys, Projects
from nixmill.web.cache_transfer import address_of
from nixmill.web.identify import hashed
from nixmill.web.rate_limit import KEYS_MAX, RateLimit, keys_of
from nixmill.web.site import Site

BELIEVED_S: Final = 10.0
"""How long a token is not looked up again: a revoked one opens a cache for so long."""
TOKEN_MAX: Final = 4096
_FILE_MAX: Final = 64 * 1024

log = structlog.get_logger("nixmill")


class Refused(msgspec.Struct, frozen=True):
    """A request is refused: 401, or 429 with the seconds to wait."""

    code: int
    wait_s: int = 0


class Readers:
    """Judges who may read one cache."""

    def __init__(
        self,
        files: Sequence[Path],
        projects: Sequence[str],
        *,
        doors: Site,
        tries: RateLimit,
    ) -> None:
        """Take the tokens in `files`, and those of accounts that may see what the globs `projects` name.

        Without globs the cache holds what everybody may see, and every account may read it.
        """
        self._tokens = [_TokenFile(file) for file in files]
        self._globs = projects
        self._keys: Keys = doors.keys
        self._accounts: Accounts = doors.accounts
        self._projects: Projects = doors.projects
        self._clock: Clock = doors.clock
        self._tries = tries
        self._good: OrderedDict[str, float] = OrderedDict()
        self._wrong: OrderedDict[str, float] = OrderedDict()
        self._asking: dict[str, asyncio.Task[Refused | None]] = {}

    async def refused(self, scope: Scope) -> Refused | None:
        """Return why a request is refused; None where it is not. Raises `DoorError` where that cannot be told now."""
        token = _token(Headers(scope=scope).get("authorization", ""))
        if not token:
            return Refused(401)
        key = hashed(token)
        now = self._clock.monotonic()
        if self._good.get(key, -math.inf) > now:
            return None
        if self._wrong.get(key, -math.inf) > now:
            return Refused(401)
        return await asyncio.shield(self._asked(token, key, address_of(scope)))

    def _asked(self, token: str, key: str, address: str) -> "asyncio.Task[Refused | None]":
        """Return the one look-up of a token that is under way: Nix begins with many requests at once."""
        asking = self._asking.get(key)
        if asking is None:
            asking = self._asking[key] = asyncio.create_task(self._judge(token, key, address))
            asking.add_done_callback(lambda task: self._answered(key, task))
        return asking

    def _answered(self, key: str, task: "asyncio.Task[Refused | None]") -> None:
        self._asking.pop(key, None)
        if not task.cancelled():
            task.exception()  # whoever asked hears of it; nobody does where all of them went away

    async def _judge(self, token: str, key: str, address: str) -> Refused | None:
        # A machine that goes on with one wrong token guesses nothing: it counts once, and locks nobody out beside it.
        counted = [] if key in self._wrong else [keys_of("", address)[1]]
        wait = self._tries.take(counted)
        if wait > 0:
            return Refused(429, math.ceil(wait))
        try:
            good = await self._opens(token)
        except DoorError:
            self._tries.give_back(counted)
            raise
        if not good:
            _remember(self._wrong, key, self._clock.monotonic() + BELIEVED_S)
            log.warning("a token for a cache was refused", address=address)
            return Refused(401)
        self._tries.give_back(counted)
        self._wrong.pop(key, None)
        _remember(self._good, key, self._clock.monotonic() + BELIEVED_S)
        return None

    async def _opens(self, token: str) -> bool:
        digest = hashlib.sha256(token.encode()).digest()
        found = await asyncio.to_thread(lambda: [file.holds(digest) for file in self._tokens])
        return any(found) or (token.startswith(TOKEN_PREFIX) and await self._account_may(token))

    async def _account_may(self, token: str) -> bool:
        known = await self._keys.token(hashed(token), self._clock.now())
        viewer = await self._accounts.viewer(known.user) if known is not None else None
        if known is None or viewer is None:
            return False
        limited = msgspec.structs.replace(viewer, scopes=frozenset(known.scopes), only_project=known.project)
        if not self._globs:
            return allowed(limited, Action.SEE, None, Visibility.PUBLIC)
        held = [one for one in await self._projects.projects() if self._holds(one)]
        # Where all of its projects were deleted, what they left is nobody's but the administrators'.
        return all(_sees(limited, one) for one in held) if held else allowed(limited, Action.SEE_ADMIN)

    def _holds(self, project: Project) -> bool:
        return any(fnmatch.fnmatchcase(project.name, glob) for glob in self._globs)


class _TokenFile:
    """A token in a file, of which the hash is kept until the file changes."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._seen: tuple[int, int, int] | None = None
        self._digest = b""

    def holds(self, digest: bytes) -> bool:
        """Say whether this is the token, in the same time whatever it is; a file that is not there holds none."""
        try:
            status = self._path.stat()
            seen = (status.st_ino, status.st_size, status.st_mtime_ns)
            if seen != self._seen:
                self._digest, self._seen = self._read(), seen
        except OSError as error:
            log.warning("a token for readers of a cache cannot be read", file=str(self._path), error=error.strerror)
            self._digest, self._seen = b"", None
        return hmac.compare_digest(self._digest, digest)

    def _read(self) -> bytes:
        with self._path.open("rb") as file:
            token = file.read(_FILE_MAX).strip()
        return hashlib.sha256(token).digest() if token else b""


def _sees(viewer: Viewer, project: Project) -> bool:
    return allowed(viewer, Action.SEE, project.id, project.visibility)


def _token(header: str) -> str:
    """Return the token of an `Authorization`; empty where there is none."""
    kind, _, value = header.partition(" ")
    value = value.strip()
    if len(value) > TOKEN_MAX:
        return ""
    match kind.lower():
        case "bearer":
            return value
        case "basic":
            try:
                return base64.b64decode(value, validate=True).decode().partition(":")[2]
            except (binascii.Error, UnicodeDecodeError):
                return ""
        case _:
            return ""


def _remember(held: OrderedDict[str, float], key: str, until: float) -> None:
    held[key] = until
    held.move_to_end(key)
    while len(held) > KEYS_MAX:
        held.popitem(last=False)
