"""What names a delivery, so that one that is sent again is known, and what proves where it comes from."""

import hashlib
import hmac
import re
from collections.abc import Iterable
from typing import Annotated, Final

import msgspec

ForgeId = Annotated[int, msgspec.Meta(ge=-(2**63), le=2**63 - 1)]
"""A number by which a forge knows something, in 64 bits."""
_ID: Final = re.compile(r"[A-Za-z0-9._:-]{1,100}")


def delivery_of(claimed: str, body: bytes, kind: str = "") -> str:
    """Return the forge's id of a delivery; a digest of its kind and body where it has none that is fit to be kept."""
    if _ID.fullmatch(claimed):
        return claimed
    return hashlib.sha256(kind.encode(errors="replace") + b"\0" + body).hexdigest()


def is_signed(signature: str, secrets: Iterable[str], body: bytes) -> bool:
    """Say whether a signature is the HMAC-SHA256 of a raw body, in hexadecimal digits, by any of the secrets."""
    shown = signature.encode(errors="replace")
    found = False
    for secret in secrets:
        made = hmac.new(secret.encode(), body, hashlib.sha256).hexdigest().encode()
        found |= hmac.compare_digest(made, shown)
    return found


def is_one_of(shown: str, secrets: Iterable[str]) -> bool:
    """Say whether a text is one of the secrets, in a time that tells nothing about them."""
    found = False
    for secret in secrets:
        found |= hmac.compare_digest(secret.encode(), shown.encode(errors="replace"))
    return found
