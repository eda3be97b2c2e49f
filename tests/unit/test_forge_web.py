"""The client of forges without a network: paths, limits, and answers that are kept."""

import pytest

from nixmill.doors import DoorError
from nixmill.edge.forge.limits import wait_s
from nixmill.edge.forge.memory import Kept, Memory
from nixmill.edge.forge.web import path_of

NOW = 1_700_000_000.0


@pytest.mark.parametrize(
    ("status", "headers", "said", "expected"),
    [
        (403, {"x-ratelimit-remaining": "0", "x-ratelimit-reset": "1700000030"}, "", 30),
        (429, {"x-ratelimit-remaining": "0", "x-ratelimit-reset": "1700000030"}, "", 30),
        (403, {"x-ratelimit-remaining": "0", "x-ratelimit-reset": "1600000000"}, "", 1),
        (403, {"x-ratelimit-remaining": "0", "x-ratelimit-reset": "99999999999999"}, "", 86_400),
        (403, {"x-ratelimit-remaining": "0"}, "", 60),
        (403, {"retry-after": "17"}, "You have exceeded a secondary rate limit", 17),
        (403, {"x-ratelimit-remaining": "4999"}, "You have exceeded a secondary rate limit", 60),
        (403, {"x-ratelimit-remaining": "4999", "x-ratelimit-reset": "1700000030"}, "Resource not accessible", None),
        (403, {}, "", None),
        (401, {"retry-after": "17"}, "", None),
        (404, {}, "rate limit", None),
        (429, {}, "", 60),
        (429, {"ratelimit-reset": "1700000045"}, "", 45),
        (429, {"ratelimit-reset": "soon"}, "", 60),
        (429, {"retry-after": "Tue, 14 Nov 2023 22:13:50 GMT"}, "", 30),
        (429, {"retry-after": "-5"}, "", 60),
        (429, {"retry-after": "9" * 40}, "", 86_400),
        (503, {"retry-after": "5"}, "", 5),
        (503, {}, "", None),
        (500, {"retry-after": "5"}, "", None),
    ],
)
def test_how_long_a_forge_wants_to_be_left_alone(
    status: int, headers: dict[str, str], said: str, expected: float | None
) -> None:
    assert wait_s(status, headers, said, NOW) == expected


def test_parts_of_a_path_stay_parts() -> None:
    assert path_of("repos", "a/b", "ö?#%2f", 7, ".x") == "/repos/a%2Fb/%C3%B6%3F%23%252f/7/.x"


@pytest.mark.parametrize("part", ["", ".", "..", "a\0b"])
def test_what_can_be_no_part(part: str) -> None:
    with pytest.raises(DoorError) as caught:
        path_of("repos", part)
    assert not caught.value.retryable


def test_answers_are_kept_in_bounded_space() -> None:
    memory = Memory(limit=30)
    kept = {name: Kept(name, {}, b"0123456789") for name in "abcd"}
    for name in "abc":
        memory.put((name, ""), kept[name])
    assert memory.get(("a", "")) == kept["a"]
    memory.put(("d", ""), kept["d"])
    assert [memory.get((name, "")) is not None for name in "abcd"] == [True, False, True, True]
    memory.put(("a", ""), kept["a"])
    assert [memory.get((name, "")) is not None for name in "abcd"] == [True, False, True, True]
    memory.put(("e", ""), Kept("e", {}, b"x" * 31))
    assert memory.get(("e", "")) is None and memory.get(("a", "")) is None
