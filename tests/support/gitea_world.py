"""The world of the contract suite over a Gitea server of loopback."""

import hashlib
import hmac
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from nixmill.core.forge import ForgeKind, ForgeUser
from nixmill.core.trust import Permission
from nixmill.edge.forge.gitea import GiteaForge
from tests.contract.forge_world import Colour, Feature, Happening, Shown, Spec, Trouble, Where
from tests.support.forge_settings import token_forge
from tests.support.gitea_server import TOKEN, US, GiteaServer

_COLOURS = {"success": Colour.GREEN, "warning": Colour.GREEN, "skipped": Colour.GREEN, "pending": Colour.PENDING}


class GiteaWorld:
    """Implements `tests.contract.forge_world.ForgeWorld`."""

    features = frozenset(Feature) - {Feature.STATUS_IDS, Feature.RERUN_BUTTON, Feature.MERGE_QUEUE}
    path = "octo/hello"

    def __init__(self, server: GiteaServer, directory: Path, *, brand: str = "gitea", **settings: object) -> None:
        self.server = server
        self.brand = brand
        self.forge = token_forge(GiteaForge, ForgeKind.GITEA, server.address, directory, TOKEN, **settings)
        server.add_repository(self.path)

    def user(self, login: str, permission: Permission = Permission.NONE) -> ForgeUser:
        person = self.server.person(login)
        self.server.permissions[person["id"]] = permission.value
        return ForgeUser(id=str(person["id"]), login=login)

    def open(self, spec: Spec) -> int:
        base = self.server.repositories[self.path]
        number, now = len(self.server.pulls) + 1, self.server.now()
        author = self.server.people[int(spec.author.id)]
        self.server.pulls[number] = {
            "id": next(self.server.count),
            "url": f"{self.server.address}/{self.path}/pulls/{number}",
            "number": number,
            "user": author,
            "title": ("WIP: " if spec.draft else "") + spec.title,
            "body": "",
            "labels": [{"id": n, "name": name, "color": "ff0000"} for n, name in enumerate(spec.labels)] or None,
            "state": "open",
            "draft": spec.draft,
            "html_url": f"{self.server.address}/{self.path}/pulls/{number}",
            "mergeable": True,
            "merged": False,
            "base": {"label": "main", "ref": "main", "sha": self._commit(), "repo_id": base["id"], "repo": base},
            "head": self._head(spec, number),
            "created_at": now,
            "updated_at": now,
            "closed_at": None,
        }
        return number

    def _head(self, spec: Spec, number: int) -> dict[str, Any]:
        match spec.where:
            case Where.SAME:
                repo = self.server.repositories[self.path]
            case Where.OWN_FORK:
                repo = self._fork(spec.author.login)
            case Where.OTHER_FORK:
                repo = self._fork("acme")
            case Where.DELETED:
                gone = {"label": spec.head_ref, "ref": f"refs/pull/{number}/head", "sha": self._commit(), "repo": None}
                return {**gone, "repo_id": -1}
        return {
            "label": spec.head_ref,
            "ref": spec.head_ref,
            "sha": self._commit(),
            "repo_id": repo["id"],
            "repo": repo,
        }

    def _fork(self, owner: str) -> dict[str, Any]:
        fork = self.server.add_repository(f"{owner}/hello", fork=True, permissions={"admin": False, "pull": True})
        return self.server.repositories.pop(fork["full_name"])

    def _commit(self) -> str:
        commit = hashlib.sha1(f"gitea {next(self.server.count)}".encode()).hexdigest()  # noqa: S324 - as git does
        self.server.commits.add(commit)
        return commit

    def push(self, number: int) -> str:
        self.server.pulls[number]["head"]["sha"] = self._commit()
        self.server.pulls[number]["updated_at"] = self.server.now()
        return self.head(number)

    def adopt(self, number: int, commit: str) -> str:
        """Make a commit the head of a pull request; return the ref at which git has to have it."""
        self.server.commits.add(commit)
        self.server.pulls[number]["head"]["sha"] = commit
        self.server.pulls[number]["updated_at"] = self.server.now()
        return f"refs/pull/{number}/head"

    def head(self, number: int) -> str:
        return str(self.server.pulls[number]["head"]["sha"])

    def close(self, number: int, *, merged: bool = False) -> None:
        self.server.pulls[number] |= {"state": "closed", "merged": merged, "updated_at": self.server.now()}

    def write_comment(self, number: int, author: ForgeUser, text: str) -> str:
        return str(self.server.add_comment(self.path, number, int(author.id), text)["id"])

    def edit_comment(self, number: int, comment: str, text: str) -> None:
        self.server.comments[int(comment)] |= {"body": text, "updated_at": self.server.now()}

    def shown(self, commit: str) -> list[Shown]:
        newest = {one["context"]: one for one in self.server.statuses.get(commit, [])}
        return [
            Shown(
                context,
                _COLOURS.get(one["status"], Colour.RED),
                one["description"],
                one["target_url"],
                str(one["id"]),
            )
            for context, one in newest.items()
        ]

    def said(self, number: int) -> list[str]:
        return [one["body"] for one in self.server.on(number) if one["user"]["id"] == US]

    def reactions(self, number: int, comment: str) -> int:
        return len([one for one in self.server.reactions if one[0] == int(comment)])

    def forget_status(self, commit: str, context: str) -> None:
        kept = [one for one in self.server.statuses[commit] if one["context"] != context]
        self.server.statuses[commit] = kept

    def trouble(self, trouble: Trouble) -> None:
        self.server.stands = trouble

    def deliver(self, happening: Happening, *, number: int = 0, comment: str = "") -> tuple[dict[str, str], bytes]:
        kind, payload = self._payload(happening, number, comment)
        payload |= {"repository": self.server.repositories[self.path], "sender": self.server.people[US]}
        body = json.dumps(payload, indent=2).encode()
        return {**self.sign(body), **self.named(kind)}, body

    def _payload(self, happening: Happening, number: int, comment: str) -> tuple[str, dict[str, Any]]:
        zero = "0" * 40
        match happening:
            case Happening.PUSH:
                return "push", {"ref": "refs/heads/main", "before": zero, "after": self._commit(), "commits": []}
            case Happening.DELETED_BRANCH:
                return "delete", {"ref": "old", "ref_type": "branch", "pusher_type": "user"}
            case Happening.PULL_REQUEST:
                pull = self.server.pulls[number]
                return "pull_request", {"action": "opened", "number": number, "pull_request": pull}
            case Happening.COMMENT:
                issue = {"number": number, "pull_request": {"merged": False}}
                written = self.server.comments[int(comment)]
                return "issue_comment", {"action": "created", "issue": issue, "comment": written, "is_pull": True}
            case Happening.PING | Happening.RERUN | Happening.MERGE_QUEUE:
                return "fork", {"forkee": self.server.repositories[self.path]}

    def named(self, kind: str) -> dict[str, str]:
        """Return the headers that name a delivery."""
        headers = {"x-gitea-event": kind, "x-gitea-event-type": kind, "x-gogs-event": kind}
        headers["x-gitea-delivery"] = f"f6266f16-1bf3-46a5-9ea4-{next(self.server.count):012}"
        if self.brand == "forgejo":
            headers |= {name.replace("gitea", "forgejo"): value for name, value in headers.items()}
        return headers

    def sign(self, body: bytes, secret: str = "new") -> Mapping[str, str]:  # noqa: S107 - opens nothing
        signature = hmac.new(secret.encode(), body, hashlib.sha256).hexdigest() if secret else ""
        names = ["x-gitea-signature", "x-gogs-signature"]
        names += ["x-forgejo-signature"] if self.brand == "forgejo" else []
        return {
            "content-type": "application/json",
            "user-agent": "Go-http-client/1.1",
            **dict.fromkeys(names, signature),
            "x-hub-signature-256": f"sha256={signature}",
            **self.named("push"),
        }
