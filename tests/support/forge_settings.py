"""The settings of forges that take a token, with their credentials in files."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TypeVar

import msgspec

from nixmill.config.forges import ForgeSettings
from nixmill.core.forge import ForgeKind
from nixmill.doors import Clock
from nixmill.edge.system_clock import SystemClock

F = TypeVar("F")


def token_forge(
    make: Callable[[ForgeSettings, Mapping[str, Path], Clock], F],
    kind: ForgeKind,
    address: str,
    directory: Path,
    token: str,
    **settings: object,
) -> F:
    """Return the forge at an address, whose webhooks have the secret `new` and had `old`."""
    files = {"token": token, "hook-new": "new", "hook-old": "old"}
    for name, secret in files.items():
        (directory / name).write_text(secret + "\n")
    standard = ForgeSettings(
        name="forge",
        kind=kind,
        url=address,
        token="token",  # noqa: S106 - the name of a credential
        webhook_secrets=("hook-new", "hook-old"),
    )
    changed = msgspec.structs.replace(standard, **settings)
    return make(changed, {name: directory / name for name in files}, SystemClock())
