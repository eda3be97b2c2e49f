"""Who asks: the session of a cookie, or the API token of a header. Secrets are looked up by their SHA-256."""

import hashlib
import secrets
from typing import Final

import msgspec
from starlette.requests import Request
from starlette.responses import Response

from nixmill.core.access import Viewer
from nixmill.core.account import SESSION_S, TOKEN_PREFIX, ApiToken, Session
from nixmill.web.refusal import RefusalError
from nixmill.web.site import Site

COOKIE_S: Final = 400 * 86_400
"""The longest that browsers keep a cookie: when a session ends is the server's to decide."""
SECRET_BYTES: Final = 32
_AGENT_MAX: Final = 200


class Caller(msgspec.Struct, frozen=True, kw_only=True):
    """Who asks, and how they proved it."""

    viewer: Viewer
    session: Session | None = None
    token: ApiToken | None = None


def hashed(secret: str) -> str:
    """Return what the database keeps of a secret with 256 random bits."""
    return hashlib.sha256(secret.encode()).hexdigest()


def new_token() -> str:
    """Return a new API token."""
    return TOKEN_PREFIX + secrets.token_urlsafe(SECRET_BYTES)


def cookie_name(url: str, what: str = "") -> str:
    """Return the name of a cookie of ours; `__Host-` keeps other hosts of the domain from setting it."""
    name = f"nixmill-{what}" if what else "nixmill"
    return f"__Host-{name}" if url.startswith("https://") else name


def set_cookie(response: Response, url: str, value: str, *, what: str = "", seconds: int = COOKIE_S) -> None:
    """Give the browser a cookie that scripts and other sites cannot read; `seconds` 0 takes it away."""
    response.set_cookie(
        cookie_name(url, what),
        value,
        max_age=seconds,
        path="/",
        secure=url.startswith("https://"),
        httponly=True,
        samesite="lax",
    )


async def caller_of(request: Request, site: Site) -> Caller:
    """Return who asks; raise 401 where there is an `Authorization` that does not open anything."""
    header = request.headers.get("authorization")
    if header is not None:
        return await _by_token(header, site)
    cookie = request.cookies.get(cookie_name(site.settings.url))
    return await _by_session(cookie, site) if cookie else Caller(viewer=Viewer())


async def _by_session(cookie: str, site: Site) -> Caller:
    session = await site.keys.session(hashed(cookie), site.clock.now())
    viewer = await site.accounts.viewer(session.user) if session is not None else None
    return Caller(viewer=viewer or Viewer(), session=session if viewer is not None else None)


async def _by_token(header: str, site: Site) -> Caller:
    kind, _, secret = header.partition(" ")
    secret = secret.strip()
    if kind.lower() != "bearer" or not secret.startswith(TOKEN_PREFIX):
        raise _unauthorized("The header Authorization holds no API token of nixmill.")
    token = await site.keys.token(hashed(secret), site.clock.now())
    viewer = await site.accounts.viewer(token.user) if token is not None else None
    if token is None or viewer is None:
        raise _unauthorized("This API token is not valid: it has expired, was revoked, or never was one.")
    limited = msgspec.structs.replace(viewer, scopes=frozenset(token.scopes), only_project=token.project)
    return Caller(viewer=limited, token=token)


def _unauthorized(message: str) -> RefusalError:
    remedy = f"Send 'Authorization: Bearer {TOKEN_PREFIX}…' with a token made on the page /account."
    return RefusalError(401, message, remedy, headers={"WWW-Authenticate": "Bearer"})


async def open_session(request: Request, site: Site, user: int, response: Response) -> Session:
    """Sign somebody in: a new session with a new secret; the browser's old one ends."""
    await close_session(request, site)
    secret, now = secrets.token_urlsafe(SECRET_BYTES), site.clock.now()
    session = Session(
        token_hash=hashed(secret),
        user=user,
        csrf=secrets.token_hex(16),
        created_at=now,
        seen_at=now,
        expires_at=now + SESSION_S,
        agent=request.headers.get("user-agent", "")[:_AGENT_MAX],
        address=request.client.host if request.client is not None else "",
    )
    await site.keys.open_session(session)
    set_cookie(response, site.settings.url, secret)
    return session


async def close_session(request: Request, site: Site) -> None:
    """End the session of the request's cookie, if it has one."""
    cookie = request.cookies.get(cookie_name(site.settings.url))
    session = await site.keys.session(hashed(cookie), site.clock.now()) if cookie else None
    if session is not None:
        await site.keys.sessions(session.user, end=[session.token_hash])
