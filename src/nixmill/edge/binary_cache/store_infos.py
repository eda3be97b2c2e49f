"""What a store says of what was published from it, asked for many paths at once and remembered for a moment.

Nix asks for each path in a request of its own, dozens at the same time: they become one question to the daemon.
"""

import asyncio
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Collection, Mapping
from typing import Final, Protocol

from nixmill.nix.path_info import PathInfo
from nixmill.nix.store_path import StorePath

REMEMBERED_S: Final = 30.0
"""How long a published path is not asked about again. That one is missing is never remembered."""
REMEMBERED_MAX: Final = 4096
Member = Callable[[str], Awaitable[StorePath | None]]
"""Returns the published path that has a hash part."""


class Asked(Protocol):
    """The part of a store that is asked here."""

    async def path_infos(self, paths: Collection[StorePath]) -> Mapping[StorePath, PathInfo]:
        """Return size, references and so on of those that are valid."""


class StoreInfos:
    """Asks a store for path infos."""

    def __init__(self, store: Asked, member: Member, monotonic: Callable[[], float]) -> None:
        """Remember nothing yet."""
        self._store = store
        self._member = member
        self._now = monotonic
        self._known: OrderedDict[str, tuple[float, PathInfo]] = OrderedDict()
        self._waiting: dict[StorePath, asyncio.Future[PathInfo | None]] = {}
        self._worker: asyncio.Task[None] | None = None

    async def info(self, part: str) -> PathInfo | None:
        """Return what is known of the published path with a hash part; None where none is valid. `DoorError`."""
        until, known = self._known.get(part, (0.0, None))
        if known is not None and until > self._now():
            return known
        path = await self._member(part)
        found = await self._asked(path) if path is not None else None
        if found is not None:
            self._remember(part, found)
        return found

    async def _asked(self, path: StorePath) -> PathInfo | None:
        answer = self._waiting.get(path)
        if answer is None:
            answer = self._waiting[path] = asyncio.get_running_loop().create_future()
        if self._worker is None or self._worker.done():
            self._worker = asyncio.create_task(self._ask())
        return await asyncio.shield(answer)

    async def _ask(self) -> None:
        while self._waiting:
            asked, self._waiting = self._waiting, {}
            try:
                found = await self._store.path_infos(list(asked))
            except BaseException as error:  # whoever waits hears it; being cancelled ends this too
                _fail(asked.values(), error)
                if not isinstance(error, Exception):
                    raise
                continue
            for path, answer in asked.items():
                if not answer.done():
                    answer.set_result(found.get(path))

    def _remember(self, part: str, info: PathInfo) -> None:
        self._known[part] = (self._now() + REMEMBERED_S, info)
        self._known.move_to_end(part)
        while len(self._known) > REMEMBERED_MAX:
            self._known.popitem(last=False)


def _fail(answers: Collection["asyncio.Future[PathInfo | None]"], error: BaseException) -> None:
    for answer in answers:
        if not answer.done():
            if isinstance(error, Exception):
                answer.set_exception(error)
                answer.exception()  # it was seen, whether or not somebody still waits
            else:
                answer.cancel()
