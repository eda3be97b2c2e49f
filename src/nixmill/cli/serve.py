"""`nixmill serve`: the server, until a signal ends it."""

import os
import sys
import webbrowser
from pathlib import Path

from nixmill.cli.wiring import Wiring
from nixmill.config.server import ServerSettings


def read_settings(config: str | None, listen: str | None = None, state: str | None = None) -> ServerSettings:
    """Return the settings that options, environment and file say together."""
    from nixmill.config.server_file import read_server_settings, settings_file  # noqa: PLC0415 - pydantic costs 0.1 s

    options = {}
    if listen is not None:
        options["listen"] = listen
    if state is not None:
        options["state"] = str(Path(state).absolute())
    path = settings_file(Path(config).absolute() if config else None, os.environ)
    return read_server_settings(path, os.environ, options)


def serve(wiring: Wiring, *, config: str | None, listen: str | None, state: str | None, open_: bool) -> int:
    """Be the server; return the exit code."""
    settings = read_settings(config, listen, state)
    return wiring.serve(settings, lambda: _open(settings.url) if open_ else None)


def _open(url: str) -> None:
    """Open the home page in a browser."""
    if not webbrowser.open(url):
        print(f"No browser was found; open {url} yourself.", file=sys.stderr)  # noqa: T201 - people read this
