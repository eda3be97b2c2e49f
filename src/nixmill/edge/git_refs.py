"""Reads what `git ls-remote` lists; names come from strangers.

Decides which names are taken: those that git itself would take, in printable UTF-8, at most `NAME_BYTES`; of what a
remote lists branches and tags only.
Source: git-ls-remote(1), git-check-ref-format(1).
"""

import re
from typing import Final

import msgspec

from nixmill.core.project import Ref

NAME_BYTES: Final = 255
"""What a file name may be on every file system: git keeps refs as files."""
COMMIT: Final = re.compile(r"[0-9a-f]{40}|[0-9a-f]{64}")
_WATCHED: Final = ("refs/heads/", "refs/tags/")
_PEELED: Final = "^{}"
_BAD: Final = re.compile(r"\.\.|@\{|//|[~^:?*\[\\ ]|/\.|\.lock(/|$)|[/.]$")
_SYMBOLIC: Final = re.compile(r"ref: refs/heads/(\S+)\tHEAD")


class Listing(msgspec.Struct, frozen=True, kw_only=True):
    """The branches and tags of a remote."""

    refs: tuple[Ref, ...]
    refused: int
    """How many have names that are not taken."""


def is_watched(name: str) -> bool:
    """Say whether this is the full name of a branch or tag that is taken."""
    return name.startswith(_WATCHED) and is_ref(name)


def is_ref(name: str) -> bool:
    """Say whether this is a full name (`refs/pull/7/head`) that git takes and that is fit to be asked for."""
    short = name.partition("/")[2].partition("/")[2]
    return (
        name.startswith("refs/")
        and bool(short)
        and not short.startswith(("-", "."))
        and short != "HEAD"
        and name.isprintable()
        and _BAD.search(name) is None
        and len(name.encode(errors="replace")) <= NAME_BYTES
    )


def parse_listing(output: bytes) -> Listing:
    """Return what `ls-remote --heads --tags` printed: of an annotated tag the commit it stands for."""
    found: dict[str, str] = {}
    refused: set[bytes] = set()
    for line in output.split(b"\n"):
        commit, tab, raw = line.partition(b"\t")
        name = _decoded(raw.removesuffix(_PEELED.encode()))
        if tab and COMMIT.fullmatch(commit.decode(errors="replace")) and is_watched(name):
            if raw.endswith(_PEELED.encode()) or name not in found:
                found[name] = commit.decode()
        elif line:
            refused.add(raw)
    return Listing(refs=tuple(Ref(name=name, commit=found[name]) for name in sorted(found)), refused=len(refused))


def parse_head(output: bytes) -> tuple[str, str]:
    """Return the default branch (`main`, or empty) and the commit of HEAD (or empty) from `ls-remote --symref`."""
    branch = commit = ""
    for line in output.split(b"\n"):
        text = _decoded(line)
        if (named := _SYMBOLIC.fullmatch(text)) and is_watched("refs/heads/" + named[1]):
            branch = named[1]
        elif text.endswith("\tHEAD") and COMMIT.fullmatch(text.removesuffix("\tHEAD")):
            commit = text.removesuffix("\tHEAD")
    return branch, commit


def _decoded(raw: bytes) -> str:
    """Return text; bytes that are no UTF-8 become what `isprintable` refuses."""
    return raw.decode(errors="surrogateescape")
