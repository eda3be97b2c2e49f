"""Webhooks: a signed request that says "look again". It is a hint: what changed is asked of the remote itself.

The signature is verified on the raw body before anything is read of it (semantics §11). Nothing is done in the answer:
who calls waits for no remote.
"""

import hashlib
import hmac
from typing import Final

from fastapi import APIRouter, Request, Response

from nixmill.web.refusal import RefusalError
from nixmill.web.showing import as_json
from nixmill.web.site import Site

router: Final = APIRouter()
SIGNATURES: Final = ("x-nixmill-signature", "x-hub-signature-256", "x-gitea-signature", "x-forgejo-signature")
"""Headers that hold `sha256=HEX` or HEX, of HMAC-SHA256 over the body."""
DELIVERIES: Final = ("x-nixmill-delivery", "x-github-delivery", "x-gitea-delivery", "x-forgejo-delivery")
DELIVERY_MAX: Final = 200


@router.post("/hook/{name}")
async def webhook(request: Request, name: str) -> Response:
    """Take a webhook for a project. An unknown project and a bad signature look alike to strangers."""
    site: Site = request.app.state.site
    body = await request.body()
    given = next((value for header in SIGNATURES if (value := request.headers.get(header))), "")
    if not given:
        remedy = "Sign the body with HMAC-SHA256 and the project's secret; send X-Nixmill-Signature: sha256=HEX."
        raise RefusalError(401, "The webhook has no signature.", remedy)
    project = await site.projects.project(name)
    secret = site.office.webhook_secret(project.id if project is not None else 0)
    if not _matches(given, secret, body) or project is None:
        raise RefusalError(401, "The webhook's signature is wrong.", "Use the secret shown in the project's settings.")
    delivery = next((value for header in DELIVERIES if (value := request.headers.get(header))), "")
    delivery = delivery[:DELIVERY_MAX] or hashlib.sha256(body + str(site.clock.now()).encode()).hexdigest()
    new = await site.office.pushed(project, delivery)
    return as_json({"accepted": new}, 202 if new else 200)


def _matches(given: str, secret: str, body: bytes) -> bool:
    wanted = hmac.new(secret.encode(), body, hashlib.sha256).hexdigest()
    return hmac.compare_digest(given.strip().lower().removeprefix("sha256=").encode(), wanted.encode())
