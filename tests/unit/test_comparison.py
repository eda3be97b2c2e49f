"""`nixmill why`, `nixmill diff` and `--dry-run`, over a world in memory."""

from nixmill.core.evaluation import EvalError, EvalFault
from nixmill.core.plan_view import PlanView
from nixmill.core.run_event import Change, Work
from nixmill.core.source import TreeRequest
from nixmill.core.why_changed import Kind
from nixmill.doors import Store
from nixmill.engine.comparison import Compared, compare
from nixmill.engine.flow import Flow
from nixmill.nix.store_path import StorePath
from tests.support.world import World


async def compared(world: World, before: str, after: str) -> Compared:
    doors = world.doors()
    old = await doors.source.tree(TreeRequest(directory=world.source.directory, revision=before))
    new = await doors.source.tree(TreeRequest(directory=world.source.directory, revision=after))
    return await compare(doors, world.request(), old, new)


async def test_a_change_is_explained_by_the_source_below_it() -> None:
    world = World()

    def app(source: str) -> StorePath:
        text = world.store.add(StorePath(f"/nix/store/{source * 32}-lib.c"))
        return world.store.derivation("app", [world.store.derivation("lib", sources=[text], seed=source)])

    old, new = app("a"), app("b")
    first = world.commit([world.attribute("app", old)])
    second = world.commit([world.attribute("app", new)])
    found = await compared(world, first, second)
    assert found.changes == {Change.CHANGED: (("checks", "app"),)}
    (root,) = found.explanations["checks", "app"].roots
    assert (root.difference.kind, root.way) == (Kind.SOURCE, ("app", "lib"))


async def test_errors_and_removals_are_part_of_a_diff() -> None:
    world = World()
    keep, gone = world.store.derivation("keep"), world.store.derivation("gone")
    error = EvalError(path=("checks", "keep"), fault=EvalFault.THROW, message="no")
    first = world.commit([world.attribute("keep", keep), world.attribute("gone", gone)])
    second = world.commit([error])
    found = await compared(world, first, second)
    assert found.changes == {Change.NEWLY_FAILING: (("checks", "keep"),), Change.REMOVED: (("checks", "gone"),)}
    back = await compared(world, second, first)
    assert back.changes == {Change.FIXED: (("checks", "keep"),), Change.NEW: (("checks", "gone"),)}


async def dry_run(world: World) -> PlanView:
    flow: Flow = world.flow(world.request(plan_only=True))
    await flow.check()
    return await flow.plan_view()


async def test_a_dry_run_says_what_each_attribute_needs_and_why_not() -> None:
    world = World()
    lib = world.store.derivation("lib")
    app = world.store.derivation("app", [lib])
    there = world.store.derivation("there")
    world.store.add(world.store.outputs(there)["out"])
    world.commit([world.attribute("app", app), world.attribute("lib", lib), world.attribute("there", there)])
    view = await dry_run(world)
    rows = {row.path[-1]: row for row in view.rows}
    assert (rows["app"].work, rows["app"].to_build) == (Work.BUILD, 2)
    assert (rows["lib"].work, rows["lib"].to_build) == (Work.BUILD, 1)
    assert (rows["there"].work, rows["there"].reason) == (Work.NONE, "present")
    assert {build.name for build in view.builds} == {"app", "lib"}


def test_the_fake_store_is_a_store() -> None:
    store: Store = World().store
    assert store is not None
