"""What people and programs are told when a request cannot be answered: one sentence, a remedy, the right code."""

import secrets
from http import HTTPStatus
from typing import Final

import msgspec
import structlog
from fastapi import FastAPI
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response

from nixmill.core.errors import InputError
from nixmill.core.status import Status
from nixmill.doors import DoorError, NotAllowedError
from nixmill.web import urls
from nixmill.web.asking import Ask, ask, stranger
from nixmill.web.refusal import MovedError, RefusalError
from nixmill.web.showing import show

RETRY_S: Final = 5
"""Seconds after which a request that failed for an outside reason may be tried again."""
_WORDS: Final = {
    404: ("There is no such page.", "Check the address, or start from the home page."),
    405: ("This address does not take that kind of request.", "The documentation of the API says which it takes."),
    413: ("The request is too large.", "Send less; the server's setting body_bytes says how much is taken."),
}

_DOORS: Final = {"history": "The database", "logs": "The logs", "source": "The repository"}
_FOR_ALL: Final = frozenset({"sign-in"})
"""Doors whose sentences name nothing that strangers may not know."""


class ErrorPage(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What went wrong: also the JSON answer."""

    error: str
    remedy: str
    id: str = ""
    """Of an unexpected error; the log has it too."""


def install(app: FastAPI) -> None:
    """Let the application answer errors in our words."""
    app.add_exception_handler(RefusalError, _refused)
    app.add_exception_handler(MovedError, _moved)
    app.add_exception_handler(InputError, _input)
    app.add_exception_handler(DoorError, _door)
    app.add_exception_handler(HTTPException, _http)
    app.add_exception_handler(RequestValidationError, _invalid)


async def who(request: Request) -> Ask:
    """Return who asks, for an error page; a stranger where that cannot be found out now."""
    known = stranger(request)
    if known.viewer.signed_in or request.method != "GET":
        return known
    try:
        return await ask(request)
    except (RefusalError, DoorError):
        return known


async def _refused(request: Request, error: Exception) -> Response:
    assert isinstance(error, RefusalError)  # noqa: S101 - it is installed for this class alone
    if error.sign_in and "text/html" in request.headers.get("accept", ""):
        asked = stranger(request)
        if not asked.wants_json:
            return RedirectResponse(urls.sign_in(asked.path if request.method == "GET" else ""), 303)
    return _shown(await who(request), error.code, str(error), error.remedy, error.headers)


async def _moved(request: Request, error: Exception) -> Response:
    del request
    return RedirectResponse(str(error), 308)


async def _input(request: Request, error: Exception) -> Response:
    code = 400 if request.method == "GET" else 422
    return _shown(await who(request), code, str(error), getattr(error, "remedy", ""))


async def _door(request: Request, error: Exception) -> Response:
    if isinstance(error, NotAllowedError):
        return _shown(await who(request), 403, str(error), "Ask an administrator.")
    asked = stranger(request)
    structlog.get_logger().warning("a door failed", path=request.url.path, error=str(error))
    remedy = "Nothing is lost. Reload the page in a moment; where it stays so, tell an administrator."
    return _shown(asked, 503, _said(error, asked), remedy, {"Retry-After": str(RETRY_S)})


def _said(error: Exception, asked: Ask) -> str:
    """Return what somebody is told: only administrators hear of hosts and paths; the log has them in any case."""
    door = getattr(error, "door", "")
    if asked.viewer.admin or door in _FOR_ALL:
        return str(error)
    return f"{_DOORS.get(door, 'Something that this page needs')} cannot be used now: that is our fault, not yours."


async def _http(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)  # noqa: S101 - it is installed for this class alone
    known = HTTPStatus(error.status_code).phrase + "."
    message, remedy = _WORDS.get(error.status_code, (known, "Check the request."))
    rest_unread = {"Connection": "close"} if error.status_code == 413 else {}
    return _shown(await who(request), error.status_code, message, remedy, {**(error.headers or {}), **rest_unread})


async def _invalid(request: Request, error: Exception) -> Response:
    """Answer for a parameter of a path (404: no such page) or of the query (400)."""
    assert isinstance(error, RequestValidationError)  # noqa: S101 - it is installed for this class alone
    problems = [(entry["loc"][0], ".".join(map(str, entry["loc"][1:])), entry["msg"]) for entry in error.errors()]
    if any(place == "path" for place, _, _ in problems):
        return _shown(await who(request), 404, *_WORDS[404])
    said = "; ".join(f"{name}: {message}" for _, name, message in problems)
    return _shown(await who(request), 400, f"The address has a mistake: {said}.", "Correct it, or leave it out.")


def unexpected(request: Request, error: Exception) -> Response:
    """Answer for a mistake of ours: an id on the page, the traceback in the log under the same id."""
    number = secrets.token_hex(4)
    structlog.get_logger().error("unexpected error", id=number, path=request.url.path, exc_info=error)
    remedy = f"Tell an administrator the number {number}: the server's log has the details under it."
    return _shown(stranger(request), 500, "Something went wrong here; it is our fault.", remedy, number=number)


def _shown(
    asked: Ask, code: int, message: str, remedy: str, headers: dict[str, str] | None = None, number: str = ""
) -> Response:
    page = ErrorPage(error=message, remedy=remedy, id=number)
    status = Status.TROUBLE if code >= 500 else None
    answer = show(asked, "error.html", page, title=HTTPStatus(code).phrase, status=status, code=code, error_code=code)
    answer.headers.update(headers or {})
    return answer
