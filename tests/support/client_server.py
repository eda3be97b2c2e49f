"""A small real HTTP server that speaks the web's contract with canned pages, and can be made to misbehave."""

import asyncio
import contextlib
import os
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgspec
import uvicorn
from fastapi import APIRouter, FastAPI, Request, Response
from fastapi.responses import StreamingResponse

from nixmill.config.projects_file import DeclaredProject
from nixmill.core.access import Role, Sight
from nixmill.core.account import Member
from nixmill.core.project import Jobset, Project
from nixmill.core.view.pages import LogPage
from nixmill.core.view.parts import Filter
from tests.fakes.pages import BUILDING_RUN, FakeProjectPages, FakeRunPages, attempt, link, run
from tests.fakes.pages_b import BusyOffice
from tests.support.program import NIXMILL, Done

ALL = Sight(everything=True)
TOKEN = "nm_secret-of-anna"  # noqa: S105 - opens nothing
LOG = "".join(f"line {number}\n" for number in range(1, 9)).encode()


@dataclass
class ClientServer:
    """What was asked, and how to misbehave."""

    url: str
    home: Path
    runs: FakeRunPages = field(default_factory=FakeRunPages)
    asked: list[tuple[str, str, Any]] = field(default_factory=list)
    """Method, path, and the body's JSON."""
    headers: list[dict[str, str]] = field(default_factory=list)
    drop_log_after: int = 3
    """The stream of a log is cut off after so many lines, the first time."""
    answer: Response | None = None
    """Given to every question."""
    watched: asyncio.Event = field(default_factory=asyncio.Event)
    """Somebody opened the events of a run."""
    project_url: str = "https://git.example.org/mill.git"
    declared: dict[str, DeclaredProject] = field(default_factory=dict)
    """Projects that were added by the API."""

    async def nixmill(self, *arguments: str, stdin: str = "", cwd: Path | None = None, **environ: str) -> Done:
        """Run nixmill against this server to its end."""
        process = await self.start(*arguments, cwd=cwd, **environ)
        async with asyncio.timeout(60):
            out, err = await process.communicate(stdin.encode())
        return Done(process.returncode or 0, out.decode(), err.decode())

    async def start(self, *arguments: str, cwd: Path | None = None, **environ: str) -> asyncio.subprocess.Process:
        """Start nixmill against this server."""
        wanted = {"NIXMILL_SERVER": self.url, "NIXMILL_TOKEN": TOKEN} | environ
        pipe = asyncio.subprocess.PIPE
        return await asyncio.create_subprocess_exec(
            *NIXMILL,
            *arguments,
            cwd=cwd or self.home,
            env=environment(self.home) | wanted,
            stdin=pipe,
            stdout=pipe,
            stderr=pipe,
        )

    def _json(self, value: object) -> Response:
        return self.answer or Response(msgspec.json.encode(value), media_type="application/json")


def environment(home: Path) -> dict[str, str]:
    """Return an environment in which nothing of this user is found."""
    root = Path(__file__).parents[2]
    path = os.pathsep.join([str(root / "src"), str(root)])
    keep = {name: os.environ[name] for name in ("PATH", "LD_LIBRARY_PATH") if name in os.environ}
    return {
        **keep,
        "HOME": str(home),
        "PYTHONPATH": path,
        "LC_ALL": "C.UTF-8",
        "TERM": "xterm",
        "PYTHONWARNINGS": "error",
    }


