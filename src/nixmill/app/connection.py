"""An HTTP connection that is not kept for ever by somebody who never finishes a question.

uvicorn ends connections that are idle between requests, but not one whose headers never end: a few thousand of them
would take every file descriptor of the server. How long a body may take is decided in `nixmill.web.middleware`.
"""

import asyncio
from typing import Final

from uvicorn.protocols.http.h11_impl import H11Protocol

HEADERS_S: Final = 20.0
"""How long the headers of a request may take."""


class ImpatientProtocol(H11Protocol):
    """Closes a connection on which no whole request came in time."""

    _timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Begin to wait."""
        super().connection_made(transport)
        self._wait()

    def data_received(self, data: bytes) -> None:
        """Take data; wait on where it was not the whole of a request's headers."""
        super().data_received(data)
        self._wait()

    def connection_lost(self, exc: Exception | None) -> None:
        """Wait no more."""
        self._stop()
        super().connection_lost(exc)

    def _wait(self) -> None:
        if not self._is_asked_nothing():
            self._stop()
        elif self._timer is None:
            self._timer = self.loop.call_later(HEADERS_S, self._give_up)

    def _is_asked_nothing(self) -> bool:
        return self.cycle is None or self.cycle.response_complete

    def _stop(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _give_up(self) -> None:
        self._timer = None
        if self._is_asked_nothing():
            self.transport.close()
