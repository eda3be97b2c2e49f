"""The two static files, and how they reach a browser within the budget of requests (interface, Web 2).

The budget is two requests cold and one warm. The stylesheet is small, so it stands in each page's `<style>`, allowed
by its hash in the content security policy: the first paint waits for nothing else. The script is the one other
request; its address holds a digest of its text, so a browser keeps it for ever. Favicons are `data:` addresses.
"""

import base64
import hashlib
import re
from functools import cache
from importlib.resources import files
from typing import Final

_PACKAGE: Final = "nixmill.web"
_COMMENT: Final = re.compile(r"/\*.*?\*/", re.DOTALL)
_SPACE: Final = re.compile(r"\s+")
_AROUND: Final = re.compile(r" ?([{};,]) ?")


@cache
def style() -> str:
    """Return the stylesheet as it stands in a page, without comments and needless space."""
    text = _COMMENT.sub("", read("style.css").decode())
    return _AROUND.sub(r"\1", _SPACE.sub(" ", text)).replace(";}", "}").strip()


@cache
def style_source() -> str:
    """Return what `style-src` of the content security policy has to allow, such as `'sha256-…'`."""
    digest = hashlib.sha256(style().encode()).digest()
    return f"'sha256-{base64.b64encode(digest).decode()}'"


@cache
def script_url() -> str:
    """Return the address of the script; it changes with the script's text."""
    return f"/static/nixmill.js?v={hashlib.sha256(read('nixmill.js')).hexdigest()[:12]}"


def read(name: str) -> bytes:
    """Return a static file."""
    return (files(_PACKAGE) / "static" / name).read_bytes()
