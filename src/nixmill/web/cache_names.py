"""Names of what a binary cache serves: everything else does not exist, whatever a directory or a bucket holds.

Source: Nix manual, "HTTP Binary Cache Store"; `src/libstore/binary-cache-store.cc` (Nix 2.8 to 2.34); Hydra's routes.
"""

import re
from typing import Final
from urllib.parse import unquote_to_bytes

INFO: Final = "nix-cache-info"
NAME_BYTES_MAX: Final = 512
"""Longest name looked for."""
PREFIX: Final = b"/cache/"
_HASH: Final = r"[0-9a-df-np-sv-z]{32}"
_KNOWN: Final = re.compile(
    rf"{INFO}"
    rf"|{_HASH}\.(narinfo|ls)"
    r"|nar/[0-9A-Za-z][0-9A-Za-z+._=-]*"
    rf"|log/{_HASH}-[0-9A-Za-z+._?=-]+\.drv"
    r"|realisations/sha256:[0-9a-z]+![0-9A-Za-z+._?=-]+\.doi"
    r"|debuginfo/[0-9a-f]+(\.debug)?"
)
_FIRST: Final = frozenset({b"nar", b"log", b"realisations", b"debuginfo"})
_ENDINGS: Final = (b".narinfo", b".ls")


def below_cache(raw_path: bytes) -> tuple[str, bytes] | None:
    """Return the cache that an address below `/cache/NAME/` names, and the rest as it was sent; None for others."""
    if not raw_path.startswith(PREFIX):
        return None
    name, found, rest = raw_path[len(PREFIX) :].partition(b"/")
    return (name.decode("ascii", "replace"), rest) if found and rest else None


def at_root(raw_path: bytes) -> bytes | None:
    """Return the rest of an address that could be Hydra's for something in its cache; None for others."""
    rest = raw_path[1:]
    first, found, _ = rest.partition(b"/")
    if (found and first in _FIRST) or rest == INFO.encode() or (not found and rest.endswith(_ENDINGS)):
        return rest
    return None


def known(raw: bytes) -> str | None:
    """Return the name that the rest of an address spells; None where nothing is ever called so.

    An encoded slash is none; what is not well formed is never looked for.
    """
    if len(raw) > NAME_BYTES_MAX or b"%2f" in raw.lower():
        return None
    name = unquote_to_bytes(raw).decode("ascii", "replace")
    return name if _KNOWN.fullmatch(name) else None
