"""Commands in comments: `/nixmill retry`, at the beginning of a line. A comment may hold several.

What somebody may command is decided here too, from what the forge says of them. What a command does is
`nixmill.engine.commands`.
"""

import difflib
import re
from enum import StrEnum
from typing import Final

import msgspec

from nixmill.core.trust import Permission, may_write

PREFIX: Final = "/nixmill"
COMMANDS_MAX: Final = 5
"""Of one comment; more are not read."""
WORDS_MAX: Final = 300
"""Characters of what follows a command."""
_LINE_END: Final = re.compile(r"\r\n|\r|\n")
_FENCE: Final = re.compile(r"\s*(`{3,}(?=[^`]*\Z)|~{3,})")


class Verb(StrEnum):
    """What can be commanded."""

    RETRY = "retry"
    """Try again what failed."""
    APPROVE = "approve"
    """Allow the head commit to be evaluated and built."""
    CANCEL = "cancel"
    BUILD = "build"
    """Build one attribute, also where nothing changed of it."""
    HELP = "help"


HELP: Final = (
    "`/nixmill retry` tries again what failed, `/nixmill build ATTR` builds one attribute, `/nixmill cancel` stops the "
    "run, `/nixmill approve` (maintainers) allows this commit of a fork to be built."
)


class Command(msgspec.Struct, frozen=True, kw_only=True):
    """One command."""

    verb: Verb
    attribute: str = ""
    """Of `build`, as people write it; checked by whoever uses it."""
    commit: str = ""
    """Of `approve`: the commit (or its beginning) that was meant, where it was named."""


class Misunderstood(msgspec.Struct, frozen=True, kw_only=True):
    """A line that begins like a command and is none."""

    sentence: str


def commands(text: str) -> list[Command | Misunderstood]:
    """Return what a comment commands. Quoted lines (`>`) and code are not obeyed.

    Lines and fences end where Markdown ends them (CommonMark 0.31, 2.1 and 4.5): what somebody quotes, or shows in a
    fence, may hold other signs that look like an end, and a command behind them.
    """
    found: list[Command | Misunderstood] = []
    fence = ""
    for line in _LINE_END.split(text):
        if fence:
            fence = "" if _closes(fence, line) else fence
        elif opening := _FENCE.match(line):
            fence = opening[1]
        elif _is_command(line) and len(found) < COMMANDS_MAX:
            found.append(_command(line.split()[1:]))
    return found


def _closes(fence: str, line: str) -> bool:
    """Say whether a line ends a fence: as many of its signs or more, and nothing else."""
    return re.fullmatch(rf" {{0,3}}{fence[0]}{{{len(fence)},}}[ \t]*", line) is not None


def _is_command(line: str) -> bool:
    """Say whether a line commands: four blanks at its beginning would be code."""
    return line.startswith(PREFIX) and line.removeprefix(PREFIX)[:1] in {"", " ", "\t"}


def _command(words: list[str]) -> Command | Misunderstood:
    verb, rest = (words[0].lower() if words else "help"), words[1:]
    argument = " ".join(rest)[:WORDS_MAX]
    match verb:
        case "retry" | "cancel" | "help" if not rest:
            return Command(verb=Verb(verb))
        case "approve" if len(rest) <= 1:
            return Command(verb=Verb.APPROVE, commit=argument)
        case "build" if rest:
            return Command(verb=Verb.BUILD, attribute=argument)
        case "build":
            return Misunderstood(sentence="Which attribute? Write `/nixmill build ATTR`.")
        case "retry" | "cancel" | "help" | "approve":
            return Misunderstood(sentence=f"`{verb}` takes nothing more. {HELP}")
        case _:
            close = difflib.get_close_matches(verb, [one.value for one in Verb], n=1)
            meant = f" Did you mean `/nixmill {close[0]}`?" if close else ""
            return Misunderstood(sentence=f"That is no command.{meant} {HELP}")


def may_command(verb: Verb, permission: Permission, *, is_author: bool, held: bool) -> str:
    """Return why somebody may not command something; empty where they may.

    Who opened a pull request may try it again and stop it, but not past an approval that is missing.
    """
    if may_write(permission) or verb is Verb.HELP:
        return ""
    if verb is Verb.APPROVE:
        return "Only those who may write to this repository approve what a fork runs."
    if is_author and held and verb is not Verb.CANCEL:
        return "This commit waits for the approval of somebody who may write to this repository."
    if is_author:
        return ""
    return f"Only those who may write to this repository, and whoever opened this, may {verb.value}."
