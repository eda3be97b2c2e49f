"""The world of the contract suite over a GitLab server of loopback."""

import base64
import hashlib
import hmac
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from nixmill.core.forge import ForgeKind, ForgeUser
from nixmill.core.trust import Permission
from nixmill.edge.forge.gitlab import GitLabForge
from tests.contract.forge_world import Colour, Feature, Happening, Shown, Spec, Trouble, Where
from tests.support.forge_settings import token_forge
from tests.support.gitlab_server import TOKEN, US, GitLabServer

_COLOURS = {"success": Colour.GREEN, "skipped": Colour.GREEN, "pending": Colour.PENDING, "running": Colour.PENDING}
_LEVELS = {Permission.READ: 20, Permission.WRITE: 30, Permission.ADMIN: 40}


class GitLabWorld:
    """Implements `tests.contract.forge_world.ForgeWorld`."""

    features = frozenset(Feature) - {Feature.STATUS_IDS, Feature.RERUN_BUTTON, Feature.MERGE_QUEUE}
    path = "octo/sub/hello"

    def __init__(self, server: GitLabServer, directory: Path, **settings: object) -> None:
        self.server = server
        self.forge = token_forge(GitLabForge, ForgeKind.GITLAB, server.address, directory, TOKEN, **settings)
        self.project = server.add_project(self.path)

    def user(self, login: str, permission: Permission = Permission.NONE) -> ForgeUser:
        number = self.server.person(login)["id"]
        self.server.levels.pop(number, None)
        if permission in _LEVELS:
            self.server.levels[number] = _LEVELS[permission]
        return ForgeUser(id=str(number), login=login)

    def open(self, spec: Spec) -> int:
        number, now = len(self.server.merge_requests) + 1, self.server.now()
        self.server.merge_requests[number] = {
            "id": 1000 + number,
            "iid": number,
            "project_id": self.project["id"],
            "title": ("Draft: " if spec.draft else "") + spec.title,
            "description": "",
            "state": "opened",
            "created_at": now,
            "updated_at": now,
            "target_branch": "main",
            "source_branch": spec.head_ref,
            "author": self.server.people[int(spec.author.id)],
            "source_project_id": self._source(spec),
            "target_project_id": self.project["id"],
            "labels": list(spec.labels),
            "draft": spec.draft,
            "work_in_progress": spec.draft,
            "sha": self._commit(),
            "web_url": f"{self.server.address}/{self.path}/-/merge_requests/{number}",
            "head_pipeline": None,
        }
        return number

    def _source(self, spec: Spec) -> int | None:
        match spec.where:
            case Where.SAME:
                return int(self.project["id"])
            case Where.OWN_FORK:
                return self._fork(spec.author.login, self.server.people[int(spec.author.id)])
            case Where.OTHER_FORK:
                return self._fork("acme", None)
            case Where.DELETED:
                return None

    def _fork(self, group: str, owner: dict[str, Any] | None) -> int:
        return int(self.server.add_project(f"{group}/hello", owner=owner, permissions=None)["id"])

    def _commit(self) -> str:
        commit = hashlib.sha1(f"gitlab {next(self.server.count)}".encode()).hexdigest()  # noqa: S324 - as git does
        self.server.commits.add(commit)
        return commit

    def push(self, number: int) -> str:
        self.server.merge_requests[number] |= {"sha": self._commit(), "updated_at": self.server.now()}
        return self.head(number)

    def adopt(self, number: int, commit: str) -> str:
        """Make a commit the head of a merge request; return the ref at which git has to have it."""
        self.server.commits.add(commit)
        self.server.merge_requests[number] |= {"sha": commit, "updated_at": self.server.now()}
        return f"refs/merge-requests/{number}/head"

    def head(self, number: int) -> str:
        return str(self.server.merge_requests[number]["sha"])

    def close(self, number: int, *, merged: bool = False) -> None:
        state = "merged" if merged else "closed"
        self.server.merge_requests[number] |= {"state": state, "updated_at": self.server.now()}

    def write_comment(self, number: int, author: ForgeUser, text: str) -> str:
        return str(self.server.add_note(self.project["id"], number, int(author.id), text)["id"])

    def edit_comment(self, number: int, comment: str, text: str) -> None:
        self.server.notes[int(comment)] |= {"body": text, "updated_at": self.server.now()}

    def shown(self, commit: str) -> list[Shown]:
        return [
            Shown(
                one["name"],
                _COLOURS.get(one["status"], Colour.RED),
                one["description"],
                one["target_url"],
                str(one["id"]),
            )
            for project in self.server.projects
            for one in self.server.of_commit(project, commit)
        ]

    def said(self, number: int) -> list[str]:
        return [one["body"] for one in self.server.on(number) if one["author"]["id"] == US]

    def reactions(self, number: int, comment: str) -> int:
        return len([one for one in self.server.emoji if one["awardable_id"] == int(comment)])

    def forget_status(self, commit: str, context: str) -> None:
        self.server.statuses = [one for one in self.server.statuses if (one["sha"], one["name"]) != (commit, context)]

    def trouble(self, trouble: Trouble) -> None:
        self.server.stands = trouble

    def deliver(self, happening: Happening, *, number: int = 0, comment: str = "") -> tuple[dict[str, str], bytes]:
        kind, payload = self._payload(happening, number, comment)
        payload["project"] = {"id": self.project["id"], "path_with_namespace": self.path, "default_branch": "main"}
        return {**self.sign(b""), **self.named(kind)}, json.dumps(payload).encode()

    def _payload(self, happening: Happening, number: int, comment: str) -> tuple[str, dict[str, Any]]:
        zero, us = "0" * 40, self.server.people[US]
        user = {"id": US, "name": us["name"], "username": us["username"]}
        push = {"object_kind": "push", "user_id": US, "user_username": us["username"], "before": zero}
        match happening:
            case Happening.PUSH:
                return "Push Hook", {**push, "ref": "refs/heads/main", "after": self._commit()}
            case Happening.DELETED_BRANCH:
                return "Push Hook", {**push, "ref": "refs/heads/old", "after": zero}
            case Happening.PULL_REQUEST:
                attributes = {"id": 1000 + number, "iid": number, "action": "open", "state": "opened"}
                body = {"object_kind": "merge_request", "user": user, "object_attributes": attributes, "changes": {}}
                return "Merge Request Hook", body
            case Happening.COMMENT:
                note = {"id": int(comment), "noteable_type": "MergeRequest", "action": "create", "system": False}
                merge_request = {"id": 1000 + number, "iid": number}
                body = {"object_kind": "note", "user": user, "object_attributes": note}
                return "Note Hook", {**body, "merge_request": merge_request}
            case Happening.PING | Happening.RERUN | Happening.MERGE_QUEUE:
                return "Job Hook", {"object_kind": "build", "ref": "main"}

    def named(self, kind: str) -> dict[str, str]:
        """Return the headers that name a delivery."""
        number = next(self.server.count)
        return {
            "x-gitlab-event": kind,
            "x-gitlab-instance": self.server.address,
            "x-gitlab-webhook-uuid": f"3c5c0404-c866-44bc-a5f6-{number:012}",
            "x-gitlab-event-uuid": "9cebe914-4827-408f-b014-cfa23a47a35f",
            "idempotency-key": f"3a427872-00df-429c-9bc9-{number:012}",
        }

    def sign(self, body: bytes, secret: str = "new") -> Mapping[str, str]:  # noqa: S107 - opens nothing
        headers = {"content-type": "application/json", "user-agent": "GitLab/18.4.0", **self.named("Push Hook")}
        return headers | ({"x-gitlab-token": secret} if secret else {})


def standard_signature(key: bytes, named: str, sent: int, body: bytes) -> dict[str, str]:
    """Return the headers of a delivery that is signed as Standard Webhooks says."""
    made = base64.b64encode(hmac.digest(key, f"{named}.{sent}.".encode() + body, hashlib.sha256)).decode()
    return {"webhook-id": named, "webhook-timestamp": str(sent), "webhook-signature": f"v1,{made}"}
