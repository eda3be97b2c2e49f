"""`nixmill pulls`, `approve` and words such as `mill#7`, as real processes against the real application."""

import asyncio
import json
import os
import pty
import subprocess
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest

from nixmill.core.access import Scope
from nixmill.core.change import ChangeState
from nixmill.core.trust import Tier
from tests.support.client_server import ClientServer, environment
from tests.support.forge_things import a_pull, a_pull_change, an_approval
from tests.support.program import NIXMILL, Done
from tests.support.pull_pages import BASE, HEAD, LOOK, hostile_pull, joined, pulls_world
from tests.support.web import WebWorld

Nixmill = Callable[..., Awaitable[Done]]


@pytest.fixture
async def world() -> AsyncIterator[WebWorld]:
    async with pulls_world() as made:
        project = await joined(made)
        await hostile_pull(made, project)
        await made.site.pulls.approve(an_approval(project.id, commit=BASE))
        change = a_pull_change(project.id, 8, commit="e1" * 20, state=ChangeState.WAITING, tier=Tier.MEMBER)
        await made.site.pulls.saw(project.id, a_pull(8, head_commit="e1" * 20, title="Turn faster"), [change])
        made.office.look_at = LOOK
        yield made


@pytest.fixture
async def nixmill(world: WebWorld, tmp_path: Path) -> Nixmill:
    """Return what runs nixmill as the member."""
    token = await world.token("member", Scope.READ, Scope.RUN)
    server = ClientServer(world.url, tmp_path)

    async def run(*arguments: str, **more: Any) -> Done:  # noqa: ANN401 - handed on
        return await server.nixmill(*arguments, NIXMILL_TOKEN=more.pop("token", token), **more)

    return run


def done(world: WebWorld, what: str) -> list[tuple[Any, ...]]:
    return [given for call, given in world.office.calls if call == what]


async def test_pulls_are_listed(nixmill: Nixmill) -> None:
    listed, closed, as_json = await asyncio.gather(
        nixmill("pulls", "mill"), nixmill("pulls", "mill", "--closed"), nixmill("pulls", "mill", "--json")
    )
    assert listed.code == 0, listed.err
    assert "#7" in listed.out and "waits for approval" in listed.out and "Turn faster" in listed.out
    assert "\x1b" not in listed.out and "\u202e" not in listed.out
    assert "No closed pull request of mill" in closed.out
    assert [line["number"] for line in json.loads(as_json.out)["pulls"]] == [8, 7]


async def test_outside_a_checkout_it_is_said_how_to_name_a_project(
    nixmill: Nixmill, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    lost = await nixmill("pulls")
    assert lost.code == 2
    assert "No project is named" in lost.err and "nixmill pulls mill" in lost.err


async def test_one_pull_request_is_a_status(nixmill: Nixmill) -> None:
    shown = await nixmill("status", "mill#7")
    assert shown.code == 0, shown.err
    assert "waits for approval" in shown.out and "nixmill approve mill#7" in shown.out and "bob" in shown.out
    assert "nixmill approve 1" in (await nixmill("status", "1")).out


async def test_approving_shows_what_changes_and_sends_what_it_showed(world: WebWorld, nixmill: Nixmill) -> None:
    approved = await nixmill("approve", "mill#7", "--yes")
    assert approved.code == 0, approved.err
    for said in (
        "+  inputs.nixpkgs.url",
        "-  inputs.nixpkgs.url",
        "2 commits, 8 files",
        "such builds have the network",
    ):
        assert said in approved.out, said
    assert "\x1b" not in approved.out and "\u202e" not in approved.out
    assert "nixmill watch 7" in approved.err
    assert [given[2:] for given in done(world, "approve")] == [(7, HEAD, "command line")]


async def test_by_run_by_project_and_as_json(world: WebWorld, nixmill: Nixmill) -> None:
    for words in (("1",), ("pull/7", "--project", "mill"), ("mill/pull/7",), ("#7", "--project", "mill")):
        answer = await nixmill("approve", *words, "--yes", "--json")
        assert answer.code == 0, answer.err
        assert json.loads(answer.out) == {"commit": HEAD, "runs": [7]}
        assert "inputs.nixpkgs.url" in answer.err
    assert len(done(world, "approve")) == 4


async def test_nothing_is_approved_without_a_word(world: WebWorld, nixmill: Nixmill) -> None:
    silent = await nixmill("approve", "mill#7")
    moved = await nixmill("approve", "mill#7", "--commit", "d8d8d8d8", "--yes")
    short = await nixmill("approve", "mill#7", "--commit", "c", "--yes")
    for answer, said in ((silent, "nobody is there to ask"), (moved, "Somebody has pushed"), (short, "is c7c7c7c7c7")):
        assert answer.code == 2
        assert said in answer.err
    assert done(world, "approve") == []
    named = await nixmill("approve", "mill#7", "--commit", HEAD[:12], "--yes")
    assert named.code == 0, named.err


async def test_a_head_that_moves_between_the_look_and_the_answer_is_refused(world: WebWorld, nixmill: Nixmill) -> None:
    shown = msgspec.structs.replace(LOOK, commit="d8" * 20)

    async def to_approve(project: object, number: int) -> object:
        return LOOK

    world.office.to_approve = to_approve  # type: ignore[method-assign, assignment]
    world.office.look_at = shown
    answer = await nixmill("approve", "mill#7", "--yes")
    assert answer.code == 2
    assert "moved on" in answer.err


async def test_who_may_not_is_told_so(world: WebWorld, nixmill: Nixmill) -> None:
    viewer = await world.token("viewer", Scope.READ, Scope.RUN)
    reader = await world.token("member", Scope.READ)
    for token in (viewer, reader):
        answer = await nixmill("approve", "mill#7", "--yes", token=token)
        assert (answer.code, "may not approve" in answer.err) == (4, True), answer.err
    assert done(world, "approve") == []


async def test_what_does_not_wait_is_not_approved(nixmill: Nixmill) -> None:
    for words, said in ((("mill#8",), "does not wait for approval"), (("mill#99",), "no pull request 99")):
        answer = await nixmill("approve", *words, "--yes")
        assert answer.code == 2
        assert said in answer.err, answer.err
    assert "is no run" in (await nixmill("approve", "mill/7", "--yes")).err


async def test_runs_are_named_by_their_pull_request(world: WebWorld, nixmill: Nixmill) -> None:
    assert (await nixmill("cancel", "mill#8")).code == 0
    assert (await nixmill("retry", "mill#8")).code == 0
    assert done(world, "cancel")[0][1] == 2
    assert done(world, "retry")[0][1] == 2


@pytest.mark.parametrize(("typed", "code"), [(b"y\n", 0), (b"n\n", 2), (b"\n", 2)])
async def test_a_terminal_is_asked_before_anything_is_approved(
    world: WebWorld, tmp_path: Path, typed: bytes, code: int
) -> None:
    token = await world.token("member", Scope.READ, Scope.RUN)
    ours, theirs = pty.openpty()
    process = await asyncio.create_subprocess_exec(
        *NIXMILL,
        "approve",
        "mill#7",
        env=environment(tmp_path) | {"NIXMILL_SERVER": world.url, "NIXMILL_TOKEN": token},
        stdin=theirs,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    os.close(theirs)
    assert process.stderr is not None
    async with asyncio.timeout(60):
        asked = await process.stderr.readuntil(b"[y/N] ")
        assert b"in a sandbox, without secrets" in asked
        os.write(ours, typed)
        await process.communicate()
    os.close(ours)
    assert process.returncode == code
    assert len(done(world, "approve")) == (code == 0)
