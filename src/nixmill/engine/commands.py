"""Does what people command on their forge: by comments on pull requests and by the buttons of checks.

Who commands and what they say is asked of the forge, not taken from the webhook; whether they may is decided by
`nixmill.core.command`, from what the forge says of them now.
"""

from typing import Final, Protocol

from nixmill.core.change import FINAL, Change, ChangeState, Origin
from nixmill.core.command import HELP, Command, Misunderstood, Verb, commands, may_command
from nixmill.core.errors import InputError
from nixmill.core.forge import Comment, ForgeUser, Hint, HintKind
from nixmill.core.forge_markdown import code, text
from nixmill.core.message import Parcel
from nixmill.core.posting import Reply
from nixmill.core.project import Project
from nixmill.core.pull_request import Approval, Known
from nixmill.core.trust import Permission, may_write
from nixmill.engine.office import Again, Asker
from nixmill.engine.parcel import parcel_of
from nixmill.engine.pulls import Pulls
from nixmill.engine.server_doors import ServerDoors
from nixmill.nix.attr_path import AttrPath, parse

COMMIT_MIN: Final = 7
"""Digits of a commit that an approval may name."""


class Runs(Protocol):
    """What commands do to runs; part of `nixmill.engine.office.Office`."""

    async def retry(self, asker: Asker, number: int, what: Again, path: AttrPath | None = None) -> int:
        """See `Office`."""

    async def cancel(self, asker: Asker, number: int) -> bool:
        """See `Office`."""

    async def note(self, asker: Asker, action: str, subject: str, project: int | None, detail: str = "") -> None:
        """Write to the audit log."""


