"""What every forge's edge promises, whatever the forge: the fake in memory and each real edge are held to this.

A file of tests plugs a forge in with a subclass `class TestX(ForgeSuite)` and a fixture `world` that yields its
`ForgeWorld`.
"""

import time
from collections.abc import Mapping
from typing import Final

import msgspec
import pytest

from nixmill.core.forge import ForgeryError, Hint, HintKind, MalformedEventError
from nixmill.core.posting import Button, CheckState, Posting, Reply
from nixmill.core.pull_request import PullState
from nixmill.core.trust import Permission, Tier, tier_of_pull_request
from nixmill.doors import DoorError
from nixmill.doors.server import RetryLaterError
from tests.contract.forge_world import (
    MERGE_COMMIT,
    MERGE_REF,
    Colour,
    Feature,
    ForgeWorld,
    Happening,
    Spec,
    Trouble,
    Where,
)

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


def posting(world: ForgeWorld, number: int, state: CheckState = CheckState.RUNNING, **changes: object) -> Posting:
    """Return a status for the head of a pull request."""
    standard = Posting(
        forge="forge", project=1, repository=world.path, commit=world.head(number), context="nixmill", state=state,
        title="12 of 214 attributes changed", summary="**Nothing** failed.", url="https://ci.example.org/runs/7", run=7,
        generation=113, pull_request=number, started_at=1_700_000_000.0,
    )  # fmt: skip
    return msgspec.structs.replace(standard, **changes)


def needs(world: ForgeWorld, feature: Feature) -> None:
    """Skip a test on a forge that lacks something."""
    if feature not in world.features:
        pytest.skip(f"this forge has no such thing as {feature.name}")


async def patch_set(world: ForgeWorld, number: int) -> str:
    """Return where the head of a pull request is fetched from."""
    pull = await world.forge.pull_request(world.path, number)
    assert pull is not None
    return pull.fetch_ref


def hint_of(world: ForgeWorld, delivery: tuple[Mapping[str, str], bytes]) -> Hint:
    """Return the only hint of a delivery."""
    (hint,) = world.forge.event(*delivery).hints
    return hint


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
        wanted = posting(world, number, CheckState.GOOD, patch_set=await patch_set(world, number))
        await world.forge.post(wanted)
        (shown,) = world.shown(wanted.commit)
        assert (shown.context, shown.colour, shown.title) == ("nixmill", Colour.GREEN, wanted.title)
        assert shown.url in {"", wanted.url}

    @pytest.mark.parametrize("state", list(CheckState))
    async def test_only_good_is_green(self, world: ForgeWorld, state: CheckState) -> None:
        number = world.open(Spec(author=world.user("ann")))
        await world.forge.post(posting(world, number, state, patch_set=await patch_set(world, number)))
        (shown,) = world.shown(world.head(number))
        assert (shown.colour is Colour.GREEN) == (state is CheckState.GOOD)
        if state in {CheckState.FAILED, CheckState.TROUBLE, CheckState.CANCELLED}:
            assert shown.colour is Colour.RED
        if state in {CheckState.WAITING, CheckState.RUNNING}:
            assert shown.colour is Colour.PENDING

    async def test_said_twice_after_a_crash_is_said_once(self, world: ForgeWorld) -> None:
        number = world.open(Spec(author=world.user("ann")))
        wanted = posting(world, number, patch_set=await patch_set(world, number))
        first = await world.forge.post(wanted)
        assert await world.forge.post(wanted) == first or Feature.STATUS_IDS not in world.features
        assert len(world.shown(wanted.commit)) == 1

    async def test_a_status_takes_the_place_of_the_last_one(self, world: ForgeWorld) -> None:
        number = world.open(Spec(author=world.user("ann")))
        where = await patch_set(world, number)
        named = ""
        for state in (CheckState.WAITING, CheckState.RUNNING, CheckState.FAILED, CheckState.RUNNING, CheckState.GOOD):
            named = await world.forge.post(posting(world, number, state, patch_set=where, external_id=named))
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
        where = await patch_set(world, number)
        await world.forge.post(posting(world, number, CheckState.FAILED, patch_set=where))
        extra = "nixmill: checks.x86_64-linux." + "ü" * 400
        await world.forge.post(
            posting(world, number, CheckState.FAILED, context=extra, required=False, patch_set=where)
        )
        assert len(world.shown(world.head(number))) in {1, 2}  # Gerrit has one vote

    async def test_long_and_hostile_texts_are_taken(self, world: ForgeWorld) -> None:
        number = world.open(Spec(author=world.user("ann")))
        wanted = posting(
            world, number, CheckState.FAILED, title="<b>\u202e" + "ü" * 130, summary="ü\n" * 20_000,
            buttons=tuple(Button), patch_set=await patch_set(world, number), ended_at=1_700_000_060.0,
        )  # fmt: skip
        await world.forge.post(wanted)
        assert len(world.shown(wanted.commit)) == 1

    async def test_a_commit_that_is_gone_is_never_tried_again(self, world: ForgeWorld) -> None:
        number = world.open(Spec(author=world.user("ann")))
        with pytest.raises(DoorError) as caught:
            await world.forge.post(
                posting(world, number, commit="0badc0de" * 5, pull_request=ABSENT, patch_set="refs/changes/99/999/1")
            )
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


