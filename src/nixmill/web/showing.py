"""Answers: a page, or its JSON twin at the same address."""

from functools import cache
from typing import Any

import msgspec
from jinja2 import Environment
from starlette.responses import RedirectResponse, Response

from nixmill.core.status import Status
from nixmill.web import writing
from nixmill.web.asking import Ask
from nixmill.web.refusal import not_there

__all__ = ["as_json", "not_there", "see_other", "show"]
_VARY = {"Vary": "Accept, Cookie, Authorization"}


@cache
def templates() -> Environment:
    """Return the one template engine."""
    return writing.environment()


def show(
    ask: Ask,
    template: str,
    page: msgspec.Struct,
    *,
    title: str,
    status: Status | None = None,
    live: bool | str = False,
    code: int = 200,
    **more: Any,  # noqa: ANN401 - whatever else a template wants
) -> Response:
    """Return `page` drawn by `template`, or as JSON. `status` chooses favicon and glyph; `live` follows changes."""
    if ask.wants_json:
        return as_json(page, code)
    context = {"page": page, "ask": ask, "title": title, "status": status, "live": live, "site": ask.site}
    text = templates().get_template(template).render({**context, **more})
    return Response(text, code, media_type="text/html", headers=_VARY)


def as_json(value: Any, code: int = 200) -> Response:  # noqa: ANN401 - whatever msgspec can write
    """Return JSON."""
    return Response(msgspec.json.encode(value), code, media_type="application/json", headers=_VARY)


def see_other(location: str) -> Response:
    """Return what a browser that sent a form gets: go and look there."""
    return RedirectResponse(location, 303)
