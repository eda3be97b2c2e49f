"""`nixmill sign-in` and `sign-out`: a token of a server, kept where only this user can read it."""

import asyncio
import os

from nixmill.cli import ask_secret
from nixmill.cli.client import Client, check_address, check_token, find_access
from nixmill.cli.remembered import Remembered, recall, remember, remembered_file
from nixmill.cli.standard_streams import say
from nixmill.core.errors import InputError
from nixmill.core.view.pages import HomePage


def sign_in(server: str, token_file: str | None) -> int:
    """Ask for a token unless a file or the environment has one, try it, and keep it."""
    address = check_address(server)
    access = find_access(address, token_file, os.environ, Remembered())
    if not access.token:
        say(f"Make a token on {address}/account, with the scopes you want to use here.")
        secret = check_token(ask_secret.token("Token: "), "What was typed")
        access = find_access(
            address, None, os.environ | {"NIXMILL_TOKEN": secret, "NIXMILL_SERVER": address}, Remembered()
        )
    asyncio.run(_tried(Client(access)))
    known = recall(os.environ)
    path = remember(os.environ, Remembered(server=address, tokens={**known.tokens, address: access.token}))
    say(f"{address} is used from now on; its token is in {path}.")
    return 0


def sign_out(server: str | None) -> int:
    """Forget the token of a server, else of the one used last."""
    known = recall(os.environ)
    address = check_address(server) if server else known.server
    if address not in known.tokens:
        raise InputError(
            f"No token of {address} is kept." if address else "No token is kept.",
            f"Those that are, are in {remembered_file(os.environ)}.",
        )
    left = {name: token for name, token in known.tokens.items() if name != address}
    remember(os.environ, Remembered(server="" if known.server == address else known.server, tokens=left))
    say(f"The token of {address} is forgotten here. To make it worthless everywhere: {address}/account")
    return 0


async def _tried(client: Client) -> None:
    async with client:
        await client.page("/", HomePage)
