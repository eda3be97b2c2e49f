"""What a collection would free, asked of a real daemon: the same as Nix's own program says, and nothing is deleted."""

import pytest

from nixmill.core.view.roots import CollectionState
from nixmill.edge.daemon import open_store
from nixmill.edge.system_clock import SystemClock
from nixmill.engine.dead_paths import DeadPaths
from nixmill.engine.root_sizes import RootSizes
from tests.support.nix_world import Spec, instantiate, realise, run, settings_of
from tests.support.scratch_store import ScratchStore


async def test_what_is_dead_is_listed_measured_and_stays(fresh_store: ScratchStore) -> None:
    inner = Spec("inner", "printf %01000d 0 > $out")
    kept, lost = instantiate(
        fresh_store, Spec("kept", "echo $inputs > $out", inputs=[inner]), Spec("lost", "printf %05000d 0 > $out")
    )
    kept_output, lost_output = realise(fresh_store, kept), realise(fresh_store, lost)
    run(fresh_store, "nix-store", "--realise", kept, "--add-root", str(fresh_store.root / "kept-root"))
    async with open_store("stdio", settings_of(fresh_store)) as store:
        dead = DeadPaths(store, store, SystemClock())
        dead.begin("anna")
        assert dead._running is not None
        await dead._running
        page = dead.page
        said = set(run(fresh_store, "nix-store", "--gc", "--print-dead").split())
        assert page.state is CollectionState.DONE, page.fault
        assert set(await store.dead()) == said
        assert lost_output in said and lost in said and kept_output not in said
        assert page.paths == page.measured == len(said)
        assert page.largest[0].path == lost_output
        infos = await store.path_infos(await store.dead())
        assert page.size == sum(info.nar_size for info in infos.values())
        assert lost_output in await store.valid([lost_output])
        assert await store.hold([lost_output]) == {lost_output}
        assert lost_output not in await store.dead()


async def test_the_size_of_a_real_closure_is_what_nix_says(fresh_store: ScratchStore) -> None:
    inner = Spec("inner", "printf %01000d 0 > $out")
    specs = [Spec(name, f"echo {name} $inputs > $out", inputs=[inner]) for name in ("one", "other")]
    outputs = [realise(fresh_store, drv_path) for drv_path in instantiate(fresh_store, *specs)]
    async with open_store("stdio", settings_of(fresh_store)) as store:
        one, other = await RootSizes(store, SystemClock()).sizes([[output] for output in outputs])
        assert one is not None and other is not None
        closures = [run(fresh_store, "nix-store", "--query", "--requisites", output).split() for output in outputs]
        sizes = {
            path: int(run(fresh_store, "nix-store", "--query", "--size", path))
            for path in {path for closure in closures for path in closure}
        }
        assert [one.closure, other.closure] == [sum(sizes[path] for path in closure) for closure in closures]
        assert one.shared == other.shared == sum(sizes[path] for path in set(closures[0]) & set(closures[1]))
        assert one.alone == sizes[outputs[0]]


@pytest.mark.parametrize("minor", [32, 35, 38])
async def test_every_protocol_lists_what_is_dead(fresh_store: ScratchStore, minor: int) -> None:
    (drv_path,) = instantiate(fresh_store, Spec("lost", "echo > $out"))
    async with open_store("stdio", settings_of(fresh_store, newest_minor=minor)) as store:
        assert await store.dead() == [drv_path]
