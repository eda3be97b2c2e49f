"""The laws of what a cache deletes."""

from collections.abc import Sequence
from typing import NamedTuple

import msgspec
from hypothesis import given
from hypothesis import strategies as st

from nixmill.core.cache_collection import Limits, Shelved, doomed
from nixmill.nix.store_path import StorePath

NOW = 1_000_000.0


def path_of(number: int) -> StorePath:
    return StorePath(f"/nix/store/{number:032d}-p{number}")


class Case(NamedTuple):
    shelf: Sequence[Shelved]
    needed: Sequence[StorePath]
    limits: Limits


@st.composite
def cases(draw: st.DrawFn) -> Case:
    count = draw(st.integers(0, 14))
    shelf = []
    for number in range(count):
        below = st.integers(-2, number)  # what is not in the cache (−1, −2), and itself
        references = draw(st.lists(below, max_size=4))
        shelf.append(
            Shelved(
                path=path_of(number),
                references=[path_of(reference % 1000) for reference in references],
                size=draw(st.integers(0, 50)),
                published_at=NOW - draw(st.integers(-5, 60)),
            )
        )
    needed = draw(st.lists(st.integers(0, 20).map(path_of), max_size=3))
    limits = Limits(
        age_s=draw(st.integers(0, 60)),
        paths=draw(st.integers(0, 15)),
        size=draw(st.integers(0, 300)),
        grace_s=draw(st.integers(0, 20)),
    )
    return Case(draw(st.permutations(shelf)), needed, limits)


def gone_of(case: Case) -> set[StorePath]:
    return {one.path for one in doomed(case.shelf, case.needed, case.limits, NOW)}


def left_of(case: Case) -> list[Shelved]:
    gone = gone_of(case)
    return [one for one in case.shelf if one.path not in gone]


@given(case=cases())
def test_what_remains_refers_to_nothing_that_was_deleted(case: Case) -> None:
    gone = gone_of(case)
    assert not [one for one in left_of(case) if gone.intersection(one.references)]


@given(case=cases())
def test_what_is_needed_or_young_is_never_deleted(case: Case) -> None:
    gone = gone_of(case)
    assert gone.isdisjoint(case.needed)
    assert not [one for one in case.shelf if one.path in gone and NOW - one.published_at < case.limits.grace_s]


@given(case=cases())
def test_a_second_collection_deletes_nothing(case: Case) -> None:
    assert gone_of(case._replace(shelf=left_of(case))) == set()


@given(case=cases(), more=st.tuples(st.integers(0, 30), st.integers(0, 10), st.integers(0, 100), st.integers(0, 20)))
def test_larger_limits_never_delete_more(case: Case, more: tuple[int, int, int, int]) -> None:
    def larger(limit: float, by: int) -> float:
        return limit + by if limit else 0.0  # 0 is no limit, and stays none

    age, paths, size, grace = more
    limits = Limits(
        age_s=larger(case.limits.age_s, age),
        paths=int(larger(case.limits.paths, paths)),
        size=int(larger(case.limits.size, size)),
        grace_s=case.limits.grace_s,
    )
    assert gone_of(case._replace(limits=limits)) <= gone_of(case)
    longer = msgspec.structs.replace(case.limits, grace_s=case.limits.grace_s + grace)
    assert gone_of(case._replace(limits=longer)).issubset(gone_of(case)) or case.limits.paths or case.limits.size


@given(case=cases())
def test_referrers_go_first(case: Case) -> None:
    order = [one.path for one in doomed(case.shelf, case.needed, case.limits, NOW)]
    place = {path: at for at, path in enumerate(order)}
    for one in case.shelf:
        for reference in one.references:
            if one.path in place and reference in place and reference != one.path:
                assert place[one.path] < place[reference]


@given(case=cases())
def test_each_path_is_deleted_once_with_a_sentence(case: Case) -> None:
    found = doomed(case.shelf, case.needed, case.limits, NOW)
    assert len({one.path for one in found}) == len(found)
    assert all(one.reason.endswith(".") and one.reason[0].isupper() for one in found)


@given(case=cases())
def test_limits_are_kept_where_nothing_insists(case: Case) -> None:
    limits = msgspec.structs.replace(case.limits, grace_s=0.0)
    shelf = [msgspec.structs.replace(one, published_at=min(one.published_at, NOW)) for one in case.shelf]
    left = left_of(Case(shelf, [], limits))
    assert not limits.paths or len(left) <= limits.paths
    assert not limits.size or sum(one.size for one in left) <= limits.size
