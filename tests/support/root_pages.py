"""A web world with pins of every kind, uploads and caches, some of which try to do harm."""

import contextlib
import json
from collections.abc import AsyncIterator, Mapping
from typing import Any, Final

import msgspec
from sqlalchemy import insert

from nixmill.core.access import Role, Visibility
from nixmill.core.pin import RootPolicy
from nixmill.core.pull_request import PullState
from nixmill.core.upload import ResultClass, UploadState
from nixmill.core.view.parts import ProjectLink
from nixmill.core.view.roots import CacheLine, CachePage, UploadLine
from nixmill.edge.database.database import Database
from nixmill.edge.database.rows import path_text
from nixmill.edge.database.tables_roots import hand_pin, pin, upload
from nixmill.nix.store_path import StorePath
from tests.fakes.roots import FakeCacheDesk
from tests.support.forge_things import a_pull, a_pull_change
from tests.support.pages_world import World, attribute
from tests.support.web import WebWorld, web_world

HOSTILE: Final = "<script>window.broken=1</script>\u202egnp.exe\x1b[31m"
QUIET: Final = "quiet-mill"
MAIN: Final = "refs/heads/main"


def hash_of(name: str) -> StorePath:
    """Return the output path that an attribute `NAME-VERSION` of the small world has."""
    stem, _, version = name.rpartition("-")
    return StorePath(str(attribute(stem, version).outputs["out"]))


def pin_values(project: int, name: str, **fields: Any) -> dict[str, Any]:  # noqa: ANN401 - columns
    """Return the columns of a pin of `checks.x86_64-linux.NAME`."""
    of = attribute(name, str(fields.pop("version", "1")))
    return {
        "project": project,
        "ref": MAIN,
        "path": path_text(of.path),
        "run": 1,
        "order": 1,
        "drv_path": of.drv_path,
        "outputs": json.dumps(of.outputs),
        "policy": RootPolicy.PIN_IF_LOCAL.value,
        "keep": 1,
        "held": "",
        "at": 1000.0,
        "gone_at": None,
    } | fields


def hand_values(project: int | None, path: StorePath, **fields: Any) -> dict[str, Any]:  # noqa: ANN401 - columns
    """Return the columns of a pin by hand."""
    made = {"project": project, "store_path": path, "ref": "", "attribute": None, "reason": "Needed for the release"}
    return made | {"user": None, "who": "anna", "at": 1000.0, "until": None} | fields


def upload_values(cache: str, path: StorePath, project: int | None, **fields: Any) -> dict[str, Any]:  # noqa: ANN401 - columns
    """Return the columns of an upload."""
    made = {"cache": cache, "path": path, "project": project, "run": 1, "state": UploadState.WAITING.value}
    return made | {"tries": 0, "due_at": 0.0, "fault": "", "at": 1000.0, "done_at": None} | fields


async def write(database: Database, table: Any, *rows: Mapping[str, Any]) -> None:  # noqa: ANN401 - any table
    """Write rows as they are."""
    for row in rows:
        await database.write(lambda connection, row=row: connection.execute(insert(table).values(**row)), action="fill")  # type: ignore[misc]


def a_cache(name: str, **fields: Any) -> CachePage:  # noqa: ANN401 - of the cache's line
    """Return a cache of branches, with a path that could not be published."""
    address = f"https://ci.example.org/cache/{name}"
    made: dict[str, Any] = {
        "kind": "disk",
        "results": ResultClass.BRANCH,
        "private": False,
        "address": address,
        "priority": 40,
    }
    line = CacheLine(name=name, **(made | fields))
    link = ProjectLink(id=1, name="mill", title="The mill", visibility=Visibility.PUBLIC)
    failed = UploadLine(
        path=hash_of("a-1"),
        project=link,
        run=1,
        state=UploadState.FAILED,
        tries=9,
        due_at=0.0,
        fault=f"The disk of the cache is full {HOSTILE}.",
        at=1000.0,
    )
    return CachePage(
        cache=line,
        projects=(),
        public_keys=(f"{name}-1:KEY",),
        nix_conf=f"extra-substituters = {address}\nextra-trusted-public-keys = {name}-1:KEY\n",
        nixos=f'nix.settings = {{\n  extra-substituters = [ "{address}" ];\n}};\n',
        flake=f'nixConfig = {{\n  extra-substituters = [ "{address}" ];\n}};\n',
        netrc="machine ci.example.org login nixmill password TOKEN\n" if line.private else "",
        uploads=(failed, msgspec.structs.replace(failed, state=UploadState.WAITING, fault="", path=hash_of("b-1"))),
    )


