"""Signing in with a provider: away, back, and what account that is.

An account is found by provider and subject alone, never by name or e-mail address: whoever controls a name elsewhere
is nobody here. An identity is added to an account only by its owner, signed in, on a page that says so.
"""

import hmac
import re
from typing import Final

import msgspec
from fastapi import APIRouter
from starlette.responses import RedirectResponse, Response

from nixmill.core.account import USER_NAME, User
from nixmill.core.errors import InputError
from nixmill.web import urls
from nixmill.web.asking import Ask, Asked
from nixmill.web.flows import Flow, Pending
from nixmill.web.guard import guard_of
from nixmill.web.identify import cookie_name, open_session, set_cookie
from nixmill.web.proven import Proven, new_secret
from nixmill.web.providers import Provider
from nixmill.web.refusal import RefusalError, not_there
from nixmill.web.security import local_path
from nixmill.web.showing import see_other, show

router: Final = APIRouter()
AWAY_COOKIE: Final = "away"
AWAY_S: Final = 600
_NAMES_TRIED: Final = 50


class LinkPage(msgspec.Struct, frozen=True, kw_only=True):
    """Asks whether an identity is to be added to the account."""

    provider: str
    label: str
    pending: str


class LinkForm(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Yes, add it."""

    pending: str


@router.get("/sign-in/{provider}")
async def away(asked: Asked, provider: str, next: str = "/", *, link: bool = False) -> Response:  # noqa: A002 - in the URL
    """Send the browser to a provider; with `link`, to add it to the account that is signed in."""
    there = _provider(asked, provider)
    user = (await asked.require_session()).user if link else None
    flow = Flow(provider=provider, nonce=new_secret(), verifier=new_secret(), then=local_path(next), user=user)
    state = guard_of(asked.request).flows.away.keep(flow)
    address = await there.address(_callback(asked, provider), state, flow.nonce, flow.verifier)
    answer = RedirectResponse(address, 303)
    set_cookie(answer, asked.site.settings.url, state, what=AWAY_COOKIE, seconds=AWAY_S)
    return answer


@router.get("/sign-in/{provider}/callback")
async def back(asked: Asked, provider: str, state: str = "", code: str = "", error: str = "") -> Response:
    """Take a browser back from a provider."""
    there = _provider(asked, provider)
    flow = _flow(asked, provider, state)
    if error or not code:
        refused = "you said no there" if error == "access_denied" else f"it answered {error[:80] or 'without a code'!r}"
        raise RefusalError(403, f"{there.settings.title} did not sign you in: {refused}.", "Sign in again.")
    proven = await there.proven(_callback(asked, provider), code, flow.nonce, flow.verifier)
    if flow.user is not None:
        return await _ask_to_link(asked, there, flow.user, proven)
    user = await _user(asked, there, proven)
    answer = see_other(flow.then)
    await open_session(asked.request, asked.site, user.id, answer)
    set_cookie(answer, asked.site.settings.url, "", what=AWAY_COOKIE, seconds=0)
    await asked.audit("sign in", user.name, detail=f"with {provider}", by=user)
    return answer


@router.post("/account/identities")
async def link(asked: Asked) -> Response:
    """Add the identity that was proven to the account that is signed in."""
    session = await asked.require_session()
    pending = guard_of(asked.request).flows.pending.take((await asked.take(LinkForm)).pending)
    if pending is None or pending.user != session.user:
        raise RefusalError(403, "That took too long, or began elsewhere.", "Begin again on the page of your account.")
    user = await asked.site.accounts.user(session.user)
    if user is None:
        raise not_there("account")
    await asked.site.accounts.save_user(user, pending.identity)
    await asked.audit("add a way to sign in", user.name, detail=pending.identity.provider)
    return see_other(urls.account())


def _provider(asked: Ask, name: str) -> Provider:
    found = guard_of(asked.request).providers.get(name)
    if found is None:
        raise not_there("sign-in provider of that name")
    return found


def _callback(asked: Ask, provider: str) -> str:
    return f"{asked.site.settings.url}/sign-in/{provider}/callback"


def _flow(asked: Ask, provider: str, state: str) -> Flow:
    """Return what was begun in this very browser; each is good once."""
    cookie = asked.request.cookies.get(cookie_name(asked.site.settings.url, AWAY_COOKIE), "")
    begun_here = bool(state) and hmac.compare_digest(cookie.encode(), state.encode())
    flow = guard_of(asked.request).flows.away.take(state) if begun_here else None
    if flow is None or flow.provider != provider:
        raise RefusalError(403, "This sign-in took too long, or was begun in another browser.", "Sign in again.")
    return flow


async def _ask_to_link(asked: Ask, there: Provider, user: int, proven: Proven) -> Response:
    if asked.session is None or asked.session.user != user:
        raise RefusalError(403, "You are no longer signed in as the one who began this.", "Sign in, then begin again.")
    owner = await asked.site.accounts.known_as(proven.identity)
    if owner is not None and owner.id != user:
        raise RefusalError(403, "That identity belongs to another account.", "Sign in with it to use that account.")
    if owner is not None:
        await asked.site.accounts.save_user(owner, proven.identity)
        return see_other(urls.account())
    label = proven.email or proven.name or proven.identity.subject
    pending = guard_of(asked.request).flows.pending.keep(Pending(identity=proven.identity, user=user, label=label))
    page = LinkPage(provider=there.settings.title, label=label, pending=pending)
    return show(asked, "link_identity.html", page, title="Add a way to sign in")


async def _user(asked: Ask, there: Provider, proven: Proven) -> User:
    """Return whose identity it is, a new account where the provider's settings allow one."""
    user = await asked.site.accounts.known_as(proven.identity)
    admin = proven.identity.subject in there.settings.admins
    if user is None:
        if not there.settings.sign_up and not admin:
            message = f"Nobody here is known by that account of {there.settings.title}, and new accounts are not made."
            raise RefusalError(403, message, "Ask an administrator for an account, then add this one to it.")
        return await _new_user(asked, proven, admin=admin)
    if user.disabled:
        raise RefusalError(403, f"The account {user.name} is disabled.", "Ask an administrator.")
    if proven.identity.login:  # they may be called something else by now
        user = await asked.site.accounts.save_user(user, proven.identity)
    if admin and not user.admin:
        user = await asked.site.accounts.save_user(msgspec.structs.replace(user, admin=True))
        await asked.audit("become an administrator", user.name, detail="by the server's settings", by=user)
    return user


async def _new_user(asked: Ask, proven: Proven, *, admin: bool) -> User:
    for name in _names(proven.name):
        if await asked.site.accounts.user(name) is not None:
            continue
        user = User(name=name, email=proven.email, admin=admin, created_at=asked.site.clock.now())
        try:
            saved = await asked.site.accounts.save_user(user, proven.identity)
        except InputError:  # taken in this moment
            continue
        await asked.audit("add a user", saved.name, detail=f"signed up with {proven.identity.provider}", by=saved)
        return saved
    raise RefusalError(403, "No free name was found for your account.", "Ask an administrator for an account.")


def _names(wanted: str) -> list[str]:
    """Return names for a new account, the best first."""
    cleaned = re.sub(r"[^A-Za-z0-9_.@+-]", "", wanted).lstrip("_.@+-")[:56]
    first = cleaned if USER_NAME.fullmatch(cleaned) else "user"
    return [first, *(f"{first}-{number}" for number in range(2, _NAMES_TRIED))]
