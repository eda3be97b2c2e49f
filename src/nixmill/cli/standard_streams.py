"""Standard output and error of commands that print once: sentences for people, and how standard output is drawn on."""

import os
import sys

from nixmill.cli.render.choose import paint_for, terminal_size
from nixmill.cli.render.paint import Paint


def say(text: str) -> None:
    """Print to standard error what people should read beside the result."""
    print(text, file=sys.stderr)  # noqa: T201 - people read this


def paint() -> Paint:
    """Return the colours that fit standard output."""
    return paint_for("auto", os.environ, sys.stdout.fileno())


def columns() -> int:
    """Return the width of standard output, in characters."""
    return terminal_size(sys.stdout.fileno())[0]
