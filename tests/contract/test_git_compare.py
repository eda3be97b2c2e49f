"""What changed between two commits, as somebody who approves it sees it; the author may want it overlooked."""

import os
from pathlib import Path

import pytest
from msgspec import structs

from nixmill.core.errors import InputError
from nixmill.core.merged import PATCH_BYTES, PATCHES_BYTES, ChangedFile, Comparison, FileChange
from nixmill.core.project import Project
from nixmill.edge import git_compare
from nixmill.edge.git_command import Git, GitFailedError
from nixmill.edge.git_remote import GitRemote
from nixmill.edge.git_transport import Limits
from tests.support.git_repository import Repository, git

MAIN = "refs/heads/main"
LINES = "".join(f"{number}\n" for number in range(40))


@pytest.fixture
def upstream(tmp_path: Path) -> Repository:
    made = Repository(tmp_path / "mill")
    made.commit("first", flake__nix="{ }\n", a="one\n", old=LINES, gone="x\ny\n")
    return made


@pytest.fixture
def remote(tmp_path: Path) -> GitRemote:
    return GitRemote(tmp_path / "state", {}, schemes=("file",))


def at(upstream: Repository) -> Project:
    return Project(id=7, name="mill", url=f"file://{upstream.top}")


async def compared(remote: GitRemote, upstream: Repository, *patch_of: str, old: str = "HEAD~1") -> Comparison:
    """Compare `old` with the newest commit."""
    await remote.fetch(at(upstream), MAIN, "")
    before, after = upstream.git("rev-parse", old, "HEAD").split()
    return await remote.compare(at(upstream), before, after, patch_of)


async def test_every_kind_of_change_is_listed_with_its_lines(upstream: Repository, remote: GitRemote) -> None:
    upstream.git("mv", "old", "new")
    (upstream.top / "binary").write_bytes(b"\0\1\2")
    (upstream.top / "flake.nix").chmod(0o755)
    upstream.commit(a="one\ntwo\n", gone=None, added="1\n", new=LINES + "more\n")
    found = await compared(remote, upstream)
    assert found.files == (
        ChangedFile(path="a", kind=FileChange.CHANGED, added=1),
        ChangedFile(path="added", kind=FileChange.ADDED, added=1),
        ChangedFile(path="binary", kind=FileChange.ADDED, binary=True),
        ChangedFile(path="flake.nix", kind=FileChange.CHANGED),
        ChangedFile(path="gone", kind=FileChange.DELETED, removed=2),
        ChangedFile(path="new", kind=FileChange.RENAMED, added=1, old_path="old"),
    )
    assert (found.more, found.endless, found.patches, found.more_patches, found.commits) == (0, False, (), 0, 1)


async def test_nothing_is_different_in_the_same_commit(upstream: Repository, remote: GitRemote) -> None:
    assert await compared(remote, upstream, "*", old="HEAD") == Comparison(files=())


async def test_commits_are_those_that_the_newer_one_adds(upstream: Repository, remote: GitRemote) -> None:
    upstream.commit(a="two\n")
    upstream.git("checkout", "--quiet", "-b", "other", "HEAD~1")
    upstream.commit(a="three\n")
    old = upstream.commit(a="four\n")
    await remote.fetch(at(upstream), "refs/heads/other", "")
    upstream.git("checkout", "--quiet", "main")
    assert (await compared(remote, upstream, old=old)).commits == 1


async def test_patches_of_chosen_files_are_given(upstream: Repository, remote: GitRemote) -> None:
    upstream.commit(flake__nix="{ x = 1; }\n", a="two\n", sub_S_default__nix="3\n")
    found = await compared(remote, upstream, "*.nix", "nothing")
    assert [patch.path for patch in found.patches] == ["flake.nix", "sub/default.nix"]
    assert found.patches[0].text.startswith("diff --git a/flake.nix b/flake.nix\n")
    assert found.patches[0].text.endswith("@@ -1 +1 @@\n-{ }\n+{ x = 1; }\n")
    assert not found.patches[0].cut


