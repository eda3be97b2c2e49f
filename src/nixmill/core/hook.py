"""Hooks: commands of the administrator that run when an attribute's result is final (semantics §9).

Decides which hooks an attribute starts, and what the document says that a hook reads. What it does not know: how a
command is run (`nixmill.edge.hooks`). Pattern: Hydra's RunCommand, without its faults.
"""

import fnmatch
from enum import StrEnum

import msgspec


class Hook(msgspec.Struct, frozen=True, kw_only=True):
    """A configured command. Comes from the server's settings only, never from a repository."""

    name: str
    command: tuple[str, ...]
    """Program and arguments, run without a shell."""
    match: str = "*:*:*"
    """`project:jobset:attribute`, each a glob."""
    on: tuple[str, ...] = ("succeeded", "failed")
    """`succeeded`, `failed`, or both."""
    timeout_s: float = 600.0


class HookState(StrEnum):
    """How a run of a hook stands."""

    WAITING = "waiting"
    RUNNING = "running"
    COULD_NOT_START = "could not start"
    EXITED = "exited"
    SIGNALLED = "signalled"
    LOST = "lost"
    """The server was killed while it ran; it is not run again."""


class HookRun(msgspec.Struct, frozen=True, kw_only=True):
    """One run of a hook; its row is the record of success."""

    id: str
    """An unguessable name, a UUID; also that of its log."""
    hook: str
    command: tuple[str, ...]
    run: int
    project: int
    attribute: str
    state: HookState = HookState.WAITING
    created_at: float = 0.0
    started_at: float | None = None
    ended_at: float | None = None
    exit_code: int | None = None
    signal: int | None = None
    core_dumped: bool = False
    errno: int | None = None
    timed_out: bool = False


def chosen(hook: Hook, project: str, jobset: str, attribute: str, *, good: bool) -> bool:
    """Say whether a hook runs for an attribute's result."""
    if ("succeeded" if good else "failed") not in hook.on:
        return False
    patterns = hook.match.split(":", 2)
    names = (project, jobset, attribute)
    return len(patterns) == 3 and all(
        fnmatch.fnmatchcase(name, glob) for name, glob in zip(names, patterns, strict=True)
    )
