"""HTTP requests to addresses that people of a project choose, made so that they reach nothing they should not.

A name is looked up once; what it resolves to is checked, and to just that the connection is made, with the name kept
for certificate and `Host`: a name that resolves to something else the second time gains nothing. Redirects are not
followed, proxies of the environment not used, connections not kept, answers cut.
"""

import asyncio
import ipaddress
import os
import socket
import ssl
import time
from collections.abc import Mapping
from typing import Final

import httpx2
import msgspec

from nixmill.core.message_text import WEB_ADDRESS
from nixmill.core.terminal_text import sanitise
from nixmill.doors import DoorError
from nixmill.doors.server import RetryLaterError
from nixmill.edge.retry_after import retry_after_s

TIME_LIMIT_S: Final = 30.0
"""Of a whole request, so that an answer that drips ends too."""
ANSWER_MAX: Final = 4096
"""Bytes of an answer that are looked at."""
WAIT_MAX_S: Final = 86_400.0
"""Longest time that the other side can make us wait."""
_PATIENT: Final = frozenset({408, 425, 429})
_EMBEDDING: Final = (ipaddress.IPv6Network("64:ff9b::/96"), ipaddress.IPv6Network("64:ff9b:1::/48"))
"""IPv6 networks whose last 32 bits are an IPv4 address (RFC 6052, RFC 8215)."""
_SITE_LOCAL: Final = ipaddress.IPv6Network("fec0::/10")
"""Once what fc00::/7 is now (RFC 3879); Python takes it for global."""


class Answer(msgspec.Struct, frozen=True, kw_only=True):
    """What the other side said."""

    status: int
    retry_after: str
    body: bytes
    """Its first `ANSWER_MAX` bytes."""


class Outgoing:
    """Sends requests. One for all couriers; holds no connections between requests."""

    def __init__(
        self, *, private_targets: bool = False, time_limit_s: float = TIME_LIMIT_S, tls: ssl.SSLContext | None = None
    ) -> None:
        """Refuse targets at private addresses unless `private_targets`; `tls` replaces the system's authorities."""
        self._private_targets = private_targets
        self._time_limit_s = time_limit_s
        self._tls = tls

    async def send(
        self, method: str, url: str, *, content: bytes, headers: Mapping[str, str], trusted: bool = False
    ) -> Answer:
        """Send a request. `trusted` targets, which the administrator chose, may be anywhere.

        Raises `DoorError`; names only scheme and host of the target, because addresses of webhooks can be secrets.
        """
        where = place(url)
        if not WEB_ADDRESS.fullmatch(url):
            raise refused(where, "this is no address on the web")
        try:
            # No client of the library: that writes addresses, which may be secrets, to the log.
            request = httpx2.Request(method, url, content=content, headers=dict(headers))
            async with asyncio.timeout(self._time_limit_s), self._transport(trusted=trusted) as transport:
                return await _answer(await transport.handle_async_request(request))
        except TimeoutError:
            raise _unreached(where, f"it did not answer within {self._time_limit_s:g} s") from None
        except (httpx2.InvalidURL, UnicodeError):
            raise refused(where, "this is no address on the web") from None
        except httpx2.HTTPError as error:
            raise _unreached(where, f"{error}" or type(error).__name__) from None

    def _transport(self, *, trusted: bool) -> "_CheckedTransport":
        if self._tls is None:
            self._tls = ssl.create_default_context(cafile=os.environ.get("NIX_SSL_CERT_FILE") or None)
        return _CheckedTransport(self._tls, private_targets=trusted or self._private_targets)


class _CheckedTransport(httpx2.AsyncBaseTransport):
    """Connects to addresses that were checked, never to names."""

    def __init__(self, tls: ssl.SSLContext, *, private_targets: bool) -> None:
        self._private_targets = private_targets
        # Kept connections would be found by address, and so carry requests for another name.
        limits = httpx2.Limits(max_keepalive_connections=0)
        self._inner = httpx2.AsyncHTTPTransport(verify=tls, trust_env=False, limits=limits)

    async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
        host = request.url.raw_host.decode("ascii")
        addresses = await _addresses(host, request.url.port or {"http": 80}.get(request.url.scheme, 443))
        allowed = [address for address in addresses if self._private_targets or is_public(address)]
        if not allowed:
            raise refused(
                place(str(request.url)),
                "it is at a private address; the administrator can allow this with `private_targets`",
            )
        request.extensions = {**request.extensions, "sni_hostname": host}
        name = request.url
        for address in allowed[:-1]:
            try:
                return await self._send_to(request, name, address)
            except httpx2.ConnectError:
                continue  # nothing was sent; the host has other addresses
        return await self._send_to(request, name, allowed[-1])

    async def _send_to(self, request: httpx2.Request, name: httpx2.URL, address: str) -> httpx2.Response:
        request.url = name.copy_with(host=address)
        return await self._inner.handle_async_request(request)

    async def aclose(self) -> None:
        await self._inner.aclose()


