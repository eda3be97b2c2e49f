"""Signing in with name and password, signing out, and who one is."""

import math
from typing import Annotated, Final

import msgspec
import structlog
from fastapi import APIRouter, Query
from starlette.responses import Response

from nixmill.core import terminal_text
from nixmill.core.account import User
from nixmill.web import urls
from nixmill.web.asking import Ask, Asked
from nixmill.web.body import CSRF_FIELD, Kind, body_of
from nixmill.web.guard import guard_of
from nixmill.web.identify import close_session, cookie_name, open_session, set_cookie
from nixmill.web.problems import ErrorPage
from nixmill.web.providers import elsewhere
from nixmill.web.rate_limit import keys_of
from nixmill.web.refusal import RefusalError
from nixmill.web.security import check_csrf, is_form_token, local_path, masked, new_form_token
from nixmill.web.showing import as_json, see_other, show
from nixmill.web.site import Site

router: Final = APIRouter()
FORM_COOKIE: Final = "form"
FORM_S: Final = 3600
WRONG: Final = "Name or password is wrong."


class SignInForm(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What somebody types to sign in."""

    name: str
    password: str
    next: str = "/"


class ElsewhereLine(msgspec.Struct, frozen=True, kw_only=True):
    """Somewhere else to sign in."""

    name: str
    title: str


class SignInPage(msgspec.Struct, frozen=True, kw_only=True):
    """`/sign-in`."""

    next: str
    elsewhere: tuple[ElsewhereLine, ...]
    name: str = ""
    fault: str = ""


class CurrentUser(msgspec.Struct, frozen=True, kw_only=True):
    """Who one is: the answer to a sign-in and at `/current-user`."""

    id: int
    name: str
    email: str
    admin: bool
    roles: dict[str, str]
    """By the project's name."""


@router.get("/sign-in")
async def page(asked: Asked, then: Annotated[str, Query(alias="next")] = "/") -> Response:
    """Show the form."""
    return _form(asked, SignInPage(next=local_path(then), elsewhere=_elsewhere(asked)))


@router.post("/sign-in")
async def sign_in(asked: Asked) -> Response:
    """Sign somebody in: 403 for a wrong password, 429 after too many tries."""
    body = await body_of(asked.request)
    form = await asked.take(SignInForm)
    if body.kind is Kind.FORM and asked.session is None:
        _check_form_cookie(asked, next(iter(body.fields.get(CSRF_FIELD, [])), ""))
    user = await _known(asked, form)
    if user is None:
        structlog.get_logger().warning("sign-in refused", name=form.name[:64], address=asked.asker.address)
        return _wrong(asked, form, body.kind)
    answer = await _answer(asked, form, body.kind, user)
    await open_session(asked.request, asked.site, user.id, answer)
    await asked.audit("sign in", user.name, by=user)
    return answer


@router.post("/sign-out")
async def sign_out(asked: Asked) -> Response:
    """End the session."""
    await close_session(asked.request, asked.site)
    answer = as_json({"signed_in": False}) if asked.wants_json else see_other(urls.home())
    set_cookie(answer, asked.site.settings.url, "", seconds=0)
    return answer


@router.get("/current-user")
async def current_user(asked: Asked) -> Response:
    """Say who one is; 403 for a stranger."""
    user = await asked.site.accounts.user(asked.viewer.user) if asked.viewer.user is not None else None
    if user is None:
        raise RefusalError(403, "Nobody is signed in.", "Sign in, or send an API token.")
    return as_json(await current(asked.site, user))


async def current(site: Site, user: User) -> CurrentUser:
    """Return what a program wants to know of a user."""
    viewer = await site.accounts.viewer(user.id)
    given = viewer.roles if viewer is not None else {}
    named = {one.id: one.name for one in await site.projects.projects()} if given else {}
    roles = {named[project]: role.value for project, role in given.items() if project in named}
    return CurrentUser(id=user.id, name=user.name, email=user.email, admin=user.admin, roles=roles)


async def _known(asked: Ask, form: SignInForm) -> User | None:
    """Return who signs in; None where name or password is wrong, or the account is disabled."""
    guard = guard_of(asked.request)
    keys = keys_of(form.name, asked.asker.address)
    wait = guard.tries.take(keys)
    if wait > 0:
        raise too_many(wait)
    user = await guard.passwords.owner(form.name, form.password)
    if user is None:
        return None
    guard.tries.give_back(keys)
    if user.disabled:
        raise RefusalError(403, f"The account {user.name} is disabled.", "Ask an administrator.")
    return user


def too_many(wait_s: float) -> RefusalError:
    """Return the answer to somebody who has tried too often."""
    return RefusalError(
        429,
        "Too many wrong passwords for this account or from this address.",
        f"Wait {terminal_text.duration(math.ceil(wait_s))}, then try again.",
        headers={"Retry-After": str(math.ceil(wait_s))},
    )


async def _answer(asked: Ask, form: SignInForm, kind: Kind, user: User) -> Response:
    if kind is Kind.FORM and not asked.wants_json:
        return see_other(local_path(form.next))
    return as_json(await current(asked.site, user))


def _wrong(asked: Ask, form: SignInForm, kind: Kind) -> Response:
    if kind is not Kind.FORM or asked.wants_json:
        return as_json(ErrorPage(error=WRONG, remedy="Try again; an administrator can set a new password."), 403)
    page = SignInPage(next=local_path(form.next), elsewhere=_elsewhere(asked), name=form.name, fault=WRONG)
    return _form(asked, page, 403)


def _form(asked: Ask, page: SignInPage, code: int = 200) -> Response:
    """Return the form with a token that a cookie repeats, so that no other site can sign somebody in as itself."""
    url = asked.site.settings.url
    token = _form_cookie(asked) or new_form_token()
    answer = show(asked, "sign_in.html", page, title="Sign in", code=code, form_token=asked.csrf or masked(token))
    set_cookie(answer, url, token, what=FORM_COOKIE, seconds=FORM_S)
    return answer


def _form_cookie(asked: Ask) -> str:
    token = asked.request.cookies.get(cookie_name(asked.site.settings.url, FORM_COOKIE), "")
    return token if is_form_token(token) else ""


def _check_form_cookie(asked: Ask, given: str) -> None:
    check_csrf(given, _form_cookie(asked))


def _elsewhere(asked: Ask) -> tuple[ElsewhereLine, ...]:
    return tuple(ElsewhereLine(name=one.name, title=one.title) for one in elsewhere(asked.site.settings))
