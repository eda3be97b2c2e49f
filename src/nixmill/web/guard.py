"""What signing in needs to remember between requests, in memory."""

from typing import TYPE_CHECKING

from starlette.requests import Request

from nixmill.web.flows import Flows
from nixmill.web.forge_roles import ForgeRoles
from nixmill.web.passwords import Passwords
from nixmill.web.rate_limit import RateLimit
from nixmill.web.site import Site

if TYPE_CHECKING:
    from nixmill.web.oidc import Provider


class Guard:
    """Passwords, tries, and sign-ins elsewhere that are under way."""

    def __init__(self, site: Site) -> None:
        """Begin with nothing remembered."""
        settings = site.settings
        self.passwords = Passwords(site.accounts)
        self.tries = RateLimit(settings.sign_in_tries, site.clock.monotonic)
        self.flows = Flows(site.clock.monotonic)
        self.forge_roles = ForgeRoles(site)
        self.providers: dict[str, Provider] = _providers(site) if settings.oidc else {}


def _providers(site: Site) -> dict[str, "Provider"]:
    from nixmill.web.oidc import Provider  # noqa: PLC0415 - its libraries take 10 MiB

    secrets = site.settings.credentials
    return {one.name: Provider(one, secrets.get(one.client_secret), site.clock) for one in site.settings.oidc}


def guard_of(request: Request) -> Guard:
    """Return the guard of the application that a request came to."""
    guard: Guard = request.app.state.guard
    return guard
