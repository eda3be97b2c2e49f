"""What to type next: the commands that are offered under a failure. One place, so that they match the program's own.

Attempts are named by number: short, exact, and safe in any shell. Attributes are quoted for the shell.
"""

import shlex

from nixmill.core.target import DEFAULT_FLAKE_OUTPUT
from nixmill.nix.attr_path import AttrPath, show


def log(attempt: int) -> str:
    """Return the command that shows the log of an attempt."""
    return f"nixmill log {attempt}"


def shell(attempt: int) -> str:
    """Return the command that opens a shell where an attempt failed."""
    return f"nixmill shell {attempt}"


def again(path: AttrPath, targets: tuple[str, ...]) -> str:
    """Return the command that tries an attribute again; `targets` are those of the run, as a person types them."""
    target = _target_of(path, targets)
    place, hash_, _ = target.partition("#")
    if hash_:
        return f"nixmill run {shlex.quote(f'{place}#{show(path)}')}"
    place = target.partition(" -A ")[0]
    return f"nixmill run {place} -A {shlex.quote(show(path))}"


def _target_of(path: AttrPath, targets: tuple[str, ...]) -> str:
    """Return the target whose own attribute `path` begins with, else the first."""
    shown = show(path)
    for target in targets:
        attr = target.partition("#")[2] or target.partition(" -A ")[2]
        if attr and (shown == attr or shown.startswith(f"{attr}.")):
            return target
    return targets[0] if targets else f".#{DEFAULT_FLAKE_OUTPUT}"
