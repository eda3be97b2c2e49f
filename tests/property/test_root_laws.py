"""Laws of roots and pins: the newest good result wins in any order, nothing of a pull request pins, a crash heals."""

from typing import Final

import msgspec
from hypothesis import given
from hypothesis import strategies as st

from nixmill.core.change import BuildClass, Change, Origin
from nixmill.core.pin import Pin
from nixmill.core.roots import (
    DAY_S,
    KeptPin,
    KeptRun,
    RootFacts,
    RootRules,
    Seen,
    changes,
    gone,
    move,
    order_of,
    pins_here,
    wanted,
)
from nixmill.core.trust import Tier
from nixmill.nix.hashes import ALPHABET
from nixmill.nix.store_path import StorePath, hash_part

PATHS: Final = [StorePath(f"/nix/store/{c * 32}-x") for c in ALPHABET[:12]]
MAIN: Final = "refs/heads/main"
ONE = st.sampled_from(PATHS)
SOME = st.lists(ONE, max_size=4).map(tuple)
INSTANTS = st.integers(-40, 40).map(lambda days: days * DAY_S)
RUNS = st.builds(
    KeptRun,
    number=st.integers(1, 20),
    paths=SOME,
    done=st.booleans(),
    ended_at=st.none() | INSTANTS,
    pull_request=st.none() | st.tuples(st.just(1), st.integers(1, 3)),
    closed_at=st.none() | INSTANTS,
)
FACTS = st.builds(
    RootFacts,
    pins=st.lists(st.builds(KeptPin, paths=SOME, gone_at=st.none() | INSTANTS, held=st.sampled_from(["", "ours"]))),
    hand=st.lists(st.tuples(ONE, st.none() | INSTANTS), max_size=3),
    runs=st.lists(RUNS, max_size=6, unique_by=lambda run: run.number),
    uploads=st.dictionaries(st.sampled_from(["a", "b"]), SOME),
    served=SOME,
)
RULES = st.builds(
    RootRules,
    gone_days=st.integers(0, 30),
    pull_request_days=st.integers(0, 9),
    pull_request_open_days=st.integers(1, 60),
    pull_request_runs=st.integers(0, 3),
)


def a_pin(order: int, outputs: int, keep: int) -> Pin:
    path = PATHS[outputs]
    return Pin(
        project=1, ref=MAIN, path=("a",), run=order, order=order, drv_path=path, outputs={"out": path}, keep=keep
    )


def moved(pins: list[Pin]) -> list[Pin]:
    """Return the generations that pins leave behind, the newest first, as a database would keep them."""
    there: list[Pin] = []
    for number, pin in enumerate(pins, 1):
        write, delete = move(there, pin)
        there = [each for each in there if each.id not in delete]
        if write is not None:
            there = [each for each in there if each.id != write.id]
            there.append(write if write.id else msgspec.structs.replace(write, id=number))
        assert len({str(each.outputs) for each in there}) == len(there) <= max(each.keep for each in there)
    return sorted(there, key=lambda each: each.order, reverse=True)


@given(st.data(), st.lists(st.integers(0, 3), min_size=1, max_size=7), st.integers(1, 4))
def test_pins_end_alike_whatever_order_runs_end_in(data: st.DataObject, results: list[int], keep: int) -> None:
    pins = [a_pin(order, outputs, keep) for order, outputs in enumerate(results, 1)]
    found = moved(data.draw(st.permutations(pins)))
    newest = sorted({outputs: order for order, outputs in enumerate(results, 1)}.items(), key=lambda each: -each[1])
    assert [(each.outputs["out"], each.order) for each in found] == [(PATHS[n], order) for n, order in newest[:keep]]


@given(st.lists(st.tuples(st.integers(1, 9), st.integers(0, 3), st.integers(1, 3)), min_size=1, max_size=8))
def test_a_pin_never_moves_to_an_older_order(steps: list[tuple[int, int, int]]) -> None:
    pins = [a_pin(*step) for step in steps]
    best = 0
    for count in range(1, len(pins) + 1):
        newest = moved(pins[:count])[0].order
        assert newest == max(best, pins[count - 1].order)
        best = newest


@given(st.lists(st.tuples(st.integers(1, 9), st.integers(0, 3)), max_size=5), st.integers(1, 3))
def test_the_same_result_twice_changes_nothing(steps: list[tuple[int, int]], keep: int) -> None:
    there = moved([a_pin(*step, keep) for step in steps])
    for pin in there:
        assert move(there, msgspec.structs.replace(pin, id=0)) == (None, ())


@given(FACTS, RULES, SOME)
def test_reconciling_twice_changes_nothing(facts: RootFacts, rules: RootRules, stale: tuple[StorePath, ...]) -> None:
    standing = {hash_part(path) for path in stale}
    roots = wanted(facts, rules, 0.0)
    add, remove = changes(standing, roots)
    after = (standing | {hash_part(path) for path in add}) - remove
    assert after == {hash_part(path) for path in roots}
    assert changes(after, roots) == ([], set())
    assert not remove & {hash_part(path) for path in roots}


