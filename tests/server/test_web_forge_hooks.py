"""Webhooks of forges over real HTTP: verified on the raw body, recorded once, and acknowledged before anything else."""

import asyncio
from collections.abc import AsyncIterator, Mapping
from typing import Any, Final
from urllib.parse import urlsplit

import pytest

from nixmill.config.server import ServerSettings
from nixmill.core.forge import HintKind
from nixmill.doors import DoorError
from tests.contract.forge_world import Happening
from tests.fakes.forge import FakeForge
from tests.support.web import Browser, WebWorld, web_world

LIMIT: Final = 25 * 1024 * 1024


@pytest.fixture
def forge() -> FakeForge:
    return FakeForge()


@pytest.fixture
async def world(forge: FakeForge) -> AsyncIterator[WebWorld]:
    async with web_world(ServerSettings(), forges={"forge": forge}) as made:
        yield made


@pytest.fixture
async def sender(world: WebWorld) -> Browser:
    return await world.browser(headers={"Accept": "application/json"})


async def send(
    sender: Browser, headers: Mapping[str, str], body: bytes, name: str = "forge"
) -> tuple[int, dict[str, Any]]:
    answer = await sender.http.post(f"/hook/forge/{name}", content=body, headers=dict(headers))
    return answer.status_code, answer.json()


def taken(world: WebWorld) -> list[Any]:
    return [given for call, given in world.office.calls if call == "took"]


async def test_a_signed_delivery_is_recorded_once(world: WebWorld, sender: Browser, forge: FakeForge) -> None:
    headers, body = forge.deliver(Happening.PUSH)
    code, said = await send(sender, headers, body)
    assert (code, said["accepted"]) == (202, True)
    assert said["delivery"]
    code, said = await send(sender, headers, body)
    assert (code, said["accepted"]) == (200, False)
    assert [given[0] for given in taken(world)] == ["forge", "forge"]
    assert taken(world)[0][1].hints[0].kind is HintKind.PUSH


async def test_either_secret_will_do_while_they_are_rotated(sender: Browser, forge: FakeForge) -> None:
    _, body = forge.deliver(Happening.PUSH)
    for secret in ("new", "old"):
        assert (await send(sender, forge.sign(body, secret), body))[0] in {200, 202}


async def test_who_does_not_know_the_secret_learns_nothing(world: WebWorld, sender: Browser, forge: FakeForge) -> None:
    """Neither that a forge of that name exists, nor whether the body made sense."""
    headers, body = forge.deliver(Happening.PUSH)
    told = [
        await send(sender, forge.sign(body, "guessed"), body),
        await send(sender, {"content-type": "application/json"}, body),
        await send(sender, forge.sign(b"other"), body),
        await send(sender, forge.sign(body, "guessed"), b"no json"),
        await send(sender, headers, body, "another"),
    ]
    assert {code for code, _ in told} == {401}
    assert {answer["error"] for _, answer in told} == {told[0][1]["error"]}
    assert taken(world) == []


async def test_a_body_that_was_changed_on_the_way_is_refused(sender: Browser, forge: FakeForge) -> None:
    headers, body = forge.deliver(Happening.PUSH)
    assert (await send(sender, headers, body + b" "))[0] == 401


async def test_what_is_signed_and_makes_no_sense_is_400(world: WebWorld, sender: Browser, forge: FakeForge) -> None:
    for body in (b"", b"no json", b"[]", b"\xff\xfe", b"[" * 100_000):
        code, said = await send(sender, forge.sign(body), body)
        assert code == 400
        assert "makes no sense" in said["error"]
    assert taken(world) == []


async def test_25_megabytes_are_taken_and_not_a_byte_more(world: WebWorld, sender: Browser, forge: FakeForge) -> None:
    _, body = forge.deliver(Happening.PUSH)
    most = body + b" " * (LIMIT - len(body))
    assert (await send(sender, forge.sign(most), most))[0] == 202
    assert len(taken(world)) == 1
    assert (await announced(world, LIMIT + 1)).startswith(b"HTTP/1.1 413 ")


async def announced(world: WebWorld, length: int) -> bytes:
    """Return the first line of the answer to a delivery that only says how long it is going to be."""
    parts = urlsplit(world.url)
    reader, writer = await asyncio.open_connection(parts.hostname, parts.port)
    writer.write(f"POST /hook/forge/forge HTTP/1.1\r\nHost: x\r\nContent-Length: {length}\r\n\r\n".encode())
    async with asyncio.timeout(20):
        line = await reader.readline()
    writer.close()
    return line.rstrip()


async def test_a_delivery_that_could_not_be_recorded_is_to_be_sent_again(
    world: WebWorld, sender: Browser, forge: FakeForge
) -> None:
    world.office.fault = DoorError("It is away.", door="history", action="record", retryable=True)
    headers, body = forge.deliver(Happening.PUSH)
    assert (await send(sender, headers, body))[0] == 503
    world.office.fault = None
    assert (await send(sender, headers, body))[0] == 202


async def test_a_stranger_needs_neither_session_nor_token_of_a_form(world: WebWorld, forge: FakeForge) -> None:
    headers, body = forge.deliver(Happening.PUSH)
    from_elsewhere = await world.browser(headers={"Origin": "https://forge.example", "Sec-Fetch-Site": "cross-site"})
    assert (await send(from_elsewhere, headers, body))[0] == 202
