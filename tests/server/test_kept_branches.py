"""What is kept of branches: which results, for how long, and that nothing moves a pin back."""

from pathlib import Path

from tests.support.kept import (
    branch,
    collect_garbage,
    ended,
    is_valid,
    links_of,
    outputs,
    pinned,
    pins,
    press,
    rooting_mill,
    run_of,
    until_gone,
)
from tests.support.mill import gated
from tests.support.program import flake, job
from tests.support.scratch_store import ScratchStore

ODD = ("a", '"a/b"', '"a.b"', '"with space"', '"ü✓"', '"quo\\"te"', '".."', '"$(boom)"', '"' + "long" * 60 + '"')
KEEPS = "[roots]\nkeep = 3\n"
RULES = '[roots]\nbranches = ["stable", "next/*"]\n'
TWO = 'outputs = [ "out" "dev" ];'


def both(name: str) -> str:
    """Return a job with two outputs."""
    return job(name, "echo $out > $out; echo $dev > $dev", TWO)


def valid(store: ScratchStore, *paths: str) -> list[bool]:
    """Say of paths whether they are in the store."""
    return [is_valid(store, path) for path in paths]


async def test_odd_names_outputs_failures_and_generations(tmp_path: Path) -> None:
    """Roots are named by hashes, outputs switch together, what fails keeps what was good, as many as are to be kept."""
    with rooting_mill(tmp_path) as mill:
        store, server = mill.store, mill.server
        odd, three = mill.project("odd"), mill.project("three")
        names = {name: job(f"odd-{at}") for at, name in enumerate(ODD)}
        first = odd.commit(flake__nix=flake(two=both("two-1"), **names))
        third = three.commit(flake__nix=flake(hello=job("hello-1")), nixmill__toml=KEEPS)
        server.start()
        await server.ready()

        page = await run_of(server, "odd", first)
        shown = await pins(server, "odd")
        assert len(shown) == len(ODD) + 1
        paths = {path for one in shown for path in one["outputs"].values()}
        links = links_of(store)
        assert paths <= set(links.values())
        assert all(path.rpartition("/")[2][:32] == name for name, path in links.items()), "no name of the repository"
        collect_garbage(store)
        assert all(valid(store, *paths))
        before = sorted(outputs(store, page, "two"))
        assert len(before) == 2
        generations = [outputs(store, await run_of(server, "three", third), "hello")[0]]

        second = odd.commit(flake__nix=flake(two=both("two-2"), **names))
        for number in (2, 3, 4):
            third = three.commit(flake__nix=flake(hello=job(f"hello-{number}")))
            generations.append(outputs(store, await run_of(server, "three", third), "hello")[0])
        page = await run_of(server, "odd", second)
        after = sorted(outputs(store, page, "two"))
        assert {*after} == {
            path for one in await pins(server, "odd") if one["path"][-1] == "two" for path in one["outputs"].values()
        }
        await until_gone(store, *before, generations[0])
        assert all(valid(store, *after, *generations[1:]))

        second = odd.commit(flake__nix=flake(two=job("two-3", "echo > $out; exit 1", TWO), **names))
        third = three.commit(flake__nix=flake(hello=job("hello-5", "exit 1")))
        await run_of(server, "three", third, verdict="failed")
        await run_of(server, "odd", second, verdict="failed")
        collect_garbage(store)
        assert all(valid(store, *after, *generations[1:])), "the last good ones stay"
        assert [one["generation"] for one in await pins(server, "three")] == [1, 2, 3]


