"""A message to a Matrix room. The transaction id follows from the message: sent twice, it appears once.

The token only ever goes to the homeserver of the settings; a rule names a room.
Source: Matrix specification v1.11, client-server API, `PUT …/send/{eventType}/{txnId}`, `m.notice`, `m.mentions`.
"""

import html
from typing import Final
from urllib.parse import quote

import msgspec

from nixmill.config.server import MatrixSettings
from nixmill.core.message import Parcel
from nixmill.doors import DoorError
from nixmill.edge.notify.credentials import Credentials
from nixmill.edge.notify.outgoing import Answer, Outgoing, check
from nixmill.edge.notify.webhook import delivery_id

TEXT_MAX: Final = 5000
"""Characters: an event has at most 65,536 bytes, and a character may need 12 of them, as the text is in it twice."""
_CUT: Final = "\n… (the rest is on the page of the run)"


class MatrixCourier:
    """Implements `nixmill.doors.server.Courier`."""

    def __init__(self, settings: MatrixSettings, outgoing: Outgoing, credentials: Credentials) -> None:
        """Hand messages in at the homeserver of the settings."""
        self._settings = settings
        self._outgoing = outgoing
        self._credentials = credentials

    async def deliver(self, parcel: Parcel) -> None:
        """See `Courier`."""
        room, transaction = quote(parcel.target, safe=""), delivery_id(parcel.key)
        base = self._settings.homeserver.rstrip("/")
        url = f"{base}/_matrix/client/v3/rooms/{room}/send/m.room.message/{transaction}"
        headers = {"Authorization": f"Bearer {self._token(parcel)}", "Content-Type": "application/json"}
        content = msgspec.json.encode(event(parcel.text))
        answer = await self._outgoing.send("PUT", url, content=content, headers=headers, trusted=True)
        check(answer, url, after_s=_retry_after_s(answer))

    def _token(self, parcel: Parcel) -> str:
        if parcel.credential:
            return self._credentials.of_rule(parcel.credential)
        if self._settings.token:
            return self._credentials.of_settings(self._settings.token)
        raise DoorError(
            "There is no access token for Matrix: name a credential in the rule, or as `token` in the settings.",
            door="notify",
            action="deliver",
            subject=parcel.target,
            retryable=False,
        )


def event(text: str) -> dict[str, object]:
    """Return the content of the event: a notice, so that no other robot answers, which mentions nobody."""
    if len(text) > TEXT_MAX:
        text = text[: TEXT_MAX - len(_CUT)] + _CUT
    first, _, rest = text.partition("\n")
    formatted = f"<strong>{html.escape(first, quote=False)}</strong>\n{html.escape(rest, quote=False)}"
    return {
        "msgtype": "m.notice",
        "body": text,
        "format": "org.matrix.custom.html",
        "formatted_body": formatted.replace("\n", "<br/>"),
        "m.mentions": {},
    }


def _retry_after_s(answer: Answer) -> float | None:
    """Return the time that a homeserver names in its answer (`M_LIMIT_EXCEEDED`), in seconds."""
    try:
        wait_ms = msgspec.json.decode(answer.body, type=dict[str, object]).get("retry_after_ms")
    except msgspec.MsgspecError:
        return None
    return max(0.0, wait_ms / 1000) if isinstance(wait_ms, int | float) else None
