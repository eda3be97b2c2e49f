"""A client for the JSON interfaces of forges.

Where a forge is, is the administrator's word, so private addresses are fine. Answers are cut at `ANSWER_MAX`, redirects
followed only for a GET and on the same server (repositories that were renamed), proxies of the environment not used.
What a forge says of its limits becomes `RetryLaterError`; what it refuses becomes a sentence with the permission
that is missing. Headers, which hold secrets, are in no text.
"""

import asyncio
import os
import ssl
from collections.abc import Mapping
from typing import Any, Final, NamedTuple, TypeVar
from urllib.parse import quote, urlencode, urljoin, urlsplit

import httpx2
import msgspec

from nixmill.core.terminal_text import sanitise
from nixmill.doors import Clock, DoorError
from nixmill.doors.server import RetryLaterError
from nixmill.edge.forge.limits import wait_s
from nixmill.edge.forge.memory import Kept, Memory

TIME_LIMIT_S: Final = 30.0
"""Of a whole request."""
ANSWER_MAX: Final = 8 * 1024 * 1024
"""Bytes of an answer; a longer one is a fault."""
PAGES_MAX: Final = 100
"""Pages of one list that are read."""
_ABSENT: Final = frozenset({404, 410, 451})
_REDIRECTS: Final = frozenset({301, 302, 307, 308})
_HOPS: Final = 3
_CONNECTIONS: Final = httpx2.Limits(max_connections=20, max_keepalive_connections=5, keepalive_expiry=30.0)

T = TypeVar("T")


class Ask(NamedTuple):
    """A request, with the words for what can go wrong with it."""

    method: str
    path: str
    """Below the API's address, made by `path_of`; or a whole address on the same server, as `Link` names one."""
    action: str
    """What this is for, after `to`: `read pull requests of octo/hello`."""
    needs: str = ""
    """The permission it needs, in the forge's words: `Checks: write`."""
    headers: Mapping[str, str] = {}
    """With the authorisation."""
    query: Mapping[str, str | int] = {}
    body: Any = None
    """Anything that msgspec can encode; None: no body."""
    remember: bool = False
    """Ask conditionally (ETag), so that an answer that did not change costs no budget."""


class Answer(NamedTuple):
    """What a forge said."""

    status: int
    headers: Mapping[str, str]
    """Names in lower case."""
    body: bytes


class RefusedError(DoorError):
    """The forge answered with an error of `status`; `said` is its own word, fit to be shown."""

    def __init__(self, message: str, *, action: str, subject: str, status: int, said: str) -> None:
        """Keep the parts that decisions need; retryable where the fault is the forge's own, or access only rests."""
        rests = status == 403 and "suspended" in said
        super().__init__(message, door="forge", action=action, subject=subject, retryable=status >= 500 or rests)
        self.status = status
        self.said = said


def path_of(*parts: str | int) -> str:
    """Return a path of a URL from its parts, each percent-encoded; raise `DoorError` for parts that cannot be names."""
    for part in parts:
        if part in {"", ".", ".."} or "\0" in str(part):
            raise DoorError(
                f"{sanitise(str(part), colour=False, limit=100)!r} can be no name on a forge, so it was not asked.",
                door="forge",
                action="ask",
                subject=sanitise(str(part), colour=False, limit=100),
                retryable=False,
            )
    return "/" + "/".join(quote(str(part), safe="") for part in parts)


