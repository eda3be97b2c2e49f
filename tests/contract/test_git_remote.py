"""What only real git, over real HTTP, ssh and files, can show of remotes: pushes, deletions, hostile servers, kills."""

import asyncio
import contextlib
import logging
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from nixmill.core.errors import InputError
from nixmill.core.project import Project, Ref
from nixmill.core.source import Tree, TreeRequest
from nixmill.doors import DoorError
from nixmill.edge import git_remote, git_submodules
from nixmill.edge.git_refs import is_watched, parse_head, parse_listing
from nixmill.edge.git_remote import GitRemote
from nixmill.edge.git_submodules import absolute
from nixmill.edge.git_transport import Command, Limits, transport
from tests.support import git_repository
from tests.support.git_repository import Repository, git
from tests.support.git_server import GitServer, git_server
from tests.support.remote_store import SshServer, ssh_server

ALL = ("https", "ssh", "file", "http", "git")
MAIN = "refs/heads/main"


@pytest.fixture
def upstream(tmp_path: Path) -> Repository:
    made = Repository(tmp_path / "served/mill")
    made.commit("first", a="one", lib_S_b__nix="1")
    return made


@pytest.fixture
def server(tmp_path: Path) -> Iterator[GitServer]:
    (tmp_path / "served").mkdir(exist_ok=True)
    with git_server(tmp_path / "served") as running:
        yield running


@pytest.fixture
def remote(tmp_path: Path) -> GitRemote:
    return GitRemote(tmp_path / "state", {}, schemes=ALL)


def limited(tmp_path: Path, **limits: float) -> GitRemote:
    return GitRemote(tmp_path / "state", {}, schemes=ALL, limits=Limits(**limits))  # type: ignore[arg-type]


def at(url: str | Repository, **changes: object) -> Project:
    address = f"file://{url.top}" if isinstance(url, Repository) else url
    return Project(id=7, name="mill", url=address, **changes)  # type: ignore[arg-type]


def files(tree: Tree) -> dict[str, str]:
    top = Path(tree.path)
    return {str(file.relative_to(top)): file.read_text() for file in top.rglob("*") if file.is_file()}


