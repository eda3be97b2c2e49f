"""The webhook of a GitHub App: one for all repositories, looked at now and then and mended."""

from typing import Final

import msgspec

from nixmill.config.forges import ForgeSettings
from nixmill.edge.forge.credentials import ForgeCredentials
from nixmill.edge.forge.github_app import PERMISSIONS, GitHubApp
from nixmill.edge.forge.github_events import EVENTS
from nixmill.edge.forge.web import Ask

LOOK_S: Final = 3600.0
"""Seconds between two looks."""
_CONFIG: Final = "/app/hook/config"
_WRITE: Final = ("write", "admin")


class _Config(msgspec.Struct):
    url: str = ""
    content_type: str = ""
    insecure_ssl: str | float = "0"
    secret: str = ""
    """Stars, where there is one."""


class _App(msgspec.Struct):
    name: str = "?"
    permissions: dict[str, str] = {}
    events: list[str] = []


class GitHubHook:
    """Sees to the webhook."""

    def __init__(self, app: GitHubApp, settings: ForgeSettings, secrets: ForgeCredentials) -> None:
        """See to the hook of this App."""
        self._app = app
        self._settings = settings
        self._secrets = secrets
        self._looked: dict[str, float] = {}

    async def ensure(self, url: str, now: float) -> str:
        """See `ForgeEntrance.ensure_hook`: at most once in `LOOK_S`, whichever repository it is about."""
        if now < self._looked.get(url, -LOOK_S) + LOOK_S:
            return ""
        told = " ".join(part for part in (await self._mended(url), await self._missing()) if part)
        self._looked = {url: now}
        return told

    async def _mended(self, url: str) -> str:
        """Compare the hook with what it should be; change it where that is wanted."""
        ask = self._app.signed(Ask("GET", _CONFIG, "read the webhook of the App"))
        found = await self._app.web.do(_Config, ask)
        wrong = wrongs(found, url)
        if not wrong:
            return ""
        what = f"The webhook of the App of {self._app.name} {', '.join(wrong)}"
        if not self._settings.create_hooks:
            return f"{what}: mend it on the App's page, as `create-hooks` is off."
        if not self._settings.webhook_secrets:
            return f"{what}, and no delivery can be believed: name a credential in `webhook-secrets` first."
        secret = self._secrets.secret(self._settings.webhook_secrets[0])
        body = {"url": url, "content_type": "json", "insecure_ssl": "0", "secret": secret}
        await self._app.web.do(_Config, self._app.signed(Ask("PATCH", _CONFIG, "mend the webhook", body=body)))
        return f"{what}; this was mended."

    async def _missing(self) -> str:
        """Say what the App may not do, or is not told of; only its owner can change that."""
        ask = self._app.signed(Ask("GET", "/app", "read the settings of the App"))
        return missing(await self._app.web.do(_App, ask))


def wrongs(found: _Config, url: str) -> list[str]:
    """Return what is wrong with a hook that should lead to `url`."""
    faults = {
        "led elsewhere": found.url != url,
        "did not send JSON": found.content_type != "json",
        "did not check certificates": str(found.insecure_ssl) not in {"0", "0.0"},
        "had no secret": not found.secret,
    }
    return [fault for fault, is_so in faults.items() if is_so]


def missing(app: _App) -> str:
    """Return in a sentence which permissions and events an App lacks; empty where it has all."""
    lacks = [
        f"the permission {name}: {level}"
        for name, level in PERMISSIONS.items()
        if app.permissions.get(name) not in ({level, *_WRITE})
    ]
    lacks += [f"the event {event}" for event in EVENTS if event not in app.events]
    if not lacks:
        return ""
    return f"The App {app.name[:100]!r} lacks {', '.join(lacks)}: its owner can add them on the App's page."
