"""`nixmill repro URL`: commands that repeat what a page of a server shows. They are printed, never run.

What a server says ends in somebody's shell: commits must look like commits, names are quoted, and nothing that begins
with a dash is taken for anything.
"""

import os
import re
import shlex
from typing import Final
from urllib.parse import unquote, urlsplit

from nixmill.cli.client import Client, find_access
from nixmill.cli.remote import find_attribute
from nixmill.cli.watch import project_path
from nixmill.core.errors import InputError
from nixmill.core.project import SCHEMES, Project, check_url
from nixmill.core.terminal_text import sanitise
from nixmill.core.view.pages import AttributePage, EvaluationPage, LogPage, ProjectPage
from nixmill.core.view.parts import RunLine
from nixmill.nix.store_path import StorePath, StorePathError, base_name, parse

_RUN: Final = re.compile(r"/r/(\d{1,18})(?:/why/([^/]+)|/.*)?")
_LOG: Final = re.compile(r"/log/(\d{1,18})(?:/raw)?")
_ATTRIBUTE: Final = re.compile(r"/p/([^/]+)/a/([^/]+)")
_DERIVATION: Final = re.compile(r"/d/([^/]+\.drv)")
_COMMIT: Final = re.compile(r"[0-9a-f]{7,64}")


async def repro_of_page(url: str, token_file: str | None) -> list[str]:
    """Return the lines for the page of a run, an attribute or a log."""
    parts = urlsplit(url)
    path = parts.path.rstrip("/").removesuffix(".json")
    access = find_access(f"{parts.scheme}://{parts.netloc}", token_file, os.environ, pasted=True)
    async with Client(access) as client:
        if found := _RUN.fullmatch(path):
            return await _of_run(client, int(found[1]), unquote(found[2] or ""))
        if found := _LOG.fullmatch(path):
            page = await client.page(path.removesuffix("/raw"), LogPage)
            return await _of_log(client, page)
        if found := _ATTRIBUTE.fullmatch(path):
            query = f"?{parts.query}" if parts.query else ""
            history = await client.page(path + query, AttributePage)
            newest = next(iter(history.runs), None)
            if newest is None:
                raise InputError("That attribute is in no run.", "")
            return await _of_run(client, newest.run.number, history.name)
        if found := _DERIVATION.fullmatch(path):
            return _realise(StorePath(f"/nix/store/{found[1]}"))
    raise InputError(f"{url} is no page of a run, an attribute or a log.", "Such as https://ci.example.org/r/41")


async def _of_run(client: Client, number: int, attribute: str) -> list[str]:
    page = await client.page(f"/r/{number}", EvaluationPage, size=1)
    line = await find_attribute(client, number, attribute) if attribute else None
    project = await _project(client, page.run)
    lines = _checkout(project, page.run)
    if line is None:
        return [*lines, " ".join(["nixmill run", *_targets(page.targets)])]
    lines += _attribute(project, page, line.name)
    return lines + (_realise(line.drv_path) if line.drv_path else [])


async def _of_log(client: Client, page: LogPage) -> list[str]:
    lines = _checkout(await _project(client, page.run), page.run) if page.run is not None else []
    return lines + _realise(page.attempt.drv_path)


async def _project(client: Client, run: RunLine) -> Project:
    project = (await client.page(project_path(run.project.name), ProjectPage)).project
    check_url(project.url, SCHEMES)
    return project


def _checkout(project: Project, run: RunLine) -> list[str]:
    """Return the commands that bring the commit of a run here."""
    if not _COMMIT.fullmatch(run.commit):
        raise InputError(f"Run {run.number} has no commit yet.", f"Look at it: nixmill status {run.number}")
    said = sanitise(run.sentence or run.state.value, colour=False)
    name = shlex.quote(project.name)
    return [
        f"# run {run.number} of {project.name}: {said}",
        f"git clone {shlex.quote(project.url)} {name}",
        f"cd {name}",
        f"git checkout {run.commit}",
    ]


def _attribute(project: Project, page: EvaluationPage, name: str) -> list[str]:
    """Return the commands that check one attribute: with nixmill, then, for a flake, with Nix alone."""
    flake = next((target.partition("#")[0] or "." for target in page.targets if "#" in target), None)
    if flake is None:
        file = next((word for target in page.targets for word in target.split()[:1]), "release.nix")
        return [f"nixmill run {_word(file)} -A {shlex.quote(name)}"]
    lines = [f"nixmill run {shlex.quote(f'{flake}#{name}')}"]
    if "\\" not in name and project.url.startswith(("https://", "ssh://", "http://", "file://")):
        lines += ["# with Nix alone:", f"nix build {shlex.quote(f'git+{project.url}?rev={page.run.commit}#{name}')}"]
    return lines


def _realise(drv_path: StorePath) -> list[str]:
    try:
        base_name(parse(drv_path))
    except StorePathError:  # of another store than /nix/store, or nonsense
        return []
    return ["# exactly this derivation, while it is in the store:", f"nix-store --realise {shlex.quote(drv_path)}"]


def _targets(targets: tuple[str, ...]) -> list[str]:
    """Return the targets of a run as arguments, each as a person types it."""
    words = []
    for target in targets:
        file, dash, attribute = target.partition(" -A ")
        words += [_word(file), *(["-A", shlex.quote(attribute)] if dash else [])]
    return words


def _word(text: str) -> str:
    return shlex.quote(f"./{text}" if text.startswith("-") else text)
