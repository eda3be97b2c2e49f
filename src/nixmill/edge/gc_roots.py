"""The door `Roots`: garbage-collector roots of this server in the local store.

Best is a real directory of ours below Nix's `gcroots`: a link there is a root at once. Where we may not have one, links
stand in a directory of our own and the daemon is told of each (indirect roots), which anybody may ask it to.
A collection that has looked for roots already would not see a new link. So the daemon is told of the paths, too: it
passes them on to one that is running, and one that begins later finds the links.
Source: `src/libstore/gc.cc` (Nix 2.8 to 2.35), `LocalStore::addTempRoot` and `collectGarbage`.
"""

import asyncio
from collections.abc import Collection, Iterable
from itertools import islice
from pathlib import Path
from typing import Final, NamedTuple

from nixmill.core.errors import InputError
from nixmill.doors.roots import Roots
from nixmill.edge.daemon import DaemonStore, errors
from nixmill.edge.gc_roots_links import Links, prepare
from nixmill.nix import operations
from nixmill.nix.store_path import StorePath, hash_part
from nixmill.nix.worker_protocol import Operation

CHUNK: Final = 2_000
"""Paths of which the daemon is told in one go."""


class OpenedRoots(NamedTuple):
    """The roots, and a sentence for the log that says where they stand."""

    roots: Roots
    sentence: str


class DirectRoots:
    """Links in a directory in which Nix itself looks for roots."""

    def __init__(self, store: DaemonStore, links: Links) -> None:
        """Use a directory that is ready."""
        self._store = store
        self._links = links
        self._told: set[str] = set()
        """Names of links to valid paths that the daemon was told of since we began: a crash may have come in between.

        A collection skips links to what is not valid when it looks, so of that the daemon is told again once it is.
        """

    async def add(self, paths: Collection[StorePath]) -> dict[StorePath, str]:
        """See `Roots`."""
        new, faults = await asyncio.to_thread(self._links.make, paths)
        untold = [path for path in paths if path not in faults and (path in new or hash_part(path) not in self._told)]
        valid = await self._store.valid(untold)
        await self._register({hash_part(path) for path in untold})
        await _tell(self._store, map(operations.add_temp_root, untold))
        self._told.update(map(hash_part, valid))
        return faults

    async def standing(self) -> set[str]:
        """See `Roots`."""
        return await asyncio.to_thread(self._links.standing)

    async def remove(self, hash_parts: Collection[str]) -> None:
        """See `Roots`."""
        self._told.difference_update(hash_parts)
        await asyncio.to_thread(self._links.remove, hash_parts)

    async def _register(self, names: Collection[str]) -> None:
        """Make roots of links, where links alone are none."""


class IndirectRoots(DirectRoots):
    """Links in a directory of our own, of each of which the daemon is told. It forgets those that are gone."""

    def __init__(self, store: DaemonStore, links: Links) -> None:
        """Use a directory that is ready."""
        super().__init__(store, links)
        self._checked = False

    async def standing(self) -> set[str]:
        """See `Roots`. The first time the daemon is told of all that is there: a crash may have left links untold."""
        links = await super().standing()
        if not self._checked:
            await self._register(links)
            self._checked = True
        return links

    async def _register(self, names: Collection[str]) -> None:
        directory = str(self._links.directory)
        await _tell(self._store, (operations.add_indirect_root(f"{directory}/{name}") for name in names))


async def open_roots(
    store: DaemonStore, directory: Path | None, state: Path, nix_state_dir: Path, *, server: str = ""
) -> OpenedRoots:
    """Choose where roots stand: a directory in Nix's `gcroots`, else one of ours with indirect roots.

    `directory` is what the settings say, `state` the server's own directory. `server` tells servers apart that share a
    machine: each lets go of what it does not know in its directory. Raises `InputError` where the configured
    directory cannot be used, where neither can, or where the store is not of this machine.
    """
    if not store.local:
        raise InputError(
            f"Roots cannot be kept in the store {store.name}: it is not the one of this machine.",
            "Let the server use the local daemon; other machines belong into `machines`.",
        )
    gcroots = nix_state_dir / "gcroots"
    if directory is None or _lies_in(directory, gcroots):
        direct = directory or gcroots / "nixmill"
        why_not = await asyncio.to_thread(prepare, direct, server)
        if why_not and directory is None and server:
            direct = gcroots / f"nixmill-{server}"
            why_not = await asyncio.to_thread(prepare, direct, server) and why_not
        if not why_not:
            roots: Roots = DirectRoots(store, Links(direct, store.settings.store_dir))
            return OpenedRoots(roots, f"Garbage-collector roots stand in {direct}.")
        if directory is not None:
            raise _unusable(why_not)
    else:
        why_not = f"{directory} is not below {gcroots}."
    own = (directory or state / "roots").absolute()
    if why_own_not := await asyncio.to_thread(prepare, own, server):
        raise _unusable(why_own_not)
    roots = IndirectRoots(store, Links(own, store.settings.store_dir))
    return OpenedRoots(roots, f"Garbage-collector roots stand in {own}, known to the Nix daemon: {why_not}")


def _unusable(why: str) -> InputError:
    return InputError(
        f"Garbage-collector roots cannot be kept: {why}",
        "Set `directory` of `[roots]` to a directory that belongs to the user that nixmill runs as.",
    )


def _lies_in(directory: Path, gcroots: Path) -> bool:
    """Say whether Nix finds links in a directory by itself; what it cleans up itself is not ours."""
    inner, outer = directory.resolve(), gcroots.resolve()
    return inner != outer and inner.is_relative_to(outer) and not inner.is_relative_to(outer / "auto")


def _without(paths: Collection[StorePath], faults: Collection[StorePath]) -> list[StorePath]:
    return [path for path in paths if path not in faults]


async def _tell(store: DaemonStore, requests: Iterable[Operation[None]]) -> None:
    """Send many requests over a new connection, which keeps nothing alive once it is closed."""
    source = iter(requests)
    chunk = list(islice(source, CHUNK))
    if not chunk:
        return
    with errors.explained("root paths in", store.name):
        async with store.fresh(store.query_options) as connection:
            while chunk:
                await connection.submit_all(chunk)
                chunk = list(islice(source, CHUNK))
