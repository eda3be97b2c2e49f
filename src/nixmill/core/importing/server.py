"""The settings of a server of buildbot-nix or nixbot → those of `nixmill serve`, and its projects file."""

import re
from collections.abc import Iterator, Sequence
from typing import Final, NamedTuple

import msgspec

from nixmill.core.access import Visibility
from nixmill.core.errors import InputError
from nixmill.core.importing import forge_tables
from nixmill.core.importing.credentials import Credentials
from nixmill.core.importing.findings import Document, Findings, Path, PolledProject, listed, shown, shown_path
from nixmill.core.importing.flake_settings import check_glob
from nixmill.core.importing.options import Option, Values, read, tell_lost, unknown
from nixmill.core.importing.server_options import TOPIC
from nixmill.core.importing.server_rest import failures, hooks, is_private, limits, oidc, people
from nixmill.core.importing.toml_text import Table, written
from nixmill.core.project import FIRST_JOBSET, SCHEMES, Jobset, Project, check_name, check_url

NEVER_AGAIN: Final = (
    "are never posted again: take them off the required checks, or pull requests wait for them for ever."
)
_NOT_IN_NAMES: Final = re.compile(r"[^A-Za-z0-9_.-]+")
_MARKS: Final = ("build_systems", "eval_max_memory_size", "db_url", "post_build_steps")
"""Keys of the JSON that the modules make; options of the modules have no underscores."""


class Server(msgspec.Struct, frozen=True, kw_only=True):
    """What the settings of a server become."""

    text: str
    projects: tuple[PolledProject, ...]
    status_name: str
    branches: tuple[str, ...]
    """Globs of branches that it built of every repository, besides default branches."""


class Former(NamedTuple):
    """A system whose server settings are read, and what is its own."""

    system: str
    options: Sequence[Option]
    prefix: str
    """What the names of its statuses begin with, by default."""
    effects: str
    """What its status about effects is called behind that."""


def server(document: Document, former: Former, findings: Findings) -> Server:
    """Return what a server's settings become. Mistakes and what is not carried over go to `findings`."""
    values = _values(document, former, findings)
    credentials = Credentials(findings)
    prefix = values.text("statusContextPrefix") or former.prefix
    status_name = f"{prefix}/nix-build"
    sign_up = {"sign-up": False} if is_private(values) else {}
    forges = [{**one, **sign_up} for one in forge_tables.forge_tables(values, status_name, credentials, findings)]
    branches = _branches(values, findings)
    projects = tuple(_projects(values, branches, credentials, findings))
    tables = [
        *((forge_tables.HEADER, forge) for forge in forges),
        *oidc(values, former.system, credentials, findings),
        *hooks(values, findings),
        *limits(values, findings),
    ]
    people(values, findings)
    failures(values, findings)
    _tell_always(former, prefix, forges, values, findings)
    top = _top(values, projects)
    return Server(
        text=written(top, [("[credentials]", credentials.files), *tables]),
        projects=projects,
        status_name=status_name,
        branches=branches,
    )


def _values(document: Document, former: Former, findings: Findings) -> Values:
    table = document.table
    inner = table.get("master")
    if set(table) <= {"master", "worker", "packages"} and isinstance(inner, dict):
        document = msgspec.structs.replace(document, table=inner, lines={})
    generated = any(mark in document.table for mark in _MARKS)
    values = read(document, former.options, findings, generated=generated)
    if not values.found:
        remedy = "docs/moving.md shows how the settings are printed as JSON."
        findings.mistake(document, (), f"these are no settings of {former.system}.", remedy)
    for path, _ in unknown(document, former.options, generated=generated):
        findings.lost(
            shown_path(path), f"this option of {former.system} is not known to the import.", "Please report it."
        )
    tell_lost(values, former.options, findings)
    return _with_switches(values) if generated else values


def _with_switches(values: Values) -> Values:
    """Return values with `enable`, which the JSON of the modules says by what is there."""
    marks = {"github": "github.appId", "gitea": "gitea.instanceUrl", "gitlab": "gitlab.instanceUrl"}
    marks["oidc"] = "oidc.discoveryUrl"
    on: dict[Path, object] = {(name, "enable"): True for name, mark in marks.items() if values.get(mark) is not None}
    return Values(values.document, {**values.found, **on})


def _top(values: Values, projects: Sequence[PolledProject]) -> Table:
    top: dict[str, object] = {}
    if url := _url(values):
        top["url"] = url
    if projects:
        top["projects-file"] = "projects.toml"
    at_once = values.number("evalConcurrency")
    if at_once is not None and at_once > 1:
        top["runs-at-once"] = at_once
    return top


