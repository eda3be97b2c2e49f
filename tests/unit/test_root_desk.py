"""Pins by hand, sizes, and the dry run of a collection, over stores in memory."""

import asyncio
from collections.abc import Collection, Mapping, Sequence
from typing import Any

import pytest

from nixmill.config.roots import RootSettings
from nixmill.core.access import EVERYTHING, Sight, Visibility
from nixmill.core.account import AuditEntry
from nixmill.core.errors import InputError
from nixmill.core.pin import HandPin, RootPolicy
from nixmill.core.project import Polled, Project
from nixmill.core.view.parts import ProjectLink
from nixmill.core.view.roots import CollectionState, PinLine, ServerRootsPage
from nixmill.doors import DoorError
from nixmill.doors.pages_roots import GoodResult, RootsWanted
from nixmill.engine import keeper
from nixmill.engine.dead_paths import BATCH, LARGEST, DeadPaths
from nixmill.engine.office import Asker
from nixmill.engine.root_desk import RootDoors, StoreRootDesk
from nixmill.engine.root_sizes import KNOWN_S, RootSizes
from nixmill.nix.path_info import PathInfo
from nixmill.nix.store_path import StorePath
from tests.fakes.store import FakeStore, make_path

ASKER = Asker(user=3, name="anna", address="::1")
MILL = Project(id=1, name="mill", url="https://example.org/mill.git")
LINK = ProjectLink(id=1, name="mill", title="", visibility=Visibility.PUBLIC)
OUT, DEV = make_path("a"), make_path("a-dev")


class Clock:
    """Stands still."""

    at = 1000.0

    def now(self) -> float:
        return self.at

    def monotonic(self) -> float:
        return self.at

    async def sleep(self, seconds: float) -> None:
        raise NotImplementedError


class World:
    """Everything that the desk works with; what happens is noted in `order`."""

    def __init__(self) -> None:
        self.order: list[str] = []
        self.pinned_now: dict[tuple[int | None, StorePath], HandPin] = {}
        self.good_results: dict[tuple[str, tuple[str, ...]], GoodResult] = {}
        self.faults: dict[StorePath, str] = {}
        self.audited: list[AuditEntry] = []
        self.default = "main"
        self.store = FakeStore()
        self.clock = Clock()
        self.pins: list[PinLine] = []
        self.dead_paths: list[StorePath] = []
        self.collecting = asyncio.Event()
        self.collector_fault: Exception | None = None
        self.collecting.set()
        anything: Any = self
        self.sizes = RootSizes(self.store, anything.clock)
        self.dead_runs = DeadPaths(anything, self.store, anything.clock)
        self.desk = StoreRootDesk(
            RootDoors(
                pages=anything,
                book=Book(self),
                keeper=anything,
                store=self.store,
                sizes=self.sizes,
                dead=self.dead_runs,
                refs=anything,
                members=anything,
                clock=anything.clock,
                settings=RootSettings(),
                store_dir="/nix/store",
            )
        )

    async def good(self, project: int, ref: str, path: tuple[str, ...]) -> GoodResult | None:
        return self.good_results.get((ref, path))

    async def pinned(self, project: int | None, what: object, ref: str = "") -> list[HandPin]:
        return [
            one
            for (of, path), one in self.pinned_now.items()
            if of == project and what in {path, one.attribute} and ref in {"", one.ref}
        ]

    async def server(self, sight: Sight, wanted: RootsWanted) -> ServerRootsPage:
        return ServerRootsPage(find="", projects=(), after="", hand=(), hand_after=None)

    async def newest(self, sight: Sight, limit: int) -> Sequence[PinLine]:
        return self.pins

    async def polled(self, project: int) -> Polled:
        return Polled(at=0.0, default_branch=self.default)

    async def audit(self, entry: AuditEntry) -> None:
        self.order.append("audit")
        self.audited.append(entry)

    async def hold_now(self, paths: Collection[StorePath]) -> Mapping[StorePath, str]:
        self.order.append("hold")
        return {path: fault for path, fault in self.faults.items() if path in paths}

    async def standing(self) -> keeper.Standing:
        return keeper.Standing(standing=2, wanted=3, faults=((OUT, "no room"),), checked_at=0.0)

    async def dead(self) -> Sequence[StorePath]:
        await self.collecting.wait()
        if self.collector_fault is not None:
            raise self.collector_fault
        return self.dead_paths

    def add(self, path: StorePath, size: int = 10, *references: StorePath) -> StorePath:
        """Put a path into the store."""
        self.store.contents[path] = PathInfo(path=path, deriver=None, nar_hash="", nar_size=size, references=references)
        return path


