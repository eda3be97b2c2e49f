"""Laws of closures: what a root needs, what it needs alone, and what goes when it goes."""

from collections.abc import Mapping, Sequence

from hypothesis import given
from hypothesis import strategies as st

from nixmill.core.closure import closure, closure_sizes
from nixmill.nix.path_info import PathInfo
from nixmill.nix.store_path import StorePath

Graph = Mapping[StorePath, PathInfo]
COUNT = 12


def path(number: int) -> StorePath:
    return StorePath(f"/nix/store/{number}")


def info(number: int, size: int, references: Sequence[int]) -> PathInfo:
    return PathInfo(
        path=path(number), deriver=None, nar_hash="", nar_size=size, references=tuple(map(path, references))
    )


@st.composite
def graphs(draw: st.DrawFn, *, lacking: bool = False) -> Graph:
    """Return paths that refer to any others, themselves too; with `lacking` some of these are not there."""
    there = draw(st.sets(st.integers(0, COUNT - 1))) if lacking else set(range(COUNT))
    made = {}
    for number in there:
        references = draw(st.lists(st.integers(0, COUNT - 1), max_size=3))
        made[path(number)] = info(number, draw(st.integers(0, 1000)), references)
    return made


roots_of = st.lists(st.sets(st.integers(0, COUNT - 1).map(path), min_size=1, max_size=3), max_size=5)


def reachable(graph: Graph, roots: set[StorePath]) -> set[StorePath]:
    """Return a closure the slow way: add until nothing is added."""
    found = roots & graph.keys()
    while more := {other for each in found for other in graph[each].references if other in graph} - found:
        found |= more
    return found


@given(graphs(lacking=True), roots_of)
def test_a_closure_is_all_that_can_be_reached_and_says_whether_it_is_whole(
    graph: Graph, roots: list[set[StorePath]]
) -> None:
    for root in roots:
        found, whole = closure(root, graph)
        assert found == reachable(graph, root)
        assert whole == all(each in graph for each in (*root, *(o for each in found for o in graph[each].references)))


@given(graphs(), roots_of)
def test_what_is_needed_alone_is_what_would_be_freed(graph: Graph, roots: list[set[StorePath]]) -> None:
    def total(kept: Sequence[set[StorePath]]) -> int:
        return sum(graph[each].nar_size for each in set[StorePath]().union(*(reachable(graph, one) for one in kept)))

    for at, size in enumerate(closure_sizes(roots, graph)):
        assert size is not None
        assert size.whole
        assert size.closure == total([roots[at]])
        assert size.alone == total(roots) - total(roots[:at] + roots[at + 1 :])
        assert size.alone + size.shared == size.closure
        assert 0 <= size.alone <= size.closure
        assert size.paths == len(reachable(graph, roots[at]))


@given(graphs(lacking=True), roots_of)
def test_the_order_of_roots_does_not_matter(graph: Graph, roots: list[set[StorePath]]) -> None:
    assert closure_sizes(roots, graph) == closure_sizes(roots[::-1], graph)[::-1]


def test_very_deep_closures_are_measured_without_recursion() -> None:
    deep = 50_000
    graph = {path(at): info(at, 1, [at + 1] if at + 1 < deep else []) for at in range(deep)}
    (size,) = closure_sizes([[path(0)]], graph)
    assert size is not None
    assert (size.paths, size.closure, size.shared) == (deep, deep, 0)


def test_what_is_not_there_has_no_size() -> None:
    assert closure_sizes([[], [path(1)]], {}) == [None, None]
