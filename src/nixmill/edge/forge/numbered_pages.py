"""Lists whose pages are numbered, with the addresses made by us.

The addresses in `Link` headers name the forge as people reach it, which may not be where we reach it.
"""

from typing import Final, TypeVar

from nixmill.edge.forge.web import Answer, Ask, ForgeWeb

PAGES_MAX: Final = 200
"""Pages of one list that are read."""
ITEMS_MAX: Final = 10**9

T = TypeVar("T")


async def read_pages(web: ForgeWeb, kind: type[T], ask: Ask, *, limit: int) -> list[T]:
    """Return the items of a list, at most `limit`; empty where it is not there.

    A page may be shorter than was asked for, so only the forge's own count or an empty page ends the list; or the same
    page once more, where the forge has no pages of this list.
    """
    found: list[T] = []
    before = b""
    for number in range(1, PAGES_MAX + 1):
        answer = await web.send(ask._replace(query={**ask.query, "page": number}))
        if not 200 <= answer.status < 300 or answer.body == before:
            break
        # mypy cannot see that list[kind] is a type.
        page = web.decoded(list[kind] | None, answer, ask)  # type: ignore[arg-type, valid-type]
        found += page or []
        if not page or len(found) >= min(limit, _total(answer)):
            break
        before = answer.body
    return found[:limit]


def _total(answer: Answer) -> int:
    """Return how many items there are, as the forge counts them."""
    told = answer.headers.get("x-total-count") or answer.headers.get("x-total", "")
    return int(told[:9]) if told.isascii() and told.isdigit() else ITEMS_MAX
