"""The world of the contract suite over a Gerrit of loopback."""

import asyncio
import hashlib
import hmac
import json
import time
from collections.abc import Mapping
from pathlib import Path

from nixmill.config.forges import ForgeSettings
from nixmill.core.forge import ForgeKind, ForgeUser
from nixmill.core.pull_request import PullRequest
from nixmill.core.trust import Permission
from nixmill.edge.forge.gerrit import GerritForge
from nixmill.edge.forge.gerrit_review import TAG
from tests.contract.forge_world import Colour, Feature, Happening, Shown, Spec, Trouble, WholeForge
from tests.support.gerrit_server import LABEL, OWN_ID, PASSWORD, TRUSTED, USER, GerritChange, GerritState, PatchSet

EVENTS = Path(__file__).parent.parent / "data/forges/gerrit"
_TROUBLES: Mapping[Trouble, tuple[int, dict[str, str], bytes] | None] = {
    Trouble.NONE: None,
    Trouble.LIMITED: (429, {"retry-after": "30"}, b"Too many requests"),
    Trouble.OUTAGE: (502, {}, b"Bad gateway"),
    Trouble.REVOKED: (401, {}, b"Unauthorized"),
    Trouble.NONSENSE: (200, {"content-type": "text/html"}, b"<html>moved</html>"),
}


def event(name: str) -> dict[str, object]:
    """Return an event of the examples."""
    found = json.loads((EVENTS / f"{name}.json").read_text())
    assert isinstance(found, dict)
    return found


class Clock:
    """The system's clock, which tests can turn forward."""

    def __init__(self) -> None:
        self.ahead = 0.0
        self.slept: list[float] = []
        self.tired = asyncio.Event()

    def now(self) -> float:
        return time.time() + self.ahead

    def monotonic(self) -> float:
        return time.monotonic() + self.ahead

    async def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        if len(self.slept) == 6:
            self.tired.set()
        await asyncio.sleep(0.01)


