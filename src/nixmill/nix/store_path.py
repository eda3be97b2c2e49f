"""Store paths: what a well-formed one is, and the parts of its name.

Source: Nix manual, "Store Path"; `src/libstore/path.cc` (Nix 2.34). The hash part is 160 bits in
Nix's base 32 (no e, o, t, u), the name at most 211 characters of a fixed set.
What this file does not know: whether a path is valid in any store. That belongs to a (path, store) pair.
"""

import re
from typing import Final, NewType

StorePath = NewType("StorePath", str)
"""A full path such as `/nix/store/<hash>-<name>`; made by `parse` only, so that it is well formed."""

DEFAULT_STORE_DIR: Final = "/nix/store"
HASH_LENGTH: Final = 32
NAME_LENGTH_MAX: Final = 211

_BASE_NAME: Final = re.compile(r"[0-9a-df-np-sv-z]{32}-[0-9a-zA-Z+\-._?=]{1,211}\Z")


class StorePathError(ValueError):
    """The text is not a store path; the message says what is wrong with it."""


def parse(text: str, store_dir: str = DEFAULT_STORE_DIR) -> StorePath:
    """Return `text` as a store path of `store_dir`; raise `StorePathError` where it is malformed."""
    prefix = store_dir + "/"
    if not text.startswith(prefix):
        raise StorePathError(f"{text!r} is not a path in the store {store_dir}.")
    base = text[len(prefix) :]
    if not _BASE_NAME.match(base):
        raise StorePathError(f"{text!r} is malformed: expected {store_dir}/<32 characters of hash>-<name>.")
    name = base[HASH_LENGTH + 1 :]
    if name in (".", "..") or name.startswith((".-", "..-")):
        raise StorePathError(f"{text!r} is malformed: its name may not be or start like {name[:3]!r}.")
    return StorePath(text)


def base_name(path: StorePath) -> str:
    """Return the part after the store directory: `<hash>-<name>`."""
    return path.rsplit("/", 1)[1]


def hash_part(path: StorePath) -> str:
    """Return the 32 characters that identify the path in any binary cache."""
    return base_name(path)[:HASH_LENGTH]


def name_part(path: StorePath) -> str:
    """Return the name after the hash, with `.drv` where it is a derivation."""
    return base_name(path)[HASH_LENGTH + 1 :]


def is_derivation(path: StorePath) -> bool:
    """Say whether the path names a derivation file."""
    return path.endswith(".drv")


def derivation_name(drv_path: StorePath) -> str:
    """Return a derivation's name without `.drv`, such as `hello-2.12`."""
    return name_part(drv_path).removesuffix(".drv")
