"""From the settings to forges: one class for each kind, imported only where it is used."""

from collections.abc import Iterable, Mapping
from pathlib import Path

from nixmill.config.forges import ForgeSettings
from nixmill.core.forge import ForgeKind
from nixmill.doors import Clock
from nixmill.doors.forge import AnyForge


def make_forges(
    settings: Iterable[ForgeSettings], credentials: Mapping[str, Path], clock: Clock, *, known_hosts: Path
) -> dict[str, AnyForge]:
    """Return the forges by name; nothing is asked of them yet. Keys of ssh hosts are kept in `known_hosts`."""
    return {one.name: make_forge(one, credentials, clock, known_hosts=known_hosts) for one in settings}


def make_forge(
    settings: ForgeSettings, credentials: Mapping[str, Path], clock: Clock, *, known_hosts: Path
) -> AnyForge:
    """Return the forge that the settings describe."""
    match settings.kind:
        case ForgeKind.GITHUB:
            from nixmill.edge.forge.github import GitHubForge  # noqa: PLC0415 - the module's docstring says why

            return GitHubForge(settings, credentials, clock)
        case ForgeKind.GITEA:
            from nixmill.edge.forge.gitea import GiteaForge  # noqa: PLC0415

            return GiteaForge(settings, credentials, clock)
        case ForgeKind.GITLAB:
            from nixmill.edge.forge.gitlab import GitLabForge  # noqa: PLC0415

            return GitLabForge(settings, credentials, clock)
        case ForgeKind.GERRIT:
            from nixmill.edge.forge.gerrit import GerritForge  # noqa: PLC0415

            return GerritForge(settings, credentials, clock, known_hosts=known_hosts)
