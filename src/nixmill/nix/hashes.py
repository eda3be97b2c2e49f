"""Hashes and their spellings: base 16, Nix's base 32, base 64, and SRI (`sha256-<base64>`).

Nix's base 32 reads the hash as one little-endian number and writes its digits most significant first, without
the letters e, o, t and u. Source: `src/libutil/hash.cc` and `base-nix-32.cc` (Nix 2.34).
"""

import base64
import binascii
from typing import Final

import msgspec

ALPHABET: Final = "0123456789abcdfghijklmnpqrsvwxyz"
SIZES: Final = {"md5": 16, "sha1": 20, "sha256": 32, "sha512": 64, "blake3": 32}
"""Bytes of each algorithm's hash."""

_DIGITS: Final = {character: value for value, character in enumerate(ALPHABET)}


class HashError(ValueError):
    """The text is not a hash; the message says why."""


class Hash(msgspec.Struct, frozen=True):
    """An algorithm's name and the hash itself."""

    algorithm: str
    digest: bytes

    def base16(self) -> str:
        """Return hexadecimal digits."""
        return self.digest.hex()

    def base32(self) -> str:
        """Return Nix's base 32."""
        return base32(self.digest)

    def base64(self) -> str:
        """Return standard base 64, padded."""
        return base64.b64encode(self.digest).decode()

    def sri(self) -> str:
        """Return `sha256-<base64>`."""
        return f"{self.algorithm}-{self.base64()}"


def base32(data: bytes) -> str:
    """Return `data` in Nix's base 32."""
    number = int.from_bytes(data, "little")
    length = (len(data) * 8 + 4) // 5
    return "".join(ALPHABET[number >> (5 * n) & 31] for n in reversed(range(length)))


def from_base32(text: str, size: int) -> bytes:
    """Return the `size` bytes that `text` spells; raise `HashError` where it does not."""
    number = 0
    for character in text:
        digit = _DIGITS.get(character)
        if digit is None:
            raise HashError(f"{text!r} is not in Nix's base 32: it holds {character!r}.")
        number = number << 5 | digit
    if len(text) != (size * 8 + 4) // 5 or number >> (size * 8):
        raise HashError(f"{text!r} does not spell {size} bytes in base 32.")
    return number.to_bytes(size, "little")


def parse(text: str, algorithm: str | None = None) -> Hash:
    """Read `sha256:<any base>`, SRI, or, where `algorithm` is given, a bare hash; the length tells the base."""
    for separator in ":-":
        name, found, rest = text.partition(separator)
        if found and name in SIZES:
            if algorithm not in {None, name}:
                raise HashError(f"{text!r} is a {name} hash where {algorithm} was expected.")
            return Hash(name, _from_base64(rest, SIZES[name]) if separator == "-" else _digest(rest, SIZES[name]))
    if algorithm is None or algorithm not in SIZES:
        raise HashError(f"{text!r} does not say which kind of hash it is.")
    return Hash(algorithm, _digest(text, SIZES[algorithm]))


def _digest(text: str, size: int) -> bytes:
    if len(text) == size * 2:
        try:
            return binascii.unhexlify(text)
        except ValueError:
            raise HashError(f"{text!r} is not hexadecimal.") from None
    if len(text) == (size * 8 + 4) // 5:
        return from_base32(text, size)
    return _from_base64(text, size)


def _from_base64(text: str, size: int) -> bytes:
    try:
        digest = base64.b64decode(text, validate=True)
    except ValueError:
        raise HashError(f"{text!r} is not base 64.") from None
    if len(digest) != size:
        raise HashError(f"{text!r} spells {len(digest)} bytes where {size} were expected.")
    return digest
