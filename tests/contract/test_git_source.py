"""What only real git can show: indexes, refs, worktrees, shallow clones, odd names, hostile settings."""

import os
import time
from pathlib import Path

import pytest

from nixmill.core.errors import InputError
from nixmill.core.source import NoBase, Tree, TreeRequest
from nixmill.doors import DoorError
from nixmill.edge import git_command
from nixmill.edge.git import GitSource
from nixmill.edge.tree_cache import MAX_AGE_S, TreeCache
from tests.support.git_repository import Repository, git, git_refuses


@pytest.fixture
def repository(tmp_path: Path) -> Repository:
    made = Repository(tmp_path / "project")
    made.commit("first", a="one", lib_S_b__nix="1")
    return made


@pytest.fixture
def source(tmp_path: Path) -> GitSource:
    return GitSource(tmp_path / "cache")


async def tree_at(source: GitSource, place: Path, revision: str | None = None) -> Tree:
    return await source.tree(TreeRequest(directory=str(place), revision=revision))


async def base_at(source: GitSource, place: Path, wanted: str | None = None) -> Tree | NoBase:
    return await source.base(await tree_at(source, place), wanted)


def files(tree: Tree) -> dict[str, str]:
    top = Path(tree.path)
    return {str(file.relative_to(top)): file.read_text() for file in top.rglob("*") if file.is_file()}


# What belongs to a tree


async def test_a_staged_new_file_belongs_to_the_tree_and_an_untracked_one_does_not(
    repository: Repository, source: GitSource
) -> None:
    repository.write(staged="s", untracked="u")
    repository.git("add", "staged")
    tree = await tree_at(source, repository.top)
    assert tree.dirty
    assert files(tree) == {"a": "one", "lib/b.nix": "1", "staged": "s"}
    assert any("1 untracked" in notice for notice in tree.notices)


async def test_a_file_added_with_intent_belongs_to_the_tree(repository: Repository, source: GitSource) -> None:
    repository.write(intended="i")
    repository.git("add", "--intent-to-add", "intended")
    assert files(await tree_at(source, repository.top))["intended"] == "i"


async def test_a_deleted_file_is_gone_and_what_is_in_the_index_only_does_not_count(
    repository: Repository, source: GitSource
) -> None:
    repository.write(a="staged text")
    repository.git("add", "a")
    repository.write(a="newer text", lib_S_b__nix=None)
    assert files(await tree_at(source, repository.top)) == {"a": "newer text"}


async def test_ignored_files_are_neither_part_nor_mentioned(repository: Repository, source: GitSource) -> None:
    repository.commit(__gitignore="result\n")
    repository.write(result="r")
    assert (await tree_at(source, repository.top)).notices == ()


async def test_only_untracked_files_leave_the_checkout_clean(repository: Repository, source: GitSource) -> None:
    repository.write(untracked="u")
    tree = await tree_at(source, repository.top)
    assert not tree.dirty
    assert tree.flake_reference.endswith(repository.git("rev-parse", "HEAD"))


async def test_a_snapshot_touches_neither_index_nor_refs_nor_files(repository: Repository, source: GitSource) -> None:
    repository.write(a="two", staged="s")
    repository.git("add", "staged")
    before = [repository.git(*words) for words in (["ls-files", "--stage"], ["for-each-ref"], ["stash", "list"])]
    index = (repository.top / ".git/index").read_bytes()
    await tree_at(source, repository.top)
    assert (repository.top / ".git/index").read_bytes() == index
    assert before == [
        repository.git(*words) for words in (["ls-files", "--stage"], ["for-each-ref"], ["stash", "list"])
    ]
    assert repository.git("status", "--porcelain") == "M a\nA  staged" or " M a" in repository.git(
        "status", "--porcelain"
    )


async def test_the_same_changes_are_the_same_snapshot_and_others_another(
    repository: Repository, source: GitSource
) -> None:
    repository.write(a="two")
    first = await tree_at(source, repository.top)
    again = await tree_at(source, repository.top)
    repository.write(a="three")
    other = await tree_at(source, repository.top)
    assert first == again
    assert other.flake_reference != first.flake_reference


