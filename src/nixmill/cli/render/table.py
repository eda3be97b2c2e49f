"""Tables: cells in columns that line up, without any lines drawn. Pure."""

from collections.abc import Sequence

from nixmill.cli.render.paint import Paint
from nixmill.core.terminal_text import pad_start, truncate, width

GAP = "  "


def table(rows: Sequence[Sequence[str]], align: str, paint: Paint, columns: int, indent: str = "  ") -> list[str]:
    """Return rows as lines of at most `columns`, the last cell cut where it does not fit.

    `align` has a letter for each column: `l` or `r`. A column that is empty in all rows is left out.
    """
    widths = [max((width(row[at]) for row in rows), default=0) for at in range(len(align))]
    used = [at for at, wide in enumerate(widths) if wide]
    lines = []
    for row in rows:
        cells = [_cell(row[at], widths[at], align[at], last=at == used[-1]) for at in used]
        lines.append(truncate(indent + GAP.join(cells), columns, paint.marks.ellipsis).rstrip())
    return lines


def _cell(text: str, columns: int, align: str, *, last: bool) -> str:
    if align == "r":
        return pad_start(text, columns)
    return text if last else text + " " * (columns - width(text))
