"""The only place that joins doors to edges. Nothing imports it; `nixmill` on the command line starts here."""

import asyncio
import contextlib
import functools
import gc
import importlib
import os
import sys
import tempfile
from collections.abc import AsyncIterator, Callable, Collection, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Literal, TypedDict

from nixmill.cli.main import run_command_line
from nixmill.cli.wiring import StoreChoice
from nixmill.config.server import ServerSettings
from nixmill.core.doctor import Finding, diagnose
from nixmill.core.errors import InputError
from nixmill.core.installation import NixInstallation, StoreAccess
from nixmill.core.machine import LOCAL, Machine, MachinesError, parse
from nixmill.core.standing import Standing
from nixmill.doors import Builder, DoorError, Evaluator, Logs, NotAllowedError, Source, Store
from nixmill.doors.cache import Published
from nixmill.doors.server import Failures
from nixmill.edge.daemon import DaemonBuilder, DaemonSettings, DaemonStore, open_store
from nixmill.edge.daemon.remote import RemoteBuilder
from nixmill.edge.daemon.settings import install_hook
from nixmill.edge.evaluator.choose import choose
from nixmill.edge.git import GitSource
from nixmill.edge.git_command import git_environment
from nixmill.edge.git_standing import standing
from nixmill.edge.log_files import LogFiles
from nixmill.edge.nix_installation import find_installation
from nixmill.edge.no_history import NoHistory
from nixmill.edge.private_files import make_directory
from nixmill.edge.substituters import probe
from nixmill.edge.system_clock import SystemClock
from nixmill.engine.request import RunDoors
from nixmill.nix.store_path import DEFAULT_STORE_DIR, StorePath

if TYPE_CHECKING:
    from nixmill.edge.binary_cache.holdings import ReadCache
    from nixmill.edge.database.history import SqlHistory
    from nixmill.edge.sandbox import Sandbox
    from nixmill.engine.books import Books
    from nixmill.engine.cache_tools import CacheTools
    from nixmill.nix.signature import SecretKey


_FOR_NIX = frozenset(
    {"PATH", "HOME", "USER", "LOGNAME", "LANG", "LOCALE_ARCHIVE", "TMPDIR", "SSL_CERT_FILE", "SSL_CERT_DIR"}
)
_FOR_NIX_PREFIXES = ("NIX_", "XDG_", "LC_", "GIT_", "CURL_CA_")
"""Variables that what the server starts for strangers gets; of `GIT_…` only those that `git_environment` keeps."""


class Place(TypedDict):
    """The doors of a run that depend on the stores and the evaluator chosen for it."""

    evaluator: Evaluator
    store: Store
    machines: tuple[Machine, ...]
    builders: dict[str, Builder]
    may_fetch: bool


