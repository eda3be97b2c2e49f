"""Binary caches over HTTP, in front of the application: nothing that pages need stands on this way.

Below `/cache/NAME/`, and for one cache at Hydra's addresses at the root. What this file does not know: what a cache
holds (`nixmill.doors.serving`), who may read a private one (`nixmill.web.cache_readers`), and how bytes are sent
(`nixmill.web.cache_transfer`).
"""

from collections.abc import Mapping, Sequence
from typing import Final

import structlog
from starlette.types import ASGIApp, Receive, Scope, Send

from nixmill.doors import DoorError
from nixmill.doors.serving import CacheInfo, Served, ServedObject
from nixmill.web import cache_names
from nixmill.web.cache_readers import Readers, Refused
from nixmill.web.cache_transfer import Answer, Transfers, send_answer, send_object
from nixmill.web.middleware import Proxies

TRANSFERS_MAX: Final = 64
"""Large answers on their way to one address at the same time; Nix opens 25 connections."""
RETRY_S: Final = 5
INFO_TYPE: Final = "text/x-nix-cache-info"
_METHODS: Final = frozenset({"GET", "HEAD"})
_NOT_THERE: Final = Answer(404, "There is nothing of that name in this cache.", {"Cache-Control": "no-store"})

log = structlog.get_logger("nixmill")


class CacheFront:
    """Answers what is asked of caches, and passes on everything else."""

    def __init__(
        self,
        app: ASGIApp,
        caches: Mapping[str, Served],
        *,
        readers: Mapping[str, Readers] | None = None,
        root: str | None = None,
        trusted_proxies: Sequence[str] = (),
        transfers_max: int = TRANSFERS_MAX,
    ) -> None:
        """Serve caches by name; a private one without `readers` opens for nobody.

        `root` names the cache at Hydra's addresses: None for the first one that everybody may read, empty for none.
        """
        self._app = app
        self._caches = caches
        self._readers = readers or {}
        self._root = _first_public(caches) if root is None else root
        self._ours = Proxies(self._answer, trusted_proxies)
        self._transfers = Transfers(transfers_max)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer, or pass on."""
        found = self._find(scope) if scope["type"] == "http" else None
        if found is None:
            await self._app(scope, receive, send)
        else:
            await self._ours({**scope, "nixmill.cache": found}, receive, send)

    def _find(self, scope: Scope) -> tuple[str, str | None] | None:
        """Return cache and name (None: one that nothing has) that an address asks for; None where it is no cache's."""
        raw: bytes = scope.get("raw_path") or scope["path"].encode()
        below = cache_names.below_cache(raw)
        if below is not None:
            return below[0], cache_names.known(below[1])
        rest = cache_names.at_root(raw) if self._root in self._caches else None
        name = cache_names.known(rest) if rest is not None else None
        return None if name is None else (self._root, name)

    async def _answer(self, scope: Scope, receive: Receive, send: Send) -> None:
        cache, name = scope["nixmill.cache"]
        served = self._caches.get(cache)
        if scope["method"] not in _METHODS:
            allow = {"Allow": "GET, HEAD", "Connection": "close"}
            await send_answer(Answer(405, "A cache is only read here.", allow), scope, send)
        elif served is None:
            await send_answer(_NOT_THERE, scope, send)
        else:
            refused = await self._refused(cache, served.info, scope)
            if refused is not None:
                await send_answer(refused, scope, send)
            else:
                await self._send(served, name, scope, receive, send)

    async def _refused(self, cache: str, info: CacheInfo, scope: Scope) -> Answer | None:
        if not info.private:
            return None
        readers = self._readers.get(cache)
        try:
            refused = await readers.refused(scope) if readers is not None else Refused(401)
        except DoorError as error:
            return _trouble(cache, "", error)
        return _refusal(refused, cache) if refused is not None else None

    async def _send(self, served: Served, name: str | None, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            found = await _opened(served, name) if name is not None else None
        except DoorError as error:
            await send_answer(_trouble(scope["nixmill.cache"][0], name or "", error), scope, send)
            return
        if found is None:
            await send_answer(_NOT_THERE, scope, send)
        elif isinstance(found.content, bytes):
            await send_object(found, scope, receive, send, private=served.info.private)
        else:
            await self._transfer(found, scope, receive, send, private=served.info.private)

    async def _transfer(
        self, found: ServedObject, scope: Scope, receive: Receive, send: Send, *, private: bool
    ) -> None:
        with self._transfers.of(scope) as may:
            if may:
                await send_object(found, scope, receive, send, private=private)
            else:
                many = "Too many downloads from your address are under way; try again when one has ended."
                await send_answer(Answer(503, many, {"Retry-After": str(RETRY_S)}), scope, send)


async def _opened(served: Served, name: str) -> ServedObject | None:
    if name != cache_names.INFO:
        return await served.open(name)
    info = served.info
    text = f"StoreDir: {info.store_dir}\nWantMassQuery: 1\nPriority: {info.priority}\n".encode()
    return ServedObject(size=len(text), media_type=INFO_TYPE, content=text)


def _first_public(caches: Mapping[str, Served]) -> str:
    return next((name for name, served in caches.items() if not served.info.private), "")


def _refusal(refused: Refused, cache: str) -> Answer:
    if refused.code == 429:
        wait = {"Retry-After": str(refused.wait_s)}
        return Answer(429, "Too many wrong tokens came from your address; try again later.", wait)
    asks = {"WWW-Authenticate": f'Basic realm="{cache}", charset="UTF-8"', "Cache-Control": "no-store"}
    sentence = "This cache is private: send a token, as the password of a netrc file or as a bearer."
    return Answer(401, sentence, asks)


def _trouble(cache: str, name: str, error: DoorError) -> Answer:
    """Answer so that Nix tries again; strangers hear nothing of paths and hosts, the log does."""
    log.warning("a cache could not answer", cache=cache, name=name, error=str(error))
    return Answer(503, "This cache cannot answer now: that is our fault, not yours.", {"Retry-After": str(RETRY_S)})
