"""Heads of pull requests and their merges in real mirrors: conflicts, hostile attributes, forks called main."""

import asyncio
import datetime as dt
import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from nixmill.core.errors import GoneError, InputError
from nixmill.core.merged import FILES_KEPT, MergeConflictError
from nixmill.core.project import Project
from nixmill.core.source import NoBase, Tree, TreeRequest
from nixmill.doors import DoorError
from nixmill.edge.git_heads import MERGES, head_ref
from nixmill.edge.git_refs import is_ref
from nixmill.edge.git_remote import GitRemote
from tests.support import git_repository
from tests.support.git_repository import Repository, git
from tests.support.git_server import GitServer, git_server

MAIN = "refs/heads/main"
PULL = "refs/pull/7/head"


@pytest.fixture
def upstream(tmp_path: Path) -> Repository:
    made = Repository(tmp_path / "served/mill")
    made.commit("first", a="one\n", b="1\n2\n3\n4\n5\n6\n7\n8\n9\n", lib_S_c="c\n")
    return made


@pytest.fixture
def server(tmp_path: Path) -> Iterator[GitServer]:
    (tmp_path / "served").mkdir(exist_ok=True)
    with git_server(tmp_path / "served") as running:
        yield running


@pytest.fixture
def remote(tmp_path: Path) -> GitRemote:
    return GitRemote(tmp_path / "state", {}, schemes=("file", "http"))


def at(upstream: Repository, **changes: object) -> Project:
    return Project(id=7, name="mill", url=f"file://{upstream.top}", **changes)  # type: ignore[arg-type]


def pull(upstream: Repository, ref: str = PULL, **files: str | None) -> str:
    """Commit something on the last commit of main, and leave it at a ref of a pull request only."""
    upstream.git("checkout", "--quiet", "--detach", "main")
    commit = upstream.commit("a proposal", **files)
    upstream.git("update-ref", ref, commit)
    upstream.git("checkout", "--quiet", "main")
    return commit


def refs(remote: GitRemote, below: str = "refs") -> list[str]:
    return git(Path(remote.mirror(7)), "for-each-ref", "--format=%(refname)", below).split()


def of_commit(remote: GitRemote, commit: str, form: str) -> str:
    return git(Path(remote.mirror(7)), "show", "--no-patch", f"--format={form}", commit)


def files(tree: Tree) -> dict[str, str]:
    top = Path(tree.path)
    return {str(file.relative_to(top)): file.read_text() for file in top.rglob("*") if file.is_file()}


def is_there(remote: GitRemote) -> bool:
    return Path(remote.mirror(7)).exists()


def damage(mirror: Path) -> None:
    for file in mirror.glob("objects/*/*"):
        file.chmod(0o600)
        os.truncate(file, 20)


# Heads


@pytest.mark.parametrize("ref", [PULL, "refs/merge-requests/7/head", "refs/changes/34/1234/5", "refs/heads/feature"])
async def test_a_head_is_fetched_and_is_no_branch(upstream: Repository, remote: GitRemote, ref: str) -> None:
    first = upstream.git("rev-parse", "HEAD")
    commit = pull(upstream, ref, a="two\n")
    assert await remote.fetch_head(at(upstream), ref, "") == commit
    assert refs(remote) == [MAIN, head_ref(ref)]
    assert git(Path(remote.mirror(7)), "rev-parse", "HEAD") == first
    assert (await remote.tree(at(upstream), commit))[1] == "a proposal"


async def test_a_head_branch_called_like_the_default_branch_changes_no_branch(
    upstream: Repository, remote: GitRemote, tmp_path: Path
) -> None:
    tip = upstream.git("rev-parse", "HEAD")
    await remote.fetch(at(upstream), MAIN, "")
    fork = Repository(tmp_path / "fork")
    hostile = fork.commit("evil", a="evil\n")
    assert await remote.fetch_head(at(fork), MAIN, hostile) == hostile
    assert refs(remote, "refs/nixmill") == [head_ref(MAIN)]
    assert git(Path(remote.mirror(7)), "rev-parse", head_ref(MAIN)) == hostile
    await remote.fetch(at(upstream), MAIN, "")
    assert git(Path(remote.mirror(7)), "rev-parse", "HEAD", MAIN).split() == [tip, tip]
    seen, default = await remote.look(at(upstream))
    assert ([ref.name for ref in seen], default) == ([MAIN], "main")