async def test_a_file_that_is_renamed_away_counts_by_both_names(upstream: Repository, remote: GitRemote) -> None:
    upstream.git("mv", "old", "new")
    upstream.commit()
    for glob in ("old", "new"):
        (patch,) = (await compared(remote, upstream, glob)).patches
        assert patch.path == "new"
        assert "deleted file mode" in patch.text and "new file mode" in patch.text, "what it says now is there in full"


async def test_a_file_that_becomes_a_link_is_changed(upstream: Repository, remote: GitRemote) -> None:
    (upstream.top / "a").unlink()
    (upstream.top / "a").symlink_to("/etc/passwd")
    upstream.commit()
    found = await compared(remote, upstream, "a")
    assert [(file.path, file.kind) for file in found.files] == [("a", FileChange.CHANGED)]
    assert "+/etc/passwd" in found.patches[0].text and "new file mode 120000" in found.patches[0].text


@pytest.mark.parametrize("where", [".gitattributes", "sub/.gitattributes"])
async def test_attributes_hide_nothing(upstream: Repository, remote: GitRemote, where: str) -> None:
    (upstream.top / "sub").mkdir()
    (upstream.top / where).write_text("* -diff binary linguist-generated\n*.nix -text diff=evil\n")
    upstream.commit(flake__nix="{ x = 1; }\n", sub_S_x__nix="evil\n")
    upstream.commit(flake__nix="{ x = 2; }\n", sub_S_x__nix="worse\n")
    found = await compared(remote, upstream, "*.nix")
    assert [(file.path, file.added, file.binary) for file in found.files] == [
        ("flake.nix", 1, False),
        ("sub/x.nix", 1, False),
    ]
    assert ["+worse" in patch.text or "+{ x = 2; }" in patch.text for patch in found.patches] == [True, True]


async def test_a_submodule_is_shown_even_where_gitmodules_says_to_ignore_it(
    upstream: Repository, remote: GitRemote
) -> None:
    first = upstream.git("rev-parse", "HEAD")
    upstream.write(__gitmodules='[submodule "x"]\n\tpath = sub\n\turl = ../x\n\tignore = all\n')
    upstream.git("add", ".gitmodules")
    upstream.git("update-index", "--add", "--cacheinfo", f"160000,{first},sub")
    upstream.git("commit", "--quiet", "--message", "one")
    second = upstream.git("rev-parse", "HEAD")
    upstream.git("update-index", "--cacheinfo", f"160000,{second},sub")
    upstream.git("commit", "--quiet", "--message", "two")
    found = await compared(remote, upstream, "sub")
    assert [file.path for file in found.files] == ["sub"]
    assert f"+Subproject commit {second}" in found.patches[0].text


async def test_a_binary_file_is_said_to_be_one(upstream: Repository, remote: GitRemote) -> None:
    (upstream.top / "flake.nix").write_bytes(b"{ \0 }\n")
    upstream.commit()
    found = await compared(remote, upstream, "flake.nix")
    assert found.files[0].binary
    assert "Binary files a/flake.nix and b/flake.nix differ" in found.patches[0].text


@pytest.mark.parametrize(
    "content", [b"x" * 79 + b"\n", b"\xff" * 79 + b"\n", b"y" * 5000], ids=["text", "odd bytes", "one line"]
)
async def test_a_long_patch_is_cut_visibly(upstream: Repository, remote: GitRemote, content: bytes) -> None:
    (upstream.top / "flake.nix").write_bytes(content * 820)
    upstream.commit()
    (patch,) = (await compared(remote, upstream, "flake.nix")).patches
    assert patch.cut
    assert PATCH_BYTES - 100 < len(patch.text.encode()) < PATCH_BYTES + 100
    assert patch.text.endswith("it was cut here.\n")


async def test_many_patches_are_cut_off_together_and_counted(upstream: Repository, remote: GitRemote) -> None:
    names = [f"f{number:02}" for number in range(12)]
    upstream.commit(**dict.fromkeys(names, "x" * 79 + "\n" + LINES * 1000))
    found = await compared(remote, upstream, "f*")
    assert sum(len(patch.text.encode()) for patch in found.patches) < PATCHES_BYTES + 1000
    assert len(found.patches) + found.more_patches == 12
    assert found.more_patches > 0


