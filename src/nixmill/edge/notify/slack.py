"""A message to an incoming webhook, as Slack, Mattermost, Rocket.Chat and others take it.

The address of such a webhook is a secret by itself: it can stand in a credential, and the rule's target is then only
what people call it.
Source: Slack's "Formatting text for app surfaces": `&`, `<` and `>` are to be escaped, all else is text.
"""

import re
from typing import Final

import msgspec

from nixmill.core.message import Parcel
from nixmill.edge.notify.credentials import Credentials
from nixmill.edge.notify.outgoing import Outgoing, check

TEXT_MAX: Final = 4000
"""Characters; Slack shows a longer text in pieces."""
_CUT: Final = "\n… (the rest is on the page of the run)"
_MENTION: Final = re.compile(r"(?<![\w.])@(?=\w)")


class SlackCourier:
    """Implements `nixmill.doors.server.Courier`. Nothing tells the other side that a message came before."""

    def __init__(self, outgoing: Outgoing, credentials: Credentials) -> None:
        """Send through `outgoing`."""
        self._outgoing = outgoing
        self._credentials = credentials

    async def deliver(self, parcel: Parcel) -> None:
        """See `Courier`."""
        url = self._credentials.of_rule(parcel.credential) if parcel.credential else parcel.target
        content = msgspec.json.encode({"text": encoded(parcel.text), "mrkdwn": False, "unfurl_links": False})
        headers = {"Content-Type": "application/json", "User-Agent": "nixmill"}
        check(await self._outgoing.send("POST", url, content=content, headers=headers), url)


def encoded(text: str) -> str:
    """Return text that stays text: no markup, and no `@channel` that rings everybody's bell."""
    if len(text) > TEXT_MAX:
        text = text[: TEXT_MAX - len(_CUT)] + _CUT
    text = text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    return _MENTION.sub("@\u200b", text)
