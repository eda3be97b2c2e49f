"""Projects, their jobsets, and which ref belongs to which jobset.

A project is a repository; a jobset is a named stream of evaluations of it: branches and tags by pattern, a timer,
or started by hand. What it does not know: how a repository is fetched.
"""

import fnmatch
import re
from collections.abc import Iterable, Sequence
from typing import Final
from urllib.parse import urlsplit

import msgspec

from nixmill.core.access import Visibility
from nixmill.core.change import BuildClass
from nixmill.core.errors import InputError

NAME: Final = re.compile(r"[A-Za-z][A-Za-z0-9_.-]{0,63}")
RESERVED: Final = frozenset({"new", "import", "export"})
SCHEMES: Final = ("https", "ssh", "file", "http", "git")
"""Of repositories; the last two only where the server's settings allow them."""
SECURE_SCHEMES: Final = SCHEMES[:3]
FIRST_JOBSET: Final = "main"
"""Name of the jobset that a project gets where none is said: its default branch, or what its nixmill.toml says."""
_PULL: Final = re.compile(r"refs/pull/([1-9][0-9]{0,17})/head")
_SCP: Final = re.compile(r"(?P<user>[A-Za-z0-9_][A-Za-z0-9_.-]*@)?(?P<host>[A-Za-z0-9][A-Za-z0-9.-]*):(?P<path>[^:].*)")


class Jobset(msgspec.Struct, frozen=True, kw_only=True):
    """A stream of evaluations."""

    id: int = 0
    project: int = 0
    name: str
    """Unique in its project."""
    branches: tuple[str, ...] = ()
    """Globs over branch names; `!` in front excludes; the last match decides. `main`, `release-*`, `!release-old`."""
    tags: tuple[str, ...] = ()
    """Globs over tag names."""
    schedule: str = ""
    """Five fields of cron, in `time_zone`; empty: no timer. What is started is the newest commit of each branch."""
    time_zone: str = "UTC"
    """Of the timer."""
    targets: tuple[str, ...] = ()
    """As after `nixmill run`; empty: what `nixmill.toml` says, else what the tree has."""
    systems: tuple[str, ...] = ()
    """Only these; empty: what the machines can build."""
    build_class: BuildClass = BuildClass.BRANCH
    """What goes first: `merge queue`, `pull request`, `branch`, `bulk`."""
    enabled: bool = True
    """Whether anything starts a run of it."""
    on_push: bool = True
    """Whether a new commit starts a run; without it only the timer and people do."""


class Project(msgspec.Struct, frozen=True, kw_only=True):
    """A repository that is watched."""

    id: int = 0
    name: str
    """In addresses; may be changed, the old one keeps leading to it."""
    title: str = ""
    """For people."""
    url: str
    """Where it is fetched from; never holds a password."""
    credential: str = ""
    """Name of a credential in the server's settings that fetching may use."""
    default_branch: str = ""
    """Empty: what the remote's HEAD names."""
    visibility: Visibility = Visibility.PUBLIC
    """`public`, `internal` (everybody with an account) or `private` (members)."""
    enabled: bool = True
    """Whether it is watched."""
    poll_s: int = 60
    """Seconds between looks at the remote; 0: only webhooks and people."""
    weight: int = 1
    """Share of the machines when several projects wait, 1 to 100."""
    submodules: bool = False
    """Fetch submodules too, without credentials."""
    forge: str = ""
    """Name of the forge in the server's settings whose pull requests are checked; empty: a plain git repository."""
    repository: str = ""
    """Its path there: `owner/name`."""
    repository_id: str = ""
    """The forge's own id of it, which stays when it is renamed; found by nixmill."""
    drafts: bool = True
    """Whether pull requests that are drafts are checked, too; one with the label `nixmill` always is."""
    declared: bool = False
    """Comes from the declarative settings file: pages and API do not change it."""
    created_at: float = 0.0


class Polled(msgspec.Struct, frozen=True, kw_only=True):
    """What the last look at the remote found."""

    at: float
    fault: str = ""
    """A sentence; empty where it went well."""
    default_branch: str = ""


def default_branch(project: Project, polled: Polled | None) -> str:
    """Return the branch that counts as default: the project's own word, else the remote's; empty while nobody knows."""
    return project.default_branch or (polled.default_branch if polled else "")


class Ref(msgspec.Struct, frozen=True, kw_only=True):
    """A branch or tag as it was last seen."""

    name: str
    """In full: `refs/heads/main`."""
    commit: str


def check_name(name: str, what: str = "project") -> str:
    """Return a name; raise `InputError` where it cannot be one."""
    if not NAME.fullmatch(name) or name.lower() in RESERVED:
        raise InputError(
            f"{name!r} cannot be the name of a {what}.",
            "Begin with a letter; letters, digits, '-', '_' and '.' may follow; at most 64 of them.",
        )
    return name


def check_url(url: str, schemes: Sequence[str] = SECURE_SCHEMES) -> str:
    """Return the URL of a repository; raise `InputError` where it is none, or of a kind that is not allowed."""
    if not url or url.startswith("-") or any(ord(c) <= 32 or ord(c) == 127 for c in url):
        raise InputError(f"{url!r} is no URL of a repository.", "Give one such as https://example.org/mill.git")
    if "://" not in url:
        if not _SCP.fullmatch(url) or "ssh" not in schemes:
            raise InputError(f"{url!r} is no URL of a repository.", "A local one is written file:///path/to/mill.git")
        return url
    parts = urlsplit(url)
    if parts.scheme not in schemes:
        known = ", ".join(schemes)
        raise InputError(f"Repositories are not fetched by {parts.scheme!r}.", f"Use one of: {known}.")
    if parts.password:
        raise InputError("A password may not stand in the URL.", "Put it into a credential of the server's settings.")
    if parts.scheme != "file" and (not parts.hostname or parts.hostname.startswith("-")):
        raise InputError(f"{url!r} names no host.", "Give one such as https://example.org/mill.git")
    return url


def matches(patterns: Iterable[str], name: str) -> bool:
    """Say whether globs choose a name: the last one that matches decides."""
    chosen = False
    for pattern in patterns:
        wanted = not pattern.startswith("!")
        if fnmatch.fnmatchcase(name, pattern.removeprefix("!")):
            chosen = wanted
    return chosen


def short(ref: str) -> str:
    """Return a ref as people call it: `main` for `refs/heads/main`, `#7` for a pull request's."""
    if (number := pull_request_of(ref)) is not None:
        return f"#{number}"
    for prefix in ("refs/heads/", "refs/tags/"):
        if ref.startswith(prefix):
            return ref.removeprefix(prefix)
    return ref


def pull_request_ref(number: int) -> str:
    """Return the ref under which runs of a pull request stand, whatever its forge calls it."""
    return f"refs/pull/{number}/head"


def pull_request_of(ref: str) -> int | None:
    """Return the number of the pull request that a ref stands for; None where it is another ref."""
    found = _PULL.fullmatch(ref)
    return int(found[1]) if found else None


def belongs(jobset: Jobset, ref: str, default_branch: str) -> bool:
    """Say whether a ref belongs to a jobset; without patterns the default branch alone does."""
    if ref.startswith("refs/tags/"):
        return matches(jobset.tags, short(ref))
    patterns = jobset.branches or ((default_branch,) if not jobset.tags else ())
    return matches(patterns, short(ref))