class Book:
    """Pins by hand in memory."""

    def __init__(self, world: World) -> None:
        self.world = world

    async def pin(self, pin: HandPin) -> HandPin:
        self.world.order.append("pin")
        self.world.pinned_now[pin.project, pin.store_path] = pin
        return pin

    async def unpin(self, project: int | None, store_paths: Collection[StorePath]) -> int:
        self.world.order.append("unpin")
        return sum(self.world.pinned_now.pop((project, path), None) is not None for path in store_paths)

    def __getattr__(self, name: str) -> Any:  # noqa: ANN401 - the rest of the door
        raise NotImplementedError(name)


@pytest.fixture
async def world() -> World:
    return World()


def a_pin(path: StorePath, **fields: Any) -> PinLine:  # noqa: ANN401 - of a pin
    return PinLine(
        **{
            "id": 1,
            "project": LINK,
            "ref": "refs/heads/main",
            "path": ("a",),
            "drv_path": make_path("a.drv"),
            "outputs": {"out": path},
            "generation": 1,
            "generations": 1,
            "keep": 1,
            "run": 1,
            "run_known": True,
            "since": 0.0,
            "policy": RootPolicy.PIN_IF_LOCAL,
            "held": "",
            "gone_since": None,
            **fields,
        }
    )


async def test_a_path_is_recorded_then_rooted_then_looked_at_and_only_then_told(world: World) -> None:
    world.add(OUT)
    assert await world.desk.pin(ASKER, None, f" {OUT} ", " demo ", 5000.0) == [OUT]
    assert world.order == ["pin", "hold", "audit"]
    assert [name for name, _ in world.store.calls] == ["valid", "valid"]
    pin = world.pinned_now[None, OUT]
    assert (pin.reason, pin.user, pin.who, pin.at, pin.until) == ("demo", 3, "anna", 1000.0, 5000.0)
    (entry,) = world.audited
    assert (entry.action, entry.subject, entry.project, entry.who) == ("pin", OUT, None, "anna")
    assert "demo" in entry.detail


async def test_all_outputs_of_the_newest_good_result_are_pinned(world: World) -> None:
    world.add(OUT)
    world.add(DEV)
    for ref in ("refs/heads/main", "refs/heads/stable"):
        world.good_results[ref, ("checks", "a")] = GoodResult(run=7, outputs={"out": OUT, "dev": DEV})
    assert await world.desk.pin(ASKER, MILL, "checks.a", "demo", None) == [OUT, DEV]
    assert {pin.ref for pin in world.pinned_now.values()} == {"refs/heads/main"}
    await world.desk.pin(ASKER, MILL, "checks.a", "demo", None, "stable")
    assert {pin.ref for pin in world.pinned_now.values()} == {"refs/heads/stable"}
    assert {pin.attribute for pin in world.pinned_now.values()} == {("checks", "a")}


@pytest.mark.parametrize(
    ("project", "what", "said"),
    [
        (None, "checks.a", "is not a path in the store"),
        (None, "/nix/store/x", "malformed"),
        (None, str(OUT), "not in the store of this server"),
        (MILL, "/etc/passwd", "is not a path in the store"),
        (MILL, "checks.none", "no good result on main"),
        (MILL, "checks.unknown", "are not known"),
        (MILL, 'a."', "attribute path"),
        (MILL, "   ", "Nothing is named"),
    ],
)
async def test_what_cannot_be_kept_is_a_clear_error(
    world: World, project: Project | None, what: str, said: str
) -> None:
    world.good_results["refs/heads/main", ("checks", "unknown")] = GoodResult(run=1, outputs={"out": None})
    with pytest.raises(InputError, match=said):
        await world.desk.pin(ASKER, project, what, "demo", None)
    assert world.order == []


