"""What a change owes: only what is trusted pins, the kind of event before any name; caches take what is theirs."""

from typing import Any

import pytest

from nixmill.config import RootsConfig
from nixmill.config.caches import CacheSettings
from nixmill.config.roots import RootSettings
from nixmill.core.access import Visibility
from nixmill.core.change import BuildClass, Change, Origin
from nixmill.core.pin import RootPolicy
from nixmill.core.project import Project
from nixmill.core.trust import Tier
from nixmill.core.upload import ResultClass
from nixmill.engine.owed import cache_duties, pin_rule

TIP = "c" * 40
PROJECT = Project(id=1, name="mill", url="https://example.org/mill.git")


def change(**fields: Any) -> Change:  # noqa: ANN401 - fields of a change
    given = {"number": 9, "project": 1, "jobset": 1, "ref": "refs/heads/main", "commit": TIP, "origin": Origin.PUSH}
    return Change(**{**given, "tier": Tier.PROTECTED, **fields})


def rule(asked: Change, root: Change | None = None, said: RootsConfig | None = None, **server: Any) -> Any:  # noqa: ANN401
    return pin_rule(asked, root, "main", TIP, said or RootsConfig(), RootSettings(**server))


@pytest.mark.parametrize("origin", [Origin.PUSH, Origin.TIMER, Origin.HAND])
def test_the_default_branch_pins_whoever_started_it(origin: Origin) -> None:
    made = rule(change(origin=origin))
    assert (made.project, made.ref, made.order, made.policy) == (1, "refs/heads/main", 9, RootPolicy.PIN_IF_LOCAL)


@pytest.mark.parametrize(
    "fields",
    [
        {"origin": Origin.PULL_REQUEST, "pull_request": 3, "tier": Tier.MEMBER},
        {"origin": Origin.PULL_REQUEST, "pull_request": 3, "tier": Tier.PROTECTED},
        {"origin": Origin.MERGE_QUEUE, "build_class": BuildClass.MERGE_QUEUE},
        {"origin": Origin.PUSH, "tier": Tier.MEMBER},
        {"origin": Origin.HAND, "commit": "d" * 40},
        {"ref": "refs/heads/other"},
        {"ref": "refs/tags/v1", "origin": Origin.TAG},
        {"ref": TIP, "origin": Origin.HAND},
        {"origin": Origin.RETRY, "build_class": BuildClass.PULL_REQUEST},
    ],
    ids=["member", "claims", "queue", "untrusted", "older", "branch", "tag", "commit", "retry of what was forgotten"],
)
def test_what_does_not_pin(fields: dict[str, Any]) -> None:
    assert rule(change(**fields)) is None


def test_a_retry_stands_where_the_run_it_tries_again_does() -> None:
    root = change(number=4)
    assert rule(change(number=12, origin=Origin.RETRY, retry_of=4), root).order == 4
    pulled = change(number=4, origin=Origin.PULL_REQUEST, pull_request=3, tier=Tier.MEMBER)
    assert rule(change(number=12, origin=Origin.RETRY, retry_of=4), pulled) is None
    older = change(number=4, origin=Origin.HAND, commit="d" * 40)
    assert rule(change(number=12, origin=Origin.RETRY, retry_of=4, commit="d" * 40), older) is None


def test_a_repository_chooses_branches_and_policy_within_the_servers_bounds() -> None:
    said = RootsConfig(branches=("release-*", "refs/tags/v*"), policy=RootPolicy.REQUIRE_LOCAL, keep=99)
    made = rule(change(ref="refs/heads/release-1", tier=Tier.BRANCH), None, said, keep_max=5)
    assert (made.policy, made.keep) == (RootPolicy.REQUIRE_LOCAL, 5)
    assert rule(change(ref="refs/tags/v1", origin=Origin.TAG, tier=Tier.BRANCH), None, said) is not None
    assert rule(change(ref="refs/heads/other", tier=Tier.BRANCH), None, said) is None
    assert rule(change(), None, RootsConfig(keep=0)).keep == 1


def cache(name: str, results: ResultClass, **fields: Any) -> CacheSettings:  # noqa: ANN401 - fields of a cache
    return CacheSettings(name=name, results=results, **fields)


CACHES = (
    cache("pulls", ResultClass.PULL_REQUEST),
    cache("main", ResultClass.BRANCH, intermediate=False),
    cache("secret", ResultClass.BRANCH, private=True, projects=("mi*",)),
    cache("out", ResultClass.RELEASE),
)


def taken(asked: Change, project: Project = PROJECT) -> dict[str, bool]:
    return {duty.name: duty.intermediate for duty in cache_duties(asked, None, asked.commit, project, CACHES)}


def test_a_commit_that_a_person_names_is_no_release_of_a_tag_that_stands_elsewhere() -> None:
    asked = change(ref="refs/tags/v1", origin=Origin.HAND, commit="d" * 40)
    again = change(ref="refs/tags/v1", origin=Origin.RETRY, commit="d" * 40)
    for tip, expected in (("d" * 40, {"out"}), ("e" * 40, {"main", "secret"}), ("", {"main", "secret"})):
        assert {duty.name for duty in cache_duties(asked, None, tip, PROJECT, CACHES)} == expected
        assert {duty.name for duty in cache_duties(again, asked, tip, PROJECT, CACHES)} == expected
    pushed = change(ref="refs/tags/v1", origin=Origin.TAG, commit="d" * 40)
    assert {duty.name for duty in cache_duties(pushed, None, "e" * 40, PROJECT, CACHES)} == {"out"}


def test_each_cache_takes_its_class_of_results() -> None:
    assert taken(change()) == {"main": False, "secret": True}
    assert taken(change(origin=Origin.PULL_REQUEST, pull_request=3, tier=Tier.FORK)) == {"pulls": True}
    assert taken(change(ref="refs/tags/v1", origin=Origin.TAG)) == {"out": True}


def test_what_not_everybody_may_see_enters_only_what_names_it() -> None:
    private = Project(id=1, name="mill", url="https://example.org/mill.git", visibility=Visibility.PRIVATE)
    assert taken(change(), private) == {"secret": True}
