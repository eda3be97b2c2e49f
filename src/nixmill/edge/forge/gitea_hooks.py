"""Webhooks of repositories on Gitea and Forgejo: made where there is none of ours, mended where one differs.

A hook of ours is one with our address. An edit resets what it leaves out (`editHook` in
`routers/api/v1/utils/hook.go`), so all of it is sent.
"""

from typing import Final

from nixmill.core.forge import Repository
from nixmill.edge.forge.gitea_ask import ADMIN_HOOKS, PAGE, GiteaAsk
from nixmill.edge.forge.gitea_wire import WireHook
from nixmill.edge.forge.hook_marks import HookMarks, check_mended, made, mended
from nixmill.edge.forge.numbered_pages import read_pages
from nixmill.edge.forge.web import Ask, ForgeWeb

EVENTS: Final = ("push", "create", "delete", "repository", "pull_request")
"""What is asked for; `pull_request` stands for all that happens to one, comments too."""
_NEEDED: Final = frozenset({"push", "create", "delete", "pull_request", "pull_request_sync", "pull_request_comment"})
"""What a hook has to say that it tells of."""
HOOKS_MAX: Final = 500


class GiteaHooks:
    """Keeps hooks in step."""

    def __init__(self, web: ForgeWeb, ask: GiteaAsk) -> None:
        """Ask through `web`."""
        self._web = web
        self._ask = ask
        self._marks = HookMarks()

    async def ensure(self, repository: Repository, url: str, secret: str) -> str:
        """Make or mend the hook of a repository; return in words what was done."""
        hooks = await read_pages(self._web, WireHook, self._about(repository), limit=HOOKS_MAX)
        ours = next((hook for hook in hooks if (hook.config or {}).get("url") == url), None)
        if ours is None:
            return await self._make(repository, url, secret)
        return await self._mend(repository, ours, url, secret)

    def _about(self, repository: Repository) -> Ask:
        action = f"read the webhooks of {repository.path}"
        return self._ask.of(repository.path, ("hooks",), action, ADMIN_HOOKS, query={"limit": PAGE})

    async def _make(self, repository: Repository, url: str, secret: str) -> str:
        body = {"type": "gitea", "config": _config(url, secret), "events": EVENTS, "active": True, "branch_filter": "*"}
        action = f"make a webhook for {repository.path}"
        ask = self._ask.of(repository.path, ("hooks",), action, ADMIN_HOOKS, method="POST", body=body)
        hook = await self._web.do(WireHook, ask)
        self._marks.put(repository, hook.id, url, secret)
        return made(repository)

    async def _mend(self, repository: Repository, hook: WireHook, url: str, secret: str) -> str:
        faults = _faults(hook)
        if not faults and self._marks.has(repository, hook.id, url, secret):
            return ""
        body = {
            "config": _config(url, secret),
            "events": EVENTS,
            "active": True,
            "branch_filter": "*",
            "authorization_header": hook.authorization_header,
        }
        action = f"mend the webhook of {repository.path}"
        ask = self._ask.of(repository.path, ("hooks", hook.id), action, ADMIN_HOOKS, method="PATCH", body=body)
        check_mended(repository, _faults(await self._web.do(WireHook, ask)))
        self._marks.put(repository, hook.id, url, secret)
        return mended(repository, faults)


def _config(url: str, secret: str) -> dict[str, str]:
    return {"url": url, "content_type": "json", "secret": secret}


def _faults(hook: WireHook) -> list[str]:
    """Return in words what is wrong with a hook, as far as the forge shows it."""
    missing = sorted(_NEEDED - set(hook.events or ()))
    return [
        *(["it was switched off"] if not hook.active else []),
        *(["it did not send JSON"] if (hook.config or {}).get("content_type") != "json" else []),
        *([f"it was for the branches {hook.branch_filter!r} only"] if hook.branch_filter not in {"", "*"} else []),
        *([f"it did not tell of {', '.join(missing)}"] if missing else []),
    ]
