"""Commands about pull requests: what is open, and the approval of a stranger's commit after looking at it."""

import sys
import time
from collections.abc import Iterable

import msgspec

from nixmill.cli.client import Client
from nixmill.cli.named import Pull, project_here, pull_named
from nixmill.cli.render.pull_view import SHORT_COMMIT, WHAT_IT_MEANS, approve_lines, pull_lines, pulls_lines
from nixmill.cli.standard_streams import columns, paint, say
from nixmill.cli.watch import project_path
from nixmill.cli.wiring import Wiring
from nixmill.core.errors import InputError
from nixmill.core.view.pulls import PullPage, PullsPage, ToApprove
from nixmill.doors import NotAllowedError

COMMIT_MIN = 7
"""Characters of a commit that name it."""


class Approved(msgspec.Struct, frozen=True, kw_only=True):
    """What the server answers: the commit, and the runs that it let go on."""

    commit: str
    runs: tuple[int, ...]


async def pulls(
    client: Client, wiring: Wiring, project: str | None, *, closed: bool, before: int | None, json: bool
) -> int:
    """Print the open (or the closed) pull requests of a project."""
    name = project or await project_here(client, wiring)
    query: dict[str, str | int] = {"closed": "true"} if closed else {}
    if before is not None:
        query["before"] = before
    page = await client.page(f"{project_path(name)}/pulls", PullsPage, **query)
    _print(page, pulls_lines(page, paint(), time.time(), columns()), json=json)
    return 0


async def pull(client: Client, named: Pull, *, json: bool) -> int:
    """Print one pull request."""
    page = await client.page(named.path, PullPage)
    address = client.address(named.path)
    _print(page, pull_lines(page, paint(), time.time(), columns(), address), json=json)
    return 0


async def approve(
    client: Client, wiring: Wiring, what: str, project: str | None, *, commit: str | None, yes: bool, json: bool
) -> int:
    """Show what a pull request changes, ask, and approve just the commit that was shown."""
    named = await pull_named(client, wiring, what, project)
    page = await client.page(named.path, PullPage)
    look = _looked_at(page, commit)
    shown = approve_lines(page.pull, look, paint(), columns())
    print(*shown, sep="\n", file=sys.stderr if json else sys.stdout, flush=True)
    _confirm(look, yes=yes)
    answer = await client.act("POST", f"{named.path}/approve", {"commit": look.commit}, Approved)
    if json:
        _print(answer, (), json=True)
    for number in answer.runs:
        say(f"Approved: nixmill watch {number}")
    if not answer.runs:
        say("Approved. Nothing waited for it any more.")
    return 0


def _looked_at(page: PullPage, commit: str | None) -> ToApprove:
    """Return what is to be approved; raise where that is nothing, something else, or not for whoever asks."""
    line = page.pull
    if not line.held:
        latest = f"Its newest run: nixmill status {line.latest.number}" if line.latest is not None else ""
        raise InputError(f"#{line.number} of {line.project.name} does not wait for approval.", latest)
    if page.to_approve is None:
        raise NotAllowedError(
            f"You may not approve commits of {line.project.name}. Ask somebody who may write to the repository, or use"
            " a token of theirs that may start runs.",
            door="server",
            action="approve",
            subject=f"#{line.number}",
            retryable=False,
        )
    head = page.to_approve.commit
    if commit is not None and (len(commit) < min(COMMIT_MIN, len(head)) or not head.startswith(commit.lower())):
        raise InputError(
            f"The head of #{line.number} is {head[:SHORT_COMMIT]} now, not {commit[:64]}.",
            "Somebody has pushed meanwhile: look at what changed, then approve that.",
        )
    return page.to_approve


def _confirm(look: ToApprove, *, yes: bool) -> None:
    """Have somebody at a terminal say yes, unless they did so before; raise `InputError` where they do not."""
    if yes:
        return
    head = look.commit[:SHORT_COMMIT]
    if not sys.stdin.isatty():
        raise InputError("Nothing was approved: nobody is there to ask.", f"To approve it: --commit {head} --yes")
    say(f"\nApproving {head} {WHAT_IT_MEANS}.")
    print(f"Approve {head}? [y/N] ", end="", file=sys.stderr, flush=True)  # noqa: T201 - people read this
    if sys.stdin.readline().strip().lower() not in {"y", "yes"}:
        raise InputError("Nothing was approved.", "")


def _print(page: msgspec.Struct, lines: Iterable[str], *, json: bool) -> None:
    if json:
        sys.stdout.buffer.write(msgspec.json.format(msgspec.json.encode(page)) + b"\n")
    else:
        print(*lines, sep="\n")  # noqa: T201 - the result is what is asked for
