"""Hooks: commands of the administrator that run when an attribute's result is final (semantics §9).

Decides which hooks an attribute starts, and what the document says that a hook reads. What it does not know: how a
command is run (`nixmill.edge.hook_runner`). Pattern: Hydra's RunCommand, without its faults.
"""

import fnmatch
from collections.abc import Callable, Iterable
from enum import StrEnum

import msgspec

from nixmill.core.errors import InputError


class Hook(msgspec.Struct, frozen=True, kw_only=True):
    """A configured command. Comes from the server's settings only, never from a repository."""

    name: str
    """What pages call it."""
    command: tuple[str, ...]
    """Program and arguments, run without a shell."""
    match: str = "*:*:*"
    """`project:jobset:attribute`, each a glob."""
    on: tuple[str, ...] = ("succeeded", "failed")
    """`succeeded`, `failed`, or both."""
    timeout_s: float = 600.0
    """Seconds after which it is killed with all its children."""


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


def check_match(pattern: str) -> str:
    """Return a pattern; raise `InputError` where it has not exactly what `chosen` looks at: three parts."""
    if pattern.count(":") != 2 or not all(pattern.split(":")):
        raise InputError(
            f"{pattern!r} chooses nothing: a hook's match has three parts, each a glob.",
            "Write project:jobset:attribute, such as `mill:*:x86_64-linux.*`; `*:*:*` is everything.",
        )
    return pattern


def started_by(
    hooks: Iterable[Hook],
    attributes: Iterable[tuple[str, bool]],
    *,
    run: int,
    project: int,
    names: tuple[str, str],
    new_id: Callable[[], str],
    now: float,
) -> list[HookRun]:
    """Return the runs of hooks that a finished run starts; `names` are those of project and jobset.

    `attributes` says of each one with a final result whether that is good. Ids cannot be guessed (`new_id` makes a
    UUID); that a hook runs once for an attribute of a run is kept by the database.
    """
    known = list(hooks)
    return [
        HookRun(
            id=new_id(),
            hook=hook.name,
            command=hook.command,
            run=run,
            project=project,
            attribute=attribute,
            created_at=now,
        )
        for attribute, good in attributes
        for hook in known
        if chosen(hook, *names, attribute, good=good)
    ]
