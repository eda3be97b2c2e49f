"""Forges of buildbot-nix and nixbot → `[[forge]]` tables of the server's settings."""

from collections.abc import Iterator
from typing import Final
from urllib.parse import urlsplit

from nixmill.core.importing.credentials import Credentials
from nixmill.core.importing.findings import Findings
from nixmill.core.importing.options import Values
from nixmill.core.importing.toml_text import Table

HEADER: Final = "[[forge]]"
GITHUB: Final = "https://github.com"
_GITHUB_API: Final = "https://api.github.com"
_GITLAB: Final = "https://gitlab.com"
_KINDS: Final = ("github", "gitea", "gitlab")
_REQUIRED: Final = {
    "github": ("appId", "appSecretKeyFile", "webhookSecretFile"),
    "gitea": ("instanceUrl", "tokenFile"),
    "gitlab": ("tokenFile",),
}


def forge_tables(values: Values, status_name: str, credentials: Credentials, findings: Findings) -> Iterator[Table]:
    """Yield a table for each forge that is switched on."""
    for kind in _KINDS:
        if values.flag(f"{kind}.enable"):
            missing = [name for name in _REQUIRED[kind] if values.get(f"{kind}.{name}") is None]
            for name in missing:
                findings.mistake(values.document, (kind, name), "is missing.")
            if not missing:
                yield _forge(kind, values, status_name, credentials, findings)


def _forge(kind: str, values: Values, status_name: str, credentials: Credentials, findings: Findings) -> Table:
    table: dict[str, object] = {"name": kind, "kind": kind, **_addresses(kind, values), "status-name": status_name}
    if kind == "github":
        table["app-id"] = values.number("github.appId")
        table["private-key"] = credentials.name(values.text("github.appSecretKeyFile"), "github-app-key")
    else:
        table["token"] = credentials.name(values.text(f"{kind}.tokenFile"), f"{kind}-token")
    table |= _hook_secret(kind, values, credentials, findings)
    table |= _choice(kind, values, findings)
    return table | _sign_in(kind, values, credentials)


def _addresses(kind: str, values: Values) -> dict[str, object]:
    if kind != "github":
        return {"url": (values.text(f"{kind}.instanceUrl") or _GITLAB).rstrip("/")}
    api = (values.text("github.apiUrl") or _GITHUB_API).rstrip("/")
    if api == _GITHUB_API:
        return {"url": GITHUB}
    parts = urlsplit(api)
    return {"url": f"{parts.scheme}://{parts.netloc}", "api-url": api}


def _hook_secret(kind: str, values: Values, credentials: Credentials, findings: Findings) -> dict[str, object]:
    path = values.text(f"{kind}.webhookSecretFile")
    if kind == "github":
        findings.to_do(
            "In the settings of the GitHub App: the webhook's address becomes URL/hook/forge/github, and its events and"
            " rights those that docs/forges.md lists. Each organisation has to accept new rights."
        )
    else:
        findings.to_do(
            f"Delete the old webhooks of the repositories on {kind}: nixmill makes its own, and the old ones ask a"
            " server that is gone."
        )
    if path:
        return {"webhook-secrets": [credentials.name(path, f"{kind}-webhook")]}
    findings.to_do(
        f"Make a secret for webhooks of {kind}, such as with `openssl rand -hex 32`, put it into a file, and name that"
        f" in [credentials] and in `webhook-secrets` of the forge {kind}, in place of `create-hooks = false`."
    )
    return {"create-hooks": False}


def _choice(kind: str, values: Values, findings: Findings) -> dict[str, object]:
    """Return which repositories become projects."""
    topic = values.text(f"{kind}.topic")
    owners, repositories = values.texts(f"{kind}.userAllowlist"), values.texts(f"{kind}.repoAllowlist")
    listed = any(values.get(f"{kind}.{name}") is not None for name in ("userAllowlist", "repoAllowlist"))
    if not topic and not listed:
        findings.differently(
            f"{kind}: every repository",
            'without a topic and lists nixmill makes no project by itself; owners = ["*"] chooses all it can see.',
            "Write topic, owners or repositories for fewer: whoever installs the App or invites the bot adds projects.",
        )
        return {"owners": ["*"]}
    if listed and not owners and not repositories:
        findings.differently(f"{kind}: no repository", "its lists are empty, so nothing is chosen here either.")
        return {}
    if topic and not owners and not repositories:
        findings.differently(
            f"{kind}: every repository with the topic {topic}",
            'nixmill wants to be told whose: owners = ["*"] is everybody who installs the App or invites the bot.',
            "Write owners or repositories for fewer.",
        )
        owners = ("*",)
    said = {"topic": topic, "owners": owners, "repositories": repositories}
    return {name: value for name, value in said.items() if value}


def _sign_in(kind: str, values: Values, credentials: Credentials) -> dict[str, object]:
    client, path = values.text(f"{kind}.oauthId"), values.text(f"{kind}.oauthSecretFile")
    if not client or not path:
        return {}
    return {"client-id": client, "client-secret": credentials.name(path, f"{kind}-oauth")}
