"""Attribute paths: the identity of a job. A list of names, never a dotted string.

Names are any string Nix allows in quotes: dots, slashes, quotes, spaces, `${`, newlines and `..` are legal.
`show` prints a path as Nix would accept it in a selection (`a."b.c".d`); `parse` is its inverse.
Source: Nix manual, "Attribute set" and "String literal"; keywords from `src/libexpr/lexer.l`.
"""

import re
from typing import Final

AttrPath = tuple[str, ...]

_IDENTIFIER: Final = re.compile(r"[a-zA-Z_][a-zA-Z0-9_'\-]*\Z")
_KEYWORDS: Final = frozenset({"if", "then", "else", "assert", "with", "let", "in", "rec", "inherit", "or"})
_ESCAPES: Final = {"\\": "\\\\", '"': '\\"', "\n": "\\n", "\r": "\\r", "\t": "\\t"}
_UNESCAPES: Final = {"n": "\n", "r": "\r", "t": "\t"}


class AttrPathError(ValueError):
    """The text is not an attribute path; the message shows where it stops making sense."""


def quote(text: str) -> str:
    """Return `text` as a Nix string literal that evaluates to exactly `text`."""
    escaped = "".join(_ESCAPES.get(c, c) for c in text)
    return '"' + escaped.replace("${", "\\${") + '"'


def show_name(name: str) -> str:
    """Return one name as Nix prints it: bare where it is an identifier, quoted elsewhere."""
    return name if _IDENTIFIER.match(name) and name not in _KEYWORDS else quote(name)


def show(path: AttrPath) -> str:
    """Return the path as text, such as `checks.x86_64-linux."my test"`; empty for the root."""
    return ".".join(show_name(name) for name in path)


def parse(text: str) -> AttrPath:
    """Return the names of an attribute path; raise `AttrPathError` where it is malformed.

    As on Nix's own command line, an unquoted name may hold any character but a dot or a quote.
    """
    names: list[str] = []
    at = 0
    while at < len(text):
        name, at = _quoted(text, at + 1) if text[at] == '"' else _bare(text, at)
        names.append(name)
        if at < len(text):
            if text[at] != "." or at + 1 == len(text):
                raise AttrPathError(f"{text!r} is no attribute path: unexpected {text[at:]!r} at character {at + 1}.")
            at += 1
    return tuple(names)


def _bare(text: str, start: int) -> tuple[str, int]:
    end = start
    while end < len(text) and text[end] not in '."':
        end += 1
    if end == start:
        raise AttrPathError(f"{text!r} is no attribute path: an empty name at character {start + 1}.")
    return text[start:end], end


def _quoted(text: str, start: int) -> tuple[str, int]:
    out: list[str] = []
    at = start
    while at < len(text):
        c = text[at]
        if c == '"':
            return "".join(out), at + 1
        if c == "\\" and at + 1 < len(text):
            at += 1
            c = _UNESCAPES.get(text[at], text[at])
        out.append(c)
        at += 1
    raise AttrPathError(f"{text!r} is no attribute path: the quote before character {start + 1} is never closed.")
