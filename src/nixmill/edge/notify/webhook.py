"""A run as a signed POST of JSON (`nixmill.core.message.Ended`)."""

import hashlib
import hmac
from typing import Final

from nixmill.core.message import Parcel
from nixmill.edge.notify.credentials import Credentials
from nixmill.edge.notify.outgoing import Outgoing, check

EVENT: Final = "run ended"


class WebhookCourier:
    """Implements `nixmill.doors.server.Courier`. A message that comes twice has the same `X-Nixmill-Delivery`."""

    def __init__(self, outgoing: Outgoing, credentials: Credentials) -> None:
        """Send through `outgoing`; sign with the credential that a rule names."""
        self._outgoing = outgoing
        self._credentials = credentials

    async def deliver(self, parcel: Parcel) -> None:
        """See `Courier`."""
        body = parcel.body.encode()
        headers = {
            "Content-Type": "application/json",
            "User-Agent": "nixmill",
            "X-Nixmill-Event": EVENT,
            "X-Nixmill-Delivery": delivery_id(parcel.key),
        }
        if parcel.credential:
            headers["X-Nixmill-Signature"] = signature(self._credentials.of_rule(parcel.credential), body)
        check(await self._outgoing.send("POST", parcel.target, content=body, headers=headers), parcel.target)


def signature(secret: str, body: bytes) -> str:
    """Return what proves that a body comes from somebody who knows the secret: HMAC-SHA256 of the raw bytes."""
    return "sha256=" + hmac.new(secret.encode(), body, hashlib.sha256).hexdigest()


def delivery_id(key: str) -> str:
    """Return a message's key as 32 hexadecimal digits: equal for equal messages, fit for headers and addresses."""
    return hashlib.sha256(key.encode()).hexdigest()[:32]
