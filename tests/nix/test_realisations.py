"""What content-addressed derivations came out as is published, so that real Nix substitutes by the derivation."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import pytest

from tests.support.kept import pinned, roots_of, run_of, until
from tests.support.mill import Mill
from tests.support.nix_world import nix_version, run
from tests.support.program import flake, job
from tests.support.published import Caches, elsewhere, nix, publishing_mill, until_uploads

FLOATING: Final = '__contentAddressed = true; outputHashMode = "recursive"; outputHashAlgo = "sha256";'
BELOW: Final = job("below", "echo below > $out", FLOATING)
MIDDLE: Final = job("middle", "echo $below > $out", f"below = {BELOW}; {FLOATING}")
TOP: Final = job("top", "echo $middle > $out", f"middle = {MIDDLE};")
"""Not content-addressed itself; its path follows from what the others came out as."""
ALIKE: Final = job("middle", "echo $below > $out; : again", f"below = {BELOW}; {FLOATING}")
"""Another derivation that comes out as `MIDDLE` does."""


@pytest.fixture
def caches(tmp_path: Path) -> Caches:
    """Caches of several kinds."""
    caches = Caches(tmp_path)
    caches.add("main", "main-1")
    caches.add("lan", "lan-1", kind="store")
    caches.add("files", "files-1", format="cas")
    return caches


@pytest.fixture
def mill(tmp_path: Path, caches: Caches) -> Iterator[Mill]:
    """A server that publishes to them, with a Nix that knows content-addressed derivations."""
    with publishing_mill(tmp_path, caches) as mill:
        known = mill.store.environment["NIX_CONFIG"].replace("nix-command flakes", "nix-command flakes ca-derivations")
        mill.store.environment["NIX_CONFIG"] = known
        yield mill


async def checked(mill: Mill, **checks: str) -> dict[str, str]:
    """Commit a flake with these checks; return their derivations once a run found all good."""
    commit = mill.projects["p"].commit(flake__nix=flake(**checks))
    if mill.server.process is None:
        mill.server.start()
        await mill.server.ready()
    page = await run_of(mill.server, "p", commit)
    return {row["path"][-1]: row["drv_path"] for row in page["rows"]}


def substituted(mill: Mill, cache: str, key: str, drv_path: str, place: Path) -> str:
    """Have another machine, which has a derivation and cannot build, realise it; return what came of it, or nothing."""
    there = elsewhere(mill.store, place)
    copied = nix(mill.store, "nix", "copy", "--derivation", "--to", there, drv_path)
    assert copied.returncode == 0, copied.stderr
    options = {
        "substituters": f"{mill.server.url}/cache/{cache}",
        "trusted-public-keys": key,
        "builders": "",
        "max-jobs": "0",
    }
    arguments = [word for name, value in options.items() for word in ("--option", name, value)]
    done = nix(mill.store, "nix-store", "--store", there, "--realise", drv_path, *arguments)
    assert "building '" not in done.stderr
    assert "resolved derivation" not in done.stderr, "it was not found by the derivation that was asked for"
    return done.stdout.strip()


def realisations(directory: Path) -> dict[str, Any]:
    """Return the realisations in a cache, without what only some versions of Nix write of them."""
    found = {file.name: json.loads(file.read_text()) for file in (directory / "realisations").glob("*.doi")}
    own = {"signatures", "dependentRealisations"}
    return {name: {key: value for key, value in told.items() if key not in own} for name, told in found.items()}


async def test_another_machine_substitutes_by_the_derivation(mill: Mill, caches: Caches, tmp_path: Path) -> None:
    mill.project("p")
    drv_paths = await checked(mill, top=TOP, middle=MIDDLE)
    paths = await pinned(mill.server, "p")
    assert set(paths) == {"top", "middle"}
    assert set(paths.values()) <= roots_of(mill.store)
    for cache, name in (("main", "top"), ("main", "middle"), ("lan", "top"), ("files", "top")):
        await until_uploads(mill.server, cache, paths.values())
        place = tmp_path / f"{cache}-{name}"
        assert substituted(mill, cache, caches.public(f"{cache}-1"), drv_paths[name], place) == paths[name]
    written, every = tmp_path / "theirs", "^*" if nix_version(mill.store) >= (2, 15) else ""
    run(mill.store, "nix", "copy", "--to", f"file://{written}", *(drv_path + every for drv_path in drv_paths.values()))
    ours = realisations(mill.server.state / "caches/main")
    assert len(ours) == 3  # since 2.34 `nix copy` leaves out those of inputs
    assert set(realisations(written)) <= set(ours)
    assert realisations(written).items() <= ours.items()
    assert ours == realisations(mill.server.state / "caches/files")


async def test_a_machine_that_trusts_another_key_substitutes_nothing(
    mill: Mill, caches: Caches, tmp_path: Path
) -> None:
    mill.project("p")
    drv_paths = await checked(mill, top=TOP)
    paths = await pinned(mill.server, "p")
    await until_uploads(mill.server, "main", paths.values())
    there = elsewhere(mill.store, tmp_path / "there")
    nix(mill.store, "nix", "copy", "--derivation", "--to", there, drv_paths["top"])
    options = ("--option", "substituters", f"{mill.server.url}/cache/main", "--option", "builders", "")
    key = ("--option", "trusted-public-keys", caches.public("lan-1"), "--max-jobs", "0")
    done = nix(mill.store, "nix-store", "--store", there, "--realise", drv_paths["top"], *options, *key)
    assert done.returncode != 0
    assert not (tmp_path / "there/real" / Path(paths["top"]).name).exists()


async def test_what_comes_out_as_something_published_is_found_too(mill: Mill, caches: Caches, tmp_path: Path) -> None:
    mill.project("p")
    before = await checked(mill, middle=MIDDLE)
    path = (await pinned(mill.server, "p"))["middle"]
    await until_uploads(mill.server, "main", [path])
    after = await checked(mill, middle=ALIKE)
    assert before != after
    assert (await pinned(mill.server, "p"))["middle"] == path
    directory = mill.server.state / "caches/main"
    await until(lambda: len(realisations(directory)) == 3, "a realisation of the second derivation")
    key = caches.public("main-1")
    assert substituted(mill, "main", key, after["middle"], tmp_path / "there") == path
