"""What only a cache holds, what is there already, and what cannot be rooted: duties follow the state of a result."""

import hashlib
from pathlib import Path

from tests.support.kept import (
    built,
    collect_garbage,
    delete_by_force,
    ended,
    is_valid,
    kept_mill,
    outputs,
    pinned,
    pins,
    press,
    rooting_mill,
    roots_of,
    run_of,
    until_published,
)
from tests.support.nix_world import run
from tests.support.program import flake, job
from tests.support.scratch_store import ScratchStore

POLICIES = ("require-local", "pin-if-local", "pin-in-cache")
ATTRIBUTES = 30


def toml(policy: str) -> str:
    """Return the file that asks for a policy."""
    return f'[roots]\npolicy = "{policy}"\n'


def instantiated(store: ScratchStore, expression: str) -> str:
    """Write the derivation that a flake with this expression has; return it."""
    return run(store, "nix-instantiate", "--expr", expression).strip()


def in_cache_only(store: ScratchStore, cache: Path, expression: str) -> str:
    """Build something, and leave it in a cache alone; return its path."""
    path = run(store, "nix-store", "--realise", instantiated(store, expression)).strip()
    run(store, "nix", "copy", "--to", f"file://{cache}", path)
    run(store, "nix-store", "--delete", path)
    return path


async def test_what_only_a_substituter_holds_is_fetched_or_left_as_the_policy_says(tmp_path: Path) -> None:
    with rooting_mill(tmp_path, 'roots.policy = "require-local"') as mill:
        store, server, cache = mill.store, mill.server, tmp_path / "upstream"
        paths, commits = {}, {}
        for policy in (*POLICIES, "default"):
            away, input_ = job(f"away-{policy}"), job(f"input-{policy}")
            paths[policy] = in_cache_only(store, cache, away)
            in_cache_only(store, cache, input_)
            text = flake(away=away, user=job(f"user-{policy}", "read x < $needs; echo $x > $out", f"needs = {input_};"))
            more = {} if policy == "default" else {"nixmill__toml": toml(policy)}
            commits[policy] = mill.project(policy).commit(flake__nix=text, **more)
        configuration = store.environment["NIX_CONFIG"]
        store.environment["NIX_CONFIG"] = configuration.replace(
            "substituters =", f"substituters = file://{cache}?trusted=1"
        )
        server.start()
        await server.ready()
        for policy, path in paths.items():
            page = await run_of(server, policy, commits[policy])
            names = await built(server, page["run"]["number"])
            held = {one["path"][-1]: one["held"] for one in await pins(server, policy)}
            fetched = policy in {"require-local", "default"}
            assert is_valid(store, path) is fetched, policy
            assert (path in roots_of(store)) is fetched, policy
            assert held == {"away": "" if fetched else "substituter", "user": ""}, policy
            assert (f"away-{policy}" in names) is fetched, (policy, names)
            assert f"user-{policy}" in names
        collect_garbage(store)
        assert is_valid(store, paths["require-local"]) and is_valid(store, paths["default"])
        attempts = (await server.get("/r/1/timeline"))["attempts"]
        fetches = [one for one in attempts if one["work"] == "fetch"]
        assert fetches
        assert not any(one["has_log"] for one in fetches)


async def test_what_only_our_own_cache_holds_is_fetched_or_left_as_the_policy_says(tmp_path: Path) -> None:
    with kept_mill(tmp_path) as mill:
        store, server = mill.store, mill.server
        commits = {
            policy: mill.project(policy).commit(flake__nix=flake(x=job(f"x-{policy}")), nixmill__toml=toml(policy))
            for policy in POLICIES
        }
        server.start()
        await server.ready()
        paths = {}
        for policy, commit in commits.items():
            paths[policy] = outputs(store, await run_of(server, policy, commit), "x")[0]
        await until_published(server, paths.values())
        delete_by_force(store, *paths.values())
        for policy, path in paths.items():
            user = job(f"user-{policy}", "read x < $needs; echo $x > $out", f"needs = {job(f'x-{policy}')};")
            text = flake(x=job(f"x-{policy}")) if policy != "pin-in-cache" else flake(x=job(f"x-{policy}"), user=user)
            commit = mill.projects[policy].commit(flake__nix=text, note__txt="more")
            page = await run_of(server, policy, commit)
            (held,) = [one["held"] for one in await pins(server, policy) if one["path"][-1] == "x"]
            here = policy != "pin-if-local"  # what is built from it needs it here, whatever the policy
            assert is_valid(store, path) is here, (policy, page["notices"])
            assert held == ("" if policy == "require-local" else "main"), policy
            assert page["run"]["verdict"] == "passed"
            attempts = (await server.get(f"/r/{page['run']['number']}/timeline"))["attempts"]
            assert [one["work"] for one in attempts if one["name"] == f"x-{policy}"] == (["fetch"] if here else [])


async def test_what_is_there_already_is_pinned_and_published_all_the_same(tmp_path: Path) -> None:
    """Nothing is skipped for duties (scenario D8); what has a fixed output is found under another derivation (Q5)."""
    with kept_mill(tmp_path) as mill:
        store, server = mill.store, mill.server
        digest = hashlib.sha256(b"made\n").hexdigest()
        fixed = f'outputHashMode = "flat"; outputHashAlgo = "sha256"; outputHash = "{digest}";'
        there, same = job("there"), job("same", extra=fixed)
        for expression in (there, same):
            run(store, "nix-store", "--realise", instantiated(store, expression))
        again = job("same", "echo made > $out; : differently", fixed)
        commit = mill.project("mill").commit(flake__nix=flake(there=there, same=again))
        server.start()
        await server.ready()
        page = await run_of(server, "mill", commit)
        assert await built(server, page["run"]["number"]) == []
        paths = [*outputs(store, page, "there"), *outputs(store, page, "same")]
        assert set((await pinned(server, "mill")).values()) == set(paths)
        collect_garbage(store)
        assert all(is_valid(store, path) for path in paths)
        await until_published(server, paths)


async def test_one_path_that_cannot_be_rooted_is_its_own_attributes_trouble(tmp_path: Path) -> None:
    with rooting_mill(tmp_path) as mill:
        store, server = mill.store, mill.server
        jobs = {f"a{number}": job(f"a{number}") for number in range(ATTRIBUTES)}
        drv_path = instantiated(store, jobs["a7"])
        (path,) = run(store, "nix-store", "--query", "--outputs", drv_path).split()
        directory = Path(store.environment["NIX_STATE_DIR"]) / "gcroots/nixmill-here"
        server.settings += f'\nroots.directory = "{directory}"\n'
        in_its_place = directory / Path(path).name[:32]
        in_its_place.mkdir(parents=True)
        commit = mill.project("mill").commit(flake__nix=flake(**jobs))
        server.start()
        await server.ready()
        page = await run_of(server, "mill", commit, verdict="our trouble")
        bad = {row["name"]: row for row in page["rows"] if row["status"] != "passed"}
        assert list(bad) == ["checks.x86_64-linux.a7"]
        assert "cannot be kept" in str(bad), bad
        assert len(await pinned(server, "mill")) == ATTRIBUTES - 1
        in_its_place.rmdir()
        assert await press(server, "/r/1/retry", "/r/1", what="failed") == 303
        await ended(server, 2)
        assert len(await pinned(server, "mill")) == ATTRIBUTES
        collect_garbage(store)
        assert is_valid(store, path)
