"""`nixmill cache`: caches as the server's settings describe them, worked on directly. The server may run meanwhile.

What deletes or replaces anything takes the same locks as the server (`nixmill.engine.cache_locks`); what is to be
published again stands in the database, from which the server's queue takes it.
"""

import asyncio
import os
import pwd
from collections.abc import Awaitable, Callable, Mapping, Sequence
from pathlib import Path
from typing import Final, TypeVar

import msgspec

from nixmill.cli import cache_view
from nixmill.cli.cache_progress import CacheProgressLine
from nixmill.cli.serve import read_settings
from nixmill.cli.standard_streams import columns, paint, say
from nixmill.cli.wiring import Wiring
from nixmill.config.caches import CacheSettings
from nixmill.core.errors import InputError
from nixmill.core.run_event import EXIT_CODE, Verdict
from nixmill.core.terminal_text import counted, number, size
from nixmill.core.upload import UploadState
from nixmill.doors import DoorError
from nixmill.engine.cache_tools import CacheTools
from nixmill.nix.store_path import StorePath, StorePathError, parse

T = TypeVar("T")
DAMAGED: Final = EXIT_CODE[Verdict.BUILD_FAILED]
_GIVEN_UP: Final = (UploadState.FAILED, UploadState.REFUSED)


class Caches:
    """What can be done to caches."""

    def __init__(self, wiring: Wiring, config: str | None) -> None:
        """Work on the caches of the settings."""
        self._wiring = wiring
        self._settings = read_settings(config)

    def list(self, *, json: bool) -> int:
        """Print all caches; how much is in them is counted now."""
        if not self._settings.caches:
            say("The settings name no cache. How to add one: docs/configuration.md")
            return 0
        rows = self._with(self._rows)
        if json:
            print(msgspec.json.encode(rows).decode())  # noqa: T201 - the result is what is asked for
        else:
            print(*cache_view.listing(rows, paint(), columns()), sep="\n")  # noqa: T201 - likewise
        return 0

    def show(self, name: str) -> int:
        """Print what others need to use a cache."""
        cache = self._known(name)
        keys = [self._wiring.read_key(self._settings.credentials[key]).public() for key in cache.keys]
        row = self._with(lambda desk: self._row(desk, cache, {}))
        print(*cache_view.page(row, cache, keys, self._settings.url), sep="\n")  # noqa: T201 - the result
        return 0

    def verify(self, name: str, paths: Sequence[str], *, repair: bool) -> int:
        """Read a cache, or some of its paths; say what is wrong, and mend it where that is asked for."""
        self._known(name)
        wanted = [self._path(text) for text in paths]
        line = CacheProgressLine()
        try:
            found = self._with(
                lambda desk: desk.verifier.verify(name, wanted, repair=repair, told=line.told), building=True
            )
        finally:
            line.close()
        for trouble in found.troubles:
            print(*cache_view.trouble(trouble), sep="\n")  # noqa: T201 - the result is what is asked for
        bad = len(found.troubles)
        say(f"{counted(found.looked, 'path')}, {size(found.size)}: {f'{number(bad)} damaged' if bad else 'all good'}.")
        if bad and not repair:
            say(f"To mend them: nixmill cache verify {name} --repair")
        return 0 if all(trouble.mended for trouble in found.troubles) else DAMAGED

    def collect(self, name: str, *, dry_run: bool) -> int:
        """Delete what a cache need not hold, or say what that is."""
        cache = self._known(name)
        if not (cache.max_days or cache.max_paths or cache.max_gib):
            say(f"{name} keeps everything: the settings give it no max-days, max-paths or max-gib.")
        done = self._with(lambda desk: desk.keeper.collect(name, dry_run=dry_run))
        for doomed in done.doomed:
            print(f"{doomed.path}  {doomed.reason}")  # noqa: T201 - the result is what is asked for
        freed = sum(doomed.size for doomed in done.doomed)
        verb = "Would be deleted" if dry_run else "Deleted"
        say(f"{verb}: {counted(len(done.doomed), 'path')}, {size(freed)}.")
        say(f"{'Would stay' if dry_run else 'Kept'}: {counted(done.kept, 'path')}, {size(done.kept_size)}.")
        if done.doomed and not dry_run:
            say(f"Their archives go once they have not been named for {cache.grace_hours:g} hours.")
        return 0

    def sign(self, name: str) -> int:
        """Sign what lacks a signature of today's keys."""
        if not self._known(name).keys:
            raise InputError(f"{name} has no keys to sign with.", "Make one: nixmill cache key new NAME FILE")
        count = self._with(lambda desk: desk.keeper.sign(name))
        say(f"Signed anew: {counted(count, 'path')} of {name}.")
        return 0

    def retry(self, name: str, paths: Sequence[str]) -> int:
        """Try again to publish what was given up."""
        self._known(name)
        wanted = [self._path(text) for text in paths] or None
        count = self._with(lambda desk: desk.uploads.again(name, wanted))
        say(f"Tried again: {counted(count, 'upload')} to {name}; a running server takes them up within a minute.")
        return 0

    def _with(self, work: Callable[[CacheTools], Awaitable[T]], *, building: bool = False) -> T:
        check_user(self._settings.state)

        async def opened() -> T:
            async with self._wiring.open_caches(self._settings, building=building) as desk:
                return await work(desk)

        return asyncio.run(opened())

    async def _rows(self, desk: CacheTools) -> Sequence[cache_view.CacheRow]:
        counts = await desk.uploads.counts()
        return [await self._row(desk, cache, counts) for cache in self._settings.caches]

    async def _row(
        self, desk: CacheTools, cache: CacheSettings, counts: Mapping[str, Mapping[str, int]]
    ) -> cache_view.CacheRow:
        of = (counts or await desk.uploads.counts()).get(cache.name, {})
        sizes: list[int] | None = None
        if cache.name in desk.keeper.caches:
            stock = desk.keeper.own(cache.name).stock
            sizes = [entry.size async for entries in stock.entries() for entry in entries]
        return cache_view.CacheRow(
            name=cache.name,
            kind=cache.kind,
            results=cache.results,
            paths=None if sizes is None else len(sizes),
            size=None if sizes is None else sum(sizes),
            waiting=of.get(UploadState.WAITING, 0) + of.get(UploadState.REBUILDING, 0),
            failed=sum(of.get(state, 0) for state in _GIVEN_UP),
        )

    def _known(self, name: str) -> CacheSettings:
        for cache in self._settings.caches:
            if cache.name == name:
                return cache
        raise InputError(f"There is no cache {name!r} in the settings.", "See: nixmill cache list")

    def _path(self, text: str) -> StorePath:
        try:
            return parse(text, self._wiring.place())
        except StorePathError as error:
            raise InputError(str(error), "Give whole store paths.") from error


def check_user(state: Path) -> None:
    """Raise `InputError` where the server runs as another user, who could not read what is written here."""
    try:
        owner = state.stat().st_uid
    except OSError:
        return  # it is made, or the error is told where it matters
    if owner != os.geteuid():
        name = _user(owner)
        raise InputError(
            f"{state} belongs to {name}; what another user writes there the server cannot read.",
            f"Work as that user: sudo -u {name} nixmill cache …",
        )


def _user(number: int) -> str:
    try:
        return pwd.getpwuid(number).pw_name
    except KeyError:  # a user id without a name, as in containers
        return f"#{number}"


def new_key(wiring: Wiring, name: str, file: str) -> int:
    """Make a secret key that only its owner can read; print the public one."""
    try:
        public = wiring.make_key(name, file)
    except DoorError as error:
        raise InputError(str(error), "") from error
    print(public)  # noqa: T201 - the result is what is asked for
    say(f"The secret key is in {file}. Name that file in [credentials], and the credential in `keys` of a [[cache]].")
    return 0


def show_key(wiring: Wiring, file: str) -> int:
    """Print the public key that belongs to a secret one."""
    print(wiring.read_key(file).public())  # noqa: T201 - the result is what is asked for
    return 0