def _url(values: Values) -> str:
    """Return the address of the server; that of buildbot-nix is put together by its module."""
    said = values.text("url").rstrip("/")
    return said or (f"https://{domain}" if (domain := values.text("domain")) else "")


def _branches(values: Values, findings: Findings) -> tuple[str, ...]:
    globs = tuple(dict.fromkeys(one.text("matchGlob") for one in values.below("branches").values()))
    globs = tuple(glob for glob in globs if glob)
    for glob in globs:
        check_glob(glob, findings)
    if globs:
        findings.differently(
            f"branches {listed(globs)}",
            "in nixmill each repository says which branches are checked besides pull requests.",
            "Write `branches` into [watch] of its nixmill.toml; that of the default branch counts.",
        )
    return globs


def _projects(
    values: Values, branches: Sequence[str], credentials: Credentials, findings: Findings
) -> Iterator[PolledProject]:
    """Yield the repositories that are polled."""
    taken: set[str] = set()
    for called, one in values.below("pullBased.repositories").items():
        url, default = one.text("url"), one.text("defaultBranch")
        name = _project_name(called, taken, findings)
        try:
            check_name(name)
            check_url(url, SCHEMES)
        except InputError as error:
            findings.mistake(values.document, ("pullBased", "repositories", called), str(error), error.remedy)
            continue
        key = one.text("sshPrivateKeyFile")
        private = is_private(values) or bool(key)
        if key and not is_private(values):
            findings.differently(
                f"repository {shown(called)}",
                f"it is fetched with a key, so the project {name} is private: only its members see it.",
                "Change `visibility` where everybody may.",
            )
        project = Project(
            name=name,
            url=url,
            visibility=Visibility.PRIVATE if private else Visibility.PUBLIC,
            credential=credentials.name(key, f"git-{name}") if key else "",
            default_branch=default,
            poll_s=one.number("pollInterval") or 60,
        )
        globs = (default, *branches) if default and branches else ()
        yield PolledProject(project=project, jobsets=(Jobset(name=FIRST_JOBSET, branches=globs),))


def _project_name(called: str, taken: set[str], findings: Findings) -> str:
    """Return the name of a project: letters, digits and few signs, not used yet."""
    plain = _NOT_IN_NAMES.sub("-", called).strip("-.")[:60] or "project"
    name = wanted = plain if plain[0].isalpha() else f"p-{plain}"
    number = 2
    while name.lower() in taken:
        name, number = f"{wanted}-{number}", number + 1
    taken.add(name.lower())
    if name != called:
        findings.differently(
            f"repository {shown(called)}", f"it is called {name}: names of projects have no such signs."
        )
    return name


def _tell_always(former: Former, prefix: str, forges: Sequence[Table], values: Values, findings: Findings) -> None:
    findings.lost(
        f"history of {former.system}",
        "earlier builds and their logs are not read.",
        "Keep the old server, or a copy of its pages, as long as they matter.",
    )
    if forges:
        gone = f"{prefix}/nix-eval and {prefix}/{former.effects}"
        findings.differently(
            "statuses",
            f"nixmill posts one for evaluation and builds, called {prefix}/nix-build as before. {gone} {NEVER_AGAIN}",
        )
        findings.differently(
            "pull requests of forks",
            f"{former.system} builds them at once; nixmill waits until somebody who may write approves the commit.",
        )
        findings.differently(
            "merge queues",
            f"{former.system} builds gh-readonly-queue/*, gitea-mq/*, staging and trying of every repository; nixmill"
            " checks the merge queue of the forge itself.",
            "For branches of another queue write `branches` into [watch] of nixmill.toml.",
        )
    if former.system == "nixbot" and any("topic" in forge for forge in forges):
        findings.differently(
            "repositories that were switched on",
            "nixbot keeps these in its database and reads the topic once; for nixmill the topic counts always.",
            f"Give them the topic (by default {TOPIC}), or name them in `repositories` and take `topic` out.",
        )
    _tell_addresses(values, findings)


def _tell_addresses(values: Values, findings: Findings) -> None:
    if not values.text("url") and values.get("domain") is not None and not values.flag("useHTTPS"):
        findings.differently("address", "https:// was assumed.", "Change `url` where people use another.")
    hooks_at, address = values.text("webhookBaseUrl").rstrip("/"), _url(values)
    if hooks_at and address and _host(hooks_at) != _host(address):
        findings.differently(
            f"webhookBaseUrl = {shown(hooks_at)}",
            "webhooks arrive under `url` itself, at /hook/forge/NAME.",
            "Let that name lead to nixmill too, or open this one path of `url`.",
        )


def _host(url: str) -> str:
    return url.partition("://")[2].partition("/")[0].lower()
