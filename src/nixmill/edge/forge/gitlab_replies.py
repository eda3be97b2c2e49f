"""Answers to comments on GitLab: a comment of our own, and a reaction."""

import re
from typing import Any, Final

from nixmill.core.posting import Reply
from nixmill.edge.forge.gitlab_ask import PAGE, READ, WRITE, GitLabAsk
from nixmill.edge.forge.gitlab_wire import WireEmoji, WireNote, WireUser
from nixmill.edge.forge.numbered_pages import read_pages
from nixmill.edge.forge.reply_mark import mark_of
from nixmill.edge.forge.web import ForgeWeb

NOTES_MAX: Final = 2000
"""Comments of a merge request that are looked through for an answer that was given already, the newest first."""
_QUICK_ACTION: Final = re.compile(r"(^|[\r\n\v\f\x1c-\x1e\x85\u2028\u2029])([^\S\r\n]*)/")
"""A line such as `/merge` would be obeyed, with our powers."""


class GitLabReplies:
    """Answers."""

    def __init__(self, web: ForgeWeb, ask: GitLabAsk) -> None:
        """Ask through `web`."""
        self._web = web
        self._ask = ask

    async def say(self, reply: Reply, key: str) -> None:
        """Answer once: an answer carries a mark that is looked for among our own comments before it is given."""
        us = await self._web.do(WireUser, self._ask.plain(("user",), "say who we are", READ))
        if reply.text and not await self._was_said(reply, us, mark_of(key)):
            action = f"comment on merge request {reply.pull_request} of {reply.repository}"
            body = {"body": f"{harmless(reply.text)}\n\n{mark_of(key)}"}
            ask = self._ask.of(reply.repository, _notes(reply), action, WRITE, method="POST", body=body)
            await self._web.do(dict[str, Any], ask)
        if reply.comment:
            await self._react(reply, us)

    async def _was_said(self, reply: Reply, us: WireUser, mark: str) -> bool:
        action = f"read the comments on merge request {reply.pull_request} of {reply.repository}"
        query: dict[str, str | int] = {"per_page": PAGE, "sort": "desc", "order_by": "created_at"}
        ask = self._ask.of(reply.repository, _notes(reply), action, READ, query=query)
        notes = await read_pages(self._web, WireNote, ask, limit=NOTES_MAX)
        return any(note.author.id == us.id and mark in note.body for note in notes)

    async def _react(self, reply: Reply, us: WireUser) -> None:
        """Put a reaction on a comment, unless that was deleted or has it."""
        name = "thumbsup" if reply.understood else "confused"
        action = f"react to a comment on merge request {reply.pull_request} of {reply.repository}"
        parts = (*_notes(reply), reply.comment, "award_emoji")
        listing = self._ask.of(reply.repository, parts, action, READ, query={"per_page": PAGE})
        given = await read_pages(self._web, WireEmoji, listing, limit=NOTES_MAX)
        if any(one.user.id == us.id and one.name == name for one in given):
            return
        ask = self._ask.of(reply.repository, parts, action, WRITE, method="POST", body={"name": name})
        # 404 is said of a comment that was deleted, and of a reaction that was given between our two requests.
        await self._web.send(ask)


def harmless(text: str) -> str:
    """Return a text of which no line is a quick action."""
    return _QUICK_ACTION.sub(r"\1\2\\/", text)


def _notes(reply: Reply) -> tuple[str | int, ...]:
    return ("merge_requests", reply.pull_request, "notes")
