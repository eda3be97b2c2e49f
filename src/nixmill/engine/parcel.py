"""Answers on forges as messages of the outbox."""

import msgspec

from nixmill.core.message import ChannelKind, Parcel
from nixmill.core.posting import Reply


def parcel_of(reply: Reply, key: str, *, project: int, now: float) -> Parcel:
    """Return the message; equal keys are one answer."""
    return Parcel(
        key=key,
        project=project,
        run=None,
        channel=ChannelKind.FORGE,
        target=f"{reply.forge} {reply.repository}#{reply.pull_request}",
        credential="",
        title="Answer on a pull request",
        text=reply.text,
        body=msgspec.json.encode(reply).decode(),
        created_at=now,
    )