async def fill(world: WebWorld) -> None:
    """Pin things in two projects, one of which is private."""
    pages, now = World(world.database), world.clock.now()
    mill = await pages.project("mill", Visibility.PUBLIC, "refs/heads/stable")
    secret = await pages.project(QUIET, Visibility.PRIVATE)
    run = await pages.whole(mill, names=("a", "b", "c"))
    await pages.start(mill)
    await world.site.pulls.saw(
        mill.id, a_pull(7, title=f"Grind finer {HOSTILE}", state=PullState.OPEN), [a_pull_change(mill.id, 7)]
    )
    several = {"out": hash_of("b-1"), "dev": hash_of("bdev-1")}
    await write(
        world.database,
        pin,
        pin_values(mill.id, "a", run=run, order=run, version="2", keep=2, at=now - 60),
        pin_values(mill.id, "a", run=999, order=run - 1, keep=2, at=now - 9999),
        pin_values(mill.id, "b", run=run, order=run, at=now - 60, outputs=json.dumps(several)),
        pin_values(mill.id, "c", run=run, order=run, at=now - 60, held="upstream", policy="pin-in-cache"),
        pin_values(mill.id, "gone", run=run, order=run, at=now - 60, gone_at=now - 86_400),
        pin_values(mill.id, "hostile", run=run, order=run, at=now - 60, path=path_text(("checks", HOSTILE))),
        pin_values(mill.id, "b", ref="refs/heads/stable", run=run, order=run, at=now - 60),
        pin_values(secret.id, "secret", run=run, order=run, at=now - 60),
    )
    await write(
        world.database,
        hand_pin,
        hand_values(mill.id, hash_of("a-1"), at=now - 60, until=now + 86_400, attribute=path_text(("checks", "a"))),
        hand_values(mill.id, hash_of("b-1"), at=now - 60, reason=HOSTILE, who=HOSTILE),
        hand_values(secret.id, hash_of("secret-1"), at=now - 60, reason="hush-hush"),
        hand_values(None, hash_of("secret-1"), at=now - 60, reason="hush-hush"),
    )
    await write(world.database, upload, upload_values("main", hash_of("secret-1"), secret.id, fault="hush-hush"))


@contextlib.asynccontextmanager
async def filled_world() -> AsyncIterator[WebWorld]:
    """Run the application with all that, a member and a viewer of the mill, and an insider of the private project."""
    async with web_world() as made:
        await fill(made)
        for name in ("member", "viewer", "insider", "root"):
            await made.user(name, admin=name == "root")
        mill, secret = await made.site.projects.project("mill"), await made.site.projects.project(QUIET)
        assert mill is not None and secret is not None
        await made.site.members.set_member(mill.id, made.users["member"].id, Role.MEMBER)
        await made.site.members.set_member(mill.id, made.users["viewer"].id, Role.VIEWER)
        await made.site.members.set_member(secret.id, made.users["insider"].id, Role.VIEWER)
        caches: Any = made.site.cache_desk
        assert isinstance(caches, FakeCacheDesk)
        caches.known = {
            "main": a_cache(
                "main", counts={"failed": 1, "refused": 1, "waiting": 1, "done": 2040}, paths=2040, size=9**9
            ),
            "private-one": a_cache("private-one", private=True),
        }
        yield made
