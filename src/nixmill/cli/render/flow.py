"""Flow: several short things in as few lines as fit, broken between them and never inside. Pure."""

from nixmill.core.terminal_text import width


def flow(parts: list[str], separator: str, columns: int, indent: str = "  ") -> list[str]:
    """Return lines of `parts` joined by `separator`; lines after the first begin with `indent`.

    A part that is wider than a line stands alone and is left to the terminal to wrap.
    """
    lines: list[str] = []
    line = ""
    for part in parts:
        longer = f"{line}{separator}{part}" if line else part
        if line and width(longer) > columns:
            lines.append(line.rstrip())
            line = indent + part
        else:
            line = longer
    return [*lines, line] if line else lines


def sentence(text: str, columns: int, indent: str = "  ") -> list[str]:
    """Return a sentence broken between words; spaces before its first word stay."""
    bare = text.lstrip(" ")
    lead = text[: len(text) - len(bare)]
    first, *rest = bare.split(" ")
    return flow([lead + first, *rest], " ", columns, indent)