def make_server(server: ClientServer) -> FastAPI:  # noqa: C901 - one application, a function for each page
    """Return the application."""
    app, projects = FastAPI(), FakeProjectPages()

    @app.middleware("http")
    async def note(request: Request, go_on: Callable[[Request], Awaitable[Response]]) -> Response:
        body = await request.body()
        server.asked.append((request.method, request.url.path, msgspec.json.decode(body) if body else None))
        server.headers.append(dict(request.headers))
        token = request.headers.get("authorization", "").removeprefix("Bearer ")
        if token and token != TOKEN:
            refusal = {"error": "This token is not known.", "remedy": "Make another one."}
            return Response(msgspec.json.encode(refusal), 401, media_type="application/json")
        return await go_on(request)

    app.include_router(_declared_projects(server))

    @app.get("/")
    async def home() -> Response:
        page = await projects.home(ALL)
        added = [msgspec.structs.replace(page.projects[2], project=link(name)) for name in server.declared]
        return server._json(msgspec.structs.replace(page, projects=(*page.projects, *added)))

    @app.get("/queue")
    async def queue() -> Response:
        return server._json(await BusyOffice().queue(ALL))

    @app.get("/p/{name}")
    async def project(name: str) -> Response:
        page = await projects.project(ALL, "mill")
        if page is None or name not in {"mill", "sail", "tide"}:
            return Response('{"error": "There is no such project.", "remedy": ""}', 404, media_type="application/json")
        url = server.project_url if name == "mill" else f"https://git.example.org/{name}.git"
        return server._json(
            msgspec.structs.replace(page, project=msgspec.structs.replace(page.project, name=name, url=url))
        )

    @app.get("/r/{number}")
    async def evaluation(request: Request, number: int, show: str = "", find: str = "", size: int = 200) -> Response:
        if "text/event-stream" in request.headers["accept"]:
            server.watched.set()
            return StreamingResponse(_run_events(server), media_type="text/event-stream")
        page = await server.runs.evaluation(ALL, number, Filter(show) if show else None, find, 1, size)
        return server._json(page) if page else Response("<h1>nowhere</h1>", 404)

    @app.get("/log/{number}")
    async def log(request: Request, number: int) -> Response:
        if "text/event-stream" in request.headers["accept"]:
            events = _log_events(server, int(request.headers.get("last-event-id", "0")))
            return StreamingResponse(events, media_type="text/event-stream")
        line = attempt(number, "libfoo-2.3", 10, None)
        return server._json(LogPage(attempt=line, run=run(412), others=()))

    @app.get("/log/{number}/raw")
    async def raw(number: int) -> Response:
        return Response(b"\x1b[31mred\x1b[0m \x1b]0;title\x07text\nlast", media_type="text/plain")

    @app.post("/{rest:path}")
    async def act(rest: str) -> Response:
        return server._json({"cancelled": True} if rest.endswith("cancel") else {"number": BUILDING_RUN})

    return app


def _declared_projects(server: ClientServer) -> APIRouter:
    """Return the part of the API by which projects are added and changed."""
    router = APIRouter()

    @router.post("/p")
    @router.put("/p/{name}")
    async def save(request: Request) -> Response:
        body = await request.json()
        project = msgspec.convert(body["project"], Project)
        jobsets = msgspec.convert(body["jobsets"], tuple[Jobset, ...])
        server.declared[project.name] = DeclaredProject(project=project, jobsets=jobsets)
        return server._json(project)

    @router.delete("/p/{name}")
    async def remove(name: str) -> Response:
        del server.declared[name]
        return server._json({})

    @router.get("/p/loom")
    async def page() -> Response:
        one, like = server.declared["loom"], await FakeProjectPages().project(ALL, "mill")
        assert like is not None
        return server._json(msgspec.structs.replace(like, project=one.project, jobsets=one.jobsets))

    @router.get("/p/loom/members")
    async def members() -> Response:
        known = [Member(project=1, user=1, name=name, role=role) for name, role in server.declared["loom"].members]
        return server._json({"project": "loom", "members": known})

    @router.post("/p/loom/members")
    async def set_member(request: Request) -> Response:
        body = await request.json()
        one = server.declared["loom"]
        kept = tuple(member for member in one.members if member[0] != body["user"])
        given = ((body["user"], Role(body["role"])),) if body["role"] else ()
        server.declared["loom"] = msgspec.structs.replace(one, members=(*kept, *given))
        return server._json({})

    @router.get("/p/loom/rules")
    @router.post("/p/loom/rules")
    async def rules() -> Response:
        return server._json({"rules": server.declared["loom"].rules})

    return router


async def _run_events(server: ClientServer) -> AsyncIterator[bytes]:
    """Tell of the building run until it has ended."""
    while not server.runs.ended:
        yield b"event: changed\ndata: {}\n\n"
        await asyncio.sleep(0.02)
    yield b"event: ended\ndata: {}\n\n"


async def _log_events(server: ClientServer, offset: int) -> AsyncIterator[bytes]:
    for line in LOG[offset:].splitlines(keepends=True):
        if offset >= server.drop_log_after * 7 > 0:
            server.drop_log_after = 0
            raise ConnectionResetError
        offset += len(line)
        yield b"id: %d\nevent: lines\ndata: %s\n\n" % (offset, msgspec.json.encode({"text": line.decode()}))
    yield b"event: ended\ndata: {}\n\n"


@contextlib.asynccontextmanager
async def client_server(home: Path) -> AsyncIterator[ClientServer]:
    """Run the server on a free port of loopback."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        server = ClientServer(f"http://127.0.0.1:{listener.getsockname()[1]}", home)
        config = uvicorn.Config(
            make_server(server), log_config=None, lifespan="off", ws="none", timeout_graceful_shutdown=1
        )
        uvicorn_server = uvicorn.Server(config)
        running = asyncio.create_task(uvicorn_server._serve([listener]))
        try:
            yield server
        finally:
            uvicorn_server.should_exit = True
            await running
