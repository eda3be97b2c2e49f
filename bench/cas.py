"""A cache by content against one of compressed archives: the same trees published to both, and read back.

    python -m bench.cas [NAME=FIRST,SECOND …] [--level N] [--json FILE]

FIRST and SECOND are directories: two builds of one thing, of which SECOND is published after FIRST. Without any:
Python's own library, and that with one file changed. Both caches are directories on the same disk,
flushed as always, and nothing is signed.

`first` is what publishing FIRST stores, `second` what SECOND adds. `sent` is what a client downloads for SECOND: an
archive as it is stored, or one that is rendered, which is not compressed. `pull` is the time until the NAR of SECOND is
there, decompressed or rendered and verified; files are in memory by then. `cpu` counts all threads.
"""

import argparse
import asyncio
import hashlib
import json
import shutil
import statistics
import sys
import sysconfig
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from pathlib import Path
from typing import Final

import msgspec

from nixmill.edge import tree_reader
from nixmill.edge.binary_cache.cache import BinaryCache
from nixmill.edge.binary_cache.cas import CasCache
from nixmill.edge.binary_cache.objects_disk import DiskObjects
from nixmill.nix.path_info import PathInfo
from nixmill.nix.store_path import StorePath, hash_part

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

STORE: Final = "/nix/store"
ROUNDS: Final = 3
MB: Final = 1e6


class Measured(msgspec.Struct, frozen=True, kw_only=True):
    """One pair of trees in one kind of cache. Times are medians, in seconds; sizes are bytes."""

    data: str
    cache: str
    nar: int
    first: int
    second: int
    objects: int
    sent: int
    push_s: float
    push_cpu_s: float
    pull_s: float
    pull_cpu_s: float


async def main() -> None:
    """Measure and print."""
    asked = argparse.ArgumentParser(description="A cache by content against one of compressed archives.")
    asked.add_argument("pairs", nargs="*", metavar="NAME=FIRST,SECOND")
    asked.add_argument("--level", type=int, default=3, help="of zstd")
    asked.add_argument("--json", type=Path)
    options = asked.parse_args()
    with tempfile.TemporaryDirectory(prefix="cas-") as scratch:
        pairs = [_pair(text) for text in options.pairs] or [_python(Path(scratch))]
        found = [
            await _measured(name, kind, trees, Path(scratch), options.level)
            for name, trees in pairs
            for kind in ("nar", "cas")
        ]
    _print(found)
    if options.json:
        options.json.write_text(json.dumps(msgspec.to_builtins(found), indent=1))


def _pair(text: str) -> tuple[str, list[Path]]:
    name, _, places = text.partition("=")
    return name, [Path(place) for place in places.split(",")]


def _python(scratch: Path) -> tuple[str, list[Path]]:
    """Copy Python's library twice, the second time with one file changed."""
    trees = [scratch / "python-1", scratch / "python-2"]
    for tree in trees:
        shutil.copytree(
            sysconfig.get_path("stdlib"), tree, symlinks=True, ignore=shutil.ignore_patterns("site-packages")
        )
    with (trees[1] / "argparse.py").open("a") as file:
        file.write("# changed\n")
    return "one file of Python's library", trees


async def _measured(data: str, kind: str, trees: Sequence[Path], scratch: Path, level: int) -> Measured:
    rounds = [await _round(data, kind, trees, scratch / f"{kind}-{number}", level) for number in range(ROUNDS)]
    times = ("push_s", "push_cpu_s", "pull_s", "pull_cpu_s")
    medians = {name: statistics.median(getattr(each, name) for each in rounds) for name in times}
    return msgspec.structs.replace(rounds[0], **medians)


async def _round(data: str, kind: str, trees: Sequence[Path], directory: Path, level: int) -> Measured:
    infos = [await _info(number, tree) for number, tree in enumerate(trees)]
    contents = tree_reader.DiskContents(dict(zip((info.path for info in infos), trees, strict=True)).__getitem__)
    objects = DiskObjects(directory)
    cache = _cache(kind, objects, level)
    stored = []
    pushes = []
    for info in infos:
        pushes.append(await _timed(lambda info=info: cache.push([info], contents)))  # type: ignore[misc]
        stored.append(_size(directory))
    sent = 0

    async def pull() -> None:
        nonlocal sent
        sent = await _pull(cache, infos[1])

    await pull()  # into memory
    pulled = await _timed(pull)
    count = len(_files(directory))
    await cache.close()
    shutil.rmtree(directory)
    return Measured(
        data=data,
        cache=kind,
        nar=infos[1].nar_size,
        first=stored[0],
        second=stored[1] - stored[0],
        objects=count,
        sent=sent,
        push_s=pushes[0][0] + pushes[1][0],
        push_cpu_s=pushes[0][1] + pushes[1][1],
        pull_s=pulled[0],
        pull_cpu_s=pulled[1],
    )


def _cache(kind: str, objects: DiskObjects, level: int) -> BinaryCache:
    if kind == "cas":
        return CasCache(objects, [], store_dir=STORE, level=level)
    return BinaryCache(objects, [], store_dir=STORE, scratch=objects.make_scratch, level=level)


async def _info(number: int, tree: Path) -> PathInfo:
    sha256, size = hashlib.sha256(), 0
    async for piece in tree_reader.nar(tree):
        sha256.update(piece)
        size += len(piece)
    path = StorePath(f"{STORE}/{number:032d}-tree")
    return PathInfo(path=path, deriver=None, nar_hash=f"sha256:{sha256.hexdigest()}", nar_size=size, references=())


async def _pull(cache: BinaryCache, info: PathInfo) -> int:
    """Read the NAR of a path to its end, as a client gets it; return the bytes that travel."""
    entry = await cache.entry(hash_part(info.path))
    if entry is None:
        raise RuntimeError(f"{info.path} was not published.")
    if isinstance(cache, CasCache):
        fresh = CasCache(cache.objects, [], store_dir=STORE)  # remembers no layout
        size = await _drained(fresh.nar(entry.narinfo))
        assert size == info.nar_size
        return size
    decompressor = zstd.ZstdDecompressor()
    sent = size = 0
    async for piece in cache.objects.read(entry.narinfo.url):
        sent += len(piece)
        size += len(await asyncio.to_thread(decompressor.decompress, piece))
    assert size == info.nar_size
    return sent


async def _drained(pieces: AsyncIterator[bytes]) -> int:
    return sum([len(piece) async for piece in pieces])


async def _timed(work: Callable[[], Awaitable[object]]) -> tuple[float, float]:
    clock, cpu = time.perf_counter(), time.process_time()
    await work()
    return time.perf_counter() - clock, time.process_time() - cpu


def _size(directory: Path) -> int:
    return sum(file.stat().st_size for file in _files(directory))


def _files(directory: Path) -> list[Path]:
    return [file for file in directory.rglob("*") if file.is_file()]


def _print(found: Sequence[Measured]) -> None:
    names: Mapping[str, str] = {"nar": "MB nar", "first": "first", "second": "second", "sent": "sent"}
    print(f"{'data':32} cache" + "".join(f"{name:>9}" for name in names.values()), end="")
    print("  objects   push    cpu   pull    cpu")
    for each in found:
        sizes = "".join(f"{getattr(each, name) / MB:9.2f}" for name in names)
        times = "".join(f"{seconds:7.2f}" for seconds in (each.push_s, each.push_cpu_s, each.pull_s, each.pull_cpu_s))
        print(f"{each.data:32} {each.cache:5}{sizes}{each.objects:9}{times}")


if __name__ == "__main__":
    asyncio.run(main())
