"""What only GitHub does: Apps and their tokens, checks and their buttons, renamed repositories, conditional requests.

The other side is the small GitHub of `tests.support`, over HTTP.
"""

import asyncio
import logging
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from nixmill.core.forge import ForgeryError
from nixmill.core.posting import Button, CheckState, Reply
from nixmill.core.trust import Permission
from nixmill.doors import DoorError
from nixmill.doors.server import RetryLaterError
from nixmill.edge.forge.github import GitHubForge
from nixmill.edge.system_clock import SystemClock
from tests.contract.forge_suite import posting
from tests.contract.forge_world import Colour, Happening, Spec, Trouble, Where
from tests.support.github_routes import add_comment
from tests.support.github_server import APP, Asked, GitHub, serving
from tests.support.github_server import Reply as Answer
from tests.support.github_world import GitHubWorld, add_repository, settings_of


class Ahead(SystemClock):
    """A clock that is ahead together with the small GitHub's."""

    def __init__(self, hub: GitHub) -> None:
        self._hub = hub

    def now(self) -> float:  # type: ignore[override]
        return self._hub.now()


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[GitHubWorld]:
    with serving(GitHub()) as hub:
        world = GitHubWorld(hub, tmp_path)
        world.forge = GitHubForge(*settings_of(hub, tmp_path), Ahead(hub))
        yield world
        await world.forge.aclose()
        assert hub.faults == []


def asked(world: GitHubWorld, ending: str, method: str = "GET") -> list[Asked]:
    """Return the requests whose path ends so."""
    return [one for one in world.hub.requests if one.path.endswith(ending) and one.method == method]


def opened(world: GitHubWorld, where: Where = Where.SAME, author: str = "ann") -> int:
    """Open a pull request by somebody who may write."""
    return world.open(Spec(author=world.user(author, Permission.WRITE), where=where))


class TestTokens:
    async def test_one_is_used_until_shortly_before_its_end(self, world: GitHubWorld) -> None:
        for _ in range(3):
            await world.forge.repository(world.path)
        assert len(world.hub.tokens) == 1
        world.hub.ahead = 3200.0
        assert len(await world.forge.repositories()) == 1
        assert len(world.hub.tokens) == 1
        world.hub.ahead = 3400.0
        assert len(await world.forge.repositories()) == 1
        assert len(world.hub.tokens) == 2

    async def test_one_that_was_taken_back_is_replaced_without_a_word(self, world: GitHubWorld) -> None:
        number = opened(world)
        await world.forge.repository(world.path)
        for doing in (
            lambda: world.forge.pull_request(world.path, number),
            lambda: world.forge.pull_requests(world.path),
            world.forge.repositories,
        ):
            world.hub.tokens.clear()
            assert await doing()

    async def test_no_more_is_asked_for_than_is_used(self, world: GitHubWorld) -> None:
        world.hub.granted |= {"administration": "write", "contents": "write", "members": "read"}
        await world.forge.repository(world.path)
        (token,) = world.hub.tokens.values()
        assert token.permissions == {
            "checks": "write", "contents": "read", "metadata": "read", "pull_requests": "write", "statuses": "write",
        }  # fmt: skip

    async def test_what_git_gets_can_fetch_this_repository_and_nothing_else(self, world: GitHubWorld) -> None:
        user, _, name = (await world.forge.git_credential(world.path)).partition(":")
        token = world.hub.tokens[name]
        assert (user, token.only) == ("x-access-token", ("hello",))
        assert token.permissions == {"contents": "read", "metadata": "read"}

    async def test_many_at_once_share_one(self, world: GitHubWorld) -> None:
        await asyncio.gather(*(world.forge.repository(world.path) for _ in range(10)))
        assert len(world.hub.tokens) == 1

    async def test_the_key_is_read_anew_and_nonsense_is_told(self, world: GitHubWorld, tmp_path: Path) -> None:
        key = (tmp_path / "key").read_text()
        (tmp_path / "key").write_text("very secret nonsense")
        with pytest.raises(DoorError, match="no RSA key in PEM") as caught:
            await world.forge.repositories()
        assert "very secret" not in str(caught.value) and not caught.value.retryable
        (tmp_path / "key").write_text(key)
        assert len(await world.forge.repositories()) == 1