async def test_a_change_within_the_clock_tick_of_the_commit_is_seen(source: GitSource, tmp_path: Path) -> None:
    """git tells such a file by the age of its index, so a copy of the index must keep it."""
    for attempt in range(20):
        repository = Repository(tmp_path / f"project{attempt}")
        repository.commit(a="1")
        repository.write(a="2")
        assert files(await tree_at(source, repository.top)) == {"a": "2"}


async def test_the_tree_does_not_depend_on_where_in_the_checkout_the_person_stands(
    repository: Repository, source: GitSource
) -> None:
    repository.write(a="two")
    top = await tree_at(source, repository.top)
    below = await tree_at(source, repository.top / "lib")
    assert (below.subdirectory, below.path, below.checkout) == ("lib", top.path, str(repository.top))


async def test_modes_and_links_survive(repository: Repository, source: GitSource) -> None:
    (repository.top / "run").write_text("#!")
    (repository.top / "run").chmod(0o755)
    (repository.top / "link").symlink_to("lib/b.nix")
    repository.commit()
    top = Path((await tree_at(source, repository.top)).path)
    assert os.access(top / "run", os.X_OK)
    assert (top / "link").readlink() == Path("lib/b.nix")


async def test_a_link_out_of_the_tree_is_not_read(repository: Repository, source: GitSource) -> None:
    (repository.top / "secret").symlink_to("/etc/passwd")
    repository.commit()
    assert await source.read(await tree_at(source, repository.top), "secret") is None


async def test_a_merge_with_conflicts_is_an_input_error(repository: Repository, source: GitSource) -> None:
    repository.git("checkout", "--quiet", "-b", "other")
    repository.commit(a="theirs")
    repository.git("checkout", "--quiet", "main")
    repository.commit(a="ours")
    git_refuses(repository.top, "merge", "--quiet", "other")
    with pytest.raises(InputError, match=r"1 file.*conflicts"):
        await tree_at(source, repository.top)


async def test_submodules_and_large_files_are_told(repository: Repository, source: GitSource, tmp_path: Path) -> None:
    library = Repository(tmp_path / "library")
    library.commit(x="x")
    repository.git("submodule", "--quiet", "add", str(library.top), "library")
    repository.commit(__gitattributes="*.bin filter=lfs\n")
    tree = await tree_at(source, repository.top)
    assert [notice.split()[0] for notice in tree.notices] == ["Submodules", "Files"]
    assert list((Path(tree.path) / "library").iterdir()) == []


# Kinds of repositories


async def test_a_second_worktree_is_a_checkout_of_its_own(repository: Repository, source: GitSource) -> None:
    place = repository.top.parent / "second"
    repository.git("worktree", "add", "--quiet", "-b", "feature", str(place))
    (place / "a").write_text("two")
    tree = await tree_at(source, place)
    assert (tree.dirty, files(tree)["a"], tree.checkout) == (True, "two", str(place))
    assert not (await tree_at(source, repository.top)).dirty


async def test_a_detached_head_is_checked_like_a_branch(repository: Repository, source: GitSource) -> None:
    repository.git("checkout", "--quiet", "--detach")
    repository.write(a="two")
    assert files(await tree_at(source, repository.top))["a"] == "two"


async def test_staged_files_before_the_first_commit_can_be_checked(source: GitSource, tmp_path: Path) -> None:
    repository = Repository(tmp_path / "unborn")
    with pytest.raises(InputError, match="Nothing is committed"):
        await tree_at(source, repository.top)
    repository.write(a="one")
    repository.git("add", "a")
    tree = await tree_at(source, repository.top)
    assert (tree.commit, tree.dirty, files(tree)) == ("", True, {"a": "one"})
    assert await source.base(tree, None) == NoBase(reason="nothing is committed yet")


