"""Names of a cache's objects: what may be one, and where what lies.

    nix-cache-info             the store directory, and how early clients ask
    HASH.narinfo               what is said of a path
    HASH.ls                    what its archive holds, and where in it
    nar/FILEHASH.nar.zst       an archive, named by the hash of its compressed bytes
    log/DRVNAME                a build's log, plain
    debuginfo/BUILDID.debug    which archive holds debug information
    realisations/ID.doi        what an output of a content-addressed derivation came out as
    gone/ID                    names of archives whose narinfo was taken away, for the collector

Source: `src/libstore/binary-cache-store.cc` (Nix 2.8 to 2.34).
"""

import re
from typing import Final

from nixmill.nix import hashes
from nixmill.nix.store_path import StorePath, base_name, hash_part

CACHE_INFO: Final = "nix-cache-info"
NARINFO: Final = ".narinfo"
LISTING: Final = ".ls"
ARCHIVES: Final = "nar/"
LOGS: Final = "log/"
DEBUG_INFO: Final = "debuginfo/"
REALISATIONS: Final = "realisations/"
REALISATION_END: Final = ".doi"
TOMBSTONES: Final = "gone/"
_PART: Final = r"[A-Za-z0-9_+\-!=:][A-Za-z0-9._+\-!=:]*"
_NAME: Final = re.compile(rf"{_PART}(/{_PART})*\Z")
_LENGTH_MAX: Final = 512
_PART_MAX: Final = 255
"""Longest name of a file on the file systems that are in use."""


def is_name(name: str) -> bool:
    """Say whether something may be the name of an object: no part of one begins with a full stop."""
    return len(name) <= _LENGTH_MAX and bool(_NAME.match(name)) and max(map(len, name.split("/"))) <= _PART_MAX


def check_name(name: str) -> str:
    """Return the name of an object; raise `ValueError` where it may not be one."""
    if not is_name(name):
        raise ValueError(f"{name[:80]!r} is no name of an object in a cache.")
    return name


def narinfo_name(path: StorePath) -> str:
    """Return where the narinfo of a path is."""
    return hash_part(path) + NARINFO


def listing_name(path: StorePath) -> str:
    """Return where the listing of a path's archive is."""
    return hash_part(path) + LISTING


def archive_name(file_digest: bytes) -> str:
    """Return where an archive is whose compressed bytes have this SHA-256."""
    return f"{ARCHIVES}{hashes.base32(file_digest)}.nar.zst"


def log_name(drv_path: StorePath) -> str:
    """Return where the log of a derivation's build is."""
    return LOGS + base_name(drv_path)


def realisation_name(identifier: str) -> str:
    """Return where a realisation is; `identifier` is `sha256:HEX!OUTPUT`."""
    return f"{REALISATIONS}{identifier}{REALISATION_END}"
