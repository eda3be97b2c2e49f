"""Servers with several caches, and what a test asks of these: as plain Nix sees them, and as files."""

import asyncio
import json
import os
import sqlite3
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Collection, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager, closing, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import httpx2
import msgspec

from nixmill.edge.binary_cache.objects_s3 import S3Place
from tests.support.kept import key_file, public_key, until
from tests.support.mill import Mill, a_mill
from tests.support.program import job
from tests.support.s3_server import s3_server
from tests.support.scratch_store import ScratchStore
from tests.support.server import ServerProgram, free_port

IMPATIENT: Final = (sys.executable, str(Path(__file__).with_name("published_program.py")))
"""A server that soon asks again what was down."""


@dataclass
class Caches:
    """The caches of a server's settings: made before it, since their keys are files."""

    directory: Path
    """Where the keys are."""
    secrets: dict[str, Path] = field(default_factory=dict)
    tables: list[str] = field(default_factory=list)

    def add(self, name: str, *keys: str, **settings: object) -> None:
        """Add a cache that signs with these keys, each of which is made where it is not there."""
        self.sign(*keys)
        self.tables.append(table(name, keys, settings))

    def sign(self, *keys: str) -> None:
        """Make keys."""
        for key in keys:
            self.secrets.setdefault(key, self.directory / f"{key}.key")
            if not self.secrets[key].exists():
                key_file(self.directory, key)

    def secret(self, name: str, text: str) -> None:
        """Add another credential."""
        file = self.secrets[name] = self.directory / f"{name}.secret"
        with os.fdopen(os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as stream:
            stream.write(text)

    def add_bucket(self, name: str, *keys: str, place: S3Place, **settings: object) -> None:
        """Add a cache in a bucket."""
        if "s3-id" not in self.secrets:
            self.secret("s3-id", place.access_key)
            self.secret("s3-secret", place.secret_key)
        where = {"bucket": place.bucket, "endpoint": place.endpoint, "access_key": "s3-id", "secret_key": "s3-secret"}
        self.add(name, *keys, kind="s3", **where, **settings)

    def add_command(self, name: str, told: Path) -> None:
        """Add a command that writes down what it is told."""
        script = self.directory / f"{name}.sh"
        script.write_text(f"#!/bin/sh\nexec cat >> {told}\n")
        script.chmod(0o755)
        self.add(name, kind="command", command=[str(script)])

    def public(self, key: str) -> str:
        """Return the public half of a key."""
        return public_key(self.secrets[key])

    def settings(self) -> str:
        """Return the lines of the settings file."""
        return "\n".join(["[credentials]", *self.credentials(), *self.tables, ""])

    def credentials(self) -> list[str]:
        """Return the lines of the table of credentials."""
        return [f"{json.dumps(name)} = {json.dumps(str(file))}" for name, file in self.secrets.items()]


def table(name: str, keys: Sequence[str], settings: Mapping[str, object]) -> str:
    """Return the table of a cache."""
    lines = ["[[cache]]", f'name = "{name}"', f"keys = {json.dumps(keys)}"]
    return "\n".join([*lines, *(f"{key.replace('_', '-')} = {json.dumps(value)}" for key, value in settings.items())])


def open_to_all(place: S3Place) -> None:
    """Let everybody read a bucket, as its owner would to have Nix read it."""
    statement = {
        "Effect": "Allow",
        "Principal": "*",
        "Action": "s3:GetObject",
        "Resource": f"arn:aws:s3:::{place.bucket}/*",
    }
    policy = json.dumps({"Version": "2012-10-17", "Statement": [statement]})
    signed = "AWS4-HMAC-SHA256 Credential=key/20260101/us-east-1/s3/aws4_request, SignedHeaders=host, Signature=any"
    answer = httpx2.put(f"{place.endpoint}/{place.bucket}?policy", content=policy, headers={"Authorization": signed})
    assert answer.status_code == 200, answer.text


@contextmanager
def publishing_mill(top: Path, caches: Caches) -> Iterator[Mill]:
    """Give an impatient server with these caches, not started yet, and the administrator `mia` to be made."""
    with a_mill(top, caches.settings()) as mill:
        mill.server.program = IMPATIENT
        (top / "projects.toml").touch()
        yield mill


def chain(*names: str, command: str = "echo {below} > $out") -> str:
    """Return a job that refers to the next one, which refers to the next; the last refers to nothing."""
    name, *below = names
    if not below:
        return job(name)
    return job(name, command.replace("{below}", "$below"), f"below = {chain(*below, command=command)};")


def closure(store: ScratchStore, *paths: str) -> list[str]:
    """Return paths with all they refer to."""
    done = subprocess.run(
        ["nix-store", "--query", "--requisites", *paths],
        env=store.environment,
        capture_output=True,
        text=True,
        check=True,
    )
    return done.stdout.split()


def made(store: ScratchStore, name: str) -> str:
    """Return the one path of this name in a store."""
    found = [str(path) for path in Path(store.store_dir).glob(f"*-{name}")]
    assert len(found) == 1, found
    return found[0]


def uploads(server: ServerProgram, cache: str) -> dict[str, str]:
    """Return what the queue of a cache says of each path."""
    with closing(sqlite3.connect(f"file:{server.state}/nixmill.sqlite?mode=ro", uri=True)) as database:
        rows = database.execute("select path, state from nm_upload where cache = ?", (cache,))
        return dict(rows.fetchall())


async def until_uploads(server: ServerProgram, cache: str, paths: Collection[str], state: str = "done") -> None:
    """Wait until the queue of a cache says so of these paths."""
    try:
        await until(lambda: {uploads(server, cache).get(path) for path in paths} == {state}, "")
    except AssertionError:
        raise AssertionError(f"{cache}: {uploads(server, cache)}, not {state}: {paths}\n{server.log}") from None


async def narinfo(server: ServerProgram, cache: str, path: str, **headers: str) -> str | None:
    """Return what a cache says of a path; None where it says nothing."""
    async with httpx2.AsyncClient(base_url=server.url, headers=headers) as client:
        answer = await client.get(f"/cache/{cache}/{Path(path).name[:32]}.narinfo")
        return answer.text if answer.status_code == 200 else None


async def signers(server: ServerProgram, cache: str, path: str) -> list[str]:
    """Return the names of the keys that signed a path in a cache, in order."""
    text = await narinfo(server, cache, path)
    assert text is not None, f"{cache} has no {path}"
    return [line[5:].partition(":")[0] for line in text.splitlines() if line.startswith("Sig: ")]


async def until_signed(server: ServerProgram, cache: str, path: str, keys: Sequence[str]) -> None:
    """Wait until these keys have signed a path in a cache, in any order."""
    end = time.monotonic() + 60
    while set(names := await signers(server, cache, path)) != set(keys):
        assert time.monotonic() < end, f"{path} in {cache} is signed by {names}\n{server.log}"
        await asyncio.sleep(0.05)


async def held(server: ServerProgram, cache: str, paths: Collection[str]) -> set[str]:
    """Return those of these paths that a cache answers for."""
    return {path for path in paths if await narinfo(server, cache, path) is not None}


def elsewhere(store: ScratchStore, place: Path) -> str:
    """Return the address of another machine's store, as it were: the same store directory, empty at first."""
    return f"local?store={store.store_dir}&real={place}/real&state={place}/state&log={place}/log"


def nix(store: ScratchStore, *command: str, **environment: str) -> "subprocess.CompletedProcess[str]":
    """Run a program of Nix as another machine would."""
    return subprocess.run(
        command, env=store.environment | environment, capture_output=True, text=True, check=False, timeout=60
    )


def realise(store: ScratchStore, cache: str, place: Path, key: str, path: str, *options: str) -> str:
    """Have another machine realise a path from a cache as a substituter; return why it could not."""
    trust = ("--option", "substituters", cache, "--option", "trusted-public-keys", key, "--option", "builders", "")
    done = nix(store, "nix-store", "--store", elsewhere(store, place), "--realise", path, *trust, *options)
    return "" if (place / "real" / Path(path).name).exists() else f"{done.returncode}: {done.stderr}"


@dataclass
class Gate:
    """The way to a service, which can be shut."""

    target: tuple[str, int]
    port: int
    status: int = 0
    """What is answered to every request instead, if it is not 0."""
    server: asyncio.Server | None = None

    async def open(self, status: int = 0) -> None:
        """Let everybody through, or answer each with a status."""
        self.status = status
        if self.server is None:
            self.server = await asyncio.start_server(self._pass, "127.0.0.1", self.port)

    async def shut(self) -> None:
        """Take no connection any more."""
        if self.server is not None:
            self.server.close()
            self.server = None

    async def _pass(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(OSError, asyncio.IncompleteReadError):
            if self.status:
                await reader.readuntil(b"\r\n\r\n")
                writer.write(f"HTTP/1.1 {self.status} No\r\nContent-Length: 0\r\nConnection: close\r\n\r\n".encode())
            else:
                there, back = await asyncio.open_connection(*self.target)
                await asyncio.gather(_pump(reader, back), _pump(there, writer))
        writer.close()


async def _pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with suppress(OSError):
        while piece := await reader.read(65536):
            writer.write(piece)
            await writer.drain()
    writer.close()


@asynccontextmanager
async def gated_bucket() -> AsyncIterator[tuple[S3Place, Gate]]:
    """Run a service of S3 behind a gate, shut at first."""
    with s3_server() as s3:
        host, _, port = s3.endpoint.removeprefix("http://").partition(":")
        gate = Gate((host, int(port)), free_port())
        try:
            yield msgspec.structs.replace(s3, endpoint=f"http://127.0.0.1:{gate.port}"), gate
        finally:
            await gate.shut()


_WATCH: Final = """
import os, sys, time
directory, ignored = sys.argv[1], None
looks = 0
print("watching", flush=True)
import select
while not select.select([sys.stdin], [], [], 0)[0]:
    try:
        names = [name for name in os.listdir(directory) if name.endswith(".narinfo")]
    except FileNotFoundError:
        names = []
    for name in names:
        try:
            text = open(os.path.join(directory, name)).read()
        except FileNotFoundError:
            continue
        fields = dict(line.split(": ", 1) for line in text.splitlines())
        for reference in fields["References"].split():
            if not os.path.exists(os.path.join(directory, reference[:32] + ".narinfo")):
                print(f"{name} refers to {reference}, which is not there", flush=True)
        if not os.path.exists(os.path.join(directory, fields["URL"])):
            print(f"{name} names {fields['URL']}, which is not there", flush=True)
    looks += 1
    time.sleep(0.002)
print(f"{looks} looks, {len(names)} narinfos", flush=True)
"""


class Watched:
    """What a watcher saw."""

    said: Sequence[str] = ()
    """Its sentences; the last one says how often it looked."""


@contextmanager
def watched(directory: Path) -> Iterator[Watched]:
    """Look at a cache's directory all the time: no narinfo may be there without what it names. Nothing is deleted."""
    seen = Watched()
    watcher = subprocess.Popen(
        [sys.executable, "-c", _WATCH, str(directory)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    try:
        assert watcher.stdout is not None
        assert watcher.stdout.readline() == "watching\n"
        yield seen
        said, _ = watcher.communicate("\n", timeout=30)
        seen.said = said.splitlines()
    finally:
        watcher.kill()
        watcher.wait()


async def ended_well(mill: Mill, project: str, commit: str) -> Any:  # noqa: ANN401 - a page
    """Return the page of the run of a commit, which has to be good."""
    page = await mill.run_of(project, commit)
    assert page["run"]["verdict"] == "passed", (page, mill.server.log)
    return page


async def until_ready(server: ServerProgram) -> None:
    """Start a server and wait until it answers."""
    server.start()
    await server.ready()
    await asyncio.sleep(0)
