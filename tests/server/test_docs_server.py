"""The guide's examples for a server are run as they stand: the sample project, one push, then command after command.

`https://ci.example.org` stands for the server, `/log/812` for the log of the dam in run 2.
"""

import asyncio
import re
import shlex
import shutil
import subprocess
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Final

import pytest

from tests.support.documents import Command, commands, missing_line
from tests.support.git_repository import Repository
from tests.support.house import ROOT
from tests.support.postgres import Postgres, postgres  # noqa: F401 - a fixture
from tests.support.program import NIXMILL, Project, flake, job
from tests.support.scratch_store import ScratchStore
from tests.support.server import PASSWORD, ServerProgram
from tests.support.web import Browser

GUIDE: Final = (ROOT / "docs/guide.md").read_text()
OPERATIONS: Final = (ROOT / "docs/operations.md").read_text()
BUILT_S: Final = 200.0
"""Within this time the sample project is checked, also on a busy machine."""
COMMAND_S: Final = 120
_ADDRESSES: Final = re.compile(r"^\| `(/[^`]*)` \|", re.MULTILINE)


def needs(*programs: str) -> pytest.MarkDecorator:
    """Skip a test where the examples use a program that is not installed."""
    missing = [program for program in programs if shutil.which(program) is None]
    return pytest.mark.skipif(bool(missing), reason=f"not installed here: {', '.join(missing)}")


@pytest.fixture
async def server(tmp_path: Path, fresh_store: ScratchStore) -> AsyncIterator[ServerProgram]:
    """A server that has checked the sample project twice, as in `make demo`, and an administrator."""
    top = tmp_path / "mill"
    shutil.copytree(ROOT / "examples/sample", top)
    repository = Repository(top)
    repository.commit("The mill")
    # `run --remote` names a commit, which is trusted like a pull request; the scratch store builds without a sandbox.
    settings = 'unsandboxed-builds = true\n[[cache]]\nname = "mill"\n'
    made = ServerProgram(Project(top, fresh_store), tmp_path / "state", settings)
    made.command("user", "create", "mia", "--admin", "--password-stdin", stdin=f"{PASSWORD}\n")
    made.command("projects", "add", "mill", f"file://{top}")
    try:
        made.start()
        await made.ready()
        await made.ended(1, BUILT_S)
        push(repository)
        async with made.administrator() as browser:
            await browser.post("/p/mill/look", page="/p/mill")
        await made.ended(2, BUILT_S)
        yield made
    finally:
        made.kill()


def push(repository: Repository) -> None:
    """Commit what the demo's second commit changes."""
    changing = (repository.top / "parts/changing.nix").read_text()
    repository.commit(
        "Mill spelt, mend the pump, replace the windmill by a ferry",
        src_S_grain__txt=f"{(repository.top / 'src/grain.txt').read_text()}spelt\n",
        src_S_pump__txt="The pump is tight.\n",
        src_S_lantern__txt="The lantern smokes.\n",
        parts_S_changing__nix=changing.replace('windmill = part "windmill"', 'ferry = part "ferry"'),
    )


async def a_token(browser: Browser) -> str:
    """Make a token for the command line."""
    body = {"name": "guide", "scopes": ["read", "run", "manage"]}
    answer = await browser.http.post(
        "/account/tokens",
        json=body,
        headers={"Accept": "application/json", "X-CSRF-Token": await browser.csrf()},
    )
    token: str = answer.raise_for_status().json()["token"]
    return token


async def a_secret(browser: Browser) -> str:
    """Return the secret of the project's webhooks, as its settings show it."""
    settings = (await browser.get("/p/mill/settings")).text
    return settings.split('id="webhook-secret"')[1].split('value="')[1].split('"')[0]


def run(command: Command, before: list[str], checkout: Path, environment: dict[str, str]) -> tuple[int, str]:
    """Run a command in a shell that knows what was assigned before; return its exit code and what it prints."""
    script = "\n".join([f'nixmill() {{ {shlex.join(NIXMILL)} "$@"; }}', *before, command.line])
    done = subprocess.run(
        ["bash", "-c", script],
        cwd=checkout,
        env=environment,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=COMMAND_S,
        check=False,
    )
    return done.returncode, done.stdout + done.stderr


