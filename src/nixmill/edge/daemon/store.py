"""The door Store over the worker protocol.

Which question goes to which connection matters, because a daemon's worker remembers: validity and leases go to one
connection that is asked nothing else (`leases`); path infos to another, and only for paths that are valid just then,
since a worker remembers a missing path for an hour; what caches have goes to a new connection each time.
What this file does not know: building (`builder`), and what answers mean for a plan.
"""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable, Collection, Iterable
from functools import partial
from pathlib import Path
from typing import Final, NamedTuple, TypeVar

from nixmill.doors import DoorError, Missing
from nixmill.edge.daemon import address, errors, settings, transport
from nixmill.edge.daemon.connection import Connection
from nixmill.edge.daemon.leases import Leases
from nixmill.edge.daemon.pool import Dial, Pool
from nixmill.edge.daemon.redial import again
from nixmill.edge.daemon.settings import DaemonSettings
from nixmill.edge.daemon.ssh import SshDialler
from nixmill.nix import derivation, nar, operations
from nixmill.nix.derivation import Derivation, DerivationError
from nixmill.nix.derived_path import all_outputs
from nixmill.nix.operations import Options
from nixmill.nix.path_info import PathInfo
from nixmill.nix.store_path import StorePath
from nixmill.nix.worker_protocol import DaemonFacts

T = TypeVar("T")

IDLE_QUERY: Final = 2
IDLE_BUILD: Final = 64
READ_CHUNK: Final = 500
"""Derivations read in one go on a thread: about 20 ms."""


class Diallers(NamedTuple):
    """How connections that have shaken hands are made. Closing one made by `build` must kill its builder at once."""

    query: Dial
    build: Dial


class DaemonStore:
    """One store; made by `open_store`. `local` says that its files can be read here under their own names."""

    def __init__(self, name: str, daemon_settings: DaemonSettings, diallers: "Diallers", *, local: bool) -> None:
        """Open nothing yet."""
        self.name = name
        self.settings = daemon_settings
        self.local = local
        self.facts = DaemonFacts(minor=0)
        """What the handshake told: Nix's version, the protocol, whether we are trusted."""
        self.dial = diallers.query
        self.queries = Pool(diallers.query, idle_max=IDLE_QUERY)
        self.builds = Pool(diallers.build, idle_max=IDLE_BUILD)
        self._leases = Leases(diallers.query)

    async def valid(self, paths: Collection[StorePath]) -> set[StorePath]:
        """Return those of `paths` that are valid here now; protects nothing."""
        with errors.explained("look up paths in", self.name):
            return await self._leases.valid(paths) if paths else set()

    async def hold(self, paths: Collection[StorePath]) -> set[StorePath]:
        """Lease `paths` until this store is closed, then return those that are valid."""
        with errors.explained("hold paths in", self.name):
            return await self._leases.hold(paths) if paths else set()

    async def missing(self, outputs_of: Collection[StorePath]) -> Missing:
        """Ask what realising all outputs of these derivations would need."""
        with errors.explained("plan with", self.name):
            async with self.fresh(self.query_options) as connection:
                answer = await connection.perform(operations.query_missing(map(all_outputs, outputs_of)))
        return Missing(
            build=answer.build,
            fetch=answer.fetch,
            unknown=answer.unknown,
            download_bytes=answer.download_bytes,
            nar_bytes=answer.nar_bytes,
        )

    async def derivations(self, drv_paths: Collection[StorePath]) -> dict[StorePath, Derivation]:
        """Read derivations, without their environments; those that are not there are left out."""
        return await self._derivations(drv_paths, derivation.parse_head)

    async def full_derivation(self, drv_path: StorePath) -> Derivation | None:
        """Read one derivation with its environment; None where it is not there."""
        return (await self._derivations([drv_path], derivation.parse)).get(drv_path)

    async def path_infos(self, paths: Collection[StorePath]) -> dict[StorePath, PathInfo]:
        """Return size, references and so on of those that are valid."""
        there = list(await self.valid(paths))
        if not there:
            return {}
        with errors.explained("look up paths in", self.name):
            async with self.queries.use(self.query_options) as connection:
                answers = await connection.submit_all([operations.query_path_info(path) for path in there])
        return {info.path: info for info in answers if info is not None}

    async def dead(self) -> list[StorePath]:
        """Return what a collection of garbage would delete now; nothing is deleted. What is leased here is not dead."""
        with errors.explained("list garbage in", self.name):
            async with self.fresh(self.query_options) as connection:
                return await connection.perform(operations.collect_garbage_dead())

    def query_options(self, facts: DaemonFacts) -> Options:
        """Return the options of connections that ask and fetch."""
        return settings.query_options(self.settings, facts)

    @contextlib.asynccontextmanager
    async def fresh(self, options: Callable[[DaemonFacts], Options]) -> AsyncIterator[Connection]:
        """Lend a new connection, which remembers nothing; it is closed afterwards."""
        connection = await self.dial()
        try:
            await connection.configure(options(connection.facts))
            yield connection
        finally:
            await connection.close()

    async def start(self) -> None:
        """Connect for the first time."""
        self.facts = (await self._leases.connected()).facts

    async def keep_alive(self) -> None:
        """Replace the connection that holds the leases whenever it is lost; runs until cancelled."""
        await self._leases.keep_alive()

    async def close(self) -> None:
        """Let everything go."""
        await self.builds.close()
        await self.queries.close()
        await self._leases.close()

    async def _derivations(
        self, drv_paths: Collection[StorePath], parse: Callable[[str], Derivation]
    ) -> dict[StorePath, Derivation]:
        found: dict[StorePath, Derivation] = {}
        wanted = list(drv_paths)
        if self.local:
            for at in range(0, len(wanted), READ_CHUNK):
                found |= await asyncio.to_thread(_read_files, wanted[at : at + READ_CHUNK], parse)
        unread = [path for path in wanted if path not in found]
        there = await self.valid(unread)
        if there:
            found |= await self._derivations_by_nar(there, parse)
        return found

    async def _derivations_by_nar(
        self, drv_paths: Iterable[StorePath], parse: Callable[[str], Derivation]
    ) -> dict[StorePath, Derivation]:
        """Read over the connection what is no file here; requests are written ahead."""
        buffers = {path: bytearray() for path in drv_paths}
        with errors.explained("read derivations from", self.name):
            async with self.queries.use(self.query_options) as connection:
                await connection.submit_all([operations.nar_from_path(p, b.extend) for p, b in buffers.items()])
        return {path: _parsed(path, nar.regular_file(bytes(buffer)), parse) for path, buffer in buffers.items()}


