"""Binary caches: what there is, how it is used, and what is on its way into it."""

from typing import Annotated, Final

import msgspec
from fastapi import APIRouter, Path, Response

from nixmill.core.access import Action
from nixmill.core.upload import UploadState
from nixmill.core.view.roots import CachesPage
from nixmill.web import urls
from nixmill.web.actions import Nothing
from nixmill.web.asking import Asked
from nixmill.web.refusal import not_there
from nixmill.web.showing import as_json, see_other, show

router: Final = APIRouter()
STUCK: Final = (UploadState.FAILED, UploadState.REFUSED)
"""What a person can have tried again."""
Name = Annotated[str, Path(max_length=200)]


class Retried(msgspec.Struct, frozen=True, kw_only=True):
    """How many uploads are tried again."""

    retried: int


@router.get("/caches")
async def caches(ask: Asked) -> Response:
    """Show the binary caches."""
    page = CachesPage(caches=tuple(await ask.site.cache_desk.caches(ask.sight)))
    return show(ask, "caches.html", page, title="Binary caches")


@router.get("/caches/{name}")
async def cache(ask: Asked, name: Name) -> Response:
    """Show a cache: how to use it, its keys, and what waits for it or failed."""
    page = await ask.site.cache_desk.cache(ask.sight, name)
    if page is None:
        raise not_there("cache of that name")
    stuck = sum(page.cache.counts.get(state.value, 0) for state in STUCK)
    may_retry = ask.may(Action.CHANGE_SERVER)
    return show(ask, "cache.html", page, title=f"Cache {page.cache.name}", stuck=stuck, may_retry=may_retry)


@router.post("/caches/{name}/retry")
async def retry(ask: Asked, name: Name) -> Response:
    """Try again what was given up or refused."""
    ask.require(Action.CHANGE_SERVER)
    await ask.take(Nothing)
    count = await ask.site.cache_desk.retry(ask.asker, name)
    if count is None:
        raise not_there("cache of that name")
    return as_json(Retried(retried=count)) if ask.wants_json else see_other(urls.cache(name))
