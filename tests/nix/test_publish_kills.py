"""Killed with SIGKILL at any moment, publishing goes on where it was, and a cache never refers to what it lacks."""

import contextlib
import json
import random
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

from nixmill.core.upload import Upload
from nixmill.edge.binary_cache.keys import make_key
from nixmill.edge.database.database import open_database
from nixmill.edge.database.uploads import record_uploads
from nixmill.nix import narinfo
from nixmill.nix.store_path import StorePath
from tests.support.databases import place, postgres
from tests.support.nix_world import Spec, instantiate, realise, run
from tests.support.publishing_process import CACHE
from tests.support.scratch_store import ScratchStore

__all__ = ["place", "postgres"]

LIVES = 4
TOPS = 12
SIZE = 1_500_000


def closures(store: ScratchStore) -> list[StorePath]:
    """Build paths that share what they refer to, large enough that publishing takes a while."""
    script = f"/usr/bin/head -c {SIZE} /dev/urandom > $out; echo $inputs >> $out"
    leaves = [Spec(f"kill-leaf-{number}", script) for number in range(4)]
    middles = [Spec(f"kill-middle-{number}", script, inputs=leaves[number : number + 2]) for number in range(3)]
    tops = [Spec(f"kill-top-{number}", script, inputs=middles) for number in range(TOPS)]
    return [realise(store, drv_path) for drv_path in instantiate(store, *tops)]


def published(store: ScratchStore, cache: Path) -> set[str]:
    """Return the paths that a cache holds; fail where one refers to what is not there, or lacks its archive."""
    files = list(cache.glob("*.narinfo"))  # what appears later refers to nothing that is not there now or later
    found = [narinfo.parse(file.read_text(), store.store_dir) for file in files]
    paths = {one.info.path for one in found}
    for one in found:
        assert paths.issuperset(one.info.references), f"{one.info.path} came before what it refers to"
        assert (cache / one.url).stat().st_size == one.file_size
    return {str(path) for path in paths}


@contextlib.contextmanager
def process(where: Path | str, directory: Path, store: ScratchStore) -> "Iterator[subprocess.Popen[bytes]]":
    """Run a process that publishes and is at it; kill it at the end, if it has not ended."""
    module = "tests.support.publishing_process"
    arguments = [sys.executable, "-m", module, str(where), str(directory), json.dumps(store.environment)]
    with subprocess.Popen(arguments, stdout=subprocess.PIPE) as child:
        assert child.stdout is not None
        assert child.stdout.readline() == b"go\n"
        try:
            yield child
        finally:
            child.kill()


def until_it_wrote(child: "subprocess.Popen[bytes]", cache: Path, files: int) -> None:
    """Return once so many more files are there, unfinished ones too, or the process has nothing left to do."""
    deadline, before = time.monotonic() + 30, set(cache.rglob("*"))
    while child.poll() is None and len(set(cache.rglob("*")) - before) < files:
        assert time.monotonic() < deadline


async def test_killed_at_random_moments(store: ScratchStore, place: Path | str, tmp_path: Path) -> None:
    paths = closures(store)
    make_key(tmp_path / "key", "cache-1")
    rows = [Upload(cache=CACHE, path=path, project=0, run=1) for path in paths]
    async with open_database(place) as opened:
        await opened.write(lambda connection: record_uploads(connection, rows), action="ask")
    moments, killed = random.Random(5), 0  # noqa: S311 - hides nothing
    for _ in range(LIVES):
        with process(place, tmp_path, store) as child:
            until_it_wrote(child, tmp_path / "cache", moments.randrange(1, 16))
        killed += child.returncode != 0
        published(store, tmp_path / "cache")
    assert killed
    with process(place, tmp_path, store) as child:
        assert child.wait(60) == 0
    closure = set(run(store, "nix-store", "--query", "--requisites", *paths).split())
    assert published(store, tmp_path / "cache") == closure
