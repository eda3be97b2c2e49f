"""Gitea and Forgejo over loopback HTTP, as far as nixmill asks them.

Every request body and every answer is checked against the published types (`tests/data/forges/gitea`).
"""

import itertools
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from tests.support.forge_http import Call, ForgeServer, Said, page_of
from tests.support.typescript_types import TypeScriptTypes

DATA = Path(__file__).parents[1] / "data" / "forges" / "gitea"
TOKEN = "gitea-token-5d"  # noqa: S105 - opens nothing but this server
_PULL_EVENTS = [
    "pull_request",
    "pull_request_assign",
    "pull_request_comment",
    "pull_request_label",
    "pull_request_milestone",
    "pull_request_review",
    "pull_request_review_request",
    "pull_request_sync",
]
EVENTS = ["push", "create", "delete", "fork", "repository", "release", "wiki", "package"]
US = 1


class GiteaServer(ForgeServer):
    """A server with state that tests change directly."""

    def __init__(self, types: str = "gitea-1.23") -> None:
        super().__init__("/api/v1")
        self.types = TypeScriptTypes(DATA / f"{types}.d.ts")
        self.count = itertools.count(10)
        self.start = datetime.now(UTC).replace(microsecond=0) - timedelta(hours=1)
        self.people: dict[int, dict[str, Any]] = {}
        self.permissions: dict[int, str] = {}
        self.repositories: dict[str, dict[str, Any]] = {}
        self.former: dict[str, str] = {}
        self.topics: dict[str, list[str]] = {}
        self.pulls: dict[int, dict[str, Any]] = {}
        self.comments: dict[int, dict[str, Any]] = {}
        self.reactions: set[tuple[int, int, str]] = set()
        self.statuses: dict[str, list[dict[str, Any]]] = {}
        self.commits: set[str] = set()
        self.protected = {"main"}
        self.hooks: dict[int, dict[str, Any]] = {}
        self.secrets: dict[int, str] = {}
        self.page = 50
        self._person("nixmill-bot", US)
        for method, path, handler in (
            ("GET", "/user", lambda _: Said(200, self.people[US])),
            ("GET", "/user/repos", self._list_repositories),
            ("GET", "/repos/*/*", self._repository),
            ("GET", "/repos/*/*/topics", self._topics),
            ("GET", "/repos/*/*/pulls", self._list_pulls),
            ("GET", "/repos/*/*/pulls/*", self._pull),
            ("GET", "/repos/*/*/issues/comments/*", self._comment),
            ("POST", "/repos/*/*/issues/comments/*/reactions", self._react),
            ("GET", "/repos/*/*/issues/*/comments", self._list_comments),
            ("POST", "/repos/*/*/issues/*/comments", self._write_comment),
            ("GET", "/repos/*/*/collaborators/*/permission", self._permission),
            ("GET", "/repos/*/*/branches/*", self._branch),
            ("GET", "/repos/*/*/commits/*/status", self._combined),
            ("GET", "/repos/*/*/git/commits/*", self._commit),
            ("POST", "/repos/*/*/statuses/*", self._set_status),
            ("GET", "/repos/*/*/hooks", self._list_hooks),
            ("POST", "/repos/*/*/hooks", self._make_hook),
            ("PATCH", "/repos/*/*/hooks/*", self._edit_hook),
        ):
            self.route(method, path, handler)

    def is_known(self, call: Call) -> bool:
        return call.headers.get("authorization") == f"token {TOKEN}"

    def unknown(self) -> Said:
        return Said(401, {"message": "invalid username, password or token", "url": f"{self.address}/api/swagger"})

    def not_allowed(self) -> Said:
        said = "token does not have at least one of required scope(s): [write:repository]"
        return Said(403, {"message": said, "url": f"{self.address}/api/swagger"})

    def answer(self, call: Call) -> Said:
        said = super().answer(call)
        kind = self._kind_of(call)
        if kind and 200 <= said.status < 300 and not isinstance(said.body, str) and said.body is not None:
            assert not self.types.faults(kind, said.body), self.types.faults(kind, said.body)
        return said

    def _kind_of(self, call: Call) -> str:
        last = call.path.rpartition("/")[2]
        lists = {"repos": "Repository[]", "pulls": "PullRequest[]", "hooks": "Hook[]", "comments": "Comment[]"}
        singles = {"user": "User", "topics": "TopicName", "permission": "RepoCollaboratorPermission"}
        if call.method == "GET":
            return lists.get(last, "") or singles.get(last, "")
        return {"hooks": "Hook", "comments": "Comment", "reactions": "Reaction"}.get(last, "")

    def now(self) -> str:
        return (self.start + timedelta(seconds=5 * next(self.count))).isoformat().replace("+00:00", "Z")

    def _person(self, login: str, number: int = 0) -> dict[str, Any]:
        number = number or next(self.count)
        self.people[number] = {
            "id": number,
            "login": login,
            "full_name": "",
            "email": f"{login}@noreply.example.com",
            "avatar_url": f"https://git.example.com/avatars/{number}",
            "is_admin": False,
            "visibility": "public",
            "active": True,
        }
        return self.people[number]

    def person(self, login: str) -> dict[str, Any]:
        return next((one for one in self.people.values() if one["login"] == login), None) or self._person(login)

    def add_repository(self, path: str, **changes: object) -> dict[str, Any]:
        owner, _, name = path.partition("/")
        self.repositories[path] = {
            "id": next(self.count),
            "owner": self.person(owner),
            "name": name,
            "full_name": path,
            "description": "",
            "empty": False,
            "private": True,
            "fork": False,
            "html_url": f"{self.address}/{path}",
            "ssh_url": f"ssh://git@git.example.com/{path}.git",
            "clone_url": f"{self.address}/{path}.git",
            "default_branch": "main",
            "archived": False,
            "internal": False,
            "topics": None,
            "permissions": {"admin": True, "push": True, "pull": True},
            **changes,
        }
        return self.repositories[path]

    def _checked(self, kind: str, call: Call) -> Said | None:
        faults = self.types.faults(kind, call.body)
        return Said(422, {"message": "; ".join(faults)}) if faults else None

    def _list_repositories(self, call: Call) -> Said:
        return self._page(list(self.repositories.values()), call)

    def _page(self, items: list[Any], call: Call) -> Said:
        page = page_of(items, call, size="limit", most=self.page)
        return Said(200, page, {"x-total-count": str(len(items))})

    def _found(self, call: Call) -> dict[str, Any] | None:
        return self.repositories.get("/".join(call.parts[:2]))

    def _repository(self, call: Call) -> Said:
        path = "/".join(call.parts)
        if path in self.former:
            return Said(301, None, {"location": f"/api/v1/repos/{self.former[path]}"})
        found = self._found(call)
        return Said(200, found) if found else self._absent()

    def _absent(self) -> Said:
        return Said(404, {"message": "The target couldn't be found.", "errors": []})

    def _topics(self, call: Call) -> Said:
        path = "/".join(call.parts)
        return Said(200, {"topics": self.topics[path]}) if path in self.topics else Said(500, {"message": "oops"})

    def _list_pulls(self, call: Call) -> Said:
        if not self._found(call):
            return self._absent()
        return self._page([one for one in self.pulls.values() if one["state"] == call.query["state"]], call)

    def _pull(self, call: Call) -> Said:
        pull = self.pulls.get(int(call.parts[2])) if call.parts[2].isdigit() and self._found(call) else None
        return Said(200, pull) if pull else self._absent()

    def _comment(self, call: Call) -> Said:
        comment = self.comments.get(int(call.parts[2])) if call.parts[2].isdigit() and self._found(call) else None
        return Said(200, comment) if comment else self._absent()

    def on(self, number: int) -> list[dict[str, Any]]:
        return [one for one in self.comments.values() if one["pull_request_url"].endswith(f"/pulls/{number}")]

    def _list_comments(self, call: Call) -> Said:
        since = datetime.fromisoformat(call.query["since"])
        newer = [one for one in self.on(int(call.parts[2])) if datetime.fromisoformat(one["updated_at"]) >= since]
        return Said(200, newer)  # Gitea 1.23 and Forgejo 11 know no pages here

    def _write_comment(self, call: Call) -> Said:
        return self._checked("CreateIssueCommentOption", call) or Said(
            201, self.add_comment(call.parts[0] + "/" + call.parts[1], int(call.parts[2]), US, call.body["body"])
        )

    def add_comment(self, path: str, number: int, author: int, text: str) -> dict[str, Any]:
        named, now = next(self.count), self.now()
        self.comments[named] = {
            "id": named,
            "html_url": f"{self.address}/{path}/pulls/{number}#issuecomment-{named}",
            "pull_request_url": f"{self.address}/{path}/pulls/{number}",
            "issue_url": "",
            "user": self.people[author],
            "original_author": "",
            "original_author_id": 0,
            "body": text,
            "assets": [],
            "created_at": now,
            "updated_at": now,
        }
        return self.comments[named]

    def _react(self, call: Call) -> Said:
        wrong = self._checked("EditReactionOption", call)
        if wrong:
            return wrong
        allowed = {"+1", "-1", "laugh", "hooray", "confused", "heart", "rocket", "eyes"}
        if call.body["content"] not in allowed:
            return Said(403, {"message": f"'{call.body['content']}' is not an allowed reaction"})
        if int(call.parts[2]) not in self.comments:
            return self._absent()
        before = len(self.reactions)
        self.reactions.add((int(call.parts[2]), US, call.body["content"]))
        answer = {"user": self.people[US], "content": call.body["content"], "created_at": self.now()}
        return Said(201 if len(self.reactions) > before else 200, answer)

    def _permission(self, call: Call) -> Said:
        person = next((one for one in self.people.values() if one["login"].lower() == call.parts[2].lower()), None)
        if not person or not self._found(call):
            return Said(404, {"message": "user does not exist"})
        told = self.permissions.get(person["id"], "none")
        return Said(200, {"permission": told, "role_name": told, "user": person})

    def _branch(self, call: Call) -> Said:
        if call.parts[2] not in self.protected | {"main", "topic"}:
            return self._absent()
        return Said(200, {"name": call.parts[2], "protected": call.parts[2] in self.protected})

    def _combined(self, call: Call) -> Said:
        newest = {one["context"]: one for one in self.statuses.get(call.parts[2], [])}
        page = page_of(list(newest.values())[::-1], call, size="limit", most=self.page)
        body = {"sha": call.parts[2], "state": "", "total_count": len(newest), "statuses": page or None}
        assert not self.types.faults("CombinedStatus", body), self.types.faults("CombinedStatus", body)
        return Said(200, body)

    def _commit(self, call: Call) -> Said:
        return Said(200, {"sha": call.parts[2]}) if call.parts[2] in self.commits else self._absent()

    def _set_status(self, call: Call) -> Said:
        wrong = self._checked("CreateStatusOption", call)
        if wrong:
            return wrong
        if call.body["state"] not in {"pending", "success", "error", "failure", "warning"}:
            return Said(422, {"message": "no state"})
        if call.parts[2] not in self.commits:
            return Said(500, {"message": f"GetCommit[{call.parts[2]}]: object does not exist"})
        status = {"id": next(self.count), "status": call.body["state"], "creator": self.people[US], "url": ""}
        status |= {name: call.body.get(name, "") for name in ("context", "description", "target_url")}
        status |= {"created_at": self.now(), "updated_at": self.now()}
        assert not self.types.faults("CommitStatus", status), self.types.faults("CommitStatus", status)
        self.statuses.setdefault(call.parts[2], []).append(status)
        return Said(201, status)

    def _list_hooks(self, call: Call) -> Said:
        return self._page(list(self.hooks.values()), call) if self._found(call) else self._absent()

    def _make_hook(self, call: Call) -> Said:
        wrong = self._checked("CreateHookOption", call)
        if wrong:
            return wrong
        named = next(self.count)
        self.hooks[named] = {
            "id": named,
            "type": call.body["type"],
            "authorization_header": "",
            "created_at": self.now(),
        }
        return self._set_hook(named, call.body, 201)

    def _edit_hook(self, call: Call) -> Said:
        named = int(call.parts[2])
        return self._checked("EditHookOption", call) or self._set_hook(named, call.body, 200)

    def _set_hook(self, named: int, body: Mapping[str, Any], status: int) -> Said:
        """As the server does: what an edit leaves out of events, filter and header is reset."""
        asked = body.get("events") or ["push"]
        hook = self.hooks[named]
        config = dict(body["config"])
        self.secrets[named] = config.pop("secret", self.secrets.get(named, ""))
        hook["config"] = hook.get("config", {}) | config
        hook["events"] = [one for one in EVENTS if one in asked] + (_PULL_EVENTS if "pull_request" in asked else [])
        hook["branch_filter"] = body.get("branch_filter", "")
        hook["authorization_header"] = body.get("authorization_header", "")
        hook["active"] = body.get("active", hook.get("active", False))
        hook["updated_at"] = self.now()
        return Said(status, hook)
