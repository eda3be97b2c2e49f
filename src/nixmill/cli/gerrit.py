"""`nixmill gerrit hook`: tells a server what happened on Gerrit, from Gerrit's own hook scripts.

Gerrit calls a script with flags that differ between hooks and versions; what is needed of them becomes an event in the
form of `gerrit stream-events`, signed and posted. Nothing is queued: an event that is lost is found by the server
itself, which asks Gerrit every `reconcile-s` seconds. Source: the documentation of Gerrit's plug-in `hooks`, hooks.md.
"""

import asyncio
import hashlib
import hmac
import os
import re
import signal
import stat
import time
import tomllib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final
from urllib.parse import quote

import httpx2
import msgspec

from nixmill import __version__
from nixmill.cli.client import check_address
from nixmill.core.errors import InputError
from nixmill.core.project import check_name
from nixmill.core.terminal_text import sanitise
from nixmill.doors import DoorError

TIME_LIMIT_S: Final = 8.0
"""For everything: Gerrit's own threads wait for a hook."""
KILL_S: Final = 10
SETTINGS: Final = "/etc/nixmill/gerrit-hook.toml"
SECRET_MAX: Final = 64 * 1024
CHANGE_HOOKS: Final = (
    "patchset-created",
    "change-merged",
    "change-abandoned",
    "change-restored",
    "change-deleted",
    "comment-added",
    "hashtags-changed",
    "topic-changed",
    "wip-state-changed",
    "private-state-changed",
)
HOOKS: Final = (*CHANGE_HOOKS, "ref-updated")
_LATER: Final = "The server finds out by itself, at the next time that it asks Gerrit (`reconcile-s`, 10 minutes)."
_NUMBER: Final = re.compile(r"(?:\A|[/~])(\d{1,12})/?\Z")
"""The number of a change, at the end of `https://…/c/PROJECT/+/1234` or of an id such as `PROJECT~1234`."""
_PEOPLE: Final = {
    "uploader": "uploader",
    "author": "author",
    "submitter": "submitter",
    "abandoner": "abandoner",
    "restorer": "restorer",
    "editor": "editor",
    "changer": "changer",
}


class HookSettings(msgspec.Struct, frozen=True, kw_only=True, rename="kebab", forbid_unknown_fields=True):
    """The hook's own settings: a TOML file that only Gerrit's user can read."""

    server: str
    """Address of the nixmill server: `https://ci.example.org`."""
    forge: str
    """Name of the forge in the server's settings."""
    secret_file: str
    """A file that holds one of the forge's `webhook-secrets`."""


def hook(name: str, flags: Sequence[str], *, settings: str | None, environ: Mapping[str, str]) -> None:
    """Post one event. `flags` are what Gerrit gave. Raises `InputError` or `DoorError`."""
    if name not in HOOKS:
        raise InputError(f"There is no hook {name!r} that a server is told of.", f"Use one of: {', '.join(HOOKS)}.")
    known = read_settings(Path(settings or environ.get("NIXMILL_GERRIT_HOOK") or SETTINGS))
    body = msgspec.json.encode(event(name, flags, at=time.time()))
    # A name that cannot be looked up holds the program beyond every timeout of its own; nobody waits for that.
    signal.alarm(KILL_S)
    try:
        asyncio.run(_post(known, body))
    finally:
        signal.alarm(0)


def read_settings(path: Path) -> HookSettings:
    """Return the settings; raise `InputError` where they, or the secret, are not fit for use."""
    try:
        found = msgspec.convert(tomllib.loads(_private(path)), HookSettings)
    except (tomllib.TOMLDecodeError, msgspec.ValidationError) as error:
        remedy = 'Write three lines: server = "https://…", forge = "…", secret-file = "/…".'
        raise InputError(f"{path} makes no sense: {error}.", remedy) from error
    check_name(found.forge, "forge")
    return msgspec.structs.replace(found, server=check_address(found.server))


