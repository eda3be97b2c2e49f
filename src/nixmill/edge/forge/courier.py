"""Answers on pull requests, as messages of the outbox."""

from collections.abc import Mapping

import msgspec

from nixmill.core.message import Parcel
from nixmill.core.posting import Reply
from nixmill.doors import DoorError
from nixmill.doors.forge import AnyForge


class ForgeCourier:
    """Implements `nixmill.doors.server.Courier`."""

    def __init__(self, forges: Mapping[str, AnyForge]) -> None:
        """Answer on these, by name."""
        self._forges = forges

    async def deliver(self, parcel: Parcel) -> None:
        """See `Courier`."""
        reply = msgspec.json.decode(parcel.body, type=Reply)
        forge = self._forges.get(reply.forge)
        if forge is None:
            raise DoorError(
                f"The server's settings have no forge {reply.forge!r} any more.",
                door="forge",
                action="reply",
                subject=parcel.target,
                retryable=False,
            )
        await forge.reply(reply, parcel.key)
