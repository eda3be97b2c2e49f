"""What each operation takes and answers: the table that the OpenAPI document is made from. A test holds it whole."""

from collections.abc import Mapping
from typing import Any, Final, NamedTuple

import msgspec

from nixmill.core.project import Project
from nixmill.core.view import pages
from nixmill.core.view import pulls as pull_views
from nixmill.core.view import roots as root_views
from nixmill.web import (
    accounts,
    actions,
    hydra_push,
    members,
    pages_admin,
    pages_caches,
    pages_hook,
    pages_pulls,
    pages_roots,
    pages_why,
    project_bodies,
    projects_form,
    rules_form,
    settings_form,
    sign_in,
    sign_in_elsewhere,
    tokens,
    users,
)

HTML: Final = "text/html"
TEXT: Final = "text/plain"
EVENTS: Final = "text/event-stream"


class Accepted(msgspec.Struct, frozen=True, kw_only=True):
    """Whether a webhook is new: one that was delivered before does nothing."""

    accepted: bool


class Taken(msgspec.Struct, frozen=True, kw_only=True):
    """Whether an event of a forge is new, and which delivery it was."""

    accepted: bool
    delivery: str


class Cancelled(msgspec.Struct, frozen=True, kw_only=True):
    """Whether there was anything to cancel."""

    cancelled: bool


class Changed(msgspec.Struct, frozen=True, kw_only=True):
    """It was changed; where a password was made, `password` is shown this once, with whose it is."""

    changed: bool = True
    id: int = 0
    name: str = ""
    password: str = ""


class Deleted(msgspec.Struct, frozen=True, kw_only=True):
    """It is gone."""

    deleted: bool


class Forgotten(msgspec.Struct, frozen=True, kw_only=True):
    """How many failures were forgotten."""

    forgotten: int


class Healthy(msgspec.Struct, frozen=True, kw_only=True):
    """The server and its database answer."""

    status: str
    version: str


class Number(msgspec.Struct, frozen=True, kw_only=True):
    """The number of the new run."""

    number: int


class Replayed(msgspec.Struct, frozen=True, kw_only=True):
    """The message is sent again."""

    replayed: bool


class SignedIn(msgspec.Struct, frozen=True, kw_only=True):
    """Whether somebody is signed in."""

    signed_in: bool


class Operation(NamedTuple):
    """What an operation takes and answers."""

    tag: str
    answer: Any = None
    """A struct in JSON, or a media type; None: nothing but a way on (303)."""
    body: type[msgspec.Struct] | None = None
    """In JSON."""
    form: type[msgspec.Struct] | None = None
    """As a form, where that is not `body`."""
    codes: tuple[int, ...] = (200,)
    leads_on: bool = False
    """Also answers 303."""
    page: bool = False
    """Also a page for people."""
    events: bool = False
    """Also a stream of events."""
    more: tuple[int, ...] = ()
    """Further codes of errors."""


def _page(tag: str, answer: Any, **more: Any) -> Operation:  # noqa: ANN401 - as `Operation` has them
    return Operation(tag, answer, page=True, **more)


def _do(tag: str, answer: Any, body: type[msgspec.Struct], **more: Any) -> Operation:  # noqa: ANN401 - likewise
    return Operation(tag, answer, body, form=body, leads_on=True, **more)


def _form(tag: str, form: type[msgspec.Struct], **more: Any) -> Operation:  # noqa: ANN401 - likewise
    return Operation(tag, None, form=form, leads_on=True, codes=(), **more)


