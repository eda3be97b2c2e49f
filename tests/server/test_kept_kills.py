"""Garbage is collected while runs go on, and after the server was killed in the middle: nothing is lost or red."""

from pathlib import Path
from typing import Any

from tests.support.kept import (
    built,
    collect_garbage,
    delete_by_force,
    drv_of,
    ended,
    is_valid,
    outputs,
    pinned,
    rooting_mill,
    roots_of,
    until,
)
from tests.support.mill import Mill
from tests.support.nix_world import run
from tests.support.program import NIXMILL, Project, flake, job


def gates(top: Path, turn: int) -> tuple[Path, str]:
    """Return a gate, and a flake of a job that is done at once and of two that wait for it, one with an input."""
    gate = top / f"gate-{turn}"
    made = job(f"input-{turn}")
    waits = f"while [ ! -e {gate} ]; do sleep 0.05; done; read line < $inputs; echo $line > $out"
    slow = job(f"slow-{turn}", waits, f"inputs = [ ({made}) ];")
    after = job(f"after-{turn}", "echo > $out", f"inputs = [ ({made}) ({slow}) ];")
    return gate, flake(quick=job(f"quick-{turn}"), slow=slow, after=after)


async def at_the_gate(mill: Mill, project: Project, turn: int) -> tuple[Path, Any]:
    """Push, and wait until only the gate holds the run up; return the gate and the page of the run."""
    gate, text = gates(mill.top, turn)
    project.commit(flake__nix=text)
    if mill.server.process is None:
        mill.server.start()
        await mill.server.ready()
    await until_at_the_gate(mill, turn)
    return gate, await mill.server.get(f"/r/{turn}?show=all")


async def until_at_the_gate(mill: Mill, turn: int, *names: str) -> None:
    """Wait until a run builds what waits for the gate, and has built the rest."""

    def holds(page: Any) -> bool:  # noqa: ANN401 - a page
        ends = {one["name"]: one["outcome"] for one in page["attempts"] if one["outcome"] != "infrastructure"}
        rest = [ends.get(f"{name}-{turn}") for name in names or ("input", "quick")]
        return rest == ["succeeded"] * len(rest) and ends.get(f"slow-{turn}", "") is None

    await mill.server.until(f"/r/{turn}/timeline", holds)


async def needed(mill: Mill, page: Any, turn: int) -> list[str]:  # noqa: ANN401 - a page
    """Return what a run at the gate needs: derivations, and the outputs of what it built as well."""
    store = mill.store
    after = drv_of(page, "after")
    closure = run(store, "nix-store", "--query", "--requisites", after).split()
    (input_,) = [path for path in closure if path.endswith(f"-input-{turn}.drv")]
    made = run(store, "nix-store", "--query", "--outputs", input_).split()
    await until(lambda: set(made) <= roots_of(store), "a root of what was built on the way")
    return [*closure, drv_of(page, "quick"), *made, *outputs(store, page, "quick")]


async def test_collections_and_kills_in_the_middle_of_runs(tmp_path: Path) -> None:
    with rooting_mill(tmp_path, program=NIXMILL) as mill:
        project, store = mill.project("mill"), mill.store

        gate, page = await at_the_gate(mill, project, 1)
        kept = await needed(mill, page, 1)
        run(store, "nix-store", "--add", str(mill.server.config))
        assert collect_garbage(store) > 0
        assert [path for path in kept if not is_valid(store, path)] == []
        gate.touch()
        page = await ended(mill.server, 1)
        assert sorted(await built(mill.server, 1)) == ["after-1", "input-1", "quick-1", "slow-1"]

        gate, page = await at_the_gate(mill, project, 2)
        kept = await needed(mill, page, 2)
        mill.server.kill()
        collect_garbage(store)
        assert [path for path in kept if not is_valid(store, path)] == [], "roots outlive the process"
        mill.server.start()
        await mill.server.ready()
        collect_garbage(store)
        gate.touch()
        page = await ended(mill.server, 2)
        names = await built(mill.server, 2)
        assert (names.count("quick-2"), names.count("input-2")) == (1, 1), names

        gate, page = await at_the_gate(mill, project, 3)
        kept = await needed(mill, page, 3)
        lost = [path for path in kept if path.endswith(("-input-3", "-quick-3"))]
        mill.server.kill()
        delete_by_force(store, *lost)
        mill.server.start()
        await mill.server.ready()
        gate.touch()
        page = await ended(mill.server, 3)
        paths = [path for name in ("quick", "slow", "after") for path in outputs(store, page, name)]
        assert set((await pinned(mill.server, "mill")).values()) == set(paths)
        assert set(paths) <= roots_of(store)
        collect_garbage(store)
        assert [path for path in paths if not is_valid(store, path)] == []