class TestInstallations:
    async def test_one_that_is_suspended_shows_nothing(self, world: GitHubWorld) -> None:
        world.hub.suspended = True
        assert await world.forge.repositories() == []
        assert await world.forge.repository(world.path) is None
        assert await world.forge.git_credential(world.path) == ""

    async def test_where_the_app_was_taken_off_nothing_is_there(self, world: GitHubWorld) -> None:
        number = opened(world)
        await world.forge.repository(world.path)
        world.repository.installed = False
        assert await world.forge.repositories() == []
        assert await world.forge.repository(world.path) is None
        with pytest.raises(DoorError) as caught:
            await world.forge.post(posting(world, number))
        assert not caught.value.retryable

    async def test_where_it_was_taken_off_a_moment_ago_the_new_one_is_looked_for(self, world: GitHubWorld) -> None:
        await world.forge.repository(world.path)
        world.hub.ahead = 3200.0
        await world.forge.repository(world.path)
        world.hub.ahead = 3400.0  # the installation is still believed in, a new token is due
        world.hub.uninstalled = True
        assert await world.forge.repository(world.path) is None
        world.hub.uninstalled = False
        assert await world.forge.repository(world.path) is not None
        assert len(asked(world, "/installation")) == 3

    async def test_a_renamed_repository_is_found_by_its_old_name(self, world: GitHubWorld) -> None:
        number = opened(world)
        wanted = posting(world, number)
        add_repository(world.hub, "octo/new")
        moved = world.hub.repositories.pop(world.path)
        moved.facts |= {"full_name": "octo/new", "name": "new"}
        world.hub.repositories["octo/new"] = moved
        world.hub.renamed[world.path] = "octo/new"
        found = await world.forge.repository(world.path)
        assert found is not None and found.path == "octo/new"
        pull = await world.forge.pull_request(world.path, number)
        assert pull is not None
        await world.forge.post(wanted)
        assert len(world.shown(wanted.commit)) == 1

    async def test_long_lists_are_read_to_their_end(self, world: GitHubWorld) -> None:
        numbers = [opened(world) for _ in range(205)]
        assert [pull.number for pull in await world.forge.pull_requests(world.path)] == numbers[::-1]
        assert [one.query.get("page", "1") for one in asked(world, "/pulls")] == ["1", "2", "3"]


class TestBudget:
    async def test_lists_that_did_not_change_cost_nothing(self, world: GitHubWorld) -> None:
        opened(world)
        first = await world.forge.pull_requests(world.path)
        assert world.hub.unchanged == 0
        assert await world.forge.pull_requests(world.path) == first
        assert world.hub.unchanged == 1
        opened(world)
        assert len(await world.forge.pull_requests(world.path)) == 2

    async def test_permissions_are_looked_up_only_where_they_decide(self, world: GitHubWorld) -> None:
        for where in (Where.SAME, Where.OTHER_FORK, Where.DELETED):
            opened(world, where)
        await world.forge.pull_requests(world.path)
        assert asked(world, "/permission") == []
        opened(world, Where.OWN_FORK)
        opened(world, Where.OWN_FORK)
        opened(world, Where.OWN_FORK, "bob")
        for _ in range(3):
            await world.forge.pull_requests(world.path)
        assert sorted(one.path.split("/")[-2] for one in asked(world, "/permission")) == ["ann", "bob"]

    async def test_a_permission_is_not_believed_for_long(self, world: GitHubWorld) -> None:
        number = opened(world, Where.OWN_FORK)
        before = await world.forge.pull_request(world.path, number)
        world.user("ann", Permission.READ)
        world.hub.ahead = 301.0
        after = await world.forge.pull_request(world.path, number)
        assert before is not None and after is not None
        assert (before.author_permission, after.author_permission) == (Permission.WRITE, Permission.READ)

    async def test_a_secondary_limit_without_a_time_is_a_minute(self, world: GitHubWorld) -> None:
        message = {"message": "You have exceeded a secondary rate limit. Please wait a few minutes."}
        world.hub.always = lambda _: Answer(403, message)
        with pytest.raises(RetryLaterError) as caught:
            await world.forge.repositories()
        assert caught.value.after_s == 60


class TestChecks:
    async def test_another_run_makes_a_new_one_of_the_same_name(self, world: GitHubWorld) -> None:
        number = opened(world)
        first = await world.forge.post(posting(world, number, CheckState.FAILED))
        second = await world.forge.post(posting(world, number, CheckState.RUNNING, external_id=first, run=8))
        third = await world.forge.post(posting(world, number, CheckState.GOOD, external_id=second, run=8))
        assert first != second == third
        assert [run["conclusion"] for run in world.repository.checks] == ["failure", "success"]

    async def test_another_apps_check_of_the_same_name_is_left_alone(self, world: GitHubWorld) -> None:
        number = opened(world)
        await world.forge.post(posting(world, number, CheckState.RUNNING))
        world.repository.checks[0]["app"] = {"id": APP + 1}
        await world.forge.post(posting(world, number, CheckState.GOOD))
        assert [run["status"] for run in world.repository.checks] == ["in_progress", "completed"]

    async def test_what_a_check_says(self, world: GitHubWorld) -> None:
        number = opened(world)
        await world.forge.post(posting(world, number, CheckState.HELD, buttons=(Button.APPROVE, Button.CANCEL)))
        (run,) = world.repository.checks
        assert (run["external_id"], run["details_url"]) == ("7", "https://ci.example.org/runs/7")
        assert run["output"] == {"title": "12 of 214 attributes changed", "summary": "**Nothing** failed."}
        assert [one["identifier"] for one in run["actions"]] == ["approve"]

    async def test_without_the_permission_for_checks_there_are_statuses(self, world: GitHubWorld) -> None:
        del world.hub.granted["checks"]
        number = opened(world)
        for state in (CheckState.HELD, CheckState.GOOD):
            named = await world.forge.post(posting(world, number, state, title="x" * 200))
        (shown,) = world.shown(world.head(number))
        assert (shown.colour, shown.title, shown.id) == (Colour.GREEN, "x" * 140, named)
        assert len(asked(world, "/check-runs")) == 1
        world.hub.granted["checks"] = "write"
        world.hub.ahead = 3700.0
        await world.forge.post(posting(world, number, CheckState.GOOD, external_id=named))
        assert len(world.repository.checks) == 1

    async def test_without_either_permission_the_sentence_names_the_first(self, world: GitHubWorld) -> None:
        for name in ("checks", "statuses"):
            del world.hub.granted[name]
        with pytest.raises(DoorError, match="Checks: write"):
            await world.forge.post(posting(world, opened(world)))

    async def test_a_strangers_mark_does_not_stop_an_answer(self, world: GitHubWorld) -> None:
        number = opened(world)
        add_comment(world.hub, world.repository, number, "<!-- nixmill:key-1 -->", (5, "mallory"))
        reply = Reply(forge="forge", repository=world.path, pull_request=number, text="Done.")
        await world.forge.reply(reply, "key-1")
        assert world.said(number) == ["Done.\n\n<!-- nixmill:key-1 -->"]

    async def test_a_comment_that_was_deleted_is_answered_all_the_same(self, world: GitHubWorld) -> None:
        number = opened(world)
        reply = Reply(forge="forge", repository=world.path, pull_request=number, comment="404", text="Done.")
        await world.forge.reply(reply, "key-1")
        assert len(world.said(number)) == 1


