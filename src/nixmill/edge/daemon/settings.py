"""What nixmill tells the daemons it talks to, and how it reaches them. Values only."""

from collections.abc import Mapping
from pathlib import Path
from typing import Final

import msgspec

from nixmill.nix.operations import Options
from nixmill.nix.worker_protocol import NEWEST_MINOR, DaemonFacts

HOOK_SCRIPT: Final = "#!/bin/sh\nprintf '# decline-permanently\\n' >&2\n"
"""A build hook that wants nothing. Nix before 2.24 cannot do without a hook, and its own costs 10-20 ms a build."""
EMPTY_HOOK_SINCE: Final = 38
"""Protocol of Nix 2.24, which takes an empty `build-hook` for none."""
_FOR_EVERYBODY: Final = frozenset(
    {"timeout", "max-silent-time", "build-poll-interval", "connect-timeout", "substituters"}
)
"""What an untrusted user may set. `substituters` is filtered by the daemon's own list."""


class DaemonSettings(msgspec.Struct, frozen=True, kw_only=True):
    """How to reach daemons and what to ask of them. The same settings serve every store of a run."""

    environment: Mapping[str, str]
    """What spawned programs (`nix-daemon`, `ssh`) see. Nothing else of our own environment reaches them."""
    store_dir: str = "/nix/store"
    state_dir: str = "/nix/var/nix"
    socket_path: str = "/nix/var/nix/daemon-socket/socket"
    """The daemon's socket on this machine, and on machines behind ssh unless their address names another."""
    nix_daemon: str = "nix-daemon"
    ssh: str = "ssh"
    ssh_options: tuple[str, ...] = ()
    """Further arguments of every ssh, such as `-F`, `FILE`."""
    substituters: tuple[str, ...] | None = None
    """Caches to fetch from; None leaves the daemon's own list."""
    trusted_public_keys: tuple[str, ...] | None = None
    overrides: Mapping[str, str] = {}
    """Further settings by their name in nix.conf, for every connection."""
    hook_script: str | None = None
    """A file that holds `HOOK_SCRIPT`, executable, its path without spaces; None leaves old daemons their hook."""
    newest_minor: int = NEWEST_MINOR
    """Newest protocol to speak; lower only in tests."""

    @classmethod
    def from_environment(cls, environment: Mapping[str, str], **others: object) -> "DaemonSettings":
        """Find the directories as Nix does: `NIX_STORE_DIR`, `NIX_STATE_DIR`, `NIX_DAEMON_SOCKET_PATH`."""
        state_dir = environment.get("NIX_STATE_DIR", "/nix/var/nix")
        found: dict[str, object] = {
            "environment": dict(environment),
            "store_dir": environment.get("NIX_STORE_DIR", "/nix/store"),
            "state_dir": state_dir,
            "socket_path": environment.get("NIX_DAEMON_SOCKET_PATH", f"{state_dir}/daemon-socket/socket"),
        }
        return msgspec.convert(found | others, cls)


def install_hook(directory: Path) -> str:
    """Write the hook script below `directory`, if it is not there; return its path."""
    path = directory / "decline-hook"
    if not path.exists():
        directory.mkdir(parents=True, exist_ok=True)
        new = directory / "decline-hook.new"
        new.write_text(HOOK_SCRIPT)
        new.chmod(0o755)
        new.replace(path)
    return str(path)


def query_options(settings: DaemonSettings, facts: DaemonFacts) -> Options:
    """Return the options of a connection that asks and fetches: caches as configured, nothing remembered as absent."""
    wanted = {"narinfo-cache-negative-ttl": "0"} | _caches(settings) | dict(settings.overrides)
    return Options(overrides=allowed(wanted, facts))


def _caches(settings: DaemonSettings) -> dict[str, str]:
    lists = {"substituters": settings.substituters, "trusted-public-keys": settings.trusted_public_keys}
    return {name: " ".join(values) for name, values in lists.items() if values is not None}


def build_options(
    settings: DaemonSettings,
    facts: DaemonFacts,
    *,
    local: bool,
    timeout_s: int,
    silence_s: int,
    log_bytes: int,
    cores: int,
    keep_failed: bool,
) -> Options:
    """Return the options of a connection that builds one derivation whose inputs are present: nothing is fetched."""
    wanted = {
        "build-poll-interval": "1",  # else a second client of the same derivation notices its end after 5 s
        "timeout": str(timeout_s),
        "max-build-log-size": str(log_bytes),
    }
    hook = _hook(settings, facts, local=local)
    if hook is not None:
        wanted["build-hook"] = hook
    return Options(
        keep_failed=keep_failed,
        max_silent_s=silence_s,
        cores=cores,
        substitute=False,
        overrides=allowed(wanted | _caches(settings) | dict(settings.overrides), facts),
    )


def _hook(settings: DaemonSettings, facts: DaemonFacts, *, local: bool) -> str | None:
    """Return the value that switches the build hook off; None where it cannot be."""
    if facts.minor >= EMPTY_HOOK_SINCE:
        return ""
    return settings.hook_script if local else None


def allowed(overrides: Mapping[str, str], facts: DaemonFacts) -> dict[str, str]:
    """Return what this daemon will accept from us; it would warn about the rest at every connection."""
    if facts.trusted is False:
        return {name: value for name, value in overrides.items() if name in _FOR_EVERYBODY}
    return dict(overrides)
