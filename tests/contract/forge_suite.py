"""What every forge's edge promises, whatever the forge: the fake in memory and each real edge are held to this.

A file of tests plugs a forge in with a subclass `class TestX(ForgeSuite)` and a fixture `world` that yields its
`ForgeWorld`.
"""

from typing import Final

import msgspec
import pytest

from nixmill.core.posting import Button, CheckState, Reply
from nixmill.core.pull_request import PullState
from nixmill.core.trust import Permission, Tier, tier_of_pull_request
from nixmill.doors import DoorError
from tests.contract.forge_steps import needs, posting
from tests.contract.forge_suite_entrance import EntranceSuite, FaultSuite
from tests.contract.forge_world import (
    Colour,
    Feature,
    ForgeWorld,
    Spec,
    Where,
)

__all__ = ["ForgeSuite", "posting"]

ABSENT: Final = 987_654
HOSTILE_PATHS: Final = (
    "", "/", "..", "../..", "octo/..", "./hello", "octo//hello", "octo/hello/../../admin", "octo/he llo",
    "octo/hello?x=1", "octo/hello#x", "octo%2Fhello/x", "octo/%2e%2e", "octo/hello\n", "octo/h\0", "@evil.example/x",
    "https://evil.example/x", "octo/" + "x" * 5000, "óctó/ħello",
)  # fmt: skip
TITLES: Final = {
    "markup": "<script>alert(1)</script> [x](javascript:1) @everyone",
    "escapes": "\x1b[31mred\x1b]0;title\x07",
    "right to left": "abc\u202egnp.exe",
    "long": "x" * 5000,
    "quotes": """'"`$(id)`;--""",
}