async def test_a_head_that_moved_still_gives_the_commit(upstream: Repository, remote: GitRemote) -> None:
    old = pull(upstream, a="two\n")
    new = pull(upstream, a="three\n")
    assert await remote.fetch_head(at(upstream), PULL, old) == old
    assert git(Path(remote.mirror(7)), "rev-parse", head_ref(PULL)) == old
    assert await remote.fetch_head(at(upstream), PULL, "") == new
    assert await remote.fetch_head(at(upstream), PULL, old) == old
    assert git(Path(remote.mirror(7)), "rev-parse", head_ref(PULL)) == old


async def test_a_head_whose_ref_is_gone_gives_its_commit_by_itself(upstream: Repository, remote: GitRemote) -> None:
    commit = pull(upstream, a="two\n")
    upstream.git("update-ref", "-d", PULL)
    with pytest.raises(GoneError, match=r"#7 is no longer there"):
        await remote.fetch_head(at(upstream), PULL, "")
    assert await remote.fetch_head(at(upstream), PULL, commit) == commit
    assert head_ref(PULL) in refs(remote)


async def test_a_head_that_the_remote_no_longer_has_is_an_input_error(upstream: Repository, remote: GitRemote) -> None:
    lost = pull(upstream, a="two\n")
    pull(upstream, a="three\n")
    upstream.git("reflog", "expire", "--expire=now", "--all")
    upstream.git("gc", "--quiet", "--prune=now")
    with pytest.raises(GoneError, match=r"of #7 is no longer there: it was force-pushed or deleted"):
        await remote.fetch_head(at(upstream), PULL, lost)


async def test_a_head_that_is_no_commit_is_an_input_error(upstream: Repository, remote: GitRemote) -> None:
    upstream.git("update-ref", PULL, upstream.git("rev-parse", "HEAD:a"))
    with pytest.raises(InputError, match="is no commit"):
        await remote.fetch_head(at(upstream), PULL, "")


NO_REFS = (
    "",
    "-x",
    "HEAD",
    "main",
    "refs/",
    "refs/x",
    "--upload-pack=x",
    "refs/pull/-x",
    "refs/pull/7/head:refs/heads/x",
)
NOR_THESE = (
    "refs/pull/*/head",
    "refs/pull/../7",
    "refs/pull/7.lock",
    "refs/pull/7\n",
    "+refs/pull/7/head",
    "^refs/a/b",
)


@pytest.mark.parametrize("ref", [*NO_REFS, *NOR_THESE, "refs/pull/" + "x" * 300])
async def test_a_ref_is_never_read_as_an_option_or_refspec(upstream: Repository, remote: GitRemote, ref: str) -> None:
    with pytest.raises(InputError, match="is no head of a pull request"):
        await remote.fetch_head(at(upstream), ref, "")
    assert not is_there(remote)


@pytest.mark.parametrize(
    "name", ["pull/7/head", "pull/7/head.", "pull/7/h..d", "a/b c", "a/b@{c", "changes/34/1234/5", "a/.b"]
)
def test_a_ref_that_git_does_not_take_is_not_taken(name: str) -> None:
    taken = subprocess.run(["git", "check-ref-format", f"refs/{name}"], check=False).returncode == 0
    assert is_ref(f"refs/{name}") == taken


