"""Compares two commits of a mirror for a person who decides whether to trust the newer one; reads messages.

What is compared was written by strangers who may want it overlooked: no `.gitattributes` hides a file or calls it
binary, no driver or filter runs, and everything is cut off visibly: files, patches, bytes, time.
Source: git-diff-tree(1) "Raw output format", "--numstat" and "-z".
"""

import fnmatch
import os
from collections.abc import Collection, Iterator, Sequence
from typing import Final

import msgspec

from nixmill.core.merged import (
    FILES_MAX,
    MESSAGE_BYTES,
    PATCH_BYTES,
    PATCHES_BYTES,
    ChangedFile,
    Comparison,
    FileChange,
    Patch,
)
from nixmill.edge.git_bounds import is_bounded
from nixmill.edge.git_command import Git
from nixmill.edge.git_merge import blind
from nixmill.edge.git_mirror import Mirror
from nixmill.edge.git_transport import Limits

PATCHES_MAX: Final = 200
"""Patches that are made; each costs a command."""
LIST_BYTES: Final = 8 * 1024 * 1024
"""Of git's list of differences: some 40,000 files."""
LIST_S: Final = 20.0
COMMITS_MAX: Final = 10_000
_LARGE: Final = "core.bigFileThreshold=4m"
"""Larger files count as binary."""
_DIFF: Final = (
    "diff-tree",
    "-r",
    "-M",
    "-l1000",
    "--no-ext-diff",
    "--no-textconv",
    "--no-color",
    "--ignore-submodules=none",  # .gitmodules could say otherwise
    "--submodule=short",
)
_CUT: Final = "… the patch goes on; it was cut here."
_KINDS: Final = {"A": FileChange.ADDED, "D": FileChange.DELETED, "R": FileChange.RENAMED}


class _Entry(msgspec.Struct, frozen=True, kw_only=True):
    """A difference; paths as git has them, for git."""

    kind: FileChange
    path: bytes
    old: bytes = b""

    @property
    def paths(self) -> tuple[str, ...]:
        """For arguments."""
        return tuple(os.fsdecode(path) for path in (self.old, self.path) if path)


_Counts = dict[bytes, tuple[str, str]]
"""Lines added and removed, by path; `-` of a binary file."""


async def compared(mirror: Mirror, old: str, new: str, patch_of: Collection[str], limits: Limits) -> Comparison:
    """Return what is different in `new`, both being here; patches of files whose path, old or new, a glob matches.

    Patches come in the order of the globs: what the first ones match is there when there is no room for all.
    """
    git = blind(mirror, old)
    count = int(await git.run("rev-list", "--count", f"--max-count={COMMITS_MAX}", new, f"^{old}"))
    if not (await is_bounded(git, old, limits) and await is_bounded(git, new, limits)):  # git would keep it all
        return Comparison(files=(), endless=True, commits=count)
    listed = await git.beginning(LIST_BYTES, *_DIFF, "-z", "--raw", old, new, limit_s=LIST_S)
    entries = [entry for entry in _parsed(listed.output)[0] if entry.path]  # else it was cut in the middle
    counts = {} if listed.cut else await _counts(git, old, new)
    ranked = [(min(_rank(_text(path), patch_of) for path in (entry.path, entry.old)), entry) for entry in entries]
    chosen = [(rank, entry) for rank, entry in ranked if rank < len(patch_of)]
    # So that no flood of other files pushes out what matters most.
    chosen.sort(key=lambda one: one[0])
    patches, left = await _patches(git, old, new, [entry for _, entry in chosen])
    return Comparison(
        files=tuple(_file(entry, counts.get(entry.path)) for entry in entries[:FILES_MAX]),
        more=max(0, len(entries) - FILES_MAX),
        endless=listed.cut,
        patches=patches,
        more_patches=left,
        commits=count,
    )


async def said_in(mirror: Mirror, commit: str) -> tuple[str, str]:
    """Return message and author of a commit, at most `MESSAGE_BYTES`; bytes that are no text are replaced."""
    arguments = (
        "show",
        "--no-patch",
        "--encoding=UTF-8",
        "--format=%an%x00%B",
        "--end-of-options",
        commit + "^{commit}",
    )
    author, _, message = _text((await mirror.git.beginning(MESSAGE_BYTES, *arguments)).output).partition("\0")
    return message.rstrip("\n"), author


async def _counts(git: Git, old: str, new: str) -> _Counts:
    """Count lines; nothing is counted where that takes too long."""
    counted = await git.beginning(LIST_BYTES, "-c", _LARGE, *_DIFF, "-z", "--numstat", old, new, limit_s=LIST_S)
    return {} if counted.cut else _parsed(counted.output)[1]


def _parsed(output: bytes) -> tuple[list[_Entry], _Counts]:
    """Read what `--raw` or `--numstat` wrote with `-z`; a word without its end is dropped."""
    entries: list[_Entry] = []
    counts: _Counts = {}
    fields = iter(output.split(b"\0")[:-1])
    for word in fields:
        if word.startswith(b":"):
            entries.append(_entry(word.rpartition(b" ")[2][:1].decode(), fields))
        else:
            added, removed, path = word.split(b"\t", 2)
            path = path or [next(fields, b""), next(fields, b"")][1]
            counts[path] = (added.decode(), removed.decode())
    return entries, counts


def _entry(letter: str, fields: Iterator[bytes]) -> _Entry:
    kind = _KINDS.get(letter, FileChange.CHANGED)
    old = next(fields, b"") if kind is FileChange.RENAMED else b""
    return _Entry(kind=kind, path=next(fields, b""), old=old)


def _file(entry: _Entry, counts: tuple[str, str] | None) -> ChangedFile:
    added, removed = counts or ("0", "0")
    return ChangedFile(
        path=_text(entry.path),
        kind=entry.kind,
        added=int(added) if added != "-" else 0,
        removed=int(removed) if removed != "-" else 0,
        old_path=_text(entry.old),
        binary=added == "-",
    )


def _rank(path: str, globs: Collection[str]) -> int:
    """Return the number of the first glob that a path matches; how many there are where none does."""
    return next((rank for rank, glob in enumerate(globs) if fnmatch.fnmatchcase(path, glob)), len(globs))


async def _patches(git: Git, old: str, new: str, entries: Sequence[_Entry]) -> tuple[tuple[Patch, ...], int]:
    """Return patches in turn until there are enough, and how many are left out."""
    patches: list[Patch] = []
    room = PATCHES_BYTES
    for entry in entries[:PATCHES_MAX]:
        if room <= 0:
            break
        patch = await _patch(git, old, new, entry, min(PATCH_BYTES, room))
        patches.append(patch)
        room -= len(patch.text.encode())
    return tuple(patches), len(entries) - len(patches)


async def _patch(git: Git, old: str, new: str, entry: _Entry, limit: int) -> Patch:
    # Renames are shown as what they are for who reads: a file that was harmless under its old name is there in full.
    arguments = ("--literal-pathspecs", "-c", _LARGE, *_DIFF, "--no-renames", "-p", old, new, "--", *entry.paths)
    found = await git.beginning(limit, *arguments, limit_s=LIST_S)
    whole = _text(found.output).encode()
    cut = found.cut or len(whole) > limit  # bytes that are no text became longer
    text = whole[:limit].decode(errors="ignore")
    return Patch(path=_text(entry.path), text=f"{text}\n{_CUT}\n" if cut else text, cut=cut)


def _text(raw: bytes) -> str:
    return raw.decode(errors="replace")
