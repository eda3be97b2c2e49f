"""How things are written on pages: the filters of templates. Times, quantities, statuses, names.

Text from outside becomes one harmless line here (`clean`), the template engine escapes it. The words and glyphs are
those of the terminal (`nixmill.core.status`, `nixmill.core.terminal_text`).
"""

import datetime as dt
import json
from collections.abc import Callable, Mapping, Sequence
from enum import StrEnum
from types import SimpleNamespace
from typing import Any, Final
from urllib.parse import quote

from jinja2 import Environment, PackageLoader, StrictUndefined, pass_context
from jinja2.runtime import Context
from markupsafe import Markup, escape

from nixmill.core import project, terminal_text
from nixmill.core.access import Action
from nixmill.core.change import ChangeState
from nixmill.core.outcome import Outcome
from nixmill.core.run_event import Change
from nixmill.core.status import LOOK, Status, of_outcome
from nixmill.core.trust import Tier
from nixmill.core.view.parts import PAGE_SIZE, Filter
from nixmill.nix.attr_path import AttrPath, AttrPathError, parse, show, show_name
from nixmill.nix.store_path import StorePath, name_part
from nixmill.web import assets, charts, patches, urls

SHORT_COMMIT: Final = 10
LINE_MAX: Final = 1000
"""Characters of a line from outside on a page."""
ALL_MAX: Final = 5000
"""Rows of the longest page: "all" of more rows than these comes in pages of this size."""
NAME_MAX: Final = 120
"""Characters of an attribute's name in a table."""
_TEXT_STYLE: Final = "\ufe0e"
"""Variation selector 15: a glyph is drawn as text in its colour, never as an emoji."""
_COLOURS: Final = {
    Status.PASSED: "#0a7",
    Status.FAILED: "#d22",
    Status.DEPENDENCY_FAILED: "#d62",
    Status.RUNNING: "#27d",
    Status.WAITING: "#888",
    Status.CACHED: "#36b",
    Status.CANCELLED: "#976",
    Status.TROUBLE: "#93c",
}
"""Of favicons, which are drawn on light and dark tabs alike."""
TIER_WORD: Final[Mapping[Tier, str]] = {
    Tier.FORK: "from a stranger",
    Tier.MEMBER: "from a member",
    Tier.BRANCH: "branch",
    Tier.PROTECTED: "protected branch",
}
_FILTER_WORD: Final[Mapping[Filter, str]] = {
    Filter.DIFFERENT: "different or failed",
    Filter.NEWLY_FAILING: "newly failing",
    Filter.ERRORS: "did not evaluate",
    Filter.RUNNING: "to go",
    Filter.TROUBLE: "our trouble",
}
_FILTER_STATUS: Final[Mapping[Filter, Status]] = {
    Filter.NEWLY_FAILING: Status.FAILED,
    Filter.FAILED: Status.FAILED,
    Filter.RUNNING: Status.RUNNING,
    Filter.PASSED: Status.PASSED,
    Filter.TROUBLE: Status.TROUBLE,
}


def clean(text: str, limit: int = LINE_MAX) -> str:
    """Return text from outside as one line without controls, escapes and marks that reorder text."""
    return terminal_text.sanitise(str(text), colour=False, limit=limit)


def clean_lines(text: str) -> list[str]:
    """Return the lines of a longer text from outside, each one harmless."""
    return terminal_text.sanitise_lines(text, colour=False, limit=LINE_MAX)


def brief(text: str, limit: int = LINE_MAX) -> str:
    """Return what Nix says as one harmless line, with names in place of derivations' paths."""
    return clean(terminal_text.brief(str(text)), limit)


def brief_lines(text: str) -> Markup:
    """Return what Nix says in a few lines: the first one as text, what stands below it as a block."""
    first, *rest = clean_lines(terminal_text.brief(text)) or [""]
    block = Markup('<pre class="text">{}</pre>').format("\n".join(rest)) if rest else Markup("")
    return escape(first) + block


def verdict(sentence: str) -> Markup:
    """Return the sentence of a verdict; names in brackets, which may be long, stand back."""
    before, bracket, rest = clean(sentence).partition(" (")
    names, end, after = rest.rpartition(")")
    if not bracket or not end:
        return escape(clean(sentence))
    return Markup('{}<span class="names"> ({})</span>{}').format(before, names, after)


def css(value: StrEnum | str) -> str:
    """Return a word of ours as the name of a class: `dependency-failed`."""
    return str(value).replace(" ", "-")


def glyph(status: Status) -> Markup:
    """Return the sign of a status alone; what reads pages aloud says its word."""
    look = LOOK[status]
    return Markup('<span class="g s-{}" role="img" aria-label="{}" title="{}">{}</span>').format(
        css(status), look.word, look.word, look.glyph + _TEXT_STYLE
    )


def shown_status(status: Status, word: str = "") -> Markup:
    """Return sign and word of a status, in its colour."""
    look = LOOK[status]
    return Markup(
        '<span class="s s-{}"><span class="g" aria-hidden="true">{}</span> <span class="w">{}</span></span>'
    ).format(css(status), look.glyph + _TEXT_STYLE, word or look.word)