async def test_a_bare_repository_is_its_head(repository: Repository, source: GitSource, tmp_path: Path) -> None:
    git(tmp_path, "clone", "--quiet", "--bare", str(repository.top), "bare.git")
    tree = await tree_at(source, tmp_path / "bare.git")
    assert (tree.commit, tree.dirty) == (repository.git("rev-parse", "HEAD"), False)
    assert files(tree)["a"] == "one"


async def test_inside_the_git_directory_is_an_input_error(repository: Repository, source: GitSource) -> None:
    with pytest.raises(InputError, match=r"inside a repository's \.git"):
        await tree_at(source, repository.top / ".git")


async def test_a_worktree_whose_repository_is_gone_is_no_plain_directory(source: GitSource, tmp_path: Path) -> None:
    (tmp_path / ".git").write_text("gitdir: /nowhere/at/all\n")
    with pytest.raises(DoorError, match="nowhere"):
        await tree_at(source, tmp_path)


async def test_a_repository_with_other_hashes_works(source: GitSource, tmp_path: Path) -> None:
    git(tmp_path, "init", "--quiet", "--object-format=sha256", "long")
    repository = Repository(tmp_path / "long")
    commit = repository.commit(a="one")
    assert len(commit) == 64
    assert files(await tree_at(source, repository.top)) == {"a": "one"}


async def test_the_project_is_named_after_its_origin(repository: Repository, source: GitSource) -> None:
    repository.git("remote", "add", "origin", "https://user:secret@forge.example/team/tool.git")
    tree = await tree_at(source, repository.top)
    assert tree.project == "tool"
    assert "secret" not in repr(tree)


@pytest.mark.parametrize(
    "name", ["with space", "hash#x", "q?x", "100%", "ünï", 'quote"d', "new\nline", "$(touch x)", "a:b", "-dash"]
)
async def test_a_directory_may_have_any_name(source: GitSource, tmp_path: Path, name: str) -> None:
    repository = Repository(tmp_path / name)
    repository.commit(a="one")
    repository.write(a="two")
    tree = await tree_at(source, repository.top)
    assert (files(tree), tree.checkout) == ({"a": "two"}, str(repository.top))


# Bases


async def test_a_branch_is_compared_with_its_merge_base(repository: Repository, source: GitSource) -> None:
    fork = repository.git("rev-parse", "HEAD")
    repository.git("checkout", "--quiet", "-b", "feature")
    repository.commit(a="two")
    repository.git("checkout", "--quiet", "main")
    repository.commit(lib_S_b__nix="2")
    repository.git("checkout", "--quiet", "feature")
    base = await base_at(source, repository.top)
    assert isinstance(base, Tree)
    assert (base.commit, base.reason) == (fork, "merge base with main")


async def test_the_remote_says_which_branch_is_the_default(source: GitSource, tmp_path: Path) -> None:
    upstream = Repository(tmp_path / "upstream", branch="trunk")
    fork = upstream.commit(a="one")
    git(tmp_path, "clone", "--quiet", str(upstream.top), "clone")
    clone = Repository(tmp_path / "clone")
    clone.commit(a="two")
    base = await base_at(source, clone.top)
    assert isinstance(base, Tree)
    assert (base.commit, base.reason) == (fork, "merge base with origin/trunk")


async def test_on_the_default_branch_it_is_the_commit_before(repository: Repository, source: GitSource) -> None:
    first = repository.git("rev-parse", "HEAD")
    repository.commit(a="two")
    base = await base_at(source, repository.top)
    assert isinstance(base, Tree)
    assert (base.commit, base.reason) == (first, "the commit before, since this one is on main")


async def test_a_new_branch_without_commits_is_compared_with_where_it_begins(
    repository: Repository, source: GitSource
) -> None:
    head = repository.commit(a="two")
    repository.git("checkout", "--quiet", "-b", "feature")
    base = await base_at(source, repository.top)
    assert isinstance(base, Tree)
    assert base.commit == head


