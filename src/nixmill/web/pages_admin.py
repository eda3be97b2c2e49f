"""Administration: what needs attention, who did what, messages, retention."""

from enum import StrEnum
from typing import Annotated, Final

import msgspec
from fastapi import APIRouter, Query, Response

from nixmill import __version__
from nixmill.config.server import Retention
from nixmill.core.access import Action
from nixmill.core.history import Pruned
from nixmill.core.view.pages import AdminPage, DeliveryLine
from nixmill.web.asking import Ask, Asked
from nixmill.web.showing import show

router = APIRouter()

SHOWN: Final = 10
"""Lines of the audit log and dead letters on the first page."""
AUDIT_LINES: Final = 100
DELIVERIES: Final = 500
WAITING_MAX: Final = 10_000
HOOK_RUNS: Final = 10


class DeliveryState(StrEnum):
    """What the list of messages can be narrowed to."""

    WAITING = "waiting"
    SENT = "sent"
    DEAD = "dead"


class DeliveriesPage(msgspec.Struct, frozen=True, kw_only=True):
    """`/admin/deliveries`."""

    state: DeliveryState | None
    lines: tuple[DeliveryLine, ...]


class RetentionPage(msgspec.Struct, frozen=True, kw_only=True):
    """`/admin/retention`: what is kept, and what a pruning did or would do."""

    retention: Retention
    rows: dict[str, int]
    pruned: Pruned | None = None
    dry_run: bool = True


@router.get("/admin")
async def admin(ask: Asked) -> Response:
    """Show the one page that says what needs attention."""
    ask.require(Action.SEE_ADMIN)
    doors = ask.site.admin_pages
    waiting = await doors.deliveries(DeliveryState.WAITING, WAITING_MAX)
    page = AdminPage(
        needs=tuple(await ask.site.office.needs(ask.sight)),
        forecasts=tuple(await ask.site.office.forecasts()),
        users=tuple(await doors.users()),
        dead=tuple(await doors.deliveries(DeliveryState.DEAD, SHOWN)),
        pending_deliveries=len(waiting),
        audit=(await doors.audit(None, SHOWN, "")).lines,
        database=await doors.describe(),
        rows=dict(await doors.rows()),
        version=__version__,
        retention=msgspec.structs.asdict(ask.site.settings.retention),
    )
    hooks = await doors.hook_runs(ask.sight, None, HOOK_RUNS)
    return show(ask, "admin.html", page, title="Administration", hooks=hooks)


@router.get("/admin/audit")
async def audit(
    ask: Asked,
    before: Annotated[int | None, Query(ge=0, le=2**53)] = None,
    find: Annotated[str, Query(max_length=200)] = "",
) -> Response:
    """Show who did what, newest first."""
    ask.require(Action.SEE_ADMIN)
    page = await ask.site.admin_pages.audit(before, AUDIT_LINES, find.strip())
    return show(ask, "audit.html", page, title="Audit log", find=find.strip(), before=before)


@router.get("/admin/deliveries")
async def deliveries(ask: Asked, state: DeliveryState | None = None) -> Response:
    """Show messages on their way, sent, or given up."""
    ask.require(Action.SEE_ADMIN)
    lines = await ask.site.admin_pages.deliveries(state, DELIVERIES)
    page = DeliveriesPage(state=state, lines=tuple(lines))
    return show(ask, "deliveries.html", page, title="Messages", states=tuple(DeliveryState), most=DELIVERIES)


@router.get("/admin/retention")
async def retention(ask: Asked) -> Response:
    """Show what is kept, with the button that shows what would go."""
    return await retention_shown(ask)


async def retention_shown(ask: Ask, pruned: Pruned | None = None, *, dry_run: bool = True) -> Response:
    """Show the page about retention, with what a pruning did or would do: also the answer to its form."""
    ask.require(Action.SEE_ADMIN)
    page = RetentionPage(
        retention=ask.site.settings.retention,
        rows=dict(await ask.site.admin_pages.rows()),
        pruned=pruned,
        dry_run=dry_run,
    )
    return show(ask, "retention.html", page, title="Retention", may_prune=ask.may(Action.CHANGE_SERVER))
