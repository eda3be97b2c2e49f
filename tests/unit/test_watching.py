"""Which changes follow from a look at a remote."""

from nixmill.core.change import Change, Origin, supersedes
from nixmill.core.project import Jobset, Project, Ref, belongs, matches
from nixmill.core.watching import Watched, changes_due, changes_from, effective

PROJECT = Project(id=1, name="mill", url="file:///mill")
MAIN = Jobset(id=1, name="main")
RELEASES = Jobset(id=2, name="releases", branches=("release-*", "!release-old"), tags=("v*",))


def refs(**commits: str) -> list[Ref]:
    return [Ref(name=name.replace("__", "/").replace("_", "-"), commit=commit) for name, commit in commits.items()]


def names(changes: list[Change]) -> list[tuple[int | None, str, str]]:
    return [(change.jobset, change.ref, change.commit) for change in changes]


def test_the_first_look_starts_the_default_branch_only() -> None:
    seen = refs(refs__heads__main="a", refs__heads__release_1="b", refs__tags__v1="c")
    assert names(changes_from(PROJECT, [MAIN, RELEASES], None, seen, "main")) == [(1, "refs/heads/main", "a")]


def test_a_moved_branch_a_new_branch_and_a_new_tag_start() -> None:
    known = {"refs/heads/main": "a"}
    seen = refs(refs__heads__main="b", refs__heads__release_1="c", refs__tags__v1="d", refs__heads__other="e")
    changes = changes_from(PROJECT, [MAIN, RELEASES], known, seen, "main")
    assert names(changes) == [
        (1, "refs/heads/main", "b"),
        (2, "refs/heads/release-1", "c"),
        (2, "refs/tags/v1", "d"),
    ]
    assert [change.origin for change in changes] == [Origin.PUSH, Origin.PUSH, Origin.TAG]


def test_what_did_not_move_does_not_start() -> None:
    assert changes_from(PROJECT, [MAIN], {"refs/heads/main": "a"}, refs(refs__heads__main="a"), "main") == []


def test_disabled_things_do_not_start() -> None:
    seen = refs(refs__heads__main="b")
    off = Project(id=1, name="mill", url="file:///mill", enabled=False)
    assert changes_from(off, [MAIN], {}, seen, "main") == []
    assert (
        changes_from(PROJECT, [Jobset(name="x", enabled=False), Jobset(name="y", on_push=False)], {}, seen, "main")
        == []
    )


def test_the_last_pattern_that_matches_decides() -> None:
    assert matches(("*", "!wip/*", "wip/keep"), "wip/keep")
    assert not matches(("*", "!wip/*"), "wip/x")
    assert not matches((), "main")
    assert not belongs(RELEASES, "refs/heads/release-old", "main")


def test_the_repository_names_branches_where_the_jobset_names_none() -> None:
    watched = Watched(branches=("main", "dev"), tags=())
    assert effective(MAIN, watched).branches == ("main", "dev")
    assert effective(RELEASES, watched) is RELEASES


def test_a_timer_starts_each_branch_of_its_jobset() -> None:
    seen = refs(refs__heads__main="a", refs__heads__release_1="b")
    assert [(one.ref, one.origin) for one in changes_due(PROJECT, MAIN, seen, "main")] == [
        ("refs/heads/main", Origin.TIMER)
    ]


def test_only_an_older_push_of_the_same_stream_is_superseded() -> None:
    old = Change(number=1, project=1, jobset=1, ref="refs/heads/main", origin=Origin.PUSH)
    new = Change(number=2, project=1, jobset=1, ref="refs/heads/main", origin=Origin.PUSH)
    other = Change(number=3, project=1, jobset=1, ref="refs/heads/dev", origin=Origin.PUSH)
    hand = Change(number=0, project=1, jobset=1, ref="refs/heads/main", origin=Origin.HAND)
    assert supersedes(new, old)
    assert not supersedes(old, new)
    assert not supersedes(other, old)
    assert not supersedes(new, hand)