class App:
    """Implements `Wiring`: opens edges on demand, so that a command pays only for what it uses."""

    def __init__(self, environ: Mapping[str, str]) -> None:
        """Find our own directories as the XDG base directory specification says; make nothing yet."""
        home = Path(environ.get("HOME") or "/")
        self._environ = git_environment(environ)
        self._state = Path(environ.get("XDG_STATE_HOME") or home / ".local/state") / "nixmill"
        self._cache = Path(environ.get("XDG_CACHE_HOME") or home / ".cache") / "nixmill"
        self._installation: NixInstallation | None = None

    async def installation(self) -> NixInstallation:
        """Return the Nix that runs use, looked for once."""
        if self._installation is None:
            self._installation = await find_installation(self._environ)
        return self._installation

    @contextlib.asynccontextmanager
    async def open_run(self, choice: StoreChoice, notice: Callable[[str], None]) -> AsyncIterator[RunDoors]:
        """Open everything a run needs; what was leased is free again when it closes."""
        importing = asyncio.create_task(asyncio.to_thread(importlib.import_module, "nixmill.edge.database.history"))
        async with contextlib.AsyncExitStack() as stack:
            place = await self._open_place(choice, notice, stack)
            await importing
            archive, logs = await self._memory(stack, notice)
            yield RunDoors(
                clock=SystemClock(),
                source=self.source(),
                logs=logs,
                history=archive or NoHistory(),
                archive=archive,
                **place,
            )

    @contextlib.asynccontextmanager
    async def open_server_run(
        self,
        choice: StoreChoice,
        history: "SqlHistory",
        logs: Logs,
        source: Source,
        failures: Failures,
        notice: Callable[[str], None],
        *,
        hidden: tuple[Path, ...],
        settings: ServerSettings,
        caches: "Sequence[ReadCache]" = (),
        published: Published | None = None,
        guarded: bool = False,
        readable: Collection[StorePath] = (),
    ) -> AsyncIterator[RunDoors]:
        """Open what a run of the server needs beside what the server has open; evaluation cannot read `hidden`.

        With `guarded` it is evaluated in the sandbox; raises `NotAllowedError` where this machine has none.
        """
        if guarded and not settings.unsandboxed_builds:
            _check_build_sandbox(await self.installation())
        network, trees = settings.sandbox_network, settings.state / "cache"
        sandbox = await self._sandbox(choice, notice, network, trees, readable) if guarded else None
        async with contextlib.AsyncExitStack() as stack:
            place = await self._open_place(choice, notice, stack, hidden, sandbox, caches)
            yield RunDoors(
                refused=functools.partial(_refused, sandbox),
                clock=SystemClock(),
                source=source,
                logs=logs,
                history=history,
                archive=history,
                failures=failures,
                published=published,
                **place,
            )

    @contextlib.asynccontextmanager
    async def open_server_store(self, choice: StoreChoice) -> AsyncIterator[DaemonStore]:
        """Open the store of the server for as long as it runs, whether or not its daemon answers now."""
        nix = await self.installation()
        settings = DaemonSettings.from_environment(
            self._environ,
            hook_script=install_hook(self._state),
            substituters=nix.settings.substituters if nix.settings.substitute else (),
        )
        async with open_store(self._address(choice), settings, patient=True) as store:
            yield store

    async def machines(self, choice: StoreChoice) -> tuple[Machine, ...]:
        """Return this machine and the others that builds may go to."""
        nix = await self.installation()
        return (_this_machine(nix, choice), *_other_machines(nix, choice))

    async def _open_place(
        self,
        choice: StoreChoice,
        notice: Callable[[str], None],
        stack: contextlib.AsyncExitStack,
        hidden: tuple[Path, ...] = (),
        sandbox: "Sandbox | None" = None,
        caches: "Sequence[ReadCache]" = (),
    ) -> "Place":
        """Open the store, the builders and the evaluator of a run; what only `caches` have can be fetched, too."""
        nix = await self.installation()
        address = self._address(choice)
        _check_access(nix, address)
        settings = await self._daemon_settings(nix, notice)
        machines = await self.machines(choice)
        store = await stack.enter_async_context(open_store(address, settings))
        builders: dict[str, Builder] = {LOCAL: DaemonBuilder(store)}
        for machine in machines[1:]:
            remote = RemoteBuilder(store, machine.address, settings)
            stack.push_async_callback(remote.aclose)
            builders[machine.address] = remote
        evaluator = choose(self._environ, choice.evaluator, nix.program, hidden=hidden, sandbox=sandbox)
        if not caches:
            may_fetch = bool(settings.substituters)
            return Place(evaluator=evaluator, store=store, machines=machines, builders=builders, may_fetch=may_fetch)
        from nixmill.edge.binary_cache.holdings import CacheHoldings  # noqa: PLC0415 - likewise
        from nixmill.edge.daemon.with_caches import BuilderWithCaches, StoreWithCaches  # noqa: PLC0415 - only servers

        holdings = CacheHoldings(caches, self.place(), notice)
        stocked = StoreWithCaches(store, holdings, notice, holdings.public_keys)
        wrapped: dict[str, Builder] = {name: BuilderWithCaches(one, stocked) for name, one in builders.items()}
        return Place(evaluator=evaluator, store=stocked, machines=machines, builders=wrapped, may_fetch=True)

    async def _memory(
        self, stack: contextlib.AsyncExitStack, notice: Callable[[str], None]
    ) -> tuple["SqlHistory | None", LogFiles]:
        """Open history and logs; where that cannot be, the run remembers nothing and its logs are temporary."""
        directory = self._state / "logs"
        history = None
        try:
            history = await stack.enter_async_context(self.open_history())
        except DoorError as error:
            notice(f"{error} This run goes on without history.")
            directory = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="nixmill-logs-")))
        logs = LogFiles(directory)
        stack.push_async_callback(logs.close)
        return history, logs

    @contextlib.asynccontextmanager
    async def open_history(self) -> AsyncIterator["SqlHistory"]:
        """Open the history of this machine's runs."""
        from nixmill.edge.database.history import open_history  # noqa: PLC0415 - importing it costs 0.2 s

        make_directory(self._state)
        async with open_history(self._state / "history.sqlite") as history:
            yield history

    async def standing(self, directory: str) -> Standing:
        """Return where a checkout stands towards its remotes."""
        return await standing(directory)

    def serve(self, settings: ServerSettings, ready: Callable[[], None]) -> int:
        """Be the server until a signal ends it; call `ready` once it answers."""
        self._environ = {name: value for name, value in self._environ.items() if _is_for_nix(name)}
        from nixmill.app.server import serve  # noqa: PLC0415 - the web and its libraries cost a second

        return serve(self, settings, ready)

    def open_server_books(self, settings: ServerSettings) -> contextlib.AbstractAsyncContextManager["Books"]:
        """Open the server's database directly."""
        from nixmill.app.server import open_books  # noqa: PLC0415 - likewise

        return open_books(settings)

    def open_caches(
        self, settings: ServerSettings, *, building: bool
    ) -> contextlib.AbstractAsyncContextManager["CacheTools"]:
        """Open the caches of a server's settings."""
        from nixmill.app.cache_tools import open_tools  # noqa: PLC0415 - likewise

        return open_tools(self, settings, building=building)

    def make_key(self, name: str, file: str) -> str:
        """Make a secret key; return the public one."""
        from nixmill.edge.binary_cache.keys import make_key  # noqa: PLC0415 - likewise

        return make_key(Path(file), name)

    def read_key(self, file: str | Path) -> "SecretKey":
        """Return a secret key."""
        from nixmill.edge.binary_cache.keys import read_key  # noqa: PLC0415 - likewise

        return read_key(Path(file))

    def logs(self) -> Logs:
        """Return the logs of this machine's attempts."""
        return LogFiles(self._state / "logs")

    def source(self) -> Source:
        """Return the source of checkouts."""
        return GitSource(self._cache)

    def cores(self) -> int:
        """Return how many processors this process may use."""
        return len(os.sched_getaffinity(0))

    def place(self) -> str:
        """Return the store directory, which is part of an evaluation's identity."""
        return self._environ.get("NIX_STORE_DIR", DEFAULT_STORE_DIR)

    async def examine(self, *, thorough: bool) -> list[Finding]:
        """Look at the machine as `nixmill doctor` does."""
        from nixmill.edge.doctor_facts import gather  # noqa: PLC0415 - only this command pays for it

        make_directory(self._state)
        return diagnose(await gather(self._environ, self._state / "history.sqlite", try_out_sandbox=thorough))

    def _address(self, choice: StoreChoice) -> str:
        """Return the address of the run's store: what is asked for, else what NIX_REMOTE says, as for Nix itself."""
        remote = self._environ.get("NIX_REMOTE", "")
        if choice.store != "auto" or not remote:
            return choice.store
        return remote if remote == "daemon" or remote.startswith(("unix://", "ssh")) else "stdio"

    async def _sandbox(
        self,
        choice: StoreChoice,
        notice: Callable[[str], None],
        network: Literal["proxy", "none"],
        trees: Path | None,
        readable: Collection[StorePath],
    ) -> "Sandbox":
        """Return the sandbox for what strangers wrote, which can read below `trees`."""
        from nixmill.edge.sandbox import Sandbox  # noqa: PLC0415 - only servers with pull requests need it
        from nixmill.edge.sandbox.upstream import connector  # noqa: PLC0415

        settings = await self._daemon_settings(await self.installation(), notice)
        connect = connector(self._address(choice), settings)
        sandbox = Sandbox(self._environ, connect=connect, readable=readable, network=network)
        if why := await sandbox.unavailable(trees):
            sentence = f"This machine cannot evaluate pull requests safely: {why}"
            raise NotAllowedError(sentence, door="evaluator", action="open", subject="sandbox", retryable=False)
        return sandbox

    async def _daemon_settings(self, nix: NixInstallation, notice: Callable[[str], None]) -> DaemonSettings:
        """Return what daemons are told: of the configured caches only those that answer."""
        configured = nix.settings.substituters if nix.settings.substitute else ()
        found = await probe(configured, store_dir=nix.store_dir)
        for cache in found.unreachable:
            notice(f"Not used in this run: {cache.sentence}")
        return DaemonSettings.from_environment(
            self._environ, hook_script=install_hook(self._state), substituters=found.reachable
        )


