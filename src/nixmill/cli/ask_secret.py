"""Secrets from people and pipes: never from arguments, never echoed, and the terminal as it was afterwards.

Call it outside an event loop: there the first Ctrl-C would not end the question.
"""

import getpass
import sys
from typing import Final

from nixmill.core.account import PASSWORD_MAX, check_password
from nixmill.core.errors import InputError

_LINE_MAX: Final = 4 * PASSWORD_MAX + 2
"""Bytes of the longest password, and its line end."""


def new_password(name: str, *, from_pipe: bool) -> str:
    """Return a new password: asked for twice on a terminal, else one line of standard input."""
    terminal = sys.stdin.isatty()
    if from_pipe and terminal:
        raise InputError(
            "Standard input is a terminal, where --password-stdin would show the password.",
            "Leave --password-stdin out to be asked, or write: nixmill user … --password-stdin < FILE",
        )
    if not terminal:
        return check_password(_line("password"))
    password = check_password(_asked(f"Password for {name}: "))
    if _asked("The same again: ") != password:
        raise InputError("The two passwords differ; nothing was changed.", "Try again.")
    return password


def token(prompt: str) -> str:
    """Return a token: asked for on a terminal, else one line of standard input."""
    return _asked(prompt) if sys.stdin.isatty() else _line("token")


def _asked(prompt: str) -> str:
    """Ask without echo. `getpass` gives the terminal its echo back, on Ctrl-C too."""
    try:
        return getpass.getpass(prompt)
    except EOFError as error:
        raise InputError("Nothing was typed; nothing was changed.", "") from error


def _line(what: str) -> str:
    data = sys.stdin.buffer.readline(_LINE_MAX + 1)
    try:
        text = data.decode("utf-8").removesuffix("\n").removesuffix("\r")
    except UnicodeDecodeError as error:
        raise InputError(f"The {what} on standard input is no UTF-8 text.", "") from error
    if not text:
        raise InputError(
            f"No {what} came on standard input.",
            f"Write it into the pipe as one line, or stand at a terminal to be asked for the {what}.",
        )
    return text
