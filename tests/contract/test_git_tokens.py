"""Tokens that expire: asked for before each command, kept in a private file, given to the project's own host alone."""

import asyncio
import contextlib
import os
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from nixmill.core.project import Project
from nixmill.doors import DoorError
from nixmill.edge.git_remote import GitRemote
from nixmill.edge.git_tokens import forget_token, write_token
from tests.support.git_repository import Repository
from tests.support.git_server import GitServer, git_server

MAIN = "refs/heads/main"


class Forge:
    """Gives the token it is told to, and remembers for whom it was asked."""

    def __init__(self, token: str | None) -> None:
        self.token = token
        self.asked: list[str] = []

    async def __call__(self, project: Project) -> str | None:
        self.asked.append(project.name)
        return self.token


@pytest.fixture
def upstream(tmp_path: Path) -> Repository:
    made = Repository(tmp_path / "served/mill")
    made.commit("first", a="one")
    return made


@pytest.fixture
def server(upstream: Repository, tmp_path: Path) -> Iterator[GitServer]:
    with git_server(tmp_path / "served") as running:
        yield running


def remote_with(tmp_path: Path, forge: Forge) -> GitRemote:
    secret = tmp_path / "credential"
    secret.touch(mode=0o600)
    secret.write_text("from-the-settings")
    return GitRemote(tmp_path / "state", {"own": secret}, schemes=("http", "ssh", "file"), tokens=forge)


def at(server: GitServer, **changes: object) -> Project:
    return Project(id=7, name="mill", url=server.url("mill"), **changes)  # type: ignore[arg-type]


def token_file(tmp_path: Path) -> Path:
    return tmp_path / "state/git/token-7"


