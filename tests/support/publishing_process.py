"""A process that publishes what a database says to a disk cache, until nothing is left to do: to be killed.

Arguments: database, directory of the cache, paths of the store's environment as JSON. Says `go` before it begins.
"""

import asyncio
import json
import os
import sys
import time
from pathlib import Path

import structlog

from nixmill.config.caches import CacheSettings
from nixmill.core.publish import CacheRule
from nixmill.core.upload import UploadState
from nixmill.edge.binary_cache.contents import StoreContents
from nixmill.edge.binary_cache.open import open_cache
from nixmill.edge.daemon import DaemonSettings, open_store
from nixmill.edge.database.database import open_database
from nixmill.edge.database.uploads import SqlUploads
from nixmill.edge.system_clock import SystemClock
from nixmill.engine.courier import cancelled
from nixmill.engine.publisher import Publisher

CACHE = "main"


async def publish(database: str, directory: Path, environment: dict[str, str]) -> None:
    """Publish until every upload is done."""
    settings = DaemonSettings.from_environment(environment)
    where = database if "://" in database else Path(database)
    cache_settings = CacheSettings(name=CACHE, keys=("cache-key",), directory=directory / "cache")
    cache = open_cache(cache_settings, {"cache-key": directory / "key"}, directory, settings.store_dir)
    async with open_store("stdio", settings) as store, open_database(where) as opened:
        await cache.prepare()
        uploads = SqlUploads(opened, time.time)
        rules, log = {CACHE: CacheRule(name=CACHE)}, structlog.get_logger()
        publisher = Publisher(store, StoreContents(store), {CACHE: cache}, rules, uploads, SystemClock(), log)
        os.write(1, b"go\n")
        task = asyncio.create_task(publisher.run())
        while (await uploads.counts())[CACHE].keys() != {UploadState.DONE.value}:  # noqa: ASYNC110 - rows tell nobody
            await asyncio.sleep(0.02)
        await cancelled([task])


if __name__ == "__main__":
    asyncio.run(publish(sys.argv[1], Path(sys.argv[2]), json.loads(sys.argv[3])))