async def test_what_is_gone_is_kept_for_a_time_and_listed(tmp_path: Path) -> None:
    """Attributes that are removed or renamed, deleted branches, projects that are not watched any more."""
    with rooting_mill(tmp_path) as mill:
        store, server, project = mill.store, mill.server, mill.project("mill")
        off = mill.project("off")
        main = project.commit(
            flake__nix=flake(hello=job("hello-main"), old=job("old"), gone=job("gone")), nixmill__toml=RULES
        )
        idle = off.commit(flake__nix=flake(idle=job("idle")))
        server.start()
        await server.ready()
        await run_of(server, "mill", main)
        (idle_path,) = outputs(store, await run_of(server, "off", idle), "idle")
        for name in ("stable", "next/one", "other"):
            commit = branch(project, name, flake__nix=flake(hello=job(f"hello-{name[-3:]}")))
            await run_of(server, "mill", commit, name)
        kept = {name: await pinned(server, "mill", name) for name in ("main", "stable", "next/one")}
        assert sorted(len(one) for one in kept.values()) == [1, 1, 3]
        assert len({one["hello"] for one in kept.values()}) == 3, "each branch has its own"
        assert await pins(server, "mill", "other") == []

        project.git("branch", "-q", "-D", "stable")
        commit = project.commit(flake__nix=flake(hello=job("hello-main"), new=job("old")))
        await run_of(server, "mill", commit)
        mill.declared = mill.declared.replace('name = "off"', 'name = "off"\nenabled = false')
        (mill.top / "projects.toml").write_text(mill.declared)
        server.kill()
        server.start()
        await server.ready()
        page = await server.until(
            "/p/mill/roots", lambda page: len([one for one in page["pins"] if one["gone_since"]]) == 3
        )
        gone = {(one["ref"], one["path"][-1]): one for one in page["pins"] if one["gone_since"]}
        assert set(gone) == {("refs/heads/main", "old"), ("refs/heads/main", "gone"), ("refs/heads/stable", "hello")}
        assert all(one["until"] - one["gone_since"] == 14 * 86_400 for one in gone.values())
        await server.until("/p/off/roots", lambda page: all(one["gone_since"] for one in page["pins"]))
        collect_garbage(store)
        assert all(valid(store, *(path for one in kept.values() for path in one.values())))

        server.kill()
        server.settings += "\nroots.gone-days = 0\n"
        server.start()
        await server.ready()
        await until_gone(store, kept["main"]["gone"], kept["stable"]["hello"], idle_path)
        assert all(valid(store, kept["main"]["hello"], kept["main"]["old"], kept["next/one"]["hello"])), (
            "what was renamed is the same path"
        )


async def test_nothing_moves_a_pin_back(tmp_path: Path) -> None:
    """Runs that end out of order, retries of old runs, old commits by hand; the tip by hand does move it."""
    gate = tmp_path / "gate"
    with rooting_mill(tmp_path, "unsandboxed-builds = true\n") as mill:
        store, server, project = mill.store, mill.server, mill.project("mill")
        first = project.commit(flake__nix=flake(hello=gated("hello-1", gate)))
        server.start()
        await server.ready()
        await server.until("/r/1/timeline", lambda page: bool(page["attempts"]))
        assert await press(server, "/p/mill/start", "/p/mill", ref="main") == 303
        await server.until("/r/2", lambda page: page["run"]["state"] == "building")
        second = project.commit(flake__nix=flake(hello=job("hello-2")))
        page = await run_of(server, "mill", second)
        newest = outputs(store, page, "hello")[0]
        assert await pinned(server, "mill") == {"hello": newest}
        gate.touch()
        late = await ended(server, 2)
        assert late["run"]["commit"] == first
        old = outputs(store, late, "hello")[0]
        assert is_valid(store, old)
        assert await pinned(server, "mill") == {"hello": newest}, "a run that ends late"

        assert await press(server, "/r/2/retry", "/r/2", what="anyway") == 303
        retried = await ended(server, 4)
        assert retried["run"]["commit"] == first
        assert await pinned(server, "mill") == {"hello": newest}, "a retry of an old run"

        assert await press(server, "/p/mill/start", "/p/mill", ref="main", commit=first) == 303
        assert (await ended(server, 5))["run"]["commit"] == first
        assert await pinned(server, "mill") == {"hello": newest}, "an old commit by hand"
        await until_gone(store, old)
        assert is_valid(store, newest)

        assert await press(server, "/p/mill/start", "/p/mill", ref="main") == 303
        assert (await ended(server, 6))["run"]["commit"] == second
        (pin,) = await pins(server, "mill")
        assert pin["outputs"]["out"] == newest
