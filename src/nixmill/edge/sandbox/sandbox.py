"""The sandbox in which evaluations for strangers run.

An evaluator is given one `Sandbox`; it opens an `Enclosure` for each group of targets, in which each process has
a sandbox of its own: own namespaces, nobody's user, no capability, an empty `/nix/store` in which a path appears when
the process may know that it is valid, no network but (where that is wanted) a filtering proxy.
What this file does not know: what evaluators run, and which requests to the daemon are let through (`store_proxy.py`).
"""

import asyncio
import contextlib
import os
import shutil
import tempfile
from collections.abc import AsyncIterator, Callable, Collection, Mapping, Sequence
from pathlib import Path
from typing import Final, Literal

import msgspec

from nixmill.core.errors import InputError
from nixmill.core.store_view import StoreView
from nixmill.doors import DoorError
from nixmill.edge.evaluator import scratch
from nixmill.edge.evaluator.process import LINGER_S, Meter
from nixmill.edge.sandbox import cell, private_etc, system_parts, upstream
from nixmill.edge.sandbox.bwrap_command import SOCKETS, Interior
from nixmill.edge.sandbox.cell import CellProcess, Control, Orders
from nixmill.edge.sandbox.net_proxy import Hosts, NetProxy, is_allowed
from nixmill.edge.sandbox.store_proxy import StoreProxy
from nixmill.edge.sandbox.strange_user import next_user
from nixmill.edge.sandbox.system_parts import SystemParts
from nixmill.edge.sandbox.upstream import Connect
from nixmill.nix.store_path import DEFAULT_STORE_DIR, StorePath, base_name

Network = Literal["none", "proxy"]
_ADDRESS_SPACE_SHARE: Final = 2
_ADDRESS_SPACE_BYTES: Final = 2 * 1024**3
"""Address space is not memory: stacks, libraries and what the collector has reserved count too."""
_PROGRAMS: Final = ("git", "nix-eval-jobs")


class SandboxLimits(msgspec.Struct, frozen=True, kw_only=True):
    """What bounds a sandbox beside the limits of the evaluation."""

    processes: int = 512
    """Threads included. Before Linux 5.14 counted over all processes of the user."""
    files: int = 4096
    """Open at a time, for each process."""
    file_bytes: int = 2 * 1024**3
    scratch_bytes: int = 1024**3
    """What may be written to `/tmp`, and as much to the home directory; both are in memory."""
    output_bytes: int = 256 * 1024**2
    """What all processes of a group of targets may say in all."""


_LIMITS: Final = SandboxLimits()


