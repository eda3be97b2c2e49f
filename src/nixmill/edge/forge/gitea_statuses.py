"""Statuses of commits on Gitea and Forgejo.

Only `success` is meant to satisfy a required check, but newer versions let `skipped` and `warning` through as well
(`CommitStatusStates.Combine` in `modules/commitstatus/commit_status.go`), so neither is used. A post never replaces
one, it is put on top, so what stands already is looked at first.
"""

from typing import Final

from nixmill.core.posting import CheckState, Posting
from nixmill.doors import DoorError
from nixmill.edge.forge.gitea_ask import PAGE, READ_CODE, WRITE_CODE, GiteaAsk
from nixmill.edge.forge.gitea_wire import WireStatus, WireStatuses
from nixmill.edge.forge.web import ForgeWeb, RefusedError

DESCRIPTION_MAX: Final = 255
"""Characters."""
_PAGES: Final = 5
_STATES: Final[dict[CheckState, str]] = {
    CheckState.WAITING: "pending",
    CheckState.HELD: "pending",
    CheckState.RUNNING: "pending",
    CheckState.GOOD: "success",
    CheckState.FAILED: "failure",
    CheckState.TROUBLE: "error",
    CheckState.CANCELLED: "error",
    CheckState.SKIPPED: "error",
}


class GiteaStatuses:
    """Puts statuses up."""

    def __init__(self, web: ForgeWeb, ask: GiteaAsk) -> None:
        """Ask through `web`."""
        self._web = web
        self._ask = ask

    async def post(self, posting: Posting) -> str:
        """Put a status up unless it stands already; return its id."""
        body = body_of(posting)
        standing = await self._standing(posting)
        if standing is not None and _is_same(standing, body):
            return str(standing.id)
        action = f"set the status of {posting.commit} in {posting.repository}"
        ask = self._ask.of(
            posting.repository, ("statuses", posting.commit), action, WRITE_CODE, method="POST", body=body
        )
        try:
            return str((await self._web.do(WireStatus, ask)).id)
        except RefusedError as error:
            await self._check_commit(posting, error)
            raise

    async def _standing(self, posting: Posting) -> WireStatus | None:
        """Return the newest status of the posting's context."""
        for page in range(1, _PAGES + 1):
            ask = self._ask.of(
                posting.repository,
                ("commits", posting.commit, "status"),
                f"read the statuses of {posting.commit} in {posting.repository}",
                READ_CODE,
                query={"limit": PAGE, "page": page},
            )
            answer = await self._web.read(WireStatuses, ask)
            found = (answer.statuses if answer is not None else None) or []
            for status in found:
                if status.context == posting.context:
                    return status
            if not found:
                break
        return None

    async def _check_commit(self, posting: Posting, error: RefusedError) -> None:
        """Raise an error that is not retryable where the commit is gone: the forge itself answers 404, 422 or 500."""
        if error.status not in {404, 422, 500}:
            return
        ask = self._ask.of(
            posting.repository, ("git", "commits", posting.commit), f"look for commit {posting.commit}", READ_CODE
        )
        if (await self._web.send(ask)).status != 404:
            return
        raise DoorError(
            f"The forge no longer has the commit {posting.commit} of {posting.repository}, so it takes no status.",
            door="forge",
            action="post a status",
            subject=posting.commit,
            retryable=False,
        ) from error


def body_of(posting: Posting) -> dict[str, str]:
    """Return a posting as the forge takes it (`CreateStatusOption`)."""
    return {
        "context": posting.context,
        "state": _STATES[posting.state],
        "description": posting.title[:DESCRIPTION_MAX],
        "target_url": posting.url,
    }


def _is_same(status: WireStatus, body: dict[str, str]) -> bool:
    return (status.status, status.description, status.target_url) == (
        body["state"],
        body["description"],
        body["target_url"],
    )
