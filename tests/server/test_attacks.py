"""What hostile repositories and clients tried and did not get: each of these worked once."""

import asyncio
import contextlib
import os
import resource
import socket
import stat
import time
from collections.abc import AsyncIterator
from pathlib import Path

import httpx2
import pytest
import uvicorn
from starlette.requests import Request
from starlette.types import Message, Receive, Scope, Send

from nixmill.app import connection
from nixmill.edge.evaluator import confine
from nixmill.web import middleware, problems
from nixmill.web.rate_limit import keys_of
from tests.support.program import Project, flake, job
from tests.support.scratch_store import ScratchStore
from tests.support.server import PASSWORD, ServerProgram
from tests.support.web import WebWorld, web_world

MARK = "what-only-the-server-may-read"
NO_REVISION = "0" * 40


@pytest.fixture
async def server(tmp_path: Path, fresh_store: ScratchStore) -> AsyncIterator[ServerProgram]:
    """A server that is not started yet, with one public project, one that is private, and a credential."""
    top, other, secret = tmp_path / "mill", tmp_path / "other", tmp_path / "secret"
    for directory in (top, other):
        directory.mkdir()
    secret.touch(0o600)
    secret.write_text(MARK)
    made = ServerProgram(Project(top, fresh_store), tmp_path / "state", f'[credentials]\ngit-other = "{secret}"\n')
    made.project.commit(flake__nix=flake(hello=job("hello")))
    Project(other, fresh_store).commit(flake__nix=flake(hello=job("hello")), hidden=MARK)
    made.command("user", "create", "mia", "--admin", "--password-stdin", stdin=f"{PASSWORD}\n")
    made.command("projects", "add", "mill", f"file://{top}")
    made.command("projects", "add", "other", f"file://{other}", "--visibility", "private")
    try:
        yield made
    finally:
        made.kill()


def reading(expression: str) -> str:
    """Return a job that shows the value of an expression in its log."""
    return job("reader", f"echo '[${{{expression}}}]'; exit 1").replace("''${", "${")


def tree_at(path: Path, more: str = "") -> str:
    return f'(builtins.fetchTree {{ type = "path"; path = "{path}"; {more} }}).outPath'


async def told(server: ServerProgram, number: int) -> str:
    """Return everything that a run told."""
    page = await server.ended(number)
    attempts = [row["attempt"] for row in page["rows"] if row.get("attempt")]
    async with httpx2.AsyncClient(base_url=server.url, timeout=30) as client:
        logs = [(await client.get(f"/log/{attempt}/raw")).text for attempt in attempts]
        why = [(await client.get(f"/r/{number}/why/{row['name']}")).text for row in page["rows"]]
    return "\n".join([str(page), *logs, *why])


async def first_run(server: ServerProgram) -> int:
    """Wait for the end of the first run of the public project: of two, strangers see one."""
    end = time.monotonic() + 60
    while True:
        for number in (1, 2):
            page = await server.get(f"/r/{number}")
            if page is not None and page["run"]["state"] == "done":
                return number
        assert time.monotonic() < end, server.log
        await asyncio.sleep(0.05)


async def look(server: ServerProgram) -> None:
    async with server.administrator() as browser:
        assert (await browser.post("/p/mill/look", page="/p/mill")).status_code == 303


@pytest.mark.skipif(not confine.is_possible(), reason="this kernel has no Landlock")
async def test_an_evaluation_cannot_read_the_server(server: ServerProgram, tmp_path: Path) -> None:
    """In pure mode an invented `rev` lets Nix 2.8 copy any directory; in restricted mode not even that is needed."""
    server.start()
    await server.ready()
    assert server.process is not None
    await first_run(server)
    fake = f'rev = "{NO_REVISION}";'
    mirrors = server.state / "mirrors"
    through_proc = Path(f"/proc/{server.process.pid}/root{server.state}")
    wanted = {
        "key": f'builtins.hashString "sha256" (builtins.toJSON (builtins.readDir {tree_at(server.state, fake)}))',
        "mirror": f"builtins.toJSON (builtins.readDir {tree_at(mirrors, fake)})",
        "secret": f"builtins.readFile {tree_at(tmp_path / 'secret', fake)}",
        "proc": f"builtins.toJSON (builtins.readDir {tree_at(through_proc / 'mirrors', fake)})",
    }
    own = "builtins.readFile ./own"
    jobs = {name: reading(expression) for name, expression in {**wanted, "own": own}.items()}
    server.project.commit(flake__nix=flake(**jobs), own="the tree itself")
    await look(server)
    said = await told(server, 3)
    assert "[the tree itself]" in said
    assert MARK not in said
    assert said.count("Permission denied") >= len(wanted)
    assert "1.git" not in said
    await _file_target(server, wanted, own)


async def _file_target(server: ServerProgram, wanted: dict[str, str], own: str) -> None:
    """The same without a flake."""
    bodies = "".join(f"{name} = {reading(expression)};\n" for name, expression in {**wanted, "own": own}.items())
    server.project.git("rm", "-q", "flake.nix")
    server.project.commit(release__nix="{\n" + bodies.replace(f'rev = "{NO_REVISION}";', "") + "}")
    await look(server)
    said = await told(server, 4)
    assert "[the tree itself]" in said
    assert MARK not in said
    assert "1.git" not in said