async def soon(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 10
    while not condition():
        assert time.monotonic() < deadline
        await asyncio.sleep(0.01)


def tidy(remote: GitRemote) -> bool:
    mirror = Path(remote.mirror(7))
    return not [*mirror.rglob("*.lock"), *mirror.rglob("tmp_*")]


def mode(path: str) -> int:
    return Path(path).stat().st_mode & 0o777


def was_put_aside(remote: GitRemote) -> bool:
    return Path(remote.mirror(7) + ".aside").is_dir()


def cut_off(mirror: Path, length: int) -> None:
    """Shorten every file of objects."""
    for file in [*mirror.glob("objects/??/*"), *mirror.glob("objects/pack/*.pack")]:
        file.chmod(0o600)
        os.truncate(file, length)


def unpack(mirror: Path) -> None:
    """Make every object a file."""
    (pack,) = mirror.glob("objects/pack/*.pack")
    moved = pack.rename(mirror / "pack")
    subprocess.run(["git", "unpack-objects", "-q"], cwd=mirror, input=moved.read_bytes(), check=True)
    moved.unlink()


# Looking


async def test_branches_tags_and_the_default_branch_are_seen(upstream: Repository, remote: GitRemote) -> None:
    first = upstream.git("rev-parse", "HEAD")
    upstream.git("tag", "--annotate", "--message", "one", "v1")
    upstream.git("update-ref", "refs/pull/1/head", first)
    second = upstream.commit(a="two")
    refs, default = await remote.look(at(upstream))
    assert refs == (Ref(name=MAIN, commit=second), Ref(name="refs/tags/v1", commit=first))
    assert default == "main"


async def test_a_push_a_moved_tag_and_a_deleted_branch_are_seen(upstream: Repository, remote: GitRemote) -> None:
    upstream.git("branch", "old")
    upstream.git("tag", "latest")
    before, _ = await remote.look(at(upstream))
    commit = upstream.commit(a="two")
    upstream.git("tag", "--force", "latest")
    upstream.git("branch", "-D", "old")
    after, _ = await remote.look(at(upstream))
    assert [ref.name for ref in before] == [MAIN, "refs/heads/old", "refs/tags/latest"]
    assert after == (Ref(name=MAIN, commit=commit), Ref(name="refs/tags/latest", commit=commit))


async def test_another_default_branch_is_seen_when_the_old_one_is_gone_or_after_a_while(
    upstream: Repository, remote: GitRemote, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert (await remote.look(at(upstream)))[1] == "main"
    upstream.git("checkout", "--quiet", "-b", "trunk")
    monkeypatch.setattr(git_remote, "HEAD_AGE_S", 0.0)
    assert (await remote.look(at(upstream)))[1] == "trunk"
    monkeypatch.undo()
    upstream.git("branch", "--move", "stem")
    assert (await remote.look(at(upstream)))[1] == "stem"


async def test_an_empty_repository_has_no_refs(remote: GitRemote, tmp_path: Path) -> None:
    refs, _ = await remote.look(at(Repository(tmp_path / "empty")))
    assert refs == ()


async def test_two_thousand_refs_are_read_at_once(upstream: Repository, remote: GitRemote) -> None:
    commit = upstream.git("rev-parse", "HEAD")
    packed = "".join(f"{commit} refs/heads/b/{number:04}\n" for number in range(2000))
    (upstream.top / ".git/packed-refs").write_text(packed)
    begin = time.monotonic()
    refs, _ = await remote.look(at(upstream))
    assert len(refs) == 2001
    assert time.monotonic() - begin < 5


async def test_too_many_refs_are_refused_with_a_sentence(upstream: Repository, tmp_path: Path) -> None:
    upstream.git("branch", "second")
    with pytest.raises(DoorError, match="has 2 branches and tags; at most 1 are watched"):
        await limited(tmp_path, refs=1).look(at(upstream))


async def test_names_that_could_do_harm_are_left_out_and_told_once(
    upstream: Repository, remote: GitRemote, caplog: pytest.LogCaptureFixture
) -> None:
    commit = upstream.git("rev-parse", "HEAD")
    names = ["-upload-pack=x", "HEAD", "\u202egpj", "a\u009bb", "x" * 300, "good$(id)`id`<b>", "ünï"]
    lines = b"".join(commit.encode() + b" refs/heads/" + name.encode() + b"\n" for name in names)
    raw = commit.encode() + b" refs/heads/\xff\xfe\n"
    (upstream.top / ".git/packed-refs").write_bytes(lines + raw)
    with caplog.at_level(logging.WARNING):
        refs, _ = await remote.look(at(upstream))
        await remote.look(at(upstream))
    assert {ref.name.removeprefix("refs/heads/") for ref in refs} == {"main", "good$(id)`id`<b>", "ünï"}
    assert [record.getMessage().split(";")[0] for record in caplog.records] == [
        "mill has 6 branches or tags with names that are not taken"
    ]


# Fetching


GOOD = ("main", "a/b", "ünï", "@", "{a}", "a/-b", "a$(id)")
BAD = ("a..b", "a.lock", "a.lock/b", "/a", "a//b", "a/", ".a", "a/.b", "a.", "a@{b", "a b", "a~1", "a^", "a:b", "a?")
WORSE = ("a*", "a[b", "a\\b", "a\nb", "a\x7f", "", "@{")


@pytest.mark.parametrize("name", [*GOOD, *BAD, *WORSE])
def test_a_name_that_git_does_not_take_is_not_taken(name: str) -> None:
    taken = subprocess.run(["git", "check-ref-format", f"refs/heads/{name}"], check=False).returncode == 0
    assert is_watched(f"refs/heads/{name}") == taken


def test_lines_that_a_hostile_server_makes_up_are_counted_and_left_out() -> None:
    commit = b"1" * 40
    made_up = [b"x", commit, commit + b" refs/heads/a", b"HEAD\trefs/heads/a", commit + b"\trefs/pull/1/head", b"\t\t"]
    found = parse_listing(b"\n".join([*made_up, commit + b"\trefs/heads/a", b""]))
    assert (found.refs, found.refused) == ((Ref(name="refs/heads/a", commit=commit.decode()),), 4)
    assert parse_head(b"ref: refs/heads/..\tHEAD\nx\tHEAD\n") == ("", "")


async def test_the_first_fetch_brings_the_whole_history(upstream: Repository, remote: GitRemote) -> None:
    first = upstream.git("rev-parse", "HEAD")
    second = upstream.commit("Second <b>line</b>\n\nbody", a="two")
    assert await remote.fetch(at(upstream), MAIN, "") == second
    tree, subject, author = await remote.tree(at(upstream), second)
    assert (tree.project, tree.commit, Path(tree.path).name) == ("mill", second, "mill")
    assert (subject, author) == ("Second <b>line</b>", "Ada")
    assert files(tree) == {"a": "two", "lib/b.nix": "1"}
    assert await remote.has(7, first)
    assert mode(remote.mirror(7)) == 0o750
    assert tree.flake_reference.startswith("git+file:///") and second in tree.flake_reference


async def test_a_commit_that_is_here_needs_no_remote(upstream: Repository, remote: GitRemote) -> None:
    commit = await remote.fetch(at(upstream), MAIN, "")
    upstream.top.rename(upstream.top.parent / "elsewhere")
    assert await remote.fetch(at(upstream), MAIN, commit) == commit
    with pytest.raises(DoorError, match="has no repository"):
        await remote.fetch(at(upstream), MAIN, "")


async def test_a_branch_that_moved_on_still_gives_the_commit(upstream: Repository, remote: GitRemote) -> None:
    wanted = upstream.commit(a="two")
    upstream.commit(a="three")
    assert await remote.fetch(at(upstream), MAIN, wanted) == wanted


async def test_a_force_push_between_look_and_fetch(upstream: Repository, remote: GitRemote) -> None:
    await remote.fetch(at(upstream), MAIN, "")
    lost = upstream.commit(a="two")
    refs, _ = await remote.look(at(upstream))
    assert refs[0].commit == lost
    upstream.git("reset", "--quiet", "--hard", "HEAD~1")
    newer = upstream.commit(a="three")
    assert await remote.fetch(at(upstream), MAIN, lost) == lost
    assert await remote.fetch(at(upstream), MAIN, "") == newer
    assert files((await remote.tree(at(upstream), lost))[0])["a"] == "two"


async def test_a_commit_that_the_remote_no_longer_has_is_an_input_error(
    upstream: Repository, remote: GitRemote
) -> None:
    lost = upstream.commit(a="two")
    upstream.git("reset", "--quiet", "--hard", "HEAD~1")
    upstream.git("reflog", "expire", "--expire=now", "--all")
    upstream.git("gc", "--quiet", "--prune=now")
    with pytest.raises(InputError, match=r"of main is no longer there: it was force-pushed or deleted"):
        await remote.fetch(at(upstream), MAIN, lost)


async def test_a_deleted_branch_gives_its_commit_by_itself_and_is_else_an_input_error(
    upstream: Repository, remote: GitRemote
) -> None:
    upstream.git("checkout", "--quiet", "-b", "feature")
    commit = upstream.commit(a="two")
    upstream.git("checkout", "--quiet", "main")
    upstream.git("branch", "-D", "feature")
    assert await remote.fetch(at(upstream), "refs/heads/feature", commit) == commit
    with pytest.raises(InputError, match="feature is no longer there"):
        await remote.fetch(at(upstream), "refs/heads/feature", "")


async def test_a_commit_may_stand_for_a_ref_and_a_tag_is_its_commit(upstream: Repository, remote: GitRemote) -> None:
    first = upstream.git("rev-parse", "HEAD")
    upstream.git("tag", "--annotate", "--message", "one", "v1")
    upstream.commit(a="two")
    assert await remote.fetch(at(upstream), "refs/tags/v1", "") == first
    assert await remote.fetch(at(upstream), first, "") == first


async def test_a_tag_of_a_file_is_an_input_error(upstream: Repository, remote: GitRemote) -> None:
    upstream.git("tag", "blob", "HEAD:a")
    with pytest.raises(InputError, match="is no commit"):
        await remote.fetch(at(upstream), "refs/tags/blob", "")


async def test_a_branch_may_become_a_folder_of_branches_and_back(upstream: Repository, remote: GitRemote) -> None:
    upstream.git("branch", "a")
    await remote.fetch(at(upstream), "refs/heads/a", "")
    upstream.git("branch", "-D", "a")
    upstream.git("branch", "a/b/c")
    await remote.fetch(at(upstream), "refs/heads/a/b/c", "")
    upstream.git("branch", "-D", "a/b/c")
    upstream.git("branch", "a")
    await remote.fetch(at(upstream), "refs/heads/a", "")


async def test_repositories_with_other_hashes_work(remote: GitRemote, tmp_path: Path) -> None:
    git(tmp_path, "init", "--quiet", "--initial-branch=main", "--object-format=sha256", "long")
    long = Repository(tmp_path / "long")
    commit = long.commit(a="one")
    assert await remote.fetch(at(long), MAIN, "") == commit
    assert files((await remote.tree(at(long), commit))[0]) == {"a": "one"}


async def test_a_forgotten_project_leaves_nothing(upstream: Repository, remote: GitRemote) -> None:
    await remote.fetch(at(upstream), MAIN, "")
    await remote.forget(7)
    assert list(Path(remote.mirror(7)).parent.iterdir()) == []
    await remote.forget(7)
    assert await remote.fetch(at(upstream), MAIN, "")


@pytest.mark.parametrize(
    "ref", ["--upload-pack=touch x", "refs/heads/-x", "HEAD", "refs/pull/1/head", "", "refs/heads/a:b"]
)
async def test_a_ref_is_never_read_as_an_option_or_refspec(upstream: Repository, remote: GitRemote, ref: str) -> None:
    with pytest.raises(InputError, match="neither a branch, a tag nor a commit"):
        await remote.fetch(at(upstream), ref, "")


@pytest.mark.parametrize("commit", ["--all", "main", "0" * 39, "$(id)", "HEAD"])
async def test_a_commit_is_a_whole_id(upstream: Repository, remote: GitRemote, commit: str) -> None:
    with pytest.raises(InputError):
        await remote.fetch(at(upstream), MAIN, commit)
    with pytest.raises(InputError):
        await remote.tree(at(upstream), commit)


# Bases: the mirror is what the engine gets as a checkout


async def test_a_branch_in_the_mirror_is_compared_with_its_merge_base(upstream: Repository, remote: GitRemote) -> None:
    upstream.git("branch", "--move", "trunk")
    fork = upstream.git("rev-parse", "HEAD")
    upstream.git("checkout", "--quiet", "-b", "feature")
    commit = upstream.commit(a="two")
    upstream.git("checkout", "--quiet", "trunk")
    upstream.commit(lib_S_b__nix="2")
    await remote.fetch(at(upstream), "refs/heads/feature", commit)
    tree = await remote.source.tree(TreeRequest(directory=remote.mirror(7), revision=commit))
    base = await remote.source.base(tree, None)
    assert isinstance(base, Tree)
    assert (base.commit, base.reason, base.project) == (
        fork,
        "merge base with trunk",
        "mill" if False else base.project,
    )


async def test_a_commit_of_the_default_branch_is_compared_with_the_one_checked_before(
    upstream: Repository, remote: GitRemote
) -> None:
    checked = await remote.fetch(at(upstream), MAIN, "")
    before = upstream.commit(a="two")
    commit = upstream.commit(a="three")
    await remote.fetch(at(upstream), MAIN, commit)
    tree, _, _ = await remote.tree(at(upstream), commit)
    wanted, parent = await remote.source.base(tree, checked), await remote.source.base(tree, None)
    assert isinstance(wanted, Tree) and isinstance(parent, Tree)
    assert (wanted.commit, parent.commit) == (checked, before)
    assert parent.reason == "the commit before, since this one is on main"


# Trouble on the way


async def test_over_http_it_is_the_same(upstream: Repository, server: GitServer, remote: GitRemote) -> None:
    project = at(server.url("mill"))
    refs, default = await remote.look(project)
    assert default == "main"
    assert await remote.fetch(project, MAIN, refs[0].commit) == refs[0].commit
    lost = upstream.commit(a="two")
    upstream.git("reset", "--quiet", "--hard", "HEAD~1")
    assert await remote.fetch(project, MAIN, lost) == lost


async def test_a_server_error_may_pass_and_is_not_the_mirrors_fault(
    upstream: Repository, server: GitServer, remote: GitRemote
) -> None:
    project = at(server.url("mill"))
    await remote.fetch(project, MAIN, "")
    server.status = 500
    for call in (remote.look(project), remote.fetch(project, MAIN, "")):
        with pytest.raises(DoorError, match=rf"127.0.0.1:{server.port} cannot be reached.*500.*tried again") as caught:
            await call
        assert caught.value.retryable
    assert not was_put_aside(remote)


@pytest.mark.parametrize(
    ("status", "said"), [(404, "has no repository"), (403, "does not let us read"), (410, "no repo")]
)
async def test_what_will_not_pass_is_told_apart(
    upstream: Repository, server: GitServer, remote: GitRemote, status: int, said: str
) -> None:
    server.status = status
    with pytest.raises(DoorError, match=said) as caught:
        await remote.look(at(server.url("mill")))
    assert not caught.value.retryable


async def test_a_server_that_hangs_is_left(upstream: Repository, server: GitServer, tmp_path: Path) -> None:
    server.silent = threading.Event()
    with pytest.raises(DoorError, match=r"did not give everything within 0 s|within 1 s") as caught:
        await limited(tmp_path, look_s=0.5).look(at(server.url("mill")))
    assert caught.value.retryable


async def test_a_server_that_slows_down_while_fetching_is_left(
    upstream: Repository, server: GitServer, tmp_path: Path
) -> None:
    server.upload_silent = threading.Event()
    with pytest.raises(DoorError, match=r"Operation too slow|cannot be reached") as caught:
        await limited(tmp_path, slow_s=1).fetch(at(server.url("mill")), MAIN, "")
    assert caught.value.retryable


async def test_a_port_where_nobody_listens_and_a_name_nobody_has(remote: GitRemote) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        port = taken.getsockname()[1]
        for scheme in ("http", "ssh", "git"):
            with pytest.raises(DoorError, match=rf"127.0.0.1:{port} cannot be reached") as caught:
                await remote.look(at(f"{scheme}://127.0.0.1:{port}/mill"))
            assert caught.value.retryable
    with pytest.raises(DoorError, match=r"The name nowhere.invalid of .* was not found") as caught:
        await remote.look(at("http://nowhere.invalid/mill"))
    assert caught.value.retryable


async def test_a_repository_that_vanished_is_not_retried(upstream: Repository, remote: GitRemote) -> None:
    await remote.look(at(upstream))
    upstream.top.rename(upstream.top.parent / "elsewhere")
    with pytest.raises(DoorError, match=r"has no repository file:///.*moved or deleted") as caught:
        await remote.look(at(upstream))
    assert not caught.value.retryable


# Secrets


def with_token(tmp_path: Path, text: str) -> GitRemote:
    secret = tmp_path / "token"
    secret.touch(mode=0o600)
    secret.write_text(text)
    return GitRemote(tmp_path / "state", {"forge": secret}, schemes=ALL)


@pytest.mark.parametrize(("text", "login"), [("s3cr%et\n", "oauth2:s3cr%et"), ("bob:pa:ss", "bob:pa:ss")])
async def test_a_token_opens_a_private_repository(
    upstream: Repository, server: GitServer, tmp_path: Path, text: str, login: str
) -> None:
    server.login = login
    remote = with_token(tmp_path, text)
    project = at(server.url("mill"), credential="forge")
    assert (await remote.look(project))[1] == "main"
    assert await remote.fetch(project, MAIN, "")


async def test_a_wrong_token_and_none_are_told(upstream: Repository, server: GitServer, tmp_path: Path) -> None:
    server.login = "oauth2:right"
    remote = with_token(tmp_path, "wrong")
    with pytest.raises(DoorError, match=r"does not let us read .* with the credential forge") as caught:
        await remote.look(at(server.url("mill"), credential="forge"))
    assert not caught.value.retryable and "wrong" not in str(caught.value)
    with pytest.raises(DoorError, match="with no credential"):
        await remote.look(at(server.url("mill")))


async def test_a_credential_that_does_not_exist_is_an_input_error(remote: GitRemote) -> None:
    with pytest.raises(InputError, match="credential 'forge', which the server does not have"):
        await remote.look(at("http://127.0.0.1:1/mill", credential="forge"))


async def test_a_redirect_does_not_carry_the_token_to_another_host(
    upstream: Repository, server: GitServer, tmp_path: Path
) -> None:
    server.login = "oauth2:right"
    with git_server(tmp_path / "served") as other:
        other.login = "oauth2:right"
        server.redirect = other.url("").removesuffix("/")
        remote = with_token(tmp_path, "right")
        with pytest.raises(DoorError, match="does not let us read"):
            await remote.look(at(server.url("mill"), credential="forge"))
        assert other.requests and not other.authorizations


async def test_a_redirect_to_another_protocol_is_not_followed(
    upstream: Repository, server: GitServer, remote: GitRemote
) -> None:
    server.redirect = "ftp://127.0.0.1:1"
    with pytest.raises(DoorError, match="is not followed") as caught:
        await remote.look(at(server.url("mill")))
    assert not caught.value.retryable


async def test_nobodys_settings_or_passwords_are_used(
    upstream: Repository, server: GitServer, remote: GitRemote, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    server.login = "oauth2:right"
    home = tmp_path / "home"
    home.mkdir()
    (home / ".netrc").write_text("machine 127.0.0.1 login oauth2 password right\n")
    (home / ".gitconfig").write_text(f'[url "file://{tmp_path}/nowhere"]\n\tinsteadOf = http://127.0.0.1\n')
    mark = tmp_path / "mark"
    for name in ("GIT_ASKPASS", "SSH_ASKPASS", "GIT_SSH_COMMAND", "GIT_PROXY_COMMAND"):
        monkeypatch.setenv(name, f"sh -c 'touch {mark}; echo right'")
    monkeypatch.setenv("HOME", str(home))
    with pytest.raises(DoorError, match="does not let us read"):
        await remote.look(at(server.url("mill")))
    assert not mark.exists()


async def test_a_secret_is_in_no_argument_and_no_environment(
    upstream: Repository, server: GitServer, tmp_path: Path
) -> None:
    server.login, server.upload_silent = "oauth2:hush-hush", threading.Event()
    remote = with_token(tmp_path, "hush-hush")
    fetching = asyncio.ensure_future(remote.fetch(at(server.url("mill"), credential="forge"), MAIN, ""))
    await soon(server.asked.is_set)
    shown = [text for pid in _processes() for text in _seen(pid, str(tmp_path))]
    fetching.cancel()
    with pytest.raises(asyncio.CancelledError):
        await fetching
    assert len(shown) >= 4
    assert not any(b"hush-hush" in text for text in shown)


def _processes() -> list[str]:
    return [entry.name for entry in Path("/proc").iterdir() if entry.name.isdigit()]


def _seen(pid: str, place: str) -> list[bytes]:
    """Return command line and environment of a process that works for this test."""
    with contextlib.suppress(OSError):
        environment = Path(f"/proc/{pid}/environ").read_bytes()
        if f"GIT_DIR={place}".encode() in environment:
            return [environment, Path(f"/proc/{pid}/cmdline").read_bytes()]
    return []


# ssh


@pytest.fixture
def port() -> int:
    return free_port()


@pytest.fixture
def ssh(tmp_path: Path, port: int) -> Iterator[SshServer]:
    with ssh_server(tmp_path / "ssh", port) as running:
        yield running


def free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])


def by_ssh(ssh: SshServer, upstream: Repository, tmp_path: Path) -> tuple[GitRemote, Project]:
    remote = GitRemote(tmp_path / "a state", {"key": ssh.key}, schemes=ALL)
    user = os.environ.get("USER", "root")
    return remote, at(f"ssh://{user}@127.0.0.1:{ssh.port}{upstream.top}", credential="key")


async def test_over_ssh_it_is_the_same(ssh: SshServer, upstream: Repository, tmp_path: Path) -> None:
    remote, project = by_ssh(ssh, upstream, tmp_path)
    refs, default = await remote.look(project)
    assert default == "main"
    assert await remote.fetch(project, MAIN, "") == refs[0].commit


async def test_a_host_key_is_taken_once_and_a_changed_one_refused(
    upstream: Repository, tmp_path: Path, port: int
) -> None:
    with ssh_server(tmp_path / "ssh", port) as first:
        remote, project = by_ssh(first, upstream, tmp_path)
        await remote.look(project)
        await remote.look(project)
    with (
        ssh_server(tmp_path / "impostor", port),
        pytest.raises(DoorError, match=r"another host key than before.*ssh-keygen -f .*/known_hosts -R") as caught,
    ):
        await remote.look(project)
    assert not caught.value.retryable


async def test_ssh_without_the_key_is_told_as_such(ssh: SshServer, upstream: Repository, tmp_path: Path) -> None:
    remote, project = by_ssh(ssh, upstream, tmp_path)
    with pytest.raises(DoorError, match=r"does not let us read .* with no credential"):
        await remote.look(at(project.url))
    ssh.key.chmod(0o644)
    with pytest.raises(DoorError, match=r"others may read its file. Type: chmod 600"):
        await remote.look(project)


async def test_a_repository_that_ssh_does_not_find_is_told(
    ssh: SshServer, upstream: Repository, tmp_path: Path
) -> None:
    remote, project = by_ssh(ssh, upstream, tmp_path)
    with pytest.raises(DoorError, match="has no repository"):
        await remote.look(at(project.url + "-gone", credential="key"))


# Hostile input


@pytest.mark.parametrize(
    "url",
    [
        "ext::sh -c id",
        "ext::sh",
        "--upload-pack=id",
        "-oProxyCommand=id:x",
        "ssh://-oProxyCommand=id/x",
        "ssh://-oProxyCommand=id@host/x",
        "file://x\ny",
        "https://user:secret@host/x",
        "/etc",
        "fd::0",
        "ftp://host/x",
    ],
)
async def test_an_address_of_another_kind_is_never_given_to_git(remote: GitRemote, url: str) -> None:
    with pytest.raises(InputError):
        await remote.look(at(url))


async def test_only_allowed_schemes_are_fetched(upstream: Repository, tmp_path: Path) -> None:
    remote = GitRemote(tmp_path / "state", {}, schemes=("https", "ssh"))
    for url in (f"file://{upstream.top}", "http://127.0.0.1/mill", "git://127.0.0.1/mill"):
        with pytest.raises(InputError, match="are not fetched by"):
            await remote.look(at(url))


async def test_neither_hooks_nor_settings_of_a_remote_run_here(
    upstream: Repository, remote: GitRemote, tmp_path: Path
) -> None:
    mark = tmp_path / "mark"
    hooks = upstream.top / ".git/hooks"
    hooks.mkdir(exist_ok=True)
    for name in ("reference-transaction", "post-checkout", "post-merge", "pre-auto-gc"):
        (hooks / name).write_text(f"#!/bin/sh\ntouch {mark}\n")
        (hooks / name).chmod(0o755)
    upstream.git("config", "uploadpack.packObjectsHook", f"touch {mark};")
    await remote.fetch(at(upstream), MAIN, "")
    await remote.tree(at(upstream), await remote.fetch(at(upstream), MAIN, ""))
    assert not mark.exists()


async def test_settings_of_a_checkout_around_the_state_have_no_say(
    upstream: Repository, remote: GitRemote, tmp_path: Path
) -> None:
    around = Repository(tmp_path)
    around.git("config", f"url.file://{tmp_path}/nowhere.insteadOf", f"file://{upstream.top}")
    assert (await remote.look(at(upstream)))[1] == "main"
    assert await remote.fetch(at(upstream), MAIN, "")


async def test_an_answer_without_an_end_is_cut_off(tmp_path: Path) -> None:
    command = Command(
        arguments=("-c", "alias.endless=!yes", "endless"),
        directory=tmp_path,
        environment={},
        limit_s=60,
        output_bytes=1 << 20,
        who="https://example.org/mill",
    )
    with pytest.raises(DoorError, match=r"example\.org/mill answered with more than 1 MiB"):
        await transport(command)


async def test_complaints_without_an_end_keep_their_end(tmp_path: Path) -> None:
    shout = "!f() { yes | head -c 5000000 >&2; echo last >&2; }; f"
    command = Command(
        arguments=("-c", f"alias.shout={shout}", "shout"), directory=tmp_path, environment={}, limit_s=60, who="x"
    )
    complaint = (await transport(command)).complaint
    assert len(complaint) <= 1 << 16 and complaint.endswith("last\n")


async def test_a_tree_with_a_git_directory_is_refused(upstream: Repository, remote: GitRemote) -> None:
    blob = upstream.git("rev-parse", "HEAD:a")
    inner = _object(upstream, "tree", b"100644 config\0" + bytes.fromhex(blob))
    outer = _object(upstream, "tree", b"40000 .GIT\0" + bytes.fromhex(inner))
    upstream.git("branch", "evil", upstream.git("commit-tree", "-m", "evil", outer))
    with pytest.raises(DoorError, match="malformed, perhaps on purpose") as caught:
        await remote.fetch(at(upstream), "refs/heads/evil", "")
    assert not caught.value.retryable
    assert await remote.fetch(at(upstream), MAIN, "")


def _object(repository: Repository, kind: str, content: bytes) -> str:
    """Write an object that git would not write."""
    file = repository.top.parent / "object"
    file.write_bytes(content)
    return repository.git("hash-object", "--literally", "-t", kind, "-w", str(file))


async def test_links_out_of_the_tree_stay_links(upstream: Repository, remote: GitRemote) -> None:
    (upstream.top / "secret").symlink_to("/etc/passwd")
    (upstream.top / "up").symlink_to("../../..")
    commit = upstream.commit()
    await remote.fetch(at(upstream), MAIN, commit)
    tree, _, _ = await remote.tree(at(upstream), commit)
    assert (Path(tree.path) / "secret").readlink() == Path("/etc/passwd")
    assert await remote.source.read(tree, "secret") is None


async def test_a_message_and_an_author_of_any_kind_become_one_printable_line(
    upstream: Repository, remote: GitRemote
) -> None:
    tree = upstream.git("rev-parse", "HEAD^{tree}")
    who = b"\xff\x1b[31mEve\xe2\x80\xae <e@x> 1700000000 +0000\n"
    text = b"tree %s\nauthor %scommitter %s\n\x1b]0;x\x07 \xff<script> %s\nsecond\n" % (
        tree.encode(),
        who,
        who,
        b"y" * 9000,
    )
    commit = _object(upstream, "commit", text)
    upstream.git("update-ref", "refs/heads/odd", commit)
    await remote.fetch(at(upstream), "refs/heads/odd", "")
    _, subject, author = await remote.tree(at(upstream), commit)
    assert len(subject) == 500 and subject.isprintable() and "<script>" in subject
    assert author.isprintable() and "Eve" in author


@pytest.mark.skipif(os.getuid() != 0, reason="only root can give a directory to somebody else")
async def test_a_local_repository_of_another_user_is_fetched(upstream: Repository, remote: GitRemote) -> None:
    """Only administrators can name one."""
    for path in (upstream.top, *upstream.top.rglob("*")):
        os.chown(path, 12345, 12345)
    assert await remote.fetch(at(upstream), MAIN, "")


async def test_a_repository_that_is_too_large_is_cut_off(upstream: Repository, tmp_path: Path) -> None:
    (upstream.top / "large").write_bytes(os.urandom(3_000_000))
    upstream.commit()
    remote = limited(tmp_path, mirror_bytes=1 << 20)
    with contextlib.suppress(DoorError):  # a small one may be there before its size is looked at
        await remote.fetch(at(upstream), MAIN, "")
    upstream.commit(a="two")
    with pytest.raises(DoorError, match="takes more than 1 MiB here") as caught:
        await remote.fetch(at(upstream), MAIN, "")
    assert not caught.value.retryable


# Damage, kills, and two at once


async def test_a_killed_fetch_leaves_nothing_in_the_way(
    upstream: Repository, server: GitServer, remote: GitRemote
) -> None:
    server.upload_silent = threading.Event()
    project = at(server.url("mill"))
    fetching = asyncio.ensure_future(remote.fetch(project, MAIN, ""))
    await soon(server.asked.is_set)
    fetching.cancel()
    with pytest.raises(asyncio.CancelledError):
        await fetching
    mirror = Path(remote.mirror(7))
    (mirror / "refs/heads").mkdir(exist_ok=True)
    for name in ("packed-refs.lock", "refs/heads/main.lock", "config.lock", "objects/pack/tmp_pack_x"):
        (mirror / name).touch()
    server.upload_silent.set()
    server.upload_silent = None
    assert await remote.fetch(project, MAIN, "") == upstream.git("rev-parse", "HEAD")
    assert tidy(remote)


async def test_cancelling_ends_git_and_its_children(
    upstream: Repository, server: GitServer, remote: GitRemote, tmp_path: Path
) -> None:
    server.upload_silent = threading.Event()
    fetching = asyncio.ensure_future(remote.fetch(at(server.url("mill")), MAIN, ""))
    await soon(server.asked.is_set)
    assert _working(tmp_path)
    fetching.cancel()
    with pytest.raises(asyncio.CancelledError):
        await fetching
    await soon(lambda: not _working(tmp_path))


def _working(tmp_path: Path) -> list[str]:
    return [pid for pid in _processes() if _seen(pid, str(tmp_path))]


@pytest.mark.parametrize("damage", ["objects", "head", "pack", "config"])
async def test_a_damaged_mirror_is_put_aside_and_fetched_again(
    upstream: Repository, remote: GitRemote, damage: str
) -> None:
    await remote.fetch(at(upstream), MAIN, "")
    mirror = Path(remote.mirror(7))
    if damage == "head":
        (mirror / "HEAD").write_text("")
    elif damage == "config":
        (mirror / "config").write_text("[core\n")
    else:
        if damage == "objects":
            unpack(mirror)
        cut_off(mirror, 20)
    commit = upstream.commit(a="two")
    assert await remote.fetch(at(upstream), MAIN, commit) == commit
    assert files((await remote.tree(at(upstream), commit))[0])["a"] == "two"
    assert was_put_aside(remote)


async def test_damage_that_shows_when_files_are_read_is_mended_too(upstream: Repository, remote: GitRemote) -> None:
    commit = await remote.fetch(at(upstream), MAIN, "")
    cut_off(Path(remote.mirror(7)), 40)
    tree, _, _ = await remote.tree(at(upstream), commit)
    assert files(tree) == {"a": "one", "lib/b.nix": "1"}


async def test_fetches_of_one_project_come_one_after_another_and_others_do_not_wait(
    upstream: Repository, server: GitServer, remote: GitRemote
) -> None:
    server.upload_silent = threading.Event()
    slow = at(server.url("mill"))
    first = asyncio.ensure_future(remote.fetch(slow, MAIN, ""))
    await soon(server.asked.is_set)
    before = len(server.requests)
    second = asyncio.ensure_future(remote.fetch(slow, MAIN, ""))
    other = Project(id=8, name="other", url=f"file://{upstream.top}")
    assert await remote.fetch(other, MAIN, "")
    assert len(server.requests) == before
    silence, server.upload_silent = server.upload_silent, None
    first.cancel()
    with pytest.raises(asyncio.CancelledError):
        await first
    assert await second
    silence.set()


async def test_another_process_that_fetches_is_waited_for(
    upstream: Repository, remote: GitRemote, tmp_path: Path
) -> None:
    other = limited(tmp_path)
    mirror = other._mirror(7)
    async with mirror.held(1):
        waiting = asyncio.ensure_future(remote.fetch(at(upstream), MAIN, ""))
        done, _ = await asyncio.wait([waiting], timeout=0.2)
        assert not done
    assert await waiting
    async with mirror.held(1):
        with pytest.raises(DoorError, match="Another process has been working on"):
            await limited(tmp_path, fetch_s=0.1).fetch(at(upstream), MAIN, "")


FETCHER = """\
import asyncio, sys
from pathlib import Path
from nixmill.core.project import Project
from nixmill.edge.git_remote import GitRemote
remote = GitRemote(Path(sys.argv[1]), {}, schemes=("http",))
asyncio.run(remote.fetch(Project(id=7, name="mill", url=sys.argv[2]), "refs/heads/main", ""))
"""


async def test_what_a_killed_server_left_running_is_ended(
    upstream: Repository, server: GitServer, remote: GitRemote, tmp_path: Path
) -> None:
    server.upload_silent = threading.Event()
    arguments = ["-c", FETCHER, str(tmp_path / "state"), server.url("mill")]
    killed = await asyncio.create_subprocess_exec(sys.executable, *arguments)
    await soon(server.asked.is_set)
    killed.kill()
    await killed.wait()
    assert _working(tmp_path)
    silence, server.upload_silent = server.upload_silent, None
    assert await asyncio.wait_for(remote.fetch(at(server.url("mill")), MAIN, ""), 10)
    await soon(lambda: not _working(tmp_path))
    assert tidy(remote)
    silence.set()


async def test_a_git_that_outlives_its_server_keeps_the_lock(
    upstream: Repository, server: GitServer, remote: GitRemote, tmp_path: Path
) -> None:
    """Two gits in one mirror would remove each other's temporary files."""
    server.upload_silent = threading.Event()
    fetching = asyncio.ensure_future(remote.fetch(at(server.url("mill")), MAIN, ""))
    await soon(server.asked.is_set)
    held = _has_open(tmp_path, Path(remote.mirror(7) + ".lock"))
    fetching.cancel()
    with pytest.raises(asyncio.CancelledError):
        await fetching
    assert held


def _has_open(tmp_path: Path, file: Path) -> bool:
    """Say whether one of git's processes has a file open."""
    opened = [link for pid in _working(tmp_path) for link in Path(f"/proc/{pid}/fd").iterdir()]
    return any(link.is_file() and link.samefile(file) for link in opened)


# Submodules


@pytest.fixture
def nested(upstream: Repository, tmp_path: Path) -> Repository:
    """A project with a library with a library."""
    deep, library = Repository(tmp_path / "served/deep"), Repository(tmp_path / "served/library")
    deep.commit(d="deep")
    library.commit(l="library")
    _add_submodule(library, "../deep", "inner", deep.git("rev-parse", "HEAD"))
    _add_submodule(upstream, "../library", "lib/sub", library.git("rev-parse", "HEAD"))
    return upstream


def _add_submodule(repository: Repository, url: str, path: str, commit: str) -> None:
    (repository.top / ".gitmodules").write_text(f'[submodule "x"]\n\tpath = {path}\n\turl = {url}\n')
    repository.git("add", ".gitmodules")
    repository.git("update-index", "--add", "--cacheinfo", f"160000,{commit},{path}")
    repository.git("commit", "--quiet", "--message", "a submodule")


async def test_submodules_are_part_of_the_tree_where_the_project_wants_them(
    nested: Repository, server: GitServer, remote: GitRemote
) -> None:
    for project in (at(nested, submodules=True), at(server.url("mill"), submodules=True)):
        commit = await remote.fetch(project, MAIN, "")
        tree, _, _ = await remote.tree(project, commit)
        assert files(tree)["lib/sub/l"] == "library"
        assert files(tree)["lib/sub/inner/d"] == "deep"
        assert (tree.commit, tree.notices) == (commit, ())
        assert commit not in tree.flake_reference
        await remote.forget(7)


async def test_submodules_are_left_out_where_the_project_does_not_want_them(
    nested: Repository, remote: GitRemote
) -> None:
    await remote.fetch(at(nested, submodules=True), MAIN, "")
    commit = await remote.fetch(at(nested), MAIN, "")
    tree, _, _ = await remote.tree(at(nested), commit)
    assert "lib/sub/l" not in files(tree)
    assert any("Submodules are left out" in notice for notice in tree.notices)


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("file:///etc", "not fetched by 'file'"),
        ("/etc", "no URL of a repository"),
        ("ext::sh -c id", "no URL of a repository"),
        ("http://127.0.0.1:1/x", "leads to a private network"),
        ("http://169.254.169.254/x", "leads to a private network"),
        ("http://localhost/x", "leads to a private network"),
        ("https://[::1]/x", "leads to a private network"),
        ("ssh://git@127.0.0.1/x", "only https"),
        ("../../../../../x", "leads above"),
        ("--upload-pack=id", "malformed, perhaps on purpose.*disallowed submodule url"),
    ],
)
async def test_a_submodule_cannot_lead_where_it_should_not(
    upstream: Repository, server: GitServer, remote: GitRemote, url: str, said: str
) -> None:
    _add_submodule(upstream, url, "sub", upstream.git("rev-parse", "HEAD"))
    _rewrite_parent_free(upstream)
    with pytest.raises((InputError, DoorError), match=said):
        await remote.fetch(at(server.url("mill"), submodules=True), MAIN, "")