def title_glyph(status: Status | None) -> str:
    """Return what stands before a page's title."""
    return f"{LOOK[status].glyph} " if status is not None else ""


def favicon(status: Status | None) -> str:
    """Return a favicon that carries a status by shape, as a `data:` address."""
    sign = LOOK[status].glyph + _TEXT_STYLE if status is not None else "n"
    colour = _COLOURS[status] if status is not None else "#357"
    shape = (
        "<path d='M9 8h5v16H9zM18 8h5v16h-5z' fill='#fff'/>"
        if status is Status.WAITING  # not every font has the sign
        else "<text x='16' y='24' font-size='22' font-family='sans-serif' text-anchor='middle' fill='#fff'>"
        f"{sign}</text>"
    )
    drawing = (
        "<svg xmlns='http://www.w3.org/2000/svg' viewBox='0 0 32 32'>"
        f"<rect width='32' height='32' rx='7' fill='{colour}'/>{shape}</svg>"
    )
    return "data:image/svg+xml," + quote(drawing, safe="/:=' ")


def instant(at: float) -> str:
    """Return a time in full: `2026-11-20 13:12:05 UTC`."""
    return _utc(at).strftime("%Y-%m-%d %H:%M:%S UTC")


def ago(at: float, now: float) -> str:
    """Return how long ago a time is, or in how long it comes: `4 min ago`, `in 2 h`; from 30 days on a date."""
    distance = abs(now - at)
    if distance >= 30 * 86_400:
        return _utc(at).strftime("%-d %b %Y")
    if distance < 10:
        return "just now"
    text = next(f"{int(distance // unit)} {word}" for unit, word in _UNITS if distance >= unit)
    return f"{text} ago" if at <= now else f"in {text}"


_UNITS: Final = ((86_400, "d"), (3_600, "h"), (60, "min"), (1, "s"))


def _utc(at: float) -> dt.datetime:
    return dt.datetime.fromtimestamp(at, dt.UTC)


@pass_context
def when(context: Context, at: float | None) -> Markup:
    """Return a time as people say it, exact in its tooltip; the script keeps it right while the page is open."""
    if at is None:
        return Markup('<span class="dim">never</span>')
    machine = _utc(at).strftime("%Y-%m-%dT%H:%M:%SZ")
    return Markup('<time datetime="{}" title="{}">{}</time>').format(machine, instant(at), ago(at, now_of(context)))


@pass_context
def since(context: Context, at: float) -> Markup:
    """Return the time that something has taken until now, counting on while the page is open."""
    machine = _utc(at).strftime("%Y-%m-%dT%H:%M:%SZ")
    shown = terminal_text.duration(max(now_of(context) - at, 0))
    return Markup('<time class="since" datetime="{}" title="since {}">{}</time>').format(machine, instant(at), shown)


def now_of(context: Context) -> float:
    """Return the time at which a page is made."""
    site = context["site"]
    return float(site.clock.now())


def duration(seconds: float | None) -> str:
    """Return a measured time; nothing where there is none."""
    return "" if seconds is None else terminal_text.duration(seconds)


def about(seconds: float | None) -> str:
    """Return an estimate such as `about 4 min`; nothing where there is none."""
    return "" if seconds is None else terminal_text.about(seconds)


def attr(path: AttrPath, link: str = "", *, whole: bool = False) -> Markup:
    """Return an attribute's name, the part that repeats dimmed, isolated from the text around it.

    Unless it shall be `whole`, the middle of a very long name is left out and stands in a tooltip.
    """
    last = clean(show_name(path[-1])) if path else "(root)"
    before = clean(show(path[:-1])) + "." if len(path) > 1 else ""
    cut = not whole and len(before) + len(last) > NAME_MAX
    tip = Markup(' title="{}"').format(before + last) if cut else ""
    parts = (_middle(before), _middle(last)) if cut else (before, last)
    name = Markup('<bdi class="n"{}><span class="dim">{}</span><wbr>{}</bdi>').format(tip, *parts)
    return Markup('<a href="{}">{}</a>').format(link, name) if link else name


def siblings(names: Sequence[str]) -> tuple[str, list[tuple[str, str]]]:
    """Return what shown attributes have in common before their last name, and each one with what is left of it."""
    try:
        paths = [parse(name) for name in names]
    except AttrPathError:
        paths = []
    parents = {path[:-1] for path in paths}
    if len(parents) != 1 or parents == {()}:
        return "", [(name, name) for name in names]
    return show(parents.pop()) + ".", [(name, show_name(path[-1])) for name, path in zip(names, paths, strict=True)]


def _middle(text: str) -> str:
    return text if len(text) <= NAME_MAX // 2 else f"{text[: NAME_MAX // 4]}…{text[-NAME_MAX // 4 :]}"


def name(text: str, link: str = "") -> Markup:
    """Return a name from outside in monospace, isolated from the text around it."""
    shown = Markup('<bdi class="n">{}</bdi>').format(clean(text))
    return Markup('<a href="{}">{}</a>').format(link, shown) if link else shown


