"""Statuses of commits on GitLab: external jobs in a pipeline of the commit.

A merge request shows the pipelines of its source branch in the source's own project, or those made for it. So a status
joins the merge request's pipeline of that commit where there is one, else it goes to the source branch; where we may
not speak in a fork, it goes to the commit in the target's project, which people see on the commit's page only.
Sources: `app/services/ci/create_commit_status_service.rb`, `Ci::PipelinesForMergeRequestFinder`, issue 549 of
jenkinsci/gitlab-plugin.

`skipped` is not used: a project can let skipped pipelines through. A status that ended is followed by a new one; one
that runs cannot be told again that it runs (400, `Cannot transition status`), which is as good as having said it.
"""

import hashlib
from typing import Final, NamedTuple

from nixmill.core.posting import CheckState, Posting
from nixmill.doors import DoorError
from nixmill.edge.forge.gitlab_ask import PAGE, READ, WRITE, GitLabAsk
from nixmill.edge.forge.gitlab_wire import WireMergeRequest, WireStatus, head_ref
from nixmill.edge.forge.web import ForgeWeb, RefusedError

DESCRIPTION_MAX: Final = 255
"""Characters, as of a name and an address."""
_STATES: Final[dict[CheckState, str]] = {
    CheckState.WAITING: "pending",
    CheckState.HELD: "pending",
    CheckState.RUNNING: "running",
    CheckState.GOOD: "success",
    CheckState.FAILED: "failed",
    CheckState.TROUBLE: "failed",
    CheckState.CANCELLED: "canceled",
    CheckState.SKIPPED: "canceled",
}
_CLOSED_TO_US: Final = frozenset({403, 404})


class Place(NamedTuple):
    """Where a status can go."""

    project: str | int
    ref: str = ""
    """Empty: the first branch that has the commit."""
    pipeline: int = 0


class GitLabStatuses:
    """Puts statuses up."""

    def __init__(self, web: ForgeWeb, ask: GitLabAsk) -> None:
        """Ask through `web`."""
        self._web = web
        self._ask = ask

    async def post(self, posting: Posting) -> str:
        """Put a status up unless it stands already; return its id."""
        *first, last = await self._places(posting)
        for place in first:
            try:
                return await self._post_to(place, posting)
            except RefusedError as error:
                if error.status not in _CLOSED_TO_US:
                    raise
        return await self._post_to(last, posting)

    async def _places(self, posting: Posting) -> list[Place]:
        if posting.pull_request is None:
            return [Place(posting.repository)]
        action = f"read merge request {posting.pull_request} of {posting.repository}"
        parts: tuple[str | int, ...] = ("merge_requests", posting.pull_request)
        found = await self._web.do(WireMergeRequest, self._ask.of(posting.repository, parts, action, READ))
        return places_of(found, posting)

    async def _post_to(self, place: Place, posting: Posting) -> str:
        body = body_of(posting)
        standing = await self._standing(place, posting, body)
        if standing is not None and _is_same(standing, body):
            return str(standing.id)
        action = f"set the status of {posting.commit} in {posting.repository}"
        parts: tuple[str | int, ...] = ("statuses", posting.commit)
        ask = self._ask.of(place.project, parts, action, WRITE, method="POST", body=body | _where(place))
        try:
            return str((await self._web.do(WireStatus, ask)).id)
        except RefusedError as error:
            return _said_before(error, body["state"], standing)

    async def _standing(self, place: Place, posting: Posting, body: dict[str, str]) -> WireStatus | None:
        """Return the newest status of that name and place."""
        query: dict[str, str | int] = {"per_page": PAGE, "name": body["name"]}
        query |= {"ref": place.ref} if place.ref else {}
        query |= {"pipeline_id": place.pipeline} if place.pipeline else {}
        action = f"read the statuses of {posting.commit} in {posting.repository}"
        parts: tuple[str | int, ...] = ("repository", "commits", posting.commit, "statuses")
        found = await self._web.read(list[WireStatus], self._ask.of(place.project, parts, action, READ, query=query))
        return max((one for one in found or () if one.name == body["name"]), key=lambda one: one.id, default=None)


def places_of(found: WireMergeRequest, posting: Posting) -> list[Place]:
    """Return where a merge request's status can go, the best first."""
    pipeline = found.head_pipeline
    if pipeline is not None and pipeline.sha == posting.commit:
        best = Place(pipeline.project_id, pipeline.ref, pipeline.id)
    elif found.source_project_id is not None:
        best = Place(found.source_project_id, found.source_branch)
    else:
        return [Place(posting.repository, head_ref(found.iid))]
    if best.project == found.target_project_id:
        return [best]
    return [best, Place(posting.repository, head_ref(found.iid))]


def body_of(posting: Posting) -> dict[str, str]:
    """Return a posting as the forge takes it; without an address that is too long for it."""
    return {
        "name": name_of(posting.context),
        "state": _STATES[posting.state],
        "description": posting.title[:DESCRIPTION_MAX],
        **({"target_url": posting.url} if len(posting.url) <= DESCRIPTION_MAX else {}),
    }


def name_of(context: str) -> str:
    """Return a status's name; one that is too long is cut and told apart by a digest."""
    if len(context) <= DESCRIPTION_MAX:
        return context
    return f"{context[: DESCRIPTION_MAX - 10]}… {hashlib.sha256(context.encode()).hexdigest()[:8]}"


def _where(place: Place) -> dict[str, str | int]:
    return {**({"ref": place.ref} if place.ref else {}), **({"pipeline_id": place.pipeline} if place.pipeline else {})}


def _is_same(status: WireStatus, body: dict[str, str]) -> bool:
    return (status.status, status.description or "", status.target_url or "") == (
        body["state"],
        body["description"],
        body.get("target_url", ""),
    )


def _said_before(error: RefusedError, state: str, standing: WireStatus | None) -> str:
    """Return the id of a status that goes on as it is; raise the error, or one that is retryable after a race."""
    crossed = error.status == 409 or (error.status == 400 and "Cannot transition status" in error.said)
    if not crossed:
        raise error
    if error.status == 400 and state in {"pending", "running"}:
        return str(standing.id) if standing is not None else ""
    raise DoorError(
        f"{error} Another post was in the way; this is tried again.",
        door="forge",
        action=error.action,
        subject=error.subject,
        retryable=True,
    ) from error
