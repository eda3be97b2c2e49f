"""API tokens: made on the page of the account, shown once, limited in what they may do, to what, and how long."""

from typing import Annotated, Final

import msgspec
from fastapi import APIRouter
from starlette.responses import Response

from nixmill.core.access import Action, Scope
from nixmill.core.account import TOKEN_DAYS_MAX, ApiToken
from nixmill.core.errors import InputError
from nixmill.web import urls
from nixmill.web.accounts import account_page
from nixmill.web.asking import Ask, Asked
from nixmill.web.finding import PRINTABLE, find_project
from nixmill.web.identify import hashed, new_token
from nixmill.web.refusal import RefusalError, not_there
from nixmill.web.showing import as_json, see_other, show

router: Final = APIRouter()
TOKENS_MAX: Final = 100
"""Tokens of one user at a time."""
DAY_S: Final = 86_400.0


class TokenForm(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A token that is wanted."""

    name: Annotated[str, msgspec.Meta(min_length=1, max_length=64, pattern=PRINTABLE)]
    scopes: tuple[Scope, ...] = (Scope.READ,)
    project: str = ""
    """Empty: all projects."""
    days: Annotated[int, msgspec.Meta(ge=1, le=TOKEN_DAYS_MAX)] = 90


class NewToken(msgspec.Struct, frozen=True, kw_only=True):
    """A token with its secret, which nobody sees again."""

    id: int
    name: str
    token: str
    expires_at: float


class RevokeForm(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A token to revoke."""

    id: int


@router.post("/account/tokens")
async def create(asked: Asked) -> Response:
    """Make a token and show it, this once."""
    session = await asked.require_session()
    form = await asked.take(TokenForm)
    if not form.scopes:
        raise InputError("A token that may do nothing is of no use.", "Choose at least one of: read, run, manage.")
    if len(await asked.site.keys.tokens(session.user)) >= TOKENS_MAX:
        raise InputError(f"Nobody has more than {TOKENS_MAX} tokens.", "Revoke those that are not used any more.")
    secret, now = new_token(), asked.site.clock.now()
    wanted = ApiToken(
        user=session.user,
        name=form.name,
        token_hash=hashed(secret),
        scopes=tuple(scope for scope in Scope if scope in form.scopes),
        project=await _project(asked, form.project),
        created_at=now,
        expires_at=now + form.days * DAY_S,
    )
    saved = await asked.site.keys.save_token(wanted)
    await asked.audit("make an API token", form.name, project=saved.project, detail=", ".join(saved.scopes))
    made = NewToken(id=saved.id, name=saved.name, token=secret, expires_at=saved.expires_at)
    return await _shown(asked, made)


@router.post("/account/tokens/revoke")
async def revoke(asked: Asked) -> Response:
    """Revoke a token; from then on it opens nothing."""
    session = await asked.require_session()
    wanted = (await asked.take(RevokeForm)).id
    found = next((one for one in await asked.site.keys.tokens(session.user) if one.id == wanted), None)
    if found is None:
        raise not_there("API token of yours")
    await asked.site.keys.tokens(session.user, revoke=[wanted])
    await asked.audit("revoke an API token", found.name, project=found.project)
    return see_other(urls.account())


async def _project(asked: Ask, name: str) -> int | None:
    if not name:
        return None
    found = await find_project(asked.site.projects, name)
    if found is None or not asked.may(Action.SEE, found.id, found.visibility):
        raise RefusalError(422, f"There is no project {name!r}.", "Choose one from the list, or none for all.")
    return found.id


async def _shown(asked: Ask, made: NewToken) -> Response:
    """Return the secret, which no cache may keep."""
    if asked.wants_json:
        answer = as_json(made, 201)
    else:
        page = await account_page(asked)
        answer = show(asked, "account.html", page, title="Your account", code=201, made=made)
    answer.headers["Cache-Control"] = "no-store"
    return answer