@pytest.mark.parametrize("reason", ["", "  ", "x" * 501])
async def test_a_reason_is_needed(world: World, reason: str) -> None:
    world.add(OUT)
    with pytest.raises(InputError, match="needs a reason"):
        await world.desk.pin(ASKER, None, OUT, reason, None)


async def test_a_default_branch_that_nobody_knows_is_asked_for(world: World) -> None:
    world.default = ""
    with pytest.raises(InputError, match="default branch"):
        await world.desk.pin(ASKER, MILL, "checks.a", "demo", None)


async def test_a_root_that_cannot_be_made_leaves_nothing_of_the_pin(world: World) -> None:
    world.good_results["refs/heads/main", ("a",)] = GoodResult(run=7, outputs={"out": OUT, "dev": DEV})
    world.add(OUT)
    world.add(DEV)
    world.faults[DEV] = "The directory is full."
    with pytest.raises(DoorError, match="directory is full"):
        await world.desk.pin(ASKER, MILL, "a", "demo", None)
    assert world.pinned_now == {}
    assert world.audited == []


async def test_what_was_pinned_before_stays_so_when_pinning_anew_fails(world: World) -> None:
    world.add(OUT)
    await world.desk.pin(ASKER, None, OUT, "first", None)
    world.faults[OUT] = "no"
    with pytest.raises(DoorError):
        await world.desk.pin(ASKER, None, OUT, "second", None)
    assert (None, OUT) in world.pinned_now


async def test_a_path_that_is_collected_between_the_look_and_the_root_is_not_pinned(world: World) -> None:
    world.add(OUT)

    async def hold_now(paths: Collection[StorePath]) -> Mapping[StorePath, str]:
        del world.store.contents[OUT]
        return {}

    world.hold_now = hold_now  # type: ignore[method-assign]
    with pytest.raises(InputError, match="not in the store"):
        await world.desk.pin(ASKER, None, OUT, "demo", None)
    assert world.pinned_now == {}


async def test_what_was_pinned_is_unpinned_by_path_and_by_attribute(world: World) -> None:
    world.add(OUT)
    world.add(DEV)
    world.good_results["refs/heads/main", ("a",)] = GoodResult(run=7, outputs={"out": OUT, "dev": DEV})
    await world.desk.pin(ASKER, MILL, "a", "demo", None)
    assert await world.desk.unpin(ASKER, MILL, "a", "main") == [OUT, DEV]
    await world.desk.pin(ASKER, None, OUT, "demo", None)
    with pytest.raises(InputError, match="not pinned by hand for mill"):
        await world.desk.unpin(ASKER, MILL, OUT)
    assert await world.desk.unpin(ASKER, None, OUT) == [OUT]
    assert [entry.action for entry in world.audited] == ["pin", "unpin", "pin", "unpin"]


async def test_the_page_of_the_server_has_the_largest_closures_and_faults_for_administrators(world: World) -> None:
    lib = world.add(make_path("lib"), 100)
    small, large = world.add(make_path("small"), 1, lib), world.add(make_path("large"), 5, lib)
    away = make_path("away")
    world.pins = [a_pin(small), a_pin(large), a_pin(away, held="upstream"), a_pin(make_path("lost"))]
    page = await world.desk.server(EVERYTHING, RootsWanted())
    assert [(pin.outputs["out"], pin.size and (pin.size.closure, pin.size.alone)) for pin in page.biggest] == [
        (large, (105, 5)),
        (small, (101, 1)),
    ]
    assert page.measured == 2
    assert page.standing is not None
    assert (page.standing.standing, page.standing.checked_at, page.standing.faults[0].fault) == (2, None, "no room")
    for sight in (Sight(), Sight(everything=True, only=1)):
        assert (await world.desk.server(sight, RootsWanted())).standing is None


