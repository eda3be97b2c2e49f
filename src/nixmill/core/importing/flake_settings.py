"""`buildbot-nix.toml` and `nixbot.toml` → `nixmill.toml`.

Source: nix-community/buildbot-nix 9a8ea9a47 (`repo_config/__init__.py`), Mic92/nixbot 06d86fac4 (`repo_config.py`).
"""

import posixpath
from collections.abc import Sequence
from typing import Final

from nixmill.core.importing.findings import Document, Findings, Path, RepositoryFile, listed, shown
from nixmill.core.importing.options import Kind, Option, Values, read, tell_lost, unknown
from nixmill.core.importing.toml_text import written
from nixmill.nix.attr_path import AttrPathError, parse, show

DEFAULT_BRANCHES: Final = ("main", "master")
"""Where nobody says what the default branch is called."""
LOCK_FILE: Final = "flake.lock"
_NO_EFFECTS: Final = "nixmill runs no effects of hercules-ci."
_HOOKS: Final = "What should happen after a build can be a [[hook]] of the server (docs/notifications.md)."
BUILDBOT_NIX: Final = (
    Option("flake_dir", Kind.TEXT, "."),
    Option("lock_file", Kind.TEXT),
    Option("attribute", Kind.TEXT, "checks"),
    Option("effects_on_pull_requests", Kind.FLAG, None, _NO_EFFECTS, _HOOKS),
    Option("effects_branches", Kind.TEXTS, None, _NO_EFFECTS, _HOOKS),
)
NIXBOT: Final = (*BUILDBOT_NIX, Option("build_branches", Kind.TEXTS))


def repository_file(
    document: Document, options: Sequence[Option], branches: Sequence[str], default_branch: str, findings: Findings
) -> RepositoryFile:
    """Return what a repository needs.

    `branches` are globs that the server builds of every repository, `default_branch` may be empty: unknown.
    """
    values = read(document, options, findings)
    for path, meant in unknown(document, options):
        findings.mistake(document, path, "is no key of this file.", meant)
    tell_lost(values, options, findings)
    _tell_lock_file(values, findings)
    target = _target(values, findings)
    globs = _globs(values, branches, findings)
    evaluate = {"targets": [target]} if target not in {"", ".#checks"} else {}
    watch = {"branches": _with_default(globs, default_branch, document.where, findings)} if globs else {}
    return RepositoryFile(source=document.where, text=written({}, [("[evaluate]", evaluate), ("[watch]", watch)]))


def _tell_lock_file(values: Values, findings: Findings) -> None:
    name = posixpath.normpath(values.text("lock_file") or LOCK_FILE)
    if name not in {LOCK_FILE, posixpath.join(posixpath.normpath(values.text("flake_dir") or "."), LOCK_FILE)}:
        findings.lost(
            f"lock_file = {shown(values.text('lock_file'))}",
            "nixmill evaluates a flake with the lock file beside it.",
            "Call it flake.lock, or make the other set of inputs a flake in a directory of its own.",
        )


def directory(document: Document, path: Path, text: str, findings: Findings) -> str:
    """Return the directory of a flake as targets begin with it: `.`, `./sub`."""
    normal = posixpath.normpath(text or ".")
    if posixpath.isabs(normal) or normal.split("/")[0] == ".." or set(text) & set(":#?"):
        findings.mistake(document, path, f"{shown(text)} is no directory of the repository.")
        return "."
    return normal if normal == "." else f"./{normal}"


def _target(values: Values, findings: Findings) -> str:
    document = values.document
    attribute = values.text("attribute") or "checks"
    try:
        names = parse(attribute)
    except AttrPathError as error:
        findings.mistake(document, ("attribute",), str(error))
        return ""
    return f"{directory(document, ('flake_dir',), values.text('flake_dir'), findings)}#{show(names)}"


def _globs(values: Values, branches: Sequence[str], findings: Findings) -> tuple[str, ...]:
    """Return the branches that are built besides the default one; those of the repository replace the server's."""
    globs = values.texts("build_branches") if values.get("build_branches") is not None else tuple(branches)
    for glob in globs:
        check_glob(glob, findings)
    return globs


def check_glob(glob: str, findings: Findings) -> None:
    """Tell where a glob means something else here: theirs are regular expressions in which `*` and `?` are globs."""
    odd = sorted(set(glob) & set("!+()[]{}|^$\\"))
    if odd:
        findings.differently(
            f"branches {shown(glob)}",
            f"{listed(odd)} had a meaning of regular expressions; in nixmill the pattern is a glob.",
            "Look at it.",
        )


def _with_default(globs: Sequence[str], default_branch: str, where: str, findings: Findings) -> list[str]:
    """Return globs that choose the default branch too, which nixmill builds by itself only where there are none."""
    first = (default_branch,) if default_branch else DEFAULT_BRANCHES
    if not default_branch:
        findings.differently(
            f"branches of {where}",
            "where branches are named, nixmill does not add the default branch, so main and master were written.",
            "Leave only the one there is, or give --default-branch.",
        )
    return list(dict.fromkeys([*first, *globs]))
