"""Files of a binary cache that is read over HTTP, whoever serves it.

Where the cache is, is the administrator's word. Redirects are followed (caches send their readers on to buckets), but
what lets us in goes to no other server, and nothing is followed from https to http. Proxies of the environment are not
used. Time limits are those of the reader.
"""

import contextlib
import os
import ssl
from collections.abc import AsyncIterator, Mapping
from typing import Final
from urllib.parse import quote, urljoin, urlsplit

import httpx2

from nixmill.core.terminal_text import sanitise
from nixmill.doors import DoorError

_ABSENT: Final = frozenset({404, 410, 451})
_REDIRECTS: Final = frozenset({301, 302, 303, 307, 308})
_HOPS: Final = 3
_CONNECTIONS: Final = httpx2.Limits(max_connections=None, max_keepalive_connections=50, keepalive_expiry=30.0)
_FORBIDDEN: Final = 403


class HttpFiles:
    """Reads the files of one cache. Keeps connections; close with `aclose`."""

    def __init__(
        self, url: str, name: str, *, headers: Mapping[str, str] | None = None, tls: ssl.SSLContext | None = None
    ) -> None:
        """Read the cache at `url`, which the settings call `name`; `headers` are secret (`authorization`)."""
        self._url = url.rstrip("/") + "/"
        self._name = name
        self._headers = dict(headers or {})
        self._tls = tls
        self._transport: httpx2.AsyncHTTPTransport | None = None

    async def read(self, name: str) -> AsyncIterator[bytes]:
        """Yield a file of the cache; nothing where there is none.

        Raise a retryable `DoorError` where there is no answer, `ValueError` for a name outside the cache.
        """
        try:
            async with contextlib.aclosing(await self._opened(self._address(name))) as response:
                if self._is_absent(response.status_code):
                    return
                if response.status_code != 200:
                    raise self._fault(f"it answered {response.status_code}", name)
                async for chunk in response.aiter_raw():
                    yield chunk
        except (httpx2.HTTPError, httpx2.InvalidURL) as error:
            raise self._fault(str(error) or type(error).__name__, name) from None

    async def aclose(self) -> None:
        """Let connections go."""
        if self._transport is not None:
            await self._transport.aclose()
            self._transport = None

    def _address(self, name: str) -> str:
        """Return the address of a file, which may carry a query (`nar/x.nar?hash=…`) but never leads elsewhere."""
        path, mark, query = name.partition("?")
        if path.startswith("/") or "\\" in path or any(part in {"", ".", ".."} for part in path.split("/")):
            raise ValueError(f"{name[:100]!r} is no name of a file in a cache.")
        return self._url + quote(path, safe="/+=") + mark + quote(query, safe="=&+:-._~%/")

    def _is_absent(self, status: int) -> bool:
        # Buckets that may not be listed answer 403 for what is not there; whoever shows a key is told.
        return status in _ABSENT or (status == _FORBIDDEN and not self._headers)

    async def _opened(self, url: str) -> httpx2.Response:
        for _ in range(_HOPS):
            response = await self._client().handle_async_request(self._request(url))
            onward = _onward(url, response)
            if not onward:
                break
            await response.aclose()
            url = onward
        return response

    def _request(self, url: str) -> httpx2.Request:
        headers = {"accept-encoding": "identity", "user-agent": "nixmill"}
        if urlsplit(url)[:2] == urlsplit(self._url)[:2]:
            headers |= self._headers
        return httpx2.Request("GET", url, headers=headers)

    def _client(self) -> httpx2.AsyncHTTPTransport:
        if self._transport is None:
            # No client of the library: that writes every address to the log.
            self._transport = httpx2.AsyncHTTPTransport(verify=self._trusted(), trust_env=False, limits=_CONNECTIONS)
        return self._transport

    def _trusted(self) -> ssl.SSLContext:
        return self._tls or ssl.create_default_context(cafile=os.environ.get("NIX_SSL_CERT_FILE") or None)

    def _fault(self, why: str, name: str) -> DoorError:
        return DoorError(
            f"The cache {self._name} was asked for {name[:100]}: {sanitise(why, colour=False, limit=300)}.",
            door="cache",
            action="read",
            subject=name,
            retryable=True,
        )


def _onward(url: str, response: httpx2.Response) -> str:
    if response.status_code not in _REDIRECTS:
        return ""
    target = urljoin(url, response.headers.get("location", ""))
    allowed = {"https"} if url.startswith("https:") else {"http", "https"}
    return target if urlsplit(target).scheme in allowed else ""
