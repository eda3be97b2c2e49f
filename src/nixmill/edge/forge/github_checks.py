"""Statuses on GitHub: check runs, or commit statuses where the App may not write checks.

What a required check says decides about merging, and GitHub lets `neutral` and `skipped` through (its "About status
checks"), so neither is ever used:

| state | check run | commit status |
|---|---|---|
| waiting | `queued` | `pending` |
| running | `in_progress` | `pending` |
| held | `completed`, `action_required`: GitHub shows buttons only on what is completed | `pending` |
| good | `completed`, `success` | `success` |
| failed | `completed`, `failure` | `failure` |
| trouble | `completed`, `cancelled`: no red cross that would look like the author's | `error` |
| cancelled, skipped | `completed`, `cancelled` | `error` |
"""

import hashlib
from datetime import UTC, datetime
from typing import Any, Final

import msgspec

from nixmill.core.posting import Button, CheckState, Posting
from nixmill.edge.forge.github_app import GitHubApp
from nixmill.edge.forge.stranger_text import kept
from nixmill.edge.forge.web import Ask, RefusedError, path_of

NAME_MAX: Final = 200
"""Characters of the name of a check."""
TITLE_MAX: Final = 255
SUMMARY_MAX: Final = 65_535
DESCRIPTION_MAX: Final = 140
"""Of a commit status."""
NO_CHECKS_S: Final = 3600.0
"""Seconds after which it is tried again whether a repository lets us write checks."""
_STATUS: Final = "status:"
"""Begins the ids of commit statuses, which are never changed in place."""
_STATES: Final[dict[CheckState, tuple[str, str, str]]] = {
    CheckState.WAITING: ("queued", "", "pending"),
    CheckState.RUNNING: ("in_progress", "", "pending"),
    CheckState.HELD: ("completed", "action_required", "pending"),
    CheckState.GOOD: ("completed", "success", "success"),
    CheckState.FAILED: ("completed", "failure", "failure"),
    CheckState.TROUBLE: ("completed", "cancelled", "error"),
    CheckState.CANCELLED: ("completed", "cancelled", "error"),
    CheckState.SKIPPED: ("completed", "cancelled", "error"),
}
"""Status and conclusion of the check run, state of the commit status."""
ACTIONS: Final[dict[Button, tuple[str, str]]] = {
    Button.APPROVE: ("Approve", "Evaluate and build this commit"),
    Button.RETRY: ("Retry", "Build again what failed"),
}
"""Label and description. Stopping a run is not among them: GitHub shows buttons only once a check is completed."""


class WireCheck(msgspec.Struct):
    """A check run."""

    id: int
    name: str = ""
    status: str = ""
    app: dict[str, Any] | None = None


class _Checks(msgspec.Struct):
    check_runs: list[WireCheck]


class GitHubChecks:
    """Puts up statuses."""

    def __init__(self, app: GitHubApp) -> None:
        """Speak as the App."""
        self._app = app
        self._no_checks: dict[str, float] = {}
        """Repositories that do not let us write checks, and since when."""

    async def post(self, posting: Posting, now: float) -> str:
        """See `ForgeVoice.post`."""
        path = posting.repository
        if now < self._no_checks.get(path, -NO_CHECKS_S) + NO_CHECKS_S:
            return await self._post_status(posting)
        try:
            return await self._post_check(posting)
        except RefusedError as error:
            if error.status != 403:
                raise
            refusal = error
        try:
            named = await self._post_status(posting)
        except RefusedError:
            # The first refusal names the permission that should be there.
            raise refusal from None
        self._no_checks[path] = now
        return named

    async def _post_check(self, posting: Posting) -> str:
        known = await self._known(posting)
        if known:
            changed = await self._changed(posting, known)
            if changed:
                return changed
        fields = {"head_sha": posting.commit, **fields_of(posting)}
        return str((await self._app.do(WireCheck, posting.repository, self._ask(posting, "POST", fields))).id)

    async def _known(self, posting: Posting) -> str:
        """Return the id of the check run that is to be changed; empty where a new one is to be made.

        One that is completed is not opened again: a new one of the same name takes its place on GitHub's pages.
        """
        final = _STATES[posting.state][0] == "completed"
        if final and posting.external_id.isdigit():
            return posting.external_id
        owner, name = _split(posting)
        query: dict[str, str | int] = {"check_name": name_of(posting.context), "app_id": self._app.id, "per_page": 100}
        ask = Ask(
            "GET",
            path_of("repos", owner, name, "commits", posting.commit, "check-runs"),
            f"list the checks of {posting.repository}",
            needs="Checks: write",
            query=query,
        )
        found = await self._app.read(_Checks, posting.repository, ask)
        ours = [run for run in (found.check_runs if found else ()) if (run.app or {}).get("id") == self._app.id]
        newest = max(ours, key=lambda run: run.id, default=None)
        return str(newest.id) if newest is not None and (final or newest.status != "completed") else ""

    async def _changed(self, posting: Posting, known: str) -> str:
        """Change a check run; return its id, or nothing where it is gone."""
        try:
            run = await self._app.do(
                WireCheck, posting.repository, self._ask(posting, "PATCH", fields_of(posting), known)
            )
        except RefusedError as error:
            if error.status != 404:
                raise
            return ""
        return str(run.id)

    def _ask(self, posting: Posting, method: str, fields: dict[str, Any], *known: str) -> Ask:
        owner, name = _split(posting)
        return Ask(
            method,
            path_of("repos", owner, name, "check-runs", *known),
            f"put up a check on {posting.repository}",
            needs="Checks: write",
            body=fields,
        )

    async def _post_status(self, posting: Posting) -> str:
        owner, name = _split(posting)
        ask = Ask(
            "POST",
            path_of("repos", owner, name, "statuses", posting.commit),
            f"put up a status on {posting.repository}",
            needs="Commit statuses: write",
            body={
                "state": _STATES[posting.state][2],
                "context": name_of(posting.context),
                "description": kept(posting.title, DESCRIPTION_MAX),
                "target_url": posting.url,
            },
        )
        return f"{_STATUS}{(await self._app.do(WireCheck, posting.repository, ask)).id}"


def fields_of(posting: Posting) -> dict[str, Any]:
    """Return what a check run is to say, in GitHub's words and within its limits."""
    status, conclusion, _ = _STATES[posting.state]
    fields: dict[str, Any] = {
        "name": name_of(posting.context),
        "status": status,
        "external_id": str(posting.run),
        "details_url": posting.url,
        "output": {
            "title": kept(posting.title, TITLE_MAX) or posting.state,
            "summary": kept(posting.summary, SUMMARY_MAX) or kept(posting.title, TITLE_MAX),
        },
        "actions": [
            {"label": ACTIONS[button][0], "description": ACTIONS[button][1], "identifier": button}
            for button in posting.buttons
            if button in ACTIONS
        ],
    }
    if posting.started_at is not None:
        fields["started_at"] = _time(posting.started_at)
    if conclusion:
        fields["conclusion"] = conclusion
        if posting.ended_at is not None:
            fields["completed_at"] = _time(posting.ended_at)
    return fields


def name_of(context: str) -> str:
    """Return the name of a check; one that is too long ends in a digest, so that two stay two."""
    if len(context) <= NAME_MAX:
        return kept(context, NAME_MAX)
    digest = hashlib.sha256(context.encode(errors="replace")).hexdigest()[:12]
    return kept(context, NAME_MAX - 13) + "~" + digest


def _time(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def _split(posting: Posting) -> tuple[str, str]:
    owner, _, name = posting.repository.partition("/")
    return owner, name
