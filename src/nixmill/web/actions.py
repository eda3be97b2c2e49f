"""What people and programs do to runs: start, retry, cancel, look, forget. A form leads on, JSON answers in JSON."""

from typing import Annotated, Final

import msgspec
from fastapi import APIRouter, Path, Response

from nixmill.core.access import Action
from nixmill.core.errors import InputError
from nixmill.core.view.parts import RunLine
from nixmill.engine.office import Again
from nixmill.nix.attr_path import AttrPath, AttrPathError, parse
from nixmill.nix.store_path import StorePath
from nixmill.web import urls
from nixmill.web.asking import Ask, Asked
from nixmill.web.pages_admin import retention_shown
from nixmill.web.showing import as_json, not_there, see_other

router: Final = APIRouter()
Number = Annotated[int, Path(ge=0, le=2**53)]


class Start(msgspec.Struct, forbid_unknown_fields=True):
    """What to run: a branch, a tag, or a commit."""

    ref: str = ""
    commit: str = ""
    targets: tuple[str, ...] = ()


class Retry(msgspec.Struct, forbid_unknown_fields=True):
    """What to try again."""

    what: Again = Again.FAILED
    attribute: str = ""


class Forget(msgspec.Struct, forbid_unknown_fields=True):
    """Which remembered failures no longer count: those of these derivations, or all."""

    drv_paths: tuple[str, ...] | None = None


class Nothing(msgspec.Struct, forbid_unknown_fields=True):
    """A request that needs no words."""


class Prune(msgspec.Struct, forbid_unknown_fields=True):
    """Whether to forget, or only to show what would be forgotten."""

    dry_run: bool = True


@router.post("/p/{name}/start")
async def start(ask: Asked, name: str) -> Response:
    """Start a run by hand."""
    project = await ask.project(name, Action.START)
    asked = await ask.take(Start)
    number = await ask.site.office.start(ask.asker, project, asked.ref.strip(), asked.targets, asked.commit.strip())
    return _run(ask, number)


@router.post("/p/{name}/look")
async def look(ask: Asked, name: str) -> Response:
    """Look at the remote now."""
    project = await ask.project(name, Action.START)
    await ask.take(Nothing)
    await ask.site.office.look(ask.asker, project)
    return as_json({}) if ask.wants_json else see_other(urls.project(project.name))


@router.post("/p/{name}/failures/forget")
async def forget(ask: Asked, name: str) -> Response:
    """Forget remembered failures."""
    project = await ask.project(name, Action.CLEAR_FAILURE)
    asked = await ask.take(Forget)
    drv_paths = None if asked.drv_paths is None else [StorePath(path) for path in asked.drv_paths]
    count = await ask.site.office.forget_failures(ask.asker, project, drv_paths)
    if ask.wants_json:
        return as_json({"forgotten": count})
    alone = drv_paths[0] if drv_paths and len(drv_paths) == 1 else None
    return see_other(urls.derivation(alone) if alone else urls.project(project.name))


@router.post("/r/{number}/retry")
async def retry(ask: Asked, number: Number) -> Response:
    """Try a run again, as a new run of the same tree."""
    run = await _seen(ask, number, Action.RETRY)
    asked = await ask.take(Retry)
    what = Again.ATTRIBUTE if asked.attribute and asked.what is Again.FAILED else asked.what
    path = _path(asked.attribute) if what in {Again.ATTRIBUTE, Again.BUILD} else None
    return _run(ask, await ask.site.office.retry(ask.asker, run.number, what, path))


@router.post("/r/{number}/cancel")
async def cancel(ask: Asked, number: Number) -> Response:
    """Cancel a run; what others want too goes on for them."""
    run = await _seen(ask, number, Action.CANCEL)
    await ask.take(Nothing)
    cancelled = await ask.site.office.cancel(ask.asker, run.number)
    return as_json({"cancelled": cancelled}) if ask.wants_json else see_other(urls.run(run.number))


@router.post("/admin/deliveries/{parcel}/replay")
async def replay(ask: Asked, parcel: Number) -> Response:
    """Send a message again that was given up."""
    ask.require(Action.CHANGE_SERVER)
    await ask.take(Nothing)
    again = await ask.site.office.replay(ask.asker, parcel)
    if not again:
        raise not_there(f"given-up message {parcel}")
    return as_json({"replayed": again}) if ask.wants_json else see_other(urls.admin("deliveries"))


@router.post("/admin/retention")
async def retention(ask: Asked) -> Response:
    """Forget what retention does not keep, or show what that would be."""
    ask.require(Action.CHANGE_SERVER)
    asked = await ask.take(Prune)
    pruned = await ask.site.office.prune(ask.asker, dry_run=asked.dry_run)
    return await retention_shown(ask, pruned, dry_run=asked.dry_run)


async def _seen(ask: Ask, number: int, action: Action) -> RunLine:
    """Return a run on which something may be done; raise 404 or 403."""
    run = await ask.site.run_pages.run(ask.sight, number)
    if run is None:
        raise not_there(f"run {number}")
    ask.require(action, run.project.id, run.project.visibility)
    return run


def _path(text: str) -> AttrPath:
    try:
        return parse(text)
    except AttrPathError as error:
        raise InputError(f"{text!r} is no attribute: {error}") from error


def _run(ask: Ask, number: int) -> Response:
    return as_json({"number": number}, 201) if ask.wants_json else see_other(urls.run(number))
