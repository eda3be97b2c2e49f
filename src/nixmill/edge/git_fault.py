"""Turns what git says about a remote into sentences: whose fault, what to do, whether trying again makes sense.

Source: messages of git 2.39 to 2.51 (`http.c`, `remote-curl.c`, `connect.c`, `fetch-pack.c`, `fsck.c`), curl and
OpenSSH 9 with `LC_ALL=C`. They are not an interface: what is not recognised is passed on as git's own last line.
"""

import re
from typing import Final

import msgspec

from nixmill.doors import DoorError
from nixmill.edge.git_access import Access, Room
from nixmill.edge.git_transport import DOOR

_SHOWN: Final = 300
_ANY_CASE: Final = re.IGNORECASE | re.MULTILINE
_GONE: Final = re.compile(
    r"couldn't find remote ref|not our ref|unadvertised object|no such remote ref|want \w+ not valid", _ANY_CASE
)
_DAMAGE: Final = re.compile(
    r"is corrupt|is empty|loose object|inflate: data|packfile .* (cannot|does not)|index file .* (is too|smaller)"
    r"|bad (object|config|signature|tree)|not (a|in a) git (repository|directory)|unable to (read|parse)"
    r"|missing (blob|tree|commit)|could not read|unresolved delta|did not send all necessary|invalid sha1 pointer"
    r"|badly formed|broken ref|invalid object|failed to read",
    _ANY_CASE,
)
_NOISE: Final = re.compile(
    r"^(fatal: Could not read from remote repository|Please make sure you have the correct|and the repository exists"
    r"|fatal: fsck error in pack|fatal: fetch-pack: invalid index-pack|(error|fatal): index-pack failed"
    r"|\s*$)"
)
_REMOTE_WORDS: Final = ("remote:", "fatal: remote error")


class Kind(msgspec.Struct, frozen=True):
    """A kind of trouble."""

    pattern: str
    sentence: str
    """With {url}, {host}, {credential}, {known_hosts} and {said}."""
    retryable: bool = False


_KINDS: Final = (
    Kind(
        r"HOST IDENTIFICATION HAS CHANGED|Host key verification failed",
        "{host} shows another host key than before; nothing was fetched. If the change is known to be right, remove "
        "the old key (ssh-keygen -f {known_hosts} -R '{ssh_host}'); else it may be an attack.",
    ),
    Kind(
        r"UNPROTECTED PRIVATE KEY|bad permissions",
        "ssh does not use the key of {credential}: others may read its file. Type: chmod 600 on it.",
    ),
    Kind(
        r"Could not resolve|name resolution|Name or service not known|No address associated",
        "The name {host} of {url} was not found. It is tried again; check the address and this machine's DNS.",
        retryable=True,
    ),
    Kind(
        r"dubious ownership",
        "{url} belongs to another user and git refuses to serve it: {said}. Give it to the server's user.",
    ),
    Kind(
        r"Authentication failed|could not read (Username|Password)|returned error: 40[13]|Permission denied"
        r"|Access denied|Too many authentication failures",
        "{host} does not let us read {url} with {credential}. Check that it is right, not expired, and may read the "
        "repository.",
    ),
    Kind(
        r"repository '.*' not found|returned error: (404|410)|does not appear to be a git repository"
        r"|Repository not found|could not be found|no such repository|repository .* does not exist|did you run"
        r"|not exported",
        "{host} has no repository {url}, or does not show it to {credential}. Check the address, and whether it was "
        "moved or deleted.",
    ),
    Kind(
        r"returned error: 3\d\d|unable to update url base|Protocol .* (not supported|disabled)"
        r"|transport '.*' not allowed",
        "{url} leads to an address that is not followed ({said}). Put the address at which the repository is now into "
        "the project.",
    ),
    Kind(
        r"SSL certificate|certificate verif|self[- ]signed certificate|certificate has expired",
        "{host} does not prove who it is ({said}). Its certificate has to be renewed, or its authority made known to "
        "this machine.",
    ),
    Kind(
        r"fsck error|^error: object [0-9a-f]+: \w+",
        "{url} has an object that is malformed, perhaps on purpose, and was refused ({said}). "
        "It has to be removed there.",
    ),
    Kind(r"No space left on device|Disk quota exceeded", "This machine's disk is full ({said}). Make room."),
    Kind(
        r"returned error: (5\d\d|429|408)|Operation too slow|timed out|Connection (refused|reset|closed)"
        r"|onnect to server|Failed to connect|unable to connect|No route to host|Network is unreachable|early EOF"
        r"|hung up|RPC failed|Empty reply|transfer closed|Recv failure|Send failure|handshake|unexpected disconnect"
        r"|expected flush|HTTP/2|bad line length|invalid server response|SSL_|GnuTLS|kex_exchange|Broken pipe",
        "{host} cannot be reached or broke off ({said}). "
        "It is tried again; if that does not help, see whether it is well.",
        retryable=True,
    ),
)


def is_gone(complaint: str) -> bool:
    """Say whether the remote does not have, or does not give, what was asked for."""
    return _GONE.search(complaint) is not None


def hints_damage(complaint: str, *, failed: bool = True) -> bool:
    """Say whether the mirror may be damaged: git says so, or failed for no reason known here.

    The remote can write such words too: look at the mirror before acting.
    """
    own = "\n".join(line for line in complaint.split("\n") if not line.startswith(_REMOTE_WORDS))
    return _DAMAGE.search(own) is not None or (failed and _kind(complaint) is None and not is_gone(complaint))


def fault(complaint: str, reached: Access, room: Room, action: str) -> DoorError:
    """Return the error for a command that failed."""
    host, _, port = reached.host.partition(":")
    kind = _kind(complaint)
    sentence = kind.sentence if kind else "git could not read {url}: {said}"
    words = sentence.format(
        url=reached.url,
        host=reached.host,
        credential=f"the credential {reached.credential}" if reached.credential else "no credential",
        known_hosts=room.known_hosts,
        ssh_host=f"[{host}]:{port}" if port else host,
        said=said(complaint),
    )
    retryable = kind is not None and kind.retryable
    return DoorError(words, door=DOOR, action=action, subject=reached.url, retryable=retryable)


def said(complaint: str) -> str:
    """Return git's most telling line, printable and short."""
    lines = [line for line in complaint.split("\n") if not _NOISE.match(line)]
    last = re.sub(r"^(fatal|error): ", "", lines[-1].strip()) if lines else "no reason given"
    shown = "".join(char if char.isprintable() else "�" for char in last)
    return shown if len(shown) <= _SHOWN else shown[: _SHOWN - 1] + "…"


def _kind(complaint: str) -> Kind | None:
    return next((kind for kind in _KINDS if re.search(kind.pattern, complaint, _ANY_CASE)), None)
