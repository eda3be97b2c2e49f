"""Names in a line: of attributes as many as fit, the part that all have in common said once; of machines. Pure."""

from typing import Final

from nixmill.cli.render.paint import Paint
from nixmill.core.terminal_text import number, width
from nixmill.nix.attr_path import AttrPath, show

MOST: Final = 20
"""Names that are looked at; no line holds more."""
NAME_WIDTH: Final = 60
NAME_MIN: Final = 12


def listed(paths: list[AttrPath], paint: Paint, columns: int) -> str:
    """Return names in at most `columns`, such as `checks.x86_64-linux.{a, b} and 34 more`; one name at least."""
    for count in range(min(len(paths), MOST), 1, -1):
        text = _several(paths[:count], paint) + _more(len(paths) - count)
        if width(text) <= columns:
            return text
    more = _more(len(paths) - 1)
    return paint.fit(paint.plain_attribute(paths[0], max(columns - len(more), NAME_MIN)) + more, columns)


def _several(paths: list[AttrPath], paint: Paint) -> str:
    common = _common(paths)
    names = ", ".join(paint.plain_attribute(path[len(common) :], NAME_WIDTH) for path in paths)
    return f"{paint.text(show(common))}.{{{names}}}" if common else names


def _common(paths: list[AttrPath]) -> AttrPath:
    """Return the names that all paths begin with, leaving at least one name of each."""
    first, last = min(paths), max(paths)
    length = min(len(path) for path in paths) - 1
    for at in range(length):
        if first[at] != last[at]:
            return first[:at]
    return first[: max(length, 0)]


def _more(count: int) -> str:
    return f" and {number(count)} more" if count else ""


def host(machine: str) -> str:
    """Return a machine's name out of its store address, such as `builder-2`; nothing for this machine."""
    if machine == "local":
        return ""
    address = machine.partition("://")[2] or machine
    return address.partition("?")[0].rpartition("@")[2]
