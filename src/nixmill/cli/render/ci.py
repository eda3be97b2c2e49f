"""CI systems as readers of a log: which one it is, how it folds lines, what it takes for commands. Pure.

Sources: GitHub, "Workflow commands" (Gitea and Forgejo read the same ones); GitLab, "Custom collapsible sections";
Buildkite, "Managing log output". Others get no markers.
"""

import re
from collections.abc import Mapping
from enum import StrEnum
from typing import Final, assert_never

from nixmill.core.terminal_text import strip_ansi

_COMMAND_START: Final = re.compile(r"\s*(?:::|(?:---|\+\+\+|~~~|\^\^\^) )")
_COMMAND_INSIDE: Final = re.compile(r"##(?=\w*\[)")


class Ci(StrEnum):
    """A system that knows how to fold lines, or none."""

    NONE = "none"
    GITHUB = "github"
    GITLAB = "gitlab"
    BUILDKITE = "buildkite"


def detect(environ: Mapping[str, str]) -> Ci:
    """Return the system whose job this is, by the variables that it sets."""
    for name, ci in (("GITHUB_ACTIONS", Ci.GITHUB), ("GITLAB_CI", Ci.GITLAB), ("BUILDKITE", Ci.BUILDKITE)):
        if environ.get(name) == "true":
            return ci
    return Ci.NONE


def fold(ci: Ci, title: str, lines: list[str], key: str, at: float) -> list[str]:
    """Return a title whose lines are folded away; without folding, the title alone.

    `key` names the fold within the job, `at` is a time in seconds: GitLab wants both.
    """
    match ci:
        case Ci.GITHUB:
            return ["::group::" + strip_ansi(title).replace("%", "%25"), *lines, "::endgroup::"]
        case Ci.GITLAB:
            name = re.sub(r"[^A-Za-z0-9_.-]", "_", key)
            begin = f"\x1b[0Ksection_start:{int(at)}:{name}[collapsed=true]\r\x1b[0K{title}"
            return [begin, *lines, f"\x1b[0Ksection_end:{int(at)}:{name}\r\x1b[0K"]
        case Ci.BUILDKITE | Ci.NONE:
            # Buildkite's groups have no end: what follows a folded one would be hidden in it.
            return [title]
        case _:
            assert_never(ci)


def heading(ci: Ci, title: str) -> str:
    """Return a title whose lines are to be seen at once."""
    return f"+++ {title}" if ci is Ci.BUILDKITE else title


def neutral(line: str) -> str:
    """Return a line that no system takes for a command; ours never are, this is the net below."""
    if "##" in line:
        line = _COMMAND_INSIDE.sub("# #", line)
    return f"> {line}" if _COMMAND_START.match(line) else line