class FaultSuite:
    """What goes wrong."""

    async def all_of_them(self, world: ForgeWorld, trouble: Trouble) -> list[DoorError]:
        """Return what each method raises when the forge is in trouble."""
        ann = world.user("ann")
        number = world.open(Spec(author=ann))
        wanted = posting(world, number, patch_set=await patch_set(world, number))
        world.trouble(trouble)
        forge, raised = world.forge, []
        for doing in (
            forge.repositories(),
            forge.pull_requests(world.path),
            forge.pull_request(world.path, number),
            forge.permission(world.path, world.user("stranger")),
            forge.post(wanted),
        ):
            with pytest.raises(DoorError) as caught:
                await doing
            raised.append(caught.value)
        return raised

    async def test_a_limit_names_its_time(self, world: ForgeWorld) -> None:
        for error in await self.all_of_them(world, Trouble.LIMITED):
            assert isinstance(error, RetryLaterError)
            assert 1 <= error.after_s <= 40

    async def test_an_outage_passes(self, world: ForgeWorld) -> None:
        for error in await self.all_of_them(world, Trouble.OUTAGE):
            assert error.retryable
        world.trouble(Trouble.NONE)
        assert len(await world.forge.repositories()) == 1

    async def test_nonsense_is_an_outage(self, world: ForgeWorld) -> None:
        for error in await self.all_of_them(world, Trouble.NONSENSE):
            assert error.retryable

    async def test_a_revoked_credential_is_told_in_a_sentence(self, world: ForgeWorld) -> None:
        for error in await self.all_of_them(world, Trouble.REVOKED):
            assert not error.retryable
            assert str(error).endswith(".") and "401" in str(error)

    async def test_a_missing_permission_is_told_in_a_sentence(self, world: ForgeWorld) -> None:
        number = world.open(Spec(author=world.user("ann")))
        wanted = posting(world, number, patch_set=await patch_set(world, number))
        world.trouble(Trouble.NOT_ALLOWED)
        with pytest.raises(DoorError, match="permission") as caught:
            await world.forge.post(wanted)
        assert not caught.value.retryable and str(caught.value).endswith(".")