class ForgeWeb:
    """Asks one forge. Keeps connections, and answers that may be asked for again."""

    def __init__(
        self,
        api: str,
        *,
        name: str,
        clock: Clock,
        time_limit_s: float = TIME_LIMIT_S,
        tls: ssl.SSLContext | None = None,
    ) -> None:
        """Ask the forge called `name` in the settings, whose API is at `api`."""
        self._api = api.rstrip("/")
        self._name = name
        self._clock = clock
        self._time_limit_s = time_limit_s
        self._tls = tls
        self._transport: httpx2.AsyncHTTPTransport | None = None
        self._memory = Memory()

    async def read(self, kind: type[T], ask: Ask) -> T | None:
        """Return what was asked for; None where it is not there."""
        answer = await self.send(ask)
        return None if answer.status in _ABSENT else self.decoded(kind, answer, ask)

    async def read_all(self, kind: type[T], ask: Ask, *, key: str = "", limit: int = 1000) -> list[T]:
        """Return the items of a list over all its pages (by `Link`), at most `limit`; empty where it is not there.

        `key`: the items stand under that key of an object.
        """
        found: list[T] = []
        following: Ask | None = ask
        for _ in range(PAGES_MAX):
            if following is None or len(found) >= limit:
                break
            answer = await self.send(following)
            if answer.status in _ABSENT:
                break
            found += self._items(kind, answer, ask, key)
            following = self._next(following, answer)
        return found[:limit]

    async def do(self, kind: type[T], ask: Ask) -> T:
        """Have something done and return what the forge says of it; not being there is an error here."""
        answer = await self.send(ask)
        if answer.status in _ABSENT:
            raise self._refused(answer, ask)
        return self.decoded(kind, answer, ask)

    async def send(self, ask: Ask) -> Answer:
        """Return an answer that is good, or says that something is not there; raise `DoorError` for all others."""
        url = self._url(ask)
        for _ in range(_HOPS):
            answer = await self._send(ask, url)
            onward = self._onward(ask, url, answer)
            if not onward:
                break
            url = onward
        if 200 <= answer.status < 300 or answer.status in _ABSENT:
            return answer
        raise self._refused(answer, ask)

    def decoded(self, kind: type[T], answer: Answer, ask: Ask) -> T:
        """Return an answer's body; raise a retryable `DoorError` where it makes no sense."""
        try:
            return msgspec.json.decode(answer.body, type=kind, strict=True)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            raise self._fault(ask, f"its answer makes no sense ({error})") from None

    async def aclose(self) -> None:
        """Let connections go."""
        if self._transport is not None:
            await self._transport.aclose()
            self._transport = None

    def _items(self, kind: type[T], answer: Answer, ask: Ask, key: str) -> list[T]:
        if not key:
            # mypy cannot see that list[kind] is a type.
            return self.decoded(list[kind], answer, ask)  # type: ignore[valid-type]
        whole = self.decoded(dict[str, msgspec.Raw], answer, ask)
        inner = answer._replace(body=bytes(whole.get(key, b"[]")))
        return self.decoded(list[kind], inner, ask)  # type: ignore[valid-type]

    def _next(self, ask: Ask, answer: Answer) -> Ask | None:
        url = _links(answer.headers.get("link", "")).get("next", "")
        if not url:
            return None
        # The forge names itself as people reach it, which may not be how we do.
        ours = urlsplit(self._api)
        return ask._replace(path=urlsplit(url)._replace(scheme=ours.scheme, netloc=ours.netloc).geturl(), query={})

    def _url(self, ask: Ask) -> str:
        url = ask.path if "://" in ask.path else self._api + ask.path
        return url + ("?" + urlencode(ask.query) if ask.query else "")

    def _is_ours(self, url: str) -> bool:
        """Say whether an address is on the forge's own server: authorisations go nowhere else."""
        ours, theirs = urlsplit(self._api), urlsplit(url)
        return (ours.scheme, ours.netloc) == (theirs.scheme, theirs.netloc)

    def _onward(self, ask: Ask, url: str, answer: Answer) -> str:
        if ask.method != "GET" or answer.status not in _REDIRECTS:
            return ""
        target = urljoin(url, answer.headers.get("location", ""))
        return target if self._is_ours(target) else ""

    async def _send(self, ask: Ask, url: str) -> Answer:
        content = b"" if ask.body is None else msgspec.json.encode(ask.body)
        headers = {"accept": "application/json", "accept-encoding": "identity", "user-agent": "nixmill", **ask.headers}
        if content:
            headers["content-type"] = "application/json"
        # Who asks is part of what was asked: one token may see what another may not.
        key = (url, headers.get("authorization", ""))
        kept = self._memory.get(key) if ask.remember else None
        if kept is not None:
            headers["if-none-match"] = kept.etag
        answer = await self._exchange(ask, self._request(ask, url, content, headers))
        if kept is not None and answer.status == 304:
            return Answer(200, kept.headers, kept.body)
        if ask.remember and answer.status == 200 and "etag" in answer.headers:
            self._memory.put(key, Kept(answer.headers["etag"], answer.headers, answer.body))
        return answer

    def _request(self, ask: Ask, url: str, content: bytes, headers: Mapping[str, str]) -> httpx2.Request:
        # Checked here, because what the library says of a bad header quotes it, and it may be a secret.
        if all(value.isascii() and value.isprintable() for value in headers.values()):
            try:
                return httpx2.Request(ask.method, url, content=content, headers=dict(headers))
            except (httpx2.InvalidURL, UnicodeError):
                pass
        raise DoorError(
            f"The forge {self._name} was not asked to {ask.action}: its address or the credential for it has "
            "characters that no request can carry. Mend the server's settings.",
            door="forge",
            action=ask.action,
            subject=self._name,
            retryable=False,
        )

    async def _exchange(self, ask: Ask, request: httpx2.Request) -> Answer:
        try:
            async with asyncio.timeout(self._time_limit_s):
                return await self._whole(ask, await self._opened().handle_async_request(request))
        except TimeoutError:
            raise self._fault(ask, f"it did not answer within {self._time_limit_s:g} s") from None
        except httpx2.HTTPError as error:
            raise self._fault(ask, f"{error}" or type(error).__name__) from None

    def _opened(self) -> httpx2.AsyncHTTPTransport:
        if self._transport is None:
            # No client of the library: that writes every address to the log.
            self._transport = httpx2.AsyncHTTPTransport(verify=self._trusted(), trust_env=False, limits=_CONNECTIONS)
        return self._transport

    def _trusted(self) -> ssl.SSLContext:
        if self._tls is not None:
            return self._tls
        if self._api.startswith("http:"):
            return ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)  # trusts nobody, and reads no authorities for nothing
        return ssl.create_default_context(cafile=os.environ.get("NIX_SSL_CERT_FILE") or None)

    async def _whole(self, ask: Ask, response: httpx2.Response) -> Answer:
        body = bytearray()
        try:
            async for chunk in response.aiter_raw():
                body += chunk
                if len(body) > ANSWER_MAX:
                    raise self._fault(ask, f"its answer is longer than {ANSWER_MAX >> 20} MiB")
        finally:
            await response.aclose()
        headers = {name.lower(): value for name, value in response.headers.items()}
        return Answer(response.status_code, headers, bytes(body))

    def _fault(self, ask: Ask, why: str) -> DoorError:
        return DoorError(
            f"The forge {self._name} was asked to {ask.action}: {sanitise(why, colour=False, limit=300)}.",
            door="forge",
            action=ask.action,
            subject=self._name,
            retryable=True,
        )

    def _refused(self, answer: Answer, ask: Ask) -> DoorError:
        said = _said(answer.body)
        what = f"The forge {self._name} was asked to {ask.action} and answered {answer.status}"
        what += f" ({said})" if said else ""
        wait = wait_s(answer.status, answer.headers, said, self._clock.now())
        if wait is not None:
            sentence = f"{what}: it wants to be asked again in {wait:.0f} s."
            return RetryLaterError(sentence, door="forge", action=ask.action, subject=self._name, after_s=wait)
        sentence = what + _advice(answer.status, ask.needs)
        return RefusedError(sentence, action=ask.action, subject=self._name, status=answer.status, said=said)


def _advice(status: int, needs: str) -> str:
    if status == 401:
        return ": it does not know our credential (any more). Give the server a new one."
    if status == 403:
        lacks = f"we lack the permission {needs!r}" if needs else "we may not do this"
        return f": {lacks}. Grant it on the forge."
    if status in _REDIRECTS:
        return ": it is elsewhere now, and only reading follows there."
    return "." if status < 500 else ": the fault is the forge's; this is tried again."


def _said(body: bytes) -> str:
    """Return what an error's body says in its `message` or `error`, else how it begins, on one line."""
    try:
        whole = msgspec.json.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        whole = body[:400].decode(errors="replace")
    if isinstance(whole, dict):
        whole = whole.get("message") or whole.get("error") or whole.get("error_description") or ""
    return sanitise(str(whole), colour=False, limit=200).strip()


def _links(header: str) -> dict[str, str]:
    """Return the targets of a `Link` header (RFC 8288) by their relation."""
    found: dict[str, str] = {}
    for link in header.split(",")[:20]:
        target, _, parameters = link.strip().partition(">")
        for parameter in parameters.split(";"):
            name, _, value = parameter.strip().partition("=")
            if name == "rel" and target.startswith("<"):
                found[value.strip('"')] = target[1:]
    return found
