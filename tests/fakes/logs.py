"""The door `Logs` in memory."""

from collections.abc import AsyncIterator, Collection

from nixmill.doors import DoorError


class FakeLogSink:
    def __init__(self, text: bytearray) -> None:
        self._text = text

    def write(self, line: str) -> None:
        self._text += f"{line}\n".encode("utf-8", "surrogateescape")

    async def close(self) -> None:
        pass


class FakeLogs:
    """`texts` holds what was written, by attempt."""

    def __init__(self) -> None:
        self.texts: dict[int, bytearray] = {}

    def open(self, attempt: int) -> FakeLogSink:
        if attempt in self.texts:
            raise DoorError(f"Attempt {attempt} has a log already.", door="logs", action="open", retryable=False)
        return FakeLogSink(self.texts.setdefault(attempt, bytearray()))

    def location(self, attempt: int) -> str:
        return f"memory/{attempt}"

    async def delete(self, attempts: Collection[int]) -> None:
        for attempt in attempts:
            self.texts.pop(attempt, None)

    async def read(self, attempt: int, offset: int = 0, limit: int | None = None) -> AsyncIterator[bytes]:
        text = bytes(self.texts.get(attempt, b""))
        end = len(text) if limit is None else offset + limit
        for at in range(offset, min(end, len(text)), 1000):
            yield text[at : min(at + 1000, end)]
