"""A cache that `nix copy --to` publishes to: `ssh-ng://…`, `https://…`, `file://…`, whatever Nix knows.

Nothing is signed here: a copy to a daemon is taken unsigned from a trusted user and signed over there, if at all; a
binary cache is signed by Nix itself where the address names a key file (`file:///cache?secret-key=/etc/nix/key`). A
signature of ours would have to be added to our own store first, which publishing must not change.
Passwords do not belong into the address, which every user of the machine can read: Nix takes them from its `netrc`.
"""

from collections.abc import Collection, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Final
from urllib.parse import parse_qs, urlsplit

from nixmill.core.errors import InputError
from nixmill.doors import DoorError
from nixmill.doors.cache import Contents, Pushed
from nixmill.edge.publish_process import environment_of, run_program
from nixmill.nix.path_info import PathInfo
from nixmill.nix.store_path import StorePath

TIMEOUT_S: Final = 3600.0
"""For one batch."""
ASK_S: Final = 120.0
BATCH: Final = 300
"""Paths of one command line: about 25 kB."""
_FRESH: Final = ("--option", "narinfo-cache-negative-ttl", "0", "--option", "narinfo-cache-positive-ttl", "0")
"""What the cache said before is not believed."""


class CopyDestination:
    """Implements `nixmill.doors.cache.Destination` by running Nix."""

    def __init__(
        self,
        url: str,
        directory: Path,
        environment: Mapping[str, str],
        *,
        nix: str = "nix",
        nix_store: str = "nix-store",
        timeout_s: float = TIMEOUT_S,
    ) -> None:
        """Copy from the store that `environment` leads to; raise `InputError` where the address holds a password."""
        _check(url)
        self._url = url
        self._directory = directory
        self._environment = environment_of(environment, directory)
        self._nix = nix
        self._nix_store = nix_store
        self._timeout_s = timeout_s

    async def lacks(self, paths: Collection[StorePath]) -> set[StorePath]:
        """See `Destination`."""
        found: set[StorePath] = set()
        for batch in _batches(sorted(paths)):
            command = (self._nix_store, "--store", self._url, *_FRESH, "--check-validity", "--print-invalid", *batch)
            try:
                ended = await run_program(command, self._environment, self._directory, timeout_s=ASK_S, answers=True)
            except DoorError:
                return set(paths)  # pushing will tell what is wrong
            if not ended.good:
                return set(paths)
            found |= {StorePath(line) for line in ended.output.decode(errors="replace").split()}
        return found.intersection(paths)

    async def push(self, infos: Sequence[PathInfo], contents: Contents) -> Pushed:
        """See `Destination`. Nix copies in closure order by itself; how much it sent it does not tell."""
        del contents  # Nix reads the store itself
        new: set[StorePath] = set()
        faults: dict[StorePath, str] = {}
        for batch in _batches([info.path for info in infos]):
            fault = await self._copy(batch)
            left = await self.lacks(batch) if fault else set()
            new |= set(batch) - left
            faults |= dict.fromkeys(left, fault)
        return Pushed(new=frozenset(new), faults=faults)

    async def _copy(self, paths: Sequence[StorePath]) -> str:
        """Copy paths with their closures; return what went wrong."""
        command = (self._nix, "--extra-experimental-features", "nix-command", *_FRESH)
        copy = ("copy", "--no-check-sigs", "--to", self._url, *paths)
        ended = await run_program((*command, *copy), self._environment, self._directory, timeout_s=self._timeout_s)
        return "" if ended.good else f"`nix copy` failed: {ended.sentence}"


def _batches(paths: Sequence[StorePath]) -> Iterator[Sequence[StorePath]]:
    return (paths[at : at + BATCH] for at in range(0, len(paths), BATCH))


def _check(url: str) -> None:
    parts = urlsplit(url)
    # A name without a password is a token, but of ssh, where it is the user.
    named = parts.username is not None and parts.scheme in {"http", "https"}
    if named or parts.password is not None or {"password", "secret-access-key"} & parse_qs(parts.query).keys():
        raise InputError(
            "The address of a cache holds a password, which every user of this machine could read.",
            "Take it out, and put it where Nix looks for it: the file that its setting `netrc-file` names.",
        )
