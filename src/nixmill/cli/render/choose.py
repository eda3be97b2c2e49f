"""Which renderer fits: the one place that looks at the environment and the terminal."""

import contextlib
import os
from collections.abc import Mapping, Sequence
from typing import Final, Literal

from nixmill.cli.render import ci
from nixmill.cli.render.jsonl import JsonlRenderer
from nixmill.cli.render.live import LiveRenderer
from nixmill.cli.render.paint import Paint
from nixmill.cli.render.plain import PlainRenderer
from nixmill.cli.render.renderer import Renderer
from nixmill.cli.render.sink import FileSink
from nixmill.core.run_event import RunEvent
from nixmill.core.terminal_text import colour_wanted

Mode = Literal["auto", "live", "plain", "jsonl"]
FALLBACK_SIZE: Final = (80, 24)
_UTF8: Final = ("utf-8", "utf8")


def paint_for(color: str, environ: Mapping[str, str], fd: int) -> Paint:
    """Return what the terminal or pipe behind `fd` can show; `color` is `auto`, `always` or `never`."""
    known_ci = ci.detect(environ) is not ci.Ci.NONE
    locale = next((environ[name] for name in ("LC_ALL", "LC_CTYPE", "LANG") if environ.get(name)), "")
    wanted = colour_wanted(
        color,
        no_color=environ.get("NO_COLOR", ""),
        term=environ.get("TERM", ""),
        is_terminal=os.isatty(fd),
    )
    # Known systems render colours and UTF-8 whatever the job's environment says.
    coloured = wanted or (known_ci and color == "auto" and not environ.get("NO_COLOR"))
    return Paint(colour=coloured, unicode=known_ci or locale.lower().endswith(_UTF8))


def make_renderer(
    *, mode: Mode = "auto", color: str = "auto", environ: Mapping[str, str], now: float, fd: int | None = None
) -> Renderer:
    """Return the renderer for standard error (for `jsonl` standard output), or for `fd`.

    `auto` is live on a terminal that understands cursor movement and is no continuous-integration job, plain elsewhere.
    """
    if mode == "jsonl":
        return JsonlRenderer(FileSink(1 if fd is None else fd))
    fd = 2 if fd is None else fd
    sink = FileSink(fd, optional=True)
    paint = paint_for(color, environ, fd)
    if mode == "live" or (mode == "auto" and _can_be_live(environ, fd)):
        return LiveRenderer(sink, paint, lambda: terminal_size(fd), now, reflows=_reflows(environ))
    return PlainRenderer(sink, paint, now, ci.detect(environ))


def terminal_size(fd: int) -> tuple[int, int]:
    """Return columns and rows of the terminal behind `fd`; 80 by 24 where it does not say."""
    try:
        columns, rows = os.get_terminal_size(fd)
    except OSError:
        return FALLBACK_SIZE
    return (columns, rows) if columns and rows else FALLBACK_SIZE


def _can_be_live(environ: Mapping[str, str], fd: int) -> bool:
    return os.isatty(fd) and environ.get("TERM", "") not in {"", "dumb"} and ci.detect(environ) is ci.Ci.NONE


def _reflows(environ: Mapping[str, str]) -> bool:
    """Say whether the terminal wraps old lines anew when it becomes narrower; xterm itself and the console do not."""
    return "XTERM_VERSION" not in environ and not environ.get("TERM", "").startswith("linux")


class Several:
    """Feeds several renderers: a terminal for the person and lines of JSON for a program."""

    def __init__(self, renderers: Sequence[Renderer]) -> None:
        """Feed `renderers` in this order."""
        self._renderers = renderers

    def handle(self, event: RunEvent) -> None:
        """Hand on an event."""
        for renderer in self._renderers:
            renderer.handle(event)

    def tick(self, now: float) -> None:
        """Hand on the time."""
        for renderer in self._renderers:
            renderer.tick(now)

    def suspend(self) -> None:
        """Suspend all."""
        for renderer in self._renderers:
            renderer.suspend()

    def resume(self) -> None:
        """Resume all."""
        for renderer in self._renderers:
            renderer.resume()

    def close(self) -> None:
        """Close all, also where one of them fails: a terminal must get its cursor back."""
        with contextlib.ExitStack() as stack:
            for renderer in self._renderers:
                stack.callback(renderer.close)