async def test_the_number_of_patches_and_files_is_bounded(
    upstream: Repository, remote: GitRemote, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(git_compare, "PATCHES_MAX", 3)
    monkeypatch.setattr(git_compare, "FILES_MAX", 4)
    upstream.commit(**{f"f{number}": "x\n" for number in range(9)})
    found = await compared(remote, upstream, "f*")
    assert ([file.path for file in found.files], found.more) == (["f0", "f1", "f2", "f3"], 5)
    assert ([patch.path for patch in found.patches], found.more_patches) == (["f0", "f1", "f2"], 6)


async def test_names_of_any_kind_are_data(upstream: Repository, remote: GitRemote) -> None:
    names = (b":x\t1\n", b"--output=x", b"\xff\xfe", b":(glob)**", b"a b", b"\x1b[31m")
    for name in names:
        (upstream.top / os.fsdecode(name)).write_text("1\n")
    upstream.commit()
    found = await compared(remote, upstream, "*")
    expected = sorted(name.decode(errors="replace") for name in names)
    assert sorted(file.path for file in found.files) == expected
    assert {(file.added, file.kind) for file in found.files} == {(1, FileChange.ADDED)}
    assert [patch.text.count("diff --git") for patch in found.patches] == [1] * len(names)


def _bomb(upstream: Repository) -> str:
    """Make ten levels of ten directories that are all the same one: a few kilobytes."""
    tree = upstream.git("rev-parse", "HEAD^{tree}")
    listing = upstream.top.parent / "listing"
    for _ in range(9):
        listing.write_bytes(b"".join(b"40000 d%d\0" % number + bytes.fromhex(tree) for number in range(10)))
        tree = upstream.git("hash-object", "-t", "tree", "-w", str(listing))
    return upstream.git("commit-tree", "-p", "HEAD", "-m", "bomb", tree)


async def test_a_commit_with_billions_of_files_is_not_compared(upstream: Repository, remote: GitRemote) -> None:
    upstream.git("update-ref", MAIN, _bomb(upstream))
    found = await compared(remote, upstream, "*/flake.nix")
    assert found == Comparison(files=(), endless=True, commits=1)


async def test_a_head_with_billions_of_files_is_refused(upstream: Repository, remote: GitRemote) -> None:
    bomb = _bomb(upstream)
    upstream.git("update-ref", "refs/pull/7/head", bomb)
    with pytest.raises(InputError, match=r"more than 500,000 files.*; it is not tested"):
        await remote.fetch_head(at(upstream), "refs/pull/7/head", "")
    with pytest.raises(InputError, match=r"more than 500,000 files.*; it is not tested"):
        await remote.merge(at(upstream), bomb, MAIN)


@pytest.mark.parametrize(
    ("limits", "said"), [(Limits(tree_files=3), "more than 3 files"), (Limits(tree_bytes=50), "more than 0 MiB")]
)
async def test_a_head_that_is_too_large_is_refused(
    upstream: Repository, tmp_path: Path, limits: Limits, said: str
) -> None:
    upstream.git("update-ref", "refs/pull/7/head", "HEAD")
    remote = GitRemote(tmp_path / "state", {}, schemes=("file",), limits=limits)
    with pytest.raises(InputError, match=said):
        await remote.fetch_head(at(upstream), "refs/pull/7/head", "")
    assert await remote.fetch(at(upstream), MAIN, "")


async def test_a_head_with_very_long_paths_is_refused(upstream: Repository, tmp_path: Path) -> None:
    upstream.commit(**{"_S_".join(["d" * 200] * 10): "x"})
    upstream.git("update-ref", "refs/pull/7/head", "HEAD")
    remote = GitRemote(tmp_path / "state", {}, schemes=("file",), limits=Limits(tree_files=10))
    with pytest.raises(InputError, match="or very long paths"):
        await remote.fetch_head(at(upstream), "refs/pull/7/head", "")


async def test_a_submodule_with_billions_of_files_is_refused(
    upstream: Repository, remote: GitRemote, tmp_path: Path
) -> None:
    library = Repository(tmp_path / "library")
    library.commit(l="x")
    bomb = _bomb(library)
    library.git("update-ref", MAIN, bomb)
    upstream.write(__gitmodules='[submodule "x"]\n\tpath = sub\n\turl = ../library\n')
    upstream.git("add", ".gitmodules")
    upstream.git("update-index", "--add", "--cacheinfo", f"160000,{bomb},sub")
    upstream.git("commit", "--quiet", "--message", "a submodule")
    with pytest.raises(InputError, match=rf"Commit {bomb[:12]} has more than 500,000 files"):
        await remote.fetch_head(structs.replace(at(upstream), submodules=True), MAIN, "")


async def test_a_list_that_is_too_long_is_cut_and_says_so(
    upstream: Repository, remote: GitRemote, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(git_compare, "LIST_BYTES", 1000)
    upstream.commit(**{f"f{number:02}": "x\n" for number in range(50)})
    found = await compared(remote, upstream, "f00")
    assert found.endless
    assert 0 < len(found.files) < 50 and all(len(file.path) == 3 for file in found.files)
    assert [patch.path for patch in found.patches] == ["f00"]


async def test_a_commit_that_is_not_here_is_an_input_error(upstream: Repository, remote: GitRemote) -> None:
    head = await remote.fetch(at(upstream), MAIN, "")
    with pytest.raises(InputError, match="Commit 222222222222 of mill is not here"):
        await remote.compare(at(upstream), head, "2" * 40)
    tree = upstream.git("rev-parse", "HEAD^{tree}")
    with pytest.raises(InputError, match="is not here"):
        await remote.compare(at(upstream), head, tree)


# Messages


async def test_a_message_is_whole(upstream: Repository, remote: GitRemote) -> None:
    text = "subject\n\nbody\n\n\nskip-checks: true"
    upstream.git("commit", "--quiet", "--allow-empty", "--cleanup=verbatim", "--message", text)
    message, _ = await remote.said(at(upstream), await remote.fetch(at(upstream), MAIN, ""))
    assert message == text


async def test_a_message_that_never_ends_is_cut(upstream: Repository, remote: GitRemote) -> None:
    (upstream.top.parent / "text").write_bytes(b"\xff" + b"x" * 3_000_000)
    commit = git(upstream.top, "commit-tree", "-F", str(upstream.top.parent / "text"), "HEAD^{tree}")
    upstream.git("update-ref", MAIN, commit)
    message, _ = await remote.said(at(upstream), await remote.fetch(at(upstream), MAIN, ""))
    assert len((await remote.tree(at(upstream), commit))[1]) == 500
    assert 60_000 < len(message) <= 64 * 1024


# The beginning of what a command writes


async def test_a_command_that_is_done_is_not_cut(upstream: Repository) -> None:
    found = await Git(str(upstream.top)).beginning(100, "show", "HEAD:a")
    assert (found.output, found.cut) == (b"one\n", False)
    exact = await Git(str(upstream.top)).beginning(4, "show", "HEAD:a")
    assert (exact.output, exact.cut) == (b"one\n", False)
    less = await Git(str(upstream.top)).beginning(3, "show", "HEAD:a")
    assert (less.output, less.cut) == (b"one", True)


async def test_a_command_without_an_end_is_stopped(upstream: Repository) -> None:
    endless = await Git(str(upstream.top)).beginning(1000, "-c", "alias.endless=!yes", "endless")
    assert (len(endless.output), endless.cut) == (1000, True)
    silent = await Git(str(upstream.top)).beginning(1000, "-c", "alias.silent=!sleep 60", "silent", limit_s=0.2)
    assert (silent.output, silent.cut) == (b"", True)


async def test_a_command_that_fails_is_told(upstream: Repository) -> None:
    with pytest.raises(GitFailedError, match="does not exist"):
        await Git(str(upstream.top)).beginning(1000, "show", "HEAD:nothing")


async def test_a_flood_of_files_does_not_push_out_what_matters_most(
    upstream: Repository, remote: GitRemote, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(git_compare, "PATCHES_MAX", 3)
    for number in range(8):
        (upstream.top / f"a{number}.json").write_text("{}", encoding="utf-8")
    (upstream.top / "flake.nix").write_text("{ evil = 1; }\n", encoding="utf-8")
    upstream.commit()
    found = await compared(remote, upstream, "flake.nix", "*.json")
    assert found.patches[0].path == "flake.nix" and found.more_patches == 6