@given(FACTS, RULES, SOME, st.data())
def test_a_crash_between_any_two_steps_heals(
    facts: RootFacts, rules: RootRules, stale: tuple[StorePath, ...], data: st.DataObject
) -> None:
    standing = {hash_part(path) for path in stale}
    roots = wanted(facts, rules, 0.0)
    add, remove = changes(standing, roots)
    steps = [(True, hash_part(path)) for path in add] + [(False, part) for part in sorted(remove)]
    kept = standing & {hash_part(path) for path in roots}
    for adds, part in steps[: data.draw(st.integers(0, len(steps)))]:
        standing = standing | {part} if adds else standing - {part}
        assert kept <= standing
    add, remove = changes(standing, roots)
    assert (standing | {hash_part(path) for path in add}) - remove == {hash_part(path) for path in roots}


@given(FACTS, RULES)
def test_what_is_kept_is_known_and_what_must_stay_stays(facts: RootFacts, rules: RootRules) -> None:
    roots = wanted(facts, rules, 0.0)
    goes_on = {path for run in facts.runs if not run.done for path in run.paths}
    pinned = {path for pin in facts.pins if not pin.held and pin.gone_at is None for path in pin.paths}
    assert goes_on | pinned | set(facts.served) <= roots
    later = wanted(facts, rules, 100 * DAY_S)
    assert later <= wanted(facts, msgspec.structs.replace(rules, gone_days=999), 100 * DAY_S)
    ended = {path for run in facts.runs if run.done and run.ended_at is not None for path in run.paths}
    others = goes_on | pinned | set(facts.served) | {path for some in facts.uploads.values() for path in some}
    others |= {path for path, until in facts.hand if until is None}
    others |= {path for run in facts.runs if run.ended_at is None for path in run.paths}
    assert not (later & ended) - others


CHANGES = st.builds(
    Change,
    number=st.integers(1, 99),
    project=st.just(1),
    jobset=st.none(),
    ref=st.sampled_from([MAIN, "refs/heads/release-1", "refs/tags/v1", "refs/pull/7/head", "main", "0" * 40]),
    origin=st.sampled_from(Origin),
    build_class=st.sampled_from(BuildClass),
    tier=st.sampled_from(Tier),
    pull_request=st.none() | st.integers(1, 9),
    retry_of=st.none() | st.integers(1, 99),
)
GLOBS = st.lists(st.sampled_from(["*", "main", "release-*", "refs/tags/*", "refs/*", "!release-*", "!refs/tags/*"]))


@given(CHANGES, st.none() | CHANGES, GLOBS)
def test_nothing_of_a_pull_request_or_a_merge_queue_ever_pins(
    change: Change, root: Change | None, globs: list[str]
) -> None:
    if not pins_here(change, "main", globs, root):
        return
    for each in (change, root or change):
        assert each.origin not in {Origin.PULL_REQUEST, Origin.MERGE_QUEUE}
        assert each.pull_request is None
    assert change.tier in {Tier.BRANCH, Tier.PROTECTED}
    assert change.ref.startswith(("refs/heads/", "refs/tags/"))
    assert not change.ref.startswith("refs/tags/") or any(glob.startswith("refs/") for glob in globs)


@given(
    CHANGES, st.sampled_from([Origin.PUSH, Origin.TIMER, Origin.HAND]), st.sampled_from([Tier.BRANCH, Tier.PROTECTED])
)
def test_a_trusted_push_to_the_default_branch_pins(change: Change, origin: Origin, tier: Tier) -> None:
    change = msgspec.structs.replace(change, origin=origin, tier=tier, pull_request=None)
    assert pins_here(change, "main", []) == (change.ref == MAIN)
    assert not pins_here(change, "", [])
    assert pins_here(change, "main", ["release-*"]) == (change.ref in {MAIN, "refs/heads/release-1"})
    assert pins_here(change, "main", ["refs/tags/*", "!main"]) == (change.ref == "refs/tags/v1")


@given(CHANGES, CHANGES)
def test_a_retry_stands_where_the_run_stands_that_it_retries(change: Change, root: Change) -> None:
    assert order_of(change, root) == root.number
    assert order_of(change) == (change.number if change.retry_of is None else change.retry_of)


NAMES = st.sampled_from([("a",), ("b",), ("a", "x"), ("a", "y"), ("b", "x")])


@given(
    st.lists(st.tuples(NAMES, st.integers(1, 5), st.booleans()), max_size=6),
    st.sets(NAMES | st.just(())),
    st.integers(1, 5),
)
def test_an_evaluation_takes_away_what_it_does_not_have_and_gives_back_what_it_has(
    rows: list[tuple[tuple[str, ...], int, bool]], has: set[tuple[str, ...]], order: int
) -> None:
    pins = [Seen(number, *row) for number, row in enumerate(rows)]
    lost, back = gone(pins, has, order)
    state = {pin.id: (pin.id in lost or pin.gone) and pin.id not in back for pin in pins}
    after = [pin._replace(gone=state[pin.id]) for pin in pins]
    assert gone(after, has, order) == ([], [])
    for pin in after:
        newer = any(each.path == pin.path and each.order > order for each in pins)
        known = any(pin.path[:length] in has for length in range(len(pin.path) + 1))
        assert pin.gone == (pins[pin.id].gone if newer else not known)
