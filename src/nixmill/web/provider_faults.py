"""What is said when somebody else, who was to prove who a person is, did not; and the secret that we are known by."""

import asyncio
from pathlib import Path
from typing import Final

from nixmill.config.server import OidcProvider
from nixmill.doors import DoorError
from nixmill.web.refusal import RefusalError

_SHOWN: Final = 120


def bad(settings: OidcProvider, what: str) -> RefusalError:
    """Return the refusal of a proof."""
    message = f"{settings.title} did not prove who you are: {what}."
    return RefusalError(403, message, "Sign in again; where it stays so, tell an administrator.")


def away(settings: OidcProvider, action: str, error: Exception) -> DoorError:
    """Return the error for a provider that does not answer."""
    return DoorError(
        f"The sign-in provider {settings.title} does not answer as it should ({short(error)}). "
        "It is not your fault; try again in a moment, or sign in with a password.",
        door="sign-in",
        action=action,
        subject=settings.issuer,
        retryable=True,
    )


def short(error: Exception) -> str:
    """Return the beginning of what an error says."""
    return (str(error) or type(error).__name__).splitlines()[0][:_SHOWN]


async def client_secret(settings: OidcProvider, file: Path | None) -> str:
    """Return the secret that the provider knows this server by; raise `DoorError` where it cannot be read."""
    name = settings.client_secret
    try:
        if file is None:
            raise FileNotFoundError(name)
        return (await asyncio.to_thread(file.read_text)).strip()
    except OSError as error:
        raise DoorError(
            f"The secret for signing in with {settings.title} cannot be read; "
            f"an administrator has to provide the credential {name!r}.",
            door="sign-in",
            action="read a credential",
            subject=name,
            retryable=False,
        ) from error
