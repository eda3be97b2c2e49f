"""Answers to comments on GitHub: a reaction, and a comment that carries a hidden mark so that it is said once."""

import hashlib
import re
from datetime import UTC, datetime
from typing import Any, Final

import msgspec

from nixmill.core.posting import Reply
from nixmill.edge.forge.github_app import GitHubApp
from nixmill.edge.forge.web import Ask, RefusedError, path_of

TEXT_MAX: Final = 65_000
"""Characters of a comment; GitHub takes 65,536."""
SEARCH_S: Final = 7 * 86_400.0
"""How far back an answer is looked for: longer than one is tried."""
_COMMENTS_MAX: Final = 1000
_NEEDS: Final = "Pull requests: write"
_PLAIN: Final = re.compile(r"[A-Za-z0-9._:]{1,100}(-[A-Za-z0-9._:]{1,100}){0,20}")


class _Comment(msgspec.Struct):
    body: str | None = None
    performed_via_github_app: dict[str, Any] | None = None


class GitHubReplies:
    """Answers."""

    def __init__(self, app: GitHubApp) -> None:
        """Speak as the App."""
        self._app = app

    async def reply(self, reply: Reply, key: str, now: float) -> None:
        """See `ForgeVoice.reply`."""
        if reply.comment:
            await self._react(reply)
        if reply.text and not await self._was_said(reply, key, now):
            await self._say(reply, key)

    async def _react(self, reply: Reply) -> None:
        """Put a reaction on a comment, unless that was deleted; GitHub keeps one of each kind."""
        ask = Ask(
            "POST",
            _path(reply, "comments", reply.comment, "reactions"),
            f"react to a comment in {reply.repository}",
            needs=_NEEDS,
            body={"content": "+1" if reply.understood else "confused"},
        )
        try:
            await self._app.do(dict[str, Any], reply.repository, ask)
        except RefusedError as error:
            if error.status != 404:
                raise

    async def _was_said(self, reply: Reply, key: str, now: float) -> bool:
        since = datetime.fromtimestamp(now - SEARCH_S, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
        ask = Ask(
            "GET",
            _path(reply, reply.pull_request, "comments"),
            f"list the comments of pull request {reply.pull_request} of {reply.repository}",
            needs=_NEEDS,
            query={"per_page": 100, "since": since},
        )
        mark = mark_of(key)
        found = await self._app.read_all(_Comment, reply.repository, ask, limit=_COMMENTS_MAX)
        # Anybody can write our mark.
        return any(mark in (one.body or "") for one in found if _app_of(one) == self._app.id)

    async def _say(self, reply: Reply, key: str) -> None:
        ask = Ask(
            "POST",
            _path(reply, reply.pull_request, "comments"),
            f"comment on pull request {reply.pull_request} of {reply.repository}",
            needs=_NEEDS,
            body={"body": f"{reply.text[:TEXT_MAX]}\n\n{mark_of(key)}"},
        )
        await self._app.do(_Comment, reply.repository, ask)


def mark_of(key: str) -> str:
    """Return the mark of an answer: a comment of HTML, which GitHub does not show."""
    plain = key if _PLAIN.fullmatch(key) else hashlib.sha256(key.encode(errors="replace")).hexdigest()
    return f"<!-- nixmill:{plain} -->"


def _app_of(comment: _Comment) -> int | None:
    found = (comment.performed_via_github_app or {}).get("id")
    return found if isinstance(found, int) else None


def _path(reply: Reply, *parts: str | int) -> str:
    owner, _, name = reply.repository.partition("/")
    return path_of("repos", owner, name, "issues", *parts)
