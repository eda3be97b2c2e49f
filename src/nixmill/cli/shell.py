"""`nixmill shell`: builds a failed derivation again, keeps its directory, and opens a shell there."""

import os
import shutil
import subprocess
import sys
import tempfile
from collections import deque

from nixmill.cli import find
from nixmill.cli.wiring import StoreChoice, Wiring
from nixmill.core.build_shell import start_script
from nixmill.core.errors import InputError
from nixmill.core.terminal_text import sanitise
from nixmill.engine.fail_again import fail_again
from nixmill.engine.observer import TAIL_LINES
from nixmill.engine.planner import outputs_of


class _Teller:
    """Remembers the end of the repeated build's log, and where its directory is."""

    def __init__(self) -> None:
        self.directory = ""
        self.tail: deque[str] = deque(maxlen=TAIL_LINES)

    def started(self) -> None:
        """See `BuildObserver`."""

    def line(self, text: str) -> None:
        """See `BuildObserver`."""
        self.tail.append(sanitise(text))

    def phase(self, name: str) -> None:
        """See `BuildObserver`."""

    def kept(self, directory: str) -> None:
        """See `BuildObserver`."""
        self.directory = directory


async def prepare_shell(wiring: Wiring, word: str | None) -> tuple[str, str]:
    """Fail the build that `word` means once more; return its directory and what a shell there has to read first."""
    async with wiring.open_history() as history:
        _, attempt = await find.attempt(history, word)
    teller = _Teller()
    _say(f"Building {attempt.drv_path} once more, with its directory kept …")
    async with wiring.open_run(StoreChoice(), _say) as doors:
        derivation = await fail_again(doors, attempt.drv_path, teller)
    _say(*teller.tail)
    if not teller.directory:
        raise InputError("It failed, but Nix kept no directory.", "Was it built on another machine?")
    outputs = outputs_of(derivation)
    return teller.directory, start_script(derivation, teller.directory, outputs, os.environ.get("PATH", ""))


def enter_shell(directory: str, script: str, command: str | None) -> int:
    """Open a shell that reads `script` (or let it run `command`); return its exit status."""
    with tempfile.NamedTemporaryFile("w", prefix="nixmill-shell-", suffix=".sh") as file:
        file.write(script)
        file.flush()
        bash = shutil.which("bash") or "/bin/bash"
        how = ["-c", f". {file.name}; {command}"] if command else ["--noprofile", "--rcfile", file.name, "-i"]
        _say(f"The build's directory: {directory}  (it stays; remove it when you are done)")
        return subprocess.run([bash, *how], check=False, env={"TERM": os.environ.get("TERM", "dumb")}).returncode


def _say(*lines: str) -> None:
    print(*lines, sep="\n", file=sys.stderr)  # noqa: T201 - people read this
