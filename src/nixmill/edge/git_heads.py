"""Where a mirror keeps what it has of pull requests: below `refs/nixmill/`, never as a branch.

    refs/nixmill/pulls/<digest of the remote's ref>    the head that was fetched last
    refs/nixmill/merges/<day>/<commit>                 what was merged here on that day (UTC), with its parents

So a branch of a stranger, whatever it is called, is neither a branch here nor HEAD nor among what is watched.
A head stays until its pull request is closed (`keep`), a merge for `MERGES_KEPT`: then git's own collector may take it,
two weeks later. Old merges are forgotten when the next one is made, once a day and mirror.
"""

import datetime as dt
import hashlib
import re
from collections.abc import Collection
from typing import Final

from nixmill.edge.git_mirror import Mirror

PULLS: Final = "refs/nixmill/pulls/"
MERGES: Final = "refs/nixmill/merges/"
MERGES_KEPT: Final = dt.timedelta(days=30)


def head_ref(ref: str) -> str:
    """Return where the head that the remote has at `ref` is kept; the digest stands for names of any kind."""
    return PULLS + hashlib.sha256(ref.encode(errors="surrogateescape")).hexdigest()[:32]


async def keep(mirror: Mirror, refs: Collection[str]) -> None:
    """Forget all heads but those of `refs`, the remote's names. The lock is held."""
    kept = {head_ref(ref) for ref in refs}
    await _delete(mirror, [name for name in await _names(mirror, PULLS) if name not in kept])


async def keep_merge(mirror: Mirror, commit: str, today: dt.date) -> None:
    """Keep a merge from today on. The lock is held."""
    await mirror.git.run("update-ref", f"{MERGES}{today.isoformat()}/{commit}", commit)


def was_merged(mirror: Mirror, commit: str) -> bool:
    """Say whether a commit is kept as a merge; only files are looked at, so the mirror may be damaged."""
    packed = mirror.directory / "packed-refs"
    listed = packed.read_bytes() if packed.is_file() else b""
    kept = any((mirror.directory / MERGES).glob(f"*/{commit}"))
    return kept or re.search(rf" {MERGES}\S+/{commit}\n".encode(), listed) is not None


async def forget_old_merges(mirror: Mirror, today: dt.date) -> None:
    """Forget merges that were last made more than `MERGES_KEPT` ago. The lock is held."""
    oldest = MERGES + (today - MERGES_KEPT).isoformat()
    await _delete(mirror, [name for name in await _names(mirror, MERGES) if name < oldest])


async def _names(mirror: Mirror, below: str) -> list[str]:
    return [name for name in (await mirror.git.run("for-each-ref", "--format=%(refname)", below)).split("\n") if name]


async def _delete(mirror: Mirror, names: list[str]) -> None:
    if names:
        lines = "".join(f"delete {name}\n" for name in names)
        await mirror.git.run("update-ref", "--no-deref", "--stdin", stdin=lines.encode())
