"""What can be wrong in a `[[forge]]` of the server's settings though it is well formed."""

from collections.abc import Iterator
from typing import Final
from urllib.parse import urlsplit

from nixmill.config.forges import ForgeSettings
from nixmill.config.mistakes import Mistake
from nixmill.core.errors import InputError
from nixmill.core.forge import ForgeKind
from nixmill.core.project import check_name

STATUS_NAME_MAX: Final = 100
"""Characters; the name of an attribute still fits behind it everywhere."""


def credentials(forge: ForgeSettings) -> Iterator[tuple[str, str]]:
    """Yield (place, name) of the credentials that a forge names."""
    place = f"[[forge]] {forge.name}"
    yield f"{place} token", forge.token
    yield f"{place} private-key", forge.private_key
    yield f"{place} client-secret", forge.client_secret
    for name in forge.webhook_secrets:
        yield f"{place} webhook-secrets", name


def nonsense(forge: ForgeSettings) -> Iterator[Mistake]:
    """Yield what cannot be."""
    place = f"[[forge]] {forge.name}"
    try:
        check_name(forge.name, "forge")
    except InputError as error:
        yield Mistake(f"{place} name", str(error), error.remedy)
    for field, url in (("url", forge.url), ("api-url", forge.api_url)):
        if (url or field == "url") and not _is_address(url):
            yield Mistake(f"{place} {field}", f"{url!r} is no address.", "Write one such as https://git.example.org")
    if not 0 < len(forge.status_name) <= STATUS_NAME_MAX or not forge.status_name.isprintable():
        yield Mistake(f"{place} status-name", f"must be 1 to {STATUS_NAME_MAX} printable characters.")
    yield from _missing(forge, place)


def _missing(forge: ForgeSettings, place: str) -> Iterator[Mistake]:
    match forge.kind:
        case ForgeKind.GITHUB:
            if not forge.app_id or not forge.private_key:
                remedy = "Make a GitHub App (docs/forges.md), then write `app-id` and `private-key`."
                yield Mistake(place, "a GitHub App has a number and a private key.", remedy)
        case ForgeKind.GITEA | ForgeKind.GITLAB:
            if not forge.token:
                yield Mistake(
                    f"{place} token", "is missing.", "Name the credential with an access token (docs/forges.md)."
                )
        case ForgeKind.GERRIT:
            if not forge.token or not forge.user:
                remedy = "Write `user`, and in `token` the credential with its HTTP password (docs/forges.md)."
                yield Mistake(place, "Gerrit needs a user with an HTTP password.", remedy)
    if forge.create_hooks and not forge.webhook_secrets and forge.kind is not ForgeKind.GERRIT:
        remedy = "Name credentials with secrets there, or write `create-hooks = false`."
        yield Mistake(f"{place} webhook-secrets", "is missing: events of the forge could not be verified.", remedy)
    if forge.topic and not forge.owners and not forge.repositories:
        remedy = 'Write `owners` or `repositories` beside it; `owners = ["*"]` where everybody is meant.'
        yield Mistake(f"{place} topic", "alone lets anybody who invites our user there make a project here.", remedy)
    if forge.client_id and not forge.client_secret:
        yield Mistake(f"{place} client-secret", "is missing beside `client-id`.", "Name the credential that holds it.")


def _is_address(url: str) -> bool:
    try:
        parts = urlsplit(url)
        return parts.scheme in {"http", "https"} and bool(parts.hostname) and not (parts.query or parts.username)
    except ValueError:
        return False
