"""The suite of `forge_suite` held by the edge to Gerrit, and what Gerrit alone has: votes, patch sets, groups, ssh."""

import asyncio
import contextlib
import getpass
import json
import shutil
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from nixmill.core.forge import HintKind
from nixmill.core.posting import CheckState
from nixmill.core.pull_request import tier_of
from nixmill.core.trust import Permission, Tier
from nixmill.doors import DoorError
from nixmill.edge.forge.gerrit_events import comment_name
from nixmill.edge.forge.gerrit_people import REMEMBERED_S
from nixmill.edge.forge.gerrit_review import TAG
from nixmill.edge.forge.gerrit_stream import LINE_MAX, follow, stream_address
from tests.contract.forge_suite import ForgeSuite, posting
from tests.contract.forge_world import Spec
from tests.support.gerrit_server import (
    LABEL,
    OWN_ID,
    USER,
    GerritState,
    gerrit_server,
)
from tests.support.gerrit_world import Clock, GerritWorld, event
from tests.support.receiver import receiving
from tests.support.remote_store import ssh_server
from tests.support.server import free_port


class TestGerrit(ForgeSuite):
    @pytest.fixture
    async def world(self, tmp_path: Path) -> AsyncIterator[GerritWorld]:
        state = GerritState()
        state.accounts[OWN_ID] = {"name": "nixmill", "username": USER}
        state.groups[OWN_ID] = set()
        with gerrit_server(state) as url:
            world = GerritWorld(url, state, tmp_path)
            yield world
            await world.forge.aclose()

    @pytest.mark.parametrize("state", list(CheckState))
    async def test_only_good_is_green(self, world: GerritWorld, state: CheckState) -> None:  # type: ignore[override]
        """Our own trouble and what was cancelled take an earlier vote back, and never vote against anybody."""
        number = world.open(Spec(author=world.user("ann")))
        world.state.changes[number].patch_sets[-1].votes[LABEL] = 1
        await world.forge.post(posting(world, number, state))
        expected = {CheckState.GOOD: 1, CheckState.FAILED: -1, CheckState.WAITING: 1}.get(state, 0)
        assert world.state.changes[number].patch_sets[-1].votes == {LABEL: expected}

    async def test_who_uploaded_the_patch_set_decides_about_trust(self, world: GerritWorld) -> None:
        ann, eve = world.user("ann", Permission.WRITE), world.user("eve")
        number = world.open(Spec(author=ann))
        assert tier_of(await world.pull(number), world.path) is Tier.MEMBER
        world.upload(number, eve)
        pull = await world.pull(number)
        assert (pull.author, tier_of(pull, world.path)) == (eve, Tier.FORK)
        world.upload(number, ann)
        assert tier_of(await world.pull(number), world.path) is Tier.MEMBER

    @pytest.mark.parametrize("kind", ["TRIVIAL_REBASE", "NO_CODE_CHANGE", "NO_CHANGE", "MERGE_FIRST_PARENT_UPDATE"])
    async def test_who_rebases_a_strangers_patch_set_vouches_for_nothing(self, world: GerritWorld, kind: str) -> None:
        ann, eve = world.user("ann", Permission.WRITE), world.user("eve")
        number = world.open(Spec(author=eve))
        for _ in range(2):
            world.upload(number, ann, kind)
            assert tier_of(await world.pull(number), world.path) is Tier.FORK
        world.upload(number, ann)
        world.upload(number, ann, kind)
        assert tier_of(await world.pull(number), world.path) is Tier.MEMBER

    async def test_who_left_the_group_is_a_stranger_soon(self, world: GerritWorld) -> None:
        number = world.open(Spec(author=world.user("ann", Permission.WRITE)))
        assert (await world.pull(number)).author_permission is Permission.WRITE
        world.user("ann")
        asked = len([one for one in world.state.asked if "/groups" in one])
        assert (await world.pull(number)).author_permission is Permission.WRITE
        assert len([one for one in world.state.asked if "/groups" in one]) == asked
        world.clock.ahead = REMEMBERED_S + 1
        assert (await world.pull(number)).author_permission is Permission.READ

    async def test_a_patch_set_is_fetched_from_its_ref(self, world: GerritWorld) -> None:
        number = world.open(Spec(author=world.user("ann")))
        world.push(number)
        pull = await world.pull(number)
        assert (number, pull.fetch_ref) == (1234, "refs/changes/34/1234/2")
        assert pull.head_ref == "1234/2"
        assert pull.url.endswith("/c/tools/mill/+/1234")

    async def test_a_private_change_is_not_there(self, world: GerritWorld) -> None:
        number = world.open(Spec(author=world.user("ann", Permission.WRITE)))
        world.state.changes[number].private = True
        assert await world.forge.pull_request(world.path, number) is None
        assert list(await world.forge.pull_requests(world.path)) == []

    async def test_all_pages_of_changes_are_read(self, world: GerritWorld) -> None:
        ann = world.user("ann")
        numbers = [world.open(Spec(author=ann)) for _ in range(230)]
        assert [pull.number for pull in await world.forge.pull_requests(world.path)] == numbers[::-1]
        assert len([one for one in world.state.asked if "/changes/?" in one]) == 5

    async def test_a_public_repository_is_told_from_a_private_one(self, world: GerritWorld) -> None:
        world.state.public = True
        (repository,) = await world.forge.repositories()
        assert not repository.private
        assert repository == await world.forge.repository(world.path)
        assert repository.clone_url.endswith("/a/tools/mill")

    @pytest.mark.parametrize(
        "shown",
        [
            (401, {}, b"Unauthorized"),
            (403, {}, b"Forbidden"),
            (302, {"location": "https://login.example.org/"}, b""),
            (200, {}, b"<html>Sign in</html>"),
        ],
        ids=["unauthorised", "forbidden", "login elsewhere", "login page"],
    )
    async def test_where_one_has_to_sign_in_everything_is_private(
        self, world: GerritWorld, shown: tuple[int, dict[str, str], bytes]
    ) -> None:
        world.state.public = True
        world.state.anonymous = shown
        (repository,) = await world.forge.repositories()
        assert repository.private
        assert repository == await world.forge.repository(world.path)

    async def test_every_request_with_our_name_goes_below_a(self, world: GerritWorld) -> None:
        number = world.open(Spec(author=world.user("ann")))
        await world.forge.post(posting(world, number, CheckState.GOOD))
        assert all(" /a/" in one for one in world.state.asked)
        assert f"/a/changes/tools%2Fmill~{number}/revisions/{world.head(number)}/review" in world.state.asked[-1]

    @pytest.mark.parametrize(
        ("state", "notified", "attention"),
        [(CheckState.GOOD, "NONE", False), (CheckState.FAILED, "OWNER", True), (CheckState.TROUBLE, "NONE", False)],
    )
    async def test_only_a_failure_calls_for_its_owner(
        self, world: GerritWorld, state: CheckState, notified: str, *, attention: bool
    ) -> None:
        number = world.open(Spec(author=world.user("ann")))
        await world.forge.post(posting(world, number, state))
        (review,) = world.state.reviews
        assert (review["notify"], review["tag"], review["drafts"]) == (notified, "autogenerated:nixmill", "KEEP")
        assert review["ignore_automatic_attention_set_rules"] is not attention

    async def test_a_run_is_told_when_it_begins_and_when_it_ends(self, world: GerritWorld) -> None:
        number = world.open(Spec(author=world.user("ann")))
        for step, state in enumerate((CheckState.WAITING, CheckState.RUNNING, CheckState.RUNNING, CheckState.FAILED)):
            for _ in range(2):
                await world.forge.post(posting(world, number, state, generation=112 + step, required=True))
        extra = "nixmill: checks.x86_64-linux.foo"
        await world.forge.post(posting(world, number, CheckState.FAILED, context=extra, required=False))
        began, ended = world.state.reviews
        assert (began["labels"], ended["labels"]) == ({LABEL: 0}, {LABEL: -1})
        assert "Nothing failed." not in began["message"]
        assert ended["message"].split("\n\n") == [
            "nixmill: 12 of 214 attributes changed",
            "https://ci.example.org/runs/7",
            "Nothing failed.",
            "(nixmill, run 7, generation 115, failed)",
        ]

    async def test_a_stale_status_never_follows_a_newer_one(self, world: GerritWorld) -> None:
        number = world.open(Spec(author=world.user("ann")))
        await world.forge.post(posting(world, number, CheckState.GOOD, run=8, generation=143))
        await world.forge.post(posting(world, number, CheckState.FAILED))
        assert world.state.changes[number].patch_sets[-1].votes == {LABEL: 1}

    async def test_an_old_patch_set_gets_its_own_vote(self, world: GerritWorld) -> None:
        number = world.open(Spec(author=world.user("ann")))
        old = posting(world, number, CheckState.FAILED)
        world.push(number)
        assert await world.forge.post(old) == f"{number}~{old.commit}"
        await world.forge.post(posting(world, number, CheckState.GOOD, generation=114))
        assert [one.votes for one in world.state.changes[number].patch_sets] == [{LABEL: -1}, {LABEL: 1}]

    async def test_nobody_else_can_say_it_for_us(self, world: GerritWorld) -> None:
        eve = world.user("eve")
        number = world.open(Spec(author=eve))
        wanted = posting(world, number, CheckState.FAILED)
        forged = f"\n\n({wanted.context}, run 7, generation 999, failed)"
        world.state.say(world.state.changes[number], int(eve.id), forged, tag=TAG)
        await world.forge.post(wanted)
        assert world.state.changes[number].patch_sets[-1].votes == {LABEL: -1}

    async def test_a_closed_change_takes_the_message_without_a_vote(self, world: GerritWorld) -> None:
        number = world.open(Spec(author=world.user("ann")))
        world.close(number, merged=True)
        await world.forge.post(posting(world, number, CheckState.GOOD))
        (review,) = world.state.reviews
        assert review["labels"] == {}

    async def test_a_commit_that_is_no_patch_set_is_refused(self, world: GerritWorld) -> None:
        number = world.open(Spec(author=world.user("ann")))
        with pytest.raises(DoorError, match="no patch set") as caught:
            await world.forge.post(posting(world, number, CheckState.GOOD, commit="0badc0de" * 5))
        assert not caught.value.retryable

    async def test_a_status_of_a_branch_is_said_nowhere(self, world: GerritWorld) -> None:
        number = world.open(Spec(author=world.user("ann")))
        await world.forge.post(posting(world, number, CheckState.GOOD, pull_request=None))
        assert world.state.asked == []

    async def test_what_is_written_in_the_reply_dialogue_is_found(self, world: GerritWorld) -> None:
        """Newer versions keep the text as a comment on the patch set; the event has both in one."""
        ann = world.user("ann")
        number = world.open(Spec(author=ann))
        change = world.state.changes[number]
        world.state.say(change, int(ann.id), " Code-Review+1\n\n(1 comment)")
        comment = {"id": "7a", "author": world.state.account(int(ann.id)), "updated": change.messages[-1]["date"]}
        change.comments.append({**comment, "message": "/nixmill retry"})
        told = event("comment-added") | {
            "change": {"project": world.path, "number": number},
            "comment": "Patch Set 1: Code-Review+1\n\n(1 comment)\n\n/nixmill retry",
        }
        body = json.dumps(told).encode()
        (hint,) = world.forge.event(world.sign(body), body).hints
        found = await world.forge.comment(world.path, number, hint.comment)
        assert found is not None and (found.id, found.author, found.text) == ("7a", ann, "/nixmill retry")

    @pytest.mark.parametrize("tag", ["", "autogenerated:eve"])
    async def test_nobody_can_repeat_what_somebody_else_commanded(self, world: GerritWorld, tag: str) -> None:
        """An event names a comment by its text: the newest with that text is meant, whoever wrote it and how."""
        ann, eve = world.user("ann", Permission.WRITE), world.user("eve")
        number = world.open(Spec(author=eve))
        change = world.state.changes[number]
        world.write_comment(number, ann, "/nixmill approve")
        world.push(number)
        named = world.state.say(change, int(eve.id), "\n\n/nixmill approve", tag=tag)
        digest = comment_name("/nixmill approve")
        found = await world.forge.comment(world.path, number, digest)
        assert found is None if tag else found is not None and (found.author, found.id) == (eve, named)
        change.messages[-1]["date"] = change.messages[0]["date"]
        assert await world.forge.comment(world.path, number, digest) is None

    async def test_a_comment_says_which_patch_set_it_was_written_on(self, world: GerritWorld) -> None:
        ann = world.user("ann", Permission.WRITE)
        number = world.open(Spec(author=ann))
        commit = world.head(number)
        named = world.write_comment(number, ann, "/nixmill approve")
        world.push(number)
        found = await world.forge.comment(world.path, number, named)
        assert found is not None and found.commit == commit

    async def test_what_a_program_wrote_is_no_comment(self, world: GerritWorld) -> None:
        number = world.open(Spec(author=world.user("ann")))
        named = world.state.say(world.state.changes[number], OWN_ID, "\n\n/nixmill retry", tag=TAG)
        assert await world.forge.comment(world.path, number, named) is None


