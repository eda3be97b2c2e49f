"""What the small GitHub of `github_server` does for each request. Importing this registers it."""

from typing import Any

from tests.support.github_server import (
    APP,
    INSTALLATION,
    SUSPENDED,
    Asked,
    GitHub,
    Reply,
    Repository,
    Token,
    example,
    paged,
    route,
    stamp,
)

ABSENT = Reply(404, {"message": "Not Found"})


def _of(repository: Repository | None) -> Repository:
    assert repository is not None
    return repository


def _installation(hub: GitHub) -> dict[str, Any]:
    return {
        **example("apps/get-repo-installation 200"),
        "id": INSTALLATION,
        "app_id": APP,
        "permissions": hub.granted,
        "suspended_at": stamp(1) if hub.suspended else None,
    }


@route("apps/get-authenticated", "app")
def _app(hub: GitHub, asked: Asked, _: Repository | None, parts: dict[str, str]) -> Reply:
    facts = {**example("apps/get-authenticated 200"), "id": APP, "permissions": hub.granted, "events": hub.events}
    return Reply(200, facts)


@route("apps/list-installations", "app")
def _installations(hub: GitHub, asked: Asked, _: Repository | None, parts: dict[str, str]) -> Reply:
    return paged(hub, asked, [_installation(hub)])


@route("apps/get-repo-installation", "app")
def _installation_of(hub: GitHub, asked: Asked, _: Repository | None, parts: dict[str, str]) -> Reply:
    return Reply(200, _installation(hub))


@route("apps/create-installation-access-token", "app")
def _token(hub: GitHub, asked: Asked, _: Repository | None, parts: dict[str, str]) -> Reply:
    if parts["installation_id"] != str(INSTALLATION):
        return ABSENT
    if hub.suspended:
        return SUSPENDED
    wanted = asked.body.get("permissions", hub.granted)
    levels = ("read", "write")
    if any(
        name not in hub.granted or levels.index(level) > levels.index(hub.granted[name])
        for name, level in wanted.items()
    ):
        hub.faults.append("permissions were asked for that were not granted")
        return Reply(422, {"message": "The permissions requested are not granted to this installation."})
    name, ends = f"ghs_{hub.next()}", hub.now() + 3600
    hub.tokens[name] = Token(wanted, ends, tuple(asked.body.get("repositories", ())))
    hub.issued(name, hub.tokens[name])
    facts = {**example("apps/create-installation-access-token 201"), "token": name, "expires_at": stamp(ends)}
    return Reply(201, facts)


@route("apps/get-webhook-config-for-app", "app")
def _hook(hub: GitHub, asked: Asked, _: Repository | None, parts: dict[str, str]) -> Reply:
    return Reply(200, {**hub.hook, **({"secret": "********"} if "secret" in hub.hook else {})})


@route("apps/update-webhook-config-for-app", "app")
def _mend_hook(hub: GitHub, asked: Asked, _: Repository | None, parts: dict[str, str]) -> Reply:
    hub.hook |= asked.body
    return _hook(hub, asked, None, parts)


@route("apps/list-repos-accessible-to-installation", "metadata:read")
def _repositories(hub: GitHub, asked: Asked, _: Repository | None, parts: dict[str, str]) -> Reply:
    return paged(hub, asked, [one.facts for one in hub.repositories.values() if one.installed], "repositories")


@route("repos/get", "metadata:read")
def _repository(hub: GitHub, asked: Asked, repository: Repository | None, parts: dict[str, str]) -> Reply:
    return Reply(200, _of(repository).facts)


@route("pulls/list", "pull_requests:read")
def _pulls(hub: GitHub, asked: Asked, repository: Repository | None, parts: dict[str, str]) -> Reply:
    found = [pull for pull in _of(repository).pulls.values() if pull["state"] == asked.query.get("state", "open")]
    found.sort(key=lambda pull: int(pull["number"]), reverse=asked.query.get("direction", "desc") == "desc")
    return paged(hub, asked, found)


@route("pulls/get", "pull_requests:read")
def _pull(hub: GitHub, asked: Asked, repository: Repository | None, parts: dict[str, str]) -> Reply:
    pull = _of(repository).pulls.get(int(parts["pull_number"]))
    return Reply(200, {**example("pulls/get 200"), **pull}) if pull is not None else ABSENT


@route("issues/get-comment", "pull_requests:read")
def _comment(hub: GitHub, asked: Asked, repository: Repository | None, parts: dict[str, str]) -> Reply:
    comment = _of(repository).comments.get(int(parts["comment_id"]))
    return Reply(200, comment) if comment is not None else ABSENT


@route("issues/list-comments", "pull_requests:read")
def _comments(hub: GitHub, asked: Asked, repository: Repository | None, parts: dict[str, str]) -> Reply:
    ours, since = f"/issues/{parts['issue_number']}", asked.query.get("since", "")
    found = [one for one in _of(repository).comments.values() if one["issue_url"].endswith(ours)]
    return paged(hub, asked, [one for one in found if one["updated_at"] >= since])


