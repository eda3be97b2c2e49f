"""Where else one can sign in: providers of the settings, and forges that know this server as a client.

A forge's identity has the forge's name as provider and its numeric id of the user as subject: Gitea, Forgejo and
GitLab say it as `sub`, GitHub as `id`. Names there change hands and are never looked at.
"""

from typing import Final, Protocol
from urllib.parse import urlsplit

from nixmill.config.forges import ForgeSettings
from nixmill.config.server import OidcProvider, ServerSettings
from nixmill.core.forge import ForgeKind
from nixmill.web.proven import Proven
from nixmill.web.site import Site

_KNOWN: Final = {"github.com": "GitHub", "gitlab.com": "GitLab", "codeberg.org": "Codeberg"}


class Provider(Protocol):
    """One place to sign in."""

    settings: OidcProvider

    async def address(self, callback: str, state: str, nonce: str, verifier: str) -> str:
        """Return where to send a browser."""

    async def proven(self, callback: str, code: str, nonce: str, verifier: str) -> Proven:
        """Redeem a code; return who it proves. `RefusalError`: the proof is bad; `DoorError`: there is none."""


def elsewhere(settings: ServerSettings) -> list[OidcProvider]:
    """Return everything that has a button on the page for signing in."""
    return [*settings.oidc, *(_of_forge(forge) for forge in settings.forges if _signs_in(forge))]


def providers(site: Site) -> dict[str, Provider]:
    """Return what talks to each of them, by name."""
    if not elsewhere(site.settings):
        return {}
    from nixmill.web.oauth_github import GithubProvider  # noqa: PLC0415 - its libraries take 10 MiB
    from nixmill.web.oidc import OpenIdProvider  # noqa: PLC0415 - likewise

    secrets = site.settings.credentials
    apis = {forge.name: forge.api_url for forge in site.settings.forges if forge.kind is ForgeKind.GITHUB}
    made: dict[str, Provider] = {}
    for one in elsewhere(site.settings):
        secret = secrets.get(one.client_secret)
        if one.name in apis:
            made[one.name] = GithubProvider(one, secret, apis[one.name])
        else:
            made[one.name] = OpenIdProvider(one, secret, site.clock)
    return made


def _signs_in(forge: ForgeSettings) -> bool:
    return bool(forge.client_id) and forge.kind is not ForgeKind.GERRIT


def _of_forge(forge: ForgeSettings) -> OidcProvider:
    host = urlsplit(forge.url).netloc
    return OidcProvider(
        name=forge.name,
        title=_KNOWN.get(host, host),
        issuer=forge.url,
        client_id=forge.client_id,
        client_secret=forge.client_secret,
        admins=forge.admins,
        sign_up=forge.sign_up,
    )
