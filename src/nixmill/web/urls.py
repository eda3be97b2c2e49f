"""Addresses of pages: one function an address. Everything that comes from outside is percent-encoded here.

An attribute is its shown path (`nixmill.nix.attr_path.show`); a branch is its short name, a tag `refs/tags/NAME`.
"""

from collections.abc import Callable, Mapping
from typing import Final
from urllib.parse import quote, urlencode

from nixmill.nix.attr_path import AttrPath, show
from nixmill.nix.store_path import StorePath, base_name

Value = str | int | float | None


def _part(text: str) -> str:
    """Return one part of a path. `.` alone would be swallowed by browsers, `.json` at its end means the JSON twin."""
    quoted = quote(text, safe="+:@,=", errors="replace")
    if text in {".", ".."}:
        return quoted.replace(".", "%2E")
    return f"{quoted.removesuffix('.json')}%2Ejson" if quoted.endswith(".json") else quoted


def with_query(path: str, query: Mapping[str, Value]) -> str:
    """Return an address with what is set in its query; None and empty text are left out."""
    given = {key: value for key, value in query.items() if value is not None and value != ""}
    return f"{path}?{urlencode(given, errors='replace')}" if given else path


def home() -> str:
    """Return the home page."""
    return "/"


def project(name: str) -> str:
    """Return a project's page."""
    return f"/p/{_part(name)}"


def project_do(name: str, what: str) -> str:
    """Return where something is done to a project: `start`, `look`, `settings`, `members`, `rules`, `delete`."""
    return f"{project(name)}/{what}"


def project_new() -> str:
    """Return the form for a new project."""
    return "/p/new"


def pulls(name: str, *, closed: bool = False, before: int | None = None) -> str:
    """Return the pull requests of a project."""
    return with_query(f"{project(name)}/pulls", {"closed": "true" if closed else None, "before": before})


def pull(name: str, number: int) -> str:
    """Return one pull request."""
    return f"{project(name)}/pull/{number}"


def pull_approve(name: str, number: int) -> str:
    """Return where a commit of a pull request is approved."""
    return f"{pull(name, number)}/approve"


def approvals() -> str:
    """Return what waits for approval."""
    return "/approvals"


def outside(address: str) -> str:
    """Return an address that a forge gave, for a link; empty unless it is one of the web."""
    return address if address.startswith(("https://", "http://")) else ""


def forget(name: str) -> str:
    """Return where remembered failures of a project are forgotten."""
    return f"{project(name)}/failures/forget"


def branch_name(ref: str) -> str:
    """Return a ref as it stands in addresses: `main` for `refs/heads/main`, tags in full."""
    return ref.removeprefix("refs/heads/")


def branch(name: str, ref: str, before: int | None = None) -> str:
    """Return a branch's or tag's page; `ref` short or in full."""
    parts = "/".join(_part(part) for part in branch_name(ref).split("/"))
    return with_query(f"{project(name)}/b/{parts}", {"before": before})


def attribute(name: str, path: AttrPath, ref: str = "", before: int | None = None) -> str:
    """Return an attribute's history on a branch; without `ref` on the default branch."""
    return with_query(f"{project(name)}/a/{_part(show(path))}", {"ref": branch_name(ref), "before": before})


def feed(name: str, ref: str = "") -> str:
    """Return the Atom feed of a project or branch."""
    return with_query(f"{project(name)}/feed.atom", {"ref": branch_name(ref)})


def badge(name: str, ref: str = "", attribute: str = "") -> str:
    """Return a project's badge."""
    return with_query(f"{project(name)}/badge.svg", {"ref": branch_name(ref), "attribute": attribute})


def run(number: int, **query: Value) -> str:
    """Return an evaluation's page; `show`, `find`, `page`, `size` choose its rows."""
    return with_query(f"/r/{number}", query)


def run_do(number: int, what: str) -> str:
    """Return where something is done to a run: `retry`, `cancel`."""
    return f"/r/{number}/{what}"


def why(number: int, path: AttrPath) -> str:
    """Return the page that explains an attribute in a run."""
    return f"/r/{number}/why/{_part(show(path))}"