@pytest.mark.parametrize("commit", ["--all", "main", "0" * 39, "$(id)", "HEAD", "A" * 40])
async def test_a_commit_is_a_whole_id(upstream: Repository, remote: GitRemote, commit: str) -> None:
    whole = await remote.fetch(at(upstream), MAIN, "")
    for call in (
        remote.fetch_head(at(upstream), PULL, commit),
        remote.merge(at(upstream), commit, MAIN),
        remote.merge(at(upstream), whole, MAIN, commit),
        remote.said(at(upstream), commit),
        remote.contains(at(upstream), commit, whole),
        remote.compare(at(upstream), whole, commit),
    ):
        with pytest.raises(InputError):
            await call


async def test_heads_of_closed_pull_requests_are_forgotten(upstream: Repository, remote: GitRemote) -> None:
    await remote.keep_heads(7, [])
    for number in range(3):
        pull(upstream, f"refs/pull/{number}/head", a=f"{number}\n")
        await remote.fetch_head(at(upstream), f"refs/pull/{number}/head", "")
    await remote.keep_heads(7, ["refs/pull/1/head", "refs/pull/9/head"])
    assert refs(remote) == [MAIN, head_ref("refs/pull/1/head")]


# Merges


async def test_a_head_is_merged_into_the_tip_of_its_base(upstream: Repository, remote: GitRemote) -> None:
    head = pull(upstream, a="two\n")
    base = upstream.commit("meanwhile", lib_S_c="d\n")
    await remote.fetch_head(at(upstream), PULL, head)
    made = await remote.merge(at(upstream), head, MAIN)
    assert (made.base, made.head) == (base, head)
    assert made.commit not in {base, head}
    tree, subject, author = await remote.tree(at(upstream), made.commit)
    assert files(tree) == {"a": "two\n", "b": "1\n2\n3\n4\n5\n6\n7\n8\n9\n", "lib/c": "d\n"}
    assert (tree.commit, tree.tree_hash) == (made.commit, made.tree_hash)
    assert (subject, author) == (f"Merge {head} into {base}", "nixmill")
    assert of_commit(remote, made.commit, "%P") == f"{base} {head}"


async def test_changes_of_both_sides_to_one_file_and_a_renamed_one_are_merged(
    upstream: Repository, remote: GitRemote
) -> None:
    head = pull(upstream, b="one\n2\n3\n4\n5\n6\n7\n8\n9\n")
    upstream.git("mv", "b", "moved")
    upstream.commit(moved="1\n2\n3\n4\n5\n6\n7\n8\nnine\n")
    await remote.fetch_head(at(upstream), PULL, head)
    made = await remote.merge(at(upstream), head, MAIN)
    tree, _, _ = await remote.tree(at(upstream), made.commit)
    assert files(tree)["moved"] == "one\n2\n3\n4\n5\n6\n7\n8\nnine\n"
    assert "b" not in files(tree)