class Sandbox:
    """How to make sandboxes. One for a run; evaluations may share it."""

    def __init__(
        self,
        environment: Mapping[str, str],
        *,
        connect: Connect,
        readable: Collection[StorePath] = (),
        network: Network = "none",
        limits: SandboxLimits = _LIMITS,
        bwrap: str = "bwrap",
        allow: Callable[[str, int], bool] = is_allowed,
    ) -> None:
        """Evaluate with the Nix on the PATH of `environment`, whose store daemon is reached by `connect`.

        Valid is what the evaluation adds, and what is `readable`: paths that were fetched for it. `allow` is told an
        address and a port, and says whether the network proxy may connect to it.
        """
        self.hosts = Hosts()
        """What the network proxy reached and refused."""
        self.refused: list[str] = []
        """Sentences: requests to the store's daemon that were refused; complete once an evaluation has ended."""
        self._environment = environment
        self._connect = connect
        self._readable = readable
        self._network: Network = network
        self._limits = limits
        self._bwrap = bwrap
        self._allow = allow
        self._parts: dict[str, SystemParts] = {}

    async def unavailable(self, trees: Path | None = None) -> str:
        """Say in a sentence why there can be no sandbox on this machine; nothing where there can.

        One is tried; with `trees`, a directory, also whether what is private to the server there can be seen in it.
        """
        try:
            async with self.enclosure("nix", allow_builds=False) as enclosure:
                with tempfile.TemporaryDirectory(prefix="nixmill-", dir=trees) as private:
                    return await enclosure.fault(private)
        except (InputError, DoorError, OSError) as error:
            return f"Evaluations cannot be isolated: {error}"

    @contextlib.asynccontextmanager
    async def enclosure(self, program: str, *, allow_builds: bool) -> AsyncIterator["Enclosure"]:
        """Open what the processes of a group of targets share; `program` is the first that they will run.

        With `allow_builds` they may ask for builds of what they have made (import-from-derivation).
        """
        bwrap = shutil.which(self._bwrap, path=self._environment.get("PATH", os.defpath))
        if bwrap is None:
            raise InputError(f"There is no `{self._bwrap}` on PATH.", "Install bubblewrap.")
        store_dir = self._environment.get("NIX_STORE_DIR", DEFAULT_STORE_DIR)
        if not Path(store_dir).is_dir():  # noqa: ASYNC240 - one stat
            raise InputError(f"There is no store at {store_dir} yet.", "Build something with Nix first.")
        parts = await self._parts_for(program)
        view = StoreView(self._readable, store_dir=store_dir, allow_builds=allow_builds)
        async with contextlib.AsyncExitStack() as stack:
            place = Path(stack.enter_context(scratch.temporary(in_memory=True)))
            user = next_user()
            private_etc.write(place / "etc", parts.authorities, online=self._network == "proxy")
            if self._network == "proxy":
                proxy = NetProxy(place / "n", self.hosts, allow=self._allow)
                await stack.enter_async_context(proxy)
                give(place / "n", user)
            stack.push_async_callback(upstream.settled)
            yield Enclosure(bwrap, parts, place, view, user, self._connect, self._network, self._limits, self._note)

    async def _parts_for(self, program: str) -> SystemParts:
        """Return what is needed of the system; found out once, as on NixOS Nix has to be asked."""
        if program not in self._parts:
            self._parts[program] = await system_parts.find((program, *_PROGRAMS), self._environment)
        return self._parts[program]

    def _note(self, sentences: Collection[str]) -> None:
        self.refused += [sentence for sentence in sentences if sentence not in self.refused]


