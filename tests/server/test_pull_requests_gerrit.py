"""Changes on Gerrit as their uploaders and reviewers meet them: the whole server, with real Nix and the real hook."""

import asyncio
import contextlib
import getpass
import os
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.contract.forge_world import Colour, Happening, Where
from tests.support.gerrit_server import LABEL
from tests.support.gerrit_world import GerritWorld
from tests.support.program import NIXMILL, flake, job
from tests.support.pull_server import Pulls, gerrit_beside, pulls
from tests.support.remote_store import ssh_server
from tests.support.scratch_store import ScratchStore
from tests.support.server import free_port


@pytest.fixture
async def world(tmp_path: Path, fresh_store: ScratchStore) -> AsyncIterator[Pulls[GerritWorld]]:
    async with (
        gerrit_beside(tmp_path) as beside,
        pulls(tmp_path, fresh_store, beside, "insecure-git = true") as made,
    ):
        made.project.commit(flake__nix=flake(hello=job("hello")))
        made.hub.user("mia", made.permission("mia"))
        await made.running()
        settings = tmp_path / "gerrit-hook.toml"
        secret = tmp_path / "secrets/new"
        settings.write_text(f'server = "{made.server.url}"\nforge = "hub"\nsecret-file = "{secret}"\n')
        settings.chmod(0o600)
        yield made


async def hook(world: Pulls[GerritWorld], name: str, number: int, **flags: str) -> None:
    """Run the hook as Gerrit does, to its end."""
    change = world.hub.state.changes[number]
    given = {
        "project": change.project,
        "branch": change.branch,
        "change": f"{change.project}~{number}",
        "change-url": f"http://127.0.0.1/c/{change.project}/+/{number}",
        "commit": world.hub.head(number),
        "patchset": str(len(change.patch_sets)),
        **flags,
    }
    words = [word for flag, value in given.items() for word in (f"--{flag}", value)]
    settings = world.server.state.parent / "gerrit-hook.toml"
    process = await asyncio.create_subprocess_exec(
        *NIXMILL, "gerrit", "hook", name, "--settings", str(settings), "--", *words, stderr=asyncio.subprocess.PIPE
    )
    _, said = await asyncio.wait_for(process.communicate(), 60)
    assert process.returncode == 0, said.decode()


async def test_a_change_from_its_first_patch_set_to_its_merge(world: Pulls[GerritWorld]) -> None:
    votes = world.hub.state.changes
    number = world.open("mia", Where.SAME, flake__nix=flake(hello=job("hello"), bad=job("bad", "echo no way; exit 3")))
    first = world.hub.head(number)
    await hook(world, "patchset-created", number, kind="REWORK")
    await world.until(first, Colour.RED)
    assert votes[number].patch_sets[0].votes == {LABEL: -1}
    said = [one for one in world.hub.state.reviews if one.get("labels", {}).get(LABEL)]
    assert len(said) == 1, "one comment, one vote"
    assert "no way" in said[0]["message"]

    second = world.push(number, flake__nix=flake(hello=job("hello"), more=job("more")))
    await hook(world, "patchset-created", number, kind="REWORK")
    await world.until(second, Colour.GREEN)
    assert votes[number].patch_sets[1].votes == {LABEL: 1}
    world.project.git("merge", "-q", "--ff-only", second)
    world.hub.close(number, merged=True)
    await hook(world, "change-merged", number, newrev=second)
    await hook(world, "ref-updated", number, refname="refs/heads/main", newrev=second, oldrev="0" * 40)
    page = await world.server.ended(4)
    assert page["run"]["verdict"] == "passed"
    assert any("evaluated in run 3" in notice for notice in page["notices"]), "same tree, known result"


async def test_a_strangers_change_waits_and_one_that_is_abandoned_is_left(world: Pulls[GerritWorld]) -> None:
    number = world.open("sam", note__txt="from a stranger")
    first = world.hub.head(number)
    await hook(world, "patchset-created", number, kind="REWORK")
    page = await world.server.until("/r/2", lambda page: page["run"]["state"] == "waiting for approval")
    assert page["run"]["tier"] == "fork"
    await comment(world, number, "sam")
    await comment(world, number, "mia")
    await world.until(first, Colour.GREEN)

    number = world.open("sam", note__txt="another")
    await hook(world, "patchset-created", number, kind="REWORK")
    await world.server.until("/r/3", lambda page: page["run"]["state"] == "waiting for approval")
    world.hub.close(number)
    await hook(world, "change-abandoned", number, abandoner="sam")
    page = await world.server.ended(3)
    assert page["run"]["verdict"] == "cancelled"
    change = world.hub.state.changes[number]
    change.status, world.hub.state.now = "NEW", world.hub.state.now + 1
    change.updated = world.hub.state.now
    await hook(world, "change-restored", number, restorer="sam")
    await world.server.until("/r/4", lambda page: page["run"]["state"] == "waiting for approval")
    await comment(world, number, "mia")
    await world.until(world.hub.head(number), Colour.GREEN)


async def test_what_the_stream_tells_needs_no_hook(tmp_path: Path, fresh_store: ScratchStore) -> None:
    """A real ssh server, whose only command prints what is written to a named pipe."""
    fifo, script = tmp_path / "events", tmp_path / "stream"
    os.mkfifo(fifo)
    script.write_text(f"#!/bin/sh\nexec cat {fifo}\n")
    script.chmod(0o755)
    with ssh_server(tmp_path / "ssh", free_port()) as sshd:
        public = sshd.key.with_suffix(".pub")
        public.write_text(f'command="{script}",restrict {public.read_text()}')
        changes = {"user": getpass.getuser(), "stream": f"127.0.0.1:{sshd.port}", "private-key": "hub-ssh"}
        async with contextlib.AsyncExitStack() as stack:
            beside = await stack.enter_async_context(gerrit_beside(tmp_path, **changes))
            (tmp_path / "secrets/ssh").write_text(sshd.key.read_text())
            world = await stack.enter_async_context(pulls(tmp_path, fresh_store, beside, "insecure-git = true"))
            world.project.commit(flake__nix=flake(hello=job("hello")))
            await world.running()
            number = world.open("mia", Where.SAME, note__txt="mine")
            _, told = world.hub.deliver(Happening.PULL_REQUEST, number=number)
            writer = os.open(fifo, os.O_RDWR)
            os.write(writer, told + b"\n")
            await world.until(world.hub.head(number), Colour.GREEN)
            os.close(writer)


async def comment(world: Pulls[GerritWorld], number: int, login: str) -> None:
    """Let somebody comment, and run the hook."""
    author = world.hub.user(login, world.permission(login))
    text = "/nixmill approve"
    world.hub.write_comment(number, author, text)
    patch_set = len(world.hub.state.changes[number].patch_sets)
    await hook(world, "comment-added", number, comment=f"Patch Set {patch_set}:\n\n{text}", author=login)
