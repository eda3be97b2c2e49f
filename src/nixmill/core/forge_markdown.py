"""Markdown of forges, made from strangers' text so that it stays text: GitHub, Gitea, Forgejo and GitLab.

Forges make links, mentions and pictures out of what looks like them, in rendered text too, where a backslash no longer
helps. What begins such a thing is therefore parted from what follows by a zero-width space, which nobody sees. In code
spans and fences forges leave text alone; names and log lines stand in these wherever possible.

Sources: CommonMark 0.31; GitHub's "Autolinked references and URLs" and "Basic writing and formatting syntax"; GitLab's
"GitLab Flavored Markdown" (`@ # ! $ % & ~ ^ [`) and "Quick actions" (lines that begin with `/`).
"""

import re
from collections.abc import Iterable
from typing import Final
from urllib.parse import quote

from nixmill.core.terminal_text import sanitise

TEXT_LIMIT: Final = 300
LINE_LIMIT: Final = 500
"""Characters of a line of a log."""
CUT: Final = "…"
BREAK: Final = "\u200b"
_SPECIAL: Final = re.compile(r"[\\`*_\[\]<>#!|~&$]|\A[+=-]|(?<=\A\d)[.)]|(?<=\A\d\d)[.)]|(?<=\A\d{3})[.)]")
_TRIGGER: Final = re.compile(r"[@#!$%&~^:\[](?=[\w\"'*/])")
"""Signs that, with what follows, begin a mention, a reference, an emoji or an address."""
_HEX: Final = re.compile(r"[0-9A-Fa-f]{7,}")
_BEGINNING: Final = re.compile(r"\b([A-Za-z][A-Za-z0-9]*-)(?=[0-9])|\b([Ww]{3})(?=\.)|\A(/)(?=\w)")
"""`GH-12`, `JIRA-7`; `www.example.org`; `/close`."""
_UNSAFE_URL: Final = "!#$&'*+,/:;=?@[]~%-._"


def text(stranger: str, limit: int = TEXT_LIMIT) -> str:
    """Return one line of text in which nothing is Markdown, at most `limit` of the stranger's characters."""
    line = _line(stranger, limit)
    for beginning in (_TRIGGER, _BEGINNING):
        line = beginning.sub(rf"\g<0>{BREAK}", line)
    line = _HEX.sub(_parted, line)
    return _SPECIAL.sub(_escaped, line)


def code(stranger: str, limit: int = TEXT_LIMIT) -> str:
    """Return a code span; empty text gives an empty one, as a word."""
    line = _line(stranger, limit).replace("\u200b", "")
    if not line.strip():
        return "(empty)"
    ticks = "`" * (_longest_run(line) + 1)
    pad = " " if line[0] in "` " or line[-1] in "` " else ""
    return f"{ticks}{pad}{line}{pad}{ticks}"


def cell(markdown: str) -> str:
    """Return Markdown of one line fit for a cell of a table, where a bar ends a cell even within a code span."""
    return re.sub(r"(?<!\\)((?:\\\\)*)\|", r"\1\\|", markdown)


def row(*cells: str) -> str:
    """Return a row of a table from the Markdown of its cells."""
    return f"| {' | '.join(cell(one) for one in cells)} |"


def fence(lines: Iterable[str], *, limit: int = 4000) -> str:
    """Return lines of a log in a fence, at most `limit` bytes: the last ones, which say what went wrong."""
    kept: list[str] = []
    room = limit
    for line in reversed([_line(one, LINE_LIMIT, whole=True) for one in lines]):
        room -= len(line.encode()) + 1
        if room < 0:
            kept.append("[…]")
            break
        kept.append(line)
    ticks = "`" * max(3, _longest_run("\n".join(kept)) + 1)
    return "\n".join([ticks, *reversed(kept), ticks])


def link(label: str, url: str) -> str:
    """Return a link of ours; `label` is Markdown already, and what cannot stand in an address is percent-encoded."""
    return f"[{label}](<{quote(url, safe=_UNSAFE_URL)}>)"


def capped(blocks: Iterable[str], limit: int, rest: str) -> str:
    """Return blocks with an empty line between, as many as fit whole into `limit` bytes; then `rest` says so.

    What would not fit even alone is left out, so that no fence and no table is ever cut open.
    """
    kept: list[str] = []
    room = limit - len(rest.encode()) - 2
    for block in (one for one in blocks if one):
        size = len(block.encode()) + 2
        if size > room:
            kept.append(rest)
            break
        kept.append(block)
        room -= size
    return "\n\n".join(kept)


def _line(stranger: str, limit: int, *, whole: bool = False) -> str:
    """Return one line; `whole` keeps the blanks before it."""
    line = sanitise(stranger[: 4 * limit].replace("\r\n", "\n"), colour=False, limit=2 * limit + 40).rstrip()
    line = line if whole else line.lstrip()
    return line if len(line) <= limit else line[: limit - 1] + CUT


def _longest_run(line: str) -> int:
    return max((len(run) for run in re.findall(r"`+", line)), default=0)


def _parted(found: re.Match[str]) -> str:
    """Part what looks like the id of a commit often enough that nothing is left of seven digits or more."""
    return BREAK.join(found[0][start : start + 6] for start in range(0, len(found[0]), 6))


def _escaped(found: re.Match[str]) -> str:
    return {"<": "&lt;", ">": "&gt;", "&": "&amp;"}.get(found[0], f"\\{found[0]}")