OPERATIONS: Final[Mapping[tuple[str, str], Operation]] = {
    ("GET", "/"): _page("projects", pages.HomePage, events=True),
    ("GET", "/p/new"): _page("projects", projects_form.SettingsPage),
    ("POST", "/p/new"): _form("projects", settings_form.SettingsForm),
    ("POST", "/p"): Operation("projects", Project, project_bodies.WholeProject, codes=(201,)),
    ("GET", "/p/{name}"): _page("projects", pages.ProjectPage, events=True),
    ("PUT", "/p/{name}"): Operation("projects", Project, project_bodies.WholeProject, more=(409,)),
    ("PATCH", "/p/{name}"): Operation("projects", Project, project_bodies.PartOfProject, more=(409,)),
    ("DELETE", "/p/{name}"): Operation("projects", actions.Nothing, actions.Nothing, more=(409,)),
    ("POST", "/p/{name}/delete"): _form("projects", projects_form.DeleteForm, more=(409,)),
    ("GET", "/p/{name}/settings"): _page("projects", projects_form.SettingsPage),
    ("POST", "/p/{name}/settings"): _form("projects", settings_form.SettingsForm, more=(409,)),
    ("GET", "/p/{name}/members"): _page("projects", members.MembersPage),
    ("POST", "/p/{name}/members"): _do("projects", members.MembersPage, members.MemberForm, more=(409,)),
    ("GET", "/p/{name}/rules"): _page("projects", rules_form.RulesPage),
    ("POST", "/p/{name}/rules"): Operation(
        "projects", rules_form.RulesPage, rules_form.Rules, rules_form.RulesForm, leads_on=True, more=(409,)
    ),
    ("POST", "/p/{name}/look"): _do("projects", actions.Nothing, actions.Nothing),
    ("POST", "/p/{name}/failures/forget"): _do("projects", Forgotten, actions.Forget),
    ("GET", "/p/{name}/b/{ref}"): _page("projects", pages.BranchPage, events=True),
    ("GET", "/p/{name}/a/{attribute}"): _page("projects", pages.AttributePage),
    ("GET", "/p/{name}/badge.svg"): Operation("projects", "image/svg+xml"),
    ("GET", "/p/{name}/feed.atom"): Operation("projects", "application/atom+xml"),
    ("GET", "/p/{name}/pulls"): _page("pull requests", pull_views.PullsPage, events=True),
    ("GET", "/p/{name}/pull/{number}"): _page("pull requests", pull_views.PullPage, events=True),
    ("POST", "/p/{name}/pull/{number}/approve"): _do("pull requests", pages_pulls.Approved, pages_pulls.Approve),
    ("GET", "/p/{name}/roots"): _page("roots", root_views.ProjectRootsPage),
    ("POST", "/p/{name}/roots/pin"): _do("roots", pages_roots.PinnedPaths, pages_roots.PinForm),
    ("POST", "/p/{name}/roots/unpin"): _do("roots", pages_roots.PinnedPaths, pages_roots.UnpinForm),
    ("GET", "/roots"): _page("roots", root_views.ServerRootsPage),
    ("POST", "/roots/pin"): _do("roots", pages_roots.PinnedPaths, pages_roots.PinForm),
    ("POST", "/roots/unpin"): _do("roots", pages_roots.PinnedPaths, pages_roots.UnpinForm),
    ("GET", "/roots/collection"): _page("roots", root_views.CollectionPage),
    ("POST", "/roots/collection"): _do("roots", root_views.CollectionPage, actions.Nothing, codes=(202,)),
    ("GET", "/caches"): _page("roots", root_views.CachesPage),
    ("GET", "/caches/{name}"): _page("roots", root_views.CachePage),
    ("POST", "/caches/{name}/retry"): _do("roots", pages_caches.Retried, actions.Nothing),
    ("GET", "/approvals"): _page("pull requests", pull_views.ApprovalsPage, events=True),
    ("POST", "/hook/{name}"): Operation("projects", Accepted, codes=(200, 202)),
    ("POST", "/hook/forge/{name}"): Operation("pull requests", Taken, codes=(200, 202), more=(401,)),
    ("POST", "/api/push"): Operation("hydra", hydra_push.Triggered, more=(403,)),
    ("POST", "/api/push-github"): Operation("hydra", hydra_push.Triggered, more=(401,)),
    ("POST", "/api/push-gitea"): Operation("hydra", hydra_push.Triggered, more=(401,)),
    ("POST", "/p/{name}/start"): _do("runs", Number, actions.Start, codes=(201,)),
    ("GET", "/r/{number}"): _page("runs", pages.EvaluationPage, events=True),
    ("POST", "/r/{number}/retry"): _do("runs", Number, actions.Retry, codes=(201,)),
    ("POST", "/r/{number}/cancel"): _do("runs", Cancelled, actions.Nothing),
    ("GET", "/r/{number}/why/{name}"): _page("runs", pages_why.WhyPage),
    ("GET", "/r/{number}/timeline"): _page("runs", pages.TimelinePage),
    ("GET", "/compare"): Operation("runs", None, codes=(), leads_on=True),
    ("GET", "/compare/{before}/{after}"): _page("runs", pages.ComparePage),
    ("GET", "/d/{name}"): _page("builds", pages.DerivationPage),
    ("GET", "/log/{attempt}"): _page("builds", pages.LogPage, events=True),
    ("GET", "/log/{attempt}/raw"): Operation("builds", TEXT),
    ("GET", "/hooks/{id_}/log"): _page("builds", pages_hook.HookLogPage),
    ("GET", "/queue"): _page("builds", pages.QueuePage, events=True),
    ("GET", "/runs"): _page("runs", pages.RunsPage, events=True),
    ("GET", "/machines"): _page("builds", pages.MachinesPage, events=True),
    ("GET", "/search"): _page("builds", pages.SearchPage, leads_on=True),
    ("GET", "/admin"): _page("administration", pages.AdminPage),
    ("GET", "/admin/audit"): _page("administration", pages.AuditPage),
    ("GET", "/admin/deliveries"): _page("administration", pages_admin.DeliveriesPage),
    ("POST", "/admin/deliveries/{parcel}/replay"): _do("administration", Replayed, actions.Nothing),
    ("GET", "/admin/retention"): _page("administration", pages_admin.RetentionPage),
    ("POST", "/admin/retention"): Operation(
        "administration", pages_admin.RetentionPage, actions.Prune, form=actions.Prune, page=True
    ),
    ("GET", "/admin/users"): _page("administration", users.UsersPage),
    ("POST", "/admin/users"): Operation(
        "administration", users.Made, users.UserForm, form=users.UserForm, codes=(201,)
    ),
    ("POST", "/admin/users/{number}"): _do("administration", Changed, users.ChangeForm),
    ("POST", "/admin/users/{number}/delete"): _do("administration", Deleted, users.DeleteForm),
    ("GET", "/metrics"): Operation("administration", TEXT),
    ("GET", "/healthz"): Operation("administration", Healthy),
    ("GET", "/current-user"): Operation("accounts", sign_in.CurrentUser),
    ("GET", "/account"): _page("accounts", accounts.AccountPage),
    ("POST", "/account/password"): _form("accounts", accounts.PasswordForm, more=(429,)),
    ("POST", "/account/sessions"): _form("accounts", accounts.EndForm),
    ("POST", "/account/identities"): _form("accounts", sign_in_elsewhere.LinkForm),
    ("POST", "/account/tokens"): Operation(
        "accounts", tokens.NewToken, tokens.TokenForm, form=tokens.TokenForm, codes=(201,)
    ),
    ("POST", "/account/tokens/revoke"): _form("accounts", tokens.RevokeForm),
    ("GET", "/sign-in"): _page("accounts", sign_in.SignInPage),
    ("POST", "/sign-in"): _do("accounts", sign_in.CurrentUser, sign_in.SignInForm, more=(429,)),
    ("POST", "/sign-out"): _do("accounts", SignedIn, actions.Nothing),
    ("GET", "/sign-in/{provider}"): Operation("accounts", None, codes=(), leads_on=True),
    ("GET", "/sign-in/{provider}/callback"): Operation("accounts", HTML, leads_on=True),
    ("GET", "/api"): _page("documentation", dict),
    ("GET", "/api/openapi.json"): Operation("documentation", dict),
    ("GET", "/static/{name}"): Operation("documentation", "text/javascript"),
}
"""Method and path of each route."""
