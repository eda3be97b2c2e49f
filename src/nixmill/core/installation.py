"""What is known of the Nix installation that a run uses, as data. Gathered by `nixmill.edge.nix_installation`."""

from enum import StrEnum

import msgspec

from nixmill.nix.version import NixVersion


class NixSettings(msgspec.Struct, frozen=True, kw_only=True):
    """The settings of Nix that decisions need, as the client sees them; a daemon may have others."""

    system: str
    extra_platforms: tuple[str, ...]
    system_features: frozenset[str]
    substituters: tuple[str, ...]
    trusted_public_keys: tuple[str, ...]
    trusted_users: tuple[str, ...]
    substitute: bool
    require_sigs: bool
    max_jobs: int
    cores: int
    """`NIX_BUILD_CORES`; 0 means all of the machine."""
    builders: str
    sandbox: str
    """`true`, `false` or `relaxed`."""
    sandbox_fallback: bool
    experimental_features: frozenset[str]
    """`nix-command` is always among them: nixmill asks with it switched on."""
    min_free: int
    """Bytes; below it the daemon collects garbage by itself. 0 means never."""
    accept_flake_config: bool
    build_users_group: str
    netrc_file: str
    store: str
    """`auto`, `daemon`, `local` or the address of a store."""


class StoreAccess(StrEnum):
    """How Nix would reach its store with `store = auto`."""

    DIRECT = "direct"
    """This user writes to the store."""
    DAEMON = "daemon"
    NONE = "none"
    """Not writable, and no daemon listens."""


class NixInstallation(msgspec.Struct, frozen=True, kw_only=True):
    """The Nix that is found first, and its store."""

    program: str
    """Full path of `nix`."""
    version: NixVersion
    store_dir: str
    state_dir: str
    daemon_socket: str
    """Path where the daemon listens, whether or not it does."""
    access: StoreAccess
    settings: NixSettings


class Unreachable(msgspec.Struct, frozen=True, kw_only=True):
    """A substituter that is left out, and why. Show `sentence`: the address may hold a password."""

    url: str
    reason: str

    @property
    def sentence(self) -> str:
        """Return what people are told, without any password."""
        return f"The substituter {without_password(self.url)} is left out: {self.reason}."


class Reachability(msgspec.Struct, frozen=True, kw_only=True):
    """Which substituters can be used, in their order."""

    reachable: tuple[str, ...]
    unreachable: tuple[Unreachable, ...]


def without_password(url: str) -> str:
    """Return an address without the user and password that may stand in it."""
    scheme, separator, rest = url.partition("://")
    host, slash, path = rest.partition("/")
    return f"{scheme}{separator}{host.rpartition('@')[2]}{slash}{path}" if separator else url
