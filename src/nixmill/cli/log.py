"""`nixmill log`: the log of an attempt, safe for a terminal."""

import sys

from nixmill.cli import find
from nixmill.cli.wiring import Wiring
from nixmill.core.errors import InputError
from nixmill.core.terminal_text import sanitise_lines


async def log(wiring: Wiring, word: str | None, *, raw: bool) -> int:
    """Print the log that `word` means; as it is with `raw`, else without what could steer a terminal."""
    async with wiring.open_history() as history:
        _, attempt = await find.attempt(history, word)
    if not attempt.log:
        raise InputError(
            f"Attempt {attempt.number} at {attempt.drv_path} wrote no log.", f"It ended like this: {attempt.message}"
        )
    rest = b""
    async for chunk in wiring.logs().read(attempt.number):
        whole, _, rest = (rest + chunk).rpartition(b"\n")
        _write(whole + b"\n" if whole else b"", raw=raw)
    _write(rest, raw=raw)
    return 0


def _write(data: bytes, *, raw: bool) -> None:
    if not data:
        return
    if not raw:
        text = data.decode("utf-8", "replace").removesuffix("\n")
        lines = sanitise_lines(text, colour=sys.stdout.isatty())
        data = ("\n".join(lines) + "\n").encode()
    sys.stdout.buffer.write(data)
    sys.stdout.buffer.flush()
