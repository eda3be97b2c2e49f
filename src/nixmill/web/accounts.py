"""`/account`: one's own password, sessions and tokens. Only for people who signed in, never for API tokens."""

from typing import Final

import msgspec
from fastapi import APIRouter
from starlette.responses import Response

from nixmill.core.access import Scope
from nixmill.core.account import TOKEN_DAYS_MAX, ApiToken, Session, User, check_password
from nixmill.core.errors import InputError
from nixmill.web import urls
from nixmill.web.asking import Ask, Asked
from nixmill.web.guard import guard_of
from nixmill.web.identify import open_session
from nixmill.web.providers import elsewhere
from nixmill.web.rate_limit import keys_of
from nixmill.web.refusal import not_there
from nixmill.web.showing import see_other, show
from nixmill.web.sign_in import ElsewhereLine, too_many

router: Final = APIRouter()
SESSION_ID: Final = 16
"""Characters of a session's hash that name it on the page; they open nothing."""


class SessionLine(msgspec.Struct, frozen=True, kw_only=True):
    """A browser that is signed in."""

    id: str
    agent: str
    address: str
    created_at: float
    seen_at: float
    current: bool


class TokenLine(msgspec.Struct, frozen=True, kw_only=True):
    """An API token, without its secret."""

    id: int
    name: str
    scopes: tuple[Scope, ...]
    project: str
    """Empty: all projects."""
    created_at: float
    expires_at: float
    used_at: float | None


class AccountPage(msgspec.Struct, frozen=True, kw_only=True):
    """`/account`."""

    name: str
    email: str
    has_password: bool
    sessions: tuple[SessionLine, ...]
    tokens: tuple[TokenLine, ...]
    projects: tuple[str, ...]
    """Projects that a token can be limited to."""
    elsewhere: tuple[ElsewhereLine, ...]
    days_max: int = TOKEN_DAYS_MAX


class PasswordForm(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A new password, twice, with the old one."""

    old: str
    new: str
    again: str


class EndForm(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Sessions to end: one by its id, or all others."""

    session: str = ""


@router.get("/account")
async def page(asked: Asked) -> Response:
    """Show one's own account."""
    await asked.require_session()
    return show(asked, "account.html", await account_page(asked), title="Your account", made=None)


@router.post("/account/password")
async def change_password(asked: Asked) -> Response:
    """Change the password: asks for the old one, ends all other sessions."""
    user = await own(asked)
    form = await asked.take(PasswordForm)
    await _check_old(asked, user, form.old)
    if form.new != form.again:
        raise InputError("The two new passwords are not the same.", "Go back and type them again.")
    guard = guard_of(asked.request)
    changed = msgspec.structs.replace(user, password_hash=await guard.passwords.hash(check_password(form.new)))
    await asked.site.accounts.save_user(changed)
    await asked.site.keys.sessions(user.id, end_all=True)
    answer = see_other(urls.account())
    await open_session(asked.request, asked.site, user.id, answer)
    await asked.audit("change a password", user.name)
    return answer


@router.post("/account/sessions")
async def end_sessions(asked: Asked) -> Response:
    """End one session, or all but this one."""
    session = await asked.require_session()
    wanted = (await asked.take(EndForm)).session
    others = [one for one in await asked.site.keys.sessions(session.user) if one.token_hash != session.token_hash]
    chosen = [one.token_hash for one in others if not wanted or one.token_hash[:SESSION_ID] == wanted]
    if wanted and not chosen:
        raise not_there("other session of that name")
    await asked.site.keys.sessions(session.user, end=chosen)
    await asked.audit("end sessions", asked.viewer.name, detail=str(len(chosen)))
    return see_other(urls.account())


async def own(asked: Ask) -> User:
    """Return the user who is signed in with a session."""
    session = await asked.require_session()
    user = await asked.site.accounts.user(session.user)
    if user is None:
        raise not_there("account")
    return user


async def _check_old(asked: Ask, user: User, old: str) -> None:
    """Raise where the old password is wrong; whoever has none may set one. Tries count as those of signing in do."""
    if not user.password_hash:
        return
    guard = guard_of(asked.request)
    keys = keys_of(user.name, asked.asker.address)
    wait = guard.tries.take(keys)
    if wait > 0:
        raise too_many(wait)
    if not await guard.passwords.fits(user.password_hash, old):
        raise InputError("The old password is wrong.", "Go back and type it again.")
    guard.tries.give_back(keys)


async def account_page(asked: Ask) -> AccountPage:
    """Return what the page shows."""
    user = await own(asked)
    projects = await asked.site.projects.projects()
    named = {one.id: one.name for one in projects}
    sessions = await asked.site.keys.sessions(user.id)
    return AccountPage(
        name=user.name,
        email=user.email,
        has_password=bool(user.password_hash),
        sessions=tuple(_session(asked, one) for one in sorted(sessions, key=lambda one: -one.seen_at)),
        tokens=tuple(_token(one, named) for one in await asked.site.keys.tokens(user.id)),
        projects=tuple(one.name for one in projects if one.id in asked.viewer.roles or asked.viewer.admin),
        elsewhere=tuple(ElsewhereLine(name=one.name, title=one.title) for one in elsewhere(asked.site.settings)),
    )


def _session(asked: Ask, one: Session) -> SessionLine:
    return SessionLine(
        id=one.token_hash[:SESSION_ID],
        agent=one.agent,
        address=one.address,
        created_at=one.created_at,
        seen_at=one.seen_at,
        current=asked.session is not None and one.token_hash == asked.session.token_hash,
    )


def _token(one: ApiToken, named: dict[int, str]) -> TokenLine:
    return TokenLine(
        id=one.id,
        name=one.name,
        scopes=one.scopes,
        project=named.get(one.project, "a deleted project") if one.project is not None else "",
        created_at=one.created_at,
        expires_at=one.expires_at,
        used_at=one.used_at,
    )
