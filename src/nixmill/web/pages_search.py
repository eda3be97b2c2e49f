"""One box that finds projects, branches, attributes, store paths, derivations, commits and runs."""

from typing import Annotated, Final

from fastapi import APIRouter, Query, Response

from nixmill.core.view.pages import Found, SearchPage
from nixmill.web.asking import Asked
from nixmill.web.showing import see_other, show

router = APIRouter()

FOUND_MAX: Final = 100
QUERY_MAX: Final = 400


@router.get("/search")
async def search(ask: Asked, q: Annotated[str, Query(max_length=QUERY_MAX)] = "", stay: str | None = None) -> Response:
    """Show what was found; where it is one thing, go there at once, unless `stay` is in the address."""
    query = q.strip()
    nothing = SearchPage(query=query, found=(), more=False)
    page = await ask.site.project_pages.search(ask.sight, query, FOUND_MAX) if query else nothing
    if stay is None and not ask.wants_json and (link := _only(page)):
        return see_other(link)
    title = f"Search for {query}" if query else "Search"
    return show(ask, "search.html", page, title=title, kinds=_by_kind(page))


def _only(page: SearchPage) -> str:
    """Return where the only thing found is; never an address elsewhere."""
    link = page.found[0].link if len(page.found) == 1 and not page.more else ""
    return link if link.startswith("/") and not link.startswith(("//", "/\\")) else ""


def _by_kind(page: SearchPage) -> dict[str, list[Found]]:
    """Return what was found by kind, the kind of the best one first."""
    kinds: dict[str, list[Found]] = {}
    for found in page.found:
        kinds.setdefault(found.kind, []).append(found)
    return kinds
