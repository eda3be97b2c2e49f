"""One request: who asks, how they want the answer, and what they may. Every page and action begins with an `Ask`.

A request that changes something and is made with a session must carry the session's token for forms (field `csrf` or
header `X-CSRF-Token`) and come from this site; one with an API token needs neither, since no browser adds it by itself.
"""

from dataclasses import dataclass, replace
from typing import Annotated, Final, TypeVar

import msgspec
from fastapi import Depends
from starlette.requests import Request

from nixmill.core.access import Action, Sight, Viewer, Visibility, allowed, sight
from nixmill.core.account import ApiToken, AuditEntry, Session, User
from nixmill.core.project import Project
from nixmill.engine.office import Asker
from nixmill.web.approving import may_approve_any, waiting
from nixmill.web.body import Kind, body_of, decode
from nixmill.web.finding import find_project
from nixmill.web.guard import guard_of
from nixmill.web.identify import Caller, caller_of
from nixmill.web.refusal import MovedError, RefusalError, not_there
from nixmill.web.security import check_csrf, check_same_site, masked
from nixmill.web.site import Site

T = TypeVar("T", bound=msgspec.Struct)
_SAFE: Final = frozenset({"GET", "HEAD", "OPTIONS"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Ask:
    """One request, who asks and how they want the answer."""

    request: Request
    site: Site
    viewer: Viewer
    sight: Sight
    asker: Asker
    csrf: str
    """The token for forms, masked anew for each page; empty for strangers."""
    wants_json: bool
    wants_events: bool
    session: Session | None = None
    """None for a stranger and for an API token."""
    token: ApiToken | None = None
    to_approve: int = 0
    """How many pull requests wait for the approval of whoever reads a page."""

    @property
    def path(self) -> str:
        """The path and query that were asked for, as the browser wrote them: where to come back to after signing in."""
        raw: bytes = self.request.scope.get("raw_path") or self.request.scope["path"].encode()
        query: bytes = self.request.scope["query_string"]
        twin = b".json" if getattr(self.request.state, "json_twin", False) else b""
        return (raw + twin + (b"?" + query if query else b"")).decode("ascii", "replace")

    def may(self, action: Action, project: int | None = None, visibility: Visibility | None = None) -> bool:
        """Say whether whoever asks may do something, to a project or, where it is None, to the server."""
        return allowed(self.viewer, action, project, visibility)

    def require(self, action: Action, project: int | None = None, visibility: Visibility | None = None) -> None:
        """Raise 404 where it may not even be seen, 403 where it may not be done."""
        if self.may(action, project, visibility):
            return
        if project is not None and not self.may(Action.SEE, project, visibility):
            raise not_there("project of that name")
        raise self._forbidden(action)

    def _forbidden(self, action: Action) -> RefusalError:
        if not self.viewer.signed_in:
            return RefusalError(403, f"Strangers may not {action.value}.", "Sign in first.", sign_in=True)
        if self.token is not None:
            remedy = "Use an API token with more rights, or ask somebody who has them."
            return RefusalError(403, f"This API token may not {action.value} here.", remedy)
        remedy = "Ask an owner of the project or an administrator."
        return RefusalError(403, f"{self.viewer.name} may not {action.value} here.", remedy)

    async def project(self, name: str, action: Action) -> Project:
        """Return a project on which `action` may be done; raise 404 or 403, or lead from a former name to today's."""
        found = await find_project(self.site.projects, name)
        if found is None:
            raise not_there("project of that name")
        self.require(action, found.id, found.visibility)
        if found.name != name:
            raise MovedError(self._moved(name, found.name))
        return found

    def _moved(self, old: str, new: str) -> str:
        """Return today's address; the project's own page where the old name was written in some odd way."""
        before, after = f"/p/{old}", f"/p/{new}"
        return after + self.path.removeprefix(before) if self.path.startswith(before) else after

    async def require_session(self) -> Session:
        """Return the session; raise 403 for strangers and API tokens: accounts are changed by people alone."""
        if self.session is not None:
            return self.session
        if self.token is not None:
            raise RefusalError(403, "An API token cannot change an account.", "Do this in a browser, signed in.")
        raise RefusalError(403, "Strangers have no account.", "Sign in first.", sign_in=True)

    async def take(self, type_: type[T]) -> T:
        """Return the body, form or JSON, as `type_`; raise `InputError` or `RefusalError` where it is not one."""
        return decode(await body_of(self.request), type_)

    async def audit(
        self, action: str, subject: str, *, project: int | None = None, detail: str = "", by: User | None = None
    ) -> None:
        """Write to the audit log that whoever asks, or `by`, did something."""
        entry = AuditEntry(
            at=self.site.clock.now(),
            user=by.id if by is not None else self.asker.user,
            who=by.name if by is not None else self.asker.name,
            action=action,
            subject=subject,
            project=project,
            detail=detail,
            address=self.asker.address,
        )
        await self.site.office.audit(entry)


async def ask(request: Request) -> Ask:
    """Return who asks; raise 401 for a bad API token and 403 for a form from elsewhere."""
    site: Site = request.app.state.site
    if b"%00" in request.scope["query_string"]:
        raise RefusalError(400, "The address has a character that no name has (NUL).", "Leave it out.")
    caller = await caller_of(request, site)
    viewer = await guard_of(request).forge_roles.widened(caller.viewer, request)
    made = _made(request, site, msgspec.structs.replace(caller, viewer=viewer))
    if _is_page(made) and may_approve_any(caller.viewer):
        made = replace(made, to_approve=len(await waiting(site, caller.viewer)))
    request.state.ask = made
    if request.method not in _SAFE and caller.token is None:
        check_same_site(request, site.settings.url)
        if caller.session is not None:
            await _check_csrf(request, caller.session)
    return made


def _is_page(made: Ask) -> bool:
    """Say whether a page is drawn for somebody, with what waits for them in its head."""
    drawn = made.request.method == "GET" and not made.wants_json and not made.wants_events
    return drawn and made.session is not None and bool(made.site.forges)


async def _check_csrf(request: Request, session: Session) -> None:
    """Signing in again with JSON needs no token: no other site can send JSON, and the session ends with it anyway."""
    given, body = request.headers.get("x-csrf-token", ""), await body_of(request)
    if body.kind is Kind.JSON and request.scope["path"] == "/sign-in":
        return
    if not given and body.kind is Kind.FORM:
        given = next(iter(body.fields.get("csrf", [])), "")
    check_csrf(given, session.csrf)


def stranger(request: Request) -> Ask:
    """Return a request as a stranger's, without asking the database: for error pages."""
    known = getattr(request.state, "ask", None)
    return known if isinstance(known, Ask) else _made(request, request.app.state.site, Caller(viewer=Viewer()))


def _made(request: Request, site: Site, caller: Caller) -> Ask:
    accept = request.headers.get("accept", "")
    return Ask(
        request=request,
        site=site,
        viewer=caller.viewer,
        sight=sight(caller.viewer),
        asker=Asker(user=caller.viewer.user, name=caller.viewer.name or "a stranger", address=address_of(request)),
        csrf=masked(caller.session.csrf) if caller.session is not None else "",
        wants_json=bool(getattr(request.state, "json_twin", False)) or _first(accept) == "application/json",
        wants_events="text/event-stream" in accept and not getattr(request.state, "head", False),
        session=caller.session,
        token=caller.token,
    )


def address_of(request: Request) -> str:
    """Return where a request comes from, as far as trusted proxies say."""
    return request.client.host if request.client is not None else ""


def _first(accept: str) -> str:
    return accept.partition(",")[0].partition(";")[0].strip().lower()


Asked = Annotated[Ask, Depends(ask)]