async def test_a_build_does_not_get_the_server_s_environment(server: ServerProgram) -> None:
    """A derivation whose output's hash is known may name variables of whoever builds it (`impureEnvVars`)."""
    server.project.store.environment.update(
        CREDENTIALS_DIRECTORY=f"/{MARK}", AWS_SECRET_ACCESS_KEY=MARK, NIXMILL_TOKEN=MARK
    )
    names = "[ " + " ".join(f'"{name}"' for name in ("CREDENTIALS_DIRECTORY", "AWS_SECRET_ACCESS_KEY", "NIXMILL_TOKEN"))
    fixed = f'outputHash = "{"0" * 52}"; outputHashAlgo = "sha256"; outputHashMode = "flat"; impureEnvVars = {names} ];'
    server.project.commit(flake__nix=flake(taker=job("taker", "export -p; exit 1", fixed)))
    server.start()
    await server.ready()
    said = await told(server, await first_run(server))
    assert "impureEnvVars" in said, said
    assert MARK not in said


async def test_nobody_else_can_look_into_the_state(server: ServerProgram) -> None:
    server.state.mkdir(mode=0o755, exist_ok=True)
    server.state.chmod(0o755)  # as systemd makes it by default
    server.start()
    await server.ready()
    await first_run(server)
    reachable: list[str] = []
    for directory, directories, names in os.walk(server.state):
        directories[:] = [name for name in directories if _open_to_others(Path(directory, name), reachable)]
        for name in names:
            _open_to_others(Path(directory, name), reachable)
    assert reachable == []
    assert stat.S_IMODE((server.state / "webhook.key").stat().st_mode) == 0o600


def _open_to_others(path: Path, reachable: list[str]) -> bool:
    with contextlib.suppress(FileNotFoundError):
        if path.lstat().st_mode & 0o007 and not path.is_symlink():
            reachable.append(str(path))
            return True
    return False


async def test_the_server_leaves_no_core_and_opens_many_files(server: ServerProgram) -> None:
    server.start()
    await server.ready()
    assert server.process is not None
    pid = server.process.pid
    assert resource.prlimit(pid, resource.RLIMIT_CORE) == (0, 0)
    files, most = resource.prlimit(pid, resource.RLIMIT_NOFILE)
    assert files == most


async def test_who_never_ends_a_question_is_sent_away(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connection, "HEADERS_S", 0.3)
    monkeypatch.setattr(middleware, "BODY_S", 0.3)
    async with web_world() as world:
        port = await second_door(world)
        for sent in (b"", b"GET / HTTP/1.1\r\nHost: x\r\n", b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\nGET / HTT"):
            assert (await answer_to(port, sent)).count(b"HTTP/1.1") == sent.count(b"\r\n\r\n")
        slow = b"POST /hook/mill HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\nabc"
        assert (await answer_to(port, slow)).startswith(b"HTTP/1.1 408 ")


async def second_door(world: WebWorld) -> int:
    """Serve the application as the server does; return the port."""
    config = uvicorn.Config(
        world.app, http=connection.ImpatientProtocol, log_config=None, lifespan="off", timeout_graceful_shutdown=1
    )
    listener = socket.create_server(("127.0.0.1", 0))
    made = uvicorn.Server(config)
    running = asyncio.create_task(made._serve([listener]))

    async def end() -> None:
        made.should_exit = True
        await running
        listener.close()

    world.clients.push_async_callback(end)
    port: int = listener.getsockname()[1]
    return port


async def answer_to(port: int, sent: bytes) -> bytes:
    """Send something, and nothing more; return all that comes until the other side ends it."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(sent)
    async with asyncio.timeout(20):
        answer = await reader.read()
    writer.close()
    return answer


async def test_who_goes_away_in_the_middle_of_a_body_fills_no_log(monkeypatch: pytest.MonkeyPatch) -> None:
    logged: list[str] = []
    monkeypatch.setattr(problems, "unexpected", lambda _, error: logged.append(repr(error)))
    gone = {"type": "http.disconnect"}

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await Request(scope, receive).body()

    async def receive() -> Message:
        return gone

    async def send(message: Message) -> None:
        raise AssertionError(message)

    await middleware.Mistakes(app)({"type": "http", "method": "POST", "headers": []}, receive, send)
    assert logged == []


def test_everybody_behind_a_proxy_of_both_kinds_has_tries_of_their_own() -> None:
    mapped, other = (keys_of("mia", f"::ffff:192.0.2.{number}")[1] for number in (1, 2))
    assert mapped != other
    assert mapped == keys_of("mia", "192.0.2.1")[1]


async def test_evaluation_works_where_the_home_is_the_state(server: ServerProgram) -> None:
    """As services have it: what Nix keeps below its user's home lies in a place that evaluations cannot read."""
    server.project.store.environment["HOME"] = str(server.state)
    server.start()
    await server.ready()
    page = await server.ended(await first_run(server))
    assert page["run"]["verdict"] == "passed", page