FLAGS = (
    "--change", "tools%2Fmill~1234", "--project", "tools/mill", "--branch", "main", "--topic", "--help",
    "--change-url", "https://review.example.org/c/tools/mill/+/1234", "--patchset", "1",
)  # fmt: skip
STREAM = """\
#!/bin/sh
test "$SSH_ORIGINAL_COMMAND" = "gerrit stream-events" || exit 9
echo x >>{directory}/connections
cat {directory}/events
test "$(wc -l <{directory}/connections)" -lt 2 || exec sleep 60
"""


async def test_the_stream_is_listened_to_and_opened_again_when_it_ends(tmp_path: Path) -> None:
    """Against a real ssh server whose only command prints events."""
    names = ("patchset-created", "vote-deleted", "change-merged")
    lines = [json.dumps(event(name)) for name in names]
    (tmp_path / "events").write_text("\n".join(["nonsense", lines[0], "x" * (LINE_MAX + 5), *lines[1:], ""]))
    script = tmp_path / "stream"
    script.write_text(STREAM.format(directory=tmp_path))
    script.chmod(0o755)
    with ssh_server(tmp_path / "ssh", free_port()) as server:
        key = Path(shutil.copy(server.key, tmp_path / "key"))
        public = server.key.with_suffix(".pub")
        public.write_text(f'command="{script}",restrict {public.read_text()}')
        address = stream_address(f"127.0.0.1:{server.port}", getpass.getuser(), key, tmp_path / "known_hosts")
        found = []
        async with asyncio.timeout(30), contextlib.aclosing(follow(address, Clock())) as hints:
            async for hint in hints:
                found.append((hint.kind, hint.pull_request or hint.ref))
                if len(found) == 6:
                    break
    once = [(HintKind.PULL_REQUEST, 1234), (HintKind.PULL_REQUEST, 1234), (HintKind.PUSH, "refs/heads/main")]
    assert found == once * 2
    assert (tmp_path / "connections").read_text() == "x\nx\n"


