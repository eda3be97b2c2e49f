"""Real derivations in a scratch store, daemons that listen there, and an observer that can be waited for.

The Nix that is used is the first on PATH, so the same tests serve every version of the matrix.
"""

import asyncio
import contextlib
import json
import os
import select
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from nixmill.edge.daemon import DaemonSettings
from nixmill.edge.daemon.settings import install_hook
from nixmill.nix.store_path import StorePath
from tests.support.scratch_store import ScratchStore

NIX_EXPRESSION = """
{ specification }:
let
  make = spec: derivation (spec.attributes // {
    inherit (spec) name;
    system = spec.attributes.system or builtins.currentSystem;
    builder = "/bin/sh";
    args = [ "-c" spec.script ];
    inputs = map (input: make input) (spec.inputs or [ ]);
  });
in map make (builtins.fromJSON specification)
"""


@dataclass
class Spec:
    """A derivation to instantiate. Its script sees inputs as `$inputs`, and Debian's programs by absolute path."""

    name: str
    script: str
    attributes: Mapping[str, object] = field(default_factory=dict)
    inputs: "Sequence[Spec]" = ()

    def to_json(self) -> dict[str, object]:
        inputs = [spec.to_json() for spec in self.inputs]
        return {"name": self.name, "script": self.script, "attributes": dict(self.attributes), "inputs": inputs}


def instantiate(store: ScratchStore, *specs: Spec) -> list[StorePath]:
    """Write derivations; return their paths in the order of `specs`."""
    text = json.dumps([spec.to_json() for spec in specs])
    arguments = ["nix-instantiate", "--expr", NIX_EXPRESSION, "--argstr", "specification", text]
    return [StorePath(line) for line in run(store, *arguments).split()]


def run(store: ScratchStore, *arguments: str) -> str:
    """Run a Nix program on the store; return what it prints. Fail with what it says where it fails."""
    done = subprocess.run(arguments, env=store.environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"{arguments}: {done.stderr}"
    return done.stdout


def realise(store: ScratchStore, drv_path: StorePath) -> StorePath:
    """Build a derivation with Nix's own program; return its first output."""
    return StorePath(run(store, "nix-store", "--realise", drv_path).split()[0])


def nix_version(store: ScratchStore) -> tuple[int, ...]:
    """Return the version of the Nix on PATH, such as (2, 8, 0)."""
    return tuple(int(part) for part in run(store, "nix-store", "--version").split()[-1].split("."))


def settings_of(store: ScratchStore, **others: object) -> DaemonSettings:
    """Return settings for the store, as the program would make them."""
    hook = install_hook(store.root / "nixmill")
    return DaemonSettings.from_environment(store.environment, hook_script=hook, **others)


def make_cache(store: ScratchStore, path: StorePath) -> str:
    """Copy a path into an unsigned binary cache and delete it from the store; return an address that trusts it."""
    cache = store.root / "cache"
    run(store, "nix", "copy", "--to", f"file://{cache}", path)
    run(store, "nix-store", "--delete", path)
    return f"file://{cache}?trusted=1"


@contextlib.contextmanager
def listening_daemon(store: ScratchStore) -> Iterator[str]:
    """Run a daemon on the store's socket; yield the path of the socket."""
    path = store.environment["NIX_DAEMON_SOCKET_PATH"]
    # Without its state directory a daemon takes the store for another daemon's, and connects to itself without end.
    Path(store.environment["NIX_STATE_DIR"]).mkdir(parents=True, exist_ok=True)
    with (store.root / "daemon.log").open("wb") as log:
        daemon = subprocess.Popen(["nix-daemon"], env=store.environment, stdout=log, stderr=log)
        try:
            wait_for_socket(daemon, Path(path))
            yield path
        finally:
            end_daemon(daemon)
            Path(path).unlink(missing_ok=True)


def end_daemon(daemon: "subprocess.Popen[bytes]") -> None:
    """End a daemon once its workers have ended, which their clients' going told them to do."""
    children = Path(f"/proc/{daemon.pid}/task/{daemon.pid}/children").read_text().split()
    for child in map(int, children):
        with contextlib.suppress(ProcessLookupError):
            pidfd = os.pidfd_open(child)
            ended, _, _ = select.select([pidfd], [], [], 10)
            os.close(pidfd)
            assert ended, f"the worker {child} of a daemon outlives its client"
    daemon.terminate()
    daemon.wait()


def wait_for_socket(daemon: "subprocess.Popen[bytes]", path: Path) -> None:
    """Return once a daemon listens; fail where it ends instead."""
    while not path.exists():
        with contextlib.suppress(subprocess.TimeoutExpired):
            raise AssertionError(f"nix-daemon ended with code {daemon.wait(timeout=0.01)}")


def alive(pid: int) -> bool:
    """Say whether a process runs (a zombie does not)."""
    try:
        return " Z " not in Path(f"/proc/{pid}/stat").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return False


@dataclass
class Recorder:
    """A BuildObserver that keeps what it hears, and wakes whoever waits for it."""

    starts: int = 0
    lines: list[str] = field(default_factory=list)
    phases: list[str] = field(default_factory=list)
    directories: list[str] = field(default_factory=list)
    news: asyncio.Event = field(default_factory=asyncio.Event)

    def started(self) -> None:
        self.starts += 1
        self.news.set()

    def line(self, text: str) -> None:
        self.lines.append(text)
        self.news.set()

    def phase(self, name: str) -> None:
        self.phases.append(name)

    def kept(self, directory: str) -> None:
        self.directories.append(directory)

    async def until_lines(self, count: int) -> None:
        """Return once that many lines were heard."""
        async with asyncio.timeout(20):
            while len(self.lines) < count:
                self.news.clear()
                await self.news.wait()


async def until_dead(pid: int, patience_s: float) -> None:
    """Return once a process is gone; fail if it outlives `patience_s`."""
    pidfd = None
    with contextlib.suppress(ProcessLookupError):
        pidfd = os.pidfd_open(pid)
    if pidfd is None:
        return
    gone = asyncio.Event()
    loop = asyncio.get_running_loop()
    loop.add_reader(pidfd, gone.set)
    try:
        async with asyncio.timeout(patience_s):
            await gone.wait()
    finally:
        loop.remove_reader(pidfd)
        os.close(pidfd)
