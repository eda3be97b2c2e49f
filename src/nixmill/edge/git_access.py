"""How a remote may be reached: which protocol, with which key or token, and nothing else.

Everything is said by environment variables of the one git command. What is guarded against (`docs/security.md`):

    another protocol       `GIT_ALLOW_PROTOCOL` is the project's own; redirects keep to it, and only the first is taken
    somebody's settings    no system or user configuration, no `~/.netrc`, no `~/.ssh`, no agent, no question
    a token elsewhere      it is given to the project's scheme, host and port alone; it stands in no argument and no URL
    another server         ssh keys of hosts are taken at first sight and kept in the state; a changed one is refused
    hostile objects        `fetch.fsckObjects`; three harmless mistakes of old commits are let through

Each fetch leaves a pack, since objects are checked; git joins them when there are 50, but for the big ones.

Source: git-config(1), gitcredentials(7), git(1) "Environment Variables", ssh_config(5).
"""

import os
import re
import shlex
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

import msgspec

from nixmill.core.errors import InputError
from nixmill.edge.git_transport import Limits
from nixmill.edge.ssh_command import ssh_command

DEFAULT_USER: Final = "oauth2"
"""Goes with a token that names no user: GitLab wants this one, GitHub, Gitea and Forgejo take any."""
_HELPER: Final = (
    '!f() { test "$1" = get || exit 0; IFS= read -r line <"$NIXMILL_CREDENTIAL" || test -n "$line" || exit 0; '
    'case $line in *:*) printf "username=%s\\npassword=%s\\n" "${line%%:*}" "${line#*:}";; '
    '*) printf "username=%s\\npassword=%s\\n" "$NIXMILL_CREDENTIAL_USER" "$line";; esac; }; f'
)
"""A command of the shell, since git wants one. The secret goes from the file through a pipe, never by argument."""
_SCP: Final = re.compile(r"(?P<user_host>[^:/]+):")
_ALWAYS: Final = {
    "core.hooksPath": "/dev/null",
    "core.fsmonitor": "false",
    "core.askPass": "",
    "credential.helper": "",
    "fetch.fsckObjects": "true",
    "fetch.fsck.badTimezone": "ignore",
    "fetch.fsck.missingSpaceBeforeDate": "ignore",
    "fetch.fsck.zeroPaddedFilemode": "ignore",
    "fetch.showForcedUpdates": "false",
    "fetch.recurseSubmodules": "false",
    "transfer.bundleURI": "false",
    "http.followRedirects": "initial",
    "maintenance.autoDetach": "false",
    "gc.autoDetach": "false",
    "gc.bigPackThreshold": "256m",
}
_ENVIRONMENT: Final = {
    "GIT_CONFIG_GLOBAL": os.devnull,
    "GIT_CONFIG_NOSYSTEM": "1",
    "GIT_ATTR_NOSYSTEM": "1",
    "GIT_NO_LAZY_FETCH": "1",
    "GIT_TERMINAL_PROMPT": "0",
    "GIT_ASKPASS": "",
    "GIT_SSH_VARIANT": "ssh",
    "HOME": os.devnull,
    "XDG_CONFIG_HOME": os.devnull,
    "LC_ALL": "C",
}


class Access(msgspec.Struct, frozen=True, kw_only=True):
    """A remote, and what git is told to reach it."""

    url: str
    scheme: str
    host: str
    """Host and port; of a local repository its path."""
    environment: dict[str, str]
    credential: str = ""
    """Name, for sentences."""


class Room(msgspec.Struct, frozen=True, kw_only=True):
    """What accesses have in common."""

    directory: Path
    """`known_hosts` and such are here."""
    limits: Limits

    @property
    def known_hosts(self) -> Path:
        """Where keys of hosts are kept."""
        return self.directory / "known_hosts"


def scheme_of(url: str) -> str:
    """Return the protocol of an address that was checked; `host:path` is ssh."""
    return urlsplit(url).scheme if "://" in url else "ssh"


def host_of(url: str) -> str:
    """Return host and port, or the path of a local repository."""
    if "://" not in url:
        found = _SCP.match(url)
        return found["user_host"].rpartition("@")[2] if found else url
    parts = urlsplit(url)
    return parts.path if parts.scheme == "file" else parts.netloc.rpartition("@")[2]


def access(url: str, room: Room, *, name: str = "", secret: Path | None = None, pinned: str = "") -> Access:
    """Return how to reach a repository; `secret` is the file of the credential `name`.

    `pinned` is `HOST:PORT:ADDRESS` where the host's address was decided before (`http.curloptResolve`).
    """
    scheme = scheme_of(url)
    _refuse_odd(url)
    settings = _ALWAYS | {
        "http.lowSpeedLimit": str(room.limits.slow_bytes_s),
        "http.lowSpeedTime": str(room.limits.slow_s),
    }
    environment = _ENVIRONMENT | {"GIT_ALLOW_PROTOCOL": scheme}
    if scheme == "ssh":
        environment["GIT_SSH_COMMAND"] = _ssh_command(room, secret)
    elif scheme == "file":
        environment["GIT_CONFIG_GLOBAL"] = str(_local_settings(room))
    elif secret is not None:
        parts = urlsplit(url)
        settings[f"credential.{scheme}://{host_of(url)}.helper"] = _HELPER
        environment |= {"NIXMILL_CREDENTIAL": str(secret), "NIXMILL_CREDENTIAL_USER": parts.username or DEFAULT_USER}
    if pinned:
        settings |= {"http.curloptResolve": pinned, "http.followRedirects": "false"}
    environment |= _as_variables(settings)
    return Access(url=url, scheme=scheme, host=host_of(url), environment=environment, credential=name)


def _refuse_odd(url: str) -> None:
    """Refuse what git or ssh could read as an option; the rest was seen by `nixmill.core.project.check_url`."""
    if (
        url.startswith("-")
        or "::" in url.split("/", 1)[0]
        or (urlsplit(url).netloc if "://" in url else "").startswith("-")
    ):
        raise InputError(f"{url!r} is no URL of a repository.", "Give one such as https://example.org/mill.git")


def _as_variables(settings: dict[str, str]) -> dict[str, str]:
    """Return settings as git takes them by environment (git-config(1), `GIT_CONFIG_COUNT`)."""
    variables = {"GIT_CONFIG_COUNT": str(len(settings))}
    for number, (key, value) in enumerate(settings.items()):
        variables |= {f"GIT_CONFIG_KEY_{number}": key, f"GIT_CONFIG_VALUE_{number}": value}
    return variables


def _ssh_command(room: Room, secret: Path | None) -> str:
    """Return the one ssh command line; only paths of our own settings are in it."""
    connect_s = max(1, int(min(room.limits.look_s, 20)))
    return shlex.join(ssh_command(key=secret, known_hosts=room.known_hosts, connect_s=connect_s))


def _local_settings(room: Room) -> Path:
    """Return settings by which git reads local repositories of other users.

    An administrator named them (nobody else can add `file://`), and `safe.directory` reaches the serving side by a file
    only.
    """
    place = room.directory / "local.conf"
    if not place.exists():
        new = place.with_suffix(f".{os.getpid()}")
        new.write_text("[safe]\n\tdirectory = *\n", encoding="ascii")
        new.replace(place)
    return place
