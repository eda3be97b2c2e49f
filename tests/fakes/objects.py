"""Objects of a cache in memory."""

from collections.abc import AsyncIterator, Collection, Sequence
from pathlib import Path

from nixmill.doors.cache import StoredObject
from nixmill.edge.binary_cache.batches import Content, Layer
from nixmill.edge.binary_cache.names import check_name

STEP = 1000


class MemoryObjects:
    """A dictionary. `now` is the time that objects are modified at; `order` says in which order they appeared."""

    def __init__(self) -> None:
        self.contents: dict[str, bytes] = {}
        self.modified: dict[str, float] = {}
        self.order: list[str] = []
        self.now = 0.0
        self.fails_at: str | None = None
        """Part of a name at which the next put breaks off."""

    async def size(self, name: str) -> int | None:
        content = self.contents.get(check_name(name))
        return None if content is None else len(content)

    async def read(self, name: str, start: int = 0, length: int | None = None) -> AsyncIterator[bytes]:
        content = self.contents.get(check_name(name), b"")[start:]
        content = content if length is None else content[:length]
        for at in range(0, len(content), STEP):
            yield content[at : at + STEP]

    async def put(self, name: str, content: Content, *, replace: bool = False) -> bool:
        there = check_name(name) in self.contents
        if there and not replace:
            return False
        if self.fails_at is not None and self.fails_at in name:
            raise OSError(f"broken off at {name}")
        self.contents[name] = content.read_bytes() if isinstance(content, Path) else bytes(content)
        self.modified[name] = self.now
        self.order.append(name)
        return not there

    async def put_all(self, layers: Sequence[Layer]) -> Sequence[Sequence[bool]]:
        for name in (name for layer in layers for name, _ in layer):
            check_name(name)
        return [[await self.put(name, content) for name, content in layer] for layer in layers]

    async def delete(self, names: Collection[str]) -> None:
        for name in map(check_name, names):
            self.contents.pop(name, None)
            self.modified.pop(name, None)

    async def names(self, prefix: str = "") -> AsyncIterator[Sequence[StoredObject]]:
        found = [
            StoredObject(name, len(content), self.modified[name])
            for name, content in self.contents.items()
            if name.startswith(prefix)
        ]
        for at in range(0, len(found), 2):
            yield found[at : at + 2]