class EntranceSuite:
    """`ForgeEntrance`."""

    def test_a_push_is_a_hint(self, world: ForgeWorld) -> None:
        hint = hint_of(world, world.deliver(Happening.PUSH))
        assert (hint.kind, hint.repository, hint.ref) == (HintKind.PUSH, world.path, "refs/heads/main")
        gone = hint_of(world, world.deliver(Happening.DELETED_BRANCH))
        assert (gone.kind, gone.ref) == (HintKind.PUSH, "refs/heads/old")

    async def test_hints_name_the_repository_by_its_id(self, world: ForgeWorld) -> None:
        repository = await world.forge.repository(world.path)
        assert repository is not None
        assert hint_of(world, world.deliver(Happening.PUSH)).repository_id in {repository.id, ""}

    def test_a_pull_request_is_a_hint(self, world: ForgeWorld) -> None:
        number = world.open(Spec(author=world.user("ann")))
        hint = hint_of(world, world.deliver(Happening.PULL_REQUEST, number=number))
        assert (hint.kind, hint.repository, hint.pull_request) == (HintKind.PULL_REQUEST, world.path, number)

    async def test_a_comment_is_a_hint_that_leads_to_it(self, world: ForgeWorld) -> None:
        ann = world.user("ann")
        number = world.open(Spec(author=ann))
        comment = world.write_comment(number, ann, "@nixmill retry")
        hint = hint_of(world, world.deliver(Happening.COMMENT, number=number, comment=comment))
        assert (hint.kind, hint.repository, hint.pull_request) == (HintKind.COMMENT, world.path, number)
        found = await world.forge.comment(hint.repository, hint.pull_request, hint.comment)
        assert found is not None and (found.author, found.text) == (ann, "@nixmill retry")

    async def test_the_button_for_another_run(self, world: ForgeWorld) -> None:
        needs(world, Feature.RERUN_BUTTON)
        number = world.open(Spec(author=world.user("ann")))
        await world.forge.post(posting(world, number, CheckState.FAILED))
        hint = hint_of(world, world.deliver(Happening.RERUN, number=number))
        assert (hint.kind, hint.repository, hint.commit, hint.run) == (
            HintKind.RERUN, world.path, world.head(number), 7
        )  # fmt: skip
        assert hint.actor is not None and hint.actor.id

    def test_a_merge_queue_is_a_hint(self, world: ForgeWorld) -> None:
        needs(world, Feature.MERGE_QUEUE)
        hint = hint_of(world, world.deliver(Happening.MERGE_QUEUE))
        assert (hint.kind, hint.commit, hint.ref) == (HintKind.MERGE_QUEUE, MERGE_COMMIT, MERGE_REF)
        assert (hint.base_ref, hint.closed) == ("refs/heads/main", False)

    def test_a_ping_means_nothing(self, world: ForgeWorld) -> None:
        assert {hint.kind for hint in world.forge.event(*world.deliver(Happening.PING)).hints} <= {HintKind.NOTHING}

    def test_a_delivery_sent_again_is_the_same(self, world: ForgeWorld) -> None:
        headers, body = world.deliver(Happening.PUSH)
        assert world.forge.event(headers, body) == world.forge.event(headers, body)
        assert world.forge.event(headers, body).delivery

    def test_either_secret_will_do(self, world: ForgeWorld) -> None:
        needs(world, Feature.SIGNED_HOOKS)
        _, body = world.deliver(Happening.PUSH)
        for secret in ("new", "old"):
            assert world.forge.event(world.sign(body, secret), body).hints

    @pytest.mark.parametrize("secret", ["", "wrong", "new ", "NEW", "newold"])
    def test_another_secret_will_not(self, world: ForgeWorld, secret: str) -> None:
        needs(world, Feature.SIGNED_HOOKS)
        _, body = world.deliver(Happening.PUSH)
        with pytest.raises(ForgeryError) as caught:
            world.forge.event(world.sign(body, secret), body)
        assert "new" not in str(caught.value).split() and "old" not in str(caught.value).split()

    def test_a_delivery_without_a_signature_is_refused(self, world: ForgeWorld) -> None:
        needs(world, Feature.SIGNED_HOOKS)
        headers, body = world.deliver(Happening.PUSH)
        harmless = {"content-type", "user-agent"}
        with pytest.raises(ForgeryError):
            world.forge.event({name: value for name, value in headers.items() if name in harmless}, body)
        with pytest.raises(ForgeryError):
            world.forge.event({name: "" if name not in harmless else value for name, value in headers.items()}, body)
        with pytest.raises(ForgeryError):
            world.forge.event({name: "sha256=é" if name not in harmless else "" for name in headers}, body)

    @pytest.mark.parametrize(
        "body",
        [b"", b"{", b"null", b"[]", b"7", b'"x"', b"{}", b"\xff\xfe", b"[" * 100_000, b'{"repository": 7}'],
        ids=["empty", "cut", "null", "list", "number", "text", "nothing", "no text", "deep", "wrong type"],
    )
    def test_a_signed_body_that_makes_no_sense(self, world: ForgeWorld, body: bytes) -> None:
        with pytest.raises(MalformedEventError) as caught:
            world.forge.event(world.sign(body), body)
        assert len(str(caught.value)) < 500

    def test_a_body_of_25_mb_is_read_within_a_second(self, world: ForgeWorld) -> None:
        _, body = world.deliver(Happening.PUSH)
        big = body.rstrip()[:-1] + b', "padding": "' + b"x" * (25_000_000 - len(body)) + b'"}'
        headers = world.sign(big)
        start = time.perf_counter()
        assert world.forge.event(headers, big).hints
        assert time.perf_counter() - start < 1.0

    async def test_a_hook_is_made_once(self, world: ForgeWorld) -> None:
        repository = await world.forge.repository(world.path)
        assert repository is not None
        did = await world.forge.ensure_hook(repository, "https://ci.example.org/hook/forge/forge")
        assert did.endswith(".") or Feature.HOOKS not in world.features
        assert await world.forge.ensure_hook(repository, "https://ci.example.org/hook/forge/forge") == ""

    async def test_there_is_a_stream_only_where_one_is_configured(self, world: ForgeWorld) -> None:
        assert world.forge.events() is None


class ForgeSuite(TruthSuite, VoiceSuite, FaultSuite, EntranceSuite):
    """All of it."""
