"""Puts submodules into the tree of a fetched commit, as ordinary directories of a commit of ours.

    refs/nixmill/whole/<commit>    the commit with its submodules' files; `nixmill.edge.git` takes it for `<commit>`

Nix and the exported files then see one tree, and nothing is fetched later. Who pushes decides where submodules come
from, so: no credential, only the project's allowed protocols (`file` only where the project is a local one itself), no
address of a private network unless it is the project's own host, other hosts by http(s) only and without redirects,
`DEPTH` levels, `MOST` in all, together no larger than `nixmill.edge.git_bounds` allows.
The addresses are looked up once and git is told to use what was found, so a name cannot change in between.
Source: gitmodules(5), gitsubmodules(7); field survey, "SSRF by fetchers".
"""

import asyncio
import hashlib
import ipaddress
import os
import socket
import tempfile
from collections.abc import Sequence
from typing import Final
from urllib.parse import urlsplit

from nixmill.core.errors import InputError
from nixmill.core.project import check_url
from nixmill.doors import DoorError
from nixmill.edge.git_access import Access, Room, access, host_of, scheme_of
from nixmill.edge.git_bounds import NOTHING, check_bounds
from nixmill.edge.git_checkout import WHOLE
from nixmill.edge.git_fault import fault, is_gone, said
from nixmill.edge.git_fetch import Fetching
from nixmill.edge.git_mirror import Mirror
from nixmill.edge.git_transport import DOOR

DEPTH: Final = 5
MOST: Final = 100
ADDRESSES: Final = 1 << 20
"""Bytes of addresses that are read; what comes later has none."""
KEPT: Final = 500
"""Whole commits of a mirror that stay."""
_GITLINK: Final = "160000"
_BYTES: Final = ("utf-8", "surrogateescape")
_PORTS: Final = {"https": 443, "http": 80}
_WHO: Final = {
    "GIT_AUTHOR_NAME": "nixmill",
    "GIT_AUTHOR_EMAIL": "nixmill@localhost",
    "GIT_COMMITTER_NAME": "nixmill",
    "GIT_COMMITTER_EMAIL": "nixmill@localhost",
}