async def soon(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 10
    while not condition():
        assert time.monotonic() < deadline
        await asyncio.sleep(0.01)


@pytest.mark.parametrize(("token", "login"), [("x-access-token:ghs_1", "x-access-token:ghs_1"), ("s", "oauth2:s")])
async def test_a_token_opens_a_repository_for_looks_fetches_and_merges(
    upstream: Repository, server: GitServer, tmp_path: Path, token: str, login: str
) -> None:
    server.login = login
    forge = Forge(token)
    remote = remote_with(tmp_path, forge)
    assert (await remote.look(at(server)))[1] == "main"
    head = await remote.fetch_head(at(server), MAIN, "")
    assert (await remote.merge(at(server), head, MAIN)).commit == head
    assert forge.asked == ["mill"] * 3


async def test_another_token_is_used_once_the_first_has_expired(server: GitServer, tmp_path: Path) -> None:
    tokens = ["first", "first", "second"]

    async def give(_: Project) -> str:
        return tokens.pop(0)

    server.login = "oauth2:first"
    remote = GitRemote(tmp_path / "state", {}, schemes=("http",), tokens=give)
    await remote.look(at(server))
    server.login = "oauth2:second"
    with pytest.raises(DoorError, match=r"does not let us read .* with the credential of its forge"):
        await remote.look(at(server))
    await remote.look(at(server))


async def test_without_a_token_the_projects_credential_is_used(server: GitServer, tmp_path: Path) -> None:
    server.login = "oauth2:from-the-settings"
    remote = remote_with(tmp_path, Forge(None))
    await remote.look(at(server, credential="own"))
    assert not token_file(tmp_path).exists()


async def test_a_token_goes_before_the_projects_credential(server: GitServer, tmp_path: Path) -> None:
    server.login = "oauth2:newer"
    await remote_with(tmp_path, Forge("newer")).look(at(server, credential="own"))


async def test_a_token_is_for_no_other_way_than_http(upstream: Repository, tmp_path: Path) -> None:
    forge = Forge("secret")
    await remote_with(tmp_path, forge).look(Project(id=7, name="mill", url=f"file://{upstream.top}"))
    assert forge.asked == []


async def test_only_the_server_can_read_the_token_and_it_goes_with_the_project(
    server: GitServer, tmp_path: Path
) -> None:
    remote = remote_with(tmp_path, Forge("secret"))
    await remote.fetch(at(server), MAIN, "")
    assert token_file(tmp_path).stat().st_mode & 0o777 == 0o600
    assert [file.name for file in (tmp_path / "state/git").iterdir()] == ["token-7"]
    await remote.forget(7)
    assert not token_file(tmp_path).exists()


def test_a_token_is_never_world_readable_and_never_half_there(tmp_path: Path) -> None:
    before = os.umask(0)
    try:
        write_token(tmp_path, 7, "first")
        with (tmp_path / "token-7").open() as reading:
            write_token(tmp_path, 7, "second")
            assert reading.read() == "first\n"
    finally:
        os.umask(before)
    assert (tmp_path / "token-7").read_text() == "second\n"
    assert (tmp_path / "token-7").stat().st_mode & 0o777 == 0o600
    forget_token(tmp_path, 7)
    forget_token(tmp_path, 7)
    assert list(tmp_path.iterdir()) == []


def test_a_link_in_the_way_is_not_followed(tmp_path: Path) -> None:
    other = tmp_path / "other"
    other.write_text("mine")
    for name in ("token-7", f".token-7.{os.getpid()}"):
        (tmp_path / name).symlink_to(other)
    write_token(tmp_path, 7, "secret")
    assert (other.read_text(), (tmp_path / "token-7").is_symlink()) == ("mine", False)


@pytest.mark.parametrize("token", ["", "a\nb", "a\0", "a\x7f", "\x1b[31m"])
def test_what_cannot_be_a_token_is_refused_without_showing_it(tmp_path: Path, token: str) -> None:
    with pytest.raises(DoorError, match="odd characters") as caught:
        write_token(tmp_path, 7, token)
    assert not list(tmp_path.iterdir()) and not caught.value.retryable


async def test_a_redirect_does_not_carry_the_token_to_another_host(server: GitServer, tmp_path: Path) -> None:
    with git_server(tmp_path / "served") as other:
        other.login = server.login = "oauth2:right"
        server.redirect = other.url("").removesuffix("/")
        with pytest.raises(DoorError, match="does not let us read"):
            await remote_with(tmp_path, Forge("right")).look(at(server))
        assert other.requests and not other.authorizations


async def test_a_submodule_gets_no_token(upstream: Repository, server: GitServer, tmp_path: Path) -> None:
    library = Repository(tmp_path / "served/library")
    commit = library.commit(l="library")
    upstream.write(__gitmodules='[submodule "x"]\n\tpath = sub\n\turl = ../library\n')
    upstream.git("add", ".gitmodules")
    upstream.git("update-index", "--add", "--cacheinfo", f"160000,{commit},sub")
    upstream.git("commit", "--quiet", "--message", "a submodule")
    server.login = "oauth2:right"
    with pytest.raises(DoorError, match=r"does not let us read http://.*/library with no credential"):
        await remote_with(tmp_path, Forge("right")).fetch_head(at(server, submodules=True), MAIN, "")


async def test_a_token_is_in_no_argument_and_no_environment(server: GitServer, tmp_path: Path) -> None:
    server.login, server.upload_silent = "oauth2:hush-hush", threading.Event()
    remote = remote_with(tmp_path, Forge("hush-hush"))
    fetching = asyncio.ensure_future(remote.fetch_head(at(server), MAIN, ""))
    await soon(server.asked.is_set)
    shown = _shown(str(tmp_path))
    fetching.cancel()
    with pytest.raises(asyncio.CancelledError):
        await fetching
    assert len(shown) >= 4
    assert not any(b"hush-hush" in text for text in shown)


def _shown(place: str) -> list[bytes]:
    """Return command lines and environments of the processes that work for this test."""
    found: list[bytes] = []
    for entry in Path("/proc").iterdir():
        with contextlib.suppress(OSError):
            environment = (entry / "environ").read_bytes() if entry.name.isdigit() else b""
            if f"GIT_DIR={place}".encode() in environment:
                found += [environment, (entry / "cmdline").read_bytes()]
    return found