class TestHook:
    URL = "https://ci.example.org/hook/forge/forge"

    async def ensured(self, world: GitHubWorld) -> str:
        repository = await world.forge.repository(world.path)
        assert repository is not None
        return await world.forge.ensure_hook(repository, self.URL)

    async def test_it_is_mended(self, world: GitHubWorld) -> None:
        told = await self.ensured(world)
        assert "led elsewhere, did not send JSON, had no secret; this was mended." in told
        assert world.hub.hook == {"url": self.URL, "content_type": "json", "insecure_ssl": "0", "secret": "new"}
        world.hub.ahead = 4000.0
        assert await self.ensured(world) == ""

    async def test_it_is_not_looked_at_for_every_repository(self, world: GitHubWorld) -> None:
        for _ in range(3):
            await self.ensured(world)
        assert len(asked(world, "/app/hook/config")) == 1

    async def test_it_is_left_alone_where_that_is_wanted(self, world: GitHubWorld, tmp_path: Path) -> None:
        world.forge = GitHubForge(*settings_of(world.hub, tmp_path, create_hooks=False), Ahead(world.hub))
        assert "mend it on the App's page" in await self.ensured(world)
        assert world.hub.hook["content_type"] == "form"

    async def test_without_a_secret_it_is_not_changed(self, world: GitHubWorld, tmp_path: Path) -> None:
        world.forge = GitHubForge(*settings_of(world.hub, tmp_path, webhook_secrets=()), Ahead(world.hub))
        assert "`webhook-secrets` first" in await self.ensured(world)
        assert world.hub.hook["content_type"] == "form"

    async def test_what_the_app_lacks_is_told(self, world: GitHubWorld) -> None:
        await self.ensured(world)
        world.hub.ahead = 4000.0
        world.hub.events.remove("merge_group")
        world.hub.granted["checks"] = "read"
        told = await self.ensured(world)
        assert "lacks the permission checks: write, the event merge_group" in told


class TestSecrets:
    async def test_one_that_is_missing_while_they_are_changed(self, world: GitHubWorld, tmp_path: Path) -> None:
        _, body = world.deliver(Happening.PUSH)
        (tmp_path / "new").unlink()
        assert world.forge.event(world.sign(body, "old"), body).hints
        with pytest.raises(ForgeryError):
            world.forge.event(world.sign(body, "new"), body)
        (tmp_path / "old").unlink()
        with pytest.raises(DoorError, match="'old'"):
            world.forge.event(world.sign(body, "old"), body)

    def test_without_any_secret_nothing_is_believed(self, world: GitHubWorld, tmp_path: Path) -> None:
        forge = GitHubForge(*settings_of(world.hub, tmp_path, webhook_secrets=()), Ahead(world.hub))
        _, body = world.deliver(Happening.PUSH)
        with pytest.raises(ForgeryError):
            forge.event(world.sign(body, ""), body)

    async def test_none_is_in_errors_or_logs(self, world: GitHubWorld, caplog: pytest.LogCaptureFixture) -> None:
        caplog.set_level(logging.DEBUG)
        number, told = opened(world), []
        await world.forge.repository(world.path)
        for trouble in Trouble:
            world.trouble(trouble)
            try:
                await world.forge.post(posting(world, number))
            except DoorError as error:
                told.append(f"{error!r} {error} {error.subject} {error.__cause__!r} {error.__context__!r}")
        assert len(told) == len(Trouble) - 1
        for secret in ("ghs_", "Bearer", "eyJ", "PRIVATE KEY"):
            assert secret not in caplog.text + "".join(told)
