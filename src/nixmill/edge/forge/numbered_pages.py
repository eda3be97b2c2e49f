"""Lists whose pages are numbered, with the addresses made by us.

The addresses in `Link` headers name the forge as people reach it, which may not be where we reach it.
"""

from typing import Final, TypeVar

from nixmill.edge.forge.web import Ask, ForgeWeb

PAGES_MAX: Final = 200
"""Pages of one list that are read."""

T = TypeVar("T")


async def read_pages(web: ForgeWeb, kind: type[T], ask: Ask, *, limit: int) -> list[T]:
    """Return the items of a list, at most `limit`; empty where it is not there.

    A page may be shorter than was asked for, so only the forge's own count or an empty page ends the list.
    """
    found: list[T] = []
    for number in range(1, PAGES_MAX + 1):
        page, total = await _page(web, kind, ask._replace(query={**ask.query, "page": number}))
        found += page
        if not page or len(found) >= limit or (total is not None and len(found) >= total):
            break
    return found[:limit]


async def _page(web: ForgeWeb, kind: type[T], ask: Ask) -> tuple[list[T], int | None]:
    answer = await web.send(ask)
    if not 200 <= answer.status < 300:
        return [], None
    # mypy cannot see that list[kind] is a type.
    items = web.decoded(list[kind] | None, answer, ask)  # type: ignore[arg-type, valid-type]
    total = answer.headers.get("x-total-count") or answer.headers.get("x-total", "")
    return items or [], int(total[:9]) if total.isascii() and total.isdigit() else None