async def _addresses(host: str, port: int) -> list[str]:
    try:
        found = await asyncio.get_running_loop().getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError) as error:
        why = error.strerror if isinstance(error, OSError) else "it is no name of a host"
        raise httpx2.ConnectError(f"{host} cannot be looked up ({why})") from None
    return list(dict.fromkeys(str(address[0]) for *_, address in found))


def is_public(address: str) -> bool:
    """Say whether an IP address is one of the open internet, also where an IPv4 address hides in it."""
    try:
        ip = ipaddress.ip_address(address)
    except ValueError:
        return False
    return ip not in _SITE_LOCAL and all(
        one.is_global and not one.is_multicast and not one.is_reserved for one in _unwrapped(ip)
    )


def _unwrapped(
    ip: ipaddress.IPv4Address | ipaddress.IPv6Address,
) -> list[ipaddress.IPv4Address | ipaddress.IPv6Address]:
    if isinstance(ip, ipaddress.IPv4Address):
        return [ip]
    if ip.ipv4_mapped is not None:
        return [ip.ipv4_mapped]
    if any(ip in network for network in _EMBEDDING):
        return [ipaddress.IPv4Address(int(ip) & 0xFFFFFFFF)]
    hidden = [ip.sixtofour, *(ip.teredo or ())]
    return [ip, *(one for one in hidden if one is not None)]


async def _answer(response: httpx2.Response) -> Answer:
    body = bytearray()
    try:
        async for chunk in response.aiter_raw(ANSWER_MAX):
            body += chunk
            if len(body) >= ANSWER_MAX:
                break
    finally:
        await response.aclose()
    return Answer(
        status=response.status_code,
        retry_after=response.headers.get("retry-after", ""),
        body=bytes(body[:ANSWER_MAX]),
    )


def check(answer: Answer, url: str, *, after_s: float | None = None) -> None:
    """Return where the other side took a message; else raise `DoorError`, or `RetryLaterError` where it names a time.

    `after_s` is a time that stood elsewhere than in `Retry-After`.
    """
    if 200 <= answer.status < 300:
        return
    said = sanitise(answer.body.decode(errors="replace"), colour=False, limit=200).strip()
    what = f"{place(url)} answered {answer.status}" + (f" ({said})" if said else "")
    again = answer.status in _PATIENT or answer.status >= 500
    wait_s = after_s if after_s is not None else retry_after_s(answer.retry_after, time.time())
    if again and wait_s is not None:
        raise RetryLaterError(
            f"{what} and wants to be asked again in {min(wait_s, WAIT_MAX_S):g} s.",
            door="notify",
            action="deliver",
            subject=place(url),
            after_s=min(wait_s, WAIT_MAX_S),
        )
    if not again:
        what += "; redirects are not followed" if 300 <= answer.status < 400 else ""
        what += ". Mend the rule's target or the other side, then send the message again"
    raise DoorError(f"{what}.", door="notify", action="deliver", subject=place(url), retryable=again)


def place(url: str) -> str:
    """Return scheme and host of a URL, for sentences: the rest may be a secret."""
    scheme, _, rest = url.partition("://")
    host = rest.partition("/")[0].partition("?")[0].rpartition("@")[2]
    return sanitise(f"{scheme}://{host}", colour=False, limit=200) if rest else "the target"


def refused(where: str, why: str) -> DoorError:
    """Return the error for a target to which nothing is sent."""
    return DoorError(
        f"Nothing was sent to {where}: {why}.", door="notify", action="deliver", subject=where, retryable=False
    )


def _unreached(where: str, why: str) -> DoorError:
    said = sanitise(why, colour=False, limit=200)
    return DoorError(
        f"{where} could not be reached: {said}.", door="notify", action="deliver", subject=where, retryable=True
    )
