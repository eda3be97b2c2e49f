"""A worker: one long-lived evaluation process with the walker in it, asked for one batch after another.

Two ways to drive it. `ReplWorker` types into `nix repl`. `PureWorker` serves Nix versions whose repl cannot evaluate
purely (2.8), by `nix flake check` and directories as bits; see `pure.nix`. Both go on after any error that leaves the
process alive.
What this file does not know: what the walker's answers mean, limits, or retries.
"""

import shutil
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Final, Protocol

import msgspec

from nixmill.core.evaluation import EvaluationSettings
from nixmill.edge.evaluator import confine, source_text
from nixmill.edge.evaluator.launch import Launch
from nixmill.edge.evaluator.log_lines import LineReader, LogEvent, Said
from nixmill.edge.evaluator.process import LINGER_S, EvalProcess
from nixmill.edge.evaluator.segments import Batch
from nixmill.edge.evaluator.source_text import Group

if TYPE_CHECKING:
    from nixmill.edge.sandbox import Enclosure

DONE: Final = Said(".", "")
"""The event that ends each answer, the first meaning that the worker is ready."""


class Worker(Protocol):
    """A process that walks batches."""

    process: EvalProcess

    def send(self, batch: Batch) -> None:
        """Ask for a batch; only after `DONE`."""

    async def events(self) -> list[LogEvent]:
        """Wait for what the process says next; raise `EOFError` when it is gone."""


class Site(msgspec.Struct, frozen=True, kw_only=True):
    """What all workers of a group share."""

    launch: Launch
    group: Group
    settings: EvaluationSettings
    memory_bytes: int
    token: str
    directory: str
    """Private, removed with the evaluation."""
    fast_directory: str
    """Likewise, in memory where the system has such a place: thousands of directories come and go in it."""

    enclosure: "Enclosure | None" = None
    """Where processes run in sandboxes."""

    async def start(self, argv: list[str], directory: str, needed: tuple[str, ...]) -> EvalProcess:
        """Start an evaluation process in `directory`.

        Of hidden places, or in a sandbox of all, it can read only what the group needs, and what is `needed`.
        """
        if self.enclosure is not None:
            # Nix would find that out by itself, and warn about it.
            offline = [] if self.enclosure.online else ["--offline"]
            return await self.enclosure.start(
                [argv[0], *offline, *argv[1:]],
                shown=(*confine.needed(self.group), *map(Path, needed)),
                directory=directory,
                environment=self.launch.heap(self.memory_bytes),
                memory_bytes=self.memory_bytes,
                linger_s=self.linger_s,
            )
        return await EvalProcess.start(
            confine.command(argv, self.launch.hidden, self.group, self.launch.environment),
            environment=self.launch.environ(self.directory, self.memory_bytes),
            directory=directory,
            linger_s=self.linger_s,
        )

    @property
    def work(self) -> str:
        """Where a process runs that needs no directory of its own."""
        return self.directory if self.enclosure is None else "/"

    @property
    def linger_s(self) -> float:
        """How long output may gather: not at all where builds are to be timed by it."""
        return 0.0 if self.settings.allow_import_from_derivation else LINGER_S


class ReplWorker:
    """Driven over stdin."""

    def __init__(self, process: EvalProcess, token: str) -> None:
        """Take over a process; use `start`."""
        self.process = process
        self._reader = LineReader(token)
        self._token = token

    @classmethod
    async def start(cls, site: Site) -> "ReplWorker":
        """Start a process and load the walker; it is ready after `DONE`."""
        tree_path = site.group.tree_path
        process = await site.start(site.launch.repl(site.settings, tree_path), tree_path or site.work, ())
        process.write(source_text.repl_lines(site.token, site.group.targets, site.settings))
        return cls(process, site.token)

    def send(self, batch: Batch) -> None:
        """Type the command, and one that says that it is done, whether or not it failed."""
        self.process.write(source_text.run_line(batch.command()) + source_text.end_line(self._token))

    async def events(self) -> list[LogEvent]:
        """Wait for what the process says next; raise `EOFError` when it is gone."""
        return [e for line in await self.process.errors.more() if (e := self._reader.read(line)) is not None]


class PureWorker:
    """Driven by directories, while it sleeps on its full pipe."""

    def __init__(self, process: EvalProcess, token: str, directory: Path) -> None:
        """Take over a process whose working directory is `directory`; use `start`."""
        self.process = process
        self._reader = LineReader(token)
        self._waits = f'@nix {{"action":"msg","level":0,"msg":"trace: {token}w'.encode()
        self._asleep = False
        """The line that says that it waits has begun and not yet ended."""
        self._directory = directory

    @classmethod
    async def start(cls, site: Site) -> "PureWorker":
        """Start a process and load the walker; it is ready after `DONE`."""
        flake = _write_flake(site)
        own = _make_worker_directory(site.fast_directory)
        needed = (str(flake), str(own))
        process = await site.start(site.launch.check(site.settings, str(flake)), str(own), needed)
        return cls(process, site.token, own)

    def send(self, batch: Batch) -> None:
        """Lay out the command; going on to read wakes the process."""
        bits = self._directory / "bits"
        shutil.rmtree(bits, ignore_errors=True)
        bits.mkdir()
        bits.chmod(0o755)  # whatever our umask
        for n in command_bits(msgspec.json.encode(batch.command()).decode()):
            (bits / str(n)).mkdir()

    async def events(self) -> list[LogEvent]:
        """Wait for what the process says next; raise `EOFError` when it is gone."""
        said: list[LogEvent] = []
        for line in await self.process.errors.more():
            event = self._reader.read(line)
            if isinstance(event, Said) and event.letter == "w":
                self._asleep = False
            elif event is not None:
                said.append(event)
        if not self._asleep and self.process.errors.unfinished(self._waits):
            self._asleep = True
            said.append(DONE)
        return said


def _make_worker_directory(place: str) -> Path:
    """Make a directory that the user of a sandbox can read; the one above it is private."""
    made = Path(tempfile.mkdtemp(prefix="worker-", dir=place))
    made.chmod(0o755)
    return made


def _write_flake(site: Site) -> Path:
    flake = Path(site.directory, "flake")
    if not flake.exists():
        flake.mkdir()
        flake.chmod(0o755)  # the user of a sandbox is to read it, whatever our umask; the one above is private
        for name, text in source_text.wrapping_flake(site.token, site.group.targets, site.settings).items():
            (flake / name).write_text(text, encoding="utf-8")
            (flake / name).chmod(0o644)
    return flake


ALPHABET: Final = "0123456789[], "
"""Letters of a command, in the order of `pure.nix`."""


def command_bits(command: str) -> list[int]:
    """Return the numbers of the bits that are set: 16 for the length, then four a letter, highest first."""
    words = [(len(command), 0, 16)] + [(ALPHABET.index(c), 16 + 4 * i, 4) for i, c in enumerate(command)]
    return [at + i for value, at, width in words for i in range(width) if value >> (width - 1 - i) & 1]