class Submodules:
    """Submodules of one commit, under the lock of its mirror."""

    def __init__(self, mirror: Mirror, fetching: Fetching, room: Room, schemes: Sequence[str]) -> None:
        """Fetch by `schemes`."""
        self._mirror, self._fetching, self._room = mirror, fetching, room
        self._schemes = [scheme for scheme in schemes if scheme != "file"]
        self._fetched, self._extent = 0, NOTHING

    async def bring(self, commit: str, url: str, *, wanted: bool) -> None:
        """Make the whole commit where it is wanted and there are submodules; else see that there is none."""
        whole = WHOLE + commit
        known = await self._mirror.commit_of(whole)
        if known and not wanted:
            await self._mirror.git.run("update-ref", "-d", whole)
        if known or not wanted:
            return
        if scheme_of(url) == "file":
            self._schemes.append("file")
        tree = await self._tree_of(commit)
        try:
            async with asyncio.timeout(self._room.limits.fetch_s):
                filled = await self._fill(tree, url, url, DEPTH)
        except TimeoutError:
            raise _too_slow(url, self._room.limits.fetch_s) from None
        if filled != tree:
            await self._mirror.git.run("update-ref", whole, await self._commit(filled, commit))
            await self._forget_old(whole)

    async def _fill(self, tree: str, url: str, top: str, levels: int) -> str:
        """Return a tree with its submodules' files; `url` is where the tree is from, `top` the project's."""
        links = await self._links(tree)
        if links and not levels:
            raise InputError(f"Submodules of {top} are nested more than {DEPTH} deep.", "Nest them less deeply.")
        if not links:
            return tree
        addresses = await self._addresses(tree)
        parts: dict[str, str] = {}
        for path, commit in links.items():
            if path not in addresses:
                raise InputError(f"The submodule {path!r} of {url} has no address.", "Name it in .gitmodules.")
            there = absolute(addresses[path], url)
            await self._fetch(path, commit, there, top)
            self._extent = await check_bounds(self._mirror.git, commit, self._room.limits, self._extent)
            parts[path] = await self._fill(await self._tree_of(commit), there, top, levels - 1)
        return await self._joined(tree, parts)

    async def _links(self, tree: str) -> dict[str, str]:
        """Return path and commit of each submodule; none where the tree has no `.gitmodules`."""
        if (await self._mirror.git.ask("cat-file", "-e", f"{tree}:.gitmodules")).status != 0:
            return {}
        listed = await self._mirror.git.run("ls-tree", "-r", "-z", "--full-tree", tree)
        entries = [entry.split("\t", 1) for entry in listed.split("\0") if entry.startswith(_GITLINK)]
        return {path: described.split(" ")[2] for described, path in entries}

    async def _addresses(self, tree: str) -> dict[str, str]:
        """Return the addresses of submodules by path, as `.gitmodules` has them."""
        pattern = r"^submodule\..*\.(path|url)$"
        listed = await self._mirror.git.beginning(
            ADDRESSES, "config", "--blob", f"{tree}:.gitmodules", "-z", "--get-regexp", pattern
        )
        entries = os.fsdecode(listed.output).split("\0")[:-1]
        values = dict(entry.split("\n", 1) for entry in entries if "\n" in entry)
        urls = {key.removesuffix(".url"): value for key, value in values.items() if key.endswith(".url")}
        paths = {key.removesuffix(".path"): value for key, value in values.items() if key.endswith(".path")}
        return {path: urls[name] for name, path in paths.items() if name in urls}

    async def _fetch(self, path: str, commit: str, url: str, top: str) -> None:
        self._fetched += 1
        if self._fetched > MOST:
            raise InputError(f"{top} has more than {MOST} submodules, those of submodules included.", "Use fewer.")
        if await self._mirror.has(commit):
            return
        reached = await self._reach(path, url, top)
        keep = "refs/nixmill/submodules/" + hashlib.sha256(url.encode()).hexdigest()[:16]
        fetching = self._fetching.to(reached)
        answer = await fetching.bring(f"+{commit}:{keep}")
        if answer.status != 0 and is_gone(answer.complaint):
            raise InputError(
                f"The submodule {path!r} needs commit {commit[:12]} of {url}, which is not there.",
                "Push it there, or let the submodule name a commit that exists.",
            )
        if answer.status != 0:
            raise fault(answer.complaint, reached, self._room, "git fetch")

    async def _reach(self, path: str, url: str, top: str) -> Access:
        try:
            check_url(url, self._schemes)
        except InputError as error:
            raise InputError(f"The submodule {path!r} cannot be fetched: {error}", error.remedy) from error
        if scheme_of(url) == scheme_of(top) and host_of(url) == host_of(top):
            return access(url, self._room)
        if scheme_of(url) == "file":
            return access(url, self._room)
        if scheme_of(url) not in {"https", "http"}:
            raise InputError(
                f"The submodule {path!r} is fetched from {url}: from other hosts than the project's own only https is "
                "used, since no key is given to them.",
                "Use its https address in .gitmodules.",
            )
        return access(url, self._room, pinned=await _pinned(path, url))

    async def _joined(self, tree: str, parts: dict[str, str]) -> str:
        """Return `tree` with other trees in the place of its submodules."""
        with tempfile.TemporaryDirectory(dir=self._mirror.directory, prefix="tmp_") as room:
            git = self._mirror.git_with_work_tree(room)
            await git.run("read-tree", tree)
            for path, part in parts.items():
                await git.run(
                    "update-index", "-z", "--index-info", stdin=f"0 {_no_object(tree)}\t{path}\0".encode(*_BYTES)
                )
                await git.run("read-tree", f"--prefix={path}/", part)
            return await git.run("write-tree")

    async def _forget_old(self, needed: str) -> None:
        """Forget whole commits but for the newest and `needed`; they are made again when they are asked for."""
        listed = await self._mirror.git.run("for-each-ref", "--sort=-committerdate", "--format=%(refname)", WHOLE)
        for ref in set(listed.split("\n")[KEPT:]) - {needed}:
            await self._mirror.git.run("update-ref", "-d", ref)

    async def _commit(self, tree: str, commit: str) -> str:
        """Return a commit of that tree upon `commit`; the same ones are the same commit."""
        date = f"@{await self._mirror.git.run('show', '--no-patch', '--format=%ct', commit)} +0000"
        git = self._mirror.git.with_variables(GIT_AUTHOR_DATE=date, GIT_COMMITTER_DATE=date, **_WHO)
        return await git.run("commit-tree", "-p", commit, "-m", f"{commit} with its submodules", tree)

    async def _tree_of(self, commit: str) -> str:
        return await self._mirror.git.run("rev-parse", "--verify", commit + "^{tree}")


def _no_object(like: str) -> str:
    return "0" * len(like)


def absolute(address: str, url: str) -> str:
    """Return the address of a submodule; one that begins with `./` or `../` is relative to `url` (gitmodules(5))."""
    if not address.startswith(("./", "../")):
        return address
    base, rest = url.rstrip("/"), address
    while rest.startswith(("./", "../")):
        if rest.startswith("../"):
            base = base.rpartition("/")[0]
        rest = rest.partition("/")[2]
    if not base or base.endswith((":", ":/")):
        raise InputError(f"The submodule's address {address!r} leads above {url}.", "Correct .gitmodules.")
    return f"{base}/{rest}"


def _too_slow(url: str, limit_s: float) -> DoorError:
    return DoorError(
        f"The submodules of {url} were not there within {limit_s:.0f} s. It is tried again; what was fetched stays.",
        door=DOOR,
        action="git fetch",
        subject=url,
        retryable=True,
    )


async def _pinned(path: str, url: str) -> str:
    """Look the host up; return what git is told to use; `InputError` where it is in a private network."""
    parts = urlsplit(url)
    host, port = parts.hostname or "", parts.port or _PORTS[parts.scheme]
    try:
        found = await asyncio.get_running_loop().getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except OSError as error:
        raise DoorError(
            f"The name {host} of the submodule {path!r} was not found ({said(str(error))}). It is tried again.",
            door=DOOR,
            action="look up",
            subject=url,
            retryable=True,
        ) from error
    addresses = [ipaddress.ip_address(entry[4][0]) for entry in found]
    if not all(address.is_global for address in addresses):
        raise InputError(
            f"The submodule {path!r} leads to a private network ({url}) and was not fetched.",
            "Only the project's own host may be private: put the submodule beside it, or switch submodules off.",
        )
    shown = (f"[{address}]" if address.version == 6 else str(address) for address in dict.fromkeys(addresses))
    return f"{host}:{port}:{','.join(shown)}"
