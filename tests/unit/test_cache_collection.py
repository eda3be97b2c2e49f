import time

from nixmill.core.cache_collection import DAY_S, GIB, Limits, Shelved, doomed, needed_in
from nixmill.core.roots import KeptPin, KeptRun, RootFacts
from nixmill.nix.store_path import StorePath

NOW = 100 * DAY_S


def path_of(name: str) -> StorePath:
    return StorePath(f"/nix/store/{name.rjust(32, '0')}-{name}")


def shelved(name: str, days: float, *references: str, size: int = 100) -> Shelved:
    return Shelved(
        path=path_of(name),
        references=tuple(map(path_of, references)),
        size=size,
        published_at=NOW - days * DAY_S,
    )


def gone(shelf: list[Shelved], limits: Limits, *needed: str) -> list[str]:
    found = doomed(shelf, {path_of(name) for name in needed}, limits, NOW)
    return [one.path.rpartition("-")[2] for one in found]


def test_without_limits_nothing_is_deleted() -> None:
    assert gone([shelved("a", 90)], Limits(grace_s=DAY_S)) == []


def test_what_is_too_old_goes_referrers_first_and_says_why() -> None:
    shelf = [shelved("libc", 40), shelved("curl", 35, "libc"), shelved("new", 2)]
    assert gone(shelf, Limits(age_s=30 * DAY_S)) == ["curl", "libc"]
    reason = doomed(shelf, (), Limits(age_s=30 * DAY_S), NOW)[0].reason
    assert reason == (
        "It was published 35.0 days ago; paths are kept for 30 days, and nothing that is kept refers to it."
    )


def test_what_something_kept_refers_to_stays_however_old_it_is() -> None:
    shelf = [shelved("libc", 40), shelved("curl", 35, "libc"), shelved("new", 2, "libc")]
    assert gone(shelf, Limits(age_s=30 * DAY_S)) == ["curl"]


def test_a_pin_keeps_its_closure() -> None:
    shelf = [shelved("libc", 40), shelved("curl", 35, "libc"), shelved("old", 50)]
    assert gone(shelf, Limits(age_s=30 * DAY_S), "curl", "elsewhere") == ["old"]


def test_the_newest_paths_are_kept_with_their_closures_counted() -> None:
    shelf = [shelved("libc", 40), shelved("curl", 3, "libc"), shelved("git", 2, "curl"), shelved("hello", 1)]
    assert gone(shelf, Limits(paths=4)) == []
    assert gone(shelf, Limits(paths=3)) == ["git", "curl", "libc"]
    assert "3 paths are kept" in doomed(shelf, (), Limits(paths=3), NOW)[0].reason


def test_the_newest_bytes_are_kept() -> None:
    shelf = [shelved("a", 3, size=GIB), shelved("b", 2, size=GIB), shelved("c", 1, size=GIB)]
    assert gone(shelf, Limits(size=2 * GIB)) == ["a"]
    assert "2 GiB are kept" in doomed(shelf, (), Limits(size=2 * GIB), NOW)[0].reason


def test_a_path_that_is_young_stays_beyond_every_limit() -> None:
    shelf = [shelved("a", 0.5, size=GIB), shelved("b", 0.6, size=GIB), shelved("c", 2, size=GIB)]
    assert gone(shelf, Limits(paths=1, size=1, grace_s=DAY_S)) == ["c"]


def test_paths_that_refer_to_each_other_can_go() -> None:
    assert sorted(gone([shelved("a", 9, "b"), shelved("b", 9, "a", "b")], Limits(age_s=DAY_S))) == ["a", "b"]


def test_needed_are_pins_live_runs_and_what_waits_for_this_cache() -> None:
    facts = RootFacts(
        pins=[KeptPin([path_of("pin")]), KeptPin([path_of("held")], None, "main")],
        hand=[(path_of("hand"), None), (path_of("until"), NOW + 1), (path_of("expired"), NOW)],
        runs=[
            KeptRun(number=1, paths=[path_of("live")], done=False),
            KeptRun(number=2, paths=[path_of("ended")], done=True, pull_request=(1, 2)),
        ],
        uploads={"main": [path_of("waits")], "other": [path_of("elsewhere")]},
    )
    names = {path.rpartition("-")[2] for path in needed_in(facts, "main", NOW)}
    assert names == {"pin", "held", "hand", "until", "live", "waits"}


def test_ten_thousand_paths_take_a_tenth_of_a_second() -> None:
    shelf = [
        shelved(str(number), number / 1000, *(str(number + step) for step in (1, 7, 31, 101, 997)))
        for number in range(10_000)
    ]
    begun = time.process_time()
    doomed(shelf, {path_of("50")}, Limits(age_s=DAY_S, paths=5000), NOW)
    assert time.process_time() - begun < 0.4  # usually 0.06; a bound on its growth, not on this machine