@route("issues/create-comment", "pull_requests:write")
def _write_comment(hub: GitHub, asked: Asked, repository: Repository | None, parts: dict[str, str]) -> Reply:
    if int(parts["issue_number"]) not in _of(repository).pulls:
        return ABSENT
    app = {"id": APP, "slug": "nixmill"}
    comment = add_comment(hub, _of(repository), int(parts["issue_number"]), asked.body["body"], (APP, "nixmill[bot]"))
    comment["performed_via_github_app"] = app
    return Reply(201, comment)


def add_comment(hub: GitHub, repository: Repository, number: int, text: str, author: tuple[int, str]) -> dict[str, Any]:
    """Keep a comment and return it."""
    path, now = repository.facts["full_name"], stamp(hub.now())
    comment: dict[str, Any] = {
        **example("issues/create-comment 201"),
        "id": hub.next(),
        "body": text,
        "created_at": now,
        "updated_at": now,
        "issue_url": f"{hub.address}/repos/{path}/issues/{number}",
        "performed_via_github_app": None,
    }
    comment["user"] |= {"id": author[0], "login": author[1]}
    repository.comments[comment["id"]] = comment
    return comment


@route("reactions/create-for-issue-comment", "pull_requests:write")
def _react(hub: GitHub, asked: Asked, repository: Repository | None, parts: dict[str, str]) -> Reply:
    number = int(parts["comment_id"])
    if number not in _of(repository).comments:
        return ABSENT
    one = (number, asked.body["content"])
    status = 200 if one in _of(repository).reactions else 201
    _of(repository).reactions.add(one)
    return Reply(status, {**example("reactions/create-for-issue-comment 201"), "content": one[1]})


@route("repos/get-collaborator-permission-level", "metadata:read")
def _permission(hub: GitHub, asked: Asked, repository: Repository | None, parts: dict[str, str]) -> Reply:
    known = _of(repository).permissions.get(parts["username"])
    if known is None:
        return Reply(404, {"message": f"{parts['username']} is not a user"})
    facts = {**example("repos/get-collaborator-permission-level 200"), "permission": known[1], "role_name": known[1]}
    facts["user"] |= {"id": known[0], "login": parts["username"]}
    return Reply(200, facts)


@route("repos/get-branch", "contents:read")
def _branch(hub: GitHub, asked: Asked, repository: Repository | None, parts: dict[str, str]) -> Reply:
    name = parts["branch"]
    if name not in {"main", "feature/x"}:
        return Reply(404, {"message": "Branch not found"})
    return Reply(200, {**example("repos/get-branch 200"), "name": name, "protected": name in _of(repository).protected})


@route("checks/create", "checks:write")
def _check(hub: GitHub, asked: Asked, repository: Repository | None, parts: dict[str, str]) -> Reply:
    if asked.body["head_sha"] not in _of(repository).commits:
        return Reply(422, {"message": f"No commit found for SHA: {asked.body['head_sha']}"})
    run = {**example("checks/create 201"), "conclusion": None, "completed_at": None, "id": hub.next()}
    run["app"] |= {"id": APP}
    _of(repository).checks.append(run)
    return Reply(201, _changed(run, asked.body))


def _changed(run: dict[str, Any], body: dict[str, Any]) -> dict[str, Any]:
    run |= body
    if run.get("conclusion"):
        run["status"] = "completed"
    return run


@route("checks/update", "checks:write")
def _change_check(hub: GitHub, asked: Asked, repository: Repository | None, parts: dict[str, str]) -> Reply:
    for run in _of(repository).checks:
        if str(run["id"]) == parts["check_run_id"]:
            return Reply(200, _changed(run, asked.body))
    return ABSENT


@route("checks/list-for-ref", "checks:read")
def _checks(hub: GitHub, asked: Asked, repository: Repository | None, parts: dict[str, str]) -> Reply:
    if parts["ref"] not in _of(repository).commits:
        return Reply(422, {"message": f"No commit found for SHA: {parts['ref']}"})
    wanted = {"name": asked.query.get("check_name"), "head_sha": parts["ref"]}
    found = [
        run
        for run in _of(repository).checks
        if all(run[name] == value for name, value in wanted.items() if value is not None)
        and asked.query.get("app_id", str(run["app"]["id"])) == str(run["app"]["id"])
    ]
    newest = {run["name"]: run for run in found}
    return paged(hub, asked, list(newest.values()), "check_runs")


@route("repos/create-commit-status", "statuses:write")
def _status(hub: GitHub, asked: Asked, repository: Repository | None, parts: dict[str, str]) -> Reply:
    if parts["sha"] not in _of(repository).commits:
        return Reply(422, {"message": f"No commit found for SHA: {parts['sha']}"})
    if len(asked.body.get("description", "")) > 140:
        return Reply(422, {"message": "Validation Failed: description is too long (maximum is 140 characters)"})
    status = {**example("repos/create-commit-status 201"), "id": hub.next(), "sha": parts["sha"], **asked.body}
    _of(repository).statuses.append(status)
    return Reply(201, status)
