"""The client of forges over real HTTP, against answers that no good forge would give."""

from typing import Any

import msgspec
import pytest

from nixmill.doors import DoorError
from nixmill.edge.forge.web import ANSWER_MAX, Ask, ForgeWeb
from nixmill.edge.system_clock import SystemClock
from tests.support.receiver import answer, receiving


async def read(*answers: bytes | None, **changes: Any) -> tuple[Any, list[str]]:  # noqa: ANN401
    """Return what was read, and the paths that were asked for."""
    async with receiving(*answers) as other:
        web = ForgeWeb(other.address, name="forge", clock=SystemClock(), time_limit_s=0.3)
        ask = Ask("GET", "/x", "read x", headers={"authorization": "Bearer s3cret"})
        try:
            return await web.read(dict[str, int], ask._replace(**changes)), [one.path for one in other.requests]
        finally:
            await web.aclose()


async def test_a_redirect_to_another_server_is_not_followed() -> None:
    async with receiving(answer("200 OK", body=b"{}")) as evil:
        with pytest.raises(DoorError, match="elsewhere"):
            await read(answer("302 Found", f"Location: {evil.address}/x"))
        assert evil.requests == []


async def test_a_redirect_on_the_same_server_is() -> None:
    found, paths = await read(answer("301 Moved", "Location: /y"), answer("200 OK", body=b'{"a": 1}'))
    assert (found, paths) == ({"a": 1}, ["/x", "/y"])


async def test_redirects_end() -> None:
    with pytest.raises(DoorError, match="301"):
        await read(answer("301 Moved", "Location: /x"))


async def test_a_post_is_not_redirected() -> None:
    with pytest.raises(DoorError, match="only reading"):
        await read(answer("307 Moved", "Location: /y"), answer("200 OK", body=b"{}"), method="POST")


async def test_an_answer_that_is_too_long() -> None:
    with pytest.raises(DoorError, match="longer than 8 MiB") as caught:
        await read(answer("200 OK", body=b" " * (ANSWER_MAX + 1)))
    assert caught.value.retryable


async def test_an_answer_that_does_not_come() -> None:
    with pytest.raises(DoorError, match=r"did not answer within 0\.3 s") as caught:
        await read(None)
    assert caught.value.retryable


async def test_an_address_where_nobody_is() -> None:
    web = ForgeWeb("http://127.0.0.1:9", name="forge", clock=SystemClock())
    with pytest.raises(DoorError) as caught:
        await web.send(Ask("GET", "/x", "read x"))
    assert caught.value.retryable
    await web.aclose()


async def test_a_list_that_links_to_another_server_stays_here() -> None:
    async with receiving(answer("200 OK", body=b"[9]")) as evil:
        first = answer("200 OK", f'Link: <{evil.address}/p?page=2>; rel="next"', body=b"[1]")
        async with receiving(first, answer("200 OK", body=b"[2]")) as other:
            web = ForgeWeb(other.address, name="forge", clock=SystemClock())
            assert await web.read_all(int, Ask("GET", "/p", "list p")) == [1, 2]
            assert [one.path for one in other.requests] == ["/p", "/p?page=2"]
            await web.aclose()
        assert evil.requests == []


@pytest.mark.parametrize("body", [b"\xff", b"[" * 100_000, b'{"a": "x"}', b"", b"null"], ids=range(5))
async def test_an_answer_that_makes_no_sense(body: bytes) -> None:
    with pytest.raises(DoorError, match="makes no sense") as caught:
        await read(answer("200 OK", body=body))
    assert caught.value.retryable and len(str(caught.value)) < 600


async def test_a_strangers_words_in_a_refusal_are_tamed() -> None:
    body = msgspec.json.encode({"message": "\x1b]0;evil\x07" + "x" * 5000})
    with pytest.raises(DoorError) as caught:
        await read(answer("400 Bad Request", body=body))
    assert "\x1b" not in str(caught.value) and len(str(caught.value)) < 600


@pytest.mark.parametrize("token", ["s3cret\nx", "s3cr\u00e9t", "s3cret\x00", "s3cr\u2028t"], ids=range(4))
async def test_a_credential_that_no_header_can_carry_is_in_no_sentence(token: str) -> None:
    with pytest.raises(DoorError, match="characters that no request can carry") as caught:
        await read(answer("200 OK", body=b"{}"), headers={"authorization": f"Bearer {token}"})
    assert "s3cr" not in f"{caught.value} {caught.value.__context__!r} {caught.value.__cause__!r}"
    assert not caught.value.retryable
