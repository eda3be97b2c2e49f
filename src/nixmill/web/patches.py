"""Patches from strangers as harmless HTML: what came and what went, by sign and colour."""

from typing import Final

from markupsafe import Markup, escape

from nixmill.core import terminal_text

LINE_MAX: Final = 1000
_HEAD: Final = ("+++", "---", "diff ", "index ")
_KIND: Final = {"+": "added", "-": "removed", "@": "dim"}


def patch(text: str, most: int) -> Markup:
    """Return the first `most` lines of a patch as a block; says how many are left out."""
    lines = terminal_text.sanitise_lines(text.removesuffix("\n"), colour=False, limit=LINE_MAX)
    rows = [_row(line) for line in lines[:most]]
    if len(lines) > most:
        rows.append(Markup('<span class="dim">… {} more lines: see them on the forge</span>').format(len(lines) - most))
    return Markup('<pre class="text patch">{}</pre>').format(Markup("\n").join(rows))


def _row(line: str) -> Markup:
    kind = "dim" if line.startswith(_HEAD) else _KIND.get(line[:1], "")
    return Markup('<span class="{}">{}</span>').format(kind, line) if kind else escape(line)
