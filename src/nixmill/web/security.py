"""What keeps other sites out: tokens for forms, where a request comes from, and where one may be sent."""

import base64
import binascii
import hmac
import re
import secrets
from typing import Final
from urllib.parse import urlsplit

from starlette.requests import Request

from nixmill.web.refusal import RefusalError

_TOKEN_BYTES: Final = 16


def masked(token: str) -> str:
    """Return a form's token, differently each time, so that the sizes of compressed pages tell nothing about it."""
    plain = bytes.fromhex(token)
    pad = secrets.token_bytes(len(plain))
    return base64.urlsafe_b64encode(pad + _xor(pad, plain)).decode()


def _unmasked(text: str) -> str:
    try:
        both = base64.urlsafe_b64decode(text.encode())
    except (binascii.Error, ValueError):
        return ""
    half = len(both) // 2
    return _xor(both[:half], both[half:]).hex() if len(both) == 2 * _TOKEN_BYTES else ""


def _xor(left: bytes, right: bytes) -> bytes:
    return bytes(a ^ b for a, b in zip(left, right, strict=True))


def new_form_token() -> str:
    """Return a token for the forms of a session, or of a stranger who signs in."""
    return secrets.token_hex(_TOKEN_BYTES)


def is_form_token(text: str) -> bool:
    """Say whether a cookie holds such a token."""
    return re.fullmatch(r"[0-9a-f]{32}", text) is not None


def check_csrf(given: str, expected: str) -> None:
    """Raise 403 where a form does not carry the token that its page had."""
    if not expected or not hmac.compare_digest(_unmasked(given), expected):
        raise RefusalError(
            403, "The form does not come from a page of your session.", "Open its page again and send it once more."
        )


def check_same_site(request: Request, url: str) -> None:
    """Raise 403 where a browser says that another site made this request."""
    site, origin = request.headers.get("sec-fetch-site"), request.headers.get("origin")
    if site is not None:
        same = site in {"same-origin", "none"}
    elif origin is not None:
        own = {_host(url), request.headers.get("host", "").lower()}
        same = _host(origin) in own - {""}
    else:
        same = True
    if not same:
        raise RefusalError(403, "Another site sent this request.", "Open the page of nixmill itself and do it there.")


def _host(url: str) -> str:
    try:
        return urlsplit(url).netloc.lower()
    except ValueError:
        return ""


def local_path(text: str) -> str:
    """Return a path of this site as it is, and `/` for whatever could lead elsewhere."""
    harmless = text.isascii() and text.isprintable() and "\\" not in text
    return text if harmless and text.startswith("/") and not text.startswith("//") else "/"
