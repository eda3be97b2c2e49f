"""Webhooks of forges. Verified on the raw body, recorded, acknowledged; looked into afterwards.

Who calls waits for no forge and no git. A delivery that could not be recorded is answered with 503, so that the forge
sends it again.
"""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from typing import Final

import structlog
from fastapi import APIRouter, Request, Response

from nixmill.core.forge import ForgeryError, MalformedEventError
from nixmill.web.guard import guard_of
from nixmill.web.refusal import RefusalError
from nixmill.web.showing import as_json
from nixmill.web.site import Site

router: Final = APIRouter()
log = structlog.get_logger("nixmill")
LARGE: Final = 256 * 1024
"""Bytes from which on a delivery is read beside the event loop."""


@router.post("/hook/forge/{name}")
async def forge_webhook(request: Request, name: str) -> Response:
    """Take a webhook of a forge."""
    site: Site = request.app.state.site
    headers = {key.lower(): value for key, value in request.headers.items()}
    try:
        async with _delivery(request) as body:
            forge = site.forges.get(name)
            if forge is None:
                raise _unsigned()
            large = len(body) > LARGE
            event = await asyncio.to_thread(forge.event, headers, body) if large else forge.event(headers, body)
    except ForgeryError as error:
        log.warning("a delivery of a forge was not signed as it should be", forge=name, error=str(error))
        raise _unsigned() from error
    except MalformedEventError as error:
        raise RefusalError(400, str(error), "Is this hook of the right kind of forge?") from error
    new = await site.office.took(name, event)
    return as_json({"accepted": new, "delivery": event.delivery[:200]}, 202 if new else 200)


@contextlib.asynccontextmanager
async def _delivery(request: Request) -> AsyncIterator[bytes]:
    """Read a delivery. Who sends it is not known yet, so large ones share a room; small ones always find a place."""
    room = guard_of(request).deliveries
    body, held = bytearray(), 0
    try:
        async for chunk in request.stream():
            body += chunk
            wanted = max(len(body) - LARGE, 0)
            if not room.take(wanted - held):
                raise RefusalError(503, "Too many large deliveries come at once.", "Send it again in a minute.")
            held = wanted
        yield bytes(body)
    finally:
        room.give(held)


def _unsigned() -> RefusalError:
    """Return the answer to who does not know the secret: it does not say which forges there are."""
    return RefusalError(
        401,
        "This delivery has no signature of a forge of that name, or a wrong one.",
        "Give the hook the secret that the server's settings name, and the address with the forge's name there.",
    )