def _refused(sandbox: "Sandbox | None") -> list[str]:
    """Say what a sandbox kept from an evaluation."""
    if sandbox is None:
        return []
    hosts = [
        f"The evaluation asked for {host}, which was refused: {why}" for host, why in sandbox.hosts.refused.items()
    ]
    return [*sandbox.refused, *hosts]


def _is_for_nix(name: str) -> bool:
    """Say whether Nix gets a variable of the server: a build may ask for any that it has (`impureEnvVars`)."""
    return name in _FOR_NIX or name.startswith(_FOR_NIX_PREFIXES) or name.lower().endswith("_proxy")


def _check_build_sandbox(nix: NixInstallation) -> None:
    """Refuse to build what strangers wrote where builds could read this machine."""
    said = nix.settings
    if said.sandbox == "true" and not said.sandbox_fallback:
        return
    found = f"`sandbox = {said.sandbox}`" if said.sandbox != "true" else "`sandbox-fallback = true`"
    sentence = f"What is not trusted is not built here, since builds may read this machine: Nix has {found}."
    remedy = "Set `sandbox = true` and `sandbox-fallback = false` in nix.conf (see `unsandboxed-builds`)."
    raise NotAllowedError(f"{sentence} {remedy}", door="builder", action="open", subject="sandbox", retryable=False)


