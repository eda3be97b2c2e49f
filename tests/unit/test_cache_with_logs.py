"""Logs go into a cache before what they are about, and never stand in its way."""

from collections.abc import Collection, Mapping

import structlog

from nixmill.doors import DoorError
from nixmill.edge.binary_cache import with_logs
from nixmill.edge.binary_cache.names import log_name
from nixmill.edge.binary_cache.with_logs import WithLogs
from nixmill.nix.path_info import PathInfo
from nixmill.nix.store_path import StorePath
from tests.fakes.destination import FakeDestination, NoContents
from tests.fakes.logs import FakeLogs
from tests.fakes.objects import MemoryObjects
from tests.fakes.store import make_path

PATHS = [make_path(f"p{number}") for number in range(4)]
DRVS = [make_path(f"p{number}.drv") for number in range(4)]


class Cache(FakeDestination):
    """A destination with objects; what it holds knows which logs were there before."""

    def __init__(self) -> None:
        super().__init__()
        self.objects = MemoryObjects()
        self.before: list[int] = []

    def enter(self, info: PathInfo) -> None:
        self.before.append(len(self.objects.contents))
        super().enter(info)


def info(number: int, deriver: StorePath | None) -> PathInfo:
    return PathInfo(path=PATHS[number], deriver=deriver, nar_hash="", nar_size=1, references=())


def joined(cache: Cache, trouble: DoorError | None = None) -> WithLogs:
    logs = FakeLogs()
    for attempt, text in ((1, "one"), (2, "two " * 9), (3, "")):
        logs.open(attempt).write(text)
    logs.texts[3].clear()

    async def newest_of(drv_paths: Collection[StorePath]) -> Mapping[StorePath, int]:
        if trouble is not None:
            raise trouble
        return {drv_path: number for number, drv_path in enumerate(DRVS) if drv_path in drv_paths and number}

    return WithLogs(cache, logs, newest_of, structlog.get_logger())


async def test_logs_are_there_before_what_they_are_about(monkeypatch) -> None:  # type: ignore[no-untyped-def]  # noqa: ANN001 - of pytest
    monkeypatch.setattr(with_logs, "TOGETHER", 2)
    cache = Cache()
    pushed = await joined(cache).push([info(number, DRVS[number]) for number in range(4)], NoContents())
    assert pushed.new == set(PATHS)
    assert cache.objects.contents == {log_name(DRVS[1]): b"one\n", log_name(DRVS[2]): b"two " * 9 + b"\n"}
    assert cache.before == [2, 2, 2, 2]
    assert await joined(cache).lacks(PATHS) == set()


async def test_long_logs_and_those_of_paths_without_deriver_are_left_out(monkeypatch) -> None:  # type: ignore[no-untyped-def]  # noqa: ANN001 - of pytest
    monkeypatch.setattr(with_logs, "LOG_MAX", 10)
    cache = Cache()
    await joined(cache).push([info(1, None), info(2, DRVS[2])], NoContents())
    assert cache.objects.contents == {}
    assert cache.held == {PATHS[1], PATHS[2]}


async def test_a_log_that_cannot_be_published_hinders_nothing() -> None:
    cache = Cache()
    trouble = DoorError("The database is away.", door="history", action="look", retryable=True)
    pushed = await joined(cache, trouble).push([info(1, DRVS[1])], NoContents())
    assert pushed.new == {PATHS[1]}
