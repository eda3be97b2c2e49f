"""What happens to every request before and after the pages: proxies, JSON twins, limits, headers, mistakes of ours."""

import asyncio
import ipaddress
from collections.abc import Sequence
from typing import Final

from starlette.datastructures import Headers, MutableHeaders
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from nixmill.web import assets, problems

Address = ipaddress.IPv4Address | ipaddress.IPv6Address
Network = ipaddress.IPv4Network | ipaddress.IPv6Network
WEBHOOKS: Final = ("/hook/", "/api/push-")
TWIN: Final = b".json"
_NO_TWIN: Final = (b"/static/", b"/api/openapi.json")
NOWHERE: Final = "/\0"
"""A path that no route has: nothing is called by a name with a NUL, and databases refuse to look for it."""
HSTS_S: Final = 180 * 86_400
BODY_S: Final = 60.0
"""How long the body of a request may take."""


class Proxies:
    """Takes the client's address and scheme from proxies that are trusted, and from nobody else.

    The address is the last one in `X-Forwarded-For` that is no trusted proxy. Over a Unix socket whoever connects is
    trusted: only a proxy can be there.
    """

    def __init__(self, app: ASGIApp, trusted: Sequence[str]) -> None:
        """Trust addresses and networks."""
        self._app = app
        self._trusted = [ipaddress.ip_network(text, strict=False) for text in trusted]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass on with the true client."""
        if scope["type"] == "http" and self._trusts((scope.get("client") or ("", 0))[0]):
            headers = Headers(scope=scope)
            client = self._client(headers.getlist("x-forwarded-for"))
            scheme = headers.get("x-forwarded-proto", "").strip().lower()
            scope = {
                **scope,
                "client": (client, 0) if client else scope.get("client"),
                "scheme": scheme if scheme in {"http", "https"} else scope["scheme"],
            }
        await self._app(scope, receive, send)

    def _trusts(self, text: str) -> bool:
        address = _address(text)
        return not text if address is None else any(address in network for network in self._trusted)

    def _client(self, lines: Sequence[str]) -> str:
        for text in reversed([part.strip() for line in lines for part in line.split(",")]):
            if _address(text) is None:
                return ""
            if not self._trusts(text):
                return text
        return ""


def _address(text: str) -> Address | None:
    try:
        return ipaddress.ip_address(text)
    except ValueError:
        return None


class Twins:
    """Strips `.json` from an address and notes that JSON is wanted; answers HEAD as GET without a body, NUL with 404.

    An address whose own name ends in `.json` writes that dot as `%2E`.
    """

    def __init__(self, app: ASGIApp) -> None:
        """Wrap an application."""
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass on, changed where needed."""
        if scope["type"] == "http":
            raw: bytes = scope.get("raw_path") or scope["path"].encode()
            twin = raw.endswith(TWIN) and not raw.startswith(_NO_TWIN)
            head = scope["method"] == "HEAD"
            scope = {**scope, "state": {**scope.get("state", {}), "json_twin": twin, "head": head}}
            scope["method"] = "GET" if head else scope["method"]
            if twin:
                scope["path"] = scope["path"][: -len(TWIN)] or "/"
                scope["raw_path"] = raw[: -len(TWIN)] or b"/"
            if "\0" in scope["path"]:
                scope["path"] = NOWHERE
        await self._app(scope, receive, send)


class BodyLimit:
    """Refuses bodies that are too large, whether their length is announced or not; reads no more than the limit."""

    def __init__(self, app: ASGIApp, limit: int, webhooks: int) -> None:
        """Take bodies of at most `limit` bytes, those of webhooks of at most `webhooks`."""
        self._app = app
        self._limit = limit
        self._webhooks = webhooks

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass on with a body that is counted while it is read."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        length = Headers(scope=scope).get("content-length", "")
        announced, got, whole = int(length) if length.isdecimal() else 0, 0, False
        until = asyncio.get_running_loop().time() + BODY_S
        limit = self._webhooks if scope["path"].startswith(WEBHOOKS) else self._limit

        async def counted() -> Message:
            nonlocal got, whole
            if announced > limit:
                raise HTTPException(413)
            message = await (receive() if whole else _in_time(receive, until))
            whole = not message.get("more_body", False)
            got += len(message.get("body", b""))
            if got > limit:
                raise HTTPException(413)
            return message

        await self._app(scope, counted, send)


async def _in_time(receive: Receive, until: float) -> Message:
    try:
        async with asyncio.timeout_at(until):
            return await receive()
    except TimeoutError:
        raise HTTPException(408, headers={"Connection": "close"}) from None


class Mistakes:
    """Answers what nobody expected with 500 and an id. Once an answer has begun it can only be broken off."""

    def __init__(self, app: ASGIApp) -> None:
        """Wrap an application."""
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass on; answer for what goes wrong."""
        begun = False

        async def watched(message: Message) -> None:
            nonlocal begun
            begun = begun or message["type"] == "http.response.start"
            await send(message)

        try:
            await self._app(scope, receive, watched)
        except ClientDisconnect:
            return  # while the body was read: whoever goes away before the end needs no answer, and no log
        except Exception as error:
            answer = problems.unexpected(Request(scope), error) if scope["type"] == "http" else None
            if answer is None or begun:
                raise
            await answer(scope, receive, send)


class SafeHeaders:
    """Adds what browsers need to be told for safety, unless an answer says otherwise itself."""

    def __init__(self, app: ASGIApp, *, https: bool) -> None:
        """Prepare the headers once."""
        self._app = app
        self._headers = {
            "Content-Security-Policy": policy(),
            "X-Content-Type-Options": "nosniff",
            "Referrer-Policy": "same-origin",
            "Cross-Origin-Opener-Policy": "same-origin",
            "Cross-Origin-Resource-Policy": "same-origin",
            "Permissions-Policy": "camera=(), geolocation=(), microphone=()",
            "Cache-Control": "private, no-cache",
        }
        if https:
            self._headers["Strict-Transport-Security"] = f"max-age={HSTS_S}"

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass on; add headers to the answer."""

        async def with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name, value in self._headers.items():
                    headers.setdefault(name, value)
            await send(message)

        await self._app(scope, receive, with_headers)


def policy() -> str:
    """Return the content security policy: nothing but what this site itself serves."""
    return (
        f"default-src 'none'; script-src 'self'; style-src 'self' {assets.style_source()}; img-src 'self' data:; "
        "connect-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
    )