def _check_access(nix: NixInstallation, address: str) -> None:
    """Refuse at once what would end in many errors: no store that this user may use."""
    if address == "auto" and nix.access is StoreAccess.NONE:
        sentence = f"You may not write to the store {nix.store_dir}, and no daemon listens at {nix.daemon_socket}."
        remedy = "Start the daemon (sudo systemctl start nix-daemon), or name another store: --store ADDRESS"
        raise NotAllowedError(f"{sentence} {remedy}", door="store", action="open", subject="auto", retryable=False)


def _this_machine(nix: NixInstallation, choice: StoreChoice) -> Machine:
    """Return this machine. Nix's default of one job at a time is taken for "nobody chose", and means one per core."""
    said = nix.settings
    jobs = choice.max_jobs
    if jobs is None:
        jobs = len(os.sched_getaffinity(0)) if said.max_jobs == 1 else said.max_jobs
    return Machine(
        address=LOCAL,
        systems=(said.system, *said.extra_platforms),
        max_jobs=jobs,
        supported_features=said.system_features,
    )


def _other_machines(nix: NixInstallation, choice: StoreChoice) -> tuple[Machine, ...]:
    """Return the machines of `--builders`, else of Nix's own setting; files that do not exist are no machines."""
    text = nix.settings.builders if choice.builders is None else choice.builders
    try:
        listing = parse(text, nix.settings.system)
        found = list(listing.machines)
        for file in listing.files:
            if Path(file).exists():
                found += parse(Path(file).read_text(encoding="utf-8"), nix.settings.system).machines
    except MachinesError as error:
        raise InputError(str(error), "Mend the `builders` setting of Nix, its machines file, or --builders.") from error
    return tuple(found)


def main() -> None:
    """Run the command line and leave with its exit code."""
    gc.set_threshold(100_000, 20, 20)  # plans are large and long-lived: the usual 700 cost a fifth of planning
    sys.exit(run_command_line(App(os.environ), sys.argv[1:]))
