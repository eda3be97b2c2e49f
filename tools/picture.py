# ruff: noqa: INP001 - a program, no package
"""Draws a terminal's screen as an SVG for the documentation.

    tmux capture-pane -e -p | python -m tools.picture OUT TITLE

Fonts are whatever monospace the reader has: the picture loads nothing from anywhere.
"""

import io
import sys
from pathlib import Path

from rich.console import Console
from rich.text import Text

FORMAT = """\
<svg class="rich-terminal" xml:space="preserve" viewBox="0 0 {width} {height}" xmlns="http://www.w3.org/2000/svg">
<style>
.{unique_id}-matrix {{ font-family: ui-monospace, 'DejaVu Sans Mono', Menlo, Consolas, monospace;
  font-size: {char_height}px; line-height: {line_height}px; font-variant-east-asian: full-width; }}
.{unique_id}-title {{ font-size: 18px; font-weight: bold; font-family: sans-serif; }}
{styles}
</style>
<defs><clipPath id="{unique_id}-clip-terminal"><rect x="0" y="0" width="{terminal_width}" height="{terminal_height}" />
</clipPath>{lines}</defs>
{chrome}
<g transform="translate({terminal_x}, {terminal_y})" clip-path="url(#{unique_id}-clip-terminal)">
{backgrounds}<g class="{unique_id}-matrix">{matrix}</g></g></svg>
"""


def main() -> None:
    """Read a screen with its colours from standard input; write the picture."""
    out, title = Path(sys.argv[1]), sys.argv[2]
    screen = sys.stdin.read().rstrip()
    width = max(len(Text.from_ansi(line).plain) for line in screen.splitlines())
    console = Console(record=True, width=width, file=io.StringIO(), color_system="truecolor")
    console.print(Text.from_ansi(screen))
    out.write_text(console.export_svg(title=title, code_format=FORMAT), encoding="utf-8")


if __name__ == "__main__":
    main()
