"""A cache that a configured command publishes to (Cachix, Attic, niks3): it gets store paths on its standard input.

Each path comes after those it refers to, one a line. Exit code 0 says that all of them are published. Such commands
skip what is there already, and cannot be asked about it.
"""

from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Final

from nixmill.doors.cache import Contents, Pushed
from nixmill.edge.publish_process import environment_of, run_program
from nixmill.nix.path_info import PathInfo
from nixmill.nix.store_path import StorePath

TIMEOUT_S: Final = 3600.0
"""For the paths of one push."""


class CommandDestination:
    """Implements `nixmill.doors.cache.Destination` by running a command without a shell."""

    def __init__(
        self,
        command: Sequence[str],
        directory: Path,
        environment: Mapping[str, str],
        secrets: Mapping[str, str],
        *,
        timeout_s: float = TIMEOUT_S,
    ) -> None:
        """Run `command` in `directory`, with little of our `environment` and with `secrets` as variables."""
        self._command = tuple(command)
        self._directory = directory
        self._secrets = dict(secrets)
        self._environment = environment_of(environment, directory) | self._secrets
        self._timeout_s = timeout_s

    async def lacks(self, paths: Collection[StorePath]) -> set[StorePath]:
        """See `Destination`: a command cannot be asked."""
        return set(paths)

    async def push(self, infos: Sequence[PathInfo], contents: Contents) -> Pushed:
        """See `Destination`. How much was sent, and what was known, the command does not tell."""
        del contents  # the command reads the store itself
        paths = [info.path for info in infos]
        ended = await run_program(
            self._command,
            self._environment,
            self._directory,
            timeout_s=self._timeout_s,
            paths=paths,
            secrets=list(self._secrets.values()),
        )
        if ended.good:
            return Pushed(new=frozenset(paths))
        return Pushed(faults=dict.fromkeys(paths, f"The command that publishes failed: {ended.sentence}"))
