"""How versions and closure sizes of attributes changed between two evaluations, for the table of a report.

What it does not know: where sizes come from. An attribute whose size is unknown still has its versions compared.
"""

from collections.abc import Iterable
from typing import NamedTuple

import msgspec

from nixmill.nix.attr_path import AttrPath


class Sized(NamedTuple):
    """An attribute of one evaluation."""

    path: AttrPath
    name: str
    """Of its derivation: `hello-2.12.1`."""
    closure: int | None = None
    """Bytes of the closures of its outputs; None where nobody knows."""


class SizeChange(msgspec.Struct, frozen=True, kw_only=True):
    """An attribute whose version or closure is not what it was."""

    path: AttrPath
    name: str
    """Without the version."""
    version_before: str | None
    """Empty where the name holds none; None where the base has no such attribute."""
    version_after: str | None
    """Likewise, of the tree."""
    closure_before: int | None = None
    closure_after: int | None = None

    @property
    def difference(self) -> int | None:
        """Bytes by which the closure grew; None where either size is unknown."""
        if self.closure_before is None or self.closure_after is None:
            return None
        return self.closure_after - self.closure_before


def parse_derivation_name(name: str) -> tuple[str, str]:
    """Take a name apart into name and version as `builtins.parseDrvName` does.

    The version begins after the first dash that something else than an ASCII letter follows (Nix, `names.cc`).
    """
    for place, char in enumerate(name[:-1]):
        follower = name[place + 1]
        if char == "-" and not (follower.isascii() and follower.isalpha()):
            return name[:place], name[place + 1 :]
    return name, ""


def size_changes(before: Iterable[Sized], after: Iterable[Sized]) -> tuple[SizeChange, ...]:
    """Pair attributes by path; return those that differ, the largest difference in bytes first, then by path.

    What is there on one side only is compared with nothing: with all of its size, where that is known.
    """
    old = {one.path: one for one in before}
    new = {one.path: one for one in after}
    pairs = [_change(path, old.get(path), new.get(path)) for path in old.keys() | new.keys()]
    return tuple(sorted((pair for pair in pairs if _differs(pair)), key=_order))


def _change(path: AttrPath, old: Sized | None, new: Sized | None) -> SizeChange:
    name_before, version_before = parse_derivation_name(old.name) if old else ("", None)
    name_after, version_after = parse_derivation_name(new.name) if new else ("", None)
    return SizeChange(
        path=path,
        name=name_after or name_before,
        version_before=version_before,
        version_after=version_after,
        closure_before=old.closure if old else None,
        closure_after=new.closure if new else None,
    )


def _differs(change: SizeChange) -> bool:
    return change.version_before != change.version_after or bool(change.difference)


def _order(change: SizeChange) -> tuple[int, AttrPath]:
    one_sided = change.version_before is None or change.version_after is None
    if change.difference is None and not one_sided:
        return 0, change.path  # what was not built, or is not here, has no size: it is not as if it had vanished
    return -abs((change.closure_after or 0) - (change.closure_before or 0)), change.path
