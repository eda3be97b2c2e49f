"""Home, projects, branches, attributes: what goes on, and how it went before."""

import statistics
from typing import Annotated, Final

import msgspec
from fastapi import APIRouter, Query, Response

from nixmill.core.access import role_of
from nixmill.core.project import default_branch as known_default
from nixmill.core.status import Status
from nixmill.core.terminal_text import counted
from nixmill.core.view.pages import AttributePage, BranchPage, ChecklistItem, HomePage, Need
from nixmill.core.view.parts import RunLine
from nixmill.nix.attr_path import AttrPath, AttrPathError, parse
from nixmill.web import urls, writing
from nixmill.web.approving import waiting
from nixmill.web.asking import Ask, Asked
from nixmill.web.refusal import MovedError
from nixmill.web.showing import not_there, show

router: Final = APIRouter()
RUNS_SHOWN: Final = 50
Before = Annotated[int | None, Query(ge=1, le=2**53)]
"""The number of the run before which a page begins."""


@router.get("/")
async def home(ask: Asked) -> Response:
    """Show what needs somebody, what is broken, what runs, and all projects."""
    site = ask.site
    page = await site.project_pages.home(ask.sight)
    page = msgspec.structs.replace(
        page,
        checklist=await _checklist(ask, page),
        needs_you=await _needs(ask),
    )
    return show(ask, "home.html", page, title="Home", status=home_status(page), live=True, said=home_sentence(page))


async def _needs(ask: Ask) -> tuple[Need, ...]:
    """Return what only a person can put right, commits that wait for their approval first."""
    if not ask.viewer.signed_in:
        return ()
    held = await waiting(ask.site, ask.viewer) if ask.site.forges else ()
    needs = tuple(await ask.site.office.needs(ask.sight))
    if not held:
        return needs
    said = f"{counted(len(held), 'pull request')} {'waits' if len(held) == 1 else 'wait'} for your approval."
    return (Need(what=said, link=urls.approvals()), *needs)


async def _checklist(ask: Ask, page: HomePage) -> tuple[ChecklistItem, ...]:
    """Return the steps of a new installation: for administrators, and for everybody while there is none."""
    if not ask.viewer.admin and page.projects:
        return ()
    items = tuple(await ask.site.office.checklist())
    return items if ask.viewer.admin or (items and not items[0].done) else ()


def home_sentence(page: HomePage) -> str:
    """Return how things stand, in one sentence."""
    left = sum(not item.done for item in page.checklist)
    if left and not page.projects:
        return f"Welcome. {counted(left, 'step')} of setting up {'is' if left == 1 else 'are'} left."
    if not page.projects:
        return "No project yet."
    branches = sum(line.default is not None and line.default.latest is not None for line in page.projects)
    broken = len(page.broken)
    if broken:
        verb = "is" if broken == 1 else "are"
        said = f"{broken} of {counted(branches, 'default branch', 'default branches')} {verb} broken"
    else:
        said = "No default branch is broken" if branches else "Nothing has run on a default branch yet"
    running = f"; {counted(len(page.running), 'run')} on the way" if page.running else ""
    return f"{said}{running}."


def home_status(page: HomePage) -> Status | None:
    """Return what the title and the favicon say: the worst of what is seen."""
    if page.checklist and not page.projects:
        return None
    if page.broken:
        return Status.FAILED
    if any(need.urgent for need in page.needs_you):
        return Status.TROUBLE
    if page.running:
        return Status.RUNNING
    return Status.PASSED if any(line.recent for line in page.projects) else None


@router.get("/p/{name}")
async def project(ask: Asked, name: str) -> Response:
    """Show a project's branches and newest runs."""
    page = await ask.site.project_pages.project(ask.sight, name)
    if page is None:
        raise not_there(f"project {name}")
    follow_name(ask, name, page.project.name)
    page = msgspec.structs.replace(page, role=role_of(ask.viewer, page.project.id, page.project.visibility))
    status = next((line.latest.status for line in page.refs if line.latest), None)
    return show(ask, "project.html", page, title=page.project.title or page.project.name, status=status, live=True)


@router.get("/p/{name}/b/{ref:path}")
async def branch(ask: Asked, name: str, ref: str, before: Before = None) -> Response:
    """Show the history of a branch or tag."""
    page = await ask.site.project_pages.branch(ask.sight, name, ref, before, RUNS_SHOWN)
    if page is None:
        raise not_there(f"branch {ref} of {name}")
    follow_name(ask, name, page.project.name)
    return show(
        ask,
        "branch.html",
        page,
        title=f"{writing.ref(page.line.ref)} · {page.project.name}",
        status=page.line.latest.status if page.line.latest else None,
        live=True,
        said=standing(page),
        usual=statistics.median(point.value for point in page.durations) if page.durations else None,
    )


def follow_name(ask: Ask, asked: str, name: str) -> None:
    """Lead whoever asked for a project by a former name to today's address."""
    if asked != name:
        raise MovedError(ask.path.replace(urls.project(asked), urls.project(name), 1))


def standing(page: BranchPage) -> str:
    """Return in a sentence how a branch stands."""
    latest = page.line.latest
    if latest is None:
        return "Nothing has run on this branch yet."
    return latest.sentence or f"{latest.state.value.capitalize()}."


@router.get("/p/{name}/a/{attribute:path}")
async def attribute(ask: Asked, name: str, attribute: str, ref: str = "", before: Before = None) -> Response:
    """Show one attribute across the runs of a branch; without `ref` of the default branch."""
    path = attr_path(attribute)
    wanted = ref or await default_branch(ask, name)
    page = await ask.site.project_pages.attribute(ask.sight, name, wanted, path, before)
    if page is None:
        raise not_there(f"attribute {attribute} on {wanted} of {name}")
    follow_name(ask, name, page.project.name)
    status = page.runs[0].line.status if page.runs else None
    said = attribute_standing(page)
    return show(ask, "attribute.html", page, title=f"{page.name} · {page.project.name}", status=status, said=said)


def attr_path(text: str) -> AttrPath:
    """Return an attribute's path out of an address; raise `NotThere` where it is none."""
    try:
        return parse(text)
    except AttrPathError as error:
        raise not_there(f"attribute {text}") from error


async def default_branch(ask: Ask, name: str) -> str:
    """Return the branch that a project's pages mean where none is named; raise `NotThere` without a project."""
    page = await ask.site.project_pages.project(ask.sight, name)
    if page is None:
        raise not_there(f"project {name}")
    found = known_default(page.project, page.polled)
    return found or next((urls.branch_name(line.ref) for line in page.refs), "main")


_GOOD: Final = frozenset({Status.PASSED, Status.CACHED})
_BAD: Final = frozenset({Status.FAILED, Status.DEPENDENCY_FAILED})


def attribute_standing(page: AttributePage) -> tuple[str, RunLine | None]:
    """Return how an attribute stands, and the run in which that began as far as these runs tell."""
    ended = [entry for entry in page.runs if entry.line.status in _GOOD | _BAD]
    if not ended:
        return "It has not been built on this branch yet.", None
    good = ended[0].line.status in _GOOD
    same = 1
    while same < len(ended) and (ended[same].line.status in _GOOD) is good:
        same += 1
    began = ended[same - 1].run
    if same == len(ended):
        return ("Good" if good else "Failing") + f" in all {same} runs shown" if same > 1 else "One run so far", began
    return ("Good since" if good else "Failing since"), began
