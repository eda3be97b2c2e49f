"""A derivation with all attempts at it, and the attempts of a run over time."""

from typing import Annotated

from fastapi import APIRouter, Path, Response

from nixmill.core.access import Action
from nixmill.core.change import FINAL
from nixmill.core.view.pages import DerivationPage
from nixmill.nix.store_path import StorePath, StorePathError, is_derivation, parse
from nixmill.web import gantt, urls
from nixmill.web.asking import Ask, Asked
from nixmill.web.showing import not_there, show

router = APIRouter()

RunNumber = Annotated[int, Path(ge=0, le=2**53)]


@router.get("/d/{name}")
async def derivation(ask: Asked, name: str) -> Response:
    """Show a derivation: what is remembered of it, every attempt, who needs it."""
    drv_path = _drv_path(name, ask.site.store_dir)
    page = await ask.site.build_pages.derivation(ask.sight, drv_path)
    if page is None:
        raise not_there("derivation of that name")
    return show(
        ask,
        "derivation.html",
        page,
        title=f"{page.name}, derivation",
        status=page.attempts[0].status if page.attempts else None,
        forgettable=_forgettable(ask, page),
    )


@router.get("/r/{number}/timeline")
async def timeline(ask: Asked, number: RunNumber) -> Response:
    """Show the attempts of a run by machine over time."""
    page = await ask.site.run_pages.timeline(ask.sight, number)
    if page is None:
        raise not_there(f"run {number}")
    return show(
        ask,
        "timeline.html",
        page,
        title=f"Timeline of run {number}",
        status=page.run.status,
        live=urls.run(number) if page.run.state not in FINAL else False,
        chart=gantt.drawn(page, ask.site.clock.now()),
        critical=frozenset(page.critical),
    )


def _drv_path(name: str, store_dir: str) -> StorePath:
    try:
        path = parse(f"{store_dir}/{name}", store_dir)
    except StorePathError:
        raise not_there("derivation of that name") from None
    if not is_derivation(path):
        raise not_there("derivation of that name")
    return path


def _forgettable(ask: Ask, page: DerivationPage) -> frozenset[int]:
    """Return the ids of projects whose memory of this failure whoever asks may clear."""
    links = [failure.project for failure in page.remembered]
    return frozenset(link.id for link in links if ask.may(Action.CLEAR_FAILURE, link.id, link.visibility))
