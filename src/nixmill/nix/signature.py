"""Signatures of paths: Ed25519 over a path's fingerprint, `KEYNAME:base64`.

Source: Nix manual, "nix key generate-secret"; `ValidPathInfo::fingerprint` in `src/libstore/path-info.cc`.
"""

import base64
from collections.abc import Iterable
from typing import Final

import msgspec
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from nixmill.nix.narinfo import base32
from nixmill.nix.path_info import PathInfo

_SEED: Final = 32
_SECRET: Final = 64
"""Bytes of a secret key: the seed, then the public key."""


class SigningKeyError(ValueError):
    """The text is no key; the message says why and never repeats it."""


class SecretKey:
    """A key that signs. Never shown: its representation is its name."""

    def __init__(self, text: str) -> None:
        """Read `NAME:base64`; raise `SigningKeyError` where it is none."""
        self.name, data = _split(text)
        if len(data) != _SECRET:
            raise SigningKeyError(f"The secret key {self.name} holds {len(data)} bytes; {_SECRET} were expected.")
        self._key = Ed25519PrivateKey.from_private_bytes(data[:_SEED])
        if self._key.public_key().public_bytes_raw() != data[_SEED:]:
            raise SigningKeyError(f"The two halves of the secret key {self.name} do not belong together.")

    def __repr__(self) -> str:
        """Show the name alone."""
        return f"<secret key {self.name}>"

    def sign(self, info: PathInfo) -> str:
        """Return the signature of a path."""
        return self.sign_bytes(fingerprint(info).encode())

    def sign_bytes(self, data: bytes) -> str:
        """Return the signature of anything else that Nix signs."""
        return f"{self.name}:{base64.b64encode(self._key.sign(data)).decode()}"

    def public(self) -> str:
        """Return the public key as it stands in `trusted-public-keys`."""
        return f"{self.name}:{base64.b64encode(self._key.public_key().public_bytes_raw()).decode()}"


class PublicKey(msgspec.Struct, frozen=True):
    """A key that tells true signatures from others."""

    name: str
    data: bytes

    def verifies(self, info: PathInfo) -> bool:
        """Say whether one of a path's signatures was made by this key."""
        return any(self._made(signature, info) for signature in info.signatures)

    def _made(self, signature: str, info: PathInfo) -> bool:
        name, _, text = signature.partition(":")
        if name != self.name:
            return False
        try:
            data = base64.b64decode(text, validate=True)
            Ed25519PublicKey.from_public_bytes(self.data).verify(data, fingerprint(info).encode())
        except (ValueError, InvalidSignature):
            return False
        return True


def public_key(text: str) -> PublicKey:
    """Read `NAME:base64`; raise `SigningKeyError` where it is none."""
    name, data = _split(text)
    if len(data) != _SEED:
        raise SigningKeyError(f"The public key {name} holds {len(data)} bytes; {_SEED} were expected.")
    return PublicKey(name, data)


def secret_text(name: str, seed: bytes) -> str:
    """Return the text of the secret key that 32 random bytes make."""
    public = Ed25519PrivateKey.from_private_bytes(seed).public_key().public_bytes_raw()
    return f"{name}:{base64.b64encode(seed + public).decode()}"


def fingerprint(info: PathInfo) -> str:
    """Return what a signature is made over: path, hash, size and references."""
    return f"1;{info.path};{base32(info.nar_hash)};{info.nar_size};{','.join(sorted(info.references))}"


def signed_by(info: PathInfo, keys: Iterable[PublicKey]) -> bool:
    """Say whether one of `keys` signed a path; what is content-addressed needs none."""
    return any(key.verifies(info) for key in keys)


def _split(text: str) -> tuple[str, bytes]:
    name, found, data = text.strip().partition(":")
    if not found or not name or not all(c.isprintable() and c not in ": ;" for c in name):
        raise SigningKeyError("A key is written NAME:BASE64; this one has no name.")
    try:
        return name, base64.b64decode(data, validate=True)
    except ValueError:
        raise SigningKeyError(f"The key {name} is not base 64.") from None