async def test_an_older_revision_of_the_default_branch_is_compared_with_the_one_before_it(
    repository: Repository, source: GitSource
) -> None:
    first = repository.git("rev-parse", "HEAD")
    second = repository.commit(a="two")
    repository.commit(a="three")
    repository.git("checkout", "--quiet", "-b", "feature")
    base = await source.base(await tree_at(source, repository.top, second), None)
    assert isinstance(base, Tree)
    assert base.commit == first


async def test_without_a_default_branch_uncommitted_changes_still_have_a_base(
    source: GitSource, tmp_path: Path
) -> None:
    repository = Repository(tmp_path / "project", branch="work")
    head = repository.commit(a="one")
    assert await base_at(source, repository.top) == NoBase(
        reason="no default branch was found (origin/HEAD, main or master)"
    )
    repository.write(a="two")
    base = await base_at(source, repository.top)
    assert isinstance(base, Tree)
    assert base.commit == head


async def test_a_shallow_clone_falls_back_to_the_newest_default_branch_and_says_so(
    repository: Repository, source: GitSource, tmp_path: Path
) -> None:
    repository.git("checkout", "--quiet", "-b", "feature")
    repository.commit(a="two")
    repository.git("checkout", "--quiet", "main")
    tip = repository.commit(lib_S_b__nix="2")
    address = f"file://{repository.top}"
    git(tmp_path, "clone", "--quiet", "--depth=1", "--no-single-branch", "--branch=feature", address, "clone")
    tree = await tree_at(source, tmp_path / "clone")
    base = await source.base(tree, None)
    assert isinstance(base, Tree)
    assert (base.commit, base.reason) == (
        tip,
        "newest origin/main here, since this clone is shallow and has no merge base",
    )
    assert tree.flake_reference.endswith("&shallow=1")
    assert any("shallow" in notice for notice in tree.notices)


async def test_the_first_commit_of_a_shallow_clone_has_no_base(
    repository: Repository, source: GitSource, tmp_path: Path
) -> None:
    repository.commit(a="two")
    git(tmp_path, "clone", "--quiet", "--depth=1", f"file://{repository.top}", "clone")
    assert await base_at(source, tmp_path / "clone") == NoBase(reason="the commit before is not in this shallow clone")


async def test_a_name_that_is_nearly_right_is_suggested(repository: Repository, source: GitSource) -> None:
    repository.git("branch", "release-1.0")
    with pytest.raises(InputError) as caught:
        await tree_at(source, repository.top, "relase-1.0")
    assert caught.value.remedy == "Did you mean release-1.0?"


# Hostile input


@pytest.mark.parametrize("name", ["--upload-pack=touch x", "-x", "", "a\nb", "a\0b", "--help"])
async def test_a_revision_is_never_read_as_an_option(repository: Repository, source: GitSource, name: str) -> None:
    with pytest.raises(InputError, match="is no name of a commit"):
        await tree_at(source, repository.top, name)


@pytest.mark.parametrize("name", ["HEAD:a", "HEAD^{tree}", ":/", "^main", "main..main", "$(id)"])
async def test_what_is_no_commit_is_an_input_error(repository: Repository, source: GitSource, name: str) -> None:
    with pytest.raises(InputError, match="no commit called"):
        await tree_at(source, repository.top, name)


async def test_neither_hooks_nor_a_monitor_of_the_repository_run(repository: Repository, source: GitSource) -> None:
    mark = repository.top.parent / "mark"
    script = repository.top.parent / "script"
    script.write_text(f"#!/bin/sh\ntouch {mark}\n")
    script.chmod(0o755)
    hooks = repository.top / ".git/hooks"
    hooks.mkdir(exist_ok=True)
    for name in ("post-index-change", "pre-commit", "reference-transaction", "post-checkout", "fsmonitor-watchman"):
        (hooks / name).symlink_to(script)
    repository.git("config", "core.fsmonitor", str(script))
    repository.write(a="two")
    await tree_at(source, repository.top)
    assert not mark.exists()


