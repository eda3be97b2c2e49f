"""GitLab over loopback HTTP, as far as nixmill asks it.

Every request body is checked against the documented parameters, and every answer against published types
(`tests/data/forges/gitlab`). Statuses go through the same states as GitLab's.
"""

import itertools
import json
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from nixmill.edge.system_clock import SystemClock
from tests.support.forge_http import Call, ForgeServer, Handler, Said, page_of
from tests.support.typescript_types import TypeScriptTypes

DATA = Path(__file__).parents[1] / "data" / "forges" / "gitlab"
TOKEN = "glpat-token-7c"  # noqa: S105 - opens nothing but this server
US = 1
_KINDS: dict[str, type | tuple[type, ...]] = {
    "string": str,
    "number": (int, float),
    "integer": int,
    "boolean": bool,
    "array": list,
}
_TYPES = {
    "GET /projects/:id": "ProjectSchema",
    "GET /projects": "ProjectSchema[]",
    "GET /projects/:id/merge_requests": "MergeRequestSchema[]",
    "GET /projects/:id/merge_requests/:iid": "MergeRequestSchema",
    "GET /projects/:id/merge_requests/:iid/notes": "NoteSchema[]",
    "GET /projects/:id/merge_requests/:iid/notes/:note_id": "NoteSchema",
    "POST /projects/:id/merge_requests/:iid/notes": "NoteSchema",
    "GET /projects/:id/merge_requests/:iid/notes/:note_id/award_emoji": "AwardEmojiSchema[]",
    "POST /projects/:id/merge_requests/:iid/notes/:note_id/award_emoji": "AwardEmojiSchema",
    "GET /projects/:id/members/all/:user_id": "MemberSchema",
    "GET /projects/:id/repository/branches/:branch": "BranchSchema",
    "GET /projects/:id/repository/commits/:sha/statuses": "CommitStatusSchema[]",
    "POST /projects/:id/statuses/:sha": "CommitStatusSchema",
    "GET /projects/:id/hooks": "ExpandedHookSchema[]",
    "POST /projects/:id/hooks": "ExpandedHookSchema",
    "PUT /projects/:id/hooks/:hook_id": "ExpandedHookSchema",
    "GET /user": "SimpleUserSchema",
}
_UNPUBLISHED = frozenset({"head_pipeline", "custom_webhook_template"})
"""Fields that the documentation has and the published types do not."""


def parameter_faults(allowed: Mapping[str, Any], body: Mapping[str, Any]) -> list[str]:
    """Return what is wrong with a request's parameters; GitLab itself ignores what it does not know."""
    names = {name.rstrip("!"): kind for name, kind in allowed.items()}
    found = [f"{name} is unknown" for name in body.keys() - names.keys()]
    found += [f"{name} is missing" for name in allowed if name.endswith("!") and name.rstrip("!") not in body]
    for name in body.keys() & names.keys():
        kind, value = names[name], body[name]
        if isinstance(kind, list):
            found += [] if value in kind else [f"{name} does not have a valid value"]
            continue
        kind, _, longest = kind.partition(" ")
        found += [] if isinstance(value, _KINDS[kind]) else [f"{name} is invalid"]
        found += (
            [f"{name} is too long (maximum is {longest} characters)"] if longest and len(value) > int(longest) else []
        )
    return found