class TruthSuite:
    """`Forge`."""

    async def test_repositories_that_were_given_to_us_are_listed(self, world: ForgeWorld) -> None:
        (repository,) = await world.forge.repositories()
        assert (repository.path, repository.default_branch, repository.private) == (world.path, "main", True)
        assert repository == await world.forge.repository(world.path)

    async def test_what_is_not_there_is_none(self, world: ForgeWorld) -> None:
        assert await world.forge.repository("octo/nothing") is None
        assert await world.forge.pull_request(world.path, ABSENT) is None
        assert list(await world.forge.pull_requests("octo/nothing")) == []
        assert await world.forge.comment(world.path, world.open(Spec(author=world.user("ann"))), str(ABSENT)) is None

    @pytest.mark.parametrize("path", HOSTILE_PATHS, ids=range(len(HOSTILE_PATHS)))
    async def test_a_path_from_a_stranger_leads_nowhere(self, world: ForgeWorld, path: str) -> None:
        try:
            assert await world.forge.repository(path) is None
            assert await world.forge.pull_request(path, 1) is None
        except DoorError as error:
            assert not error.retryable  # noqa: PT017 - either way is fine

    async def test_a_pull_request_of_the_same_repository(self, world: ForgeWorld) -> None:
        ann = world.user("ann", Permission.WRITE)
        number = world.open(Spec(author=ann))
        repository = await world.forge.repository(world.path)
        pull = await world.forge.pull_request(world.path, number)
        assert repository is not None and pull is not None
        assert (pull.number, pull.author, pull.title) == (number, ann, "Mend the roof")
        assert (pull.head_commit, pull.base_ref, pull.state) == (world.head(number), "refs/heads/main", PullState.OPEN)
        assert pull.fetch_ref.startswith("refs/")
        assert pull.url.startswith("http") and pull.updated_at > 0
        if Feature.FORKS in world.features:
            assert pull.head_repository == repository.id

    @pytest.mark.parametrize("permission", list(Permission))
    async def test_the_tier_of_a_fork_of_the_author_follows_from_the_permission(
        self, world: ForgeWorld, permission: Permission
    ) -> None:
        needs(world, Feature.FORKS)
        assert await self.tier(world, Where.OWN_FORK, permission) is (
            Tier.MEMBER if permission in {Permission.WRITE, Permission.ADMIN} else Tier.FORK
        )

    @pytest.mark.parametrize("where", [Where.OTHER_FORK, Where.DELETED])
    async def test_a_fork_that_is_not_the_authors_is_never_trusted(self, world: ForgeWorld, where: Where) -> None:
        needs(world, Feature.FORKS)
        assert await self.tier(world, where, Permission.ADMIN) is Tier.FORK

    async def tier(self, world: ForgeWorld, where: Where, permission: Permission) -> Tier:
        number = world.open(Spec(author=world.user("ann", permission), where=where, head_ref="main"))
        pull = await world.forge.pull_request(world.path, number)
        repository = await world.forge.repository(world.path)
        assert pull is not None and repository is not None
        assert [pull] == list(await world.forge.pull_requests(world.path))
        assert (pull.head_repository == "") == (where is Where.DELETED)
        return tier_of_pull_request(
            same_repository=pull.head_repository == repository.id,
            head_owner_is_author=bool(pull.head_owner) and pull.head_owner == pull.author.id,
            author=pull.author_permission,
        )

    async def test_drafts_are_told(self, world: ForgeWorld) -> None:
        needs(world, Feature.DRAFTS)
        ann = world.user("ann")
        for draft in (False, True):
            pull = await world.forge.pull_request(world.path, world.open(Spec(author=ann, draft=draft)))
            assert pull is not None and pull.draft is draft

    async def test_labels_are_told(self, world: ForgeWorld) -> None:
        needs(world, Feature.LABELS)
        number = world.open(Spec(author=world.user("ann"), labels=("skip-ci", "bug")))
        pull = await world.forge.pull_request(world.path, number)
        assert pull is not None and sorted(pull.labels) == ["bug", "skip-ci"]

    @pytest.mark.parametrize("merged", [False, True])
    async def test_what_was_closed_is_told_and_no_longer_listed(self, world: ForgeWorld, *, merged: bool) -> None:
        number = world.open(Spec(author=world.user("ann")))
        world.close(number, merged=merged)
        pull = await world.forge.pull_request(world.path, number)
        assert pull is not None and pull.state is (PullState.MERGED if merged else PullState.CLOSED)
        assert list(await world.forge.pull_requests(world.path)) == []

    async def test_the_newest_pull_request_is_first(self, world: ForgeWorld) -> None:
        ann = world.user("ann")
        numbers = [world.open(Spec(author=ann, head_ref=f"topic-{n}")) for n in range(3)]
        listed = await world.forge.pull_requests(world.path)
        assert [pull.number for pull in listed] == numbers[::-1]

    async def test_a_push_is_seen_at_once(self, world: ForgeWorld) -> None:
        number = world.open(Spec(author=world.user("ann")))
        before = await world.forge.pull_request(world.path, number)
        commit = world.push(number)
        after = await world.forge.pull_request(world.path, number)
        assert before is not None and after is not None
        assert after.head_commit == commit != before.head_commit
        assert [pull.head_commit for pull in await world.forge.pull_requests(world.path)] == [commit]
        assert after.updated_at >= before.updated_at

    @pytest.mark.parametrize("title", TITLES.values(), ids=TITLES)
    async def test_a_title_is_a_strangers_text(self, world: ForgeWorld, title: str) -> None:
        number = world.open(Spec(author=world.user("ann"), title=title))
        pull = await world.forge.pull_request(world.path, number)
        assert pull is not None and len(pull.title) <= 300
        assert pull.title == title[:300] or not title.isprintable()

    @pytest.mark.parametrize("permission", list(Permission))
    async def test_permissions_are_told(self, world: ForgeWorld, permission: Permission) -> None:
        bob = world.user("bob", permission)
        told = await world.forge.permission(world.path, bob)
        # Everybody who sees a public repository may read it, and Gerrit knows no more than writers and others.
        assert (
            told is permission
            or {told, permission} <= {Permission.NONE, Permission.READ}
            or ({told, permission} == {Permission.WRITE, Permission.ADMIN} and Feature.FORKS not in world.features)
        )

    async def test_nobody_may_do_nothing(self, world: ForgeWorld) -> None:
        nobody = msgspec.structs.replace(world.user("bob", Permission.ADMIN), id=str(ABSENT), login="nobody")
        assert await world.forge.permission(world.path, nobody) is Permission.NONE

    async def test_somebody_new_with_an_old_name_is_nobody(self, world: ForgeWorld) -> None:
        impostor = msgspec.structs.replace(world.user("bob", Permission.ADMIN), id=str(ABSENT))
        assert await world.forge.permission(world.path, impostor) is Permission.NONE

    async def test_a_comment_is_read_with_its_author(self, world: ForgeWorld) -> None:
        ann = world.user("ann")
        number = world.open(Spec(author=ann))
        comment = await world.forge.comment(
            world.path, number, world.write_comment(number, ann, "@nixmill retry\nplease")
        )
        assert comment is not None
        assert (comment.author, comment.text, comment.edited) == (ann, "@nixmill retry\nplease", False)

    async def test_an_edited_comment_is_told_to_be(self, world: ForgeWorld) -> None:
        needs(world, Feature.EDITED_COMMENTS)
        ann = world.user("ann")
        number = world.open(Spec(author=ann))
        named = world.write_comment(number, ann, "harmless")
        world.edit_comment(number, named, "@nixmill approve")
        comment = await world.forge.comment(world.path, number, named)
        assert comment is not None and comment.edited

    async def test_a_comment_of_another_pull_request_is_not_there(self, world: ForgeWorld) -> None:
        ann = world.user("ann")
        one, other = world.open(Spec(author=ann)), world.open(Spec(author=ann, head_ref="other"))
        assert await world.forge.comment(world.path, other, world.write_comment(one, ann, "@nixmill approve")) is None

    async def test_protected_branches_are_told(self, world: ForgeWorld) -> None:
        needs(world, Feature.PROTECTION)
        assert await world.forge.protects(world.path, "main")
        assert not await world.forge.protects(world.path, "no/such/branch")

    async def test_git_is_given_a_credential(self, world: ForgeWorld) -> None:
        credential = await world.forge.git_credential(world.path)
        assert credential and credential.isprintable() and not credential.isspace()


