"""A whole server that watches checkouts declared in a file, so that it needs no command and nobody who signs in."""

import contextlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from tests.support.program import Project, job
from tests.support.scratch_store import ScratchStore, scratch_store
from tests.support.server import ServerProgram


def declared(name: str, url: str, more_lines: str = "", **fields: object) -> str:
    """Return the lines of a projects file that declare a project which is looked at every second."""
    more = {"poll-s": 1, **{key.replace("_", "-"): value for key, value in fields.items()}}
    lines = [f'[[project]]\nname = "{name}"\nurl = "{url}"', *(f"{key} = {value}" for key, value in more.items())]
    return "\n".join([*lines, '[[project.jobset]]\nname = "all"\nbranches = ["*"]', f"{more_lines}\n"])


def gated(name: str, gate: Path) -> str:
    """Return a job that runs until a file is there."""
    return job(name, f"while [ ! -e {gate} ]; do sleep 0.05; done; echo > $out")


class Mill:
    """A server, and checkouts by name that it watches."""

    def __init__(self, top: Path, store: ScratchStore, settings: str = "", state: Path | None = None) -> None:
        self.top = top
        self.store = store
        self.projects: dict[str, Project] = {}
        self.declared = ""
        settings = f'projects-file = "{top / "projects.toml"}"\n{settings}'
        self.server = ServerProgram(Project(top, store), state or top / "state", settings)

    def project(self, name: str, url: str = "", more_lines: str = "", **fields: object) -> Project:
        """Declare a project; without a URL it is a checkout here."""
        directory = self.top / name
        directory.mkdir()
        made = self.projects[name] = Project(directory, self.store)
        self.declared += declared(name, url or f"file://{directory}", more_lines, **fields)
        (self.top / "projects.toml").write_text(self.declared)
        return made

    async def page(self, name: str, holds: Callable[[Any], bool] = lambda _: True) -> Any:  # noqa: ANN401 - a page
        """Return a project's page as soon as something holds of it."""
        return await self.server.until(f"/p/{name}", holds)

    async def run_of(self, name: str, commit: str) -> Any:  # noqa: ANN401 - a page
        """Return the page of the run of a commit, once it has its verdict."""
        page = await self.page(name, lambda page: any(run["commit"] == commit for run in page["runs"]))
        number = next(run["number"] for run in page["runs"] if run["commit"] == commit)
        return await self.server.ended(number)


@contextlib.contextmanager
def a_mill(top: Path, settings: str = "", state: Path | None = None) -> Iterator[Mill]:
    """Make a mill whose server is not started yet; it is killed in the end."""
    with scratch_store() as store:
        mill = Mill(top, store, settings, state)
        try:
            yield mill
        finally:
            mill.server.kill()
