"""The examples of the documentation: fenced `console` blocks, read as commands and what each is said to print.

Lines that begin with `$ ` are commands, what follows is output. A comment in the line before the block says more:
`<!-- not run -->`, `<!-- server -->` (an example for a server), `<!-- exit: 3 -->` (of the block's last command). Two
have a comma between them.
"""

import re
from collections.abc import Iterator
from typing import Final, NamedTuple

_BLOCK: Final = re.compile(r"(?:<!-- (?P<notes>[^>]*) -->\n)?```console\n(?P<text>.*?)```", re.DOTALL)


class Command(NamedTuple):
    """A command and what it is documented to do."""

    line: str
    output: list[str]
    exit_code: int


def commands(text: str, *, server: bool = False) -> Iterator[Command]:
    """Yield the commands of a document that are to be run: those for a server, or the others."""
    for block in _BLOCK.finditer(text):
        notes = [note.strip() for note in (block["notes"] or "").split(",")]
        if "not run" in notes or ("server" in notes) is not server:
            continue
        codes = [int(note.removeprefix("exit: ")) for note in notes if note.startswith("exit: ")]
        parts = re.split(r"^\$ ", block["text"], flags=re.MULTILINE)[1:]
        for number, part in enumerate(parts, 1):
            line, *output = part.strip("\n").split("\n")
            yield Command(line, output, codes[0] if codes and number == len(parts) else 0)


def missing_line(documented: list[str], printed: str) -> str | None:
    """Return the first documented line that is not printed after those before it; `…` stands for anything."""
    lines = iter(printed.splitlines())
    for wanted in documented:
        pattern = ".*".join(re.escape(piece) for piece in wanted.strip().split("…"))
        if not any(re.search(pattern, line) for line in lines):
            return wanted
    return None
