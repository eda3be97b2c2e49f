"""Content addresses: paths that follow from what they hold, so that whoever has the contents can prove the path.

What this file does not know: stores, and NARs beyond a single file.
Source: Nix manual, "Store Path Specification"; `src/libstore/{path,content-address,store-dir-config}.cc` (Nix 2.34).
"""

import hashlib
from collections.abc import Collection
from typing import Final

import msgspec

from nixmill.nix import hashes, store_path
from nixmill.nix.store_path import StorePath

_PATH_HASH_BYTES: Final = 20
_ALGORITHMS: Final = ("md5", "sha1", "sha256", "sha512")


class ContentAddressError(ValueError):
    """The text is not a content address of a kind that every daemon knows; the message says why."""


class Method(msgspec.Struct, frozen=True):
    """How contents become a path."""

    kind: str
    """`text`, `flat` (one file) or `nar`."""
    algorithm: str

    @property
    def prefix(self) -> str:
        """Return the form on the wire, such as `fixed:r:sha256`."""
        return {"text": "text:", "flat": "fixed:", "nar": "fixed:r:"}[self.kind] + self.algorithm


METHODS: Final = {
    method.prefix: method
    for method in (
        Method("text", "sha256"),
        *(Method(kind, algorithm) for kind in ("flat", "nar") for algorithm in _ALGORITHMS),
    )
}
"""Every method that needs no experimental feature, by its form on the wire."""


class ContentAddress(msgspec.Struct, frozen=True):
    """A method and the hash it gives."""

    method: Method
    digest: bytes


def parse_method(text: str) -> Method:
    """Read a method such as `fixed:r:sha256`; raise `ContentAddressError` where it is none of the stable ones."""
    if text not in METHODS:
        raise ContentAddressError(f"{text[:80]!r} is not one of {', '.join(METHODS)}.")
    return METHODS[text]


def parse(text: str) -> ContentAddress:
    """Read an address such as `fixed:r:sha256:<base 32>`; raise `ContentAddressError` where it is none."""
    prefix, _, digest = text.rpartition(":")
    method = parse_method(prefix)
    try:
        return ContentAddress(method, hashes.parse(digest, method.algorithm).digest)
    except hashes.HashError as error:
        raise ContentAddressError(f"{text[:200]!r} is no content address: {error}") from None


def render(address: ContentAddress) -> str:
    """Return the form on the wire."""
    return f"{address.method.prefix}:{hashes.base32(address.digest)}"


def path_of(address: ContentAddress, name: str, references: Collection[str], store_dir: str) -> StorePath:
    """Return the path of contents with this address; raise `ContentAddressError` where no path can have it.

    References to itself are not supported.
    """
    method = address.method
    if method.kind == "text":
        kind, digest = ":".join(("text", *sorted(references))), address.digest
    elif method == METHODS["fixed:r:sha256"]:
        kind, digest = ":".join(("source", *sorted(references))), address.digest
    else:
        if references:
            raise ContentAddressError(f"{name!r} may not refer to other paths: its address is {method.prefix}.")
        infix = "r:" if method.kind == "nar" else ""
        inner = f"fixed:out:{infix}{method.algorithm}:{address.digest.hex()}:"
        kind, digest = "output:out", hashlib.sha256(inner.encode()).digest()
    hash_part = _compressed(f"{kind}:sha256:{digest.hex()}:{store_dir}:{name}")
    try:
        return store_path.parse(f"{store_dir}/{hash_part}-{name}", store_dir)
    except store_path.StorePathError as error:
        raise ContentAddressError(f"{name[:300]!r} cannot be the name of a path: {error}") from None


def _compressed(text: str) -> str:
    digest = hashlib.sha256(text.encode("utf-8", "surrogateescape")).digest()
    folded = bytearray(_PATH_HASH_BYTES)
    for at, byte in enumerate(digest):
        folded[at % _PATH_HASH_BYTES] ^= byte
    return hashes.base32(bytes(folded))
