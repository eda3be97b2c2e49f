"""The order in which paths are copied: references first, for any closure."""

from collections.abc import Mapping, Sequence

from hypothesis import given
from hypothesis import strategies as st

from nixmill.edge.daemon.copying import in_order
from nixmill.nix.path_info import PathInfo
from nixmill.nix.store_path import StorePath


def path_of(number: int) -> StorePath:
    return StorePath(f"/nix/store/{number:032d}-x")


def closure(references: Mapping[int, Sequence[int]]) -> dict[StorePath, PathInfo]:
    return {
        path_of(number): PathInfo(
            path=path_of(number), deriver=None, nar_hash="", nar_size=1, references=tuple(map(path_of, others))
        )
        for number, others in references.items()
    }


# References point to smaller numbers, to the path itself, or (already valid there) outside.
closures = st.integers(0, 20).flatmap(
    lambda size: st.tuples(*(st.lists(st.integers(-3, n), max_size=4) for n in range(size)))
)


@given(closures)
def test_everything_comes_once_and_after_what_it_refers_to(lists: tuple[list[int], ...]) -> None:
    infos = closure(dict(enumerate([[abs(n) if n >= 0 else 1000 - n for n in numbers] for numbers in lists])))

    ordered = in_order(infos)

    assert sorted(info.path for info in ordered) == sorted(infos)
    seen: set[StorePath] = set()
    for info in ordered:
        assert {r for r in info.references if r in infos and r != info.path} <= seen
        seen.add(info.path)


def test_a_chain_of_fifty_thousand_is_ordered() -> None:
    infos = closure({n: [n - 1] if n else [] for n in reversed(range(50_000))})

    assert [info.path for info in in_order(infos)] == [path_of(n) for n in range(50_000)]
