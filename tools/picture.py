# ruff: noqa: INP001 - a program, no package
"""Makes the pictures of the documentation.

    tmux capture-pane -e -p | python -m tools.picture terminal OUT.svg TITLE     a terminal's screen
    python -m tools.picture web OUT.png                                          the page of run 2 of `make demo`

Fonts are whatever the reader, or this machine, has: nothing is loaded from anywhere. The second needs Chromium and
playwright (`tools/setup --for-tests` brings both).
"""

import contextlib
import io
import os
import pty
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from playwright.sync_api import sync_playwright
from rich.console import Console
from rich.text import Text

ROOT: Final = Path(__file__).parents[1]
CHROMIUM: Final = Path("/usr/bin/chromium")
WIDTH: Final = 1180
HEIGHT: Final = 1000
"""Pixels of the window; what is below does not show."""
DONE: Final = "The server goes on until Ctrl-C"
_ADDRESS: Final = re.compile(r"It answers at (http://127\.0\.0\.1:\d+)")
FORMAT: Final = """\
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
    """Make the picture that is asked for."""
    match sys.argv[1:]:
        case ["terminal", out, title]:
            terminal(sys.stdin.read().rstrip(), Path(out), title)
        case ["web", out]:
            web(Path(out))
        case _:
            sys.exit(__doc__)


def terminal(screen: str, out: Path, title: str) -> None:
    """Draw a screen with its colours."""
    width = max(len(Text.from_ansi(line).plain) for line in screen.splitlines())
    console = Console(record=True, width=width, file=io.StringIO(), color_system="truecolor")
    console.print(Text.from_ansi(screen))
    out.write_text(console.export_svg(title=title, code_format=FORMAT), encoding="utf-8")


def web(out: Path) -> None:
    """Start the demo, wait for its second run, and take a picture of that run's page in light colours."""
    with demo() as address, sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox", "--disable-gpu"])
        page = browser.new_page(
            viewport={"width": WIDTH, "height": HEIGHT}, color_scheme="light", reduced_motion="reduce"
        )
        page.goto(f"{address}/r/2")
        page.screenshot(path=out)
        browser.close()


@contextlib.contextmanager
def demo() -> Iterator[str]:
    """Run `make demo` at a terminal of its own; yield its address once both runs have ended."""
    ours, theirs = pty.openpty()
    environment = {name: value for name, value in os.environ.items() if name not in {"DISPLAY", "WAYLAND_DISPLAY"}}
    environment["NIX_CONFIG"] = "substituters ="  # else a machine without network shows a notice about it
    command = (ROOT / "tools/demo.sh",)
    with subprocess.Popen(
        command, stdin=theirs, stdout=theirs, stderr=theirs, env=environment, start_new_session=True
    ) as process:
        os.close(theirs)
        try:
            said = _read_until(ours, DONE)
            found = _ADDRESS.search(said)
            if found is None:
                sys.exit(f"The demo did not come so far:\n{said}")
            yield found[1]
        finally:
            os.killpg(process.pid, signal.SIGINT)
            _read_until(ours, "\0")
            os.close(ours)


def _read_until(terminal: int, mark: str) -> str:
    """Return what is written to a terminal, up to a mark or the end."""
    said = b""
    with contextlib.suppress(OSError):  # how Linux says that nobody is at the other end any more
        while mark.encode() not in said and (piece := os.read(terminal, 65536)):
            said += piece
    return said.decode(errors="replace")


if __name__ == "__main__":
    main()