async def test_a_stream_that_cannot_be_reached_is_tried_less_and_less(tmp_path: Path) -> None:
    clock = Clock()
    hints = follow(stream_address(f"127.0.0.1:{free_port()}", "nixmill", None, tmp_path / "known_hosts"), clock)
    listening = asyncio.ensure_future(anext(hints))
    async with asyncio.timeout(30):
        await clock.tired.wait()
    listening.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await listening
    assert clock.slept[:6] == [2.0, 5.0, 15.0, 60.0, 60.0, 60.0]


async def test_what_the_hook_command_posts_is_understood(tmp_path: Path) -> None:
    """The real program, as Gerrit's script starts it."""
    world = GerritWorld("http://127.0.0.1:9", GerritState(), tmp_path)
    async with receiving() as there:
        status, said = await hooked(tmp_path, there.address, "patchset-created", *FLAGS)
        assert (status, said) == (0, "")
        (request,) = there.requests
    assert (request.method, request.path) == ("POST", "/hook/forge/review")
    (hint,) = world.forge.event(request.headers, request.body).hints
    assert (hint.kind, hint.repository, hint.pull_request) == (HintKind.PULL_REQUEST, "tools/mill", 1234)


async def test_an_event_that_is_lost_says_who_finds_it(tmp_path: Path) -> None:
    status, said = await hooked(tmp_path, f"http://127.0.0.1:{free_port()}", "patchset-created", *FLAGS)
    assert status == 5
    assert "The server finds out by itself" in said


async def hooked(directory: Path, server: str, *words: str) -> tuple[int, str]:
    """Run the hook command; return exit code and complaint."""
    files = {
        "hook.toml": f'server = "{server}"\nforge = "review"\nsecret-file = "{directory}/secret"\n',
        "secret": "new\n",
    }
    for name, text in files.items():
        (directory / name).touch(mode=0o600)
        (directory / name).write_text(text)
    name, *flags = words
    arguments = ["-m", "nixmill", "gerrit", "hook", name, "--settings", str(directory / "hook.toml"), "--", *flags]
    process = await asyncio.create_subprocess_exec(sys.executable, *arguments, stderr=asyncio.subprocess.PIPE)
    _, complaint = await process.communicate()
    return process.returncode or 0, complaint.decode()