async def test_a_store_that_is_away_costs_the_sizes_alone(world: World) -> None:
    world.pins = [a_pin(OUT, gone_since=0.0)]
    world.store.failure = DoorError("gone", door="store", action="ask", retryable=True)
    page = await world.desk.server(EVERYTHING, RootsWanted())
    assert (page.biggest, page.measured) == ((), 0)


async def test_a_store_that_does_not_answer_costs_the_sizes_alone(world: World) -> None:
    async def path_infos(paths: Collection[StorePath]) -> dict[StorePath, PathInfo]:
        await asyncio.Event().wait()
        return {}

    world.store.path_infos = path_infos  # type: ignore[method-assign]
    world.sizes._patience_s = 0.01
    world.pins = [a_pin(OUT)]
    page = await world.desk.server(EVERYTHING, RootsWanted())
    assert (page.biggest, page.measured) == ((), 0)
    assert not world.sizes._one.locked()


async def test_sizes_are_bounded_and_say_so(world: World) -> None:
    paths = [make_path(f"chain-{at}") for at in range(30)]
    for at, path in enumerate(paths):
        world.add(path, 1, *paths[at + 1 : at + 2])
    anything: Any = world.clock
    (size,) = await RootSizes(world.store, anything, paths_max=10).sizes([[paths[0]]])
    assert size is not None
    assert (size.closure, size.paths, size.whole) == (10, 10, False)
    (size,) = await world.sizes.sizes([[paths[0]]])
    assert size is not None
    assert (size.closure, size.whole) == (30, True)


async def test_sizes_are_known_for_a_minute(world: World) -> None:
    world.add(OUT)
    await world.sizes.sizes([[OUT]])
    asked = len(world.store.calls)
    await world.sizes.sizes([[OUT]])
    assert len(world.store.calls) == asked
    world.clock.at += KNOWN_S + 1
    await world.sizes.sizes([[OUT]])
    assert len(world.store.calls) == asked + 1


async def ended(world: World) -> None:
    """Wait for the dry run."""
    assert world.dead_runs._running is not None
    await asyncio.wait_for(world.dead_runs._running, 10)


async def test_a_dry_run_measures_what_is_dead_and_names_the_largest(world: World) -> None:
    world.collecting.clear()
    count = BATCH + LARGEST
    world.dead_paths = [world.add(make_path(f"dead-{at}"), at) for at in range(count)] + [make_path("no path")]
    assert world.desk.collection().state is CollectionState.NONE
    first = await world.desk.collect_dry(ASKER)
    assert (first.state, first.by) == (CollectionState.LISTING, "anna")
    running = world.dead_runs._running
    assert (await world.desk.collect_dry(ASKER)).state is CollectionState.LISTING
    assert world.dead_runs._running is running
    world.collecting.set()
    await ended(world)
    page = world.desk.collection()
    assert (page.state, page.paths, page.measured) == (CollectionState.DONE, count + 1, count + 1)
    assert page.size == sum(range(count))
    assert [one.size for one in page.largest] == list(range(count - 1, count - 1 - LARGEST, -1))
    assert 0 < page.explained < 1


@pytest.mark.parametrize(
    ("fault", "said"),
    [
        (DoorError("The daemon is gone.", door="store", action="x", retryable=True), "daemon is gone"),
        (RuntimeError("inside"), "mistake of nixmill"),
    ],
)
async def test_a_dry_run_that_fails_says_so_and_can_be_begun_again(world: World, fault: Exception, said: str) -> None:
    world.collector_fault = fault
    await world.desk.collect_dry(ASKER)
    await ended(world)
    page = world.desk.collection()
    assert (page.state, said in page.fault, page.ended_at) == (CollectionState.FAILED, True, 1000.0)
    world.collector_fault = None
    await world.desk.collect_dry(ASKER)
    await ended(world)
    assert world.desk.collection().state is CollectionState.DONE


async def test_a_dry_run_ends_with_the_server(world: World) -> None:
    world.collecting.clear()
    await world.desk.collect_dry(ASKER)
    await world.dead_runs.close()
    assert world.dead_runs._running is not None
    assert world.dead_runs._running.cancelled()
