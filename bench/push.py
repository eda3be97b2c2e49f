"""What publishing many small paths costs, beside `nix copy` to the same kind of cache: `python -m bench.push`.

All write a signed binary cache into a new directory on the same disk, in turns; the best of each counts. Ours is
durable on return, `nix copy` is not; `--elsewhere /dev/shm` leaves the disk out of it. The limit is against a
`nix copy` for each path as it is built, as hooks and other servers do it. Beside it stands one `nix copy` of
everything, which no server can run before the last build has ended: as it is (xz, no listings), and with zstd and
listings, as ours writes them. There creating files is most of what either does. The exit code is 1 where ours is not
LIMIT times as fast.
"""

import argparse
import asyncio
import os
import shutil
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from nixmill.edge.binary_cache.cache import BinaryCache
from nixmill.edge.binary_cache.contents import StoreContents
from nixmill.edge.binary_cache.keys import make_key, read_key
from nixmill.edge.binary_cache.objects_disk import DiskObjects
from nixmill.edge.daemon import open_store
from nixmill.edge.daemon.copying import in_order
from nixmill.edge.daemon.store import DaemonStore
from nixmill.nix.store_path import StorePath
from tests.support.nix_world import run, settings_of
from tests.support.scratch_store import ScratchStore, scratch_store

LIMIT: Final = 5.0
ZSTD: Final = "&compression=zstd&write-nar-listing=true"
ONE_BY_ONE: Final = "a nix copy for each"
ROUNDS: Final = 3
ALONE: Final = 20
"""Paths that are copied one by one, to know what each costs."""
EXPRESSION: Final = """
{ count }: builtins.genList (n: builtins.toFile "small-${toString n}" "This is the small path ${toString n}.\\n") count
"""


def small_paths(store: ScratchStore, count: int) -> list[StorePath]:
    """Make paths of one small file each."""
    text = f'builtins.concatStringsSep "\\n" (({EXPRESSION}) {{ count = {count}; }})'
    out = run(store, "nix", "eval", "--raw", "--impure", "--expr", text)
    return [StorePath(path) for path in out.split()]


async def ours(store: ScratchStore, daemon: DaemonStore, paths: Sequence[StorePath], place: Path) -> float:
    """Publish paths, asking the store for what it knows of them first; return the seconds."""
    objects = DiskObjects(place)
    key = read_key(store.root / "key")
    cache = BinaryCache(objects, [key], store_dir=store.store_dir, scratch=objects.make_scratch)
    began = time.perf_counter()
    await cache.prepare()
    pushed = await cache.push(in_order(await daemon.path_infos(paths)), StoreContents(daemon))
    seconds = time.perf_counter() - began
    assert len(pushed.new) == len(paths), pushed.faults
    await cache.close()
    return seconds


def theirs(store: ScratchStore, paths: Sequence[StorePath], place: Path, options: str = "") -> float:
    """Copy paths with one `nix copy`; return the seconds."""
    began = time.perf_counter()
    address = f"file://{place}?secret-key={store.root / 'key'}{options}"
    run(store, "nix", "copy", "--to", address, *paths)
    return time.perf_counter() - began


async def measured(store: ScratchStore, count: int, directory: Path) -> bool:
    """Print both; say whether the limit holds."""
    make_key(store.root / "key", "bench-1")
    paths = small_paths(store, count)
    best = dict.fromkeys(("nixmill", "one nix copy", "one nix copy, zstd"), float("inf"))
    async with open_store("stdio", settings_of(store)) as daemon:
        for number in range(ROUNDS):
            place = directory / f"round-{number}"
            best["one nix copy"] = min(best["one nix copy"], theirs(store, paths, place / "theirs"))
            best["one nix copy, zstd"] = min(best["one nix copy, zstd"], theirs(store, paths, place / "zstd", ZSTD))
            best["nixmill"] = min(best["nixmill"], await ours(store, daemon, paths, place / "ours"))
            shutil.rmtree(place)
    began = time.perf_counter()
    for path in paths[:ALONE]:
        theirs(store, [path], directory / "alone")
    best[ONE_BY_ONE] = (time.perf_counter() - began) * count / ALONE
    for name, seconds in best.items():
        ratio = seconds / best["nixmill"]
        print(f"{name:24} {seconds:8.3f} s {seconds / count * 1e6:8.0f} µs a path {ratio:8.2f} times as long as ours")
    return best[ONE_BY_ONE] / best["nixmill"] >= LIMIT


async def main() -> int:
    """Measure with the Nix on PATH."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", 1)[0])
    parser.add_argument("--paths", type=int, default=2000)
    parser.add_argument("--elsewhere", help="a directory for caches elsewhere, such as /dev/shm")
    given = parser.parse_args()
    with scratch_store() as store, tempfile.TemporaryDirectory(dir=given.elsewhere) as directory:
        print(f"{given.paths} paths, {run(store, 'nix', '--version').strip()}, load {os.getloadavg()[0]:.1f}")
        good = await measured(store, given.paths, Path(directory))
    print(f"limit: {LIMIT:g} times as fast as a nix copy for each: {'held' if good else 'missed'}")
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(asyncio.run(main()))
