"""Pull requests, approvals, events and statuses, with sensible defaults."""

from typing import Any

from nixmill.core.change import Change, ChangeState, Origin
from nixmill.core.forge import Event, ForgeUser, Hint, HintKind
from nixmill.core.posting import CheckState, Posting, PostOutcome
from nixmill.core.project import pull_request_ref
from nixmill.core.pull_request import Approval, PullRequest
from nixmill.core.trust import Tier
from tests.support.server_things import NOW, a_change


def a_pull(number: int = 7, **fields: Any) -> PullRequest:  # noqa: ANN401 - of a pull request
    values = {
        "title": "Grind finer",
        "author": ForgeUser(id="12", login="alice"),
        "url": f"https://forge.example/mill/pulls/{number}",
        "head_ref": "finer",
        "head_commit": "c7",
        "head_repository": "31",
        "fetch_ref": f"refs/pull/{number}/head",
        "base_ref": "refs/heads/main",
    }
    return PullRequest(number=number, **{**values, **fields})


def a_pull_change(project: int, number: int = 7, **fields: Any) -> Change:  # noqa: ANN401 - of a change
    """Return the change of a stranger's pull request, which waits for approval."""
    values = {
        "ref": pull_request_ref(number),
        "commit": "c7",
        "origin": Origin.PULL_REQUEST,
        "state": ChangeState.HELD,
        "tier": Tier.FORK,
        "pull_request": number,
        "base_ref": "refs/heads/main",
    }
    return a_change(project, **{**values, **fields})


def an_approval(project: int, number: int = 7, **fields: Any) -> Approval:  # noqa: ANN401 - of an approval
    values = {"commit": "c7", "who": "bob", "via": "page", "at": NOW, **fields}
    return Approval(project=project, pull_request=number, **values)


def an_event(delivery: str, *numbers: int) -> Event:
    """Return a delivery that hints at these pull requests."""
    hints = [Hint(kind=HintKind.PULL_REQUEST, repository="o/mill", pull_request=number) for number in numbers]
    return Event(delivery=delivery, hints=tuple(hints))


def a_posting(project: int, generation: int = 1, **fields: Any) -> Posting:  # noqa: ANN401 - of a status
    values = {
        "forge": "f",
        "repository": "o/mill",
        "commit": "c7",
        "context": "nixmill",
        "state": CheckState.RUNNING,
        "title": f"at {generation}",
        "url": "https://ci.example/r/1",
        "run": 1,
    }
    return Posting(project=project, generation=generation, **{**values, **fields})


def an_outcome_of(posting: Posting, **fields: Any) -> PostOutcome:  # noqa: ANN401 - of a try
    values = {"at": NOW, "external_id": "x1", **fields}
    return PostOutcome(
        project=posting.project,
        commit=posting.commit,
        context=posting.context,
        generation=posting.generation,
        **values,
    )
