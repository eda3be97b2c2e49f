"""A server, as the client commands see it: pages as structs, actions, events; every fault as a sentence.

Decides which server and token are used, and never sends a token elsewhere: redirects are followed to the same address
only, and a token travels over `http://` only within this machine. Tokens come from files or the environment, never
from arguments, which other users can see.
"""

import asyncio
import os
import random
import re
from collections.abc import AsyncGenerator, AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self, TypeVar

import httpx2
import msgspec

from nixmill import __version__
from nixmill.cli.remembered import Remembered, recall
from nixmill.core.errors import InputError
from nixmill.core.terminal_text import sanitise
from nixmill.doors import DoorError, NotAllowedError

T = TypeVar("T")
TIMEOUT: Final = httpx2.Timeout(30.0, connect=10.0)
QUIET_S: Final = 90.0
"""A stream of events that is silent for so long is opened anew: the way to the server may be cut without a word."""
AGAIN_S: Final = (0.5, 1.0, 2.0, 5.0, 10.0)
"""Waits before a dropped stream is opened again; the last one from then on. Each is scattered a little."""
TRIES_MAX: Final = 35
"""Tries in vain after which a stream is given up: about five minutes, longer than an upgrade takes."""
BODY_MAX: Final = 64 * 1024 * 1024
EVENT_MAX: Final = 8 * 1024 * 1024
REDIRECTS_MAX: Final = 5
_TOKEN: Final = re.compile(r"[\x21-\x7e]{1,512}")
_HOST: Final = re.compile(rb"[A-Za-z0-9._-]{1,253}|[0-9a-fA-F:.]{2,45}")
_LOOPBACK: Final = ("localhost", "127.0.0.1", "::1")


class Access(msgspec.Struct, frozen=True, kw_only=True):
    """Which server, and the key to it."""

    server: str
    """Without a slash at its end."""
    token: str = ""


class Refusal(msgspec.Struct, frozen=True, kw_only=True):
    """What a server says when it refuses."""

    error: str = ""
    remedy: str = ""


def find_access(
    server: str | None,
    token_file: str | None,
    environ: Mapping[str, str],
    known: Remembered | None = None,
    *,
    pasted: bool = False,
) -> Access:
    """Return which server is meant: the option, else NIXMILL_SERVER, else that of the last sign-in; and its token.

    `pasted`: the address came from somewhere else, so only a token that is known to be for it goes there.
    """
    known = recall(environ) if known is None else known
    said = server or environ.get("NIXMILL_SERVER") or known.server
    if not said:
        raise InputError(
            "No server is known here.", "Name one: --server URL, or NIXMILL_SERVER; or sign in: nixmill sign-in URL"
        )
    address = check_address(said)
    token = _token_of_file(token_file) if token_file is not None else _token_for(address, environ, known, pasted=pasted)
    if token:
        _check_private(address, environ)
    return Access(server=address, token=token)


def _token_for(address: str, environ: Mapping[str, str], known: Remembered, *, pasted: bool) -> str:
    """Return the token for an address. NIXMILL_TOKEN is for NIXMILL_SERVER where that is set, and for no other."""
    home = environ.get("NIXMILL_SERVER") or (known.server if pasted else address)
    token = environ.get("NIXMILL_TOKEN", "")
    if token and home and check_address(home) == address:
        return check_token(token, "NIXMILL_TOKEN")
    return known.tokens.get(address, "")


def _token_of_file(file: str) -> str:
    try:
        return check_token(Path(file).read_text(encoding="utf-8"), file)
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{file} cannot be read: {error}.", "Name a file that holds the token alone.") from error


def check_address(said: str) -> str:
    """Return the address of a server without what follows its host; raise `InputError` where it is none."""
    text = said if "://" in said else f"https://{said}"
    try:
        url = httpx2.URL(text)
    except httpx2.InvalidURL as error:
        raise _no_address(said) from error
    if url.scheme not in {"http", "https"} or not _HOST.fullmatch(url.raw_host) or url.userinfo:
        raise _no_address(said)
    return origin(url)


def origin(url: httpx2.URL) -> str:
    """Return scheme, host and port of an address."""
    return f"{url.scheme}://{url.netloc.decode('ascii')}"