class Commands:
    """All projects'."""

    def __init__(self, doors: ServerDoors, pulls: Pulls, runs: Runs) -> None:
        """Do things by these."""
        self._doors = doors
        self._pulls = pulls
        self._runs = runs

    async def comment(self, project: Project, hint: Hint) -> list[Parcel]:
        """Obey a comment; return what is to be answered. Obeying it twice is obeying it once."""
        forge = self._pulls.forge_of(project)
        if forge is None:
            return []
        comment = await forge.comment(project.repository, hint.pull_request, hint.comment)
        if comment is None or comment.edited:
            return []
        found = commands(comment.text)
        if not found:
            return []
        await self._pulls.look(project, hint.pull_request)
        permission = await forge.permission(project.repository, comment.author)
        said = [await self._obeyed(project, hint.pull_request, comment, permission, one) for one in found]
        answer = "\n\n".join(sentence for sentence in said if sentence)
        mine = may_write(permission) or await self._is_author(project, hint.pull_request, comment.author)
        answer = answer if mine else ""  # strangers get a sign, not a conversation
        return [self._answer(project, hint.pull_request, comment.id, answer, understood=not any(said))]

    async def button(self, project: Project, hint: Hint) -> list[Parcel]:
        """Do what a button of a check says; who presses one without the right to changes nothing."""
        forge = self._pulls.forge_of(project)
        if forge is None or hint.actor is None:
            return []
        permission = await forge.permission(project.repository, hint.actor)
        asker = _asker(project, hint.actor)
        if not may_write(permission):
            await self._runs.note(asker, "refused", hint.kind.value, project.id, f"permission: {permission.value}")
            return []
        if hint.kind is HintKind.APPROVE:
            await self._approve_commit(project, hint, hint.actor)
        elif number := await self._run_of(project, hint):
            await self._runs.retry(asker, number, Again.FAILED)
        return []

    async def _obeyed(
        self, project: Project, number: int, comment: Comment, permission: Permission, one: Command | Misunderstood
    ) -> str:
        """Do one command; return what is to be said, empty where a sign is enough."""
        if isinstance(one, Misunderstood):
            return one.sentence
        known = await self._doors.pulls.pull_request(project.id, number)
        if known is None:
            return "This pull request is not checked here."
        who = comment.author
        is_author = known.pull.author.id == who.id
        held = any(change.state is ChangeState.HELD for change in known.changes)
        refusal = may_command(one.verb, permission, is_author=is_author, held=held)
        if refusal:
            await self._runs.note(_asker(project, who), "refused", f"/nixmill {one.verb.value}", project.id, refusal)
            return refusal
        try:
            return await self._do(project, known, comment, one)
        except InputError as error:
            return text(f"{error} {error.remedy}".strip(), limit=600)

    async def _do(self, project: Project, known: Known, comment: Comment, one: Command) -> str:
        asker = _asker(project, comment.author)
        match one.verb:
            case Verb.HELP:
                return HELP
            case Verb.APPROVE:
                return await self._approve(project, known, comment, one.commit or comment.commit)
            case Verb.CANCEL:
                going = [change for change in known.changes if change.state not in FINAL]
                stopped = [await self._runs.cancel(asker, change.number) for change in going]
                return "" if any(stopped) else "Nothing of this pull request is going on."
            case Verb.RETRY | Verb.BUILD:
                return await self._again(project, known, asker, one)

    async def _again(self, project: Project, known: Known, asker: Asker, one: Command) -> str:
        """Try the newest run of the head again, or build one attribute of it; run it at all where there is none."""
        newest = _newest(known)
        if newest is None:
            await self._pulls.look(project, known.pull.number, insist=True)
            return ""
        path = parse(one.attribute) if one.verb is Verb.BUILD else None
        if _is_on_its_way(newest, path):
            return ""  # said twice, or seen to again after a crash
        if one.verb is Verb.RETRY and newest.state not in {*FINAL, ChangeState.HELD}:
            return f"Run {newest.number} is not at its end yet: there is nothing to try again."
        await self._runs.retry(asker, newest.number, Again.BUILD if path else Again.FAILED, path)
        return ""

    async def _approve(self, project: Project, known: Known, comment: Comment, commit: str) -> str:
        """Approve the head; where a commit is named it must be that one: somebody may have pushed meanwhile.

        Unless it is named in full, it must have been here before the comment was written: who wrote it may have seen it
        then, and a commit with the same first digits can be made afterwards.
        """
        head, who = known.pull.head_commit, comment.author
        if commit and (len(commit) < COMMIT_MIN or not head.startswith(commit.lower())):
            return f"The head of this pull request is {head[:12]} now, not {code(commit[:12])}: look at it again first."
        if len(commit) < len(head) and not _was_here(known, comment.at):
            named = f"`/nixmill approve {head[:12]}`"
            return f"Commit {head[:12]} was not known here before that comment. Look at it, then comment {named}."
        await self._pulls.approve(project, self._approval(project, known.pull.number, head, who, "comment"))
        subject = f"{project.name} #{known.pull.number}"
        await self._runs.note(_asker(project, who), "approve a commit", subject, project.id, f"{head[:12]} by comment")
        return ""

    async def _approve_commit(self, project: Project, hint: Hint, who: ForgeUser) -> None:
        """Approve by a button: it stands on a check of one commit, and that commit is what is approved."""
        number = hint.pull_request or await self._pull_of(project, hint)
        if not number or not hint.commit:
            return
        await self._pulls.look(project, number)
        await self._pulls.approve(project, self._approval(project, number, hint.commit, who, "button"))
        subject, detail = f"{project.name} #{number}", f"{hint.commit[:12]} by button"
        await self._runs.note(_asker(project, who), "approve a commit", subject, project.id, detail)

    def _approval(self, project: Project, number: int, commit: str, who: ForgeUser, via: str) -> Approval:
        return Approval(
            project=project.id,
            pull_request=number,
            commit=commit,
            who=f"{project.forge}:{who.login}",
            via=via,
            at=self._doors.clock.now(),
        )

    async def _pull_of(self, project: Project, hint: Hint) -> int:
        change = await self._doors.changes.change(hint.run) if hint.run else None
        mine = change is not None and (change.project, change.commit) == (project.id, hint.commit)
        return (change.pull_request or 0) if change is not None and mine else 0

    async def _run_of(self, project: Project, hint: Hint) -> int:
        """Return the run that a check tells of; it must be one of this project and commit."""
        if hint.run:
            change = await self._doors.changes.change(hint.run)
            if change is not None and change.project == project.id:
                return change.number
        told = await self._doors.statuses.of_commit(project.id, hint.commit)
        return max((posting.run for posting in told), default=0)

    async def _is_author(self, project: Project, number: int, who: ForgeUser) -> bool:
        known = await self._doors.pulls.pull_request(project.id, number)
        return known is not None and known.pull.author.id == who.id

    def _answer(self, project: Project, number: int, comment: str, text: str, *, understood: bool) -> Parcel:
        reply = Reply(
            forge=project.forge,
            repository=project.repository,
            pull_request=number,
            comment=comment,
            text=text,
            understood=understood,
        )
        key = f"answer {project.forge} {project.id} {comment}"
        return parcel_of(reply, key, project=project.id, now=self._doors.clock.now())


def _asker(project: Project, who: ForgeUser) -> Asker:
    return Asker(user=None, name=f"{project.forge}:{who.login}")


def _newest(known: Known) -> Change | None:
    """Return the newest run of the head as it is now."""
    return next((change for change in known.changes if change.commit == known.pull.head_commit), None)


def _is_on_its_way(newest: Change, path: AttrPath | None) -> bool:
    """Say whether just that is tried again already."""
    again = newest.origin is Origin.RETRY and newest.state not in FINAL
    return again and newest.anyway == ((path,) if path is not None else ())


def _was_here(known: Known, at: float) -> bool:
    """Say whether the head was recorded, by our clock, before a comment was written, by the forge's."""
    head = known.pull.head_commit
    return any(change.commit == head and change.requested_at < at for change in known.changes)
