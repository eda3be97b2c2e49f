"""What is good stays alive and is served: whole servers, real stores, real collections of garbage."""

from pathlib import Path

import httpx2

from tests.support.kept import (
    collect_garbage,
    fetch,
    is_valid,
    kept_mill,
    outputs,
    public_key,
    roots_of,
    until_published,
)
from tests.support.program import flake, job


async def test_the_results_of_a_branch_are_rooted_and_can_be_fetched_signed(tmp_path: Path) -> None:
    with kept_mill(tmp_path) as mill:
        project = mill.project("mill")
        commit = project.commit(
            flake__nix=flake(hello=job("hello"), other=job("other"), bad=job("bad", "echo no; exit 3"))
        )
        mill.server.start()
        await mill.server.ready()
        page = await mill.run_of("mill", commit)
        assert page["run"]["verdict"] == "failed", "one that fails takes nothing from the others"
        paths = [*outputs(mill.store, page, "hello"), *outputs(mill.store, page, "other")]

        collect_garbage(mill.store)

        assert all(is_valid(mill.store, path) for path in paths)
        assert set(paths) <= roots_of(mill.store)
        await until_published(mill.server, paths)
        key = public_key(tmp_path / "main-1.key")
        (bad,) = (row["drv_path"] for row in page["rows"] if row["status"] == "failed")
        async with httpx2.AsyncClient(base_url=mill.server.url) as client:
            said = await client.get(f"/cache/main/log/{Path(bad).name}")
        assert said.text.splitlines()[-1] == "no", "what failed is not published, and its log is there all the same"
        numbers = (await mill.server.get("/caches/main"))["cache"]
        assert (numbers["paths"], numbers["counts"]["done"]) == (2, 2)
        fetched = fetch(mill.store, f"{mill.server.url}/cache/main", tmp_path / "elsewhere", key, *paths)
        assert all((fetched / Path(path).name).exists() for path in paths)
