"""A whole server that keeps and publishes results, and what a test asks of its store and caches."""

import asyncio
import os
import re
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Callable, Collection, Iterator
from contextlib import asynccontextmanager, contextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any, Final

import httpx2

from nixmill.nix.signature import SecretKey, secret_text
from tests.support.mill import Mill, a_mill
from tests.support.nix_world import run
from tests.support.program import Project
from tests.support.pull_server import PullServer, pull_server
from tests.support.scratch_store import ScratchStore
from tests.support.server import PASSWORD, ServerProgram

HURRIED: Final = (sys.executable, str(Path(__file__).with_name("kept_program.py")))
"""A server that lets go at once of what nothing wants."""


def key_file(directory: Path, name: str) -> Path:
    """Make a secret key that only we can read; return its file."""
    file = directory / f"{name}.key"
    with os.fdopen(os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as stream:
        stream.write(secret_text(name, os.urandom(32)))
    return file


def public_key(file: Path) -> str:
    """Return the public half of a key file."""
    return SecretKey(file.read_text()).public()


CACHE = """
[credentials]
cache-key = "{key}"

[[cache]]
name = "main"
keys = ["cache-key"]
upstream-keys = []
"""


@contextmanager
def kept_mill(top: Path, settings: str = "") -> Iterator[Mill]:
    """Give a mill whose server has one disk cache for the results of branches."""
    with a_mill(top, CACHE.format(key=key_file(top, "main-1")) + settings) as mill:
        yield mill


@contextmanager
def rooting_mill(top: Path, settings: str = "", program: tuple[str, ...] = HURRIED) -> Iterator[Mill]:
    """Give a mill without caches, whose server is in a hurry unless told otherwise, with the administrator `mia`."""
    with a_mill(top, settings) as mill:
        mill.server.program = program
        (top / "projects.toml").touch()
        mill.server.command("user", "create", "mia", "--admin", "--password-stdin", stdin=f"{PASSWORD}\n")
        yield mill


@asynccontextmanager
async def kept_pulls(directory: Path, store: ScratchStore, settings: str = "") -> AsyncIterator[PullServer]:
    """Give a server in a hurry beside a Gitea, not started yet."""
    async with pull_server(directory, store, settings) as world:
        world.server.program = HURRIED
        world.hub.server.start -= timedelta(days=2)  # its clock runs ahead, and what is closed counts from then
        yield world


def links_of(store: ScratchStore) -> dict[str, str]:
    """Return the roots of servers: what the links lead to, by their names."""
    links = Path(store.environment["NIX_STATE_DIR"]).glob("gcroots/nixmill*/*")
    return {link.name: str(link.readlink()) for link in links if link.is_symlink()}


def roots_of(store: ScratchStore) -> set[str]:
    """Return the store paths that roots of servers stand for, as links say."""
    return set(links_of(store).values())


_DELETED: Final = re.compile(r"^(\d+) store paths deleted", re.MULTILINE)


def collect_garbage(store: ScratchStore) -> int:
    """Delete everything that is not rooted; return how many paths that were."""
    said = run(store, "nix-collect-garbage")
    found = _DELETED.search(said)
    assert found is not None, said
    return int(found[1])


def delete_by_force(store: ScratchStore, *paths: str) -> None:
    """Delete paths that are rooted."""
    run(store, "nix-store", "--delete", "--ignore-liveness", *paths)


def drv_of(page: Any, name: str) -> str:  # noqa: ANN401 - the page of a run
    """Return the derivation of an attribute of a run."""
    (drv_path,) = {row["drv_path"] for row in page["rows"] if row["name"].rpartition(".")[2] == name}
    return str(drv_path)


def outputs(store: ScratchStore, page: Any, name: str) -> list[str]:  # noqa: ANN401 - the page of a run
    """Return the output paths of an attribute of a run."""
    return run(store, "nix-store", "--query", "--outputs", drv_of(page, name)).split()


def is_valid(store: ScratchStore, path: str) -> bool:
    """Say whether a path is in a store."""
    asked = subprocess.run(
        ["nix-store", "--check-validity", path], env=store.environment, capture_output=True, check=False
    )
    return asked.returncode == 0


async def pins(server: ServerProgram, project: str, ref: str = "") -> list[Any]:
    """Return the pins that the page of a project's roots shows."""
    page = await server.get(f"/p/{project}/roots" + (f"?ref={ref}" if ref else ""))
    return list(page["pins"])


async def pinned(server: ServerProgram, project: str, ref: str = "main") -> dict[str, str]:
    """Return the first output of the newest pin of each attribute of a branch, by the attribute's name."""
    found = [one for one in await pins(server, project, ref) if one["generation"] == 1]
    return {one["path"][-1]: min(one["outputs"].items(), key=lambda named: named[0] != "out")[1] for one in found}


async def ended(server: ServerProgram, run_number: int, verdict: str = "passed") -> Any:  # noqa: ANN401 - a page
    """Return the page of a run that has its verdict (empty: any), with all attributes."""
    await server.ended(run_number)
    page = await server.get(f"/r/{run_number}?show=all")
    assert verdict in {"", page["run"]["verdict"]}, (page, server.log)
    return page


async def run_of(server: ServerProgram, project: str, commit: str, ref: str = "main", verdict: str = "passed") -> Any:  # noqa: ANN401 - a page
    """Return the page of the newest run of a commit on a branch, as `ended` does."""

    def mine(page: Any) -> list[int]:  # noqa: ANN401 - a page
        return [run["number"] for run in page["runs"] if run["commit"] == commit and run["ref"] == f"refs/heads/{ref}"]

    return await ended(server, max(mine(await server.until(f"/p/{project}", lambda page: bool(mine(page))))), verdict)


async def built(server: ServerProgram, run_number: int) -> list[str]:
    """Return the names of what a run built or fetched."""
    return [one["name"] for one in (await server.get(f"/r/{run_number}/timeline"))["attempts"]]


async def until(holds: Callable[[], bool], what: str, seconds: float = 60.0) -> None:
    """Wait until something holds."""
    end = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < end, f"waited in vain for {what}"
        await asyncio.sleep(0.05)


async def until_gone(store: ScratchStore, *paths: str) -> None:
    """Wait until no root stands for paths, and a collection deletes them: a run that ends holds them a moment."""
    await until(lambda: not roots_of(store) & set(paths), f"no roots of {paths}")

    def are_gone() -> bool:
        collect_garbage(store)
        return not [path for path in paths if is_valid(store, path)]

    try:
        await until(are_gone, f"{paths} to be collected", 20.0)
    except AssertionError:
        left = [path for path in paths if is_valid(store, path)]
        raise AssertionError(f"{left}: {run(store, 'nix-store', '--query', '--roots', *left)}") from None


async def press(server: ServerProgram, path: str, page: str, **fields: str) -> int:
    """Press a button of a page as the administrator; return the answer's status."""
    async with server.administrator() as browser:
        return int((await browser.post(path, fields, page=page)).status_code)


def branch(project: Project, name: str, **files: str) -> str:
    """Commit files on a branch that begins at main; return the commit."""
    project.git("checkout", "-q", "-B", name, "main")
    commit = project.commit(**files)
    project.git("checkout", "-q", "main")
    return commit


async def until_published(server: ServerProgram, paths: Collection[str], cache: str = "main") -> None:
    """Wait until a cache answers for paths."""
    async with asyncio.timeout(60), httpx2.AsyncClient(base_url=server.url) as client:
        for path in paths:
            name = f"/cache/{cache}/{path.rpartition('/')[2][:32]}.narinfo"
            while (await client.get(name)).status_code != 200:  # noqa: ASYNC110 - of another process
                await asyncio.sleep(0.05)


def fetch(store: ScratchStore, cache: str, elsewhere: Path, key: str, *paths: str) -> Path:
    """Copy paths from a cache to another machine, as it were: a store with the same store directory, empty before.

    Returns where its files are. Signatures by `key` are required.
    """
    place = f"local?store={store.store_dir}&real={elsewhere}/real&state={elsewhere}/state&log={elsewhere}/log"
    trusted = ("--option", "trusted-public-keys", key)
    run(store, "nix", "copy", "--from", cache, "--to", place, *trusted, *paths)
    return elsewhere / "real"
