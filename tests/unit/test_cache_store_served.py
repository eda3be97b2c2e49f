"""What is served straight from a store: questions are joined, answers remembered for a moment, missing paths never."""

import asyncio
from collections.abc import AsyncIterator, Collection, Mapping

import pytest

from nixmill.doors import DoorError
from nixmill.doors.serving import CacheInfo
from nixmill.edge.binary_cache import store_infos
from nixmill.edge.binary_cache.objects_served import ObjectsServed, media_type
from nixmill.edge.binary_cache.store_infos import REMEMBERED_S, StoreInfos
from nixmill.edge.binary_cache.store_logs import AttemptLogs
from nixmill.nix.path_info import PathInfo
from nixmill.nix.store_path import StorePath, hash_part
from tests.fakes.logs import FakeLogs
from tests.fakes.objects import MemoryObjects

HASH = "0c0q0m8rjkxnnjcm5z0w6l1xk8f3wv2a"
PATHS = [StorePath(f"/nix/store/{digit}{HASH[1:]}-x") for digit in "0123"]


def info_of(path: StorePath) -> PathInfo:
    return PathInfo(path=path, deriver=None, nar_hash="sha256:" + "0" * 64, nar_size=8, references=())


async def member(part: str) -> StorePath | None:
    return next((path for path in PATHS if hash_part(path) == part), None)


class AskedStore:
    """A store that counts questions, and answers when it is told to."""

    def __init__(self, *valid: StorePath) -> None:
        self.there = set(valid)
        self.questions: list[set[StorePath]] = []
        self.fault: Exception | None = None
        self.was_asked = asyncio.Event()
        self.may_answer = asyncio.Event()
        self.may_answer.set()

    async def path_infos(self, paths: Collection[StorePath]) -> Mapping[StorePath, PathInfo]:
        self.questions.append(set(paths))
        self.was_asked.set()
        await self.may_answer.wait()
        if self.fault is not None:
            raise self.fault
        return {path: info_of(path) for path in paths if path in self.there}


async def test_questions_at_the_same_time_are_one() -> None:
    store = AskedStore(*PATHS[:3])
    infos = StoreInfos(store, member, lambda: 0.0)
    found = await asyncio.gather(*(infos.info(hash_part(path)) for path in [*PATHS, PATHS[0]]))
    assert found == [*map(info_of, PATHS[:3]), None, info_of(PATHS[0])]
    assert store.questions == [set(PATHS)]
    assert await infos.info("0" * 32) is None
    assert len(store.questions) == 1


async def test_what_is_valid_is_remembered_for_a_moment_and_what_is_not_never() -> None:
    store, now = AskedStore(PATHS[0]), [0.0]
    infos = StoreInfos(store, member, lambda: now[0])
    for _ in range(2):
        assert await infos.info(hash_part(PATHS[0])) is not None
        assert await infos.info(hash_part(PATHS[1])) is None
    assert store.questions == [{PATHS[0]}, {PATHS[1]}, {PATHS[1]}]
    now[0] = REMEMBERED_S + 1
    store.there.clear()
    assert await infos.info(hash_part(PATHS[0])) is None


async def test_no_more_than_so_many_are_remembered(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(store_infos, "REMEMBERED_MAX", 1)
    store = AskedStore(*PATHS)
    infos = StoreInfos(store, member, lambda: 0.0)
    for path in (PATHS[0], PATHS[1], PATHS[0]):
        await infos.info(hash_part(path))
    assert len(store.questions) == 3


async def test_trouble_is_heard_by_whoever_asked_and_not_remembered() -> None:
    store = AskedStore(PATHS[0])
    infos = StoreInfos(store, member, lambda: 0.0)
    store.fault = DoorError("The daemon is gone.", door="store", action="ask", retryable=True)
    answers = await asyncio.gather(*(infos.info(hash_part(path)) for path in PATHS[:2]), return_exceptions=True)
    assert answers == [store.fault, store.fault]
    store.fault = None
    assert await infos.info(hash_part(PATHS[0])) is not None


async def test_who_goes_away_takes_nobody_along() -> None:
    store = AskedStore(PATHS[0])
    store.may_answer.clear()
    infos = StoreInfos(store, member, lambda: 0.0)
    gone, stays = [asyncio.create_task(infos.info(hash_part(PATHS[0]))) for _ in range(2)]
    await store.was_asked.wait()
    gone.cancel()
    store.may_answer.set()
    assert await stays == info_of(PATHS[0])
    assert gone.cancelled()


async def test_the_log_of_the_newest_attempt_is_read_from_anywhere() -> None:
    logs, reads = FakeLogs(), []
    sink = logs.open(3)
    for line in ("one", "two"):
        sink.write(line)
    await sink.close()

    async def newest(name: str) -> int | None:
        reads.append(name)
        return {"a.drv": 3, "b.drv": 4}.get(name)

    found = await AttemptLogs(logs, newest).open("a.drv")
    assert found is not None
    assert found.size == 8
    assert callable(found.content)
    assert b"".join([piece async for piece in found.content(4, 4)]) == b"two\n"
    assert await AttemptLogs(logs, newest).open("b.drv") is None
    assert await AttemptLogs(logs, newest).open("c.drv") is None


async def whole(read: AsyncIterator[bytes]) -> bytes:
    return b"".join([piece async for piece in read])


async def test_objects_of_a_bucket() -> None:
    objects = MemoryObjects()
    await objects.put(f"{HASH}.narinfo", b"text")
    await objects.put("nar/x.nar.zst", b"archive")
    served = ObjectsServed(objects, CacheInfo())
    small = await served.open(f"{HASH}.narinfo")
    archive = await served.open("nar/x.nar.zst")
    assert small is not None
    assert archive is not None
    assert (small.content, small.immutable) == (b"text", False)
    assert (archive.size, archive.immutable, archive.etag != "") == (7, True, True)
    assert callable(archive.content)
    assert await whole(archive.content(1, 3)) == b"rch"
    for name in ("nar/y.nar", "../secret", "log/a?b.drv"):
        assert await served.open(name) is None


def test_media_types() -> None:
    types = {"a.narinfo": "text/x-nix-narinfo", "nar/a": "application/x-nix-nar", "a.ls": "application/json"}
    types |= {
        "log/a.drv": "text/plain; charset=utf-8",
        "realisations/a.doi": "application/json",
        "x": "application/octet-stream",
    }
    assert {name: media_type(name) for name in types} == types
