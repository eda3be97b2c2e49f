"""Upstream keys count whole, and a push keeps collectors out until what it did is recorded."""

import asyncio

import structlog

from nixmill.config.caches import CacheSettings
from nixmill.core.publish import CacheRule
from nixmill.core.upload import Upload, UploadState
from nixmill.edge.system_clock import SystemClock
from nixmill.engine.cache_locks import CacheLocks
from nixmill.engine.owed import rule_of
from nixmill.engine.publisher import Publisher
from nixmill.nix.signature import PublicKey
from tests.fakes.destination import FakeDestination, NoContents
from tests.fakes.store import FakeStore, make_path
from tests.fakes.uploads import FakeUploads

KEYS = [PublicKey("cache.nixos.org-1", b"1" * 32), PublicKey("other-1", b"2" * 32)]


def test_names_of_keys_that_nix_does_not_trust_excuse_nothing() -> None:
    cache = CacheSettings(name="main", upstream_keys=("cache.nixos.org-1", "unknown-1"))
    rule = rule_of(cache, KEYS)
    assert (rule.upstream, rule.upstream_keys) == (("cache.nixos.org-1",), (KEYS[0],))
    assert rule_of(cache).upstream == ()


async def test_whoever_wants_a_cache_alone_waits_until_a_push_is_recorded() -> None:
    clock, store, cache, locks = SystemClock(), FakeStore(), FakeDestination(), CacheLocks()
    path = store.add(make_path("a"))
    uploads = FakeUploads(clock.now, Upload(cache="main", path=path, project=1, run=1))
    cache.gate = asyncio.Event()
    rules = {"main": CacheRule(name="main")}
    log = structlog.get_logger()
    publisher = Publisher(store, NoContents(), {"main": cache}, rules, uploads, clock, log, locks=locks)
    task = asyncio.create_task(publisher.run())
    for _ in range(1000):
        await asyncio.sleep(0 if cache.pushes else 0.001)
        if cache.pushes:
            break
    states: list[UploadState] = []

    async def collect() -> None:
        async with locks.alone("main"):
            states.extend(uploads.states())

    collector = asyncio.create_task(collect())
    for _ in range(20):
        await asyncio.sleep(0)
    assert states == []
    cache.gate.set()
    await collector
    assert states == [UploadState.DONE]
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
