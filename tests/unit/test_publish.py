"""What enters which cache: tables of every case, and laws of the order."""

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nixmill.core.access import Visibility
from nixmill.core.publish import (
    TRIES_MAX,
    CacheRule,
    ResultFacts,
    closure_order,
    gives_up,
    may_enter,
    pause_s,
    signed_upstream,
    spread,
    takers,
)
from nixmill.core.trust import Tier
from nixmill.core.upload import Made, ResultClass
from nixmill.nix.path_info import PathInfo
from nixmill.nix.signature import SecretKey, public_key, secret_text
from nixmill.nix.store_path import StorePath
from tests.fakes.store import make_path

PULLS = CacheRule(name="pulls", results=ResultClass.PULL_REQUEST)
BRANCHES = CacheRule(name="branches", results=ResultClass.BRANCH)
RELEASES = CacheRule(name="releases", results=ResultClass.RELEASE)
ALL = (PULLS, BRANCHES, RELEASES)
FACTS = ResultFacts(tier=Tier.PROTECTED, tag=False, project="mill", visibility=Visibility.PUBLIC)


def info(path: StorePath, *references: StorePath, signatures: tuple[str, ...] = ()) -> PathInfo:
    return PathInfo(
        path=path,
        deriver=None,
        nar_hash="sha256:" + "0" * 64,
        nar_size=1,
        references=references,
        signatures=signatures,
    )


@pytest.mark.parametrize(
    ("tier", "tag", "expected"),
    [
        (Tier.FORK, False, ("pulls",)),
        (Tier.MEMBER, False, ("pulls",)),
        (Tier.MEMBER, True, ("pulls",)),
        (Tier.BRANCH, False, ("branches",)),
        (Tier.PROTECTED, False, ("branches",)),
        (Tier.PROTECTED, True, ("releases",)),
        (Tier.BRANCH, True, ("releases",)),
    ],
)
def test_a_cache_takes_results_of_its_class(*, tier: Tier, tag: bool, expected: tuple[str, ...]) -> None:
    assert takers(ALL, msgspec.structs.replace(FACTS, tier=tier, tag=tag)) == expected


def test_tags_go_to_caches_of_branches_where_none_takes_releases_of_the_project() -> None:
    tag = msgspec.structs.replace(FACTS, tag=True)
    assert takers((PULLS, BRANCHES), tag) == ("branches",)
    others = msgspec.structs.replace(RELEASES, projects=("other",))
    assert takers((BRANCHES, others), tag) == ("branches",)


def test_a_branch_never_reaches_a_cache_of_releases_or_pull_requests() -> None:
    assert takers((PULLS, RELEASES), FACTS) == ()
    assert takers((), FACTS) == ()


@pytest.mark.parametrize(
    ("visibility", "private", "projects", "taken"),
    [
        (Visibility.PUBLIC, False, (), True),
        (Visibility.PUBLIC, False, ("mi*",), True),
        (Visibility.PUBLIC, False, ("other",), False),
        (Visibility.PUBLIC, True, (), True),
        (Visibility.INTERNAL, False, (), False),
        (Visibility.INTERNAL, False, ("*",), False),
        (Visibility.INTERNAL, False, ("mill",), True),
        (Visibility.INTERNAL, True, (), False),
        (Visibility.PRIVATE, True, (), False),
        (Visibility.PRIVATE, True, ("m*",), True),
        (Visibility.PRIVATE, True, ("mill",), True),
        (Visibility.PRIVATE, False, ("m*",), False),
        (Visibility.PRIVATE, False, ("mill",), True),
        (Visibility.PRIVATE, False, ("MILL",), False),
    ],
)
def test_what_not_everybody_may_see_has_to_be_named(
    *, visibility: Visibility, private: bool, projects: tuple[str, ...], taken: bool
) -> None:
    cache = CacheRule(name="c", private=private, projects=projects)
    assert takers([cache], msgspec.structs.replace(FACTS, visibility=visibility)) == (("c",) if taken else ())