class GerritWorld:
    """Implements `ForgeWorld`."""

    features = frozenset({Feature.DRAFTS, Feature.LABELS, Feature.SIGNED_HOOKS})

    def __init__(self, url: str, state: GerritState, directory: Path) -> None:
        self.state = state
        self.path = state.project
        self.clock = Clock()
        self._invented: set[str] = set()
        """Heads of which git knows nothing."""
        files = {name: directory / name for name in ("token", "new", "old")}
        for name, secret in {"token": PASSWORD, "new": "new", "old": "old"}.items():
            files[name].write_text(f"{secret}\n")
        settings = ForgeSettings(
            name="gerrit", kind=ForgeKind.GERRIT, url=url, user=USER, webhook_secrets=("new", "old"),
            token="token",  # noqa: S106 - a name
            groups=(TRUSTED,),
        )  # fmt: skip
        self.forge: WholeForge = GerritForge(settings, files, self.clock, known_hosts=directory / "known_hosts")

    def user(self, login: str, permission: Permission = Permission.NONE) -> ForgeUser:
        known = {info["username"]: id_ for id_, info in self.state.accounts.items()}
        id_ = known.get(login) or OWN_ID + 1 + len(known)
        self.state.accounts[id_] = {"name": login.title(), "username": login, "email": f"{login}@example.org"}
        trusted = permission in {Permission.WRITE, Permission.ADMIN}
        self.state.groups[id_] = {"Registered Users", *({TRUSTED} if trusted else set())}
        return ForgeUser(id=str(id_), login=login)

    def open(self, spec: Spec) -> int:
        number = 1234 + len(self.state.changes)
        self.state.now += 1
        change = GerritChange(
            number, spec.title, self.path, topic=spec.labels[0] if spec.labels else "", hashtags=spec.labels[1:],
            wip=spec.draft, updated=self.state.now,
        )  # fmt: skip
        self.state.changes[number] = change
        self._upload(change, int(spec.author.id))
        return number

    def push(self, number: int) -> str:
        change = self.state.changes[number]
        self._upload(change, change.patch_sets[-1].uploader)
        return self.head(number)

    def upload(self, number: int, uploader: ForgeUser, kind: str = "REWORK") -> str:
        self._upload(self.state.changes[number], int(uploader.id), kind)
        return self.head(number)

    def _upload(self, change: GerritChange, uploader: int, kind: str = "REWORK", commit: str = "") -> None:
        invented = hashlib.sha1(f"{change.number} {len(change.patch_sets)}".encode()).hexdigest()  # noqa: S324 - an id
        self._invented |= set() if commit else {invented}
        change.patch_sets.append(PatchSet(commit or invented, uploader, kind))
        self.state.now += 1
        change.updated = self.state.now

    def adopt(self, number: int, commit: str) -> str:
        """Make a commit the current patch set of a change; return the ref at which git has to have it."""
        patch_sets = self.state.changes[number].patch_sets
        if patch_sets[-1].commit in self._invented:
            patch_sets[-1].commit = commit
        else:
            self._upload(self.state.changes[number], patch_sets[-1].uploader, commit=commit)
        return f"refs/changes/{number % 100:02}/{number}/{len(patch_sets)}"

    def head(self, number: int) -> str:
        return self.state.changes[number].patch_sets[-1].commit

    def close(self, number: int, *, merged: bool = False) -> None:
        self.state.changes[number].status = "MERGED" if merged else "ABANDONED"

    def write_comment(self, number: int, author: ForgeUser, text: str) -> str:
        return self.state.say(self.state.changes[number], int(author.id), f"\n\n{text}")

    def edit_comment(self, number: int, comment: str, text: str) -> None:
        raise AssertionError("Gerrit has no edited comments")

    def shown(self, commit: str) -> list[Shown]:
        for change in self.state.changes.values():
            for place, patch_set in enumerate(change.patch_sets):
                if patch_set.commit == commit:
                    return [self._shown(change, patch_set, place + 1)]
        return []

    def _shown(self, change: GerritChange, patch_set: PatchSet, number: int) -> Shown:
        tagged = [one for one in change.messages if one.get("tag") == TAG and one["_revision_number"] == number]
        ours = [one for one in tagged if "(nixmill, run" in one["message"]]  # the others are answers
        lines = ours[-1]["message"].split("\n") if ours else ["", "", ": "]
        context, _, title = lines[2].partition(": ")
        colour = {1: Colour.GREEN, -1: Colour.RED}.get(patch_set.votes.get(LABEL, 0), Colour.PENDING)
        return Shown(context, colour, title, lines[4] if ours else "", f"{change.number}~{patch_set.commit}")

    def said(self, number: int) -> list[str]:
        return [one["message"] for one in self.state.changes[number].messages if one["author"]["_account_id"] == OWN_ID]

    def reactions(self, number: int, comment: str) -> int:
        return 0

    def forget_status(self, commit: str, context: str) -> None:
        raise AssertionError("Gerrit's votes have no ids")

    def trouble(self, trouble: Trouble) -> None:
        self.state.may_review = trouble is not Trouble.NOT_ALLOWED
        self.state.trouble = _TROUBLES.get(trouble)

    def deliver(self, happening: Happening, *, number: int = 0, comment: str = "") -> tuple[dict[str, str], bytes]:
        body = json.dumps(self._event(happening, number, comment)).encode()
        return dict(self.sign(body)), body

    def _event(self, happening: Happening, number: int, comment: str) -> dict[str, object]:
        change = {"project": self.path, "branch": "main", "number": number}
        match happening:
            case Happening.PUSH:
                return event("ref-updated") | {"refUpdate": self._moved("refs/heads/main", "1" * 40)}
            case Happening.DELETED_BRANCH:
                return event("ref-updated") | {"refUpdate": self._moved("refs/heads/old", "0" * 40)}
            case Happening.PULL_REQUEST:
                return event("patchset-created") | {"change": change}
            case Happening.COMMENT:
                (text,) = [one["message"] for one in self.state.changes[number].messages if one["id"] == comment]
                return event("comment-added") | {"change": change, "comment": text}
            case Happening.PING | Happening.RERUN | Happening.MERGE_QUEUE:
                return event("reviewer-added") | {"change": change}

    def _moved(self, ref: str, commit: str) -> dict[str, str]:
        return {"project": self.path, "refName": ref, "oldRev": "2" * 40, "newRev": commit}

    def sign(self, body: bytes, secret: str = "new") -> Mapping[str, str]:  # noqa: S107 - opens nothing
        digest = hmac.new(secret.encode(), body, "sha256").hexdigest()
        return {
            "content-type": "application/json",
            "x-nixmill-signature": f"sha256={digest}",
            "x-nixmill-delivery": "7f",
        }

    async def pull(self, number: int) -> PullRequest:
        pull = await self.forge.pull_request(self.path, number)
        assert pull is not None
        return pull