def _no_address(said: str) -> InputError:
    return InputError(f"{said!r} is no address of a server.", "Give one such as https://ci.example.org")


def _check_private(address: str, environ: Mapping[str, str]) -> None:
    url = httpx2.URL(address)
    if url.scheme == "http" and url.host not in _LOOPBACK and not environ.get("NIXMILL_PLAIN_HTTP"):
        raise InputError(
            f"A token is not sent to {address}: everybody on the way could read it.",
            "Use https://, or say that the network is yours alone: NIXMILL_PLAIN_HTTP=1",
        )


def check_token(text: str, where: str) -> str:
    """Return a token without white space around it; raise `InputError`, without the token, where it can be none."""
    token = text.strip()
    if not _TOKEN.fullmatch(token):
        raise InputError(f"{where} holds no token.", "A token is one line such as nm_…; make one on the page /account.")
    return token


class Client:
    """Talks to one server. Use as an asynchronous context."""

    def __init__(self, access: Access) -> None:
        """Talk to the server of `access`; nothing is sent yet."""
        self.access = access
        headers = {"User-Agent": f"nixmill/{__version__}"}
        if access.token:
            headers["Authorization"] = f"Bearer {access.token}"
        self._http = httpx2.AsyncClient(base_url=access.server, headers=headers, timeout=TIMEOUT)

    async def __aenter__(self) -> Self:
        """Begin."""
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close all connections."""
        await self._http.aclose()

    @property
    def server(self) -> str:
        """The address."""
        return self.access.server

    def address(self, path: str) -> str:
        """Return a page's address as people open it."""
        return self.server + path

    async def page(self, path: str, kind: type[T], **query: str | int) -> T:
        """Return a page as the struct it is made of."""
        body = await self._ask("GET", path, {"Accept": "application/json"}, params=query)
        return self._decoded(body, path, kind)

    async def act(self, method: str, path: str, body: object, kind: type[T]) -> T:
        """Do something; return what the server answers."""
        content = msgspec.json.encode(body)
        headers = {"Accept": "application/json", "Content-Type": "application/json"}
        return self._decoded(await self._ask(method, path, headers, content=content), path, kind)

    async def raw(self, path: str) -> AsyncIterator[bytes]:
        """Yield a file as it is; a refusal is asked for as JSON."""
        try:
            async with self._stream(path, {"Accept": "application/json, text/plain"}) as response:
                await self._check(response)
                async for chunk in response.aiter_bytes():
                    yield chunk
        except httpx2.TransportError as error:
            raise self._unreachable(error) from error

    async def events(self, path: str, last: str = "") -> AsyncGenerator[httpx2.ServerSentEvent | None, None]:
        """Yield the events of a page, from `last` on; None each time the stream was opened (again).

        A dropped stream goes on after the last event that was seen. Ends with the event `ended`.
        """
        tries = 0
        while True:
            headers = {"Accept": "text/event-stream", **({"Last-Event-ID": last} if last else {})}
            try:
                async with self._stream(path, headers, quiet_s=QUIET_S) as response:
                    await self._check(response)
                    yield None
                    async for event in httpx2.EventSource(response, max_event_size=EVENT_MAX):
                        tries, last = 0, event.id or last
                        yield event
                        if event.event == "ended":
                            return
            except httpx2.SSEError as error:
                raise self._strange(path) from error
            except httpx2.TransportError as error:  # dropped, silent for long, or the server starts anew
                if tries >= TRIES_MAX:
                    raise self._unreachable(error) from error
            except DoorError as error:
                if not error.retryable or tries >= TRIES_MAX:
                    raise
            wait = AGAIN_S[min(tries, len(AGAIN_S) - 1)]
            await asyncio.sleep(wait * random.uniform(0.8, 1.2))  # noqa: S311 - no secret
            tries += 1

    async def _ask(self, method: str, path: str, headers: dict[str, str], **more: Any) -> bytes:  # noqa: ANN401 - handed on
        try:
            async with self._stream(path, headers, method=method, **more) as response:
                await self._check(response)
                return await self._body(response)
        except httpx2.TransportError as error:
            raise self._unreachable(error) from error

    @asynccontextmanager
    async def _stream(
        self,
        path: str,
        headers: dict[str, str],
        *,
        method: str = "GET",
        quiet_s: float = 30.0,
        **more: Any,  # noqa: ANN401 - handed on
    ) -> AsyncIterator[httpx2.Response]:
        """Open an answer; questions (not actions) are led on by redirects that stay at this server."""
        timeout = httpx2.Timeout(quiet_s, connect=10.0)
        request = self._http.build_request(method, path, headers=headers, timeout=timeout, **more)
        for _ in range(REDIRECTS_MAX):
            response = await self._http.send(request, stream=True)
            try:
                if response.next_request is None or not self._may_follow(method, response.next_request.url):
                    yield response
                    return
                request = response.next_request
            finally:
                await response.aclose()
        raise self._strange(path)

    def _may_follow(self, method: str, target: httpx2.URL) -> bool:
        if origin(target) != self.server:
            there = origin(target)
            raise InputError(f"{self.server} leads on to {there}.", f"If you trust it, name that one: --server {there}")
        return method == "GET"

    async def _body(self, response: httpx2.Response) -> bytes:
        body = bytearray()
        async for chunk in response.aiter_bytes():
            body += chunk
            if len(body) > BODY_MAX:
                raise self._strange(response.request.url.path)
        return bytes(body)

    async def _check(self, response: httpx2.Response) -> None:
        """Raise what a status means; nothing for one that is good."""
        code = response.status_code
        if 200 <= code < 300:
            return
        refusal = await self._refusal(response)
        subject = response.request.url.path
        match code:
            case 401 | 403:
                remedy = refusal.remedy or (
                    "Sign in anew: nixmill sign-in " + self.server if code == 401 or not self.access.token else ""
                )
                sentence = refusal.error or f"{self.server} does not allow this."
                raise NotAllowedError(
                    " ".join(filter(None, [sentence, remedy])),
                    door="server",
                    action="ask",
                    subject=subject,
                    retryable=False,
                )
            case 404:
                hint = (
                    ""
                    if self.access.token
                    else " It may be there for those who sign in: nixmill sign-in " + self.server
                )
                raise InputError(
                    refusal.error or f"There is no {subject} at {self.server}.",
                    refusal.remedy or f"Look at {self.server}.{hint}",
                )
            case 429 | 502 | 503 | 504:
                raise self._trouble(
                    refusal.error or f"{self.server} is busy or starting (status {code}).", subject, retryable=True
                )
            case _ if code >= 500:
                sentence = refusal.error or f"{self.server} failed with status {code}; that is the server's fault."
                raise self._trouble(f"{sentence} {refusal.remedy}".strip(), subject, retryable=False)
            case _:
                raise InputError(refusal.error or f"{self.server} refused with status {code}.", refusal.remedy)

    async def _refusal(self, response: httpx2.Response) -> Refusal:
        if "json" not in response.headers.get("content-type", ""):
            return Refusal()
        try:
            refusal = msgspec.json.decode(await self._body(response), type=Refusal)
        except msgspec.DecodeError:
            return Refusal()
        return Refusal(error=sanitise(refusal.error, colour=False), remedy=sanitise(refusal.remedy, colour=False))

    def _decoded(self, body: bytes, path: str, kind: type[T]) -> T:
        try:
            return msgspec.json.decode(body, type=kind)
        except msgspec.DecodeError as error:
            raise self._strange(path) from error

    def _strange(self, path: str) -> DoorError:
        return self._trouble(
            f"{self.server} does not answer {path} as a nixmill server of this version ({__version__}) does."
            " Is it one, and are both of the same version?",
            path,
            retryable=False,
        )

    def _unreachable(self, error: httpx2.TransportError) -> DoorError:
        why = str(error) or type(error).__name__
        return self._trouble(
            f"{self.server} cannot be reached: {why}. Is the address right, and does the server run?",
            "",
            retryable=True,
        )

    def _trouble(self, sentence: str, subject: str, *, retryable: bool) -> DoorError:
        return DoorError(sentence, door="server", action="ask", subject=subject, retryable=retryable)


def connect(server: str | None, token_file: str | None) -> Client:
    """Return the client for what the options and the environment say."""
    return Client(find_access(server, token_file, os.environ))
