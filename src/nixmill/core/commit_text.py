"""Texts of commits as lists show them: printable, one line, short."""

from typing import Final

LINE_MAX: Final = 500
"""Characters of a commit's first line or author that are kept."""


def first_line(text: str) -> str:
    """Return the first line that is not empty, printable and short."""
    first = text.lstrip("\n").split("\n", 1)[0].strip()
    shown = "".join(char if char.isprintable() else "�" for char in first)
    return shown if len(shown) <= LINE_MAX else shown[: LINE_MAX - 1] + "…"