async def test_the_same_merge_is_the_same_commit_whoever_makes_it(
    upstream: Repository, remote: GitRemote, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    head = pull(upstream, a="two\n")
    upstream.commit(lib_S_c="d\n")
    await remote.fetch_head(at(upstream), PULL, head)
    made = await remote.merge(at(upstream), head, MAIN)
    for name in ("GIT_AUTHOR_NAME", "GIT_COMMITTER_EMAIL", "EMAIL"):
        monkeypatch.setenv(name, "eve@example.org")
    other = GitRemote(tmp_path / "elsewhere", {}, schemes=("file",))
    await other.fetch_head(at(upstream), PULL, head)
    assert await other.merge(at(upstream), head, MAIN) == made
    date = max(int(upstream.git("show", "--no-patch", "--format=%ct", commit)) for commit in (made.base, head))
    assert of_commit(remote, made.commit, "%at %ct %ai").startswith(f"{date} {date} ")


async def test_an_earlier_merge_is_made_again(upstream: Repository, remote: GitRemote) -> None:
    head = pull(upstream, a="two\n")
    upstream.commit(lib_S_c="d\n")
    await remote.fetch_head(at(upstream), PULL, head)
    made = await remote.merge(at(upstream), head, MAIN)
    upstream.commit(lib_S_c="e\n")
    later = await remote.merge(at(upstream), head, MAIN)
    assert later.commit != made.commit
    assert await remote.merge(at(upstream), head, MAIN, made.base) == made


async def test_a_head_that_is_ahead_of_its_base_is_itself(upstream: Repository, remote: GitRemote) -> None:
    head = pull(upstream, a="two\n")
    await remote.fetch_head(at(upstream), PULL, head)
    made = await remote.merge(at(upstream), head, MAIN)
    assert (made.commit, made.base) == (head, upstream.git("rev-parse", "main"))


async def test_a_head_that_the_base_has_is_merged_already(upstream: Repository, remote: GitRemote) -> None:
    head = upstream.git("rev-parse", "HEAD")
    tip = upstream.commit(a="two\n")
    made = await remote.merge(at(upstream), head, MAIN)
    assert (made.commit, made.base) == (tip, tip)
    assert (await remote.merge(at(upstream), tip, MAIN)).commit == tip


async def test_a_conflict_names_the_files(upstream: Repository, remote: GitRemote) -> None:
    head = pull(upstream, a="theirs\n", b=None, lib_S_c="theirs\n")
    base = upstream.commit(a="ours\n", b="ours\n", lib_S_c="ours\n")
    await remote.fetch_head(at(upstream), PULL, head)
    with pytest.raises(MergeConflictError) as caught:
        await remote.merge(at(upstream), head, MAIN)
    assert str(caught.value) == (f"Pull request cannot be merged into main ({base[:12]}): conflicts in a and 2 more.")
    assert caught.value.remedy == "Merge or rebase onto main and push again."
    assert (caught.value.files, caught.value.more) == (("a", "b", "lib/c"), 0)
    assert (caught.value.base, caught.value.head) == (base, head)


async def test_conflicts_in_many_files_of_any_name_are_bounded(upstream: Repository, remote: GitRemote) -> None:
    names = [f"f{number}" for number in range(FILES_KEPT + 5)]
    upstream.commit(**dict.fromkeys(names, "0"))
    head = pull(upstream, **dict.fromkeys(names, "1"))
    upstream.commit(**dict.fromkeys(names, "2"))
    await remote.fetch_head(at(upstream), PULL, head)
    with pytest.raises(MergeConflictError, match=rf"conflicts in f0 and {FILES_KEPT + 4} more") as caught:
        await remote.merge(at(upstream), head, MAIN)
    assert (len(caught.value.files), caught.value.more) == (FILES_KEPT, 5)


async def test_a_conflict_in_a_file_of_an_odd_name_is_told_in_one_printable_line(
    upstream: Repository, remote: GitRemote
) -> None:
    odd = upstream.top / os.fsdecode(b"\x1b]0;\xff\n" + b"x" * 200)
    odd.write_text("0")
    upstream.commit()
    upstream.git("checkout", "--quiet", "--detach")
    odd.write_text("1")
    head = upstream.commit()
    upstream.git("update-ref", PULL, head)
    upstream.git("checkout", "--quiet", "main")
    odd.write_text("2")
    upstream.commit()
    await remote.fetch_head(at(upstream), PULL, head)
    with pytest.raises(MergeConflictError) as caught:
        await remote.merge(at(upstream), head, MAIN)
    assert str(caught.value).isprintable() and len(str(caught.value)) < 250
    assert caught.value.files[0].startswith("\x1b]0;�\nxxx")


async def test_histories_without_a_common_commit_are_a_conflict_of_their_own(
    upstream: Repository, remote: GitRemote
) -> None:
    upstream.git("checkout", "--quiet", "--orphan", "other")
    head = upstream.commit(a="two\n")
    upstream.git("update-ref", PULL, head)
    upstream.git("checkout", "--quiet", "main")
    await remote.fetch_head(at(upstream), PULL, head)
    with pytest.raises(MergeConflictError, match=r"into main \(.*\): the two have no commit in common") as caught:
        await remote.merge(at(upstream), head, MAIN)
    assert caught.value.files == ()
    assert caught.value.remedy


async def test_submodules_changed_on_both_sides_are_a_conflict(upstream: Repository, remote: GitRemote) -> None:
    """One descends from the other, so that a git that looked into the submodule would not mind."""
    commits = [upstream.git("rev-parse", "HEAD"), upstream.commit(), upstream.commit()]
    upstream.git("update-index", "--add", "--cacheinfo", f"160000,{commits[0]},sub")
    upstream.git("commit", "--quiet", "--message", "a submodule")
    sides = []
    for commit in commits[1:]:
        upstream.git("checkout", "--quiet", "--detach", "main")
        upstream.git("update-index", "--cacheinfo", f"160000,{commit},sub")
        upstream.git("commit", "--quiet", "--message", "another commit of it")
        sides.append(upstream.git("rev-parse", "HEAD"))
    upstream.git("update-ref", PULL, sides[0])
    upstream.git("update-ref", MAIN, sides[1])
    await remote.fetch_head(at(upstream), PULL, "")
    with pytest.raises(MergeConflictError, match="conflicts in sub"):
        await remote.merge(at(upstream), sides[0], MAIN)


ATTRIBUTES = "* merge=union\n* merge=evil filter=evil diff=evil text eol=crlf ident\n"


@pytest.mark.parametrize("side", ["base", "head", "both"])
async def test_attributes_and_settings_in_the_tree_do_nothing(
    upstream: Repository, remote: GitRemote, tmp_path: Path, side: str
) -> None:
    mark = tmp_path / "mark"
    program = tmp_path / "program"
    program.write_text(f"#!/bin/sh\ntouch {mark}\n")
    program.chmod(0o755)
    settings = "".join(f'[{kind} "evil"]\n\tdriver = {program}\n\tsmudge = {program}\n' for kind in ("merge", "filter"))
    hostile = {"__gitattributes": ATTRIBUTES, "__gitconfig": settings, "config": settings}
    head = pull(upstream, a="theirs\n", **(hostile if side != "base" else {}))
    upstream.commit(a="ours\n", **(hostile if side != "head" else {}))
    for name in ("pre-merge-commit", "post-merge", "commit-msg", "reference-transaction"):
        (upstream.top / ".git/hooks" / name).parent.mkdir(exist_ok=True)
        (upstream.top / ".git/hooks" / name).write_text(program.read_text())
        (upstream.top / ".git/hooks" / name).chmod(0o755)
    upstream.git("config", "core.hooksPath", "/nowhere")
    await remote.fetch_head(at(upstream), PULL, head)
    with pytest.raises(MergeConflictError, match="conflicts in a\\."):
        await remote.merge(at(upstream), head, MAIN)
    assert not mark.exists()


async def test_nobodys_settings_have_a_say_in_a_merge(
    upstream: Repository, remote: GitRemote, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    head = pull(upstream, b="one\n2\n3\n4\n5\n6\n7\n8\n9\n")
    upstream.git("mv", "b", "moved")
    upstream.commit()
    await remote.fetch_head(at(upstream), PULL, head)
    home = tmp_path / "home"
    home.mkdir()
    (home / ".gitconfig").write_text("[merge]\n\trenames = false\n[commit]\n\tgpgSign = true\n")
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.setenv("GIT_CONFIG_GLOBAL", str(home / ".gitconfig"))
    made = await remote.merge(at(upstream), head, MAIN)
    assert files((await remote.tree(at(upstream), made.commit))[0])["moved"].startswith("one\n")


async def test_a_date_that_makes_no_sense_is_none(
    upstream: Repository, remote: GitRemote, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(git_repository._ENVIRONMENT, "GIT_COMMITTER_DATE", "@99999999999 +0000")
    head = pull(upstream, a="two\n")
    monkeypatch.delitem(git_repository._ENVIRONMENT, "GIT_COMMITTER_DATE")
    upstream.commit(lib_S_c="d\n")
    await remote.fetch_head(at(upstream), PULL, head)
    made = await remote.merge(at(upstream), head, MAIN)
    assert of_commit(remote, made.commit, "%ct") == "4102444800"


async def test_a_base_that_moved_is_seen_without_being_told(upstream: Repository, remote: GitRemote) -> None:
    head = pull(upstream, a="two\n")
    await remote.fetch_head(at(upstream), PULL, head)
    upstream.git("checkout", "--quiet", "-b", "release")
    tip = upstream.commit(lib_S_c="d\n")
    assert (await remote.merge(at(upstream), head, "refs/heads/release")).base == tip
    upstream.git("reset", "--quiet", "--hard", "HEAD~1")
    forced = upstream.commit(lib_S_c="e\n")
    assert (await remote.merge(at(upstream), head, "refs/heads/release")).base == forced


async def test_a_base_that_is_gone_and_a_head_that_nobody_has_are_input_errors(
    upstream: Repository, remote: GitRemote
) -> None:
    head = pull(upstream, a="two\n")
    await remote.fetch_head(at(upstream), PULL, head)
    with pytest.raises(InputError, match="release is no longer there"):
        await remote.merge(at(upstream), head, "refs/heads/release")
    with pytest.raises(InputError, match=r"Commit 1{12} is no longer there"):
        await remote.merge(at(upstream), "1" * 40, MAIN)
    with pytest.raises(InputError, match="cannot be merged into"):
        await remote.merge(at(upstream), head, "main")


async def test_a_server_that_is_down_is_no_conflict(upstream: Repository, server: GitServer, remote: GitRemote) -> None:
    project = Project(id=7, name="mill", url=server.url("mill"))
    head = pull(upstream, a="two\n")
    await remote.fetch_head(project, PULL, head)
    made = await remote.merge(project, head, MAIN)
    server.status = 500
    with pytest.raises(DoorError, match="cannot be reached") as caught:
        await remote.merge(project, head, MAIN)
    assert caught.value.retryable
    assert await remote.merge(project, head, MAIN, made.base) == made


async def test_repositories_with_other_hashes_are_merged(remote: GitRemote, tmp_path: Path) -> None:
    git(tmp_path, "init", "--quiet", "--initial-branch=main", "--object-format=sha256", "long")
    long = Repository(tmp_path / "long")
    long.commit(a="one\n", c="c\n")
    head = pull(long, a="two\n")
    long.commit(c="d\n")
    await remote.fetch_head(at(long), PULL, head)
    made = await remote.merge(at(long), head, MAIN)
    assert len(made.commit) == 64
    assert files((await remote.tree(at(long), made.commit))[0]) == {"a": "two\n", "c": "d\n"}
    assert (await remote.compare(at(long), made.base, made.commit)).commits == 2


async def test_many_merges_of_one_project_queue_and_branches_stay(upstream: Repository, remote: GitRemote) -> None:
    heads = [pull(upstream, f"refs/pull/{number}/head", a=f"{number}\n") for number in range(8)]
    tip = upstream.commit(lib_S_c="d\n")
    await asyncio.gather(
        *(remote.fetch_head(at(upstream), f"refs/pull/{number}/head", head) for number, head in enumerate(heads))
    )
    made = await asyncio.gather(*(remote.merge(at(upstream), head, MAIN) for head in heads))
    assert {each.base for each in made} == {tip}
    assert len({each.commit for each in made}) == len(heads)
    assert refs(remote, "refs/heads") == [MAIN]
    assert git(Path(remote.mirror(7)), "rev-parse", "HEAD") == tip


async def test_a_damaged_mirror_is_fetched_again_with_the_head(upstream: Repository, remote: GitRemote) -> None:
    head = pull(upstream, a="two\n")
    upstream.commit(lib_S_c="d\n")
    await remote.fetch_head(at(upstream), PULL, head)
    made = await remote.merge(at(upstream), head, MAIN)
    damage(Path(remote.mirror(7)))
    assert await remote.merge(at(upstream), head, MAIN) == made
    assert files((await remote.tree(at(upstream), made.commit))[0])["a"] == "two\n"


@pytest.mark.parametrize("packed", [False, True])
async def test_a_merge_that_was_lost_with_a_damaged_mirror_is_made_again(
    upstream: Repository, remote: GitRemote, *, packed: bool
) -> None:
    head = pull(upstream, a="two\n")
    upstream.commit(lib_S_c="d\n")
    await remote.fetch_head(at(upstream), PULL, head)
    made = await remote.merge(at(upstream), head, MAIN)
    mirror = Path(remote.mirror(7))
    if packed:
        git(mirror, "pack-refs", "--all")
    damage(mirror)
    with pytest.raises(DoorError, match=r"was lost with a damaged mirror\. It is made again") as caught:
        await remote.tree(at(upstream), made.commit)
    assert caught.value.retryable
    await remote.fetch_head(at(upstream), PULL, head)
    assert await remote.merge(at(upstream), head, MAIN, made.base) == made
    assert files((await remote.tree(at(upstream), made.commit))[0])["a"] == "two\n"


@pytest.mark.parametrize(
    ("version", "good"), [("2.37.9", False), ("1.99", False), ("2.38.0", True), ("3.0", True), ("new", True)]
)
async def test_a_git_that_is_too_old_to_merge_is_told(
    upstream: Repository,
    remote: GitRemote,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    version: str,
    *,
    good: bool,
) -> None:
    real = shutil.which("git")
    program = tmp_path / "bin/git"
    program.parent.mkdir()
    case = f'case "$*" in *" version") echo "git version {version}";; *) exec {real} "$@";; esac'
    program.write_text(f"#!/bin/sh\n{case}\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{program.parent}:{os.environ['PATH']}")
    if good:
        assert await remote.fetch_head(at(upstream), MAIN, "")
        return
    with pytest.raises(InputError, match=rf"cannot be merged with git version {version}") as caught:
        await remote.fetch_head(at(upstream), MAIN, "")
    assert caught.value.remedy == "Install git 2.38 or newer on the server."


# What stays


async def test_a_merge_outlives_gits_collector_for_a_month(upstream: Repository, remote: GitRemote) -> None:
    head = pull(upstream, a="two\n")
    upstream.commit(lib_S_c="d\n")
    await remote.fetch_head(at(upstream), PULL, head)
    made = await remote.merge(at(upstream), head, MAIN)
    await remote.keep_heads(7, [])
    mirror = Path(remote.mirror(7))
    git(mirror, "gc", "--quiet", "--prune=now")
    assert await remote.has(7, made.commit) and await remote.has(7, head)
    days = [int(name.split("/")[3].replace("-", "")) for name in refs(remote, MERGES)]
    assert len(days) == 1
    today = dt.datetime.now(dt.UTC).date()
    for age in (29, 31, 400):
        git(mirror, "update-ref", f"{MERGES}{today - dt.timedelta(days=age)}/{made.commit}", made.commit)
    fresh = GitRemote(mirror.parent.parent, {}, schemes=("file",))
    await fresh.merge(at(upstream), head, MAIN)
    kept = {name.split("/")[3] for name in refs(remote, MERGES)}
    assert kept <= {str(today + dt.timedelta(days=late)) for late in (-30, -29, 0, 1)}
    assert str(today - dt.timedelta(days=29)) in kept


async def test_a_project_that_is_forgotten_takes_its_heads_along(upstream: Repository, remote: GitRemote) -> None:
    head = pull(upstream, a="two\n")
    await remote.fetch_head(at(upstream), PULL, head)
    await remote.forget(7)
    assert not await remote.has(7, head)
    with pytest.raises(InputError, match="is not here"):
        await remote.contains(at(upstream), head, head)


# Trees and bases


async def test_a_merge_is_compared_with_the_tip_it_was_merged_into(upstream: Repository, remote: GitRemote) -> None:
    head = pull(upstream, a="two\n")
    upstream.commit(lib_S_c="d\n")
    await remote.fetch_head(at(upstream), PULL, head)
    made = await remote.merge(at(upstream), head, MAIN)
    upstream.commit(lib_S_c="e\n")
    await remote.fetch(at(upstream), MAIN, "")
    tree = await remote.source.tree(TreeRequest(directory=remote.mirror(7), revision=made.commit))
    for wanted in (made.base, None):
        base = await remote.source.base(tree, wanted)
        assert isinstance(base, Tree)
        assert (base.commit, files(base)["lib/c"]) == (made.base, "d\n")


async def test_a_change_forked_from_an_old_main_is_compared_with_the_merge_base(
    upstream: Repository, remote: GitRemote
) -> None:
    fork = upstream.git("rev-parse", "HEAD")
    head = pull(upstream, a="two\n")
    for text in ("d\n", "e\n", "f\n"):
        upstream.commit(lib_S_c=text)
    await remote.fetch_head(at(upstream), PULL, head)
    tree, _, _ = await remote.tree(at(upstream), head)
    base = await remote.source.base(tree, None)
    assert isinstance(base, Tree)
    assert (base.commit, base.reason) == (fork, "merge base with main")


async def test_a_change_without_a_merge_base_is_compared_with_the_newest_main_and_says_so(
    upstream: Repository, remote: GitRemote
) -> None:
    upstream.git("checkout", "--quiet", "--orphan", "other")
    head = upstream.commit(a="two\n")
    upstream.git("update-ref", PULL, head)
    upstream.git("checkout", "--quiet", "main")
    tip = upstream.commit(lib_S_c="d\n")
    await remote.fetch_head(at(upstream), PULL, head)
    tree, _, _ = await remote.tree(at(upstream), head)
    base = await remote.source.base(tree, None)
    assert not isinstance(base, NoBase)
    assert (base.commit, base.reason) == (
        tip,
        "newest main here, since the histories are unrelated",
    )


async def test_submodules_of_a_merge_are_part_of_its_tree(
    upstream: Repository, remote: GitRemote, tmp_path: Path
) -> None:
    library = Repository(tmp_path / "served/library")
    commit = library.commit(l="library\n")
    upstream.git("checkout", "--quiet", "--detach")
    upstream.write(__gitmodules='[submodule "x"]\n\tpath = sub\n\turl = ../library\n')
    upstream.git("add", ".gitmodules")
    upstream.git("update-index", "--add", "--cacheinfo", f"160000,{commit},sub")
    upstream.git("commit", "--quiet", "--message", "a submodule")
    upstream.git("update-ref", PULL, "HEAD")
    upstream.git("checkout", "--quiet", "main")
    upstream.commit(lib_S_c="d\n")
    project = at(upstream, submodules=True)
    head = await remote.fetch_head(project, PULL, "")
    made = await remote.merge(project, head, MAIN)
    tree, _, _ = await remote.tree(project, made.commit)
    assert (files(tree)["sub/l"], files(tree)["lib/c"]) == ("library\n", "d\n")
    shutil.rmtree(library.top)
    assert await remote.merge(project, head, MAIN) == made


async def test_one_commit_contains_another(upstream: Repository, remote: GitRemote) -> None:
    first = upstream.git("rev-parse", "HEAD")
    head = pull(upstream, a="two\n")
    await remote.fetch_head(at(upstream), PULL, head)
    assert await remote.contains(at(upstream), first, head)
    assert await remote.contains(at(upstream), head, head)
    assert not await remote.contains(at(upstream), head, first)
    with pytest.raises(InputError, match="is not here"):
        await remote.contains(at(upstream), "1" * 40, head)