class GitLabServer(ForgeServer):
    """A server with state that tests change directly."""

    def __init__(self) -> None:
        super().__init__("/api/v4")
        self.types = TypeScriptTypes(DATA / "gitbeaker-43.8.d.ts")
        self.parameters = json.loads((DATA / "parameters.json").read_text())
        self.count = itertools.count(100)
        self.start = datetime(2026, 9, 1, tzinfo=UTC)
        self.people: dict[int, dict[str, Any]] = {}
        self.levels: dict[int, int] = {}
        self.projects: dict[int, dict[str, Any]] = {}
        self.former: dict[str, int] = {}
        self.merge_requests: dict[int, dict[str, Any]] = {}
        self.notes: dict[int, dict[str, Any]] = {}
        self.emoji: list[dict[str, Any]] = []
        self.statuses: list[dict[str, Any]] = []
        self.commits: set[str] = set()
        self.closed_to_us: set[int] = set()
        """Projects where we are not even a guest."""
        self.protected = {"main"}
        self.hooks: dict[int, dict[str, Any]] = {}
        self.tokens: dict[int, str] = {}
        self.trials: list[int] = []
        self.most = 100
        self._person("nixmill-bot", US)
        for rule, handler in self._rules().items():
            method, _, path = rule.partition(" ")
            parts = ["*" if part.startswith(":") else part for part in path.split("/")]
            self.route(method, "/".join(parts), self._checking(rule, handler))

    def _rules(self) -> dict[str, Handler]:
        return {
            "GET /user": lambda _: Said(200, self.people[US]),
            "GET /projects": self._list_projects,
            "GET /projects/:id": self._project,
            "GET /projects/:id/merge_requests": self._list_merge_requests,
            "GET /projects/:id/merge_requests/:iid": self._merge_request,
            "GET /projects/:id/merge_requests/:iid/notes": self._list_notes,
            "POST /projects/:id/merge_requests/:iid/notes": self._write_note,
            "GET /projects/:id/merge_requests/:iid/notes/:note_id": self._note,
            "GET /projects/:id/merge_requests/:iid/notes/:note_id/award_emoji": self._list_emoji,
            "POST /projects/:id/merge_requests/:iid/notes/:note_id/award_emoji": self._award,
            "GET /projects/:id/members/all/:user_id": self._member,
            "GET /projects/:id/repository/branches/:branch": self._branch,
            "GET /projects/:id/repository/commits/:sha/statuses": self._list_statuses,
            "POST /projects/:id/statuses/:sha": self._set_status,
            "GET /projects/:id/hooks": lambda call: self._page(list(self.hooks.values()), call),
            "POST /projects/:id/hooks": self._make_hook,
            "PUT /projects/:id/hooks/:hook_id": self._edit_hook,
            "POST /projects/:id/hooks/:hook_id/test/push_events": self._try_hook,
        }

    def _checking(self, rule: str, handler: Handler) -> Handler:
        def checked(call: Call) -> Said:
            if "/projects/:id" in rule:
                project = self.project_of(call.parts[0])
                if project is None or project["id"] in self.closed_to_us:
                    return self._moved(call) or Said(404, {"message": "404 Project Not Found"})
                call = call._replace(parts=(str(project["id"]), *call.parts[1:]))
            faults = parameter_faults(self.parameters.get(rule, {}), call.body or {})
            if faults:
                return Said(400, {"message": {"base": faults}})
            said = handler(call)
            if rule in _TYPES and said.status < 300:
                wrong = self.types.faults(_TYPES[rule], _published(said.body))
                assert not wrong, wrong
            return said

        return checked

    def _moved(self, call: Call) -> Said | None:
        number = self.former.get(call.parts[0])
        if number is None:
            return None
        return Said(301, {"message": "moved"}, {"location": f"{self.address}{self.root}/projects/{number}"})

    def project_of(self, named: str) -> dict[str, Any] | None:
        if named.isdigit():
            return self.projects.get(int(named))
        return next((one for one in self.projects.values() if one["path_with_namespace"] == named), None)

    def is_known(self, call: Call) -> bool:
        return call.headers.get("private-token") == TOKEN

    def not_allowed(self) -> Said:
        said = "The request requires higher privileges than provided by the access token."
        return Said(403, {"error": "insufficient_scope", "error_description": said, "scope": "api"})

    def limited(self) -> Said:
        reset = int(SystemClock.now()) + 30
        return Said(429, "Retry later\n", {"ratelimit-remaining": "0", "ratelimit-reset": str(reset)})

    def now(self) -> str:
        moment = self.start + timedelta(seconds=5 * next(self.count))
        return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")

    def _person(self, login: str, number: int = 0) -> dict[str, Any]:
        number = number or next(self.count)
        self.people[number] = {
            "id": number,
            "username": login,
            "name": login.title(),
            "state": "active",
            "avatar_url": "",
            "web_url": f"{self.address}/{login}",
        }
        return self.people[number]

    def person(self, login: str) -> dict[str, Any]:
        return next((one for one in self.people.values() if one["username"] == login), None) or self._person(login)

    def add_project(self, path: str, *, owner: dict[str, Any] | None = None, **changes: object) -> dict[str, Any]:
        group, _, name = path.rpartition("/")
        number = next(self.count)
        namespace = {
            "id": next(self.count),
            "name": group,
            "path": group.rpartition("/")[2],
            "kind": "user" if owner else "group",
            "full_path": group,
            "web_url": f"{self.address}/{group}",
        }
        self.projects[number] = {
            "id": number,
            "name": name,
            "path": name,
            "path_with_namespace": path,
            "namespace": namespace,
            "description": None,
            "default_branch": "main",
            "topics": [],
            "ssh_url_to_repo": f"git@gitlab.example.com:{path}.git",
            "http_url_to_repo": f"{self.address}/{path}.git",
            "web_url": f"{self.address}/{path}",
            "visibility": "private",
            "empty_repo": False,
            "archived": False,
            "permissions": {"project_access": None, "group_access": {"access_level": 40, "notification_level": 3}},
            **({"owner": owner} if owner else {}),
            **changes,
        }
        return self.projects[number]

    def _page(self, items: list[Any], call: Call) -> Said:
        page = page_of(items, call, size="per_page", most=self.most)
        number = int(call.query.get("page", "1"))
        more = str(number + 1) if number * self.most < len(items) else ""
        return Said(200, page, {"x-total": str(len(items)), "x-page": str(number), "x-next-page": more})

    def _list_projects(self, call: Call) -> Said:
        asked = call.query
        assert (asked["membership"], asked["min_access_level"], asked["order_by"]) == ("true", "40", "id")
        after = int(asked["id_after"])
        return Said(200, [one for number, one in sorted(self.projects.items()) if number > after][: self.most])

    def _project(self, call: Call) -> Said:
        return Said(200, self.projects[int(call.parts[0])])

    def _list_merge_requests(self, call: Call) -> Said:
        found = [one for one in self.merge_requests.values() if one["state"] == call.query["state"]]
        told = [{name: value for name, value in one.items() if name != "head_pipeline"} for one in found]
        return self._page(told, call)

    def _merge_request(self, call: Call) -> Said:
        found = self.merge_requests.get(int(call.parts[1])) if call.parts[1].isdigit() else None
        return Said(200, found) if found else Said(404, {"message": "404 Not found"})

    def on(self, number: int) -> list[dict[str, Any]]:
        return [one for one in self.notes.values() if one["noteable_iid"] == number]

    def _list_notes(self, call: Call) -> Said:
        return self._page(self.on(int(call.parts[1]))[::-1], call)

    def _note(self, call: Call) -> Said:
        found = next((one for one in self.on(int(call.parts[1])) if str(one["id"]) == call.parts[2]), None)
        return Said(200, found) if found else Said(404, {"message": "404 Not found"})

    def _write_note(self, call: Call) -> Said:
        obeyed = [line for line in call.body["body"].splitlines() if line.lstrip().startswith("/")]
        assert not obeyed, f"GitLab would obey {obeyed}"
        return Said(201, self.add_note(int(call.parts[0]), int(call.parts[1]), US, call.body["body"]))

    def add_note(self, project: int, number: int, author: int, text: str, *, system: bool = False) -> dict[str, Any]:
        named, now = next(self.count), self.now()
        self.notes[named] = {
            "id": named,
            "body": text,
            "attachment": None,
            "author": self.people[author],
            "created_at": now,
            "updated_at": now,
            "system": system,
            "noteable_id": 1000 + number,
            "noteable_type": "MergeRequest",
            "noteable_iid": number,
            "project_id": project,
            "resolvable": False,
        }
        return self.notes[named]

    def _list_emoji(self, call: Call) -> Said:
        return self._page([one for one in self.emoji if str(one["awardable_id"]) == call.parts[2]], call)

    def _award(self, call: Call) -> Said:
        if int(call.parts[2]) not in self.notes:
            return Said(404, {"message": "404 Not found"})
        key = (int(call.parts[2]), call.body["name"], US)
        if any((one["awardable_id"], one["name"], one["user"]["id"]) == key for one in self.emoji):
            return Said(404, {"message": "404 Award Emoji Name has already been taken Not Found"})
        given = {"id": next(self.count), "name": call.body["name"], "user": self.people[US], "created_at": self.now()}
        self.emoji.append({**given, "awardable_id": int(call.parts[2]), "awardable_type": "Note"})
        return Said(201, self.emoji[-1])

    def _member(self, call: Call) -> Said:
        level = self.levels.get(int(call.parts[1]))
        if level is None:
            return Said(404, {"message": "404 Not found"})
        return Said(200, {**self.people[int(call.parts[1])], "access_level": level, "expires_at": None})

    def _branch(self, call: Call) -> Said:
        if call.parts[1] not in {"main", "topic"} | self.protected:
            return Said(404, {"message": "404 Branch Not Found"})
        return Said(200, {"name": call.parts[1], "protected": call.parts[1] in self.protected, "default": False})

    def of_commit(self, project: int, commit: str) -> list[dict[str, Any]]:
        """Return the newest status of each name and ref."""
        found = [one for one in self.statuses if (one["project_id"], one["sha"]) == (project, commit)]
        return list({(one["name"], one["ref"], one["pipeline_id"]): one for one in found}.values())

    def _list_statuses(self, call: Call) -> Said:
        if call.parts[1] not in self.commits:
            return Said(404, {"message": "404 Commit Not Found"})
        asked = {name: value for name, value in call.query.items() if name in {"name", "ref", "pipeline_id"}}
        found = self.of_commit(int(call.parts[0]), call.parts[1])
        return self._page(
            [_told(one) for one in found if all(str(one[name]) == value for name, value in asked.items())], call
        )

    def _set_status(self, call: Call) -> Said:
        project, commit, body = int(call.parts[0]), call.parts[1], call.body
        if commit not in self.commits:
            return Said(404, {"message": "404 Commit Not Found"})
        key = {"project_id": project, "sha": commit, "name": body.get("name", "default")}
        key |= {"ref": body.get("ref", "main"), "pipeline_id": body.get("pipeline_id", 1)}
        status = next(
            (one for one in self.statuses if one.items() >= key.items() and one["status"] in {"pending", "running"}),
            None,
        )
        event = {"pending": "enqueue", "running": "run", "success": "success", "failed": "drop", "canceled": "cancel"}
        if status is not None and body["state"] in {"pending", "running"} and status["status"] != "pending":
            said = f"Cannot transition status via :{event[body['state']]} from :{status['status']} (Reason(s): no)"
            return Said(400, {"message": said})
        if status is not None and body["state"] == status["status"] == "pending":
            return Said(400, {"message": "Cannot transition status via :enqueue from :pending"})
        if status is None:
            status = {"id": next(self.count), **key, "created_at": self.now(), "allow_failure": False}
            self.statuses.append(status)
        status |= {"status": body["state"], "author": self.people[US]}
        status |= {name: body.get(name) for name in ("description", "target_url")}
        return Said(201, _told(status))

    def _make_hook(self, call: Call) -> Said:
        named = next(self.count)
        self.hooks[named] = {"id": named, "created_at": self.now(), "alert_status": "executable"}
        return Said(201, self._set_hook(named, {"push_events": True} | call.body))

    def _edit_hook(self, call: Call) -> Said:
        return Said(200, self._set_hook(int(call.parts[1]), call.body))

    def _set_hook(self, named: int, body: Mapping[str, Any]) -> dict[str, Any]:
        shown = {name: value for name, value in body.items() if name not in {"token", "branch_filter_strategy"}}
        self.tokens[named] = body.get("token", self.tokens.get(named, ""))
        self.hooks[named] |= shown
        return self.hooks[named]

    def _try_hook(self, call: Call) -> Said:
        self.trials.append(int(call.parts[1]))
        self.hooks[int(call.parts[1])]["alert_status"] = "executable"
        return Said(201, {"message": "201 Created"})


def _told(status: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in status.items() if name not in {"project_id", "pipeline_id"}}


def _published(body: Any) -> Any:  # noqa: ANN401 - any JSON
    if isinstance(body, list):
        return [_published(one) for one in body]
    return {name: value for name, value in body.items() if name not in _UNPUBLISHED}