@contextlib.asynccontextmanager
async def open_store(
    text: str, daemon_settings: DaemonSettings, *, patient: bool = False
) -> AsyncIterator[DaemonStore]:
    """Open the store at an address (see `address`); leases end when it closes.

    Raise `InputError` for a malformed address, `DoorError` where no daemon answers, unless this is `patient`: then each
    question tries to reach it.
    """
    async with contextlib.AsyncExitStack() as stack:
        where = address.parse(text, daemon_settings)
        diallers = _diallers(where, daemon_settings, stack)
        local = address.is_local(where, daemon_settings)
        store = DaemonStore(text, daemon_settings, diallers, local=local)
        stack.push_async_callback(store.close)
        with contextlib.suppress(*([DoorError] if patient else [])):
            await store.start()
        keeper = asyncio.create_task(store.keep_alive(), name=f"leases of {text}")
        stack.push_async_callback(_cancelled, keeper)
        yield store


def _diallers(
    where: address.StoreAddress, daemon_settings: DaemonSettings, stack: contextlib.AsyncExitStack
) -> Diallers:
    newest = daemon_settings.newest_minor
    match where:
        case address.SocketAddress(path):
            dial = again(partial(transport.open_socket, path, newest))
            return Diallers(dial, dial)
        case address.StdioAddress():
            arguments = address.spawn_arguments(daemon_settings)
            environment = address.spawn_environment(daemon_settings)
            spawn = again(partial(transport.open_process, arguments, environment, newest, address="stdio"))
            return Diallers(spawn, spawn)
        case address.SshAddress():
            dialler = SshDialler(where, daemon_settings)
            stack.push_async_callback(dialler.close)
            return Diallers(dialler.dial, dialler.dial_alone)


async def _cancelled(task: asyncio.Task[None]) -> None:
    task.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await task


def _read_files(drv_paths: list[StorePath], parse: Callable[[str], Derivation]) -> dict[StorePath, Derivation]:
    """Read what can be read here; whatever cannot is asked of the daemon."""
    found = {}
    for path in drv_paths:
        try:
            data = Path(path).read_bytes()
        except OSError:
            continue
        found[path] = _parsed(path, data, parse)
    return found


def _parsed(path: StorePath, data: bytes, parse: Callable[[str], Derivation]) -> Derivation:
    try:
        return parse(derivation.decode(data))
    except DerivationError as error:
        raise errors.unreadable(path, error) from error
