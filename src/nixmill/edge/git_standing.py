"""Says where a checkout stands towards its remotes, from what git knows here: no remote is asked."""

from nixmill.core.errors import InputError
from nixmill.core.standing import Standing
from nixmill.edge.git_command import Git

BRANCHES_MAX = 1000


async def standing(directory: str) -> Standing:
    """Return where the checkout around `directory` stands; raise `InputError` where there is none, or no commit."""
    git = Git(directory)
    head = await git.ask("rev-parse", "--verify", "--quiet", "HEAD^{commit}")
    if head.status != 0:
        raise InputError(f"{directory} is in no git checkout with a commit.", "Stand in one, and commit something.")
    branch = await git.ask("symbolic-ref", "--quiet", "--short", "HEAD")
    changed = await git.run("status", "--porcelain", "--untracked-files=no")
    return Standing(
        commit=head.text,
        branch=branch.text if branch.status == 0 else "",
        dirty=bool(changed.strip()),
        remotes=await _remotes(git),
        on=await _having(git, head.text),
    )


async def _remotes(git: Git) -> tuple[tuple[str, str], ...]:
    names = sorted((await git.run("remote")).split(), key=lambda name: (name != "origin", name))
    return tuple([(name, (await git.run("remote", "get-url", "--", name)).strip()) for name in names])


async def _having(git: Git, commit: str) -> tuple[str, ...]:
    """Return the remote branches that have a commit, that of the branch itself first, `origin/HEAD` never."""
    listed = await git.run(
        "for-each-ref",
        f"--count={BRANCHES_MAX}",
        f"--contains={commit}",
        "--format=%(symref)%(refname:lstrip=2)",
        "refs/remotes",
    )
    names = [name for name in listed.splitlines() if name and not name.startswith("refs/")]
    upstream = await git.ask("rev-parse", "--verify", "--quiet", "--abbrev-ref", "@{upstream}")
    followed = upstream.text if upstream.status == 0 else ""
    return tuple(sorted(names, key=lambda name: (name != followed, not name.startswith("origin/"), name)))
