"""What other places show of a branch: a badge, and an Atom feed of its verdicts.

Source: RFC 4287 for Atom. A badge of a private project is there for those who may see it, and 404 for others.
"""

import re
from datetime import UTC, datetime
from typing import Annotated, Final
from xml.etree.ElementTree import Element, SubElement, tostring

from fastapi import APIRouter, Query, Response

from nixmill.core.access import Action
from nixmill.core.project import Project, default_branch
from nixmill.core.status import LOOK, Status
from nixmill.core.terminal_text import sanitise
from nixmill.core.view.pages import BranchPage
from nixmill.core.view.parts import RunLine
from nixmill.nix.attr_path import AttrPathError, parse
from nixmill.web import urls
from nixmill.web.asking import Ask, Asked
from nixmill.web.showing import not_there

router: Final = APIRouter()
ENTRIES: Final = 50
ATOM: Final = "http://www.w3.org/2005/Atom"
COLOURS: Final = {
    Status.PASSED: "#1a7f37",
    Status.CACHED: "#1a7f37",
    Status.FAILED: "#b42318",
    Status.DEPENDENCY_FAILED: "#b42318",
    Status.RUNNING: "#175cd3",
    Status.WAITING: "#57606a",
    Status.CANCELLED: "#57606a",
    Status.TROUBLE: "#7a4a00",
}
"""White text on each has a contrast of at least 4.5:1."""
CHAR_PX: Final = 7
"""About the width of a character of the badge's font."""
BADGE_HEADERS: Final = {"Cache-Control": "no-cache", "Cross-Origin-Resource-Policy": "cross-origin"}
_NOT_XML: Final = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
Ref = Annotated[str, Query(max_length=250)]


@router.get("/p/{name}/badge.svg")
async def badge(
    ask: Asked, name: str, ref: Ref = "", attribute: Annotated[str, Query(max_length=1000)] = ""
) -> Response:
    """Draw how a branch, or an attribute on it, stands."""
    project = await ask.project(name, Action.SEE)
    status = await _attribute_status(ask, project, ref, attribute) if attribute else await _status(ask, project, ref)
    svg = draw("nixmill", f"{LOOK[status].glyph} {LOOK[status].word}" if status else "unknown", status)
    return Response(svg, media_type="image/svg+xml", headers=BADGE_HEADERS)


@router.get("/p/{name}/feed.atom")
async def feed(ask: Asked, name: str, ref: Ref = "") -> Response:
    """Return the verdicts of a branch, the newest first."""
    project = await ask.project(name, Action.SEE)
    page = await _branch(ask, project, ref)
    if page is None:
        raise not_there(f"branch {ref!r}")
    text = b'<?xml version="1.0" encoding="utf-8"?>\n' + tostring(_feed(ask.site.settings.url, project, page))
    return Response(text, media_type="application/atom+xml", headers={"Cache-Control": "no-cache"})


async def _branch(ask: Ask, project: Project, ref: str) -> BranchPage | None:
    page = await ask.site.project_pages.project(ask.sight, project.name)
    default = default_branch(project, page.polled if page else None)
    return await ask.site.project_pages.branch(ask.sight, project.name, ref or default, None, ENTRIES)


async def _status(ask: Ask, project: Project, ref: str) -> Status | None:
    page = await _branch(ask, project, ref)
    ended = (run for run in (page.runs if page else ()) if run.verdict is not None)
    newest = next(ended, None)
    return newest.status if newest else None


async def _attribute_status(ask: Ask, project: Project, ref: str, attribute: str) -> Status | None:
    try:
        path = parse(attribute)
    except AttrPathError:
        return None
    branch = await _branch(ask, project, ref)
    if branch is None:
        return None
    page = await ask.site.project_pages.attribute(ask.sight, project.name, branch.line.ref, path, None)
    ended = (one for one in (page.runs if page else ()) if one.run.verdict is not None)
    newest = next(ended, None)
    return newest.line.status if newest else None


def draw(label: str, text: str, status: Status | None) -> bytes:
    """Return a badge as SVG: shape, word and colour."""
    left, right = CHAR_PX * len(label) + 12, CHAR_PX * len(text) + 12
    attributes = {"xmlns": "http://www.w3.org/2000/svg", "width": str(left + right), "height": "20", "role": "img"}
    svg = Element("svg", {**attributes, "aria-label": f"{label}: {text}"})
    SubElement(svg, "title").text = f"{label}: {text}"
    SubElement(svg, "rect", {"width": str(left + right), "height": "20", "rx": "3", "fill": "#24292f"})
    colour = COLOURS[status] if status else "#57606a"
    SubElement(svg, "path", {"d": f"M{left} 0h{right - 3}a3 3 0 0 1 3 3v14a3 3 0 0 1-3 3H{left}z", "fill": colour})
    style = {
        "fill": "#fff",
        "font-family": "Verdana,DejaVu Sans,sans-serif",
        "font-size": "11",
        "text-anchor": "middle",
    }
    for middle, words in ((left / 2, label), (left + right / 2, text)):
        SubElement(svg, "text", {**style, "x": f"{middle:g}", "y": "14"}).text = words
    return tostring(svg)


def _feed(url: str, project: Project, page: BranchPage) -> Element:
    address = url + urls.branch(project.name, page.line.ref)
    root = Element("feed", {"xmlns": ATOM})
    SubElement(root, "title").text = _plain(f"{project.title or project.name} {urls.branch_name(page.line.ref)}")
    SubElement(root, "id").text = address
    SubElement(root, "link", {"href": address})
    SubElement(root, "link", {"rel": "self", "href": url + urls.feed(project.name, page.line.ref)})
    ended = [run for run in page.runs if run.ended_at is not None]
    SubElement(root, "updated").text = _instant(max((run.ended_at or 0.0 for run in ended), default=0.0))
    for run in ended:
        _entry(root, url, run)
    return root


def _entry(root: Element, url: str, run: RunLine) -> None:
    entry = SubElement(root, "entry")
    subject = f": {run.subject}" if run.subject else ""
    SubElement(entry, "title").text = _plain(f"{LOOK[run.status].glyph} {LOOK[run.status].word}{subject}")
    SubElement(entry, "id").text = url + urls.run(run.number)
    SubElement(entry, "link", {"href": url + urls.run(run.number)})
    SubElement(entry, "updated").text = _instant(run.ended_at or 0.0)
    SubElement(SubElement(entry, "author"), "name").text = _plain(run.author) or "unknown"
    SubElement(entry, "summary").text = _plain(run.sentence)


def _plain(text: str) -> str:
    """Return a line that XML can hold: some characters may not stand in it, not even escaped (XML 1.0, 2.2)."""
    return _NOT_XML.sub("\ufffd", sanitise(text, colour=False))


def _instant(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, tz=UTC).isoformat()
