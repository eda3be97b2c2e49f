"""Webhooks of projects on GitLab: made where there is none of ours, mended where one differs.

A hook of ours is one with our address. Source: `doc/api/project_webhooks.md`.
"""

from typing import Any, Final

from nixmill.core.forge import Repository
from nixmill.edge.forge.gitlab_ask import ADMIN, PAGE, GitLabAsk
from nixmill.edge.forge.gitlab_wire import WireHook
from nixmill.edge.forge.hook_marks import HookMarks, check_mended, made, mended
from nixmill.edge.forge.numbered_pages import read_pages
from nixmill.edge.forge.web import ForgeWeb

HOOKS_MAX: Final = 500
_EVENTS: Final = ("push_events", "tag_push_events", "merge_requests_events", "note_events")


class GitLabHooks:
    """Keeps hooks in step."""

    def __init__(self, web: ForgeWeb, ask: GitLabAsk) -> None:
        """Ask through `web`."""
        self._web = web
        self._ask = ask
        self._marks = HookMarks()

    async def ensure(self, repository: Repository, url: str, secret: str) -> str:
        """Make or mend the hook of a project; return in words what was done."""
        action = f"read the webhooks of {repository.path}"
        ask = self._ask.of(repository.path, ("hooks",), action, ADMIN, query={"per_page": PAGE})
        hooks = await read_pages(self._web, WireHook, ask, limit=HOOKS_MAX)
        ours = next((hook for hook in hooks if hook.url == url), None)
        if ours is None:
            return await self._make(repository, url, secret)
        return await self._mend(repository, ours, url, secret)

    async def _make(self, repository: Repository, url: str, secret: str) -> str:
        action = f"make a webhook for {repository.path}"
        ask = self._ask.of(repository.path, ("hooks",), action, ADMIN, method="POST", body=_body(url, secret))
        hook = await self._web.do(WireHook, ask)
        self._marks.put(repository, hook.id, url, secret)
        return made(repository)

    async def _mend(self, repository: Repository, hook: WireHook, url: str, secret: str) -> str:
        faults = _faults(hook)
        if faults or not self._marks.has(repository, hook.id, url, secret):
            action = f"mend the webhook of {repository.path}"
            body = _body(url, secret)
            ask = self._ask.of(repository.path, ("hooks", hook.id), action, ADMIN, method="PUT", body=body)
            check_mended(repository, _faults(await self._web.do(WireHook, ask)))
            self._marks.put(repository, hook.id, url, secret)
        if hook.alert_status == "disabled":
            await self._try(repository, hook)
            faults.append("it was switched off after deliveries that failed, and a trial was asked for")
        return mended(repository, faults)

    async def _try(self, repository: Repository, hook: WireHook) -> None:
        """Ask for a trial delivery: a hook that was switched off for good comes on again by one that succeeds."""
        action = f"try the webhook of {repository.path}"
        parts: tuple[str | int, ...] = ("hooks", hook.id, "test", "push_events")
        await self._web.do(dict[str, Any], self._ask.of(repository.path, parts, action, ADMIN, method="POST"))


def _body(url: str, secret: str) -> dict[str, str | bool]:
    return {
        "url": url,
        "token": secret,
        **dict.fromkeys(_EVENTS, True),
        "push_events_branch_filter": "",
        "branch_filter_strategy": "all_branches",
        "custom_webhook_template": "",
    }


def _faults(hook: WireHook) -> list[str]:
    """Return in words what is wrong with a hook, as far as the forge shows it."""
    missing = [event.removesuffix("_events") for event in _EVENTS if not getattr(hook, event)]
    return [
        *([f"it did not tell of {', '.join(missing)}"] if missing else []),
        *(
            [f"it was for the branches {hook.push_events_branch_filter!r} only"]
            if hook.push_events_branch_filter
            else []
        ),
        *(["it sent a body of its own making"] if hook.custom_webhook_template else []),
    ]
