"""Commands about what is kept alive: what is, what a collection would free, and pins by hand."""

import asyncio
import sys
import time
from collections.abc import Iterable
from typing import Final, NamedTuple

import msgspec

from nixmill.cli.client import Client
from nixmill.cli.named import project_here
from nixmill.cli.render.root_view import collection_lines, project_lines, server_lines
from nixmill.cli.standard_streams import columns, paint, say
from nixmill.cli.watch import project_path
from nixmill.cli.wiring import Wiring
from nixmill.core.errors import InputError
from nixmill.core.terminal_text import counted
from nixmill.core.view.roots import CollectionPage, CollectionState, ProjectRootsPage, ServerRootsPage
from nixmill.doors import DoorError
from nixmill.nix.store_path import StorePath

AGAIN_S: Final = 1.0
"""Between two looks at a dry run that goes on."""
_GOING: Final = {CollectionState.LISTING, CollectionState.MEASURING}


class Paths(msgspec.Struct, frozen=True, kw_only=True):
    """What the server answers: the store paths that were pinned or unpinned."""

    paths: tuple[StorePath, ...]


class Narrowed(NamedTuple):
    """What a list of roots is narrowed to."""

    ref: str = ""
    find: str = ""
    after: str = ""


async def roots(client: Client, project: str | None, narrowed: Narrowed, *, json: bool) -> int:
    """Print what is kept for a project, else for the whole server."""
    query: dict[str, str | int] = {key: value for key, value in narrowed._asdict().items() if value}
    if project is None and narrowed.ref:
        raise InputError("A branch belongs to a project.", f"Name it: nixmill roots PROJECT --ref {narrowed.ref}")
    if project is None:
        page = await client.page("/roots", ServerRootsPage, **query)
        _print(page, server_lines(page, paint(), time.time(), columns()), json=json)
    else:
        of_project = await client.page(f"{project_path(project)}/roots", ProjectRootsPage, **query)
        _print(of_project, project_lines(of_project, paint(), time.time(), columns()), json=json)
    return 0


async def dry_run(client: Client, *, json: bool) -> int:
    """Have the server say what a collection would free, and print it once it is known."""
    page = await client.act("POST", "/roots/collection", {}, CollectionPage)
    while page.state in _GOING:
        await asyncio.sleep(AGAIN_S)
        page = await client.page("/roots/collection", CollectionPage)
    if page.state is not CollectionState.DONE:
        fault = page.fault or "the server began anew meanwhile"
        raise DoorError(f"The dry run failed: {fault}", door="server", action="collect", retryable=True)
    _print(page, collection_lines(page, paint(), columns()), json=json)
    return 0


async def pin(
    client: Client, wiring: Wiring, what: str, project: str | None, *, reason: str, until: str, ref: str, json: bool
) -> int:
    """Keep a store path, or an attribute's newest good result."""
    body = {"what": what, "reason": reason, "until": until, "ref": ref}
    answer = await client.act("POST", f"{await _place(client, wiring, what, project)}/roots/pin", body, Paths)
    return _said(answer, "Pinned", json=json)


async def unpin(client: Client, wiring: Wiring, what: str, project: str | None, *, ref: str, json: bool) -> int:
    """Take back what was pinned by hand."""
    body = {"what": what, "ref": ref}
    answer = await client.act("POST", f"{await _place(client, wiring, what, project)}/roots/unpin", body, Paths)
    return _said(answer, "Unpinned", json=json)


async def _place(client: Client, wiring: Wiring, what: str, project: str | None) -> str:
    """Return where something is pinned: an attribute in its project, a store path on the server if none is named."""
    if project is None and what.startswith("/"):
        return ""
    return project_path(project or await project_here(client, wiring))


def _said(answer: Paths, did: str, *, json: bool) -> int:
    _print(answer, [paint().text(path) for path in answer.paths], json=json)
    say(f"{did} {counted(len(answer.paths), 'store path')}.")
    return 0


def _print(page: msgspec.Struct, lines: Iterable[str], *, json: bool) -> None:
    if json:
        sys.stdout.buffer.write(msgspec.json.format(msgspec.json.encode(page)) + b"\n")
    else:
        print(*lines, sep="\n")  # noqa: T201 - the result is what is asked for