@pytest.mark.parametrize("tier", [Tier.FORK, Tier.MEMBER])
@pytest.mark.parametrize("results", [ResultClass.BRANCH, ResultClass.RELEASE])
def test_what_a_pull_request_built_enters_no_trusted_cache(tier: Tier, results: ResultClass) -> None:
    made = Made(path=make_path("x"), tier=tier, run=1, attempt=1)
    assert not may_enter(results, made, content_addressed=False, signed_upstream=False)
    assert may_enter(results, made, content_addressed=True, signed_upstream=False)
    assert may_enter(results, made, content_addressed=False, signed_upstream=True)
    assert may_enter(results, None, content_addressed=False, signed_upstream=False)
    assert may_enter(ResultClass.PULL_REQUEST, made, content_addressed=False, signed_upstream=False)


@pytest.mark.parametrize("tier", [Tier.BRANCH, Tier.PROTECTED])
@pytest.mark.parametrize("results", list(ResultClass))
def test_what_a_trusted_tier_built_enters_everywhere(tier: Tier, results: ResultClass) -> None:
    made = Made(path=make_path("x"), tier=tier, run=1, attempt=1)
    assert may_enter(results, made, content_addressed=False, signed_upstream=False)


def test_a_signature_of_upstream_counts_by_name_or_where_the_key_is_known_by_its_truth() -> None:
    key = SecretKey(secret_text("up-1", b"u" * 32))
    plain = info(make_path("x"))
    signed = msgspec.structs.replace(plain, signatures=(key.sign(plain),))
    forged = msgspec.structs.replace(plain, signatures=("up-1:Zm9yZ2Vk",))
    by_name = CacheRule(name="c", upstream=("up-1",))
    by_key = msgspec.structs.replace(by_name, upstream_keys=(public_key(key.public()),))
    assert [signed_upstream(one, by_name) for one in (plain, signed, forged)] == [False, True, True]
    assert [signed_upstream(one, by_key) for one in (plain, signed, forged)] == [False, True, False]
    assert not signed_upstream(signed, CacheRule(name="c"))


@st.composite
def graphs(draw: st.DrawFn) -> dict[StorePath, PathInfo]:
    paths = [make_path(str(number)) for number in range(draw(st.integers(0, 12)))]
    elsewhere = make_path("elsewhere")
    found = {}
    for at, path in enumerate(paths):
        references = draw(st.sets(st.sampled_from([*paths[: at + 1], elsewhere]))) if at else {path}
        found[path] = info(path, *sorted(references))
    return dict(draw(st.permutations(sorted(found.items()))))


@settings(max_examples=40)
@given(graphs())
def test_each_path_comes_once_and_after_what_it_refers_to(infos: dict[StorePath, PathInfo]) -> None:
    order = [one.path for one in closure_order(infos)]
    assert sorted(order) == sorted(infos)
    for one in infos.values():
        earlier = order[: order.index(one.path) + 1]
        assert all(reference in earlier for reference in one.references if reference in infos)


@settings(max_examples=40)
@given(graphs(), st.data())
def test_a_fault_spreads_to_exactly_what_refers_to_it(infos: dict[StorePath, PathInfo], data: st.DataObject) -> None:
    bad = data.draw(st.sets(st.sampled_from(sorted(infos)))) if infos else set()
    found = spread(closure_order(infos), dict.fromkeys(bad, "no"))
    expected, before = set(bad), None
    while expected != before:
        before = set(expected)
        expected |= {path for path, one in infos.items() if expected.intersection(one.references)}
    assert found.keys() == expected


def test_a_circle_is_refused() -> None:
    a, b = make_path("a"), make_path("b")
    with pytest.raises(ValueError, match="2 paths refer to each other"):
        closure_order({a: info(a, b), b: info(b, a), make_path("c"): info(make_path("c"))})


def test_a_long_chain_is_no_trouble() -> None:
    paths = [make_path(str(number)) for number in range(5_000)]
    infos = {path: info(path, *paths[at + 1 : at + 2]) for at, path in enumerate(paths)}
    assert [one.path for one in closure_order(infos)] == paths[::-1]


def test_pauses_grow_from_a_minute_to_hours_and_then_end() -> None:
    pauses = [pause_s(tries) for tries in range(1, TRIES_MAX)]
    assert pauses[:3] == [60.0, 120.0, 240.0]
    assert pauses[-1] == 4 * 3600.0 == pause_s(10_000)
    assert 8 * 3600 < sum(pauses) < 24 * 3600
    assert [gives_up(TRIES_MAX - 1), gives_up(TRIES_MAX)] == [False, True]
