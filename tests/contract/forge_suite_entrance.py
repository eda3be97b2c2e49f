"""The parts of the forge suite about what goes wrong, and about events."""

import time
from collections.abc import Mapping

import pytest

from nixmill.core.forge import ForgeryError, Hint, HintKind, MalformedEventError
from nixmill.core.posting import CheckState
from nixmill.doors import DoorError
from nixmill.doors.server import RetryLaterError
from tests.contract.forge_steps import needs, posting
from tests.contract.forge_world import (
    MERGE_COMMIT,
    MERGE_REF,
    Feature,
    ForgeWorld,
    Happening,
    Spec,
    Trouble,
)


def hint_of(world: ForgeWorld, delivery: tuple[Mapping[str, str], bytes]) -> Hint:
    """Return the only hint of a delivery."""
    (hint,) = world.forge.event(*delivery).hints
    return hint


class FaultSuite:
    """What goes wrong."""

    async def all_of_them(self, world: ForgeWorld, trouble: Trouble) -> list[DoorError]:
        """Return what each method raises when the forge is in trouble."""
        ann = world.user("ann")
        number = world.open(Spec(author=ann))
        wanted = posting(world, number)
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
        wanted = posting(world, number)
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