def _private(path: Path) -> str:
    """Return the text of a file that nobody but its owner and group can read."""
    try:
        with path.open("rb") as file:
            mode = os.fstat(file.fileno()).st_mode
            text = file.read(SECRET_MAX).decode()
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{path} cannot be read: {error}.", "Name another file: --settings FILE") from error
    if mode & (stat.S_IROTH | stat.S_IWOTH | stat.S_IWGRP):
        raise InputError(f"{path} is open to other users.", f"Close it: chmod 600 {path}")
    return text


def event(name: str, flags: Sequence[str], *, at: float) -> dict[str, object]:
    """Return the event that the flags of a hook tell of, as Gerrit's stream would; raise `InputError`."""
    given = _given(flags)
    told: dict[str, object] = {"type": name, "eventCreatedOn": int(at)}
    told |= {key: {"name": given[flag]} for flag, key in _PEOPLE.items() if flag in given}
    if name == "ref-updated":
        return told | {"refUpdate": _moved(given)}
    told["change"] = _change(name, given)
    if "patchset" in given or "commit" in given:
        patch_set = {"number": given.get("patchset", ""), "revision": given.get("commit", "")}
        told["patchSet"] = patch_set | {"kind": given.get("kind", "")}
    told |= {"comment": given["comment"]} if "comment" in given else {}
    return told | ({"newRev": given["newrev"]} if "newrev" in given else {})


def _given(flags: Sequence[str]) -> dict[str, str]:
    """Return flags by name. Each has a value, which may look like a flag; what does not fit is left out."""
    words = list(flags)
    pairs = zip(words[::2], words[1::2], strict=False)
    return {flag.removeprefix("--").lower(): value for flag, value in pairs if flag.startswith("--")}


def _moved(given: Mapping[str, str]) -> dict[str, str]:
    if not given.get("project") or not given.get("refname"):
        raise InputError("Gerrit named no project or ref.", 'Pass on all that Gerrit gives: ref-updated -- "$@"')
    return {
        "project": given["project"],
        "refName": given["refname"],
        "oldRev": given.get("oldrev", ""),
        "newRev": given.get("newrev", ""),
    }


def _change(name: str, given: Mapping[str, str]) -> dict[str, object]:
    found = _NUMBER.search(given.get("change-url", "")) or _NUMBER.search(given.get("change", ""))
    if not given.get("project") or found is None:
        raise InputError(
            "Gerrit named no project, or no change with a number.",
            f'Pass on all that Gerrit gives: {name} -- "$@"; and set gerrit.canonicalWebUrl, so that it knows URLs.',
        )
    change = {key: given.get(key, "") for key in ("project", "branch", "topic")}
    return {**change, "number": int(found[1]), "url": given.get("change-url", "")}


async def _post(settings: HookSettings, body: bytes) -> None:
    secret = _private(Path(settings.secret_file)).strip()
    if not secret:
        raise InputError(f"{settings.secret_file} is empty.", "Write one of the forge's webhook secrets into it.")
    headers = {
        "content-type": "application/json",
        "user-agent": f"nixmill/{__version__}",
        "x-nixmill-delivery": hashlib.sha256(body).hexdigest(),
        "x-nixmill-signature": f"sha256={hmac.new(secret.encode(), body, hashlib.sha256).hexdigest()}",
    }
    url = f"{settings.server}/hook/forge/{quote(settings.forge, safe='')}"
    try:
        async with asyncio.timeout(TIME_LIMIT_S), httpx2.AsyncClient(trust_env=False, timeout=TIME_LIMIT_S) as client:
            answer = await client.post(url, content=body, headers=headers)
    except (TimeoutError, httpx2.HTTPError) as error:
        raise _lost(settings, f"{error}" or type(error).__name__) from None
    if not answer.is_success:
        said = sanitise(answer.text[:400], colour=False, limit=200)
        raise _lost(settings, f"it answered {answer.status_code} ({said})")


def _lost(settings: HookSettings, why: str) -> DoorError:
    return DoorError(
        f"The event did not reach {settings.server}: {why}. {_LATER}",
        door="server",
        action="post an event",
        subject=settings.server,
        retryable=True,
    )
