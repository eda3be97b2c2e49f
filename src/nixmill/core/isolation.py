"""What must hold of an evaluation sandbox, and what is said where it does not. Pure.

What this file does not know: how it is tried out (`nixmill.edge.sandbox.trial`).
"""

from collections.abc import Mapping
from enum import StrEnum
from typing import Final

import msgspec


class Property(StrEnum):
    """One thing that an evaluation for strangers must not be able to do; the value says how people call it."""

    FILES = "files of this machine"
    ENVIRONMENT = "environment and settings"
    STORE = "other store paths"
    DAEMON = "the store's daemon"
    LOOPBACK = "services of this machine"
    NETWORK = "the network"
    PROXY = "private addresses"
    USER = "user and capabilities"
    NAMESPACES = "new namespaces"
    WRITING = "read-only parts"
    NEIGHBOURS = "processes outside"
    MEMORY = "memory limit"
    PROCESSES = "process limit"
    ENDING = "nothing left behind"


_HELD: Final[Mapping[Property, str]] = {
    Property.FILES: "An evaluation cannot read the server's files, nor others of this machine.",
    Property.ENVIRONMENT: "An evaluation sees neither our environment nor this machine's nix.conf.",
    Property.STORE: "An evaluation sees no store path but those that it may know.",
    Property.DAEMON: "An evaluation cannot reach the store's daemon but through the filtering proxy.",
    Property.LOOPBACK: "An evaluation cannot connect to services of this machine.",
    Property.NETWORK: "An evaluation reaches no network by itself.",
    Property.PROXY: "The network proxy refuses loopback, link-local and private addresses.",
    Property.USER: "An evaluation runs as nobody, without capabilities.",
    Property.NAMESPACES: "An evaluation can neither mount anything nor make user namespaces.",
    Property.WRITING: "An evaluation cannot write to the system, to its tree or to the store.",
    Property.NEIGHBOURS: "An evaluation sees no process outside its sandbox, nor into the one that guards it.",
    Property.MEMORY: "The memory limit of an evaluation holds.",
    Property.PROCESSES: "The limit on processes of an evaluation holds.",
    Property.ENDING: "When an evaluation is ended, none of its processes is left.",
}
_BROKEN: Final[Mapping[Property, str]] = {
    Property.FILES: "An evaluation can read files of this machine",
    Property.ENVIRONMENT: "An evaluation sees our environment or this machine's nix.conf",
    Property.STORE: "An evaluation sees store paths that it should not know",
    Property.DAEMON: "An evaluation can reach the store's daemon past the filtering proxy",
    Property.LOOPBACK: "An evaluation can connect to services of this machine",
    Property.NETWORK: "An evaluation reaches the network by itself",
    Property.PROXY: "The network proxy connects to private addresses",
    Property.USER: "An evaluation has more rights than nobody",
    Property.NAMESPACES: "An evaluation can mount things or make user namespaces",
    Property.WRITING: "An evaluation can write where it should not",
    Property.NEIGHBOURS: "An evaluation can look into processes that are not its own",
    Property.MEMORY: "An evaluation can take more memory than its limit",
    Property.PROCESSES: "An evaluation can start processes without end",
    Property.ENDING: "Processes of an evaluation that was ended are still there",
}


class Isolation(msgspec.Struct, frozen=True, kw_only=True):
    """How a sandbox fared that was really tried."""

    unavailable: str = ""
    """Why there can be none: a sentence. Then nothing else was tried."""
    escapes: Mapping[Property, str] = {}
    """What could be done all the same, in a few words; those that hold have an empty text or are missing."""


def held(which: Property) -> str:
    """Return the sentence for a property that holds."""
    return _HELD[which]


def broken(which: Property, how: str) -> str:
    """Return the sentence for one that does not."""
    return f"{_BROKEN[which]}: {how}."
