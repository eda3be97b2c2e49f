"""What an evaluation for strangers must not read, and how its processes are started so that they cannot.

Decides which files of a hidden place an evaluation needs all the same: its own tree, or its own repository with the
objects of its mirror. The keeping is done by `confined.py`.
"""

import os
import sys
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Final
from urllib.parse import SplitResult, unquote, urlsplit

from nixmill.core.evaluation import FlakeTarget
from nixmill.edge.evaluator import confined
from nixmill.edge.evaluator.source_text import Group

_ALTERNATES: Final = ".git/objects/info/alternates"


def is_possible() -> bool:
    """Say whether this machine's kernel can keep evaluations from files."""
    return confined.version() >= confined.OLDEST


def command(argv: Sequence[str], hidden: Collection[Path], group: Group, environment: Mapping[str, str]) -> list[str]:
    """Return the command line by which `argv` runs without being able to read what is hidden."""
    if not hidden:
        return list(argv)
    shown = [*needed(group), _home(environment, "XDG_CONFIG_HOME", ".config")]
    written = [_home(environment, "XDG_CACHE_HOME", ".cache")]
    places = [sorted({str(path.resolve()) for path in paths}) for paths in (hidden, shown, written)]
    return [sys.executable, "-I", "-S", confined.__file__, *(word for some in places for word in (*some, "--")), *argv]


def environment(given: Mapping[str, str], hidden: Collection[Path], private: str) -> dict[str, str]:
    """Return the environment for such a command: its temporary files go to `private`, its cache is there already.

    Neither could be made beside a hidden place.
    """
    if not hidden:
        return dict(given)
    _home(given, "XDG_CACHE_HOME", ".cache").mkdir(parents=True, exist_ok=True)
    return {**given, "TMPDIR": private}


def _home(environment: Mapping[str, str], variable: str, otherwise: str) -> Path:
    """Return Nix's own directory of a kind, as the XDG base directory specification has it."""
    return Path(environment.get(variable) or Path(environment.get("HOME") or "/", otherwise), "nix")


def needed(group: Group) -> list[Path]:
    """Return the places of this machine that an evaluation of a group reads."""
    if group.tree_path:
        return [Path(group.tree_path)]
    references = {target.reference for target in group.targets if isinstance(target, FlakeTarget)}
    repositories = [Path(unquote(url.path)) for url in map(urlsplit, references) if _is_of_this_machine(url)]
    return [path for repository in repositories for path in (repository, *_objects(repository))]


def _is_of_this_machine(url: SplitResult) -> bool:
    """Say whether a reference means a place here: `git+https://example.org/etc` does not mean our `/etc`."""
    return url.scheme in {"", "file", "git+file", "path"} and not url.netloc and len(Path(url.path).parts) > 1


def _objects(repository: Path) -> list[Path]:
    """Return where a repository of the cache has its objects from (gitrepository-layout(5))."""
    try:
        return [Path(line) for line in os.fsdecode((repository / _ALTERNATES).read_bytes()).splitlines()]
    except OSError:
        return []
