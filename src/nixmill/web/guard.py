"""What signing in needs to remember between requests, in memory."""

from typing import Final

from starlette.requests import Request

from nixmill.web.body_room import BodyRoom
from nixmill.web.flows import Flows
from nixmill.web.forge_roles import ForgeRoles
from nixmill.web.passwords import Passwords
from nixmill.web.providers import Provider, providers
from nixmill.web.rate_limit import RateLimit
from nixmill.web.site import Site

LARGE_AT_ONCE: Final = 4
"""Deliveries of the largest size that are read at the same time."""


class Guard:
    """Passwords, tries, and sign-ins elsewhere that are under way."""

    def __init__(self, site: Site) -> None:
        """Begin with nothing remembered."""
        settings = site.settings
        self.passwords = Passwords(site.accounts)
        self.tries = RateLimit(settings.sign_in_tries, site.clock.monotonic)
        self.flows = Flows(site.clock.monotonic)
        self.forge_roles = ForgeRoles(site)
        self.deliveries = BodyRoom(LARGE_AT_ONCE * settings.webhook_bytes)
        self.providers: dict[str, Provider] = providers(site)


def guard_of(request: Request) -> Guard:
    """Return the guard of the application that a request came to."""
    guard: Guard = request.app.state.guard
    return guard