@needs("curl", "openssl")
async def test_the_examples_for_a_server_do_what_the_guide_says(server: ServerProgram, tmp_path: Path) -> None:
    page = await server.get("/r/2?show=all&size=0")
    dam = next(row["attempt"] for row in page["rows"] if row["path"][-1] == "dam")
    async with server.administrator() as browser:
        token, secret = await a_token(browser), await a_secret(browser)
    server.project.git("clone", "--quiet", f"file://{server.project.top}", str(tmp_path / "checkout"))
    environment = server.project.store.environment | {
        "NO_COLOR": "1",
        "NIXMILL_SERVER": server.url,
        "NIXMILL_TOKEN": token,
        "SECRET": secret,
    }
    text = GUIDE.replace("https://ci.example.org", server.url).replace("/log/812", f"/log/{dam}")
    assignments: list[str] = []
    for command in commands(text, server=True):
        if re.match(r"[a-z]+=", command.line):
            assignments.append(command.line)
            continue
        code, printed = await asyncio.to_thread(run, command, assignments, tmp_path / "checkout", environment)
        assert code == command.exit_code, f"$ {command.line}\n{printed}\n{server.log}"
        lacking = missing_line(command.output, printed)
        assert lacking is None, f"$ {command.line} did not print {lacking!r} but\n{printed}"
    await every_address_answers(server, dam)


async def every_address_answers(server: ServerProgram, attempt: int) -> None:
    """Ask for the JSON of each address in the guide's table."""
    names = {
        "/compare/A/B": "/compare/1/2",
        "NAME": "mill",
        "BRANCH": "main",
        "NUMBER": "2",
        "ATTR": "checks.x86_64-linux.flour",
        "TEXT": "flour",
    }
    # Addresses of derivations are for /nix/store only, the scratch store is elsewhere; pull requests need a forge.
    found = [one for one in _ADDRESSES.findall(GUIDE) if not one.startswith(("/d/", "/p/NAME/pull/"))]
    assert len(found) > len(names)
    async with server.administrator() as browser:
        for address in found:
            path = address.replace("/log/ATTEMPT", f"/log/{attempt}")
            for name, value in names.items():
                path = path.replace(name, value)
            answer = await browser.get(path, headers={"Accept": "application/json"})
            assert answer.status_code == 200, f"{address}: {path}: {answer.text}"


@needs("sqlite3")
async def test_a_backup_made_while_the_server_runs_is_a_server(tmp_path: Path, fresh_store: ScratchStore) -> None:
    (tmp_path / "mill").mkdir()
    first = ServerProgram(Project(tmp_path / "mill", fresh_store), tmp_path / "state")
    first.project.commit(flake__nix=flake(hello=job("hello", "echo hello; echo > $out")))
    first.command("projects", "add", "mill", f"file://{first.project.top}")
    second = ServerProgram(first.project, tmp_path / "restored")
    try:
        first.start()
        await first.ready()
        page = await first.ended(1)
        second.state.mkdir()
        text = OPERATIONS.replace("/var/lib/nixmill", str(first.state)).replace("/backup", str(second.state))
        backup = next(command for command in commands(text) if command.line.startswith("sqlite3 "))
        code, printed = await asyncio.to_thread(run, backup, [], tmp_path, fresh_store.environment)
        assert code == 0, printed
        shutil.copytree(first.state / "logs", second.state / "logs")
        first.kill()
        second.start()
        await second.ready()
        assert await second.get("/r/1") == page
        async with second.browser() as browser:
            log = await browser.get(f"/log/{page['rows'][0]['attempt']}/raw")
        assert log.text.splitlines()[-1] == "hello"
    finally:
        first.kill()
        second.kill()


def test_projects_move_from_sqlite_to_postgresql(tmp_path: Path, store: ScratchStore, postgres: Postgres) -> None:  # noqa: F811 - the fixture
    project = Project(tmp_path, store)
    old = ServerProgram(project, tmp_path / "old")
    new = ServerProgram(project, tmp_path / "new", f'database = "{postgres.url(postgres.new())}"\n')
    old.command("user", "create", "mia", "--admin", "--no-password")
    old.command(
        "projects", "add", "mill", "https://git.example.org/mill.git", "--branch", "main", "--branch", "release-*"
    )
    for command in commands(OPERATIONS, server=True):
        line = command.line
        if "user create" in line:  # asks for a password
            new.command("user", "create", "anna", "--admin", "--no-password")
            continue
        code, printed = run(Command(line, [], 0), [], tmp_path, store.environment)
        assert code == 0, f"$ {line}\n{printed}"
    assert new.command("projects", "export") == old.command("projects", "export")
    assert "release-*" in new.command("projects", "export")
