"""Chooses the commit to compare with, and says why.

    wanted by name                                that commit
    a branch of its own                           the merge base with the default branch
    on the default branch, changes not committed  the last commit
    on the default branch, ahead of its remote    the merge base with the remote
    on the default branch otherwise               the commit before
    no merge base (shallow, unrelated history)    the newest commit of the default branch that is here

The default branch is what the remote says (`origin/HEAD`; of a bare repository its own `HEAD`), else the first that
exists of `_CANDIDATES`.
"""

from typing import Final

import msgspec

from nixmill.core.source import NoBase
from nixmill.edge.git_checkout import Checkout, commit_of, current_branch, wanted_commit

_ORIGIN_HEAD: Final = "refs/remotes/origin/HEAD"
_CANDIDATES: Final = (
    "refs/remotes/origin/main",
    "refs/remotes/origin/master",
    "refs/heads/main",
    "refs/heads/master",
)


class BaseCommit(msgspec.Struct, frozen=True, kw_only=True):
    """What to compare with."""

    commit: str
    reason: str
    """A clause: `merge base with origin/main`."""


class _Default(msgspec.Struct, frozen=True, kw_only=True):
    ref: str
    commit: str

    @property
    def name(self) -> str:
        """The branch as people write it: `origin/main`."""
        return self.ref.removeprefix("refs/heads/").removeprefix("refs/remotes/")

    @property
    def branch(self) -> str:
        """The full name of the local branch of that name."""
        return "refs/heads/" + self.name.removeprefix("origin/")


async def choose_base(checkout: Checkout, commit: str, *, dirty: bool, wanted: str | None) -> BaseCommit | NoBase:
    """Return what `commit` is compared with; raise `InputError` where `wanted` names nothing."""
    if wanted is not None:
        return BaseCommit(commit=await wanted_commit(checkout, wanted), reason=f"you asked for {wanted}")
    if not commit:
        return NoBase(reason="nothing is committed yet")
    default = await _default_branch(checkout)
    if default is None:
        return _without_default(commit, dirty=dirty)
    fork = await _merge_base(checkout, commit, default.commit)
    if fork is None:
        why = "this clone is shallow and has no merge base" if checkout.shallow else "the histories are unrelated"
        return BaseCommit(commit=default.commit, reason=f"newest {default.name} here, since {why}")
    if fork == commit and await _stands_on(checkout, commit, default):
        return await _on_default(checkout, commit, default.name, dirty=dirty)
    return BaseCommit(commit=fork, reason=f"merge base with {default.name}")


async def _default_branch(checkout: Checkout) -> _Default | None:
    head = await checkout.git.ask("symbolic-ref", "--quiet", "HEAD" if checkout.bare else _ORIGIN_HEAD)
    named = (head.text,) if head.status == 0 else ()
    for ref in (*named, *_CANDIDATES):
        commit = await commit_of(checkout, ref)
        if commit is not None:
            return _Default(ref=ref, commit=commit)
    return None


async def _merge_base(checkout: Checkout, one: str, other: str) -> str | None:
    answer = await checkout.git.ask("merge-base", one, other)
    return answer.text.split("\n")[0] if answer.status == 0 else None


async def _stands_on(checkout: Checkout, commit: str, default: _Default) -> bool:
    """Say whether a commit that the default branch has is looked at as part of it: not from a branch of its own."""
    branch = await current_branch(checkout)
    return branch in {None, default.branch} or commit != await commit_of(checkout, "HEAD")


async def _on_default(checkout: Checkout, commit: str, name: str, *, dirty: bool) -> BaseCommit | NoBase:
    if dirty:
        return BaseCommit(commit=commit, reason="the last commit, since changes to it are not committed")
    parent = await commit_of(checkout, commit + "^")
    if parent is not None:
        return BaseCommit(commit=parent, reason=f"the commit before, since this one is on {name}")
    if checkout.shallow:
        return NoBase(reason="the commit before is not in this shallow clone")
    return NoBase(reason="this is the first commit")


def _without_default(commit: str, *, dirty: bool) -> BaseCommit | NoBase:
    if dirty:
        return BaseCommit(commit=commit, reason="the last commit, since no default branch was found")
    return NoBase(reason="no default branch was found (origin/HEAD, main or master)")