async def test_no_setting_changes_the_files_of_a_tree(repository: Repository, source: GitSource) -> None:
    """A filter would run a program and change the content; line ends would follow the person's taste."""
    repository.commit(__gitattributes="a filter=shout ident export-ignore\n* text=auto\n", a="one\n")
    mark = repository.top.parent / "mark"
    for name, value in (
        ("filter.shout.clean", "cat"),
        ("filter.shout.smudge", f"sh -c 'touch {mark}; tr a-z A-Z'"),
        ("filter.shout.required", "true"),
        ("core.autocrlf", "true"),
        ("core.sparseCheckout", "true"),
        ("core.attributesFile", "/dev/null"),
    ):
        repository.git("config", name, value)
    tree = await tree_at(source, repository.top)
    assert files(tree)["a"] == "one\n"
    assert not mark.exists()


async def test_variables_of_a_git_hook_that_started_us_do_not_lead_astray(
    repository: Repository, source: GitSource, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = Repository(tmp_path / "other")
    other.commit(x="x")
    monkeypatch.setenv("GIT_DIR", str(other.top / ".git"))
    monkeypatch.setenv("GIT_INDEX_FILE", str(other.top / ".git/index"))
    assert (await tree_at(source, repository.top)).checkout == str(repository.top)


@pytest.mark.skipif(os.getuid() != 0, reason="only root can give a directory to somebody else")
async def test_somebody_elses_repository_is_refused_with_what_to_type(
    repository: Repository, source: GitSource
) -> None:
    for path in (repository.top, repository.top / ".git"):
        os.chown(path, 12345, 12345)
    with pytest.raises(InputError, match="belongs to another user") as caught:
        await tree_at(source, repository.top)
    assert "safe.directory" in caught.value.remedy


async def test_a_command_that_does_not_end_is_stopped_with_its_children(
    repository: Repository, source: GitSource, monkeypatch: pytest.MonkeyPatch
) -> None:
    pid_file = repository.top.parent / "pid"
    repository.commit(__gitattributes="a filter=slow\n")
    repository.git("config", "filter.slow.clean", f"echo $$ > {pid_file}; exec sleep 1000")
    repository.write(a="two")
    monkeypatch.setattr(git_command, "TIME_LIMIT_S", 0.5)
    with pytest.raises(DoorError, match="did not end within"):
        await tree_at(source, repository.top)
    deadline = time.monotonic() + 5
    while _runs(int(pid_file.read_text())) and time.monotonic() < deadline:
        time.sleep(0.01)  # noqa: ASYNC251 - nothing else runs in this test
    assert not _runs(int(pid_file.read_text()))


def _runs(pid: int) -> bool:
    try:
        return "State:\tZ" not in Path(f"/proc/{pid}/status").read_text()
    except FileNotFoundError:
        return False


# The cache


async def test_files_on_disk_are_reused_and_old_ones_removed(repository: Repository, tmp_path: Path) -> None:
    source = GitSource(tmp_path / "cache")
    old = Path((await tree_at(source, repository.top)).path).parent
    repository.commit(a="two")
    new = Path((await tree_at(source, repository.top)).path).parent
    stamp = time.time() - MAX_AGE_S - 60
    os.utime(old, (stamp, stamp))
    TreeCache(tmp_path / "cache").prune()
    assert not old.exists()
    assert new.exists()


async def test_use_keeps_a_tree_young(repository: Repository, tmp_path: Path) -> None:
    source = GitSource(tmp_path / "cache")
    tree = await tree_at(source, repository.top)
    place = Path(tree.path).parent
    os.utime(place, (0, 0))
    await source.release(tree)
    assert place.stat().st_mtime > time.time() - 60


async def test_nothing_half_written_is_ever_found(repository: Repository, tmp_path: Path) -> None:
    """Everything appears by renaming; what a killed process left is below `temporary` and goes with age."""
    source = GitSource(tmp_path / "cache")
    await tree_at(source, repository.top)
    assert list((tmp_path / "cache/temporary").iterdir()) == []
    assert (tmp_path / "cache/trees").stat().st_mode & 0o007 == 0
