"""What an evaluation process writes to stderr: Nix's internal-json lines, and the walker's among them.

Decides what a line is; keeps no state. Source: `JSONLogger` in `src/libutil/logging.cc` (2.8.0 to 2.34),
`walker.nix` for our own lines.
"""

from typing import Final

import msgspec

from nixmill.nix.eval_message import strip_ansi

_BUILD: Final = 105  # actBuild
_WARNING_LEVEL: Final = 1
_NO_INTERFACE: Final = "you don't have Internet access"
"""What Nix says where there is no network interface but loopback, as in our sandbox: a proxy leads on from there, and
nothing is asked of the project. Source: `src/nix/main.cc`, `haveInternet`."""


class Said(msgspec.Struct, frozen=True):
    """A line of the walker: its letter and the rest."""

    letter: str
    rest: str


class Failed(msgspec.Struct, frozen=True):
    """An error, ANSI-free: it ended the command at hand if the walker says nothing more of the item."""

    text: str


class Noted(msgspec.Struct, frozen=True):
    """A trace or warning of the project, ANSI-free."""

    text: str


class BuildStarted(msgspec.Struct, frozen=True):
    """A derivation is being built, since the evaluation imports from it."""

    activity: int
    drv_path: str


class BuildStopped(msgspec.Struct, frozen=True):
    """An activity ended; it may not have been a build."""

    activity: int


class Stray(msgspec.Struct, frozen=True):
    """Text outside the log format: what a dying process says."""

    text: str


LogEvent = Said | Failed | Noted | BuildStarted | BuildStopped | Stray


class _Line(msgspec.Struct):
    action: str
    level: int = 5
    msg: str = ""
    id: int = 0
    type: int = 0
    fields: list[str | int] = []


class LineReader:
    """Tells the lines of one process apart, by the token its walker was given."""

    def __init__(self, token: str) -> None:
        """Take every line that begins with `token` for the walker's."""
        self._token = token
        # The most frequent lines need no JSON: an index path has nothing to unescape.
        self._begins = f'@nix {{"action":"msg","level":0,"msg":"trace: {token}b'.encode()
        self._line = msgspec.json.Decoder(_Line)

    def read(self, line: bytes) -> LogEvent | None:
        """Return what a line (without its end) says; None where it is of no interest."""
        if line.startswith(self._begins):
            return Said("b", line[len(self._begins) : -2].decode())
        if not line.startswith(b"@nix "):
            return Stray(strip_ansi(line.decode(errors="replace"))) if line.strip() else None
        return self._structured(line)

    def _structured(self, line: bytes) -> LogEvent | None:
        try:
            found = self._line.decode(memoryview(line)[5:])
        except (msgspec.DecodeError, UnicodeDecodeError):
            return Stray(strip_ansi(line.decode(errors="replace")))
        match found.action:
            case "msg":
                return self._message(found.level, found.msg)
            case "start" if found.type == _BUILD and found.fields:
                return BuildStarted(found.id, str(found.fields[0]))
            case "stop":
                return BuildStopped(found.id)
            case _:
                return None

    def _message(self, level: int, text: str) -> LogEvent | None:
        if text.startswith("trace: "):
            if text.startswith(self._token, 7):
                at = 7 + len(self._token)
                return Said(text[at : at + 1], text[at + 1 :])
            return Noted(strip_ansi(text[7:]))
        if level > _WARNING_LEVEL:
            return None
        plain = strip_ansi(text)
        if plain.startswith("error"):
            return Failed(plain)
        said = plain.removeprefix("warning: ")
        return None if said.startswith(_NO_INTERFACE) else Noted(said)