class Enclosure:
    """Starts processes that share a view of the store, a network proxy and a bound on what they say."""

    def __init__(
        self,
        bwrap: str,
        parts: SystemParts,
        place: Path,
        view: StoreView,
        user: int | None,
        connect: Connect,
        network: Network,
        limits: SandboxLimits,
        note: Callable[[Collection[str]], None],
    ) -> None:
        """Use `place`, which holds `etc` and, with a network, the socket `n`; made by `Sandbox.enclosure`.

        What the store proxies refused is told to `note`.
        """
        self._bwrap = bwrap
        self._parts = parts
        self._place = place
        self._view = view
        self._user = user
        self._connect = connect
        self.online = network == "proxy"
        """There is a network proxy."""
        self._limits = limits
        self._note = note
        self._meter = Meter(limits.output_bytes)
        self._count = 0

    @property
    def store_dir(self) -> str:
        """The directory of the store."""
        return self._view.store_dir

    @property
    def closure(self) -> tuple[str, ...]:
        """Names of the store paths that every process sees: those of the programs themselves."""
        paths = self._parts.closure if self._view.store_dir == DEFAULT_STORE_DIR else ()
        return tuple(base_name(StorePath(path)) for path in paths)

    async def start(
        self,
        argv: Sequence[str],
        *,
        shown: Collection[Path],
        directory: str = "/",
        environment: Mapping[str, str] | None = None,
        memory_bytes: int,
        output: bool = False,
        linger_s: float = LINGER_S,
        keeps_python: bool = False,
    ) -> CellProcess:
        """Start a program, found by its name, in a sandbox that sees the paths `shown` where they are.

        `environment` adds to what it has anyway; with `keeps_python` it can run Python too. Raises `DoorError` where
        that cannot be done.
        """
        self._count += 1
        socket = self._place / f"s{self._count}"
        orders = self._orders(argv, environment or {}, directory, memory_bytes)
        exposed = [path.relative_to(self.store_dir).parts[0] for path in shown if self._is_in_store(path)]
        orders = msgspec.structs.replace(
            orders,
            exposed=tuple(dict.fromkeys((*orders.exposed, *exposed))),
            forgotten=() if keeps_python else self._parts.forgotten,
        )
        begun: asyncio.Future[Control] = asyncio.get_running_loop().create_future()

        async def expose(path: StorePath) -> None:
            await (await begun).expose(path)

        async with contextlib.AsyncExitStack() as stack:
            proxy = StoreProxy(socket, self._connect, self._view, expose)
            await stack.enter_async_context(proxy)
            stack.callback(lambda: self._note(proxy.refused))
            give(socket, self._user)
            process, control = await cell.start(
                self._bwrap,
                self._interior([path for path in shown if not self._is_in_store(path)], socket),
                orders,
                python=self._parts.python,
                user=self._user,
                output=output,
                linger_s=linger_s,
                meter=self._meter,
            )
            begun.set_result(control)
            process.also_close(stack.pop_all())
        return process

    def _is_in_store(self, path: Path) -> bool:
        return path.is_relative_to(self.store_dir) and path != Path(self.store_dir)

    async def fault(self, private: str) -> str:
        """Start a sandbox that does nothing in a directory; return what was wrong, in a sentence, or nothing."""
        process = await self.start(
            ["nix", "--version"], shown=[Path(private)], directory=private, memory_bytes=1024**3, output=True
        )
        said: list[bytes] = []
        try:
            with contextlib.suppress(EOFError):
                while True:
                    said += await process.errors.more()
            status = await process.wait()
        finally:
            await process.kill()
        words = b" ".join(said).decode(errors="replace").strip()
        return f"Evaluations cannot be isolated: {words or f'the trial ended with status {status}'}." if status else ""

    def _interior(self, shown: Collection[Path], socket: Path) -> Interior:
        sockets = {private_etc.STORE_SOCKET: str(socket)}
        if self.online:
            sockets[private_etc.NETWORK_SOCKET] = str(self._place / "n")
        return Interior(
            store_dir=self._view.store_dir,
            etc=str(self._place / "etc"),
            system=(*self._parts.places, *self._loose_closure()),
            links=self._parts.links,
            shown=tuple(map(str, shown)),
            sockets=sockets,
            scratch_bytes=self._limits.scratch_bytes,
        )

    def _loose_closure(self) -> tuple[str, ...]:
        """Return store paths of the programs, where they are of another store than that of the evaluation."""
        return self._parts.closure if self._view.store_dir != DEFAULT_STORE_DIR else ()

    def _orders(
        self,
        argv: Sequence[str],
        environment: Mapping[str, str],
        directory: str,
        memory_bytes: int,
    ) -> Orders:
        own = private_etc.environment(self._parts.path, self._view.store_dir, online=self.online)
        return Orders(
            argv=(self._parts.programs[argv[0]], *argv[1:]),
            environment={**environment, **own},
            directory=directory,
            limits={
                "memory_bytes": _ADDRESS_SPACE_SHARE * memory_bytes + _ADDRESS_SPACE_BYTES,
                "processes": self._limits.processes,
                "files": self._limits.files,
                "file_bytes": self._limits.file_bytes,
            },
            store=self._view.store_dir,
            exposed=self.closure,
            relay=(private_etc.PROXY_PORT, f"{SOCKETS}/{private_etc.NETWORK_SOCKET}") if self.online else None,
            forgotten=self._parts.forgotten,
        )


def give(socket: Path, user: int | None) -> None:
    """Let the user of the sandboxes, and nobody else, connect to a socket."""
    socket.chmod(0o600)
    if user is not None:
        os.chown(socket, user, user)
