"""What is kept alive: of a project, of the whole server; pins by hand, and the dry run of a collection."""

from typing import Annotated, Final

import msgspec
from fastapi import APIRouter, Query, Response

from nixmill.core.access import Action
from nixmill.core.project import Project
from nixmill.core.time_limit import until
from nixmill.core.view.roots import CollectionState
from nixmill.doors.pages_roots import RootsWanted
from nixmill.engine.root_desk import full_ref
from nixmill.nix.store_path import StorePath
from nixmill.web import urls
from nixmill.web.actions import Nothing
from nixmill.web.asking import Ask, Asked
from nixmill.web.refusal import not_there
from nixmill.web.showing import as_json, see_other, show

router: Final = APIRouter()
AFTER_MAX: Final = 8000
"""Characters of the place where a page ends: it holds the name of an attribute."""
Find = Annotated[str, Query(max_length=400)]
After = Annotated[str, Query(max_length=AFTER_MAX)]
Ref = Annotated[str, Query(max_length=1000)]
Hand = Annotated[int | None, Query(ge=0, le=2**53)]
What = Annotated[str, msgspec.Meta(min_length=1, max_length=4000)]


class PinForm(msgspec.Struct, forbid_unknown_fields=True):
    """What to keep: a store path, or an attribute of the project; `until` as in `30d`, `12h`, `2027-01-31`."""

    what: What
    reason: Annotated[str, msgspec.Meta(min_length=1, max_length=500)]
    until: Annotated[str, msgspec.Meta(max_length=40)] = ""
    """Empty: until it is unpinned."""
    ref: Annotated[str, msgspec.Meta(max_length=1000)] = ""
    """The branch whose newest good result is meant; empty: the default branch."""


class UnpinForm(msgspec.Struct, forbid_unknown_fields=True):
    """What not to keep any more: as it was pinned."""

    what: What
    ref: Annotated[str, msgspec.Meta(max_length=1000)] = ""


class PinnedPaths(msgspec.Struct, frozen=True, kw_only=True):
    """The store paths that were pinned, or unpinned."""

    paths: tuple[StorePath, ...]


@router.get("/roots")
async def server(ask: Asked, find: Find = "", after: After = "", hand: Hand = None) -> Response:
    """Show what is kept, by project and reason, and the largest closures."""
    wanted = RootsWanted(find=find.strip(), after=after, hand=hand)
    page = await ask.site.root_desk.server(ask.sight, wanted)
    return show(ask, "roots.html", page, title="What is kept", may_pin=ask.may(Action.CHANGE_SERVER), first=not after)


@router.get("/p/{name}/roots")
async def project(
    ask: Asked, name: str, ref: Ref = "", find: Find = "", after: After = "", hand: Hand = None
) -> Response:
    """Show what is kept for a project: why, until when, how large."""
    found = await ask.project(name, Action.SEE)
    wanted = RootsWanted(ref=full_ref(ref), find=find.strip(), after=after, hand=hand)
    page = await ask.site.root_desk.project(ask.sight, found.name, wanted)
    if page is None:
        raise not_there(f"project {name}")
    may_pin = ask.may(Action.PIN, found.id, found.visibility)
    title = f"What is kept of {found.name}"
    return show(ask, "project_roots.html", page, title=title, may_pin=may_pin, first=not after and hand is None)


@router.post("/p/{name}/roots/pin")
async def pin(ask: Asked, name: str) -> Response:
    """Keep a store path, or an attribute's newest good result, for a project."""
    return await _pin(ask, await ask.project(name, Action.PIN))


@router.post("/p/{name}/roots/unpin")
async def unpin(ask: Asked, name: str) -> Response:
    """Take back what was pinned for a project."""
    return await _unpin(ask, await ask.project(name, Action.PIN))


@router.post("/roots/pin")
async def pin_for_server(ask: Asked) -> Response:
    """Keep a store path for the whole server."""
    ask.require(Action.CHANGE_SERVER)
    return await _pin(ask, None)


@router.post("/roots/unpin")
async def unpin_for_server(ask: Asked) -> Response:
    """Take back what was pinned for the whole server."""
    ask.require(Action.CHANGE_SERVER)
    return await _unpin(ask, None)


@router.get("/roots/collection")
async def collection(ask: Asked) -> Response:
    """Show what a collection of garbage would free, as the last dry run found it."""
    ask.require(Action.SEE_ADMIN)
    page = ask.site.root_desk.collection()
    going = page.state in {CollectionState.LISTING, CollectionState.MEASURING}
    may_begin = ask.may(Action.CHANGE_SERVER)
    return show(ask, "collection.html", page, title="What a collection would free", going=going, may_begin=may_begin)


@router.post("/roots/collection")
async def collect_dry(ask: Asked) -> Response:
    """Begin a dry run of a collection. Nothing is deleted."""
    ask.require(Action.CHANGE_SERVER)
    await ask.take(Nothing)
    page = await ask.site.root_desk.collect_dry(ask.asker)
    return as_json(page, 202) if ask.wants_json else see_other(urls.collection())


async def _pin(ask: Ask, project: Project | None) -> Response:
    form = await ask.take(PinForm)
    end = until(form.until, ask.site.clock.now())
    paths = await ask.site.root_desk.pin(ask.asker, project, form.what, form.reason, end, form.ref)
    return _did(ask, project, tuple(paths))


async def _unpin(ask: Ask, project: Project | None) -> Response:
    form = await ask.take(UnpinForm)
    return _did(ask, project, tuple(await ask.site.root_desk.unpin(ask.asker, project, form.what, form.ref)))


def _did(ask: Ask, project: Project | None, paths: tuple[StorePath, ...]) -> Response:
    if ask.wants_json:
        return as_json(PinnedPaths(paths=paths))
    return see_other(f"{urls.roots_of(project.name) if project is not None else urls.roots()}#hand")
