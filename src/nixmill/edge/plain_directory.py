"""Trees of directories without git: hashed as Nix hashes them, read where they stand.

Nothing keeps such a directory from changing while it is checked; for a flake Nix then refuses it by its hash.
Source: Nix manual, `nix-hash` and "Flake references" (`path:`).
"""

import asyncio
import base64
import contextlib
from pathlib import Path

from nixmill.core.errors import InputError
from nixmill.core.source import Tree, is_plain, path_reference, project_name
from nixmill.doors import DoorError
from nixmill.edge.tree_cache import TreeCache


async def plain_tree(directory: Path, cache: TreeCache) -> Tree:
    """Return the tree of a directory that no git knows."""
    digest = await _nar_digest(directory)
    project = project_name("", str(directory))
    readable = is_plain(str(directory))
    path = directory if readable else await asyncio.to_thread(cache.copy, directory, f"nar-{digest}", project)
    nar_hash = "sha256-" + base64.b64encode(bytes.fromhex(digest)).decode()
    return Tree(
        project=project,
        path=str(path),
        tree_hash=f"nar:{nar_hash}",
        commit="",
        dirty=False,
        flake_reference=path_reference(str(path), nar_hash),
        checkout=str(directory),
        notices=(f"{directory} is no git checkout: all its files are part of what is checked.",),
    )


async def _nar_digest(directory: Path) -> str:
    """Return the SHA-256 of the directory's NAR in hexadecimal."""
    try:
        process = await asyncio.create_subprocess_exec(
            *("nix-hash", "--type", "sha256", "--", str(directory)),
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )
    except FileNotFoundError as error:
        raise InputError("nix-hash was not found on PATH.", "Install Nix 2.8 or newer, then try again.") from error
    try:
        output, complaint = await process.communicate()
    finally:
        if process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                process.kill()
            await process.wait()
    if process.returncode != 0:
        raise DoorError(
            f"Nix could not hash {directory}: {complaint.decode(errors='replace').strip()}",
            door="source",
            action="nix-hash",
            subject=str(directory),
            retryable=False,
        )
    return output.decode().strip()