def grown(difference: int | None) -> Markup:
    """Return by how much something grew or shrank; nothing where nobody knows, or it stayed."""
    if not difference:
        return Markup("")
    sign, kind = ("+", "removed") if difference > 0 else ("−", "added")
    return Markup('<span class="{}">{}{}</span>').format(kind, sign, terminal_text.size(abs(difference)))


def commit(text: str) -> Markup:
    """Return a commit, short."""
    return Markup('<code title="{}">{}</code>').format(clean(text), clean(text)[:SHORT_COMMIT])


def drv_name(drv_path: StorePath) -> str:
    """Return a store path's name without its hash and `.drv`."""
    return name_part(drv_path).removesuffix(".drv")


def ref(text: str) -> str:
    """Return a ref as people call it."""
    short = clean(project.short(text))
    return f"tag {short}" if text.startswith("refs/tags/") else short


def host(machine: str) -> str:
    """Return a machine's name out of its store address; `this machine` for the local one."""
    if machine in {"", "local"}:
        return "this machine"
    address = machine.partition("://")[2] or machine
    return clean(address.partition("?")[0].rpartition("@")[2])


def filter_word(which: Filter, run: Status = Status.TROUBLE) -> str:
    """Return what a filter is called on the page of a run: what a cancelled one left undone is nobody's trouble."""
    if which is Filter.TROUBLE and run is Status.CANCELLED:
        return "cancelled"
    return _FILTER_WORD.get(which, which.value)


def filter_status(which: Filter, run: Status) -> Status | None:
    """Return the status whose glyph stands at a filter."""
    if which is Filter.TROUBLE and run is Status.CANCELLED:
        return Status.CANCELLED
    return _FILTER_STATUS.get(which)


def as_json(value: Any) -> Markup:  # noqa: ANN401 - whatever JSON can hold
    """Return JSON for a `data-` attribute."""
    return escape(json.dumps(value, separators=(",", ":")))


@pass_context
def csrf(context: Context) -> Markup:
    """Return the hidden field that a form needs to be believed."""
    return Markup('<input type="hidden" name="csrf" value="{}">').format(context["ask"].csrf)


@pass_context
def elapsed(context: Context, since: float, most: float) -> float:
    """Return the seconds since a time, at most `most`."""
    return round(min(max(now_of(context) - since, 0.0), most), 1)


def twin(path: str) -> str:
    """Return the address of a page's JSON; `path` as the browser wrote it, with its query."""
    before, mark, query = path.partition("?")
    return f"{before}.json{mark}{query}"


def page_numbers(page: int, pages: int) -> list[int]:
    """Return the numbers of pages worth a link: the ends and those around this one; 0 where some are left out."""
    near = sorted({1, 2, pages - 1, pages, *range(page - 2, page + 3)} & set(range(1, pages + 1)))
    out: list[int] = []
    for number in near:
        if out and number == out[-1] + 2:
            out.append(number - 1)
        elif out and number > out[-1] + 1:
            out.append(0)
        out.append(number)
    return out


FILTERS: Final[Mapping[str, Callable[..., Any]]] = {
    "about": about,
    "as_json": as_json,
    "attr": attr,
    "brief": brief,
    "brief_lines": brief_lines,
    "bytes": lambda count: "" if count is None else terminal_text.size(int(count)),
    "clean": clean,
    "clean_lines": clean_lines,
    "commit": commit,
    "counted": terminal_text.counted,
    "css": css,
    "drv_name": drv_name,
    "duration": duration,
    "filter_status": filter_status,
    "filter_word": filter_word,
    "glyph": glyph,
    "grown": grown,
    "host": host,
    "instant": instant,
    "name": name,
    "number": terminal_text.number,
    "patch": patches.patch,
    "of_outcome": of_outcome,
    "ref": ref,
    "siblings": siblings,
    "since": since,
    "status": shown_status,
    "verdict": verdict,
    "when": when,
}
GLOBALS: Final[Mapping[str, Any]] = {
    "url": SimpleNamespace(**urls.GLOBALS),
    "chart": charts,
    "assets": assets,
    "favicon": favicon,
    "title_glyph": title_glyph,
    "csrf": csrf,
    "elapsed": elapsed,
    "page_numbers": page_numbers,
    "twin": twin,
    "ALL_MAX": ALL_MAX,
    "PAGE_SIZE": PAGE_SIZE,
    "Action": Action,
    "Change": Change,
    "ChangeState": ChangeState,
    "Filter": Filter,
    "LOOK": LOOK,
    "Outcome": Outcome,
    "Status": Status,
    "TIER_WORD": TIER_WORD,
}


def environment() -> Environment:
    """Return the template engine with everything that pages need; what is undefined is an error."""
    made = Environment(
        loader=PackageLoader("nixmill.web"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        auto_reload=False,
    )
    made.filters.update(FILTERS)
    made.globals.update(GLOBALS)
    return made
