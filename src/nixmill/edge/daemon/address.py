"""Addresses of stores: what may be written, and which way of reaching a daemon it means.

`auto` (a spawned daemon where we may write to the store, else the system's socket), `daemon`, `unix:///PATH`,
`stdio`, and `ssh-ng://USER@HOST:PORT` or `ssh://…`, which reach the same daemon through a forwarded socket; with
`?ssh-key=FILE` and `?remote-store=unix:///PATH` where its socket is elsewhere.
"""

import os
import re
import urllib.parse
from pathlib import Path
from typing import Final

import msgspec

from nixmill.core.errors import InputError
from nixmill.edge.daemon.settings import DaemonSettings

DEFAULT_SOCKET: Final = "/nix/var/nix/daemon-socket/socket"
"""Where another machine's daemon listens, wherever ours does."""

_HOST: Final = re.compile(r"[A-Za-z0-9_.:%\[\]][A-Za-z0-9_.:%\-\[\]]*\Z")
_USER: Final = re.compile(r"[A-Za-z0-9_.][A-Za-z0-9_.\-@$]*\Z")
_FORMS: Final = "Use `auto`, `daemon`, `unix:///PATH`, `stdio`, `ssh-ng://USER@HOST` or `ssh://USER@HOST`."


class SocketAddress(msgspec.Struct, frozen=True):
    """A daemon's socket on this machine."""

    path: str


class StdioAddress(msgspec.Struct, frozen=True):
    """A daemon that we spawn."""


class SshAddress(msgspec.Struct, frozen=True, kw_only=True):
    """A daemon's socket on another machine. Equal addresses share one ssh."""

    host: str
    user: str = ""
    port: int | None = None
    key_file: str = ""
    socket_path: str

    @property
    def destination(self) -> str:
        """Return what ssh calls the other machine; cannot be read as an option."""
        return f"{self.user}@{self.host}" if self.user else self.host


StoreAddress = SocketAddress | StdioAddress | SshAddress


def parse(text: str, settings: DaemonSettings) -> StoreAddress:
    """Return what an address means here; raise `InputError` where it is none."""
    match text.partition("://"):
        case ("auto" | "", "", ""):
            return _auto(settings)
        case ("daemon", "", ""):
            return SocketAddress(settings.socket_path)
        case ("stdio" | "local", "", ""):
            return StdioAddress()
        case ("unix", "://", path) if path.startswith("/"):
            return SocketAddress(path)
        case ("ssh" | "ssh-ng", "://", rest) if rest:
            return _ssh(text)
        case _:
            raise InputError(f"{text!r} is not the address of a store.", _FORMS)


def is_local(where: StoreAddress, settings: DaemonSettings) -> bool:
    """Say whether the store's files are those we see: a socket that is not this machine's own may lead anywhere."""
    return where in {StdioAddress(), SocketAddress(settings.socket_path)}


def _auto(settings: DaemonSettings) -> StoreAddress:
    """Choose as Nix does, and honour `NIX_REMOTE`."""
    remote = settings.environment.get("NIX_REMOTE", "")
    if remote == "daemon" or remote.startswith("unix://"):
        return parse(remote, settings)
    if not _writable(Path(settings.state_dir)) and _visible(Path(settings.socket_path)):
        return SocketAddress(settings.socket_path)
    return StdioAddress()


def _writable(directory: Path) -> bool:
    """Say whether Nix could write there, making missing directories on the way."""
    existing = next(parent for parent in (directory, *directory.parents) if _visible(parent))
    return os.access(existing, os.W_OK, effective_ids=True)


def _visible(path: Path) -> bool:
    """Say whether a path exists, as far as we may see."""
    return os.access(path, os.F_OK, effective_ids=True)


def _ssh(text: str) -> SshAddress:
    url = urllib.parse.urlsplit(text)
    query = dict(urllib.parse.parse_qsl(url.query))
    user, _, host_port = url.netloc.rpartition("@")
    try:
        host, port = url.hostname or "", url.port
    except ValueError:
        raise InputError(f"{text!r} has a port that is no number.", _FORMS) from None
    if not _HOST.match(host) or (user and not _USER.match(user)) or not host_port:
        raise InputError(f"{text!r} does not name a machine that ssh could reach.", _FORMS)
    remote = query.get("remote-store", f"unix://{DEFAULT_SOCKET}")
    if not remote.startswith("unix:///"):
        raise InputError(f"{text!r} has a remote-store other than a unix socket.", "Write unix:///PATH.")
    return SshAddress(
        host=host,
        user=user,
        port=port,
        key_file=query.get("ssh-key", ""),
        socket_path=remote.removeprefix("unix://"),
    )


def spawn_arguments(settings: DaemonSettings) -> list[str]:
    """Return the command that speaks the protocol on its standard streams."""
    return [settings.nix_daemon, "--stdio"]


def spawn_environment(settings: DaemonSettings) -> dict[str, str]:
    """Return the environment of a spawned daemon, which must open the store itself.

    One that passed everything on to the system's daemon would lose every option (Nix 2.20 and newer).
    """
    remote = settings.environment.get("NIX_REMOTE", "")
    proxies = remote in {"", "auto", "daemon"} or remote.startswith(("unix://", "ssh"))
    return {**settings.environment, "NIX_REMOTE": "local" if proxies else remote}