def why_of(number: int, shown: str) -> str:
    """Return the page that explains an attribute, given as people write it."""
    return f"/r/{number}/why/{_part(shown)}"


def timeline(number: int) -> str:
    """Return the timeline of a run."""
    return f"/r/{number}/timeline"


def compare(before: int, after: int, **query: Value) -> str:
    """Return the comparison of two runs."""
    return with_query(f"/compare/{before}/{after}", query)


def derivation(drv_path: StorePath) -> str:
    """Return a derivation's page."""
    return f"/d/{_part(base_name(drv_path))}"


def log(attempt: int, lines: str = "") -> str:
    """Return the log of an attempt, at lines such as `L10-L20` where given."""
    return f"/log/{attempt}#{lines}" if lines else f"/log/{attempt}"


def log_raw(attempt: int, offset: int | None = None) -> str:
    """Return the text of a log, from a byte on where given."""
    return with_query(f"/log/{attempt}/raw", {"offset": offset})


def hook(name: str) -> str:
    """Return where webhooks of a project are sent."""
    return f"/hook/{_part(name)}"


def hook_forge(name: str) -> str:
    """Return where webhooks of a forge are sent."""
    return f"/hook/forge/{_part(name)}"


def hook_log(run_id: str) -> str:
    """Return the log of one run of a hook."""
    return f"/hooks/{_part(run_id)}/log"


def runs(project: str = "", before: int | None = None) -> str:
    """Return the newest runs of all projects, or of one."""
    return with_query("/runs", {"project": project, "before": before})


def roots(find: str = "", after: str = "", hand: int | None = None) -> str:
    """Return what is kept for the whole server."""
    return with_query("/roots", {"find": find, "after": after, "hand": hand})


def roots_of(name: str, ref: str = "", find: str = "", after: str = "", hand: int | None = None) -> str:
    """Return what is kept for a project, or for a branch of it."""
    query = {"ref": branch_name(ref), "find": find, "after": after, "hand": hand}
    return with_query(f"{project(name)}/roots", query)


def roots_do(what: str, name: str = "") -> str:
    """Return where something is pinned or unpinned (`pin`, `unpin`) for a project, else for the server."""
    return f"{project(name)}/roots/{what}" if name else f"/roots/{what}"


def collection() -> str:
    """Return what a collection of garbage would free."""
    return "/roots/collection"


def caches() -> str:
    """Return the binary caches."""
    return "/caches"


def cache(name: str) -> str:
    """Return one binary cache's page."""
    return f"/caches/{_part(name)}"


def cache_retry(name: str) -> str:
    """Return where uploads that failed are tried again."""
    return f"{cache(name)}/retry"


def queue() -> str:
    """Return what waits and runs."""
    return "/queue"


def machines() -> str:
    """Return the machines' page."""
    return "/machines"


def search(query: str = "") -> str:
    """Return the search page."""
    return with_query("/search", {"q": query})


def admin(part: str = "") -> str:
    """Return administration, or a part: `audit`, `users`, `deliveries`, `retention`."""
    return f"/admin/{part}" if part else "/admin"


def sign_in(then: str = "") -> str:
    """Return the sign-in page; afterwards one is sent to `then`, a path of this site."""
    return with_query("/sign-in", {"next": then})


def sign_out() -> str:
    """Return where a session ends."""
    return "/sign-out"


def account() -> str:
    """Return one's own account."""
    return "/account"


def api() -> str:
    """Return the documentation of the API."""
    return "/api"


GLOBALS: Final[Mapping[str, Callable[..., str]]] = {
    f.__name__: f
    for f in (
        account,
        admin,
        api,
        approvals,
        attribute,
        badge,
        branch,
        cache,
        cache_retry,
        caches,
        collection,
        compare,
        derivation,
        feed,
        forget,
        home,
        hook_log,
        log,
        log_raw,
        machines,
        outside,
        project,
        project_do,
        project_new,
        pull,
        pull_approve,
        pulls,
        queue,
        roots,
        roots_do,
        roots_of,
        run,
        run_do,
        runs,
        search,
        sign_in,
        sign_out,
        timeline,
        why,
        why_of,
        with_query,
    )
}
"""What templates have as `url.NAME(…)`."""
