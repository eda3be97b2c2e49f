"""The commands in docs/caches.md and docs/roots.md are run as they stand, against a server with the first cache there.

`https://ci.example.org` stands for the server, `/nix/store` for its store, `/etc/nixmill/secrets` for a directory.
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
from tests.support.house import ROOT
from tests.support.program import NIXMILL, Project, flake, job
from tests.support.scratch_store import ScratchStore
from tests.support.server import PASSWORD, ServerProgram

CACHES: Final = re.sub(r"^   ", "", (ROOT / "docs/caches.md").read_text(), flags=re.MULTILINE)
ROOTS: Final = (ROOT / "docs/roots.md").read_text()
SETTINGS: Final = re.findall(r"```toml\n(.*?)```", CACHES, re.DOTALL)[0]
SECRETS: Final = "/etc/nixmill/secrets"
COMMAND_S: Final = 60


async def check(text: str, environment: dict[str, str]) -> None:
    """Run the commands of a text one after another; each has to print what it is said to print."""
    for command in commands(text, server=True):
        code, printed = await asyncio.to_thread(run, command, environment)
        assert code == command.exit_code, f"$ {command.line}\n{printed}"
        lacking = missing_line(command.output, printed)
        assert lacking is None, f"$ {command.line} did not print {lacking!r} but\n{printed}"


def run(command: Command, environment: dict[str, str]) -> tuple[int, str]:
    """Run a command in a shell; return its exit code and what it prints, talk last."""
    done = subprocess.run(
        ["bash", "-c", f'nixmill() {{ {shlex.join(NIXMILL)} "$@"; }}\n{command.line}'],
        env=environment,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=COMMAND_S,
        check=False,
    )
    return done.returncode, done.stdout + done.stderr


def as_here(text: str, store: ScratchStore, secrets: Path, url: str = "") -> str:
    """Put the places of this test where the documents have others."""
    text = text.replace("/nix/store", store.environment["NIX_STORE_DIR"]).replace(SECRETS, str(secrets))
    return text.replace("https://ci.example.org", url)


@pytest.fixture
async def server(tmp_path: Path, fresh_store: ScratchStore) -> AsyncIterator[ServerProgram]:
    """A server as step 1 and 2 of docs/caches.md make it, which has checked two attributes."""
    secrets = tmp_path / "secrets"
    secrets.mkdir()
    first_step = CACHES.partition("2. Say")[0]
    await check(as_here(first_step, fresh_store, secrets), fresh_store.environment | {"NO_COLOR": "1"})
    (tmp_path / "mill").mkdir()
    settings = as_here(SETTINGS.partition("[credentials]")[2], fresh_store, secrets)
    project = Project(tmp_path / "mill", fresh_store)
    made = ServerProgram(project, tmp_path / "state", f"[credentials]{settings}")
    made.project.commit(flake__nix=flake(hello=job("hello", "echo hello > $out"), flour=job("flour")))
    made.command("user", "create", "mia", "--admin", "--password-stdin", stdin=f"{PASSWORD}\n")
    made.command("projects", "add", "mill", f"file://{made.project.top}")
    try:
        made.start()
        await made.ready()
        await made.ended(1)
        await made.until("/caches/main", lambda page: page["cache"]["counts"].get("done", 0) >= 2)
        yield made
    finally:
        made.kill()


@pytest.mark.skipif(shutil.which("curl") is None, reason="curl is not installed here")
async def test_the_examples_do_what_the_documents_say(server: ServerProgram, tmp_path: Path) -> None:
    store = server.project.store
    async with server.administrator() as browser:
        answer = await browser.http.post(
            "/account/tokens",
            json={"name": "docs", "scopes": ["read", "run", "manage"]},
            headers={"Accept": "application/json", "X-CSRF-Token": await browser.csrf()},
        )
    environment = store.environment | {
        "NO_COLOR": "1",
        "NIXMILL_CONFIG": str(server.config),
        "NIXMILL_SERVER": server.url,
        "NIXMILL_TOKEN": answer.raise_for_status().json()["token"],
    }
    rest = CACHES.partition("2. Say")[2]
    for text in (rest, ROOTS):
        await check(as_here(text, store, tmp_path / "secrets", server.url), environment)
