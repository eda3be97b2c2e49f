"""What is happening now, for pages that are open: hints that something changed, by topic.

A hint says where to look again; the truth is in the database. Slow listeners get fewer hints, never a growing queue.
"""

import asyncio
import contextlib
from collections.abc import Iterator
from typing import Final

ALL: Final = "all"
"""The topic of everything."""


def run_topic(number: int) -> str:
    """Return the topic of one run."""
    return f"run {number}"


def project_topic(project: int) -> str:
    """Return the topic of one project."""
    return f"project {project}"


def log_topic(attempt: int) -> str:
    """Return the topic of one log."""
    return f"log {attempt}"


class Listener:
    """Waits for hints of some topics; several that came meanwhile are one."""

    def __init__(self) -> None:
        """Begin with nothing heard."""
        self._event = asyncio.Event()
        self.ended = False

    def hear(self, *, ended: bool) -> None:
        """Take a hint; with `ended`, nothing more will come."""
        self.ended = self.ended or ended
        self._event.set()

    async def changed(self, timeout: float) -> bool:
        """Wait for the next change; say whether there was one before the time was up."""
        try:
            async with asyncio.timeout(timeout):
                await self._event.wait()
        except TimeoutError:
            return False
        self._event.clear()
        return True


class Live:
    """Hands hints on to whoever listens. Everything happens on one event loop."""

    def __init__(self) -> None:
        """Begin without listeners."""
        self._listeners: dict[str, set[Listener]] = {}

    def tell(self, *topics: str, ended: bool = False, everywhere: bool = True) -> None:
        """Say that something changed under these topics and, unless it is as small as a line of a log, at all."""
        for topic in (*topics, ALL) if everywhere else topics:
            for listener in self._listeners.get(topic, ()):
                listener.hear(ended=ended and topic != ALL)

    @contextlib.contextmanager
    def listen(self, *topics: str) -> Iterator[Listener]:
        """Listen to topics while the context lasts. Read the truth after listening began, so that nothing is missed."""
        listener = Listener()
        for topic in topics:
            self._listeners.setdefault(topic, set()).add(listener)
        try:
            yield listener
        finally:
            for topic in topics:
                self._listeners[topic].discard(listener)
                if not self._listeners[topic]:
                    del self._listeners[topic]