def _rewrite_parent_free(repository: Repository) -> None:
    """Leave one commit, so that what the submodule names is not here already."""
    tree = repository.git("rev-parse", "HEAD^{tree}")
    repository.git("reset", "--quiet", "--soft", repository.git("commit-tree", "-m", "one", tree))


async def test_old_commits_with_submodules_are_forgotten(
    nested: Repository, remote: GitRemote, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(git_submodules, "KEPT", 1)
    project = at(nested, submodules=True)
    first = await remote.fetch(project, MAIN, "")
    date = "@4000000000 +0000"
    monkeypatch.setitem(git_repository._ENVIRONMENT, "GIT_COMMITTER_DATE", date)
    nested.git("commit", "--quiet", "--allow-empty", "--message", "newer")
    second = await remote.fetch(project, MAIN, "")
    whole = git(Path(remote.mirror(7)), "for-each-ref", "--format=%(refname)", "refs/nixmill/whole")
    assert whole == f"refs/nixmill/whole/{second}"
    await remote.fetch(project, MAIN, first)
    assert files((await remote.tree(project, first))[0])["lib/sub/l"] == "library"


async def test_a_submodule_gets_no_credential(nested: Repository, server: GitServer, tmp_path: Path) -> None:
    server.login = "oauth2:right"
    remote = with_token(tmp_path, "right")
    with pytest.raises(DoorError, match=r"does not let us read http://.*/library with no credential"):
        await remote.fetch(at(server.url("mill"), credential="forge", submodules=True), MAIN, "")


@pytest.mark.parametrize(
    ("address", "url", "expected"),
    [
        ("../b", "https://h/x/a.git", "https://h/x/b"),
        ("./b", "https://h/x/a", "https://h/x/a/b"),
        ("../../y/b", "https://h/x/a/", "https://h/y/b"),
        ("https://o/b", "https://h/x/a", "https://o/b"),
    ],
)
def test_relative_addresses_are_resolved_as_git_does(address: str, url: str, expected: str) -> None:
    assert absolute(address, url) == expected


async def test_a_stopped_process_does_not_outlive_its_limit(
    upstream: Repository, server: GitServer, tmp_path: Path
) -> None:
    """Even one that does not react to anything."""
    server.silent = threading.Event()
    looking = asyncio.ensure_future(limited(tmp_path, look_s=1).look(at(server.url("mill"))))
    await soon(server.asked.is_set)
    for pid in _listing(server.port):
        os.kill(pid, signal.SIGSTOP)
    with pytest.raises(DoorError, match="did not give everything"):
        await looking
    await soon(lambda: not _listing(server.port))


def _listing(port: int) -> list[int]:
    found = []
    for pid in _processes():
        with contextlib.suppress(OSError):
            if f"127.0.0.1:{port}".encode() in Path(f"/proc/{pid}/cmdline").read_bytes():
                found.append(int(pid))
    return found
