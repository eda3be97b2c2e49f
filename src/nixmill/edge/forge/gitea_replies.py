"""Answers to comments on Gitea and Forgejo: a comment of our own, and a reaction."""

from datetime import UTC, datetime
from typing import Final

from nixmill.core.posting import Reply
from nixmill.doors import Clock
from nixmill.edge.forge.gitea_ask import PAGE, READ_ISSUES, READ_USER, WRITE_ISSUES, GiteaAsk
from nixmill.edge.forge.gitea_wire import WireComment, WireUser
from nixmill.edge.forge.numbered_pages import read_pages
from nixmill.edge.forge.reply_mark import mark_of
from nixmill.edge.forge.web import ForgeWeb

COMMENTS_MAX: Final = 2000
"""Comments of a pull request that are looked through for an answer that was given already."""
SEARCH_S: Final = 7 * 86_400.0
"""How old an answer can be that is still found: longer than an answer is tried for. A list of all comments ever written
could be longer than is read of an answer."""


class GiteaReplies:
    """Answers."""

    def __init__(self, web: ForgeWeb, ask: GiteaAsk, clock: Clock) -> None:
        """Ask through `web`."""
        self._clock = clock
        self._web = web
        self._ask = ask

    async def say(self, reply: Reply, key: str) -> None:
        """Answer once: an answer carries a mark that is looked for among our own comments before it is given."""
        if reply.text and not await self._was_said(reply, mark_of(key)):
            await self._answer(reply, key)
        if reply.comment:
            await self._react(reply)

    async def _answer(self, reply: Reply, key: str) -> None:
        action = f"comment on pull request {reply.pull_request} of {reply.repository}"
        parts: tuple[str | int, ...] = ("issues", reply.pull_request, "comments")
        body = {"body": f"{reply.text}\n\n{mark_of(key)}"}
        ask = self._ask.of(reply.repository, parts, action, WRITE_ISSUES, method="POST", body=body)
        await self._web.do(WireComment, ask)

    async def _react(self, reply: Reply) -> None:
        """Put a reaction on a comment, unless that was deleted; the forge keeps one of each kind."""
        action = f"react to a comment on pull request {reply.pull_request} of {reply.repository}"
        parts: tuple[str | int, ...] = ("issues", "comments", reply.comment, "reactions")
        body = {"content": "+1" if reply.understood else "confused"}
        await self._web.send(self._ask.of(reply.repository, parts, action, WRITE_ISSUES, method="POST", body=body))

    async def _was_said(self, reply: Reply, mark: str) -> bool:
        us = await self._web.do(WireUser, self._ask.plain(("user",), "say who we are", READ_USER))
        parts: tuple[str | int, ...] = ("issues", reply.pull_request, "comments")
        action = f"read the comments on pull request {reply.pull_request} of {reply.repository}"
        since = datetime.fromtimestamp(self._clock.now() - SEARCH_S, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
        query: dict[str, str | int] = {"limit": PAGE, "since": since}
        ask = self._ask.of(reply.repository, parts, action, READ_ISSUES, query=query)
        comments = await read_pages(self._web, WireComment, ask, limit=COMMENTS_MAX)
        return any(one.user is not None and one.user.id == us.id and mark in one.body for one in comments)
