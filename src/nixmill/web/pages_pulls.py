"""Pull requests: those of a project, one of them, and everything that waits for somebody's approval.

All of it comes from a forge, so from strangers: one harmless line each, and bounded in number and length.
"""

import asyncio
from typing import Annotated, Final

import msgspec
from fastapi import APIRouter, Path, Query, Response

from nixmill.core.access import Action
from nixmill.core.project import Project
from nixmill.core.status import Status
from nixmill.core.trust import Tier
from nixmill.core.view.pulls import ApprovalsPage, PullLine, PullPage, ToApprove
from nixmill.web import urls
from nixmill.web.approving import waiting
from nixmill.web.asking import Ask, Asked
from nixmill.web.refusal import not_there
from nixmill.web.showing import as_json, see_other, show

router: Final = APIRouter()
NUMBER_MAX: Final = 2**53
COMPARE_S: Final = 15.0
"""How long the page of a pull request waits for git to say what changed."""
FILES_SHOWN: Final = 300
FIXED_SHOWN: Final = 200
PATCHES_SHOWN: Final = 20
COMMIT_MAX: Final = 64
TIER_WORDS: Final[dict[Tier, str]] = {
    Tier.FORK: "from a stranger: nothing of it runs before somebody has approved the commit",
    Tier.MEMBER: "by somebody who may write to the repository: runs at once, in the sandbox, without secrets",
    Tier.BRANCH: "on a branch of the repository",
    Tier.PROTECTED: "on a branch that the forge protects",
}
Number = Annotated[int, Path(ge=0, le=NUMBER_MAX)]
Commit = Annotated[str, msgspec.Meta(min_length=1, max_length=COMMIT_MAX, pattern="^[0-9A-Za-z]+$")]


class Approve(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Which commit of a pull request may be evaluated and built: the one that was looked at, no other."""

    commit: Commit


class Approved(msgspec.Struct, frozen=True, kw_only=True):
    """The commit may run; `runs` are the numbers of the runs that it lets go on."""

    commit: str
    runs: tuple[int, ...]


@router.get("/p/{name}/pulls")
async def pulls(
    ask: Asked,
    name: str,
    closed: bool = False,  # noqa: FBT001, FBT002 - in the query
    before: Annotated[int | None, Query(ge=0, le=NUMBER_MAX)] = None,
) -> Response:
    """Show the open pull requests of a project, or the closed ones."""
    project = await ask.project(name, Action.SEE)
    page = await ask.site.pull_pages.pulls(ask.sight, project.name, closed=closed, before=before)
    if page is None:
        raise not_there(f"project {name}")
    return show(ask, "pulls.html", page, title=f"Pull requests of {project.name}", live=before is None)


@router.get("/p/{name}/pull/{number}")
async def pull(ask: Asked, name: str, number: Number) -> Response:
    """Show a pull request: how it stands, its runs, who approved what, and what there is to approve."""
    project = await ask.project(name, Action.SEE)
    page = await ask.site.pull_pages.pull(ask.sight, project.name, number)
    if page is None:
        raise not_there(f"pull request {number} of {name}")
    if page.pull.held and ask.may(Action.APPROVE, project.id, project.visibility):
        page = msgspec.structs.replace(page, to_approve=await _to_approve(ask, project, page.pull))
    return show(
        ask,
        "pull.html",
        page,
        title=f"#{number} {page.pull.title} · {project.name}",
        status=status_of(page),
        live=page.to_approve is None,  # nothing moves under the eyes of who reads what they approve
        said=standing(page),
        tier=TIER_WORDS[page.pull.tier],
    )


@router.post("/p/{name}/pull/{number}/approve")
async def approve(ask: Asked, name: str, number: Number) -> Response:
    """Allow just the commit that was looked at to be evaluated and built."""
    project = await ask.project(name, Action.APPROVE)
    asked = await ask.take(Approve)
    via = "command line" if ask.token is not None else "page"
    runs = await ask.site.office.approve(ask.asker, project, number, asked.commit.lower(), via)
    if ask.wants_json:
        return as_json(Approved(commit=asked.commit.lower(), runs=tuple(runs)))
    return see_other(urls.run(runs[-1]) if runs else urls.pull(project.name, number))


@router.get("/approvals")
async def approvals(ask: Asked) -> Response:
    """Show every pull request that whoever asks may approve."""
    page = ApprovalsPage(pulls=await waiting(ask.site, ask.viewer))
    status = Status.WAITING if page.pulls else None
    return show(ask, "approvals.html", page, title="Waiting for approval", status=status, live=True)


async def _to_approve(ask: Ask, project: Project, line: PullLine) -> ToApprove | None:
    """Return what is to be looked at, a page full of it; with a fault where git does not say so in time."""
    try:
        async with asyncio.timeout(COMPARE_S):
            found = await ask.site.office.to_approve(project, line.number)
    except TimeoutError:
        fault = "Git has not said yet what changed, within 15 s; load the page again in a moment."
        return ToApprove.unseen(line.head_commit, fault)
    return shortened(found) if found is not None else None


def shortened(found: ToApprove) -> ToApprove:
    """Return as much of what is to be approved as a page holds; what is cut says so."""
    more = max(len(found.files) - FILES_SHOWN, 0)
    return msgspec.structs.replace(
        found,
        files=found.files[:FILES_SHOWN],
        files_more=found.files_more + more,
        sensitive=found.sensitive[:PATCHES_SHOWN],
        fixed_outputs=found.fixed_outputs[:FIXED_SHOWN],
        left_out=found.left_out + max(len(found.sensitive) - PATCHES_SHOWN, 0),
    )


def standing(page: PullPage) -> str:
    """Return in one sentence how a pull request stands."""
    line = page.pull
    if line.held:
        return "Waits for approval: nothing of this commit has been evaluated or built."
    if line.latest is None:
        return "Nothing has run for it yet." if line.state.value == "open" else f"It is {line.state.value}."
    run = line.latest
    return run.sentence or f"{run.state.value.capitalize()}."


def status_of(page: PullPage) -> Status | None:
    """Return what title and favicon say."""
    if page.pull.held:
        return Status.WAITING
    return page.pull.latest.status if page.pull.latest is not None else None