class VoiceSuite:
    """`ForgeVoice`."""

    async def test_a_status_is_shown(self, world: ForgeWorld) -> None:
        number = world.open(Spec(author=world.user("ann")))
        wanted = posting(world, number, CheckState.GOOD)
        await world.forge.post(wanted)
        (shown,) = world.shown(wanted.commit)
        assert (shown.context, shown.colour, shown.title) == ("nixmill", Colour.GREEN, wanted.title)
        assert shown.url in {"", wanted.url}

    @pytest.mark.parametrize("state", list(CheckState))
    async def test_only_good_is_green(self, world: ForgeWorld, state: CheckState) -> None:
        number = world.open(Spec(author=world.user("ann")))
        await world.forge.post(posting(world, number, state))
        (shown,) = world.shown(world.head(number))
        assert (shown.colour is Colour.GREEN) == (state is CheckState.GOOD)
        if state in {CheckState.FAILED, CheckState.TROUBLE, CheckState.CANCELLED}:
            assert shown.colour is Colour.RED
        if state in {CheckState.WAITING, CheckState.RUNNING}:
            assert shown.colour is Colour.PENDING

    async def test_said_twice_after_a_crash_is_said_once(self, world: ForgeWorld) -> None:
        number = world.open(Spec(author=world.user("ann")))
        wanted = posting(world, number)
        first = await world.forge.post(wanted)
        assert await world.forge.post(wanted) == first or Feature.STATUS_IDS not in world.features
        assert len(world.shown(wanted.commit)) == 1

    async def test_a_status_takes_the_place_of_the_last_one(self, world: ForgeWorld) -> None:
        number = world.open(Spec(author=world.user("ann")))
        named = ""
        for state in (CheckState.WAITING, CheckState.RUNNING, CheckState.FAILED, CheckState.RUNNING, CheckState.GOOD):
            named = await world.forge.post(posting(world, number, state, external_id=named))
            assert len(world.shown(world.head(number))) == 1
        (shown,) = world.shown(world.head(number))
        assert shown.colour is Colour.GREEN

    async def test_one_that_was_deleted_is_put_up_again(self, world: ForgeWorld) -> None:
        needs(world, Feature.STATUS_IDS)
        number = world.open(Spec(author=world.user("ann")))
        wanted = posting(world, number)
        named = await world.forge.post(wanted)
        world.forget_status(wanted.commit, "nixmill")
        again = await world.forge.post(posting(world, number, CheckState.GOOD, external_id=named))
        assert again != named
        assert [shown.colour for shown in world.shown(wanted.commit)] == [Colour.GREEN]

    async def test_two_contexts_are_two_statuses(self, world: ForgeWorld) -> None:
        number = world.open(Spec(author=world.user("ann")))
        await world.forge.post(posting(world, number, CheckState.FAILED))
        extra = "nixmill: checks.x86_64-linux." + "ü" * 400
        await world.forge.post(posting(world, number, CheckState.FAILED, context=extra, required=False))
        assert len(world.shown(world.head(number))) in {1, 2}  # Gerrit has one vote

    async def test_long_and_hostile_texts_are_taken(self, world: ForgeWorld) -> None:
        number = world.open(Spec(author=world.user("ann")))
        wanted = posting(
            world, number, CheckState.FAILED, title="<b>\u202e" + "ü" * 130, summary="ü\n" * 20_000,
            buttons=tuple(Button), ended_at=1_700_000_060.0,
        )  # fmt: skip
        await world.forge.post(wanted)
        assert len(world.shown(wanted.commit)) == 1

    async def test_a_commit_that_is_gone_is_never_tried_again(self, world: ForgeWorld) -> None:
        number = world.open(Spec(author=world.user("ann")))
        with pytest.raises(DoorError) as caught:
            await world.forge.post(posting(world, number, commit="0badc0de" * 5, pull_request=ABSENT))
        assert not caught.value.retryable

    async def test_an_answer_is_said_once(self, world: ForgeWorld) -> None:
        ann = world.user("ann")
        number = world.open(Spec(author=ann))
        comment = world.write_comment(number, ann, "@nixmill dance")
        reply = Reply(
            forge="forge", repository=world.path, pull_request=number, comment=comment,
            text="There is no `dance`. <!-- x -->", understood=False,
        )  # fmt: skip
        for _ in range(2):
            await world.forge.reply(reply, "key-1")
        (said,) = world.said(number)
        assert "There is no `dance`." in said
        assert world.reactions(number, comment) == (1 if Feature.REACTIONS in world.features else 0)
        await world.forge.reply(reply, "key-2")
        assert len(world.said(number)) == 2

    async def test_a_reaction_can_be_all_there_is(self, world: ForgeWorld) -> None:
        needs(world, Feature.REACTIONS)
        ann = world.user("ann")
        number = world.open(Spec(author=ann))
        comment = world.write_comment(number, ann, "@nixmill retry")
        reply = Reply(forge="forge", repository=world.path, pull_request=number, comment=comment)
        for _ in range(2):
            await world.forge.reply(reply, "key-1")
        assert (world.reactions(number, comment), world.said(number)) == (1, [])


class ForgeSuite(TruthSuite, VoiceSuite, FaultSuite, EntranceSuite):
    """All of it."""
