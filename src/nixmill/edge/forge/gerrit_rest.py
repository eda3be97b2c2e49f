"""Gerrit's REST interface: how it is asked, and what of its answers is used.

Every request goes below `/a/` with an HTTP password; every answer begins with `)]}'`. Any field may be missing. Source:
Gerrit's documentation, rest-api.txt, rest-api-changes.txt, rest-api-accounts.txt, rest-api-projects.txt.
"""

import base64
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Final, TypeVar

import msgspec

from nixmill.core.forge import TEXT_MAX, ForgeUser
from nixmill.core.terminal_text import sanitise
from nixmill.doors import DoorError
from nixmill.edge.forge.web import Answer, Ask, ForgeWeb, path_of

MAGIC: Final = b")]}'"
"""What JSON answers begin with, so that no page can take them for a script."""
SECRET_MAX: Final = 64 * 1024
LOOK: Final = "o=ALL_REVISIONS&o=DETAILED_ACCOUNTS"
"""What is asked of a change."""
LOOK_BACK: Final = "o=ALL_REVISIONS&o=MESSAGES&o=DETAILED_ACCOUNTS"
"""What is asked of a change before something is said there."""

T = TypeVar("T")


class AccountInfo(msgspec.Struct, frozen=True, kw_only=True):
    """Somebody."""

    id: int = msgspec.field(default=0, name="_account_id")
    name: str = ""
    email: str = ""
    username: str = ""

    def user(self) -> ForgeUser:
        """Return who that is; people without a user name are called by their address."""
        login = self.username or self.email or self.name or str(self.id)
        return ForgeUser(id=str(self.id), login=short_text(login))


class RevisionInfo(msgspec.Struct, frozen=True, kw_only=True):
    """A patch set."""

    number: int | str = msgspec.field(default=0, name="_number")
    ref: str = ""
    kind: str = ""
    uploader: AccountInfo = AccountInfo()


class MessageInfo(msgspec.Struct, frozen=True, kw_only=True):
    """A message on a change."""

    id: str = ""
    author: AccountInfo = AccountInfo()
    date: str = ""
    message: str = ""
    tag: str = ""
    revision: int = msgspec.field(default=0, name="_revision_number")


class ChangeInfo(msgspec.Struct, frozen=True, kw_only=True):
    """A change, with its current patch set."""

    project: str = ""
    branch: str = ""
    topic: str = ""
    hashtags: tuple[str, ...] = ()
    subject: str = ""
    status: str = ""
    updated: str = ""
    number: int = msgspec.field(default=0, name="_number")
    work_in_progress: bool = False
    is_private: bool = False
    current_revision: str = ""
    revisions: dict[str, RevisionInfo] = {}
    messages: tuple[MessageInfo, ...] = ()
    more: bool = msgspec.field(default=False, name="_more_changes")


class CommentInfo(msgspec.Struct, frozen=True, kw_only=True):
    """A comment on a patch set as a whole, or on a file."""

    id: str = ""
    author: AccountInfo = AccountInfo()
    updated: str = ""
    message: str = ""
    tag: str = ""
    patch_set: int = 0


class GroupInfo(msgspec.Struct, frozen=True, kw_only=True):
    """A group."""

    id: str = ""
    name: str = ""


class ProjectInfo(msgspec.Struct, frozen=True, kw_only=True):
    """A repository."""

    state: str = "ACTIVE"


class GerritRest:
    """Asks Gerrit as one user."""

    def __init__(self, web: ForgeWeb, *, user: str, token: str, files: Mapping[str, Path]) -> None:
        """Ask as `user`, whose HTTP password is in the credential `token` of `files`."""
        self._web = web
        self._user = user
        self._token = token
        self._files = files

    def credential(self) -> str:
        """Return `user:password`; it is read anew each time, so a changed one counts at once."""
        return f"{self._user}:{read_secret(self._files, self._token)}"

    async def read(
        self, kind: type[T], path: str, action: str, *, query: str = "", anonymous: bool = False
    ) -> T | None:
        """Return what is at a path below `/a/`; None where it is not there, or hidden from us."""
        ask = self._ask("GET", path + (f"?{query}" if query else ""), action, anonymous=anonymous)
        answer = await self._web.send(ask)
        # Who did not sign in may be shown a page for that instead of an answer.
        absent = answer.status == 404 or (anonymous and not answer.body.startswith(MAGIC))
        return None if absent else self._decoded(kind, answer, ask)

    async def post(self, path: str, body: object, action: str, *, needs: str = "") -> bool:
        """Send something; return False where what it is about is not there."""
        answer = await self._web.send(self._ask("POST", path, action, needs=needs, body=body))
        return answer.status != 404

    async def aclose(self) -> None:
        """Let connections go."""
        await self._web.aclose()

    def _ask(
        self, method: str, path: str, action: str, *, needs: str = "", body: object = None, anonymous: bool = False
    ) -> Ask:
        action = sanitise(action, colour=False, limit=TEXT_MAX)
        if anonymous:
            return Ask(method, path, action)
        secret = base64.b64encode(self.credential().encode()).decode()
        return Ask(method, f"/a{path}", action, needs, {"authorization": f"Basic {secret}"}, body=body)

    def _decoded(self, kind: type[T], answer: Answer, ask: Ask) -> T:
        return self._web.decoded(kind, answer._replace(body=answer.body.removeprefix(MAGIC)), ask)


def change_path(repository: str, number: int, *more: str) -> str:
    """Return the path of a change; with the repository in it, a number of another one finds nothing."""
    return path_of("changes", f"{repository}~{number}", *more)


def read_secret(files: Mapping[str, Path], name: str) -> str:
    """Return a secret that the settings name, without the line end; raise `DoorError` where there is none."""
    path = files.get(name)
    try:
        if path is None:
            raise FileNotFoundError(2, "the settings have no such credential")
        with path.open("rb") as file:
            secret = file.read(SECRET_MAX).decode().strip()
    except (OSError, UnicodeDecodeError) as error:
        why = (error.strerror if isinstance(error, OSError) else None) or "it is no text"
        raise _no_secret(name, why) from None
    if not secret:
        raise _no_secret(name, "its file is empty")
    return secret


def _no_secret(name: str, why: str) -> DoorError:
    return DoorError(
        f"The credential {name!r} of a forge cannot be read: {why}. Mend the server's settings.",
        door="forge",
        action="read a credential",
        subject=name,
        retryable=False,
    )


def short_text(text: str) -> str:
    """Return a title or name as it is kept: one line, at most `TEXT_MAX` characters, without controls."""
    return sanitise(text[:TEXT_MAX], colour=False, limit=TEXT_MAX)


def instant(text: str) -> float:
    """Return seconds since 1970 of a time such as `2013-02-21 11:16:36.775000000`, in UTC; 0 where it is none."""
    whole, _, fraction = text.partition(".")
    try:
        seconds = datetime.strptime(whole, "%Y-%m-%d %H:%M:%S").replace(tzinfo=UTC).timestamp()
        return seconds + float(f"0.{fraction or 0}")
    except ValueError:
        return 0.0
